"""The WebSocket as an AsyncAPI 3.0 document, derived from the messages (https://www.asyncapi.com/docs/reference)."""

from collections.abc import Mapping
from typing import Literal

from sync_server.protocol.client_messages import CLIENT_MESSAGES
from sync_server.protocol.codec import CODECS
from sync_server.protocol.server_messages import SERVER_MESSAGES
from sync_server.protocol.versions import PROTOCOL_VERSION
from sync_server.protocol.wire import wire_schemas
from sync_server.types import Json

ADDRESS = "/api/sync/ws"


def asyncapi_document(*, host: str = "localhost:3000", protocol: Literal["ws", "wss"] = "ws") -> Json:
    """The document that `/asyncapi.json` serves.

    Args:
        host: name and port under which clients reach the server.
    """
    schemas = wire_schemas("#/components/schemas/{model}")
    messages = _messages("client", schemas.client) | _messages("server", schemas.server)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Realtime sync",
            "version": PROTOCOL_VERSION,
            "description": "Offline writes, conflicts and pushes over one WebSocket. See docs/protocol.md.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "this": {"host": host, "protocol": protocol, "security": [{"$ref": "#/components/securitySchemes/token"}]}
        },
        "channels": {
            "sync": {
                "address": ADDRESS,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": _websocket_binding()},
            }
        },
        "operations": {
            "receive": _operation("receive", "client", CLIENT_MESSAGES, "What a client sends."),
            "send": _operation("send", "server", SERVER_MESSAGES, "What the server sends."),
        },
        "components": {
            "messages": messages,
            "schemas": _with_typed_operations(schemas.definitions),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Travels as `token` in the auth or handshake message, never in the URL or a header.",
                }
            },
        },
    }


def _messages(side: str, payloads: Mapping[str, Json]) -> dict[str, Json]:
    return {
        f"{side}.{message_type}": {
            "name": message_type,
            "title": f"{message_type}, from the {side}",
            "payload": payload,
        }
        for message_type, payload in payloads.items()
    }


def _operation(action: str, side: str, message_types: Mapping[str, object], summary: str) -> Json:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": "#/channels/sync"},
        "messages": [{"$ref": f"#/channels/sync/messages/{side}.{name}"} for name in message_types],
    }


def _websocket_binding() -> Json:
    return {
        "method": "GET",
        "headers": {
            "type": "object",
            "properties": {
                "Sec-WebSocket-Protocol": {
                    "type": "string",
                    "enum": list(CODECS),
                    "description": "JSON in text frames, also when none is named, or MessagePack in binary frames.",
                }
            },
        },
        "bindingVersion": "0.1.0",
    }


def _with_typed_operations(definitions: Mapping[str, Json]) -> Json:
    """The server validates the operations of a request one by one; the document says what each should be."""
    request = definitions["SyncRequest"]
    operations = {**request["properties"]["operations"], "items": {"$ref": "#/components/schemas/Operation"}}
    return {
        **definitions,
        "SyncRequest": {**request, "properties": {**request["properties"], "operations": operations}},
    }

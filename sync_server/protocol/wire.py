"""The wire as JSON Schemas, derived from the messages: the source of the AsyncAPI document and of the golden file.

`python -m sync_server.protocol.wire` prints the golden schema; see `schema/wire/history.md` for when to renew it.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from sync_server.protocol.client_messages import CLIENT_MESSAGES, Operation, SyncRequest
from sync_server.protocol.server_messages import SERVER_MESSAGES
from sync_server.protocol.versions import PROTOCOL_VERSION
from sync_server.types import Json


@dataclass(frozen=True, slots=True)
class WireSchemas:
    """Every message's schema; shared shapes are in `definitions` and referred to.

    Attributes:
        client: type on the wire -> schema, for what a client sends.
        server: the same for what the server sends.
        parts: schemas of what is validated apart from its message.
    """

    client: Mapping[str, Json]
    server: Mapping[str, Json]
    parts: Mapping[str, Json]
    definitions: Mapping[str, Json]


def wire_schemas(ref_template: str = "#/$defs/{model}") -> WireSchemas:
    """The schemas of all messages.

    Args:
        ref_template: where the definitions will stand, with `{model}` for a shape's name.
    """
    shapes = (
        *((("client", name), shape) for name, shape in CLIENT_MESSAGES.items()),
        *((("server", name), shape) for name, shape in SERVER_MESSAGES.items()),
        (("parts", "operation"), Operation),
        (("parts", "sync_request"), SyncRequest),
    )
    mode: Literal["validation"] = "validation"
    schemas, shared = TypeAdapter.json_schemas(
        [(key, mode, TypeAdapter[Any](shape)) for key, shape in shapes], ref_template=ref_template
    )
    groups: dict[str, dict[str, Json]] = {"client": {}, "server": {}, "parts": {}}
    for (group, name), _ in shapes:
        groups[group][name] = schemas[(group, name), mode]
    return WireSchemas(**groups, definitions=shared["$defs"])


def golden_schema() -> Json:
    """What a change of the wire changes: every schema without its prose."""
    schemas = wire_schemas()
    return {
        "protocol_version": PROTOCOL_VERSION,
        "client": _bare_each(schemas.client),
        "server": _bare_each(schemas.server),
        "parts": _bare_each(schemas.parts),
        "$defs": _bare_each(schemas.definitions),
    }


def format_golden_schema() -> str:
    """The text of `schema/wire/v1.json`."""
    return json.dumps(golden_schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


_PROSE = frozenset({"title", "description", "examples"})
_NAMED = frozenset({"properties", "$defs"})


def _bare_each(schemas: Mapping[str, Json]) -> Json:
    """Names are kept even where a field is called like a word of JSON Schema."""
    return {name: _bare(schema) for name, schema in schemas.items()}


def _bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        word: _bare_each(value) if word in _NAMED else _bare(value)
        for word, value in schema.items()
        if word not in _PROSE
    }


if __name__ == "__main__":
    sys.stdout.write(format_golden_schema())

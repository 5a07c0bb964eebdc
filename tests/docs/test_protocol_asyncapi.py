"""The AsyncAPI document describes the protocol that is spoken."""

import re

import orjson

from rest.asyncapi import asyncapi_document
from sync_server.protocol.client_messages import CLIENT_MESSAGES
from sync_server.protocol.codec import CODECS
from sync_server.protocol.server_messages import SERVER_MESSAGES
from sync_server.protocol.versions import PROTOCOL_VERSION
from sync_server.types import Json


def resolve(document: Json, ref: str) -> Json:
    target = document
    for part in ref.removeprefix("#/").split("/"):
        target = target[part]
    return target


class TestTheDocument:
    def test_refers_only_to_what_it_holds(self) -> None:
        document = asyncapi_document()
        refs = set(re.findall(r'"\$ref":"([^"]+)"', orjson.dumps(document).decode()))
        assert all(resolve(document, ref) for ref in refs)

    def test_has_every_message_both_ways(self) -> None:
        names = {f"client.{name}" for name in CLIENT_MESSAGES} | {f"server.{name}" for name in SERVER_MESSAGES}
        assert set(asyncapi_document()["components"]["messages"]) == names

    def test_receives_what_clients_send_and_sends_what_servers_do(self) -> None:
        operations = asyncapi_document()["operations"]
        assert (operations["receive"]["action"], operations["send"]["action"]) == ("receive", "send")
        assert len(operations["receive"]["messages"]) == len(CLIENT_MESSAGES)
        assert len(operations["send"]["messages"]) == len(SERVER_MESSAGES)

    def test_names_the_endpoint_and_both_subprotocols(self) -> None:
        channel = asyncapi_document()["channels"]["sync"]
        offered = channel["bindings"]["ws"]["headers"]["properties"]["Sec-WebSocket-Protocol"]["enum"]
        assert channel["address"] == "/api/sync/ws"
        assert offered == list(CODECS)

    def test_says_what_an_operation_is(self) -> None:
        request = asyncapi_document()["components"]["schemas"]["SyncRequest"]
        assert request["properties"]["operations"]["items"] == {"$ref": "#/components/schemas/Operation"}

    def test_names_the_host_it_is_served_from(self) -> None:
        server = asyncapi_document(host="sync.example.org", protocol="wss")["servers"]["this"]
        assert (server["host"], server["protocol"]) == ("sync.example.org", "wss")

    def test_has_the_version_of_the_wire(self) -> None:
        assert asyncapi_document()["info"]["version"] == PROTOCOL_VERSION

"""The AsyncAPI document describes the protocol that is spoken."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from rest.asyncapi import asyncapi_document
from sync_server.protocol.client_messages import CLIENT_MESSAGES
from sync_server.protocol.codec import CODECS
from sync_server.protocol.server_messages import SERVER_MESSAGES
from sync_server.protocol.versions import PROTOCOL_VERSION
from sync_server.types import Json

PARSER = Path(__file__).parent / "asyncapi"
NODE = shutil.which("node")
HAS_PARSER = NODE is not None and (PARSER / "node_modules" / "@asyncapi").exists()
INFORMATION = 2
"""Severity of a remark that is neither an error nor a warning."""


def parsed(document: Json) -> Any:
    """What the reference parser says of a document."""
    assert HAS_PARSER, "node is missing, or `npm ci` in tests/docs/asyncapi"
    run = subprocess.run(
        [str(NODE), str(PARSER / "validate.cjs")],
        input=orjson.dumps(document),
        capture_output=True,
        timeout=60,
        check=True,
    )
    return json.loads(run.stdout)


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


@pytest.mark.node
@pytest.mark.skipif(
    not HAS_PARSER and "NODE_IS_REQUIRED" not in os.environ,
    reason="needs node, and `npm ci` in tests/docs/asyncapi, which `make test` does where there is npm",
)
class TestTheReferenceParser:
    def test_finds_nothing_wrong(self) -> None:
        result = parsed(asyncapi_document())
        assert [one for one in result["diagnostics"] if one["severity"] < INFORMATION] == []
        assert result["is_valid"]
        assert set(result["messages"]) == set(asyncapi_document()["components"]["messages"])

    def test_notices_what_is_wrong(self) -> None:
        document = asyncapi_document()
        document["operations"]["send"]["action"] = "shout"
        assert not parsed(document)["is_valid"]

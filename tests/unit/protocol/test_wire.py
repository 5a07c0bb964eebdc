"""Nobody changes the wire by accident."""

import re
from pathlib import Path

from sync_server.protocol.client_messages import CLIENT_MESSAGES
from sync_server.protocol.server_messages import SERVER_MESSAGES
from sync_server.protocol.versions import PROTOCOL_VERSION, SUPPORTED_VERSIONS
from sync_server.protocol.wire import format_golden_schema, golden_schema, wire_schemas

WIRE = Path(__file__).parents[3] / "schema" / "wire"
REMEDY = (
    "The wire has changed. If that is meant: raise PROTOCOL_VERSION, add a line to schema/wire/history.md, and run "
    "`python -m sync_server.protocol.wire > schema/wire/v1.json`."
)


class TestTheGoldenSchema:
    def test_is_what_the_messages_say(self) -> None:
        assert (WIRE / "v1.json").read_text(encoding="utf-8") == format_golden_schema(), REMEDY

    def test_has_every_message_both_ways(self) -> None:
        schema = golden_schema()
        assert set(schema["client"]) == set(CLIENT_MESSAGES)
        assert set(schema["server"]) == set(SERVER_MESSAGES)

    def test_has_no_prose(self) -> None:
        assert not re.search(r'"(title|description)": "', format_golden_schema())

    def test_refers_only_to_what_it_defines(self) -> None:
        refs = set(re.findall(r'"\$ref": "#/\$defs/([^"]+)"', format_golden_schema()))
        assert refs <= set(golden_schema()["$defs"])


class TestTheHistory:
    def test_ends_with_the_present_version(self) -> None:
        versions = re.findall(r"^- ([0-9.]+): ", (WIRE / "history.md").read_text(encoding="utf-8"), re.MULTILINE)
        assert versions[-1] == PROTOCOL_VERSION
        assert set(SUPPORTED_VERSIONS) <= set(versions)


class TestTheSchemas:
    def test_stand_where_they_are_wanted(self) -> None:
        schemas = wire_schemas("#/components/schemas/{model}")
        assert schemas.client["sync"] == {"$ref": "#/components/schemas/Sync"}

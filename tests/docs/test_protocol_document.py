"""The protocol document says what the code does."""

import re
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from pydantic import TypeAdapter

from sync_server.errors import CloseCode, ErrorCode
from sync_server.protocol.client_messages import CLIENT_MESSAGES
from sync_server.protocol.operations import parse_operations
from sync_server.protocol.server_messages import SERVER_MESSAGES, OperationResult, ResetReason
from sync_server.protocol.tables import (
    CLOSE_MEANINGS,
    ERROR_MEANINGS,
    TABLES,
    VERDICT_MEANINGS,
    render,
)
from sync_server.types import Strategy, Verdict

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
EXAMPLES = [(side, orjson.loads(text)) for side, text in re.findall(r"```json (\w+)\n(.*?)```", TEXT, re.DOTALL)]
FROM_CLIENTS = [example for side, example in EXAMPLES if side == "client"]
FROM_SERVERS = [example for side, example in EXAMPLES if side == "server"]


def strangers(example: dict[str, Any], shape: Any) -> set[str]:
    """Members of an example that its shape does not have."""
    members = set(shape.model_fields) if hasattr(shape, "model_fields") else set(shape.__annotations__)
    return set(example) - members


class TestTheTables:
    def test_are_those_of_the_code(self) -> None:
        assert render(TEXT) == TEXT, "run `python -m sync_server.protocol.tables docs/protocol.md`"

    def test_are_all_in_the_document(self) -> None:
        assert set(re.findall(r"<!-- table: ([a-z-]+) -->", TEXT)) == set(TABLES)

    def test_notice_a_change(self) -> None:
        assert render(TEXT.replace("| `UNAUTHORIZED` | 401 |", "| `UNAUTHORIZED` | 403 |")) == TEXT

    @pytest.mark.parametrize(
        ("meanings", "members"),
        [(ERROR_MEANINGS, ErrorCode), (CLOSE_MEANINGS, CloseCode), (VERDICT_MEANINGS, Verdict)],
    )
    def test_explain_every_member(self, meanings: dict[Any, str], members: Any) -> None:
        assert set(meanings) == set(members)


class TestTheExamples:
    @pytest.mark.parametrize("example", FROM_CLIENTS, ids=lambda example: example["type"])
    def test_of_clients_are_valid(self, example: dict[str, Any]) -> None:
        model = CLIENT_MESSAGES[example["type"]]
        assert model.model_validate(example)
        assert strangers(example, model) == set()

    @pytest.mark.parametrize("example", FROM_SERVERS, ids=lambda example: example["type"])
    def test_of_servers_are_valid(self, example: dict[str, Any]) -> None:
        shape = SERVER_MESSAGES[example["type"]]
        assert TypeAdapter(shape).validate_python(example)
        assert strangers(example, shape) == set()

    @pytest.mark.parametrize("example", [example for side, example in EXAMPLES if side == "result"])
    def test_of_results_are_valid(self, example: dict[str, Any]) -> None:
        assert TypeAdapter(OperationResult).validate_python(example)

    def test_show_every_message_both_ways(self) -> None:
        assert {example["type"] for example in FROM_CLIENTS} == set(CLIENT_MESSAGES)
        assert {example["type"] for example in FROM_SERVERS} == set(SERVER_MESSAGES)

    def test_hold_operations_that_can_be_read(self) -> None:
        (sync,) = [example for example in FROM_CLIENTS if example["type"] == "sync"]
        assert all(not hasattr(one, "error") for one in parse_operations(sync["data"]["operations"]))


class TestTheText:
    @pytest.mark.parametrize("word", [*get_args(ResetReason), *Strategy, *Verdict, *ErrorCode])
    def test_speaks_of_every_word_on_the_wire(self, word: str) -> None:
        assert f"`{word}`" in TEXT

    @pytest.mark.parametrize("code", list(CloseCode))
    def test_speaks_of_every_close_code(self, code: CloseCode) -> None:
        assert f"| {int(code)} | `{code.name}` |" in TEXT

    def test_links_only_to_its_own_headings(self) -> None:
        headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors

    def test_keeps_its_client_as_short_as_it_says(self) -> None:
        (client,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
        assert len([line for line in client.splitlines() if line.strip()]) <= 60

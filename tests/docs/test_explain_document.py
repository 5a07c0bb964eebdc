"""docs/explain.md shows what the commands print; moments and made ids apart."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner

from sync_server import cli
from sync_server.explanations.entities import Answer
from sync_server.explanations.operations import Fate
from sync_server.types import ClientId, UserId
from tests.harness import RunningServer, create, running_server, update
from tests.integration.rest_client import eventually

TEXT = (Path(__file__).parents[2] / "docs" / "explain.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```text\n\$ sync-server ([^\n]*)\n(.*?)```", TEXT, re.DOTALL)


@pytest_asyncio.fixture(loop_scope="function")
async def data_dir(tmp_path: Path) -> AsyncIterator[Path]:
    """What the page tells of: a trip that two people plan."""
    async with running_server(tmp_path) as server:
        await server.share("s-trip", _1="owner", _2="editor")
        async with server.client("1", "desktop") as desktop, server.client("2", "phone") as phone:
            plan = create("op_1", entity_id="n-trip", title="Trip", content="Tents\nMaps\n")
            await desktop.do({**plan, "space_id": "s-trip"})
            await phone.do(update("op_2", "n-trip", 1, title="Trip in May", content="Two tents\nMaps\n"))
            mine = update("op_3", "n-trip", 1, title="Trip in June", content="Tents\nMaps\nFood\n", is_pinned=True)
            await desktop.do(mine, default_resolution_strategy="server_wins")
        async with server.client("2", "watch", subscriptions={"entity_types": ["folder"]}):
            pass
        await left(server)
    yield tmp_path


async def left(server: RunningServer) -> None:
    async def question() -> bool | None:
        await asyncio.sleep(0)
        return None if server.services.connections.is_registered(UserId("2"), ClientId("watch")) else True

    await eventually(question)


def plain(text: str) -> str:
    """Without what is another each time: moments and made ids, and where lines break for them."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "MOMENT", text)
    text = re.sub(r"(conflict|sync)_[0-9a-f]{24}", r"\1_ID", text)
    return " ".join(text.split())


class TestTheExamples:
    async def test_are_what_is_printed(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setenv("SYNC_DATA_DIR", str(data_dir))
        assert len(EXAMPLES) == 2
        for command, shown in EXAMPLES:
            printed = CliRunner().invoke(cli.commands, command.split(), env=dict(os.environ)).output
            assert plain(printed) == plain(shown), printed


class TestTheText:
    @pytest.mark.parametrize("fate", list(Fate))
    def test_names_every_fate(self, fate: Fate) -> None:
        assert f"| `{fate}` |" in TEXT

    @pytest.mark.parametrize("answer", list(Answer))
    def test_names_every_answer(self, answer: Answer) -> None:
        assert f"| {answer} |" in TEXT

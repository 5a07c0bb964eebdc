"""After `new-epoch` the version numbers leap; what is written on what the backup has is written as ever."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sync_server.cli import commands
from sync_server.trimmer import Trimmer
from tests.harness import RunningServer, create, delete, running_server, update
from tests.integration.test_explain_operations import TEAM, fates, in_team, told

Prepare = Callable[[RunningServer], Awaitable[None]]
DAY_MS = 86_400_000


async def prepare(data_dir: Path, *, is_trimmed: bool = False) -> None:
    """A note and a folder with another one, from before the backup."""
    async with running_server(data_dir) as server, server.client("1", "writer") as writer:
        await writer.sync(
            create("b1", entity_id="n", title="base", content="one"),
            create("b2", entity_id="f", entity_type="folder", name="f"),
            create("b3", entity_id="m", title="inside", folder_id="f"),
        )
        if is_trimmed:
            await forget_the_log(server)
    renew(data_dir)


def renew(data_dir: Path) -> None:
    renewed = CliRunner().invoke(commands, ["new-epoch", "--data-dir", str(data_dir)])
    assert renewed.exit_code == 0


async def forget_the_log(server: RunningServer) -> None:
    services = server.services
    trimmer = Trimmer(services.feed, services.committer, retention_days=1, verdict_retention_days=90, interval_s=60)
    await trimmer.trim(services.feed.now() + 2 * DAY_MS)  # type: ignore[arg-type]


class TestABaseFromTheBackup:
    @pytest.mark.parametrize("is_trimmed", [False, True], ids=["in the log", "trimmed"])
    async def test_is_good_for_all_that_one_queue_wrote_on_it(self, tmp_path: Path, *, is_trimmed: bool) -> None:
        await prepare(tmp_path, is_trimmed=is_trimmed)
        async with running_server(tmp_path) as server, server.client("1", "phone") as phone:
            first, second, third = (
                update("q1", "n", 1, title="first"),
                update("q2", "n", 1, title="second"),
                update("q3", "n", 1, content="two"),
            )
            replies = [await phone.sync(first, second), await phone.sync(third)]
            results = [result for reply in replies for result in reply["operation_results"]]
            conflicts = [conflict for reply in replies for conflict in reply["conflicts"]]
            found = await read(phone, "n")
        assert ([result["verdict"] for result in results], conflicts) == (["applied"] * 3, [])
        assert (found["title"], found["content"]) == ("second", "two")

    async def test_is_good_for_an_update_and_a_delete_in_one_request(self, tmp_path: Path) -> None:
        await prepare(tmp_path)
        async with running_server(tmp_path) as server, server.client("1", "phone") as phone:
            reply = await phone.sync(update("q1", "n", 1, title="first"), delete("q2", "n", 1))
        assert [result["verdict"] for result in reply["operation_results"]] == ["applied", "applied"]

    async def test_is_good_for_a_note_whose_folder_goes_in_the_same_request(self, tmp_path: Path) -> None:
        await prepare(tmp_path)
        async with running_server(tmp_path) as server, server.client("1", "phone") as phone:
            reply = await phone.sync(delete("q1", "f", 1, entity_type="folder"), update("q2", "m", 1, title="new"))
        assert reply["conflicts"] == []
        assert [result["verdict"] for result in reply["operation_results"]] == ["applied", "merged"]

    @pytest.mark.parametrize("is_trimmed", [False, True], ids=["in the log", "trimmed"])
    async def test_is_merged_with_what_another_wrote_in_another_field(
        self, tmp_path: Path, *, is_trimmed: bool
    ) -> None:
        await prepare(tmp_path, is_trimmed=is_trimmed)
        async with (
            running_server(tmp_path) as server,
            server.client("1", "phone") as phone,
            server.client("1", "desk") as desk,
        ):
            await phone.do(update("q1", "n", 1, title="first"))
            reply = await desk.sync(update("q2", "n", 1, content="other"))
            found = await read(desk, "n")
        assert (reply["operation_results"][0]["verdict"], reply["conflicts"]) == ("merged", [])
        assert (found["title"], found["content"]) == ("first", "other")


class TestAnExplanation:
    async def test_knows_the_base_and_what_was_merged(self, tmp_path: Path) -> None:
        await prepare(tmp_path)
        async with running_server(tmp_path) as server:
            async with server.client("1", "phone") as phone, server.client("1", "desk") as desk:
                await desk.do(update("theirs", "n", 1, content="ONE", tags=["a"]))
                await phone.do(update("mine", "n", 1, title="mine", content="one"))
            theirs, mine = await told(server, "theirs"), await told(server, "mine")
        assert (theirs["base"]["version"], theirs["base"]["met_version"]) == (1, 1)
        assert mine["base"]["met_version"] > 1_000_000
        assert [step["operation_id"] for step in mine["base"]["since"]] == ["theirs"]
        assert fates(mine) == {"title": "taken", "content": "unchanged"}
        assert {field["field_name"]: field["base"] for field in mine["fields"]} == {"title": "base", "content": "one"}

    async def test_withholds_what_others_wrote_from_who_lost_the_space(self, tmp_path: Path) -> None:
        """The log has forgotten the version that was met, so that its number is not known."""
        async with running_server(tmp_path) as server:
            await server.share(TEAM, _1="owner", _2="editor")
            async with server.client("1", "writer") as writer:
                await writer.do(in_team(create("b1", entity_id="n", title="a secret")))
            await forget_the_log(server)
        renew(tmp_path)
        async with running_server(tmp_path) as server:
            async with server.client("2", "phone") as phone:
                await phone.do(in_team(update("mine", "n", 1, title="mine")))
            await forget_the_log(server)
            await server.share(TEAM, _2=None)
            view = await told(server, "mine", user="2")
        assert view["fields"] == []
        assert "secret" not in str(view)


class TestAnEntity:
    async def test_that_begins_anew_after_its_tombstone_was_forgotten_is_told(self, tmp_path: Path) -> None:
        await prepare(tmp_path)
        async with running_server(tmp_path) as server, server.client("1", "phone") as phone:
            made = await phone.do(create("q1", entity_id="again", title="old"))
            changed = await phone.do(update("q2", "again", made["new_version"], title="older"))
            await phone.do(delete("q3", "again", changed["new_version"]))
            await forget_the_log(server)
            async with server.client("1", "desk") as desk:
                anew = await desk.do(create("q4", entity_id="again", title="anew"))
                assert anew["new_version"] == made["new_version"]
            await phone.next("server_update")
        assert phone.replica.live["note", "again"][1]["title"] == "anew"


async def read(client: Any, entity_id: str) -> Any:
    asked = {"operation_id": f"read_{entity_id}", "operation_type": "read", "entity_type": "note"}
    return (await client.do({**asked, "entity_id": entity_id}))["data"]

"""P8: no update is lost silently: what loses is in the conflict record or the history, and somebody is told."""

import json
from typing import Any

import pytest

from sync_server.records import EntityKey
from sync_server.types import ConflictId, EntityId, EntityType
from tests.harness import Client, Message, RunningServer, create, delete, update
from tests.integration.test_promise_delivery import TEAM, in_team

STRATEGIES = ["server_wins", "client_wins", "latest_wins", "merge", "manual"]


async def kept(server: RunningServer, entity_id: str, entity_type: str = "note") -> str:
    """Everything that the history and the conflicts of an entity still say, as one text."""

    def query(reader: Any) -> str:
        key = EntityKey(EntityType(entity_type), EntityId(entity_id))
        history = [
            (change.data, change.previous, change.submitted)
            for change in reader.history(key, before_version=None, limit=99)
        ]
        conflicts, _ = reader.conflicts_page([TEAM, "u-1"], is_open=None, offset=0, limit=99)
        return json.dumps([history, [conflict[:-1] for conflict in conflicts]], default=str)

    return await server.services.feed.read(query)


async def clash(one: Client, two: Client, mine: Message, theirs: Message, **request: Any) -> Message:
    """Two edits on one base; the result of the later one."""
    await one.do(in_team(create("c", entity_id="n", title="base title", content="base\n", tags=["base"])))
    await two.do(theirs)
    return await one.do(mine, **request)


class TestALosingValue:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    async def test_of_a_field_is_kept(self, server: RunningServer, strategy: str) -> None:
        await server.share(TEAM, _1="editor", _2="editor")
        async with server.client("1") as one, server.client("2") as two:
            result = await clash(
                one, two, update("m", "n", 1, title="my title"), update("t", "n", 1, title="their title"),
                default_resolution_strategy=strategy,
            )  # fmt: skip
            text = await kept(server, "n")
        assert result["conflict_id"]
        assert all(value in text for value in ("base title", "my title", "their title"))

    @pytest.mark.parametrize("strategy", STRATEGIES)
    async def test_of_a_text_is_kept(self, server: RunningServer, strategy: str) -> None:
        await server.share(TEAM, _1="editor", _2="editor")
        async with server.client("1") as one, server.client("2") as two:
            await clash(
                one, two, update("m", "n", 1, content="my line\n"), update("t", "n", 1, content="their line\n"),
                default_resolution_strategy=strategy,
            )  # fmt: skip
            text = await kept(server, "n")
        assert all(value in text for value in ("base", "my line", "their line"))

    @pytest.mark.parametrize("strategy", STRATEGIES)
    @pytest.mark.parametrize("deleter", ["mine", "theirs"])
    async def test_of_an_edit_against_a_delete_is_kept(
        self, server: RunningServer, strategy: str, deleter: str
    ) -> None:
        edit, gone = update("e", "n", 1, title="edited"), delete("d", "n", 1)
        await server.share(TEAM, _1="editor", _2="editor")
        async with server.client("1") as one, server.client("2") as two:
            mine, theirs = (gone, edit) if deleter == "mine" else (edit, gone)
            await clash(one, two, mine, theirs, default_resolution_strategy=strategy)
            text = await kept(server, "n")
        assert all(value in text for value in ("base title", "edited"))

    @pytest.mark.parametrize("strategy", STRATEGIES)
    async def test_of_a_unique_name_is_kept(self, server: RunningServer, strategy: str) -> None:
        await server.share(TEAM, _1="editor", _2="editor")
        async with server.client("1") as one, server.client("2") as two:
            await two.do(in_team(create("t", "folder", entity_id="f1", name="Same")))
            await one.do(
                in_team(create("m", "folder", entity_id="f2", name="Same")), default_resolution_strategy=strategy
            )
            text = await kept(server, "f2", "folder")
        assert "Same" in text

    @pytest.mark.parametrize("strategy", STRATEGIES)
    async def test_of_two_offline_queues_is_kept(self, server: RunningServer, strategy: str) -> None:
        await server.share(TEAM, _1="editor", _2="editor")
        async with server.client("1") as one, server.client("2") as two:
            await one.do(in_team(create("c", entity_id="n", title="base")))
            await two.sync(*(update(f"t{index}", "n", 1, title=f"theirs {index}") for index in range(3)))
            await one.sync(
                *(update(f"m{index}", "n", 1, title=f"mine {index}") for index in range(3)),
                default_resolution_strategy=strategy,
            )
            text = await kept(server, "n")
        assert all(f"{side} {index}" in text for side in ("mine", "theirs") for index in range(3))

    async def test_in_one_round_is_kept(self, server: RunningServer) -> None:
        import asyncio

        from tests.integration.test_promise_once import batch

        async with server.client("1") as one:
            await one.do(create("c", entity_id="n", title="base"))
            batches = [
                batch(server, update(f"u{index}", "n", 1, title=f"value {index}"), client_id=f"device_{index}")
                for index in range(6)
            ]
            results = await asyncio.gather(*map(server.services.committer.submit, batches))
            text = await kept(server, "n")
        assert all(f"value {index}" in text for index in range(6))
        assert "applied" in {result[0].decision.verdict for result in results}


class TestAConflict:
    async def test_is_told_to_the_author_and_to_every_editor(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="editor", _2="editor", _3="viewer")
        async with (
            server.client("1") as one,
            server.client("1", "tablet") as tablet,
            server.client("2") as two,
            server.client("3") as viewer,
        ):
            result = await clash(
                one, two, update("m", "n", 1, title="mine"), update("t", "n", 1, title="theirs"),
                default_resolution_strategy="manual",
            )  # fmt: skip
            notices = [await client.next("conflict") for client in (one, tablet, two)]
            await viewer.nothing("conflict")
        assert {notice["conflict"]["conflict_id"] for notice in notices} == {result["conflict_id"]}
        assert all(notice["requires_manual_resolution"] for notice in notices)
        assert notices[0]["conflict"]["base_data"]["title"] == "base title"

    async def test_is_settled_once_from_any_device(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="editor", _2="editor")
        async with server.client("1") as one, server.client("2") as two, server.client("1", "tablet") as tablet:
            result = await clash(
                one, two, update("m", "n", 1, title="mine"), update("t", "n", 1, title="theirs"),
                default_resolution_strategy="manual",
            )  # fmt: skip
            resolution = {
                "conflict_id": result["conflict_id"],
                "strategy": "manual",
                "resolved_data": {"title": "both"},
            }
            await tablet.send(type="conflict", message_id="r1", resolution=resolution)
            settled = await tablet.next("conflict_resolved")
            told = [await client.next("conflict_resolved") for client in (one, two)]
            await two.send(type="conflict", message_id="r2", resolution=resolution)
            again = await two.next("conflict_resolved", "error")
            stored = await server.services.feed.read(
                lambda reader: reader.conflicts([ConflictId(result["conflict_id"])])[result["conflict_id"]]
            )
        assert settled["success"]
        assert {notice["conflict_id"] for notice in told} == {result["conflict_id"]}
        assert {notice["new_version"] for notice in told} == {3}
        assert (again["success"], again["error_code"]) == (False, "CONFLICT")
        assert (stored.is_open, stored.resolved_data["title"], stored.resolved_by) == (False, "both", "1")

    async def test_settled_at_once_from_two_devices_has_one_winner(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="editor", _2="editor")
        async with server.client("1") as one, server.client("2") as two:
            result = await clash(
                one, two, update("m", "n", 1, title="mine"), update("t", "n", 1, title="theirs"),
                default_resolution_strategy="manual",
            )  # fmt: skip
            for client, title in ((one, "one"), (two, "two")):
                resolution = {"conflict_id": result["conflict_id"], "strategy": "manual"}
                await client.send(
                    type="conflict", message_id=title, resolution={**resolution, "resolved_data": {"title": title}}
                )
            replies = [await _reply(one, "one"), await _reply(two, "two")]
        assert sorted(reply["success"] for reply in replies) == [False, True]

    async def test_that_a_rule_settled_is_told_with_its_resolution(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="editor", _2="editor")
        async with server.client("1") as one, server.client("2") as two:
            await clash(
                one, two, update("m", "n", 1, title="mine"), update("t", "n", 1, title="theirs"),
                default_resolution_strategy="client_wins",
            )  # fmt: skip
            notice = await two.next("conflict")
        assert not notice["requires_manual_resolution"]
        assert notice["resolution"]["strategy"] == "client_wins"
        assert notice["resolution"]["resolved_data"]["title"] == "mine"


async def _reply(client: Client, message_id: str) -> Message:
    while (reply := await client.next("conflict_resolved", "error")).get("message_id") != message_id:
        pass
    return reply

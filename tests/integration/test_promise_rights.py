"""P10: nobody reads, writes or is pushed what their role does not allow, from the moment it is revoked."""

import asyncio
from typing import Any

import pytest

from sync_server.errors import CommandError
from sync_server.feed import Feed, Page
from sync_server.handlers.spaces import found_space, grant, revoke
from sync_server.types import Role, SpaceId, UserId
from tests.harness import Message, RunningServer, create, delete, open_client, token_for, update
from tests.integration.test_promise_delivery import TEAM, in_team

READ = {"operation_id": "r", "operation_type": "read", "entity_type": "note", "entity_id": "n"}


async def attempts(server: RunningServer, user: str) -> list[Message]:
    """What comes of everything that one may try with a space's note."""
    async with server.client(user, "prober") as client:
        response = await client.sync(
            READ, in_team(create("op_1", title="x")), update("op_2", "n", 1, title="x"), delete("op_3", "n", 1),
            in_team(create("op_4", entity_id="n", title="x")),
        )  # fmt: skip
    results: list[Message] = response["operation_results"]
    return results


class TestAViewer:
    async def test_reads_and_cannot_write(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner", _2="viewer")
        async with server.client("1") as owner:
            await owner.do(in_team(create("op_1", entity_id="n", title="kept")))
            results = await attempts(server, "2")
            assert (await owner.do(READ))["data"]["title"] == "kept"
        assert results[0]["data"]["title"] == "kept"
        assert [result["error_code"] for result in results[1:]] == ["FORBIDDEN"] * 4

    async def test_cannot_settle_a_conflict(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner", _2="viewer")
        async with server.client("1") as owner, server.client("2") as viewer:
            conflict_id = await _conflict(server, "1")
            await viewer.send(
                type="conflict", message_id="m", resolution={"conflict_id": conflict_id, "strategy": "client_wins"}
            )
            reply = await viewer.next("conflict_resolved", "error")
            assert (await owner.do(READ))["new_version"] == 2
        assert (reply["success"], reply["error_code"]) == (False, "FORBIDDEN")


class TestAStranger:
    async def test_sees_and_does_nothing(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner")
        async with server.client("3", "listener") as stranger, server.client("1") as owner:
            await owner.do(in_team(create("op_1", entity_id="n", title="kept")))
            results = await attempts(server, "3")
            assert (await owner.do(READ))["data"]["title"] == "kept"
            assert (await stranger.sync())["server_updates"] == []
            await stranger.nothing("server_update")
        assert [result["error_code"] for result in results] == [
            "NOT_FOUND", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND", "CONFLICT",
        ]  # fmt: skip
        assert "kept" not in str(results)

    async def test_cannot_subscribe_nor_name_the_space_in_a_sync(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner")
        async with server.client("1") as owner, server.client("3") as stranger:
            await owner.do(in_team(create("op_1", entity_id="n", title="kept")))
            await stranger.send(type="subscribe", message_id="s", spaces=[TEAM])
            error = await stranger.next("error")
            stranger.cursor = None
            response = await stranger.sync(incremental=False, space_ids=[TEAM])
        assert (error["message_id"], error["error_code"]) == ("s", "NOT_FOUND")
        assert response["server_updates"] == []

    async def test_cannot_learn_of_a_conflict_nor_settle_it(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner")
        async with server.client("3", "listener") as stranger:
            conflict_id = await _conflict(server, "1")
            resolution = {"conflict_id": conflict_id, "strategy": "client_wins"}
            await stranger.send(type="conflict", message_id="m", resolution=resolution)
            reply = await stranger.next("conflict_resolved", "error")
            await stranger.nothing("conflict")
        assert reply["error_code"] == "NOT_FOUND"

    @pytest.mark.parametrize("role", [None, Role.EDITOR])
    async def test_or_editor_cannot_change_members(self, server: RunningServer, role: Role | None) -> None:
        async with server.client("1"), server.client("2"):
            space = SpaceId((await found_space(server.services, UserId("1"), "Team"))["space_id"])
            if role is not None:
                await grant(server.services, UserId("1"), space, UserId("2"), role)
            with pytest.raises(CommandError) as refused:
                await grant(server.services, UserId("2"), space, UserId("2"), Role.OWNER)
        assert refused.value.code == ("NOT_FOUND" if role is None else "FORBIDDEN")


class TestARevocation:
    async def test_tells_each_row_by_a_message_of_its_own(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner", _2="viewer")
        async with server.client("1") as owner, server.client("2") as viewer:
            await owner.sync(*(in_team(create(f"op_{name}", entity_id=name, title="x")) for name in "ab"))
            await viewer.next("server_update")
            await viewer.next("server_update")
            await server.share(TEAM, _2=None)
            told = [await viewer.next("server_update") for _ in range(2)]
        assert len({message["message_id"] for message in told}) == 2
        assert {message["seq"] for message in told} == {server.services.feed.head.head_seq}

    async def test_takes_the_rows_away_and_stops_pushes(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner", _2="editor")
        async with server.client("1") as owner, server.client("2") as editor:
            await owner.do(in_team(create("op_1", entity_id="n", title="x")))
            await editor.next("server_update")
            await server.share(TEAM, _2=None)
            gone = await editor.next("server_update")
            await owner.do(in_team(create("op_2", entity_id="m", title="secret")))
            await editor.sync()
            await editor.nothing("server_update")
            results = await attempts(server, "2")
        assert gone["update_data"]["reason"] == "revoked"
        assert editor.replica.rows == {}
        assert "FORBIDDEN" not in [result["error_code"] for result in results]
        assert [result["success"] for result in results] == [False] * 5

    async def test_in_the_middle_of_a_stream_is_a_sharp_line(self, server: RunningServer) -> None:
        async with server.client("1") as owner, server.client("2") as reader:
            space = SpaceId((await found_space(server.services, UserId("1"), "Team"))["space_id"])
            await grant(server.services, UserId("1"), space, UserId("2"), Role.VIEWER)

            async def write() -> None:
                for index in range(100):
                    operation = create(f"op_{index}", entity_id=f"n{index}", title="x")
                    await owner.do({**operation, "space_id": space})

            work = asyncio.create_task(write())
            for _ in range(20):
                await reader.next("server_update")
            await revoke(server.services, UserId("1"), space, UserId("2"))
            revoked_at = server.services.feed.head.head_seq
            await work
            await reader.send(type="subscribe", message_id="s")
            await reader.next("subscribed")
            await reader.next("caught_up")
        late = [told for told in reader.replica.told if told[0] > revoked_at and told[-1] != "revoked"]
        assert late == []
        assert reader.replica.rows == {}

    async def test_counts_for_a_batch_that_was_sent_before(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner", _2="editor")
        async with server.client("2") as editor:
            work = asyncio.create_task(server.share(TEAM, _2=None))
            await asyncio.sleep(0)
            result = await editor.do(in_team(create("op_1", title="late")))
            await work
        assert result["error_code"] == "NOT_FOUND"

    @pytest.mark.parametrize("atomic", [False, True])
    async def test_takes_what_was_parked_from_its_resends(self, server: RunningServer, *, atomic: bool) -> None:
        await server.share(TEAM, _1="editor", _9="owner")
        async with server.client("1") as editor, server.client("9") as owner:
            await editor.do(in_team(create("op_1", entity_id="n", title="base")))
            await owner.do(update("op_2", "n", 1, title="theirs"))
            late = {**update("op_3", "n", 1, title="mine"), "resolution_strategy": "manual"}
            resolution = {
                "conflict_id": (await editor.do(late))["conflict_id"], "strategy": "manual",
                "resolved_data": {"title": "secret"},
            }  # fmt: skip
            await server.share(TEAM, _1=None)
            await owner.send(type="conflict", message_id="r", resolution=resolution)
            assert (await owner.next("conflict_resolved"))["success"]
            again = await editor.sync(late, atomic=atomic)
        assert again["operation_results"][0]["duplicate"]
        assert again["conflicts"] == []
        assert "secret" not in str(again)

    async def test_tells_nothing_of_later_edits_to_an_old_cursor(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="viewer", _9="owner")
        async with server.client("9") as owner, server.http("1") as reader:
            await owner.do(in_team(create("op_1", entity_id="n", title="base")))
            cursor = (await reader.get("/api/sync/changes")).json()["data"]["cursor"]
            await server.share(TEAM, _1=None)

            async def told() -> Message:
                reply = (await reader.get("/api/sync/changes", params={"cursor": cursor})).json()
                (row,) = reply["data"]["changes"]
                return {name: row[name] for name in ("version", "modified_at", "modified_by", "reason")}

            before = await told()
            await owner.do(update("op_2", "n", 1, title="after"))
            after = await told()
        assert before == after
        assert (before["version"], before["modified_by"], before["reason"]) == (0, 1, "revoked")

    async def test_to_a_lower_role_stops_writing_at_once(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner", _2="editor")
        async with server.client("2") as editor:
            await editor.do(in_team(create("op_1", entity_id="n", title="x")))
            await server.share(TEAM, _2="viewer")
            result = await editor.do(update("op_2", "n", 1, title="y"))
        assert result["error_code"] == "FORBIDDEN"

    async def test_overtakes_a_page_that_was_read_before(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read, was_read, may_go = Feed.read, asyncio.Event(), asyncio.Event()

        async def hold(feed: Feed, query: Any) -> Any:
            answer = await read(feed, query)
            if isinstance(answer, Page) and answer.updates:
                was_read.set()
                await may_go.wait()
            return answer

        await server.share(TEAM, _1="owner", _2="editor")
        async with server.client("1") as owner:
            await owner.do(in_team(create("op_1", entity_id="n", title="secret")))
            monkeypatch.setattr(Feed, "read", hold)
            async with server.client("2", subscriptions={"incremental": False}) as editor:
                await was_read.wait()
                await server.share(TEAM, _2=None)
                may_go.set()
                await editor.next("caught_up")
        assert [told for told in editor.replica.told if told[-1] != "revoked"] == []

    async def test_takes_presence_away(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner", _2="editor")
        async with server.client("1") as owner, server.client("2") as editor:
            await editor.send(type="presence", space_id=TEAM, state={"cursor": 1})
            await owner.next("presence_diff")
            await editor.next("presence_state")
            await server.share(TEAM, _2=None)
            await editor.send(type="presence", message_id="p", space_id=TEAM, state={"cursor": 2})
            assert (await editor.next("error"))["error_code"] == "NOT_FOUND"
            await owner.send(type="presence", space_id=TEAM, state={"cursor": 3})
            await editor.nothing("presence_diff")

    async def test_of_conflicts_stops_their_notices(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner", _2="editor")
        async with server.client("2", "listener") as editor:
            await _conflict(server, "1")
            await editor.next("conflict")
            await server.share(TEAM, _2=None)
            await _conflict(server, "1", "again")
            await editor.nothing("conflict")


class TestAGrant:
    async def test_brings_the_old_rows_to_a_live_connection(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner")
        async with server.client("1") as owner, server.client("2") as reader:
            await owner.do(in_team(create("op_1", entity_id="n", title="old")))
            await server.share(TEAM, _2="viewer")
            reset = await reader.next("reset")
            row = await reader.next("server_update")
            await owner.do(in_team(create("op_2", entity_id="m", title="new")))
            live = await reader.next("server_update")
        assert (reset["space_id"], reset["reason"]) == (TEAM, "granted")
        assert (row["update_type"], row["entity_id"], live["entity_id"]) == ("snapshot", "n", "m")


class TestAToken:
    async def test_that_ends_closes_the_connection_after_the_grace(self, server: RunningServer) -> None:
        async with open_client(server.ws_url, "client_a") as client:
            await client.greet(token=token_for("1", ttl_s=-3_600))
            assert await client.close_code() == 4200

    async def test_of_another_user_cannot_take_over_a_connection(self, server: RunningServer) -> None:
        async with server.client("1") as client:
            await client.send(type="auth", message_id="a", token=token_for("2"))
            reply = await client.next("auth")
            assert await client.close_code() == 4500
        assert (reply["success"], reply["error_code"]) == (False, "UNAUTHORIZED")


async def _conflict(server: RunningServer, user: str, name: str = "n") -> str:
    """Park a conflict on a note of the space; its id."""
    async with server.client(user, f"maker_{name}") as one, server.client(user, f"rival_{name}") as two:
        await one.do(in_team(create(f"c_{name}", entity_id=name, title="base")))
        await two.do(update(f"u_{name}", name, 1, title="theirs"))
        result = await one.do({**update(f"v_{name}", name, 1, title="mine"), "resolution_strategy": "manual"})
        return str(result["conflict_id"])


class TestPresence:
    async def test_of_a_revoked_member_ends_at_once(self, server: RunningServer) -> None:
        async with server.http("1") as http:
            await http.put("/api/sync/spaces/u-1/members/2", json={"role": "editor"})
        async with (
            server.client(user="1", client_id="owner") as owner,
            server.client(user="2", client_id="guest") as guest,
        ):
            await owner.send(type="presence", space_id="u-1", state={"at": "home"})
            await owner.next("presence_state")
            await guest.send(type="presence", space_id="u-1", state={"at": "door"})
            joined = await owner.next("presence_diff")
            async with server.http("1") as http:
                await http.delete("/api/sync/spaces/u-1/members/2")
            left = await owner.next("presence_diff")
        assert left["leaves"] == [joined["joins"][0]["connection_id"]]

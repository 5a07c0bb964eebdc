"""P5, P9 and P12: what was caught up with equals a fresh snapshot, for every kind of change and starting cursor."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio

from sync_server.clock import now_ms
from sync_server.cursor import Cursor, format_cursor, parse_cursor
from sync_server.fingerprints import fingerprint
from sync_server.handlers.spaces import checksum
from sync_server.trimmer import DAY_MS, Trimmer
from sync_server.types import Millis, Seq, SpaceId, UserId
from tests.harness import Client, Message, RunningServer, create, delete, open_client, running_server, token_for, update
from tests.integration.test_promise_delivery import TEAM, fresh, in_team

Change = Callable[[RunningServer, Client], Awaitable[Any]]


def _do(*operations: Message) -> Change:
    async def change(_server: RunningServer, writer: Client) -> None:
        for operation in operations:
            result = await writer.do(operation)
            assert result["success"], result

    return change


def _share(**roles: str | None) -> Change:
    async def change(server: RunningServer, _writer: Client) -> None:
        await server.share(TEAM, **roles)

    return change


CHANGES: dict[str, Change] = {
    "create": _do(in_team(create("c", entity_id="new", title="x"))),
    "update": _do(update("c", "note", None, title="changed")),
    "update twice": _do(update("c", "note", None, title="changed"), update("d", "note", None, content="again")),
    "delete": _do(delete("c", "note")),
    "create and delete": _do(in_team(create("c", entity_id="new", title="x")), delete("d", "new")),
    "revive": _do(delete("c", "note"), in_team(create("d", entity_id="note", title="back"))),
    "revive what was gone": _do(in_team(create("c", entity_id="gone", title="back"))),
    "cascade": _do(delete("c", "folder", entity_type="folder")),
    "cascade and clash": _do(
        in_team(create("c", "folder", entity_id="twin", name="inner")), delete("d", "folder", entity_type="folder")
    ),
    "move": _do(update("c", "note", None, folder_id="folder")),
    "grant of an older space": _share(_1="editor"),
    "downgrade": _share(_1="viewer"),
    "revoke": _share(_1=None),
    "revoke and grant": _share(_1=None, _2="owner", _3="viewer"),
}


async def prepare(server: RunningServer, writer: Client) -> None:
    """A space with something of everything in it."""
    await server.share(TEAM, _2="owner")
    await writer.sync(
        in_team(create("op_1", "folder", entity_id="folder", name="outer")),
        in_team(create("op_2", "folder", entity_id="inner", name="inner", parent_id="folder")),
        in_team(create("op_3", entity_id="note", title="a note")),
        in_team(create("op_4", entity_id="in-folder", title="x")),
        in_team(create("op_5", entity_id="gone", title="gone")),
        in_team(update("op_6", "in-folder", 1, folder_id="folder")),
        delete("op_7", "gone", 1),
    )


async def caught_up(server: RunningServer, client: Client, **request: Any) -> None:
    """Sync until there is no more."""
    response = await client.sync(**request)
    while response["new_client_state"]["has_more"]:
        response = await client.sync(**request)


class TestCatchingUp:
    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    @pytest.mark.parametrize("member_before", [True, False])
    async def test_equals_a_fresh_snapshot_by_sync(
        self, server: RunningServer, change: Change, *, member_before: bool
    ) -> None:
        async with server.client("2", "writer") as writer:
            await prepare(server, writer)
            if member_before:
                await server.share(TEAM, _1="editor")
            async with server.client("1", "phone") as phone:
                phone.cursor = None
                await caught_up(server, phone, batch_size=2)
            replica, cursor = phone.replica, phone.cursor
            await change(server, writer)
            async with server.client("1", "phone") as phone:
                phone.replica, phone.cursor = replica, cursor
                await caught_up(server, phone, batch_size=2)
            assert phone.replica.live == await fresh(server, batch_size=3)

    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    async def test_equals_a_fresh_snapshot_by_pushes(self, server: RunningServer, change: Change) -> None:
        async with server.client("2", "writer") as writer:
            await prepare(server, writer)
            await server.share(TEAM, _1="editor")
            async with server.client("1", "phone", subscriptions={"incremental": False}) as live:
                await live.next("caught_up")
                stale, cursor = dict(live.replica.rows), live.replica.cursor
                await change(server, writer)
                await server.share(TEAM, _9="viewer")
                await live.send(type="subscribe", message_id="s")
                await live.next("caught_up")
                expected = await fresh(server)
                assert live.replica.live == expected
            async with open_client(server.ws_url, "phone") as late:
                late.replica.rows = stale
                await late.greet(token=token_for("1"), cursor=cursor)
                await late.next("caught_up")
                assert late.replica.live == expected

    @pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
    async def test_pages_by_any_size(self, server: RunningServer, batch_size: int) -> None:
        async with server.client("1", "desktop") as desktop, server.client("1", "phone") as phone:
            phone.cursor = None
            await phone.sync()
            async with server.client("1", "tablet"):
                pass
            await desktop.sync(*(create(f"op_{index}", entity_id=f"n{index}", title="x") for index in range(12)))
            await desktop.sync(*(update(f"up_{index}", f"n{index}", 1, title="y") for index in range(0, 12, 2)))
            async with server.client("1", "pager") as pager:
                pager.cursor = None
                sizes = []
                response = await pager.sync(batch_size=batch_size)
                while response["new_client_state"]["has_more"]:
                    sizes.append(len(response["server_updates"]))
                    response = await pager.sync(batch_size=batch_size)
            assert all(size == batch_size for size in sizes)
            assert pager.replica.live == await fresh(server)

    async def test_by_the_time_of_the_last_sync_loses_nothing(self, server: RunningServer) -> None:
        async with server.client("1", "desktop") as desktop, server.client("1", "phone") as phone:
            phone.cursor = None
            await desktop.do(create("op_1", title="a"))
            response = await phone.sync()
            await desktop.do(create("op_2", title="b"))
            for moment in (response["new_client_state"]["last_sync_time"], "2024-01-10T10:00:00Z"):
                phone.cursor = None
                await phone.sync(client_state={"last_sync_time": moment})
                assert phone.replica.live == await fresh(server)

    async def test_by_the_time_of_the_last_sync_survives_a_restart_in_the_middle(self, tmp_path: Path) -> None:
        async with running_server(tmp_path) as server:
            async with server.client("1", "desktop") as desktop:
                await desktop.sync(*(create(f"op_{index}", title="x") for index in range(10)))
                await _age(server, 600_000)
            async with server.client("1", "phone") as phone:
                phone.cursor = None
                response = await phone.sync(batch_size=4)
            server.services.clients._dirty.clear()  # what a kill loses
        async with running_server(tmp_path) as server, server.client("1", "phone") as again:
            again.replica, again.cursor = phone.replica, None
            state = response["new_client_state"]
            while state["has_more"]:
                response = await again.sync(batch_size=4, client_state={"last_sync_time": state["last_sync_time"]})
                state = response["new_client_state"]
            assert again.replica.live == await fresh(server)

    async def test_on_a_live_connection_keeps_what_was_pushed_before_a_reset(self, server: RunningServer) -> None:
        async with server.client("1", "phone") as phone:
            phone.cursor = None
            await phone.sync()
            replica, cursor = phone.replica, phone.cursor
        async with server.client("2", "writer") as writer:
            await prepare(server, writer)
            await server.share(TEAM, _1="viewer")
            async with server.client("1", "phone") as phone:
                phone.replica, phone.cursor = replica, cursor
                await writer.do(in_team(create("op_8", entity_id="pushed", title="pushed")))
                await writer.do(update("op_9", "note", None, title="pushed too"))
                await phone.next("server_update")
                await phone.next("server_update")
                await caught_up(server, phone, batch_size=2)
                assert phone.replica.live == await fresh(server)


class TestWhatIsNotPublishedYet:
    async def test_is_read_and_waited_for_without_asking_again_and_again(self, tmp_path: Path) -> None:
        async with running_server(tmp_path, feed_cache_changes=0) as server, server.client("1", "writer") as writer:
            services, held, reads = server.services, [], []
            publish, read = services.committer._publish, services.feed.read
            services.committer._publish = held.append
            await writer.do(create("op_1", title="committed"))

            async def counted(query: Any) -> Any:
                reads.append(query)
                return await read(query)

            with patch.object(services.feed, "read", counted):
                async with server.client("1", "phone", subscriptions={"incremental": False}) as phone:
                    await phone.nothing("caught_up")
                    assert len(reads) < 20
                    services.committer._publish = publish
                    for made in held:
                        publish(made)
                    await phone.next("caught_up")
        assert len(phone.replica.live) == 1


class TestAReplica:
    async def test_with_the_same_cursor_has_the_checksum_of_the_server(self, server: RunningServer) -> None:
        async with server.client("2", "writer") as writer, server.client("2", "other") as other:
            await prepare(server, writer)
            await server.share(TEAM, _1="editor")
            async with server.client("1", "phone", subscriptions={"incremental": False}) as phone:
                await phone.next("caught_up")
                await other.sync(update("op_8", "note", None, title="x"), delete("op_9", "in-folder"))
                phone.cursor = phone.replica.cursor
                await phone.sync()
                answer = await checksum(server.services, UserId("1"), SpaceId(TEAM))
            total = 0
            for (entity_type, entity_id), (version, _) in phone.replica.live.items():
                total ^= fingerprint(entity_type, str(entity_id), version)
        assert answer["cursor"] == phone.replica.cursor
        assert (answer["count"], answer["checksum"]) == (len(phone.replica.live), f"{total:016x}")

    async def test_converges_with_all_others_after_edits_from_everywhere(self, server: RunningServer) -> None:
        await server.share(TEAM, **{f"_{user}": "editor" for user in range(1, 5)})
        clients = [server.client(str(user), f"client_{user}") for user in range(1, 5)]
        async with clients[0] as one, clients[1] as two, clients[2] as three, clients[3] as four:
            everybody = (one, two, three, four)
            await one.do(in_team(create("op_0", entity_id="shared", title="t", content="line\n")))
            for turn in range(6):
                for number, client in enumerate(everybody):
                    name = f"{turn}-{number}"
                    await client.sync(
                        in_team(create(f"c{name}", entity_id=f"n{name}", title=name)),
                        update(f"u{name}", "shared", 1, title=name, content=f"line\n{name}\n"),
                    )
            for client in everybody:
                await client.sync()
                await client.send(type="subscribe", message_id="s")
                await client.next("caught_up")
            expected = await fresh(server)
        assert [client.replica.live for client in everybody] == [expected] * 4


class TestACursor:
    @pytest_asyncio.fixture
    async def forgetful(self, tmp_path: Path) -> AsyncIterator[RunningServer]:
        """A server that keeps no change in memory, so that what is trimmed is gone."""
        async with running_server(tmp_path, feed_cache_changes=0) as server:
            yield server

    @pytest.mark.parametrize("by", ["sync", "handshake"])
    @pytest.mark.parametrize("reason", ["horizon", "epoch", "ahead"])
    async def test_that_the_log_does_not_cover_resets_and_snapshots(
        self, forgetful: RunningServer, reason: str, by: str
    ) -> None:
        server = forgetful
        async with server.client("1", "desktop") as desktop, server.client("1", "phone") as phone:
            await desktop.sync(*(create(f"op_{index}", entity_id=f"n{index}", title="x") for index in range(5)))
            phone.cursor = None
            await phone.sync()
            await desktop.sync(delete("op_5", "n0", 1), update("op_6", "n1", 1, title="y"))
            cursor = phone.cursor
            if reason == "horizon":
                await _trim(server)
            if reason == "epoch":
                cursor = format_cursor(Cursor("0123", Seq(3)))
            if reason == "ahead":
                cursor = format_cursor(Cursor(parse_cursor(str(cursor)).epoch, Seq(10_000)))
        async with open_client(server.ws_url, "phone") as late:
            late.replica = phone.replica
            if by == "sync":
                await late.greet(token=token_for("1"))
                late.cursor = cursor
                response = await late.sync(create("own", title="unsent"), batch_size=2)
                resets = [reset["reason"] for reset in response["resets"]]
                assert response["operation_results"][0]["success"]
                await caught_up(server, late, batch_size=2)
            else:
                await late.greet(token=token_for("1"), cursor=cursor)
                resets = [(await late.next("reset"))["reason"]]
                await late.next("caught_up")
            assert resets == ["epoch" if reason == "ahead" else reason]
            assert late.replica.live == await fresh(server)

    @pytest.mark.parametrize("remembers", [True, False])
    async def test_of_a_time_below_the_horizon_loses_nothing(self, tmp_path: Path, *, remembers: bool) -> None:
        capacity = 100 if remembers else 0
        async with (
            running_server(tmp_path, feed_cache_changes=capacity) as server,
            server.client("1", "desktop") as desktop,
            server.client("1", "phone") as phone,
        ):
            await desktop.sync(create("op_1", entity_id="gone", title="x"), create("op_2", entity_id="n", title="x"))
            phone.cursor = None
            await phone.sync()
            await desktop.sync(delete("op_3", "gone", 1), create("op_4", title="y"))
            await _trim(server)
            async with server.client("1", "phone") as again:
                again.replica, again.cursor = phone.replica, None
                response = await again.sync(client_state={"last_sync_time": "2024-01-10T10:00:00Z"})
                await caught_up(server, again)
            resets = [reset["reason"] for reset in response.get("resets", [])]
            assert resets == ([] if remembers else ["horizon"])
            assert phone.replica.live == await fresh(server)

    async def test_of_a_snapshot_in_the_middle_survives_a_trim(self, forgetful: RunningServer) -> None:
        server = forgetful
        async with server.client("1", "desktop") as desktop, server.client("1", "phone") as phone:
            await desktop.sync(*(create(f"op_{index}", entity_id=f"n{index}", title="x") for index in range(6)))
            phone.cursor = None
            await phone.sync(batch_size=2)
            await desktop.sync(delete("op_7", "n0", 1), update("op_8", "n5", 1, title="y"))
            await _trim(server)
            await caught_up(server, phone, batch_size=2)
            assert phone.replica.live == await fresh(server)


async def _trim(server: RunningServer) -> None:
    """Trim all of the log there is."""
    services = server.services
    trimmer = Trimmer(services.feed, services.committer, retention_days=1, verdict_retention_days=1, interval_s=1)
    await trimmer.trim(Millis(now_ms() + 2 * DAY_MS))


async def _age(server: RunningServer, by_ms: int) -> None:
    """Make what is in the log older."""
    from sync_server.orders import Committed

    def age(writer: Any, _now: Millis) -> tuple[None, Committed]:
        writer._cursor.execute("UPDATE changes SET modified_at = modified_at - ?", (by_ms,))
        return None, Committed()

    await server.services.committer.perform(age)

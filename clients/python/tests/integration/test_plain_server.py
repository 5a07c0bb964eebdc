"""The client with a server that knows the T3 document alone: ids made by the server, no cursor, no subscriptions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from sync_client import Change, Entity, LinkState, Status, SyncClient, machine

from clients.python.tests.plain_server import PlainServer, plain_server

TIMEOUT_S = 5.0
"""The bound of every wait for something that must come."""
QUIET_S = 0.2
"""How long nothing must come, where a test says that nothing comes."""


@pytest.fixture
async def server() -> AsyncIterator[PlainServer]:
    async with plain_server() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


def client_of(server: PlainServer, store: Path | None = None, **options: Any) -> SyncClient:
    return SyncClient(server.url, **{"token": "any", "store": store, "links": ["websocket"], **options})


def offline(store: Path) -> SyncClient:
    return SyncClient("ws://127.0.0.1:1", token="any", store=store, connect=False)


async def settled(client: SyncClient) -> Status:
    return await client.settled(timeout_s=TIMEOUT_S)


async def status_that(client: SyncClient, is_so: Callable[[Status], bool]) -> Status:
    async with asyncio.timeout(TIMEOUT_S), aclosing(client.statuses()) as statuses:
        async for status in statuses:
            if is_so(status):
                return status
    raise AssertionError


async def change_that(client: SyncClient, is_so: Callable[[Change], bool], entity_type: str = "note") -> Change:
    async with asyncio.timeout(TIMEOUT_S), aclosing(client.changes(entity_type, existing=True)) as changes:
        async for change in changes:
            if is_so(change):
                return change
    raise AssertionError


def is_titled(title: str) -> Callable[[Change], bool]:
    return lambda change: change.entity is not None and change.entity.get("title") == title


async def note(client: SyncClient) -> Entity:
    """The only one."""
    (found,) = await client.query("note")
    return found


class TestOnline:
    @pytest.mark.parametrize("codec", ["json", "msgpack"])
    async def test_writes_go_up_in_json_whatever_was_offered(self, server: PlainServer, codec: str) -> None:
        async with client_of(server, codec=codec) as client:
            await settled(client)
            made = await client.create("note", title="größer 📝", content="x")
            await settled(client)
            await client.update(made, title="新笔记 📝")
            await settled(client)
            assert server.entities["note", 1] == (2, {"id": 1, "title": "新笔记 📝", "content": "x"})
            (shown,) = await client.query("note", title="新笔记 📝")
            assert (shown.id, shown.version, shown.is_pending, shown["content"]) == (1, 2, False, "x")
            await client.delete(shown)
            await settled(client)
            assert server.entities["note", 1] == (3, None)
            assert await client.query("note") == []

    async def test_what_somebody_else_writes_is_pushed(self, server: PlainServer) -> None:
        async with client_of(server) as client:
            await settled(client)
            made = await server.write("create", "note", title="theirs")
            seen = (await change_that(client, is_titled("theirs"))).entity
            assert seen is not None
            assert (seen.id, seen.version, seen.modified_by) == (made, 1, 1)
            await server.write("update", "note", made, title="changed")
            await change_that(client, is_titled("changed"))
            async with asyncio.timeout(TIMEOUT_S), aclosing(client.changes("note", existing=True)) as changes:
                await anext(changes)
                await server.write("delete", "note", made)
                assert (await anext(changes)).kind == "deleted"

    async def test_two_clients_see_each_other(self, server: PlainServer) -> None:
        async with client_of(server) as one, client_of(server) as other:
            await settled(one)
            await settled(other)
            await one.create("note", title="from one")
            heard = (await change_that(other, is_titled("from one"))).entity
            assert heard is not None
            await other.update(heard, title="from the other")
            await change_that(one, is_titled("from the other"))
            assert server.entities["note", 1][1] == {"id": 1, "title": "from the other"}

    async def test_the_plain_server_is_not_asked_for_what_it_lacks(self, server: PlainServer) -> None:
        async with client_of(server) as client:
            await client.create("note", title="x")
            await settled(client)
        known = {"operation_id", "operation_type", "entity_type", "entity_id", "data", "client_id", "timestamp"}
        (operation,) = [one for asked in server.requests for one in asked["operations"]]
        assert set(operation) == known
        assert [asked["client_state"].get("last_sync_time") for asked in server.requests][:1] == [None]


class TestWrittenOffline:
    async def test_a_create_and_its_updates_become_one_entity_with_the_servers_id(
        self, server: PlainServer, store: Path
    ) -> None:
        async with offline(store) as client:
            made = await client.create("note", title="0", content="x")
            for number in range(1, 6):
                await client.update(made, title=str(number))
        async with client_of(server, store) as client:
            await settled(client)
            assert server.entities == {("note", 1): (6, {"id": 1, "title": "5", "content": "x"})}
            assert len(server.received) == len(set(server.received)) == 6
            shown = await note(client)
            assert (shown.id, shown.version, shown.is_pending, shown.data) == (
                1,
                6,
                False,
                {"title": "5", "content": "x"},
            )
            assert await client.get("note", made.id) == shown
            assert (await client.conflicts(), await client.quarantine()) == ([], [])

    async def test_references_get_the_servers_ids(self, server: PlainServer, store: Path) -> None:
        async with offline(store) as client:
            folder = await client.create("folder", title="folder")
            child = await client.create("note", title="child", folder_id=folder.id)
            await client.create("review", about={"notes": [child.id, "other"]}, folder_id=folder.id)
            await client.update(folder, first=child.id)
        async with client_of(server, store) as client:
            await settled(client)
            entities = {key: data for key, (_, data) in server.entities.items()}
            assert entities == {
                ("folder", 1): {"id": 1, "title": "folder", "first": 2},
                ("note", 2): {"id": 2, "title": "child", "folder_id": 1},
                ("review", 3): {"id": 3, "about": {"notes": [2, "other"]}, "folder_id": 1},
            }
            assert (await note(client))["folder_id"] == 1
            found = await client.get("folder", folder.id)
            assert found is not None
            assert found["first"] == 2

    async def test_what_was_made_and_deleted_leaves_nothing(self, server: PlainServer, store: Path) -> None:
        async with offline(store) as client:
            made = await client.create("note", title="x")
            await client.update(made, title="y")
            await client.delete(made)
        async with client_of(server, store) as client:
            await settled(client)
            assert server.entities == {("note", 1): (3, None)}
            assert await client.get("note", made.id) is None
            assert await client.quarantine() == []

    async def test_a_transaction_goes_up_one_by_one(self, server: PlainServer, store: Path) -> None:
        async with offline(store) as client, client.transaction():
            folder = await client.create("folder", title="folder")
            child = await client.create("note", title="a", folder_id=folder.id)
            await client.update(child, title="b")
        async with client_of(server, store) as client:
            await settled(client)
            assert server.entities == {
                ("folder", 1): (1, {"id": 1, "title": "folder"}),
                ("note", 2): (2, {"id": 2, "title": "b", "folder_id": 1}),
            }
            assert not any("atomic" in asked for asked in server.requests)
            assert (await client.conflicts(), await client.quarantine()) == ([], [])

    async def test_a_refused_operation_of_a_transaction_takes_none_with_it(
        self, server: PlainServer, store: Path
    ) -> None:
        server.refused_title = "bad"
        async with offline(store) as client, client.transaction():
            for title in ("a", "bad", "b"):
                await client.create("note", title=title)
        async with client_of(server, store) as client:
            await settled(client)
            assert {one["title"] for one in await client.query("note")} == {"a", "b"}
            assert [one.operation.fields for one in await client.quarantine()] == [{"title": "bad"}]

    async def test_the_change_of_id_is_told_as_an_end_and_a_beginning(self, server: PlainServer) -> None:
        async with client_of(server) as client:
            await settled(client)
            async with asyncio.timeout(TIMEOUT_S), aclosing(client.changes("note", existing=True)) as changes:
                pending = asyncio.ensure_future(anext(changes))
                made = await client.create("note", title="x")
                told = [(await pending), *[await anext(changes) for _ in range(2)]]
            assert [(change.kind, change.id) for change in told] == [
                ("created", made.id), ("deleted", made.id), ("created", 1),
            ]  # fmt: skip


class TestOldIds:
    """An application may go on with the id that `create` gave it."""

    async def test_an_entity_is_changed_and_deleted_by_its_old_id(self, server: PlainServer) -> None:
        async with client_of(server) as client:
            made = await client.create("note", title="a")
            await settled(client)
            await client.update(("note", made.id), title="b")
            await settled(client)
            assert server.entities["note", 1] == (2, {"id": 1, "title": "b"})
            await client.delete(made)
            await settled(client)
            assert server.entities["note", 1] == (3, None)

    async def test_a_later_reference_by_the_old_id_gets_the_servers(self, server: PlainServer) -> None:
        async with client_of(server) as client:
            folder = await client.create("folder", title="folder")
            await settled(client)
            child = await client.create("note", title="child", folder_id=folder.id)
            assert child["folder_id"] == 1
            await settled(client)
            assert server.entities["note", 2][1] == {"id": 2, "title": "child", "folder_id": 1}

    async def test_an_id_of_ones_own_is_no_text_of_other_fields(self, server: PlainServer) -> None:
        async with client_of(server) as client:
            made = await client.create("note", entity_id="inbox")
            await settled(client)
            await client.update(made, title="inbox")
            await settled(client)
            assert server.entities["note", 1][1] == {"id": 1, "title": "inbox"}

    async def test_a_query_by_the_old_id_finds_what_refers_to_it(self, server: PlainServer) -> None:
        async with client_of(server) as client:
            folder = await client.create("folder", title="folder")
            await client.create("note", title="child", folder_id=folder.id)
            await settled(client)
            assert [one["title"] for one in await client.query("note", folder_id=folder.id)] == ["child"]

    async def test_a_transaction_that_was_open_while_the_server_named_an_entity(self, server: PlainServer) -> None:
        async with client_of(server) as client:
            await settled(client)
            folder = await client.create("folder", title="folder")
            async with client.transaction():
                await client.create("note", title="child", folder_id=folder.id)
                await client.update(folder, title="renamed")
                await change_that(client, lambda change: change.id == 1, "folder")
            await settled(client)
            assert server.entities["folder", 1] == (2, {"id": 1, "title": "renamed"})
            assert server.entities["note", 2][1] == {"id": 2, "title": "child", "folder_id": 1}
            assert await client.quarantine() == []


class TestReconnecting:
    async def test_what_was_missed_is_caught_up(self, server: PlainServer, store: Path) -> None:
        kept = await server.write("create", "note", title="kept")
        lost = await server.write("create", "note", title="lost")
        async with client_of(server, store) as client:
            await settled(client)
            await server.stop()
            await status_that(client, lambda status: status.state is LinkState.OFFLINE)
            await server.write("update", "note", kept, title="changed")
            await server.write("delete", "note", lost)
            await server.write("create", "note", title="new")
            await client.create("note", title="mine")
            await server.start()
            client.reconnect()
            await settled(client)
            assert {one["title"] for one in await client.query("note")} == {"changed", "new", "mine"}
            assert server.requests[-1]["client_state"]["last_sync_time"] is not None

    async def test_another_run_asks_from_where_the_last_one_was(self, server: PlainServer, store: Path) -> None:
        await server.write("create", "note", title="old")
        async with client_of(server, store) as client:
            await settled(client)
        await server.write("create", "note", title="new")
        async with client_of(server, store) as client:
            await settled(client)
            assert {one["title"] for one in await client.query("note")} == {"old", "new"}
        assert server.requests[0]["client_state"]["last_sync_time"] is None
        assert server.requests[-1]["client_state"]["last_sync_time"] is not None

    async def test_nothing_is_lost_or_doubled_where_replies_are(self, server: PlainServer, store: Path) -> None:
        async with offline(store) as client:
            folder = await client.create("folder", title="folder")
            made = await client.create("note", title="0", folder_id=folder.id)
            for number in range(1, 4):
                await client.update(made, title=str(number))
        server.replies_to_lose = 2
        async with client_of(server, store) as client:
            await settled(client)
            assert len(server.received) > len(set(server.received)) == 5
            assert server.entities == {
                ("folder", 1): (1, {"id": 1, "title": "folder"}),
                ("note", 2): (4, {"id": 2, "title": "3", "folder_id": 1}),
            }
            assert (await client.conflicts(), await client.quarantine()) == ([], [])
            assert (await note(client)).is_pending is False

    async def test_what_is_told_again_brings_nothing_back(self, server: PlainServer, store: Path) -> None:
        theirs = await server.write("create", "note", title="theirs")
        async with client_of(server, store) as client:
            await settled(client)
            await client.delete(("note", theirs))
            await settled(client)
            assert await client.query("note") == []
        async with client_of(server, store) as client:
            await settled(client)
            assert await client.query("note") == []

    async def test_a_server_that_wants_everything_told_anew_loses_nothing(
        self, server: PlainServer, store: Path
    ) -> None:
        await server.write("create", "note", title="old")
        async with client_of(server, store) as client:
            await settled(client)
            await server.close(4300)
            await status_that(client, lambda status: status.state is not LinkState.LIVE)
            client.reconnect()
            await settled(client)
            assert [one["title"] for one in await client.query("note")] == ["old"]
            assert server.requests[-1]["client_state"]["last_sync_time"] is None

    async def test_a_server_that_says_nothing_any_more_is_left(
        self, server: PlainServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(machine, "HEARTBEAT_S", 0.5)
        async with client_of(server) as client:
            await settled(client)
            server.fall_silent()
            status = await status_that(client, lambda status: status.state is LinkState.OFFLINE)
            assert status.problem == "the server says nothing"
            monkeypatch.undo()
            await settled(client)
            assert server.pings > 0


class TestConflicts:
    async def test_one_is_listed_and_the_queue_goes_on(self, server: PlainServer, store: Path) -> None:
        shared = await server.write("create", "note", title="base")
        async with client_of(server, store) as client:
            await settled(client)
        async with offline(store) as client:
            await client.update(("note", shared), title="mine")
            await client.create("note", title="after")
        await server.write("update", "note", shared, title="theirs")
        async with client_of(server, store) as client:
            await settled(client)
            (conflict,) = await client.conflicts()
            assert (conflict.entity_id, conflict.fields) == (str(shared), ["title"])
            assert (conflict.mine.data, conflict.theirs.data) == ({"title": "mine"}, {"id": shared, "title": "theirs"})
            assert {one["title"] for one in await client.query("note")} == {"theirs", "after"}
            assert await client.quarantine() == []

    async def test_own_updates_in_the_queue_meet_none(self, server: PlainServer, store: Path) -> None:
        shared = await server.write("create", "note", title="base")
        async with client_of(server, store) as client:
            await settled(client)
        async with offline(store) as client:
            for number in range(4):
                await client.update(("note", shared), title=str(number))
        async with client_of(server, store) as client:
            await settled(client)
            assert server.entities["note", shared] == (5, {"id": shared, "title": "3"})
            assert await client.conflicts() == []

    async def test_updates_while_others_are_under_way_meet_none(self, server: PlainServer) -> None:
        async with client_of(server) as client:
            await settled(client)
            made = await client.create("note", title="0")
            for number in range(1, 30):
                await client.update(made, title=str(number))
                await asyncio.sleep(0)
            await settled(client)
            assert server.entities["note", 1] == (30, {"id": 1, "title": "29"})
            assert (await client.conflicts(), await client.quarantine()) == ([], [])

    async def test_a_resolution_that_the_server_does_not_know_leaves_it_open(
        self, server: PlainServer, store: Path
    ) -> None:
        shared = await server.write("create", "note", title="base")
        async with client_of(server, store) as client:
            await settled(client)
        async with offline(store) as client:
            await client.update(("note", shared), title="mine")
        await server.write("update", "note", shared, title="theirs")
        async with client_of(server, store) as client:
            await settled(client)
            (conflict,) = await client.conflicts()
            await client.keep_mine(conflict)
            await settled(client)
            assert await client.conflicts() == [conflict]
            assert len(await client.quarantine()) == 1


class TestRefused:
    async def test_an_operation_waits_in_the_quarantine_and_others_go_on(
        self, server: PlainServer, store: Path
    ) -> None:
        server.refused_title = "bad"
        async with offline(store) as client:
            await client.create("note", title="bad")
            await client.create("note", title="good")
        async with client_of(server, store) as client:
            status = await settled(client)
            assert (status.pending, status.quarantined) == (0, 1)
            (refused,) = await client.quarantine()
            assert (refused.problem.error, refused.problem.error_code) == ("拒绝", "VALIDATION_ERROR")
            assert [one["title"] for one in await client.query("note")] == ["good"]
            await client.retry(refused, title="better")
            await settled(client)
            assert {one["title"] for one in await client.query("note")} == {"good", "better"}

    async def test_updates_that_are_retried_after_their_create_find_the_entity(
        self, server: PlainServer, store: Path
    ) -> None:
        server.refused_title = "bad"
        async with offline(store) as client:
            made = await client.create("note", title="bad")
            await client.update(made, content="x")
        async with client_of(server, store) as client:
            await settled(client)
            create, update = await client.quarantine()
            await client.retry(create, title="good")
            await settled(client)
            await client.retry(update)
            await settled(client)
            assert server.entities == {("note", 1): (2, {"id": 1, "title": "good", "content": "x"})}

    async def test_a_whole_request_loses_only_what_is_at_fault(self, server: PlainServer, store: Path) -> None:
        async with offline(store) as client:
            await client.create("note", title="bad")
            await client.create("note", title="good")
        server.refusals = [{"type": "error", "error": "拒绝", "error_code": "VALIDATION_ERROR"}] * 2
        async with client_of(server, store) as client:
            await settled(client)
            assert [one.operation.fields for one in await client.quarantine()] == [{"title": "bad"}]
            assert [one["title"] for one in await client.query("note")] == ["good"]

    async def test_a_refused_sync_may_be_told_as_its_response(self, server: PlainServer, store: Path) -> None:
        """The document gives errors a form and no message of their own."""
        async with client_of(server, store) as client:
            await settled(client)
            server.refusals = [
                {"type": "sync_response", "success": False, "error": "拒绝", "error_code": "VALIDATION_ERROR"}
            ]
            await client.create("note", title="bad")
            await settled(client)
            (refused,) = await client.quarantine()
            assert refused.problem.error == "拒绝"

    async def test_a_refusal_to_catch_up_is_asked_again_after_a_pause(self, server: PlainServer) -> None:
        server.refusals = [{"type": "error", "error": "不行", "error_code": "FORBIDDEN"}] * 1_000
        async with client_of(server) as client:
            with pytest.raises(TimeoutError):
                await client.settled(timeout_s=QUIET_S)
            assert len(server.refusals) > 990
            server.refusals = []
            await settled(client)

    async def test_another_token_is_asked_for_where_one_is_refused(self, server: PlainServer) -> None:
        server.token = "second"
        tokens = iter(["first", "second"])
        async with client_of(server, token=lambda: next(tokens, "second")) as client:
            await status_that(client, lambda status: status.state is LinkState.CONNECTING)
            await asyncio.wait_for(server.refused.wait(), TIMEOUT_S)
            server.cut()
            await settled(client)

"""P7: after the ack, every door shows the write."""

import asyncio
from typing import Any

import pytest

from sync_server.cursor import Cursor, format_cursor
from sync_server.feed import Page
from sync_server.hub import Hub
from sync_server.types import Seq
from tests.harness import Client, Message, RunningServer, create, delete, update


def read(operation_id: str, entity_id: str) -> Message:
    return {
        "operation_id": operation_id, "operation_type": "read", "entity_type": "note", "entity_id": entity_id,
    }  # fmt: skip


class TestAfterTheAck:
    async def test_a_read_operation_shows_the_write(self, server: RunningServer) -> None:
        async with server.client(client_id="desktop") as desktop, server.client(client_id="phone") as phone:
            for index in range(20):
                await desktop.do(create(f"op_{index}", entity_id=f"n{index}", title=str(index)))
                assert (await phone.do(read(f"r_{index}", f"n{index}")))["data"]["title"] == str(index)

    async def test_a_read_in_the_same_request_shows_the_write(self, server: RunningServer) -> None:
        async with server.client() as client:
            results = (
                await client.sync(
                    create("op_1", entity_id="n", title="a"), read("r_1", "n"), update("op_2", "n", 1, title="b"),
                    read("r_2", "n"), delete("op_3", "n", 2), read("r_3", "n"),
                )
            )["operation_results"]  # fmt: skip
        assert [result["data"]["title"] for result in results[:4]] == ["a", "a", "b", "b"]
        assert results[5]["error_code"] == "NOT_FOUND"

    async def test_a_page_of_the_type_shows_the_write(self, server: RunningServer) -> None:
        async with server.client(client_id="desktop") as desktop, server.client(client_id="phone") as phone:
            await desktop.do(create("op_1", entity_id="n", title="a"))
            page = await phone.do({"operation_id": "r", "operation_type": "read", "entity_type": "note"})
        assert [row["entity_id"] for row in page["entities"]] == ["n"]

    async def test_a_sync_of_another_connection_has_the_write(self, server: RunningServer) -> None:
        async with server.client(client_id="desktop") as desktop, server.client(client_id="phone") as phone:
            for index in range(20):
                await desktop.do(create(f"op_{index}", entity_id=f"n{index}", title="x"))
                await phone.sync()
                assert ("note", f"n{index}") in phone.replica.live

    async def test_a_sync_has_the_write_though_its_push_still_waits(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deliver, may_go = Hub._deliver, asyncio.Event()

        async def wait(hub: Hub, current: object) -> None:
            await may_go.wait()
            await deliver(hub, current)  # type: ignore[arg-type]

        monkeypatch.setattr(Hub, "_deliver", wait)
        async with server.client(client_id="desktop") as desktop, server.client(client_id="phone") as phone:
            for index in range(3):
                await desktop.do(create(f"op_{index}", entity_id=f"n{index}", title="x"))
            state = (await phone.sync(batch_size=2))["new_client_state"]
            assert state["has_more"]
            await phone.sync()
            may_go.set()
            await _last(desktop, phone)
        assert [seq for seq, *_ in phone.replica.told] == [1, 2, 3, 4]

    async def test_a_new_connection_has_the_write(self, server: RunningServer) -> None:
        async with server.client(client_id="desktop") as desktop:
            await desktop.do(create("op_1", entity_id="n", title="a"))
            async with server.client(client_id="phone", subscriptions={"incremental": False}) as phone:
                await phone.next("caught_up")
        assert ("note", "n") in phone.replica.live


async def _last(desktop: Client, phone: Client) -> None:
    """One more change, pushed when all before it are."""
    await desktop.do(create("last", title="x"))
    await phone.next("server_update")


class TestAReset:
    async def test_does_not_take_what_its_client_did_while_it_was_read(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with server.client(client_id="other") as other:
            await other.do(create("op_1", entity_id="old", title="there before"))
        feed, read = server.services.feed, server.services.feed.read
        reached, gate = asyncio.Event(), asyncio.Event()

        async def slowly(query: Any) -> Any:
            found = await read(query)
            if isinstance(found, Page) and found.resets:
                reached.set()
                await gate.wait()
            return found

        monkeypatch.setattr(feed, "read", slowly)
        of_another_log = format_cursor(Cursor("0123", Seq(3)))
        async with server.client(client_id="desk", subscriptions={"cursor": of_another_log}) as client:
            await asyncio.wait_for(reached.wait(), 5)
            await client.sync(create("op_2", entity_id="own", title="mine"), client_state={"cursor": feed_end(server)})
            gate.set()
            await client.next("caught_up")
            assert sorted(client.replica.live) == [("note", "old"), ("note", "own")]
            assert [row[2] for row in client.replica.told] == ["old", "own"]


def feed_end(server: RunningServer) -> str:
    return format_cursor(server.services.feed.end)

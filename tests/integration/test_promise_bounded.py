"""P11: memory per connection is bounded whatever the peer does, and one bad peer does not slow the others."""

import asyncio
import json
from pathlib import Path

import pytest

from sync_server.feed import PAGE_CHARACTERS
from sync_server.sockets import room
from sync_server.subscribers import Subscriber
from tests.faults.peers import until
from tests.harness import Client, RunningServer, create, open_client, running_server, token_for

BUFFER = 16_384
BIG = "y" * 100_000


def subscriber_of(server: RunningServer, client_id: str) -> Subscriber:
    return next(s for s in server.services.hub._subscribers.values() if s.viewer.client_id == client_id)


async def fill(server: RunningServer, writer: Client, subscriber: Subscriber) -> int:
    """Write until the connection takes no more; returns how many notes that took."""
    count = 0
    while not subscriber.socket.congested or subscriber.is_live:
        count += 1
        await writer.do(create(f"fill_{count}", title="x", content=BIG))
    return count


class TestAStalledReader:
    async def test_holds_a_bounded_buffer_under_a_broadcast(self, tmp_path: Path) -> None:
        async with (
            running_server(tmp_path, send_buffer_bytes=BUFFER) as server,
            open_client(server.ws_url, "stalled", max_queue=1) as stalled,
            server.client(client_id="writer") as writer,
            server.client(client_id="healthy") as healthy,
        ):
            await stalled.greet(token=token_for("1"))
            subscriber = subscriber_of(server, "stalled")
            count = await fill(server, writer, subscriber)
            sizes = []
            for index in range(40):
                await writer.do(create(f"more_{index}", title="x", content=BIG))
                sizes.append(subscriber.socket.buffered_bytes)
            while len(healthy.replica.told) < count + 40:
                await healthy.next("server_update")
        assert max(sizes) <= BUFFER + 2 * PAGE_CHARACTERS
        assert sizes[-1] == sizes[0]

    async def test_is_closed_in_the_end(self, tmp_path: Path) -> None:
        async with (
            running_server(tmp_path, send_buffer_bytes=BUFFER, slow_consumer_s=0.3) as server,
            open_client(server.ws_url, "stalled", max_queue=1) as stalled,
            server.client(client_id="writer") as writer,
        ):
            await stalled.greet(token=token_for("1"))
            stalled.ws.transport.pause_reading()
            await fill(server, writer, subscriber_of(server, "stalled"))
            await until(lambda: len(server.services.connections) == 1)
            assert server.services.hub._subscribers.keys() == {subscriber_of(server, "writer").connection_id}


class Trickle:
    """A congested socket whose peer takes a byte in each look, and then no more."""

    def __init__(self, bytes_left: int, *, floor: int) -> None:
        self._left = bytes_left
        self._floor = floor

    @property
    def congested(self) -> bool:
        return self._left > 0

    @property
    def buffered_bytes(self) -> int:
        self._left = max(self._floor, self._left - 1)
        return self._left

    async def drained(self) -> None:
        await asyncio.Event().wait()


class TestPatience:
    async def test_waits_for_a_peer_that_takes_a_little_at_a_time(self) -> None:
        await room(Trickle(10, floor=0), patience_s=0.001)  # type: ignore[arg-type]

    async def test_ends_with_a_peer_that_takes_nothing(self) -> None:
        with pytest.raises(TimeoutError):
            await room(Trickle(10, floor=5), patience_s=0.001)  # type: ignore[arg-type]


class TestWhoAsksAndDoesNotRead:
    async def test_holds_a_bounded_buffer(self, tmp_path: Path) -> None:
        page = {"operation_id": "r", "operation_type": "read", "entity_type": "note", "limit": 1000}
        ask = json.dumps({"type": "sync", "data": {"client_id": "asker", "operations": [page]}})
        async with (
            running_server(tmp_path, send_buffer_bytes=BUFFER, slow_consumer_s=0.5) as server,
            open_client(server.ws_url, "asker", max_queue=1) as asker,
            server.client(client_id="writer") as writer,
        ):
            for index in range(10):
                await writer.do(create(f"op_{index}", title="x", content=BIG))
            await asker.greet(token=token_for("1"))
            subscriber = subscriber_of(server, "asker")
            asker.ws.transport.pause_reading()
            sizes = []
            for _ in range(100):
                asker.ws.transport.write(_masked(ask))
                await writer.do({"operation_id": "r", "operation_type": "read", "entity_type": "note", "limit": 1})
                sizes.append(subscriber.socket.buffered_bytes)
            await until(lambda: len(server.services.connections) == 1)
        assert max(sizes) <= BUFFER + 3 * PAGE_CHARACTERS


class TestAPage:
    @pytest.mark.parametrize("incremental", [True, False])
    async def test_has_a_bounded_weight_and_at_least_one_row(self, server: RunningServer, *, incremental: bool) -> None:
        async with server.client(client_id="writer") as writer, server.client(client_id="reader") as reader:
            cursor = reader.cursor
            for index in range(25):
                await writer.do(create(f"op_{index}", title="x", content=BIG))
        async with server.client(client_id="reader") as reader:
            reader.cursor = cursor if incremental else None
            sizes = []
            response = await reader.sync(batch_size=1000)
            while response["new_client_state"]["has_more"]:
                sizes.append(len(response["server_updates"]))
                response = await reader.sync(batch_size=1000)
        assert max(sizes) * len(BIG) <= PAGE_CHARACTERS
        assert len(reader.replica.told) == 25


def _masked(text: str) -> bytes:
    from websockets.frames import Frame, Opcode

    return Frame(Opcode.TEXT, text.encode()).serialize(mask=True)

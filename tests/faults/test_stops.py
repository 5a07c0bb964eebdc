"""The server stops, or is stopped, while clients are at work (rows 3, 15 and 22)."""

import asyncio
import json
import random
import time
from contextlib import suppress
from pathlib import Path

from websockets.exceptions import ConnectionClosed

from tests.faults.peers import raw_peer, until
from tests.harness import RunningServer, create, open_client, server_process, token_for

DRAIN_S = 2.0


class TestADrain:
    async def test_says_goodbye_to_all_and_exits_with_success(self, tmp_path: Path) -> None:
        with server_process(tmp_path, SYNC_DRAIN_S=str(DRAIN_S)) as process:
            async with open_client(process.ws_url, "a") as one, open_client(process.ws_url, "b") as two:
                await one.greet(token=token_for("1"))
                await two.greet()
                status = asyncio.create_task(asyncio.to_thread(process.terminate))
                goodbyes = [await client.next("goodbye") for client in (one, two)]
                codes = [await client.close_code() for client in (one, two)]
                assert await status == 0
        assert codes == [4000, 4000]
        assert all(goodbye["reconnect"] and goodbye["code"] == 4000 for goodbye in goodbyes)

    async def test_exits_in_its_budget_though_a_reader_stalls(self, tmp_path: Path) -> None:
        with server_process(tmp_path, SYNC_DRAIN_S=str(DRAIN_S), SYNC_SEND_BUFFER_BYTES="16384") as process:
            async with (
                open_client(process.ws_url, "writer") as writer,
                open_client(process.ws_url, "stalled") as stalled,
            ):
                await writer.greet(token=token_for("1"))
                await stalled.greet(token=token_for("1"))
                stalled.ws.transport.pause_reading()
                for index in range(100):
                    await writer.do(create(f"op_{index}", title="x", content="y" * 150_000))
                started = time.monotonic()
                status = await asyncio.to_thread(process.terminate)
                stalled.ws.transport.abort()
        assert status == 0
        assert time.monotonic() - started < DRAIN_S + 8

    async def test_answers_or_forgets_what_is_in_flight_and_never_does_it_twice(self, tmp_path: Path) -> None:
        results: dict[str, bool] = {}
        with server_process(tmp_path, SYNC_DRAIN_S=str(DRAIN_S)) as process:
            async with open_client(process.ws_url, "desktop") as client:
                await client.greet(token=token_for("1"))
                status = None
                with suppress(ConnectionClosed):
                    for index in range(10_000):
                        if index == 20:
                            status = asyncio.create_task(asyncio.to_thread(process.terminate))
                        results[f"op_{index}"] = False
                        results[f"op_{index}"] = (await client.do(create(f"op_{index}", title="x")))["success"]
                assert status is not None
                assert await status == 0
            process.start()
            async with open_client(process.ws_url, "desktop") as client:
                await client.greet(token=token_for("1"))
                again = [await client.do(create(name, title="x")) for name in results]
        acknowledged = list(results.values()).count(True)
        assert acknowledged >= len(results) - 1
        assert [result.get("duplicate", False) for result in again[:acknowledged]] == [True] * acknowledged
        assert [result["seq"] for result in again] == list(range(1, len(again) + 1))


class TestConnectionsThatBreakOff:
    async def test_at_any_point_leave_nothing_behind(self, server: RunningServer) -> None:
        rng = random.Random(7)
        async with server.client("2"):
            await _break_off(server, rng, 50)
            tasks, descriptors = len(asyncio.all_tasks()), _descriptors()
            await _break_off(server, rng, 450)
            services = server.services
            await until(lambda: len(services.connections) == 1)
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
            await until(lambda: _descriptors() <= descriptors)
            assert len(services.hub._subscribers) == 1
            assert services.hub._followers.keys() == {"u-2"}
            assert services.hub._of_user.keys() == {"2"}
            assert services.presence._spaces == {}
            assert services.connections._of_user == {"2": 1}


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def _break_off(server: RunningServer, rng: random.Random, count: int) -> None:
    for start in range(0, count, 25):
        await asyncio.gather(*(_abort(server, rng, f"client_{start + index}") for index in range(25)))


async def _abort(server: RunningServer, rng: random.Random, client_id: str) -> None:
    """Go some way into a connection, then reset it."""
    frames = [
        {"type": "handshake", "client_id": client_id, "token": token_for("1"), "subscriptions": {"incremental": False}},
        {"type": "sync", "data": {"client_id": client_id, "operations": [create("op", title="x")]}},
        {"type": "presence", "space_id": "u-1", "state": {}},
        {"type": "subscribe"},
    ]
    async with raw_peer(server) as peer:
        steps = rng.randrange(7)
        if steps > 0:
            await peer.upgrade()
        for frame in frames[: max(0, steps - 1)]:
            peer.send(json.dumps(frame).encode())
        if rng.random() < 0.5:
            await peer.writer.drain()
        peer.writer.transport.abort()

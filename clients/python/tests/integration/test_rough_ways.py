"""What a hunt for broken promises found once: each test tells its story."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sync_client import ClosedError, InvalidInputError, LinkState
from sync_client.events import Lost
from sync_client.frames import Admission
from sync_client.ladder import LinkKind
from sync_client.links.http import HttpLink
from sync_client.links.port import LinkLostError
from sync_client.links.websocket import WebSocketLink
from sync_client.wire import JSON

from clients.python.tests.apps import BOUND_S, client_of, status_that, titles, until
from tests.harness import RunningServer, token_for


class TestACancelledWrite:
    async def test_goes_up_all_the_same(self, server: RunningServer, tmp_path: Path) -> None:
        """It was stored and shown, and nobody told the connection."""
        async with client_of(server.http_url, store=tmp_path / "a.db") as notes:
            await notes.settled(timeout_s=BOUND_S)
            write = asyncio.create_task(notes.create("note", title="x"))
            await asyncio.sleep(0)
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
            await until(notes, lambda: notes.query("note", title="x"))
            await notes.settled(timeout_s=BOUND_S)
            assert (await notes.query("note"))[0].version == 1


class TestClosing:
    async def test_ends_who_waits(self, server: RunningServer) -> None:
        async with client_of(server.http_url, connect=False) as notes:
            changes, statuses = notes.changes("note"), notes.statuses()
            waits = [asyncio.ensure_future(_count(changes)), asyncio.ensure_future(_count(statuses))]
            settling = asyncio.ensure_future(notes.settled())
            await asyncio.sleep(0)  # they begin
            await notes.create("note", title="x")
        async with asyncio.timeout(BOUND_S):
            await asyncio.gather(*waits)
            with pytest.raises(ClosedError):
                await settling


class TestAnotherScope:
    async def test_that_only_reads_takes_nothing_from_a_running_client(
        self, server: RunningServer, tmp_path: Path
    ) -> None:
        store = tmp_path / "a.db"
        async with client_of(server.http_url, store=store) as notes:
            await notes.create("note", title="x")
            await notes.settled(timeout_s=BOUND_S)
            async with client_of(server.http_url, store=store, entity_types=["folder"], connect=False) as reader:
                assert await titles(reader) == ["x"]
        async with client_of(server.http_url, store=store) as notes:
            await notes.settled(timeout_s=BOUND_S)
            assert await titles(notes) == ["x"]
            assert await notes.verify()


class TestPolls:
    async def test_are_live_at_once_though_there_is_nothing_new(self, server: RunningServer, tmp_path: Path) -> None:
        for _ in range(2):
            async with client_of(server.http_url, store=tmp_path / "a.db", links=["poll"]) as notes:
                await status_that(notes, lambda status: status.state is LinkState.LIVE, timeout_s=5)


class TestAWebSocketThatIsSentElsewhere:
    async def test_is_not_followed(self) -> None:
        """The handshake carries a token."""
        visits: list[str] = []

        async def elsewhere(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            visits.append("elsewhere")
            writer.close()

        other = await asyncio.start_server(elsewhere, "127.0.0.1", 0)
        place = f"ws://127.0.0.1:{other.sockets[0].getsockname()[1]}/"

        async def here(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(here, "127.0.0.1", 0)
        async with other, server:
            with pytest.raises(LinkLostError) as lost:
                await WebSocketLink.open(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", JSON)
        assert lost.value.lost == Lost("the server answered 302 to a WebSocket", is_odd=True)
        assert visits == []


class _Api:
    """Knows whose token is whose; there is nothing else to ask."""

    token = "of 1"

    async def owner(self, token: str) -> int:
        return {"of 1": 1, "newer of 1": 1, "of 2": 2}[token]

    async def get(self, *_: object, **__: object) -> bytes:
        return await asyncio.get_running_loop().create_future()


class TestARenewedTokenOverHttp:
    @pytest.mark.parametrize(("token", "asked_with"), [("newer of 1", "newer of 1"), ("of 2", "of 1")])
    async def test_is_used_only_if_it_is_of_the_same_user(self, token: str, asked_with: str) -> None:
        api: Any = _Api()
        link = await HttpLink.open(api, LinkKind.POLL)
        await link.send({"type": "handshake", "token": "of 1", "subscriptions": {}})
        greeting: Any = await link.receive()
        assert greeting.admission == Admission(1, None)
        await link.send({"type": "auth", "token": token})
        assert await link.receive() == Admission(int(token[-1]), None)
        assert api.token == asked_with
        await link.close()


class TestWhatNoServerCouldTake:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"fields": {"n": 2**70}}, {"fields": {"n": [-(2**64)]}}, {"space_id": 5}, {"space_id": "a b"},
            {"fields": {"a\0b": 1}},
        ],
    )  # fmt: skip
    async def test_is_refused_when_it_is_written(self, server: RunningServer, wrong: dict[str, Any]) -> None:
        async with client_of(server.http_url, connect=False) as notes:
            with pytest.raises(InvalidInputError):
                await notes.create("note", wrong.get("fields", {}), space_id=wrong.get("space_id"))
            assert await notes.query("note") == []

    async def test_deep_nesting_too(self, server: RunningServer) -> None:
        deep: Any = []
        for _ in range(5_000):
            deep = [deep]
        async with client_of(server.http_url, connect=False) as notes:
            with pytest.raises(InvalidInputError, match="must be JSON"):
                await notes.create("note", deep=deep)


class TestATokenFunction:
    async def test_that_is_cancelled_is_asked_again(self, server: RunningServer) -> None:
        calls = 0

        async def give() -> str:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise asyncio.CancelledError
            return token_for("1")

        async with client_of(server.http_url, token=give) as notes:
            await notes.settled(timeout_s=BOUND_S)
        assert calls == 2


async def _count(items: Any) -> int:
    return len([item async for item in items])

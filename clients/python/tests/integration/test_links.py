"""Which way is taken when the way is bad, and how the client behaves on it."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
from sync_client import LinkState, SyncClient, ladder, machine
from sync_client.events import Lost

from clients.python.tests.apps import BOUND_S, client_of, status_that, until
from clients.python.tests.proxy import running_proxy
from tests.harness import RunningServer, create, running_server


class TestAProxyThatForbids:
    async def test_websockets_is_passed_by_events(self, server: RunningServer) -> None:
        async with running_proxy(server.port) as proxy, client_of(proxy.url) as notes:
            proxy.forbids_websockets = True
            proxy.cut()
            await status_that(notes, lambda status: status.link == "events")
            await notes.create("note", title="x")
            await notes.settled(timeout_s=BOUND_S)

    async def test_streams_as_well_is_passed_by_polls(self, server: RunningServer) -> None:
        async with running_proxy(server.port) as proxy:
            proxy.forbids_websockets = proxy.forbids_streams = True
            async with client_of(proxy.url) as notes, server.client("1", "other") as other:
                await status_that(notes, lambda status: status.link == "poll", timeout_s=30)
                await other.do(create("op_1", title="x"))
                await until(notes, lambda: notes.query("note", title="x"))

    async def test_no_more_is_left_for_the_websocket(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ladder, "FIRST_LOOK_S", 0.2)
        async with running_proxy(server.port) as proxy:
            proxy.forbids_websockets = True
            async with client_of(proxy.url) as notes:
                await status_that(notes, lambda status: status.link == "events")
                asked = proxy.websockets
                # it looks up, is refused once more, and is back on the link that works
                await status_that(notes, lambda status: proxy.websockets > asked and status.link == "events")
                proxy.forbids_websockets = False
                await status_that(notes, lambda status: status.link == "websocket")
                await notes.create("note", title="x")
                await notes.settled(timeout_s=BOUND_S)


class TestAServerThat:
    async def test_is_full_is_asked_again_after_the_pause_it_wants(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That the machine waits so long is in its own tests; here the server's wish comes to it."""
        heard: list[Lost] = []
        lost = machine.Machine._lost
        monkeypatch.setattr(machine.Machine, "_lost", lambda *told: heard.append(told[1]) or lost(*told))
        async with (
            running_server(tmp_path / "server", max_connections=1) as server,
            server.client("2", "first"),
            client_of(server.http_url) as notes,
        ):
            status = await status_that(notes, lambda status: status.problem)
        assert status.state is LinkState.OFFLINE
        assert status.problem == "the server answered 503 to a WebSocket"
        assert heard[0].retry_after_s is not None
        assert heard[0].retry_after_s >= 1

    async def test_limits_operations_gets_them_all_in_the_end(self, tmp_path: Path) -> None:
        async with (
            running_server(tmp_path / "server", operations_per_minute=3_000) as server,
            client_of(server.http_url) as notes,
        ):
            async with asyncio.timeout(60):
                for number in range(200):
                    await notes.create("note", title=f"n{number}")
            await notes.settled(timeout_s=60)
            assert len(await notes.query("note")) == 200
            assert await notes.quarantine() == []

    async def test_goes_silent_is_left(self, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "GREETING_S", 0.3)
        async with running_proxy(server.port) as proxy:
            proxy.replies = False
            async with client_of(proxy.url, links=["websocket"]) as notes:
                await status_that(notes, lambda status: status.problem)
                proxy.replies = True
                await notes.settled(timeout_s=30)

    async def test_says_nonsense_loses_no_row(self, server: RunningServer) -> None:
        """A frame that cannot be read ends the connection; the cursor stays before it."""
        async with client_of(server.http_url) as notes, server.client("1", "other") as other:
            await notes.settled(timeout_s=BOUND_S)
            engine = notes._open._engine
            assert engine is not None
            link = engine._session.link
            codec = type(link._codec)()  # type: ignore[union-attr]
            told = codec.decode

            def broken(data: bytes | str) -> object:
                if b"secret-title" in (data if isinstance(data, bytes) else data.encode()):
                    link._codec = codec  # type: ignore[union-attr]
                    codec.decode = told  # type: ignore[method-assign]
                    return told('{"type": "server_updates", "updates": 7}')
                return told(data)

            codec.decode = broken  # type: ignore[method-assign, assignment]
            link._codec = codec  # type: ignore[union-attr]
            await other.do(create("op_1", title="secret-title"))
            await until(notes, lambda: notes.query("note", title="secret-title"))
            assert await notes.verify()


class TestAFirstSync:
    async def test_that_is_cut_goes_on_where_it_was(
        self, server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with server.client("1", "filler") as filler:
            for start in range(0, 4_000, 500):
                await filler.sync(*(create(f"op_{n}", title=f"n{n}") for n in range(start, start + 500)))
        async with running_proxy(server.port) as proxy:
            store = tmp_path / "a.db"
            with monkeypatch.context() as way:
                way.setattr(proxy, "_answers", partial(some_rows, most=3_000))
                async with client_of(proxy.url, store=store) as notes:
                    await until(notes, partial(has_rows, notes, 2_000), timeout_s=30)
                    proxy.target = None
                    proxy.cut()
                    await status_that(notes, lambda status: status.state is LinkState.OFFLINE)
                    before = len(await notes.query("note"))
            assert 2_000 <= before < 4_000
            proxy.target = server.port
            async with client_of(proxy.url, store=store) as notes:
                await notes.settled(timeout_s=30)
                engine = notes._open._engine
                assert engine is not None
                assert len(await notes.query("note")) == 4_000
                assert 4_000 - before <= engine.machine.rows_told < 4_000
                assert await notes.verify()


async def has_rows(notes: SyncClient, least: int) -> bool:
    return len(await notes.query("note")) >= least


async def some_rows(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, most: int) -> None:
    """Pass on what a server says until it told so many rows; the rest is swallowed."""
    rows = 0
    while data := await reader.read(65_536):
        if rows < most:
            writer.write(data)
            await writer.drain()
        rows += data.count(b"entity_id")

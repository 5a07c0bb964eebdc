"""The links against servers of a few lines: what each answer means for the machine."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from sync_client.engine import Engine, _Session
from sync_client.events import Lost, Opened, Profile, Received, Resume, Start
from sync_client.frames import Admission, Changes, Failure, Frame, Greeting, Results
from sync_client.ladder import LinkKind
from sync_client.links import api as api_module
from sync_client.links import http as http_module
from sync_client.links import websocket as websocket_module
from sync_client.links.api import Api
from sync_client.links.http import HttpLink
from sync_client.links.network import Internet
from sync_client.links.port import LinkLostError, parse_address
from sync_client.links.websocket import WebSocketLink
from sync_client.states import State
from sync_client.stores.memory import MemoryStore
from sync_client.wire import JSON, UnreadableFrameError
from websockets.asyncio.server import ServerConnection, serve

from clients.python.tests.builders import told
from clients.python.tests.shell import WELCOME

BOUND_S = 5.0
HANDSHAKE = {"type": "handshake", "token": "token", "subscriptions": {"incremental": False}}
SYNC = {"type": "sync", "message_id": "m1", "data": {"operations": []}}
SPACES = {"data": {"spaces": [{"space_id": "u-1", "is_personal": True, "owner": 1}]}}
HTML = "<html><body>Welcome to the hotel. Please log in.</body></html>"
ODD = (302, 307, 400, 403, 404, 500, 502, 504)
HONEST = (401, 429, 503)


def answer(status: int = 200, body: Any = None, **headers: str) -> bytes:
    """An answer as it goes over the wire; text is HTML, anything else JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    kind = "text/html" if isinstance(body, str) else "application/json"
    given = {"Content-Type": kind, "Content-Length": str(len(text)), "Connection": "close"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n{text}".encode()


def stream(*events: str) -> bytes:
    """Events, and then the end of the answer."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    return (head + "".join(f"data: {event}\n\n" for event in events)).encode()


class Server:
    """Answers each path with what it was told to; the rest with 404.

    Attributes:
        heads: of every request that came.
    """

    def __init__(self) -> None:
        self.answers = {"/spaces": answer(body=SPACES)}
        self.heads: list[str] = []
        self.port = 0

    @property
    def asked(self) -> list[str]:
        """The paths that were asked for, without queries."""
        return [head.split(" ", 2)[1].split("?")[0].removeprefix("/api/sync") for head in self.heads]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(self.answers.get(self.asked[-1], answer(404, HTML)))
            await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    fake = Server()
    listener = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = listener.sockets[0].getsockname()[1]
    yield fake
    listener.close()
    await listener.wait_closed()


@asynccontextmanager
async def http_link(server: Server, kind: LinkKind = LinkKind.EVENTS) -> AsyncIterator[HttpLink]:
    api = Api(f"http://127.0.0.1:{server.port}/api/sync", Internet().http)
    api.token = "secret"
    link = await HttpLink.open(api, kind)
    try:
        yield link
    finally:
        await link.close()
        await api.close()


async def said(link: HttpLink | WebSocketLink) -> Frame:
    async with asyncio.timeout(BOUND_S):
        return await link.receive()


async def end_of(link: HttpLink | WebSocketLink) -> Lost:
    """How the link ends; what it says before is passed over."""
    try:
        async with asyncio.timeout(BOUND_S):
            while True:
                await link.receive()
    except LinkLostError as error:
        return error.lost


class TestARequestOverHTTP:
    @pytest.mark.parametrize("status", [429, 503])
    async def test_is_repeated_when_the_server_wants_it(self, server: Server, status: int) -> None:
        refusal = {"error": "wait", "error_code": "RATE_LIMIT_EXCEEDED"}
        server.answers["/sync"] = answer(status, refusal, Retry_After="7")
        async with http_link(server) as link:
            await link.send(SYNC)
            failure = await said(link)
        assert isinstance(failure, Failure)
        assert (failure.message_id, failure.is_retryable, failure.retry_after_s) == ("m1", True, 7.0)

    async def test_answered_by_something_else_is_repeated_when_that_wants_it(self, server: Server) -> None:
        server.answers["/sync"] = answer(502, HTML, Retry_After="9")
        async with http_link(server) as link:
            await link.send(SYNC)
            failure = await said(link)
        assert isinstance(failure, Failure)
        assert (failure.problem.error_code, failure.is_retryable, failure.retry_after_s) == ("NETWORK_ERROR", True, 9.0)

    async def test_that_is_refused_for_good_says_so(self, server: Server) -> None:
        server.answers["/sync"] = answer(400, {"error": "no", "error_code": "VALIDATION_ERROR"})
        async with http_link(server) as link:
            await link.send(SYNC)
            failure = await said(link)
        assert isinstance(failure, Failure)
        assert (failure.problem.error_code, failure.is_retryable) == ("VALIDATION_ERROR", False)

    async def test_without_an_answer_is_repeated(self, server: Server) -> None:
        server.answers["/sync"] = b""
        async with http_link(server) as link:
            await link.send(SYNC)
            failure = await said(link)
        assert isinstance(failure, Failure)
        assert (failure.message_id, failure.is_retryable) == ("m1", True)

    async def test_answered_by_a_page_for_people_ends_the_link(self, server: Server) -> None:
        """It may have been done: nothing is guessed from what is no reply."""
        server.answers["/sync"] = answer(200, HTML)
        async with http_link(server) as link:
            await link.send(SYNC)
            with pytest.raises(UnreadableFrameError):
                await said(link)

    async def test_brings_its_reply(self, server: Server) -> None:
        data = {"operation_results": [], "server_updates": [], "conflicts": [], "new_client_state": {}}
        server.answers["/sync"] = answer(200, {"data": data})
        async with http_link(server) as link:
            await link.send(SYNC)
            results = await said(link)
        assert isinstance(results, Results)
        assert results.message_id == "m1"

    async def test_is_not_compressed_and_carries_the_token(self, server: Server) -> None:
        async with http_link(server) as link:
            link._api.token = "secret"
            await link.send(SYNC)
            await said(link)
        assert "Authorization: Bearer secret" in server.heads[0]
        assert "gzip" not in server.heads[0]


class TestAFeedOverHTTP:
    async def test_begins_with_whose_token_it_is(self, server: Server) -> None:
        server.answers["/events"] = stream('{"type": "caught_up", "cursor": "c1"}')
        async with http_link(server) as link:
            await link.send(HANDSHAKE)
            greeting = await said(link)
            assert isinstance(greeting, Greeting)
            assert greeting.admission == Admission(1, None)

    async def test_of_events_ends_the_link_with_itself(self, server: Server) -> None:
        server.answers["/events"] = stream('{"type": "reset"}')
        async with http_link(server) as link:
            await link.send(HANDSHAKE)
            lost = await end_of(link)
        assert (lost.reason, lost.is_odd) == ("the stream of events ended", False)

    @pytest.mark.parametrize("status", ODD)
    @pytest.mark.parametrize("path", ["/spaces", "/events", "/changes"])
    async def test_answered_by_something_on_the_way_is_odd(self, server: Server, path: str, status: int) -> None:
        server.answers[path] = answer(status, HTML, Location=f"http://127.0.0.1:{server.port}/login")
        async with http_link(server, LinkKind.POLL if path == "/changes" else LinkKind.EVENTS) as link:
            await link.send(HANDSHAKE)
            lost = await end_of(link)
        assert (lost.is_odd, lost.is_unauthorized) == (True, False)
        assert "/login" not in server.asked, "a token goes nowhere else"

    @pytest.mark.parametrize("status", HONEST)
    @pytest.mark.parametrize("path", ["/spaces", "/events", "/changes"])
    async def test_refused_by_the_server_is_not_odd(self, server: Server, path: str, status: int) -> None:
        server.answers[path] = answer(status, {"error": "no"}, Retry_After="5")
        async with http_link(server, LinkKind.POLL if path == "/changes" else LinkKind.EVENTS) as link:
            await link.send(HANDSHAKE)
            lost = await end_of(link)
        assert (lost.is_odd, lost.is_unauthorized, lost.retry_after_s) == (False, status == 401, 5.0)

    @pytest.mark.parametrize("path", ["/spaces", "/changes"])
    async def test_answered_by_a_page_for_people_ends_the_link(self, server: Server, path: str) -> None:
        server.answers[path] = answer(200, HTML)
        async with http_link(server, LinkKind.POLL) as link:
            await link.send(HANDSHAKE)
            with pytest.raises(UnreadableFrameError):
                await end_of(link)

    async def test_of_events_answered_by_a_page_for_people_is_odd(self, server: Server) -> None:
        server.answers["/events"] = answer(200, HTML)
        async with http_link(server) as link:
            await link.send(HANDSHAKE)
            assert (await end_of(link)).is_odd

    async def test_that_is_too_large_is_refused(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(api_module, "MAX_FRAME_BYTES", 1_000)
        server.answers["/changes"] = answer(body={"data": {"changes": [], "cursor": "c" * 1_000, "has_more": False}})
        async with http_link(server, LinkKind.POLL) as link:
            await link.send(HANDSHAKE)
            assert (await end_of(link)).is_odd

    async def test_of_an_event_that_is_too_large_is_refused(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_module, "MAX_FRAME_BYTES", 1_000)
        server.answers["/events"] = stream(json.dumps({"type": "caught_up", "cursor": "c" * 1_000}))
        async with http_link(server) as link:
            await link.send(HANDSHAKE)
            assert (await end_of(link)).reason != "the stream of events ended"


@asynccontextmanager
async def websocket_server(handler: Any, **options: Any) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, **options) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/api/sync/ws"


class TestAWebSocket:
    async def test_offers_its_codec_and_no_compression(self) -> None:
        """What is compressed needs memory for each connection, and its size tells what is in it."""
        seen = []

        async def handle(connection: ServerConnection) -> None:
            assert connection.request is not None
            seen.append(connection.request.headers)

        async with websocket_server(handle, subprotocols=["sync.v1.json"]) as url:
            link = await WebSocketLink.open(url, JSON)
            assert (await end_of(link)).code == 1000
        assert seen[0].get("Sec-WebSocket-Extensions") is None
        assert seen[0]["Sec-WebSocket-Protocol"] == "sync.v1.json"

    @pytest.mark.parametrize("status", [*ODD, *HONEST])
    async def test_refused_with_a_status_says_what_that_means(self, server: Server, status: int) -> None:
        server.answers["/ws"] = answer(status, HTML, Retry_After="5", Location="/login")
        with pytest.raises(LinkLostError) as refused:
            await WebSocketLink.open(f"ws://127.0.0.1:{server.port}/api/sync/ws", JSON)
        lost = refused.value.lost
        assert (lost.is_odd, lost.is_unauthorized, lost.retry_after_s) == (status in ODD, status == 401, 5.0)
        assert server.asked == ["/ws"], "a token goes nowhere else"

    @pytest.mark.parametrize("said", [answer(200, HTML), b"220 mail.example.org ESMTP\r\n\r\n", b""])
    async def test_of_no_websocket_server_is_odd(self, server: Server, said: bytes) -> None:
        server.answers["/ws"] = said
        with pytest.raises(LinkLostError) as refused:
            await WebSocketLink.open(f"ws://127.0.0.1:{server.port}/api/sync/ws", JSON)
        assert refused.value.lost.is_odd

    async def test_where_nobody_listens_is_not_odd(self) -> None:
        with pytest.raises(LinkLostError) as refused:
            await WebSocketLink.open("ws://127.0.0.1:1/api/sync/ws", JSON)
        assert not refused.value.lost.is_odd

    async def test_takes_no_frame_that_is_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(websocket_module, "MAX_FRAME_BYTES", 1_000)

        async def handle(connection: ServerConnection) -> None:
            await connection.send(json.dumps({"type": "caught_up", "cursor": "c" * 1_000}))
            await connection.wait_closed()

        async with websocket_server(handle) as url:
            lost = await end_of(await WebSocketLink.open(url, JSON))
        assert lost.code is None or lost.code < 4000

    async def test_that_is_closed_tells_the_code_and_the_reason(self) -> None:
        async def handle(connection: ServerConnection) -> None:
            await connection.close(4200, "token expired")

        async with websocket_server(handle) as url:
            lost = await end_of(await WebSocketLink.open(url, JSON))
        assert (lost.code, lost.reason, lost.is_odd) == (4200, "token expired", False)

    async def test_that_is_cut_is_odd(self) -> None:
        async def handle(connection: ServerConnection) -> None:
            connection.transport.abort()

        async with websocket_server(handle) as url:
            lost = await end_of(await WebSocketLink.open(url, JSON))
        assert (lost.code, lost.is_odd) == (None, True)


class TestTheEngine:
    @pytest.fixture
    async def engine(self) -> AsyncIterator[Engine]:
        """Ready, without a link: what comes is put where links put it."""
        store = MemoryStore()
        engine = Engine(
            store, parse_address("ws://localhost:1"), "token", Profile("client_a"), Resume(), codec=JSON,
            links=LinkKind, network=Internet(), changed=lambda: None,
        )  # fmt: skip
        for event in (Start(), Opened("token", has_heartbeat=True), Received(WELCOME)):
            engine.machine.handle(event, asyncio.get_running_loop().time())
        yield engine
        await store.close()

    async def test_hears_the_link_in_use_only(self, engine: Engine) -> None:
        """A frame of a link that was closed would else set a cursor of before a reset, or answer a newer request."""
        old = _Session()
        for event in (Received(Changes([told("a")], "old")), Lost("cut", code=4500)):
            await engine._put(old, event)
            await engine._turn()
        assert (engine.machine.state, engine.machine.cursor) == (State.CATCHING_UP, None)
        await engine._put(engine._session, Received(Changes([told("a")], "new")))
        await engine._turn()
        assert engine.machine.cursor == "new"

    async def test_hears_nothing_of_a_link_once_it_is_closed(self, engine: Engine) -> None:
        session = engine._session
        await engine._put(session, Lost("cut"))
        await engine._put(session, Received(Changes([told("a")], "old")))
        for _ in range(2):
            await engine._turn()
        assert (engine.machine.state, engine.machine.cursor) == (State.WAITING, None)

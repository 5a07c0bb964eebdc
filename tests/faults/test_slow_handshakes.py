"""Peers that take their time before they are anybody (rows 1 and 9 of what a server must survive)."""

import asyncio
from pathlib import Path

import pytest

from sync_server.auth import issue_token
from sync_server.clock import now_ms
from sync_server.types import UserId
from tests.faults.peers import raw_peer, until
from tests.harness import SECRET, RunningServer, create, open_client, running_server, token_for

FROM_PAGE = "https://evil.example"


class TestATcpConnection:
    async def test_that_says_nothing_is_closed_at_the_deadline(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sync_server.server.HEADER_DEADLINE_S", 0.2)
        async with raw_peer(server) as peer:
            await peer.ended()

    async def test_that_sends_a_byte_now_and_then_is_closed_at_the_deadline(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sync_server.server.HEADER_DEADLINE_S", 0.3)
        async with raw_peer(server) as peer:
            ended = asyncio.create_task(peer.ended())
            for byte in b"GET /api/sync/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: " + b"y" * 1_000:
                peer.writer.write(bytes([byte]))
                if (await asyncio.wait({ended}, timeout=0.02))[0]:
                    break
            await ended

    @pytest.mark.parametrize("more", [b"GET /healthz HTTP/1.1\r\nHost:", b"\r\n"], ids=["half a request", "empty line"])
    async def test_that_leaves_its_second_request_unfinished_is_closed_at_the_deadline(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch, more: bytes
    ) -> None:
        monkeypatch.setattr("sync_server.server.HEADER_DEADLINE_S", 0.3)
        async with raw_peer(server) as peer:
            peer.writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            head = await peer.reader.readuntil(b"\r\n\r\n")
            peer.writer.write(more)
            await peer.ended()
        assert b" 200 " in head

    async def test_that_sends_headers_without_end_is_refused(self, server: RunningServer) -> None:
        async with raw_peer(server) as peer:
            peer.writer.write(b"GET /healthz HTTP/1.1\r\n" + b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 2_100)
            head = await peer.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 431 ")

    async def test_may_send_a_large_body_and_ask_again(self, server: RunningServer) -> None:
        async with server.http() as http:
            body = {"client_id": "a", "operations": [create("op_001", title="x", content="y" * 200_000)]}
            statuses = [(await http.post("/api/sync/sync", json=body)).status_code for _ in range(3)]
        assert statuses == [200, 200, 200]

    async def test_among_hundreds_hinders_nobody(self, server: RunningServer) -> None:
        peers = [raw_peer(server) for _ in range(300)]
        await asyncio.gather(*(peer.__aenter__() for peer in peers))
        async with server.client() as client:
            assert (await client.sync())["status"] == "success"
        await asyncio.gather(*(peer.__aexit__(None, None, None) for peer in peers))


class TestAnUpgrade:
    @pytest.mark.parametrize("first", [None, b'{"type": "ping"}', b'{"type": "handshake", "client_id": "x"}'])
    async def test_without_a_token_is_closed_at_the_deadline(self, tmp_path: Path, first: bytes | None) -> None:
        async with running_server(tmp_path, auth_deadline_s=0.2) as server, raw_peer(server) as peer:
            assert await peer.upgrade() == 101
            if first is not None:
                peer.send(first)
            assert await peer.close_code() == 4201
            await until(lambda: len(server.services.connections) == 0)

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 101),
            ({"Origin": "http://127.0.0.1"}, 101),
            ({"Origin": FROM_PAGE}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://127.0.0.1.evil.example"}, 403),
        ],
    )
    async def test_is_refused_to_foreign_pages(
        self, server: RunningServer, headers: dict[str, str], status: int
    ) -> None:
        async with raw_peer(server) as peer:
            assert await peer.upgrade(**headers) == status

    async def test_is_allowed_to_named_pages(self, tmp_path: Path) -> None:
        async with running_server(tmp_path, allowed_origins=FROM_PAGE) as server, raw_peer(server) as peer:
            assert await peer.upgrade(Origin=FROM_PAGE) == 101

    async def test_is_refused_to_an_address_that_connects_too_often(self, tmp_path: Path) -> None:
        async with running_server(tmp_path, connects_per_minute=2) as server:
            statuses = []
            for _ in range(3):
                async with raw_peer(server) as peer:
                    statuses.append(await peer.upgrade())
        assert statuses == [101, 101, 429]

    async def test_is_refused_when_the_server_is_full_until_there_is_room(self, tmp_path: Path) -> None:
        async with running_server(tmp_path, max_connections=1) as server:
            async with server.client(), raw_peer(server) as peer:
                assert await peer.upgrade() == 503
            await until(lambda: len(server.services.connections) == 0)
            async with server.client():
                pass

    async def test_is_refused_while_the_server_drains(self, server: RunningServer) -> None:
        server.services.connections.draining.set()
        async with raw_peer(server) as peer:
            assert await peer.upgrade() == 503


def unsigned() -> str:
    import jwt

    claims = {"sub": "1", "aud": "authenticated", "exp": now_ms() // 1000 + 60}
    return jwt.encode(claims, None, algorithm="none")


TOKENS = {
    "garbage": ("not a token", 4500),
    "empty": ("", 4500),
    "unsigned": (unsigned(), 4500),
    "another key": (issue_token("x" * 32, UserId("1"), ttl_s=60, now=now_ms()), 4500),
    "another audience": (issue_token(SECRET, UserId("1"), ttl_s=60, now=now_ms(), audience="anybody"), 4500),
    "expired": (token_for("1", ttl_s=-3_600), 4200),
}


class TestAToken:
    @pytest.mark.parametrize("by", ["handshake", "auth"])
    @pytest.mark.parametrize(("token", "code"), TOKENS.values(), ids=TOKENS)
    async def test_that_is_not_good_is_turned_away(self, server: RunningServer, token: str, code: int, by: str) -> None:
        async with open_client(server.ws_url, "client_a") as client:
            reply = await client.greet(token=token if by == "handshake" else None)
            if by == "auth":
                await client.send(type="auth", message_id="a", token=token)
                reply = {"auth": await client.next("auth")}
            assert await client.close_code() == code
        assert (reply["auth"]["success"], reply["auth"]["error_code"]) == (False, "UNAUTHORIZED")

    async def test_may_be_replaced_by_a_newer_one_of_the_same_user(self, server: RunningServer) -> None:
        async with server.client() as client:
            await client.send(type="auth", message_id="a", token=token_for("1", ttl_s=7_200))
            assert (await client.next("auth"))["success"]
            assert (await client.sync())["status"] == "success"


class TestAClient:
    async def test_that_connects_again_replaces_its_older_connection(self, server: RunningServer) -> None:
        async with server.client() as older, server.client() as newer:
            error = await older.next("error")
            goodbye = await older.next("goodbye")
            assert await older.close_code() == 4505
            assert (await newer.sync())["status"] == "success"
        assert (error["error_code"], goodbye["reconnect"]) == ("CONNECTION_REPLACED", False)

    async def test_beyond_the_users_limit_is_turned_away(self, tmp_path: Path) -> None:
        async with running_server(tmp_path, max_connections_per_user=2) as server:
            async with server.client(client_id="a"), server.client(client_id="b") as b:
                async with open_client(server.ws_url, "c") as third:
                    await third.greet(token=token_for("1"))
                    assert await third.close_code() == 4504
                async with server.client("2"), server.client(client_id="a"):
                    assert (await b.sync())["status"] == "success"
            await until(lambda: len(server.services.connections) == 0)
            async with server.client(client_id="c"):
                pass

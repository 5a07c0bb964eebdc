"""Frames that no client should send (rows 5 to 8 and 19): a typed error or a close, and the server lives."""

import asyncio
import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from websockets.frames import Frame, Opcode

from tests.faults.peers import RawPeer, raw_peer, until
from tests.faults.processes import MANY, resident_bytes
from tests.harness import (
    RunningServer,
    ServerProcess,
    create,
    open_client,
    running_server,
    server_process,
    token_for,
)  # fmt: skip

LIMIT = 262_144


def handshake(client_id: str = "raw") -> bytes:
    message = {"type": "handshake", "client_id": client_id, "token": token_for("1")}
    return json.dumps(message).encode()


async def ready(peer: RawPeer, client_id: str = "raw") -> None:
    await peer.upgrade()
    peer.send(handshake(client_id))


BROKEN: dict[str, tuple[Callable[[RawPeer], None], int]] = {
    "unmasked": (lambda peer: peer.send(b"{}", mask=False), 1002),
    "a reserved bit": (lambda peer: peer.writer.write(b"\xc1\x80\x00\x00\x00\x00"), 1002),
    "a reserved opcode": (lambda peer: peer.writer.write(b"\x83\x80\x00\x00\x00\x00"), 1002),
    "a fragmented ping": (lambda peer: peer.writer.write(b"\x09\x80\x00\x00\x00\x00"), 1002),
    "a long ping": (lambda peer: peer.writer.write(b"\x89\xfe\x00\x7e" + b"\0" * 130), 1002),
    "a continuation of nothing": (lambda peer: peer.send(b"x", Opcode.CONT), 1002),
    "invalid UTF-8": (lambda peer: peer.send(b"\xff\xfe"), 1007),
    "2^63 bytes declared": (lambda peer: peer.writer.write(b"\x81\xff" + (2**63 - 1).to_bytes(8) + b"\0" * 4), 1009),
    "a binary frame": (lambda peer: peer.send(b"{}", Opcode.BINARY), 4502),
    "no JSON": (lambda peer: peer.send(b"{"), 4502),
    "no object": (lambda peer: peer.send(b"[]"), 4502),
    "NaN": (lambda peer: peer.send(b'{"type": "ping", "timestamp": NaN}'), 4502),
    "a lone surrogate": (lambda peer: peer.send(b'{"type": "ping", "timestamp": "\\ud800"}'), 4502),
    "deep nesting": (lambda peer: peer.send(b'{"type":"ping","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), 4502),
    "deep nesting, cut": (lambda peer: peer.send(b'{"type":"ping","x":' + b"[" * 100_000), 4502),
    "a frame over the limit": (lambda peer: peer.send(b" " * (LIMIT + 1)), 4502),
}


class TestABrokenFrame:
    @pytest.mark.parametrize(("send", "code"), BROKEN.values(), ids=BROKEN)
    async def test_closes_its_connection_and_no_other(
        self, server: RunningServer, send: Callable[[RawPeer], None], code: int, capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        async with server.client() as client:
            async with raw_peer(server) as peer:
                await ready(peer)
                send(peer)
                assert await peer.close_code() == code
            assert (await client.sync())["status"] == "success"
        assert "Traceback" not in capsys.readouterr().out
        assert not [record for record in caplog.records if record.exc_info]

    async def test_costs_the_process_nothing(self, tmp_path: Path) -> None:
        """What is declared is not allocated, what is refused is let go of, and nothing is a traceback."""
        with server_process(tmp_path, **MANY) as process:
            await _send_all(process, 2)
            before = resident_bytes(process.pid)
            await _send_all(process, 5)
            grown = resident_bytes(process.pid) - before
        assert grown < 8 * 2**20
        assert "Traceback" not in "".join(process.output)

    async def test_of_compressed_data_is_not_taken_as_nobody_agreed_on_it(self, server: RunningServer) -> None:
        bomb = zlib.compress(b" " * 50_000_000, wbits=-15)
        async with raw_peer(server) as peer:
            assert await peer.upgrade(**{"Sec-WebSocket-Extensions": "permessage-deflate"}) == 101
            frame = Frame(Opcode.TEXT, bomb).serialize(mask=True)
            peer.writer.write(bytes([frame[0] | 0x40]) + frame[1:])
            assert await peer.close_code() == 1002

    async def test_after_a_close_is_not_read(self, server: RunningServer) -> None:
        async with server.client() as client, raw_peer(server) as peer:
            await ready(peer)
            note = {"type": "sync", "data": {"client_id": "raw", "operations": [create("op_late", title="late")]}}
            peer.send((1000).to_bytes(2), Opcode.CLOSE)
            peer.send(json.dumps(note).encode())
            assert await peer.close_code() == 1000
            await peer.ended()
            assert (await client.sync())["server_updates"] == []

    async def test_of_invalid_utf8_over_fragments_is_1007(self, server: RunningServer) -> None:
        async with raw_peer(server) as peer:
            await ready(peer)
            peer.send(b'{"type": "\xe2\x82', fin=False)
            peer.send(b'", "x": 1}', Opcode.CONT)
            assert await peer.close_code() == 1007

    async def test_before_a_token_has_a_smaller_limit(self, server: RunningServer) -> None:
        async with raw_peer(server) as peer:
            await peer.upgrade()
            peer.send(b" " * 16_385)
            assert await peer.close_code() == 4502


async def _send_all(process: ServerProcess, times: int) -> None:
    for round_ in range(times):
        for number, (send, code) in enumerate(BROKEN.values()):
            async with raw_peer(process) as peer:
                await ready(peer, f"raw_{round_}_{number}")  # one that still greets must not replace the next
                send(peer)
                assert await peer.close_code() == code


class TestAFrame:
    async def test_of_exactly_the_limit_is_taken(self, server: RunningServer) -> None:
        async with server.client() as client:
            text = json.dumps({"type": "ping", "message_id": "p"})
            await client.ws.send(text + " " * (LIMIT - len(text)))
            assert (await client.next("pong"))["message_id"] == "p"

    async def test_split_into_single_bytes_is_taken(self, server: RunningServer) -> None:
        async with raw_peer(server) as peer:
            await peer.upgrade()
            text = handshake()
            peer.send(text[:1], fin=False)
            for index in range(1, len(text) - 1):
                peer.send(text[index : index + 1], Opcode.CONT, fin=False)
            peer.send(text[-1:], Opcode.CONT)
            await until(lambda: server.services.connections.count_of("1") == 1)  # type: ignore[arg-type]


ODD: dict[str, dict[str, Any]] = {
    "an unknown type": {"type": "nothing"},
    "no type": {},
    "a type that is a number": {"type": 7},
    "sync without data": {"type": "sync"},
    "operations that are no list": {"type": "sync", "data": {"client_id": "client_a", "operations": {}}},
    "another client": {"type": "sync", "data": {"client_id": "somebody", "operations": []}},
    "too many operations": {"type": "sync", "data": {"client_id": "client_a", "operations": [None] * 1_001}},
    "a page of nothing": {"type": "sync", "data": {"client_id": "client_a", "batch_size": 0}},
    "a page of 2^64": {"type": "sync", "data": {"client_id": "client_a", "batch_size": 2**64}},
    "a bad cursor": {"type": "sync", "data": {"client_id": "client_a", "client_state": {"cursor": "x"}}},
    "a huge cursor": {"type": "subscribe", "cursor": "x" * 513},
    "a forged cursor": {"type": "subscribe", "cursor": "MS5lMS4tMQ"},
    "a bad moment": {"type": "sync", "data": {"client_id": "client_a", "client_state": {"last_sync_time": "soon"}}},
    "a bad space": {"type": "subscribe", "spaces": ["a/b"]},
    "a future protocol": {"type": "sync", "data": {"client_id": "client_a", "protocol_version": "2.0.0"}},
    "presence elsewhere": {"type": "presence", "space_id": "elsewhere", "state": {}},
    "a long presence": {"type": "presence", "space_id": "u-1", "state": {"x": "y" * 5_000}},
    "a long client id": {"type": "sync", "data": {"client_id": "c" * 10_000, "operations": []}},
    "a long conflict id": {"type": "conflict", "resolution": {"conflict_id": "c" * 100_000, "strategy": "merge"}},
    "an unknown strategy": {"type": "conflict", "resolution": {"conflict_id": "c", "strategy": "coin"}},
}


class TestAnOddMessage:
    @pytest.mark.parametrize("message", ODD.values(), ids=ODD)
    async def test_is_answered_with_a_typed_error(self, server: RunningServer, message: dict[str, Any]) -> None:
        async with server.client() as client:
            await client.send(message_id="odd", **message)
            error = await client.next("error")
            assert (await client.sync())["status"] == "success"
        assert error["message_id"] == "odd"
        assert error["error_code"] in {"VALIDATION_ERROR", "NOT_FOUND"}
        assert not error["retryable"]

    @pytest.mark.parametrize(
        "fields",
        [
            {"title": "\u0000"}, {"title": 2**64}, {"title": "x" * 1_001}, {"content": None}, {"tags": ["x"] * 201},
            {"folder_id": -1}, {"folder_id": 2**53}, {"folder_id": "a b"}, {"is_pinned": "yes"}, {"tags": [[["x"]]]},
        ],
    )  # fmt: skip
    async def test_value_is_stored_as_it_is_or_rejected(self, server: RunningServer, fields: dict[str, Any]) -> None:
        async with server.client() as client:
            result = await client.do(create("op_1", **fields))
            assert (await client.do(create("op_2", title="next")))["success"]
        assert result["success"] == (fields == {"title": "\u0000"})
        assert result["success"] or result["error_code"] in {"VALIDATION_ERROR", "NOT_FOUND"}

    @pytest.mark.parametrize("version", [-1, 2**63, 2**64, 1.5, "1", True])
    async def test_version_is_rejected(self, server: RunningServer, version: Any) -> None:
        async with server.client() as client:
            await client.do(create("op_1", entity_id="n", title="x"))
            result = await client.do(
                {
                    "operation_id": "op_2", "operation_type": "update", "entity_type": "note", "entity_id": "n",
                    "before_version": version, "changes": {"title": "y"},
                }
            )  # fmt: skip
        assert result["error_code"] == "VALIDATION_ERROR"

    @pytest.mark.parametrize(
        "payload",
        [
            b"\xc1", b"\xdf\xff\xff\xff\xff", b"\x81\xa1a\xc4\x01x", b"\x81\x01\x01",
            b"\x81\xa4type\xcb\x7f\xf8\0\0\0\0\0\0",
            msgpack.packb([1]), msgpack.packb({"type": "ping"}) + b"\x00",
        ],
    )  # fmt: skip
    async def test_in_msgpack_closes_its_connection(self, server: RunningServer, payload: bytes) -> None:
        async with open_client(server.ws_url, "packed", subprotocols=["sync.v1.msgpack"]) as client:
            await client.greet(token=token_for("1"))
            await client.ws.send(payload)
            assert await client.close_code() == 4502


class TestAFlood:
    @pytest.mark.parametrize(
        ("frame", "opcode"),
        [
            (b'{"type":"ping"}', Opcode.TEXT),
            (b"{}", Opcode.TEXT),
            (b"", Opcode.PING),
            (b"x" * 125, Opcode.PING),
            (b"", Opcode.PONG),
            (b"", Opcode.CONT),
        ],
        ids=["pings", "errors", "control pings", "long control pings", "control pongs", "empty fragments"],
    )
    async def test_is_closed_while_others_are_served(self, tmp_path: Path, frame: bytes, opcode: Opcode) -> None:
        async with (
            running_server(tmp_path, frames_burst=100, frames_per_second=50) as server,
            server.client(client_id="victim") as victim,
            raw_peer(server) as peer,
        ):
            await ready(peer)
            if opcode is Opcode.CONT:
                peer.send(b"{", fin=False)
            flood = asyncio.create_task(_flood(peer, frame, opcode))
            slowest = 0.0
            for _ in range(40):
                started = time.monotonic()
                await victim.send(type="ping")
                await victim.next("pong")
                slowest = max(slowest, time.monotonic() - started)
            closed = await peer.close_code()
            await flood
        assert closed in {4101, None}
        assert slowest < 2


async def _flood(peer: RawPeer, payload: bytes, opcode: Opcode) -> None:
    """As fast as the connection takes it, until it is gone."""
    from websockets.frames import Frame

    chunk = Frame(opcode, payload, fin=opcode is not Opcode.CONT).serialize(mask=True) * 500
    try:
        while not peer.reader.at_eof():
            peer.writer.write(chunk)
            await peer.writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        return

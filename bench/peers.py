"""Clients that cost as little as possible: plain sockets, RFC 6455 by hand, many of them in one thread."""

import json
import select
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sync_server.auth import issue_token
from sync_server.clock import now_ms
from sync_server.types import UserId

SECRET = "a secret for benchmarks, at least 32 bytes"
TIMEOUT_S = 30.0
"""The bound of every wait for something that must come."""
RECEIVE_BYTES = 1 << 16
"""Read at once. A buffer of a megabyte for each small frame costs more than the frame, and the reader is the limit."""
WAVE = 100
"""How many connections are opened at a time: fewer than a listening socket's backlog holds."""

_UPGRADE = (
    b"GET /api/sync/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Peer:
    """One WebSocket to a server on this machine. Calls block, with a deadline.

    Attributes:
        cursor: where the client stood when it became READY; "" before.
    """

    cursor = ""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self.socket.sendall(_UPGRADE)

    def finish_upgrade(self) -> None:
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._receive()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if b" 101 " not in head:
            raise ConnectionError(head.decode())
        self._buffer = bytearray(rest)

    def send(self, frame: bytes) -> None:
        """Write a frame made by `masked`."""
        self.socket.sendall(frame)

    def payloads(self) -> list[bytes]:
        """The payloads of the frames that are complete after reading once."""
        self._buffer += self._receive()
        return take_payloads(self._buffer)

    def wait_for(self, kind: str) -> dict[str, Any]:
        """The next message of a type; frames before it are dropped."""
        message: dict[str, Any] = json.loads(self.next_payload(f'"{kind}"'.encode()))
        return message

    def next_payload(self, mark: bytes) -> bytes:
        """The next frame that begins with this among its first members; frames beside it are dropped."""
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until:
            for payload in self.payloads():
                if mark in payload[:100]:
                    return payload
        raise TimeoutError(mark.decode())

    def close(self) -> None:
        self.socket.close()

    def _receive(self) -> bytes:
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the server closed a connection")
        return data


class Poll:
    """Which of many peers have something to read."""

    def __init__(self, peers: Iterable[Peer]) -> None:
        self._epoll = select.epoll()
        self._peers = {peer.socket.fileno(): peer for peer in peers}
        for descriptor in self._peers:
            self._epoll.register(descriptor, select.EPOLLIN)

    def ready(self, timeout_s: float) -> list[Peer]:
        return [self._peers[descriptor] for descriptor, _ in self._epoll.poll(timeout_s, len(self._peers))]

    def close(self) -> None:
        self._epoll.close()


def masked(payload: bytes) -> bytes:
    """The text frame of a client. The mask is zero: legal to read, and it costs this side nothing."""
    size = len(payload)
    if size < 126:
        head = bytes([0x81, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([0x81, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x81, 0x80 | 127]) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def take_payloads(buffer: bytearray) -> list[bytes]:
    """Cut the complete frames of a server off the front of the buffer."""
    payloads = []
    start = 0
    while len(buffer) - start >= 2:
        size, head = buffer[start + 1], 2
        if size == 126:
            size, head = int.from_bytes(buffer[start + 2 : start + 4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(buffer[start + 2 : start + 10], "big"), 10
        if len(buffer) < start + head + size:
            break
        payloads.append(bytes(buffer[start + head : start + head + size]))
        start += head + size
    del buffer[:start]
    return payloads


def token_for(user: str) -> str:
    return issue_token(SECRET, UserId(user), ttl_s=86_400, now=now_ms())


def open_bare(port: int, count: int) -> list[Peer]:
    """WebSockets that have said nothing yet."""
    return [peer for wave in _waves(range(count)) for peer in _upgraded(port, len(wave))]


def open_clients(
    port: int, names: Sequence[tuple[str, str]], *, batches: bool = False, **greeting: object
) -> list[Peer]:
    """READY clients, in the order of their (user, client_id)."""
    tokens = {user: token_for(user) for user, _ in names}
    peers: list[Peer] = []
    for wave in _waves(names):
        fresh = _upgraded(port, len(wave))
        for peer, (user, client_id) in zip(fresh, wave, strict=True):
            peer.send(handshake(tokens[user], client_id, batches=batches, **greeting))
        for peer in fresh:
            reply = peer.wait_for("handshake")
            if not reply["auth"]["success"]:
                raise ConnectionError(str(reply))
            peer.cursor = reply["auth"]["cursor"]
        peers += fresh
    return peers


def handshake(token: str, client_id: str, *, batches: bool, **greeting: object) -> bytes:
    capabilities = ["batch_updates"] if batches else []
    message = {"type": "handshake", "client_id": client_id, "token": token, "capabilities": capabilities, **greeting}
    return masked(json.dumps(message).encode())


def _upgraded(port: int, count: int) -> list[Peer]:
    peers = [Peer(port) for _ in range(count)]
    for peer in peers:
        peer.finish_upgrade()
    return peers


def _waves(names: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (names[start : start + WAVE] for start in range(0, len(names), WAVE))

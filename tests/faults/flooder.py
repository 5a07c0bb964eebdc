"""A process that floods a server until it is killed: `flooder.py PORT TOKEN KIND`; connects again when it is closed."""

import socket
import sys
import threading
from contextlib import suppress

from websockets.frames import Frame, Opcode

from bench.peers import Peer, handshake

KINDS = {
    "pings": Frame(Opcode.TEXT, b'{"type":"ping"}').serialize(mask=True) * 500,
    "errors": Frame(Opcode.TEXT, b"{}").serialize(mask=True) * 500,
    "control pings": Frame(Opcode.PING, b"x" * 125).serialize(mask=True) * 200,
    "empty fragments": Frame(Opcode.CONT, b"", fin=False).serialize(mask=True) * 500,
    "single bytes": Frame(Opcode.TEXT, b'{"type":"ping"}' + b" " * 200_000).serialize(mask=True),
}


def main(port: str, token: str, kind: str) -> None:
    number = 0
    while True:
        number += 1
        with suppress(OSError):
            peer = Peer(int(port))
            peer.finish_upgrade()
            peer.send(handshake(token, f"flooder_{number}", batches=False))
            threading.Thread(target=_drain, args=(peer,), daemon=True).start()
            if kind == "empty fragments":
                peer.send(Frame(Opcode.TEXT, b"{", fin=False).serialize(mask=True))
            while True:
                _send(peer.socket, kind)


def _send(sock: socket.socket, kind: str) -> None:
    if kind == "single bytes":
        for byte in KINDS[kind]:
            sock.send(bytes([byte]))
    else:
        sock.sendall(KINDS[kind])


def _drain(peer: Peer) -> None:
    """Read what comes until the connection ends."""
    with suppress(OSError):
        while peer.socket.recv(65_536):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])

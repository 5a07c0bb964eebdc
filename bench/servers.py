"""What is measured, as a process of its own on a core of its own: the server, or a bare one to compare it with."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, NamedTuple

from bench.machine import SERVER_CORE, pinned
from bench.peers import SECRET

_ROOT = Path(__file__).parent.parent
_UNLIMITED = "100000000"
_SETTINGS = {
    "SYNC_AUTH_SECRET": SECRET,
    "SYNC_LOG_LEVEL": "warning",
    "SYNC_MAX_MESSAGE_BYTES": "1048576",
    "SYNC_MAX_CONNECTIONS": _UNLIMITED,
    "SYNC_MAX_CONNECTIONS_PER_USER": _UNLIMITED,
    "SYNC_CONNECTS_PER_MINUTE": _UNLIMITED,
    "SYNC_OPERATIONS_PER_MINUTE": _UNLIMITED,
    "SYNC_FRAMES_PER_SECOND": _UNLIMITED,
    "SYNC_FRAMES_BURST": _UNLIMITED,
    "SYNC_HEARTBEAT_INTERVAL_S": "3600",
}
"""Limits out of the way, everything else as it comes; subscribers that only count answer no ping."""


class Served(NamedTuple):
    port: int
    pid: int


@contextmanager
def sync_server(data_dir: Path, *, log: Path | None = None) -> Iterator[Served]:
    """The server as people start it, on the server's core, until the block ends.

    Args:
        log: a new file for everything that the server has to log; by default warnings go to standard error.
    """
    port = _free_port()
    environment = {**_inherited(), **_SETTINGS, "SYNC_DATA_DIR": str(data_dir), "SYNC_PORT": str(port)}
    if log is not None:
        environment |= {"SYNC_LOG_LEVEL": "debug", "SYNC_LOG_FORMAT": "json"}
    with (
        log.open("w") if log is not None else nullcontext() as errors,
        _process([sys.executable, "run_server.py"], environment, ready=b"ws://", errors=errors) as pid,
    ):
        yield Served(port, pid)


@contextmanager
def bare_server() -> Iterator[Served]:
    """`bench.bare_server` on the server's core, until the block ends."""
    port = _free_port()
    with _process([sys.executable, "-m", "bench.bare_server", str(port)], _inherited(), ready=b"ws://") as pid:
        yield Served(port, pid)


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], *, ready: bytes, errors: IO[str] | None = None
) -> Iterator[int]:
    with pinned(SERVER_CORE):  # a process begins on the cores of its parent
        process = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors)
    assert process.stdout is not None
    try:
        if not any(ready in line for line in process.stdout):
            raise ConnectionError("the server did not start")
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SYNC_")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

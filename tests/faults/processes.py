"""What a server process costs and says, seen from outside, and what is needed to take something away from it."""

import asyncio
import os
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.harness import Client, RunningServer, ServerProcess, running_server

MANY = {
    "SYNC_CONNECTS_PER_MINUTE": "100000000",
    "SYNC_OPERATIONS_PER_MINUTE": "100000000",
    "SYNC_FRAMES_BURST": "1000000",
    "SYNC_MAX_CONNECTIONS": "100000",
    "SYNC_MAX_CONNECTIONS_PER_USER": "100000",
}
"""Limits out of the way of a crowd that comes from one address."""
ALTERED = "tests/faults/altered_server.py"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and network namespaces need root")


def sizes(small: int, large: int) -> pytest.MarkDecorator:
    """One test, `count` small in every run and large under `make soak`."""
    return pytest.mark.parametrize("count", [small, pytest.param(large, marks=pytest.mark.soak)])


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def metric(process: ServerProcess, name: str) -> float:
    """The sum of a metric over its labels; `name` may go on with a label, as in `x_total{code="4100"`."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{process.port}/metrics", timeout=60)).text
    lines = re.findall(rf"^{re.escape(name)}[^ ]* (\S+)$", text, re.MULTILINE)
    return sum(float(line) for line in lines)


async def until_async(holds: Callable[[], Awaitable[bool]], *, within_s: float) -> float:
    """Ask until it is so; returns how many seconds that took."""
    started = time.monotonic()
    async with asyncio.timeout(within_s):
        while not await holds():
            await pause(0.05)
    return time.monotonic() - started


async def pause(seconds: float) -> None:
    """The pace of a load; nothing is expected to happen meanwhile."""
    await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=seconds)


async def round_trips_ms(client: Client, count: int) -> list[float]:
    """How long each of so many pings took to be answered, at most a hundred a second."""
    took = []
    for _ in range(count):
        started = time.monotonic()
        await client.send(type="ping")
        await client.next("pong", timeout_s=30)
        took.append((time.monotonic() - started) * 1_000)
        await pause(0.01)
    return took


def spread(values_ms: Sequence[float]) -> str:
    ordered = sorted(values_ms)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    return f"p50 {statistics.median(ordered):.1f} ms, p99 {p99:.1f} ms, worst {ordered[-1]:.1f} ms"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def small_disk(directory: Path, *, size: str) -> Iterator[Path]:
    """A file system of its own of that size."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Take all room that is left on the disk, by a file that can be removed."""
    ballast = directory / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4_096):
            pass
    return ballast


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


async def prepare(data_dir: Path, prepare_it: Callable[[RunningServer], Awaitable[None]]) -> None:
    """Let a server in this process fill the data directory, before a process serves it."""
    async with running_server(data_dir) as server:
        await prepare_it(server)

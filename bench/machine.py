"""The machine a benchmark runs on: its description, its cores, and what a process costs it."""

import os
import platform
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = _CORES[0]
"""Where whatever is measured runs: the server, or the raw work that it is compared with."""
CLIENT_CORE = _CORES[-1]
_PACKAGES = ("uvicorn", "uvloop", "websockets", "orjson", "pydantic")


def print_heading(title: str, data_dir: Path) -> None:
    """Print what is measured, where, when and with which versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    print(f"\n{title}")
    print(f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {_processor()}, {os.cpu_count()} cores", end=", ")
    print(f"load {os.getloadavg()[0]:.1f}, fsync {_fsync_ms(data_dir):.1f} ms")
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {packages}; {platform.system()}")


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this thread on one core within the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def resident_bytes(pid: int) -> int:
    """The memory that a process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """The processor time that a process has taken since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _fsync_ms(directory: Path) -> float:
    """The median of some small durable writes in this directory."""
    path = directory / "fsync"
    taken = []
    with path.open("wb") as file:
        for _ in range(30):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    path.unlink()
    return sorted(taken)[len(taken) // 2] * 1000

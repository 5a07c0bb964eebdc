"""The Python client: reads and writes without a network, a first sync, and an upload of what was written offline.

Each run is a process of its own on the clients' core; the time counts from before the store is opened until `settled`.
Uploads take turns with the connections they are compared with. Afterwards the client and the server compare their
checksums, so that a run counts only if everything is there.
"""

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple, ParamSpec, TypeVar

from sync_client import SyncClient, replica
from sync_client.frames import Update
from sync_client.stores.sqlite import SqliteStore
from sync_client.values import Key, Row

from bench import first_sync
from bench.figures import Extent, Figure, command, median, percentile
from bench.machine import CLIENT_CORE, pinned, resident_bytes
from bench.notes import note
from bench.operations import LOADS, Clients, Load
from bench.peers import token_for
from bench.raw_sqlite import scattered
from bench.servers import Served, sync_server

P = ParamSpec("P")
T = TypeVar("T")
Codec = Literal["json", "msgpack"]

TITLE = "Client"
ROUNDS = 3
SETTLED_S = 300.0
NOTES = 10_000
FOLDERS = 100
LIMIT = 20
TOGETHER = 100
"""Creates that wait for the disk at the same time."""
FEWER = 20
"""Of what takes longer, a sample for so many of the others."""
ALONE = Load(1, 100, "")
"""One connection that costs as little as possible, as the client has one."""
CODECS: tuple[Codec, ...] = ("json", "msgpack")


class Run(NamedTuple):
    """What a client took until it was settled.

    Attributes:
        cpu_s: of all its threads.
        grown_bytes: its largest resident set, less what the process held before the client was opened.
    """

    wall_s: float
    cpu_s: float
    grown_bytes: int


def measure(extent: Extent, directory: Path) -> Iterator[Figure]:
    yield from _local(extent, directory / "local")
    yield from _first_syncs(extent, directory / "first")
    yield from _uploads(extent, directory / "upload")


# --- without a network ---------------------------------------------------------------------------------------------


def _local(extent: Extent, directory: Path) -> Iterator[Figure]:
    directory.mkdir()
    samples = extent.choose(200, 2_000)
    client = _alone(_client_seconds, directory / "client.db", samples)
    raw = _alone(_raw_seconds, directory / "raw.db", samples)
    for name, taken in client.items():
        for percent in (50, 99):
            figures = (percentile(taken, percent) * 1e6, percentile(raw[name], percent) * 1e6)
            yield Figure(f"{name}: p{percent}", figures[0], "us", figures[1])


def _client_seconds(path: Path, samples: int) -> dict[str, list[float]]:
    return asyncio.run(_client_work(path, samples))


async def _client_work(path: Path, samples: int) -> dict[str, list[float]]:
    """How long each call of the client took, by what it did; no server is asked."""
    await _fill(path)
    async with SyncClient("ws://localhost", token="none", store=path, connect=False) as client:
        got = [await _timed(client.get("note", scattered(n, NOTES))) for n in range(samples)]
        queried = [await _timed(client.query("note", folder=n % FOLDERS, limit=LIMIT)) for n in range(samples // FEWER)]
        created = [await _timed(client.create("note", _fields(n))) for n in range(samples)]
        updated = [
            await _timed(client.update(("note", scattered(n, NOTES)), title=f"Renamed {n}")) for n in range(samples)
        ]
        together = [
            await _timed(asyncio.gather(*(client.create("note", _fields(n)) for n in range(TOGETHER))))
            for _ in range(samples // FEWER)
        ]
    return _named(created, updated, together, got, queried)


async def _fill(path: Path) -> None:
    """Notes that came from a server."""
    store = await SqliteStore.open(path)
    updates = [Update(Row(Key("note", str(n)), "u-1", 1, _text(n), None, "1")) for n in range(1, NOTES + 1)]
    await store.run(lambda tables: replica.take(tables, updates, None), durable=True)
    await store.close()


def _raw_seconds(path: Path, samples: int) -> dict[str, list[float]]:
    """The same by one statement of sqlite3 each, and for a write its durable commit."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE notes (entity_type TEXT, entity_id TEXT, data TEXT, PRIMARY KEY (entity_type, entity_id))"
    )
    insert = "INSERT INTO notes VALUES ('note', ?, ?)"
    connection.execute("BEGIN")
    connection.executemany(insert, [(str(n), _text(n)) for n in range(1, NOTES + 1)])
    connection.execute("COMMIT")
    first = NOTES + 1

    def write(sql: str, rows: list[tuple[str, str]]) -> float:
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(sql, rows)
        connection.execute("COMMIT")
        return time.perf_counter() - began

    def read(sql: str, parameter: object) -> float:
        began = time.perf_counter()
        connection.execute(sql, (parameter,)).fetchall()
        return time.perf_counter() - began

    one = "SELECT data FROM notes WHERE entity_type = 'note' AND entity_id = ?"
    some = (
        "SELECT data FROM notes WHERE entity_type = 'note' AND json_extract(data, '$.folder') = ? "
        f"ORDER BY length(entity_id), entity_id LIMIT {LIMIT}"
    )
    got = [read(one, str(scattered(n, NOTES))) for n in range(samples)]
    queried = [read(some, n % FOLDERS) for n in range(samples // FEWER)]
    created = [write(insert, [(str(n), _text(n))]) for n in range(first, first + samples)]
    update = "UPDATE notes SET data = ?2 WHERE entity_type = 'note' AND entity_id = ?1"
    updated = [write(update, [(str(scattered(n, NOTES)), _text(n))]) for n in range(samples)]
    starts = range(first + samples, first + samples + samples // FEWER * TOGETHER, TOGETHER)
    together = [write(insert, [(str(n), _text(n)) for n in range(start, start + TOGETHER)]) for start in starts]
    connection.close()
    return _named(created, updated, together, got, queried)


def _named(
    created: list[float], updated: list[float], together: list[float], got: list[float], queried: list[float]
) -> dict[str, list[float]]:
    return {
        "create (raw: one durable insert)": created,
        "update (raw: one durable update)": updated,
        f"one of {TOGETHER} creates together (raw: one commit)": [taken / TOGETHER for taken in together],
        "get (raw: one select)": got,
        f"query by a field, {LIMIT} of {NOTES:,} (raw: one select)": queried,
    }


async def _timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def _fields(number: int) -> Mapping[str, object]:
    return {**note(number), "folder": number % FOLDERS}


def _text(number: int) -> str:
    return json.dumps({"id": number, **_fields(number)}, separators=(",", ":"))


# --- with a server -------------------------------------------------------------------------------------------------


def _first_syncs(extent: Extent, directory: Path) -> Iterator[Figure]:
    bare = next(iter(first_sync.measure(extent, directory)))
    count = extent.choose(10_000, 100_000)
    kinds = [(codec, kind) for codec in CODECS for kind in ("SQLite", "memory")]
    runs: dict[tuple[Codec, str], list[Run]] = {kind: [] for kind in kinds}
    with sync_server(directory) as served:
        for turn in range(extent.choose(1, ROUNDS)):
            for codec, kind in kinds:
                path = directory / f"{codec}-{turn}.db" if kind == "SQLite" else None
                run = _alone(_synced, _url(served), token_for("1"), codec, path, count)
                runs[codec, kind].append(run)
    for codec, kind in kinds:
        name = f"first sync, {count:,} notes, {codec}, {kind}"
        rate = median([count / run.wall_s for run in runs[codec, kind]])
        yield Figure(f"{name} (raw: reads)", rate, "rows/s", bare.value)
        yield from _costs("row", count, runs[codec, kind])


def _uploads(extent: Extent, directory: Path) -> Iterator[Figure]:
    count = extent.choose(1_000, 10_000)
    runs: dict[Codec, list[Run]] = {codec: [] for codec in CODECS}
    bare: dict[Load, list[float]] = {load: [] for load in (LOADS[0], ALONE)}
    with sync_server(directory) as served:
        for turn in range(extent.choose(1, ROUNDS)):
            for codec in CODECS:
                path = directory / f"{codec}-{turn}.db"
                runs[codec].append(_alone(_uploaded, _url(served), token_for(f"{codec}-{turn}"), codec, path, count))
            for load, rates in bare.items():
                rates.append(_bare_rate(directory / f"{load.name}-{turn}", load, extent.choose(1, 4)))
    for codec in CODECS:
        rate = median([count / run.wall_s for run in runs[codec]])
        for load, rates in bare.items():
            yield Figure(f"upload of {count:,}, {codec} (raw: {load.name})", rate, "operations/s", median(rates))
        yield from _costs("operation", count, runs[codec])


def _bare_rate(directory: Path, load: Load, seconds: int) -> float:
    """What the server takes from connections that cost as little as possible."""
    with sync_server(directory) as served:
        clients = Clients(served, load)
        rate = clients.run(seconds).rate
        clients.close()
    return rate


def _costs(what: str, count: int, runs: list[Run]) -> Iterator[Figure]:
    yield Figure(f"  processor of the {what}, all threads", median([run.cpu_s for run in runs]) / count * 1e6, "us")
    yield Figure("  memory at most", median([run.grown_bytes for run in runs]) / 2**20, "MiB")


def _synced(url: str, token: str, codec: Codec, path: Path | None, count: int) -> Run:
    return asyncio.run(_settled(url, token, codec, path, count))


def _uploaded(url: str, token: str, codec: Codec, path: Path, count: int) -> Run:
    asyncio.run(_write_offline(url, token, path, count))
    return asyncio.run(_settled(url, token, codec, path, count))


async def _write_offline(url: str, token: str, path: Path, count: int) -> None:
    async with SyncClient(url, token=token, store=path, connect=False) as client:
        for first in range(0, count, TOGETHER):
            await asyncio.gather(*(client.create("note", note(n)) for n in range(first, first + TOGETHER)))


async def _settled(url: str, token: str, codec: Codec, path: Path | None, count: int) -> Run:
    held = resident_bytes(os.getpid())
    began, cpu_began = time.perf_counter(), time.process_time()
    async with SyncClient(url, token=token, store=path, codec=codec) as client:
        await client.settled(timeout_s=SETTLED_S)
        run = Run(time.perf_counter() - began, time.process_time() - cpu_began, _peak_bytes() - held)
        there = sum(not entity.is_pending for entity in await client.query("note"))
        if there != count or not await client.verify():
            raise ConnectionError(f"{there} notes are here instead of {count}, or they differ from the server's")
    return run


def _peak_bytes() -> int:
    """The largest resident set of this process. `getrusage` would count that of its parent, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _url(served: Served) -> str:
    return f"ws://127.0.0.1:{served.port}"


def _alone(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call this in a new process on the clients' core."""
    with pinned(CLIENT_CORE), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **named).result()


if __name__ == "__main__":
    command(TITLE, measure)

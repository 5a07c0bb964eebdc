"""kill -9 of the client and of the server while 10,000 operations go up: every one is there, once."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from sync_client import views
from sync_client.stores.memory import MemoryTables
from sync_client.stores.port import Tables
from sync_client.stores.sqlite import SqliteStore
from sync_client.values import Key

from clients.python.tests.apps import client_of
from tests.harness import ServerProcess, server_process, token_for

from .victim import MADE, STEPS

OPERATIONS = 10_000
LONG_S = 120.0
WRITER = Path(__file__).with_name("writer.py")


def written(data_dir: Path) -> Counter[str]:
    """Titles in the server's log of changes, with how often each was created."""
    with closing(sqlite3.connect(data_dir / "sync.db")) as database:
        rows = database.execute("SELECT json_extract(data, '$.title') FROM changes WHERE operation_type = 'create'")
        return Counter(title for (title,) in rows)


async def arrived(data_dir: Path, count: int) -> None:
    """Wait until the server has so many changes."""
    async with asyncio.timeout(LONG_S):
        while (await asyncio.to_thread(written, data_dir)).total() < count:
            await asyncio.sleep(0)


class TestTheServerIsKilled:
    async def test_again_and_again_while_10_000_operations_go_up(self, tmp_path: Path) -> None:
        data_dir = tmp_path / "server"
        with server_process(data_dir, SYNC_OPERATIONS_PER_MINUTE="10000000") as process:
            store = tmp_path / "notes.db"
            async with client_of(f"http://127.0.0.1:{process.port}", store=store, connect=False) as notes:
                await asyncio.gather(*(notes.create("note", title=f"n{n}") for n in range(OPERATIONS)))
            async with client_of(f"http://127.0.0.1:{process.port}", store=store) as notes:
                for share in (0.1, 0.4, 0.7):
                    await arrived(data_dir, int(OPERATIONS * share))
                    process.kill()
                    process.start()
                    notes.reconnect()
                await notes.settled(timeout_s=LONG_S)
                assert len(await notes.query("note")) == OPERATIONS
                assert await notes.quarantine() == await notes.conflicts() == []
                assert await notes.verify()
        assert written(data_dir) == Counter(f"n{n}" for n in range(OPERATIONS))


class TestTheClientIsKilled:
    async def test_again_and_again_while_10_000_operations_go_up(self, tmp_path: Path) -> None:
        """What it said was written is there, and nothing twice."""
        data_dir, store = tmp_path / "server", tmp_path / "notes.db"
        answered: set[str] = set()
        with server_process(data_dir, SYNC_OPERATIONS_PER_MINUTE="10000000") as process:
            for life, until in enumerate((500, 2_000, 1_500)):
                answered |= await self.live_and_die(process, store, f"life{life}-", until)
            async with client_of(f"http://127.0.0.1:{process.port}", store=store) as notes:
                await asyncio.gather(
                    *(notes.create("note", title=f"last{n}") for n in range(OPERATIONS - len(answered)))
                )
                answered |= {f"last{n}" for n in range(OPERATIONS - len(answered))}
                await notes.settled(timeout_s=LONG_S)
                shown = {str(note["title"]) for note in await notes.query("note")}
                assert await notes.quarantine() == []
                assert await notes.verify()
        found = written(data_dir)
        assert set(found) == shown
        assert answered <= shown
        assert found.most_common(1)[0][1] == 1

    async def live_and_die(self, process: ServerProcess, store: Path, prefix: str, until: int) -> set[str]:
        """The titles that a writer was told were written before it was killed."""
        command = [
            sys.executable, str(WRITER), f"http://127.0.0.1:{process.port}", token_for("1"), str(store), "100000",
            prefix,
        ]  # fmt: skip
        writer = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        answered: set[str] = set()
        try:
            async with asyncio.timeout(LONG_S):
                while len(answered) < until:
                    answered.add(prefix + (await writer.stdout.readline()).decode().strip())
        finally:
            os.kill(writer.pid, signal.SIGKILL)
        rest = await writer.stdout.read()
        await writer.wait()
        return answered | {prefix + line for line in rest.decode().split("\n")[:-1]}


class TestTheClientIsKilledAtEachStatement:
    """A process does steps on a store and kills itself at the n-th statement; what it leaves is a step or none."""

    @pytest.mark.parametrize(("durable", "every"), [(True, 1), (False, 3)])
    async def test_a_step_is_whole_or_absent(self, tmp_path: Path, *, durable: bool, every: int) -> None:
        states = _states()
        told = await _victim(tmp_path / "unharmed.db", 0, durable=durable)
        assert await _left(tmp_path / "unharmed.db") == states[-1]
        outcomes = []
        for statement in range(1, int(told[-1]) + 1, every):
            store = tmp_path / f"{statement}.db"
            told = await _victim(store, statement, durable=durable)
            state = await _left(store)
            assert state in states
            assert states.index(state) >= len(told), "what was answered is there"
            outcomes.append(state)
        assert all(state in outcomes for state in states[:-1]), "it was killed in every step"


async def _victim(store: Path, statement: int, *, durable: bool) -> list[str]:
    """What it told before it was killed."""
    command = [sys.executable, str(WRITER.with_name("victim.py")), str(store), str(statement), str(durable)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    told, _ = await process.communicate()
    assert process.returncode == (-signal.SIGKILL if statement else 0)
    return told.decode().split()


async def _left(path: Path) -> tuple[object, ...]:
    store = await SqliteStore.open(path)
    try:
        return await store.run(_state)
    finally:
        await store.close()


def _states() -> list[tuple[object, ...]]:
    """What a store holds before and after each step of the victim."""
    tables = MemoryTables()
    found = [_state(tables)]
    for step in STEPS:
        step(tables)
        found.append(_state(tables))
    return found


def _state(tables: Tables) -> tuple[object, ...]:
    """Everything that a step may touch."""
    keys = [Key("note", one) for one in ("a", "b", "d", "e", "f", "12", MADE)]
    names = (views.CURSOR, views.IS_COMPLETE, views.SYNCED_AT)
    return (
        tables.queue(after=0, limit=None), tables.rows(keys), tables.drafts(keys), tables.quarantined(),
        [tables.value(name) for name in names], tables.aliases(keys), tables.journal_end(),
        sorted(tables.journal(after=0, limit=99).touches),
    )  # fmt: skip

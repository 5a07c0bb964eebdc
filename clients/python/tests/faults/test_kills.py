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
from sync_client import SyncClient

from clients.python.tests.apps import client_of
from tests.harness import ServerProcess, server_process, token_for

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

    @pytest.mark.parametrize("durable", [True, False])
    async def test_a_step_is_whole_or_absent(self, tmp_path: Path, *, durable: bool) -> None:
        outcomes = []
        for statement in range(1, 200):
            store = tmp_path / f"{statement}.db"
            command = [sys.executable, str(WRITER.with_name("victim.py")), str(store), str(statement), str(durable)]
            victim = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            told, _ = await victim.communicate()
            async with SyncClient("http://127.0.0.1:1", token="t", store=store, connect=False) as notes:
                state = await notes._open.store.run(_state)
            assert state in STATES
            assert STATES.index(state) >= len(told.split()), "what was answered is there"
            outcomes.append(state)
            if victim.returncode == 0:
                break
        assert all(state in outcomes for state in STATES), "it was killed in every step"


def _state(tables):  # type: ignore[no-untyped-def]
    """Queue, row versions, drafts, cursor, quarantine: what the steps of victim.py leave."""
    from sync_client.values import Key

    keys = [Key("note", "a"), Key("note", "b")]
    queue = [one.operation_id for one in tables.queue(after=0, limit=None)]
    rows = {one.entity_id: row.version for one, row in tables.rows(keys).items()}
    drafts = sorted(one.entity_id for one in tables.drafts(keys))
    refused = [one.operation_id for one in tables.quarantined()]
    return queue, rows, drafts, tables.value("cursor"), refused


STATES = [
    ([], {}, [], None, []),
    (["o1", "o2"], {}, ["a", "b"], None, []),
    (["o1", "o2"], {"a": 1}, ["a", "b"], "c1", []),
    ([], {"a": 2}, [], "c1", ["o2"]),
]

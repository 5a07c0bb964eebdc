"""Does each kind of step on a store and kills itself at a statement: `python victim.py STORE STATEMENT DURABLE`.

It prints a line for each step that was answered and, if it lives, how many statements they took.
"""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sync_client import replica
from sync_client.frames import Result, Results, Update
from sync_client.stores import sqlite
from sync_client.stores.port import Tables
from sync_client.values import Key, Operation, OperationType, Problem, Row

AT = "2026-01-02T03:04:05Z"
MADE = "01890000-0000-7000-8000-00000000000a"
REFUSAL = Problem(error="no", error_code="VALIDATION_ERROR")


def create(operation_id: str, entity_id: str, refers: str | None = None) -> Operation:
    return Operation(
        operation_id=operation_id, operation_type=OperationType.CREATE, entity_type="note", entity_id=entity_id,
        timestamp=AT, fields={"title": "x", "refers": refers},
    )  # fmt: skip


def told(entity_id: str, space_id: str) -> Update:
    return Update(Row(Key("note", entity_id), space_id, 1, f'{{"id":"{entity_id}","title":"old"}}', AT, "1"))


def applied(operation_id: str, entity_id: str) -> Result:
    key, data = Key("note", entity_id), f'{{"id":"{entity_id}","title":"x"}}'
    return Result(operation_id, OperationType.CREATE, True, "applied", key, 2, True, data, None, None)


def refused(operation_id: str, entity_id: str) -> Result:
    key = Key("note", entity_id)
    return Result(operation_id, OperationType.CREATE, False, "rejected", key, None, False, None, None, REFUSAL)


def reply(*results: Result) -> Results:
    return Results("m", list(results), [], [], [], AT, has_more=False)


WRITTEN = (create("o1", "a"), create("o2", "b", MADE), create("o3", MADE), create("o4", "d", MADE))
STEPS: tuple[Callable[[Tables], None], ...] = (
    partial(replica.append, operations=WRITTEN),
    partial(replica.take, updates=[told("a", "u-1"), told("e", "u-1"), told("f", "s1")], cursor="c1"),
    partial(replica.settle, reply=reply(applied("o1", "a"), refused("o2", "b")), is_plain=False, at=AT),
    partial(replica.mark, space_id="u-1"),
    partial(replica.complete, cursor="c2"),
    partial(replica.settle, reply=reply(applied("o3", "12")), is_plain=True, at=AT),
)
"""Written, told, ended, marked, swept, renamed."""


async def main(path: str, statement: int, *, durable: bool) -> None:
    seen = 0

    def count(_statement: str) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    connected = sqlite.connected

    def watched(at: Path) -> sqlite3.Connection:
        connection = connected(at)
        connection.set_trace_callback(count)
        return connection

    sqlite.connected = watched
    store = await sqlite.SqliteStore.open(Path(path))
    for step in STEPS:
        await store.run(step, durable=durable)
        print("done", flush=True)
    await store.close()
    print(seen, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), durable=sys.argv[3] == "True"))

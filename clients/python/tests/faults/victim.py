"""Does three steps on a store and kills itself at a statement: `python victim.py STORE STATEMENT DURABLE`.

It prints a line for each step that was answered.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from sync_client import replica
from sync_client.frames import Result, Results, Update
from sync_client.stores import sqlite
from sync_client.values import Key, Operation, OperationType, Problem, Row

AT = "2026-01-02T03:04:05Z"


def operation(operation_id: str, entity_id: str) -> Operation:
    return Operation(
        operation_id=operation_id, operation_type=OperationType.CREATE, entity_type="note", entity_id=entity_id,
        timestamp=AT, fields={"title": "x"},
    )  # fmt: skip


def result(operation_id: str, entity_id: str, problem: Problem | None) -> Result:
    data = '{"id":"a","title":"x"}' if problem is None else None
    verdict = "applied" if problem is None else "rejected"
    key = Key("note", entity_id)
    return Result(
        operation_id, OperationType.CREATE, problem is None, verdict, key, 2, problem is None, data, None, problem
    )


async def main(path: str, statement: int, *, durable: bool) -> None:
    seen = 0

    def count(_statement: str) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    connected = sqlite._connected

    def watched(at: Path) -> object:
        connection = connected(at)
        connection.set_trace_callback(count)
        return connection

    sqlite._connected = watched  # type: ignore[assignment]
    store = await sqlite.SqliteStore.open(Path(path))
    refusal = Problem(error="no", error_code="VALIDATION_ERROR")
    told = Update(Row(Key("note", "a"), "u-1", 1, '{"id":"a","title":"old"}', AT, "1"))
    reply = Results("m", [result("o1", "a", None), result("o2", "b", refusal)], [], [], [], AT, has_more=False)
    steps = (
        lambda tables: replica.append(tables, [operation("o1", "a"), operation("o2", "b")]),
        lambda tables: replica.take(tables, [told], "c1"),
        lambda tables: replica.settle(tables, reply, is_plain=False, at=AT),
    )
    for step in steps:
        await store.run(step, durable=durable)
        print("done", flush=True)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), durable=sys.argv[3] == "True"))

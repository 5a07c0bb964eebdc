"""A store that lives and ends with its process: for tests, scripts and tools that keep nothing."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sync_client.drafts import decoded
from sync_client.errors import StoreError
from sync_client.stores.port import JOURNAL_TOUCHES, Counts, JournalPage, Query, Tables
from sync_client.values import Conflict, Draft, Key, Operation, Quarantined, Row, Touch

T = TypeVar("T")


class _State:
    """Every table."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.rows: dict[Key, Row] = {}
        self.drafts: dict[Key, Draft] = {}
        self.queue: dict[str, Operation] = {}
        self.quarantine: dict[str, Quarantined] = {}
        self.conflicts: dict[str, Conflict] = {}
        self.aliases: dict[Key, Key] = {}
        self.journal: deque[tuple[Touch, ...]] = deque()
        self.journal_start = 1
        self.positions = 0
        self.lines = 0


class MemoryTables(Tables):
    """What may be large is written in place, with notes of how to undo it: a write costs the same whatever is there.
    The other tables are copied when the transaction first writes to them.
    """

    def __init__(self, state: _State | None = None) -> None:
        self.state = copy(state) if state is not None else _State()
        self._own: set[str] = set()
        self._undo: list[Callable[[], object]] = []

    def undo(self) -> None:
        """Leave the state that was given as it was; this one is not to be used any more."""
        for step in reversed(self._undo):
            step()

    def _written(self, name: str) -> Any:
        if name not in self._own:
            self._own.add(name)
            setattr(self.state, name, copy(getattr(self.state, name)))
        return getattr(self.state, name)

    def _put(self, table: dict[Any, Any], key: object, value: object) -> None:
        if key in table:
            self._undo.append(partial(table.__setitem__, key, table[key]))
        else:
            self._undo.append(partial(table.__delitem__, key))
        table[key] = value

    def _remove(self, table: dict[Any, Any], keys: Collection[object]) -> None:
        for key in keys:
            if key in table:
                self._undo.append(partial(table.__setitem__, key, table.pop(key)))

    def value(self, name: str) -> str | None:
        return self.state.values.get(name)

    def save_value(self, name: str, text: str | None) -> None:
        if text is None:
            self._written("values").pop(name, None)
        else:
            self._written("values")[name] = text

    def rows(self, keys: Collection[Key]) -> dict[Key, Row]:
        return _found(self.state.rows, keys)

    def save_rows(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._put(self.state.rows, row.key, row)

    def delete_rows(self, keys: Collection[Key]) -> None:
        self._remove(self.state.rows, keys)

    def mark_stale(self, space_id: str | None) -> None:
        marked = [row for row in self.state.rows.values() if space_id in {None, row.space_id}]
        self.save_rows([row._replace(stale=True) for row in marked])

    def stale_keys(self, *, limit: int) -> list[Key]:
        return [row.key for row in self.state.rows.values() if row.stale][:limit]

    def versions(self, space_ids: Collection[str], *, deleted: bool = False) -> Iterable[tuple[str, Key, int]]:
        wanted = set(space_ids)
        return (
            (row.space_id, row.key, row.version)
            for row in self.state.rows.values()
            if row.space_id is not None and row.space_id in wanted and (row.data is None) is deleted
        )

    def drafts(self, keys: Collection[Key]) -> dict[Key, Draft]:
        return _found(self.state.drafts, keys)

    def save_drafts(self, drafts: Iterable[Draft]) -> None:
        for draft in drafts:
            self._put(self.state.drafts, draft.key, draft)

    def delete_drafts(self, keys: Collection[Key]) -> None:
        self._remove(self.state.drafts, keys)

    def select(self, query: Query) -> list[Key]:
        shown = {row.key: row.data for row in self.state.rows.values()}
        shown |= {draft.key: draft.data for draft in self.state.drafts.values()}
        found = []
        for key, text in shown.items():
            data = decoded(text) if key.entity_type == query.entity_type else None
            if data is not None and all(_equal(data.get(name), value) for name, value in query.where):
                found.append((key, data))
        found.sort(key=lambda one: (len(one[0].entity_id), one[0].entity_id))
        order_by = query.order_by
        if order_by is not None:
            found.sort(key=lambda one: _rank(one[1].get(order_by)), reverse=query.descending)
        return [key for key, _ in found[: query.limit]]

    def enqueue(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            self.state.positions += 1
            queued = msgspec.structs.replace(operation, position=self.state.positions)
            self._put(self.state.queue, operation.operation_id, queued)

    def operations(self, operation_ids: Collection[str]) -> dict[str, Operation]:
        return _found(self.state.queue, operation_ids)

    def pending(self, keys: Collection[Key]) -> dict[Key, list[Operation]]:
        wanted = set(keys)
        found: dict[Key, list[Operation]] = {}
        for operation in self.state.queue.values():
            if operation.key in wanted:
                found.setdefault(operation.key, []).append(operation)
        return found

    def queue(self, *, after: int, limit: int | None) -> list[Operation]:
        return [operation for operation in self.state.queue.values() if operation.position > after][:limit]

    def replace_operations(self, operations: Iterable[Operation]) -> None:
        queue = self.state.queue
        for operation in operations:
            if operation.operation_id in queue:
                position = queue[operation.operation_id].position
                self._put(queue, operation.operation_id, msgspec.structs.replace(operation, position=position))

    def dequeue(self, operation_ids: Collection[str]) -> None:
        self._undo.append(partial(_sort_by_position, self.state.queue))  # what comes back comes to the end
        self._remove(self.state.queue, operation_ids)

    def quarantined(self) -> list[Quarantined]:
        return list(self.state.quarantine.values())

    def quarantine(self, refused: Iterable[Quarantined]) -> None:
        self._written("quarantine").update((one.operation_id, one) for one in refused)

    def release(self, operation_ids: Collection[str]) -> None:
        _delete(self._written("quarantine"), operation_ids)

    def conflicts(self) -> list[Conflict]:
        return list(self.state.conflicts.values())

    def save_conflicts(self, conflicts: Iterable[Conflict]) -> None:
        self._written("conflicts").update((conflict.conflict_id, conflict) for conflict in conflicts)

    def delete_conflicts(self, conflict_ids: Collection[str]) -> None:
        _delete(self._written("conflicts"), conflict_ids)

    def aliases(self, keys: Collection[Key]) -> dict[Key, Key]:
        return _found(self.state.aliases, keys)

    def save_alias(self, made: Key, named: Key) -> None:
        self._written("aliases")[made] = named

    def write_journal(self, touches: Sequence[Touch]) -> None:
        journal = self.state.journal
        journal.append(tuple(touches))
        self._undo.append(journal.pop)
        self.state.lines += len(touches)
        while self.state.lines - len(journal[0]) >= JOURNAL_TOUCHES:
            self.state.lines -= len(journal[0])
            self.state.journal_start += 1
            self._undo.append(partial(journal.appendleft, journal.popleft()))

    def journal(self, *, after: int, limit: int) -> JournalPage:
        start = self.state.journal_start
        end = self.journal_end() + 1
        positions = range(max(after + 1, start), end)[:limit]
        touches = [touch for position in positions for touch in self.state.journal[position - start]]
        has_gap = bool(self.state.journal) and start > after + 1
        return JournalPage(touches, positions[-1] if positions else after, has_gap)

    def journal_end(self) -> int:
        return self.state.journal_start + len(self.state.journal) - 1

    def counts(self) -> Counts:
        state = self.state
        return Counts(len(state.queue), len(state.conflicts), len(state.quarantine))


class MemoryStore:
    """`MemoryTables` with transactions."""

    path: Path | None = None

    def __init__(self) -> None:
        self._state = _State()
        self._is_closed = False

    async def run(self, job: Callable[[Tables], T], *, durable: bool = False, discard: bool = False) -> T:  # noqa: ARG002  the port's
        if self._is_closed:
            raise StoreError("the store is closed")
        tables = MemoryTables(self._state)
        try:
            answer = job(tables)
        except BaseException:
            tables.undo()
            raise
        if discard:
            tables.undo()
        else:
            self._state = tables.state
        return answer

    async def was_changed_elsewhere(self) -> bool:
        return False

    async def close(self) -> None:
        self._is_closed = True


def _found(table: dict[Any, T], keys: Collection[Any]) -> dict[Any, T]:
    return {key: table[key] for key in keys if key in table}


def _sort_by_position(queue: dict[str, Operation]) -> None:
    ordered = sorted(queue.items(), key=lambda one: one[1].position)
    queue.clear()
    queue.update(ordered)


def _delete(table: dict[Any, Any], keys: Collection[Any]) -> None:
    for key in keys:
        table.pop(key, None)


def _equal(value: object, wanted: object) -> bool:
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def _rank(value: object) -> tuple[int, Any]:
    if value is None:
        return 0, 0
    if isinstance(value, (bool, int, float)):
        return 1, value
    return (2, value) if isinstance(value, str) else (3, 0)

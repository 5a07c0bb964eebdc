"""What happens to the data: each function is one step over `Tables`, whole or not at all.

Numbered laws, each held by a property test (docs/client.md):

 D1 What is shown of an entity is its row with its pending operations on top, in order.
 D2 An operation leaves the queue only with a verdict: into the rows, the conflicts or the quarantine.
 D3 Of an entity the row with the highest version stays, in whatever order rows come.
 D4 What an acknowledged operation did is shown until the row has it.
 D5 A reset drops no operation, and no row before the snapshot is complete.
 D6 A step that is repeated changes nothing.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import msgspec

from sync_client.drafts import decoded, drawn, encoded, overlaid
from sync_client.frames import Result, Results, Update
from sync_client.stores.port import Query, Tables
from sync_client.values import (
    Conflict,
    Draft,
    Entity,
    Key,
    Operation,
    OperationType,
    Origin,
    Problem,
    Quarantined,
    Row,
    Touch,
    WireId,
    format_id,
)
from sync_client.wire import RETRYABLE

CURSOR = "cursor"
SYNCED_AT = "last_sync_time"
"""Of a plain server: the time that the last reply named."""
IS_COMPLETE = "is_complete"
OWNER = "user_id"
"""Whose store it is, as text; None until a server said so."""
_ANY_TYPE = ""
"""Fields do not say of which type what they refer to is: an alias is kept under its type and under this one."""
LONGEST_ID = 64
SWEEP = 1_000
"""Rows that a sweep looks at together."""


class _Shown(NamedTuple):
    """What an application sees of an entity, to be compared."""

    data: str | None
    is_pending: bool


class Before:
    """What is shown of some entities before a step, to tell in the journal what the step changed."""

    def __init__(self, tables: Tables, keys: Collection[Key]) -> None:
        self.keys = keys
        self.rows = tables.rows(keys)
        self.drafts = tables.drafts(keys)

    def tell(self, tables: Tables, rows: dict[Key, Row], drafts: dict[Key, Draft], origin: Origin) -> None:
        touches = []
        for key in self.keys:
            before, after = _shown(self.rows.get(key), self.drafts.get(key)), _shown(rows.get(key), drafts.get(key))
            if before.data is None and after.data is not None:
                touches.append(Touch(key, "created", origin))
            elif before.data is not None and after.data is None:
                touches.append(Touch(key, "deleted", origin))
            elif after.data is not None and (before.is_pending != after.is_pending or not _same(before, after)):
                touches.append(Touch(key, "updated", origin))
        if touches:
            tables.write_journal(touches)


# --- what the application does -------------------------------------------------------------------------------------


def append(tables: Tables, operations: Sequence[Operation]) -> None:
    """Put operations of the application at the end of the queue and show them (D1).

    What they name by an id that a server has replaced since gets the server's.
    """
    operations = _with_known_names(tables, operations)
    keys = list(dict.fromkeys(operation.key for operation in operations))
    before = Before(tables, keys)
    tables.enqueue(operations)
    drafts = dict(before.drafts)
    for operation in operations:
        key = operation.key
        draft = drafts[key] if key in drafts else drawn(key, before.rows.get(key), ())
        shown = overlaid(decoded(draft.data), operation)
        drafts[key] = Draft(key, operation.space_id or draft.space_id, encoded(shown))
    tables.save_drafts(drafts.values())
    before.tell(tables, before.rows, drafts, "local")


def waiting(tables: Tables, *, after: int, limit: int) -> list[Operation]:
    """The oldest pending operations behind a position; a transaction is not cut, so there may be some more."""
    page = tables.queue(after=after, limit=limit)
    while page and page[-1].group is not None:
        more = tables.queue(after=page[-1].position, limit=limit)
        group = page[-1].group
        rest = [*takewhile(lambda one, group=group: one.group == group, more)]  # type: ignore[misc]
        page += rest
        if len(rest) < limit:
            break
    return page


def entity(tables: Tables, key: Key) -> Entity | None:
    """An entity as the application sees it, also by the id under which it was made here."""
    found = entities(tables, [key])
    if not found:
        named = tables.aliases([key]).get(key)
        found = entities(tables, [named]) if named is not None else {}
    return next(iter(found.values()), None)


def entities(tables: Tables, keys: Collection[Key]) -> dict[Key, Entity]:
    rows, drafts = tables.rows(keys), tables.drafts(keys)
    found = {key: _entity(key, rows.get(key), drafts.get(key)) for key in keys}
    return {key: one for key, one in found.items() if one is not None}


def select(tables: Tables, query: Query) -> list[Entity]:
    texts = {Key(_ANY_TYPE, value) for _, value in query.where if isinstance(value, str)}
    if names := tables.aliases(texts) if texts else {}:
        wire_ids = _wire_ids(names)
        query = query._replace(where=tuple((name, _replaced(value, wire_ids)) for name, value in query.where))
    return list(entities(tables, tables.select(query)).values())


def open_conflicts(tables: Tables) -> list[Conflict]:
    """Those that nobody has settled, here or elsewhere."""
    conflicts = tables.conflicts()
    pending = tables.pending({conflict.key for conflict in conflicts})
    settled = {operation.conflict_id for some in pending.values() for operation in some}
    return [conflict for conflict in conflicts if conflict.conflict_id not in settled]


def released(tables: Tables, operation_id: str) -> list[Operation]:
    """Take a quarantined operation out, with the others of its transaction; empty where there is none."""
    quarantined = tables.quarantined()
    group = next((one.operation.group or "" for one in quarantined if one.operation_id == operation_id), "")
    found = [one.operation for one in quarantined if one.operation_id == operation_id or one.operation.group == group]
    tables.release([operation.operation_id for operation in found])
    return found


# --- what the server tells -----------------------------------------------------------------------------------------


def take(tables: Tables, updates: Iterable[Update], cursor: str | None) -> None:
    """Store rows that were told, and the cursor of who has them (D3)."""
    _put(tables, updates)
    if cursor is not None:
        tables.save_value(CURSOR, cursor)


def forget_cursor(tables: Tables) -> None:
    """The next connection tells everything anew."""
    tables.save_value(CURSOR, None)
    tables.save_value(SYNCED_AT, None)
    tables.mark_stale(None)


def mark(tables: Tables, space_id: str | None) -> None:
    """The rows of a space will be told anew: until they are complete, the old ones stay (D5)."""
    tables.mark_stale(space_id)


def sweep(tables: Tables, cursor: str | None) -> None:
    """The snapshot is complete: what was marked and not told again is gone."""
    while keys := tables.stale_keys(limit=SWEEP):
        before = Before(tables, keys)
        tables.delete_rows(keys)
        _redraw(tables, before, {}, "remote")
    if cursor is not None:
        tables.save_value(CURSOR, cursor)


def complete(tables: Tables, cursor: str | None) -> None:
    """Everything that the server has is here: also the first time."""
    sweep(tables, cursor)
    tables.save_value(IS_COMPLETE, "yes")


def own(tables: Tables, owner: str) -> None:
    """The store is this user's from now on."""
    tables.save_value(OWNER, owner)


def settle(tables: Tables, reply: Results, *, is_plain: bool, at: str) -> None:
    """Take the results of a request: each ends its operation, unless it may succeed later (D2).

    Args:
        is_plain: the server follows the T3 document alone: it makes ids itself, and knows no client's own queue.
        at: now, RFC 3339.
    """
    results = [result for result in reply.results if not _is_for_later(result)]
    _rename(tables, results)
    known = tables.operations([result.operation_id for result in results])
    ended = [(known.get(result.operation_id), result) for result in results]
    _refuse_rejected(tables, ended, reply.conflicts, at)
    tables.save_conflicts(reply.conflicts)
    tables.delete_conflicts([conflict_id for one in ended if (conflict_id := _settled_by(*one)) is not None])
    for space_id in reply.resets:
        tables.mark_stale(space_id)
    _leave(tables, ended, is_plain=is_plain)
    rows = _rows_of(tables, ended, reply.synced_at)
    _put(tables, [*rows, *reply.updates], touched={operation.key for operation, _ in ended if operation is not None})
    if is_plain and reply.synced_at is not None:
        tables.save_value(SYNCED_AT, reply.synced_at)


def refuse(tables: Tables, operation_ids: Collection[str], problem: Problem, *, at: str) -> None:
    """Operations that cannot even be sent, or that fail their request: into the quarantine (D2)."""
    operations = [one for one in tables.operations(operation_ids).values() if one.acknowledged is None]
    tables.quarantine(Quarantined(operation=operation, problem=problem, since=at) for operation in operations)
    _take_out(tables, operations)


def gone(tables: Tables, key: Key) -> None:
    """The server has no such entity for us: acknowledged operations have nothing left to wait for."""
    waiting = [one for one in tables.pending([key]).get(key, []) if one.acknowledged is not None]
    _take_out(tables, waiting)


def conflict_opened(tables: Tables, conflict: Conflict) -> None:
    tables.save_conflicts([conflict])


def conflict_closed(tables: Tables, conflict_id: str) -> None:
    tables.delete_conflicts([conflict_id])


def conflicts_listed(tables: Tables, known: Collection[str], listed: Sequence[Conflict]) -> None:
    """The server's list of open conflicts: those of `known`, as of before it was asked, that it lacks are settled."""
    tables.save_conflicts(listed)
    tables.delete_conflicts(set(known) - {conflict.conflict_id for conflict in listed})


def checksum(tables: Tables, space_id: str) -> str:
    """What the server computes of the space's live rows, too (docs/rest.md, Checksums)."""
    total = 0
    for key, version in tables.live_versions(space_id):
        text = f"{key.entity_type}/{key.entity_id}@{version}"
        total ^= int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    return f"{total:016x}"


# --- parts ---------------------------------------------------------------------------------------------------------


def _put(tables: Tables, updates: Iterable[Update], *, touched: Collection[Key] = ()) -> None:
    updates = list(updates)
    keys = list(dict.fromkeys([*touched, *(update.row.key for update in updates)]))
    if not keys:
        return
    before = Before(tables, keys)
    rows = dict(before.rows)
    changed: set[Key] = set()
    for update in updates:
        row, key = update.row, update.row.key
        if update.is_revoked:
            rows.pop(key, None)
            changed.add(key)
        elif _is_newer(update, known := rows.get(key)):
            rows[key] = row if row.space_id is not None or known is None else row._replace(space_id=known.space_id)
            changed.add(key)
    tables.save_rows([rows[key] for key in changed if key in rows])
    tables.delete_rows([key for key in changed if key not in rows and key in before.rows])
    _redraw(tables, before, rows, "remote")


def _is_newer(update: Update, row: Row | None) -> bool:
    if row is None or row.stale or update.row.version > row.version:
        return True
    return update.begins and row.data is None and row.version > 0


def _redraw(tables: Tables, before: Before, rows: dict[Key, Row], origin: Origin) -> None:
    """Make the drafts of these entities anew from their rows, and tell what changed."""
    pending = tables.pending(before.keys)
    _drop_shown(tables, pending, rows)
    drafts = {key: drawn(key, rows.get(key), operations) for key, operations in pending.items() if operations}
    tables.save_drafts(drafts.values())
    tables.delete_drafts([key for key in before.drafts if key not in drafts])
    before.tell(tables, rows, drafts, origin)


def _drop_shown(tables: Tables, pending: dict[Key, list[Operation]], rows: dict[Key, Row]) -> None:
    """Acknowledged operations leave once the row has what they did (D4)."""
    for key, operations in pending.items():
        row = rows.get(key)
        done = [
            o for o in operations if o.acknowledged is not None and row is not None and row.version >= o.acknowledged
        ]
        if done:
            tables.dequeue([operation.operation_id for operation in done])
            pending[key] = [operation for operation in operations if operation not in done]


def _take_out(tables: Tables, operations: Sequence[Operation]) -> None:
    """Operations leave the queue, and what they showed with them."""
    before = Before(tables, list(dict.fromkeys(operation.key for operation in operations)))
    tables.dequeue([operation.operation_id for operation in operations])
    _redraw(tables, before, before.rows, "remote")


def _is_for_later(result: Result) -> bool:
    problem = result.problem
    return not result.success and problem is not None and problem.error_code in RETRYABLE


def _refuse_rejected(
    tables: Tables, ended: Iterable[tuple[Operation | None, Result]], conflicts: Sequence[Conflict], at: str
) -> None:
    parked = {conflict.operation_id for conflict in conflicts}
    unnamed = Problem(error="The server did not accept it.", error_code="CONFLICT")
    tables.quarantine(
        Quarantined(operation=operation, problem=result.problem or unnamed, since=at)
        for operation, result in ended
        if operation is not None and not _is_parked(result, parked) and not result.success
        if operation.acknowledged is None
    )


def _is_parked(result: Result, parked: Collection[str | None]) -> bool:
    return result.verdict == "conflict" or result.conflict_id is not None or result.operation_id in parked


def _leave(tables: Tables, ended: Iterable[tuple[Operation | None, Result]], *, is_plain: bool) -> None:
    """Take ended operations from the queue, but for those whose effect did not come with the verdict."""
    leaving, staying = [], []
    for operation, result in ended:
        if operation is None:
            continue
        lacks_data = result.success and not result.has_data and result.version is not None
        if lacks_data and operation.operation_type in {OperationType.CREATE, OperationType.UPDATE}:
            staying.append(msgspec.structs.replace(operation, acknowledged=result.version))
        else:
            leaving.append(operation.operation_id)
        if is_plain and result.success and result.version == operation.before_version + 1:
            _raise_base(tables, operation, result.version)
    tables.replace_operations(staying)
    tables.dequeue(leaving)


def _raise_base(tables: Tables, done: Operation, version: int) -> None:
    """A plain server takes a client's own last edit for somebody else's: later edits are based on it, if no other came
    between. They have not been sent yet: a plain server is sent one operation of an entity at a time."""
    later = [one for one in tables.pending([done.key]).get(done.key, []) if one.position > done.position]
    tables.replace_operations(
        [msgspec.structs.replace(one, before_version=version) for one in later if one.before_version < version]
    )


def _rows_of(tables: Tables, ended: Iterable[tuple[Operation | None, Result]], at: str | None) -> list[Update]:
    """The entities that results carry. They do not say who wrote them, nor, of a new one, in which space it is."""
    owner = tables.value(OWNER)
    rows = []
    for operation, result in ended:
        is_told = result.has_data or (result.operation_type is OperationType.DELETE and result.success)
        if is_told and result.key is not None and result.version:
            space_id = operation.space_id if operation is not None else None
            if space_id is None and result.operation_type is OperationType.CREATE and owner is not None:
                space_id = f"u-{owner}"
            rows.append(Update(Row(result.key, space_id, result.version, result.data, at, owner)))
    return rows


def _settled_by(operation: Operation | None, result: Result) -> str | None:
    """The conflict that is open no more, by this operation or, meanwhile, by somebody else."""
    settled_before = result.problem is not None and result.problem.error_code in {"CONFLICT", "NOT_FOUND"}
    return operation.conflict_id if operation is not None and (result.success or settled_before) else None


def _rename(tables: Tables, results: Sequence[Result]) -> None:
    """Where the server made ids of its own: what names the entities here is told the new ones."""
    known = tables.operations([result.operation_id for result in results])
    names = {
        known[result.operation_id].key: result.key
        for result in results
        if result.success and result.operation_id in known and result.key is not None
        if result.key != known[result.operation_id].key
    }
    if not names:
        return
    queue = tables.queue(after=0, limit=None)
    renamed = [(old, new) for old in queue if (new := _with_ids(old, names)) != old]
    before = Before(tables, list(dict.fromkeys(key for old, new in renamed for key in (old.key, new.key))))
    for made, named in names.items():
        tables.save_alias(made, named)
        tables.save_alias(made._replace(entity_type=_ANY_TYPE), named._replace(entity_type=_ANY_TYPE))
    tables.replace_operations([new for _, new in renamed])
    quarantined = ((one, _with_ids(one.operation, names)) for one in tables.quarantined())
    tables.quarantine(
        msgspec.structs.replace(one, operation=new) for one, new in quarantined if new != one.operation
    )
    _redraw(tables, before, before.rows, "remote")


def _with_ids(operation: Operation, names: Mapping[Key, Key]) -> Operation:
    entity_id = names.get(operation.key, operation.key).entity_id
    return msgspec.structs.replace(operation, entity_id=entity_id, fields=_replaced(operation.fields, _wire_ids(names)))


def _wire_ids(names: Mapping[Key, Key]) -> dict[str, WireId]:
    return {made.entity_id: format_id(named.entity_id) for made, named in names.items()}


def _with_known_names(tables: Tables, operations: Sequence[Operation]) -> Sequence[Operation]:
    """A create keeps its own id: it may use one again."""
    keys = {one.key for one in operations if one.operation_type is not OperationType.CREATE}
    texts = {text for one in operations for text in _texts(one.fields) if 0 < len(text) <= LONGEST_ID}
    names = tables.aliases(keys | {Key(_ANY_TYPE, text) for text in texts}) if keys or texts else {}
    return [_on_its_create(one, _with_ids(one, names)) for one in operations] if names else operations


def _on_its_create(old: Operation, new: Operation) -> Operation:
    """What was written on top of a create that has its verdict by now is based on what that made."""
    is_based = new.entity_id == old.entity_id or old.before_version
    return new if is_based else msgspec.structs.replace(new, before_version=1)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for one in value:
                yield from _texts(one)
        case dict():
            yield from _texts(list(value.values()))


def _replaced(value: Any, ids: Mapping[str, WireId]) -> Any:
    match value:
        case str():
            return ids.get(value, value)
        case list():
            return [_replaced(one, ids) for one in value]
        case dict():
            return {name: _replaced(one, ids) for name, one in value.items()}
        case _:
            return value


def _shown(row: Row | None, draft: Draft | None) -> _Shown:
    if draft is not None:
        return _Shown(draft.data, is_pending=True)
    return _Shown(row.data if row is not None else None, is_pending=False)


def _same(before: _Shown, after: _Shown) -> bool:
    return before.data == after.data or decoded(before.data) == decoded(after.data)


def _entity(key: Key, row: Row | None, draft: Draft | None) -> Entity | None:
    data = decoded(_shown(row, draft).data)
    if data is None:
        return None
    data.pop("id", None)
    space_id = draft.space_id if draft is not None else row.space_id if row is not None else None
    return Entity(
        key.entity_type, format_id(key.entity_id), data, row.version if row is not None else 0, space_id,
        draft is not None, row.modified_at if row is not None else None,
        format_id(row.modified_by) if row is not None and row.modified_by is not None else None,
    )  # fmt: skip

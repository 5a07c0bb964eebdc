"""What happens to the data: each function is one step over `Tables`, whole or not at all.

Numbered laws, each held by a property test (docs/client.md):

 D1 What is shown of an entity is its row with its pending operations on top, in order.
 D2 An operation leaves the queue only with a verdict: into the rows, the conflicts or the quarantine.
 D3 Of an entity the row with the highest version stays, in whatever order rows come.
 D4 What an acknowledged operation did is shown until the row has it.
 D5 A reset drops no operation, and no row before the snapshot is complete.
 D6 A step that is repeated changes nothing.
 D7 A repair touches no operation, and no row that is not as it was when the server was asked.
 D8 Once a row of a lost space is told as such, no row of it stays, also none that the server does not know of.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from sync_client.drafts import decoded, drawn, encoded, overlaid
from sync_client.frames import DifferingRows, Result, Results, Update
from sync_client.names import rename, with_known_names
from sync_client.shown import Before, redraw
from sync_client.stores.port import Tables
from sync_client.values import Conflict, Draft, Key, Operation, OperationType, Problem, Quarantined, Row
from sync_client.views import CURSOR, IS_COMPLETE, OWNER, SYNCED_AT
from sync_client.wire import RETRYABLE, is_first

SWEEP = 1_000
"""Rows that a sweep looks at together."""


# --- what the application does -------------------------------------------------------------------------------------


def append(tables: Tables, operations: Sequence[Operation]) -> None:
    """Put operations of the application at the end of the queue and show them (D1).

    What they name by an id that a server has replaced since gets the server's.
    """
    operations = with_known_names(tables, operations)
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


def released(tables: Tables, operation_id: str) -> list[Operation]:
    """Take a quarantined operation out, with the others of its transaction; empty where there is none."""
    quarantined = tables.quarantined()
    group = next((one.operation.group or "" for one in quarantined if one.operation_id == operation_id), "")
    found = [one.operation for one in quarantined if one.operation_id == operation_id or one.operation.group == group]
    tables.release([operation.operation_id for operation in found])
    return found


# --- what the server tells -----------------------------------------------------------------------------------------


def take(tables: Tables, updates: Iterable[Update], cursor: str | None, *, is_plain: bool = False) -> None:
    """Store rows that were told, and the cursor of who has them (D3, D8)."""
    updates = list(updates)
    _put(tables, [*_lost_with(tables, updates), *updates], is_plain=is_plain)
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
        redraw(tables, before, {}, "remote")
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
    ids = [result.operation_id for result in results]
    known = tables.operations(ids)
    if rename(tables, results, known):
        known = tables.operations(ids)
    ended = [(known.get(result.operation_id), result) for result in results]
    _refuse_rejected(tables, ended, reply.conflicts, at)
    tables.save_conflicts(reply.conflicts)
    tables.delete_conflicts([conflict_id for one in ended if (conflict_id := _settled_by(*one)) is not None])
    for space_id in reply.resets:
        tables.mark_stale(space_id)
    _leave(tables, ended, is_plain=is_plain)
    rows = _rows_of(tables, ended, reply.synced_at, is_plain=is_plain)
    touched = {operation.key for operation, _ in ended if operation is not None}
    _put(tables, [*rows, *reply.updates], touched=touched, is_plain=is_plain)
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


def repair(tables: Tables, space_id: str, known: Mapping[Key, int], told: DifferingRows) -> None:
    """Take what the server says of rows in which this store differs from it, whatever their versions (D7).

    Args:
        known: the versions of the space's rows when they were named; what has another one now was told since.
    """
    rows = tables.rows([*(update.row.key for update in told.updates), *told.gone])
    as_named = {key for key, row in rows.items() if row.space_id == space_id and row.version == known.get(key)}
    elsewhere = {update.row.key for update in told.updates if rows.get(update.row.key, update.row).space_id != space_id}
    tables.save_rows([rows[key]._replace(stale=True) for key in as_named | elsewhere])
    gone = [_revoked(key, space_id) for key in told.gone if key in as_named]
    _put(tables, [*told.updates, *gone], is_plain=False)


# --- parts ---------------------------------------------------------------------------------------------------------


def _lost_with(tables: Tables, updates: Sequence[Update]) -> list[Update]:
    """Who may see a row no more has lost its space: what else is here of that goes too, also what never was there."""
    lost = {update.row.space_id for update in updates if update.is_revoked and update.row.space_id is not None}
    told = {update.row.key for update in updates}
    if not lost:
        return []
    here = [*tables.versions(lost), *tables.versions(lost, deleted=True)]
    return [_revoked(key, space_id) for space_id, key, _ in here if key not in told]


def _revoked(key: Key, space_id: str) -> Update:
    return Update(Row(key, space_id, 0, None, None, None), is_revoked=True)


def _put(tables: Tables, updates: Iterable[Update], *, touched: Collection[Key] = (), is_plain: bool) -> None:
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
            rows[key] = _over(known, row, is_plain=is_plain) if known is not None else row
            changed.add(key)
    tables.save_rows([rows[key] for key in changed if key in rows])
    tables.delete_rows([key for key in changed if key not in rows and key in before.rows])
    redraw(tables, before, rows, "remote")


def _over(known: Row, row: Row, *, is_plain: bool) -> Row:
    """A row in place of an older one; what it does not say stays. The T3 document shows updates of single fields."""
    if row.space_id is None:
        row = row._replace(space_id=known.space_id)
    if is_plain and row.data is not None and known.data is not None:
        row = row._replace(data=encoded({**(decoded(known.data) or {}), **(decoded(row.data) or {})}))
    return row


def _is_newer(update: Update, row: Row | None) -> bool:
    if row is None or row.stale or update.row.version > row.version:
        return True
    return update.begins and row.data is None and _is_later(update.row.modified_at, row.modified_at)


def _is_later(text: str | None, other: str | None) -> bool:
    """Whether an entity was begun anew after it was deleted; else it is told once more how it began."""
    try:
        return text is not None and (other is None or datetime.fromisoformat(text) > datetime.fromisoformat(other))
    except (ValueError, TypeError):
        return False


def _take_out(tables: Tables, operations: Sequence[Operation]) -> None:
    """Operations leave the queue, and what they showed with them."""
    before = Before(tables, list(dict.fromkeys(operation.key for operation in operations)))
    tables.dequeue([operation.operation_id for operation in operations])
    redraw(tables, before, before.rows, "remote")


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
        if result.success and result.version is not None and not _is_told(result, is_plain=is_plain):
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


def _rows_of(
    tables: Tables, ended: Sequence[tuple[Operation | None, Result]], at: str | None, *, is_plain: bool
) -> list[Update]:
    """The entities that results carry. They do not say who wrote them, nor, of a new one, in which space it is."""
    owner = tables.value(OWNER)
    known = tables.rows({result.key for _, result in ended if result.key is not None})
    rows = []
    for operation, result in ended:
        if _is_told(result, is_plain=is_plain) and result.key is not None and result.version:
            about = [operation] if operation is not None else tables.pending([result.key]).get(result.key, [])
            space_id = next((space for one in about if (space := one.space_id or one.home) is not None), None)
            is_written = any(one.operation_type is not OperationType.RESOLVE for one in about)
            if space_id is None and result.key not in known and is_written and owner is not None:
                space_id = f"u-{owner}"  # what was shown without a space was made here, for the user's own
            row = Row(result.key, space_id, result.version, result.data, result.modified_at or at, owner)
            rows.append(Update(row, begins=is_first(result.version)))
    return rows


def _is_told(result: Result, *, is_plain: bool) -> bool:
    """Whether the result says what became of the entity; a plain server has nothing to say of a deleted one."""
    return result.has_data or (is_plain and result.success and result.operation_type is OperationType.DELETE)


def _settled_by(operation: Operation | None, result: Result) -> str | None:
    """The conflict that is open no more, by this operation or, meanwhile, by somebody else."""
    settled_before = result.problem is not None and result.problem.error_code in {"CONFLICT", "NOT_FOUND"}
    return operation.conflict_id if operation is not None and (result.success or settled_before) else None

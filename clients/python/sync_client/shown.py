"""What is shown of entities, and what of it a step changes: drafts are made anew, and the journal is told."""

from collections.abc import Collection
from typing import NamedTuple

from sync_client.drafts import decoded, drawn
from sync_client.stores.port import Tables
from sync_client.values import Draft, Entity, Key, Operation, Origin, Row, Touch, format_id


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


def redraw(tables: Tables, before: Before, rows: dict[Key, Row], origin: Origin) -> None:
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


def _shown(row: Row | None, draft: Draft | None) -> _Shown:
    if draft is not None:
        return _Shown(draft.data, is_pending=True)
    return _Shown(row.data if row is not None else None, is_pending=False)


def _same(before: _Shown, after: _Shown) -> bool:
    return before.data == after.data or decoded(before.data) == decoded(after.data)


def entity_of(key: Key, row: Row | None, draft: Draft | None) -> Entity | None:
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

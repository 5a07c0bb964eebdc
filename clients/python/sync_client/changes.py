"""The stream of what an application sees change: a position in the journal, and a look whenever something happened."""

from collections.abc import AsyncGenerator

from sync_client import views
from sync_client.signals import Signal
from sync_client.stores.port import JournalPage, Query, Store, Tables
from sync_client.values import Change, ChangeKind, Entity, Key, Touch, format_id

PAGE = 100
"""Transactions that are read together."""


async def follow(store: Store, moved: Signal, entity_type: str | None, *, existing: bool) -> AsyncGenerator[Change]:
    """Every change from now on, newest state of each; before them, on wish, what is there."""

    def begin(tables: Tables) -> tuple[int, list[Entity]]:
        query = Query(entity_type) if existing and entity_type is not None else None
        return tables.journal_end(), views.select(tables, query) if query is not None else []

    position, there = await store.run(begin)
    for entity in there:
        yield Change("created", entity.type, entity.id, entity, "remote")
    while not moved.is_over:
        moving = moved.next
        page, entities = await store.run(lambda tables, after=position: _read(tables, after, entity_type))  # type: ignore[misc]
        if page.has_gap:
            yield Change("reload", entity_type or "", "", None, "remote")
        for touch in _conflated(page.touches, entity_type):
            yield _change(touch, entities.get(touch.key))
        if page.position == position:
            await moving.wait()
        position = page.position


def _read(tables: Tables, after: int, entity_type: str | None) -> tuple[JournalPage, dict[Key, Entity]]:
    page = tables.journal(after=after, limit=PAGE)
    return page, views.entities(tables, [touch.key for touch in _conflated(page.touches, entity_type)])


def _conflated(touches: list[Touch], entity_type: str | None) -> list[Touch]:
    """One line for each entity: the last, but what was created in between stays created."""
    found: dict[Key, Touch] = {}
    for touch in touches:
        if entity_type not in {None, touch.key.entity_type}:
            continue
        earlier = found.pop(touch.key, None)
        kind: ChangeKind = (
            "created" if touch.kind == "updated" and earlier and earlier.kind == "created" else touch.kind
        )
        found[touch.key] = touch._replace(kind=kind)
    return list(found.values())


def _change(touch: Touch, entity: Entity | None) -> Change:
    kind: ChangeKind = "deleted" if entity is None else "updated" if touch.kind == "deleted" else touch.kind
    return Change(kind, touch.key.entity_type, format_id(touch.key.entity_id), entity, touch.origin)

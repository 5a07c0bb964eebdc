"""What the store is asked: each function answers from one transaction and changes nothing."""

import hashlib
from collections.abc import Collection
from itertools import takewhile

from sync_client.names import known_ids, replaced
from sync_client.shown import entity_of
from sync_client.stores.port import Query, Tables
from sync_client.values import Conflict, Entity, Key, Operation

CURSOR = "cursor"
SYNCED_AT = "last_sync_time"
"""Of a plain server: the time that the last reply named."""
IS_COMPLETE = "is_complete"
OWNER = "user_id"
"""Whose store it is, as text; None until a server said so."""


def entity(tables: Tables, key: Key) -> Entity | None:
    """An entity as the application sees it, also by the id under which it was made here."""
    found = entities(tables, [key])
    if not found:
        named = tables.aliases([key]).get(key)
        found = entities(tables, [named]) if named is not None else {}
    return next(iter(found.values()), None)


def entities(tables: Tables, keys: Collection[Key]) -> dict[Key, Entity]:
    rows, drafts = tables.rows(keys), tables.drafts(keys)
    found = {key: entity_of(key, rows.get(key), drafts.get(key)) for key in keys}
    return {key: one for key, one in found.items() if one is not None}


def select(tables: Tables, query: Query) -> list[Entity]:
    if wire_ids := known_ids(tables, [value for _, value in query.where]):
        query = query._replace(where=tuple((name, replaced(value, wire_ids)) for name, value in query.where))
    return list(entities(tables, tables.select(query)).values())


def open_conflicts(tables: Tables) -> list[Conflict]:
    """Those that nobody has settled, here or elsewhere."""
    conflicts = tables.conflicts()
    pending = tables.pending({conflict.key for conflict in conflicts})
    settled = {operation.conflict_id for some in pending.values() for operation in some}
    return [conflict for conflict in conflicts if conflict.conflict_id not in settled]


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


def is_plain(tables: Tables) -> bool:
    """Whether the last server followed the T3 document alone."""
    return tables.value(SYNCED_AT) is not None


def checksum(tables: Tables, space_id: str) -> int:
    """What the server computes of the space's live rows, too (docs/rest.md, Checksums)."""
    total = 0
    for key, version in tables.live_versions(space_id):
        text = f"{key.entity_type}/{key.entity_id}@{version}"
        total ^= int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    return total

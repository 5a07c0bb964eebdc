"""What the store is asked: each function answers from one transaction and changes nothing."""

from collections.abc import Collection
from itertools import takewhile
from typing import NamedTuple

from sync_client.fingerprints import BUCKETS, bucket_of, fingerprint, xored
from sync_client.frames import Receipt
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

PORTION_ROWS = 4_000
PORTION_CHARACTERS = 180_000
ROW_CHARACTERS = 32
"""Rows that one request names, the characters that they need, and what a row needs besides its name."""
MOST_PORTIONS = 8
"""Requests for rows, for each of which the server reads the whole space; past it, all rows are had for less."""


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
    return xored(bucket_checksums(tables, space_id))


def bucket_checksums(tables: Tables, space_id: str) -> list[int]:
    """The checksum of each bucket of the space's live rows."""
    totals = [0] * BUCKETS
    for _, key, version in tables.versions([space_id]):
        totals[bucket_of(key)] ^= fingerprint(key, version)
    return totals


def differing_spaces(tables: Tables, receipts: Collection[Receipt]) -> list[str]:
    """The spaces of which something else is here than the server says."""
    totals = {receipt.space_id: 0 for receipt in receipts}
    for space_id, key, version in tables.versions(totals):
        totals[space_id] ^= fingerprint(key, version)
    return [receipt.space_id for receipt in receipts if totals[receipt.space_id] != receipt.checksum]


class Named(NamedTuple):
    """The rows of some buckets of a space.

    Attributes:
        live: of each bucket the live ones, with their versions.
        dead: the deleted ones; the server is not told of them.
    """

    live: dict[int, dict[Key, int]]
    dead: dict[Key, int]

    @property
    def versions(self) -> dict[Key, int]:
        """Of every row."""
        return self.dead | {key: version for rows in self.live.values() for key, version in rows.items()}


def named_rows(tables: Tables, space_id: str, buckets: Collection[int]) -> Named:
    live: dict[int, dict[Key, int]] = {number: {} for number in buckets}
    for _, key, version in tables.versions([space_id]):
        number = bucket_of(key)
        if number in live:
            live[number][key] = version
    dead = {key: version for _, key, version in tables.versions([space_id], deleted=True) if bucket_of(key) in live}
    return Named(live, dead)


def portions(named: Named) -> list[Named] | None:
    """These rows in parts that a request may hold; None if one bucket or all of them have too many."""
    parts: list[Named] = []
    room_rows = room_characters = 0
    for number, rows in named.live.items():
        characters = sum(len(key.entity_type) + len(key.entity_id) + ROW_CHARACTERS for key in rows)
        if len(rows) > PORTION_ROWS or characters > PORTION_CHARACTERS:
            return None
        room_rows, room_characters = room_rows - len(rows), room_characters - characters - ROW_CHARACTERS
        if not parts or min(room_rows, room_characters) < 0:
            room_rows, room_characters = PORTION_ROWS - len(rows), PORTION_CHARACTERS - characters - ROW_CHARACTERS
            parts.append(Named({}, named.dead))
        parts[-1].live[number] = rows
    return parts if len(parts) <= MOST_PORTIONS else None

"""How a replica finds the rows in which it differs from the server: by buckets, then by rows (promise P9)."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NotRequired

import structlog

from sync_server.errors import CommandError
from sync_server.feed import Viewer, fitting
from sync_server.fingerprints import BUCKETS, bucket_checksums, bucket_of, checksum_of, format_checksum
from sync_server.handlers.access import read_as, role_in
from sync_server.handlers.spaces import Checksum, checksum_at
from sync_server.memberships import Places
from sync_server.orders import Committed
from sync_server.protocol.server_messages import OutId, UpdateItem
from sync_server.protocol.validation import validation_error
from sync_server.records import EntityKey, Receipt
from sync_server.services import Services
from sync_server.stores.reader import Reader
from sync_server.stores.writer import Writer
from sync_server.types import ClientId, EntityId, EntityType, Millis, SpaceId, UserId, format_id
from sync_server.views import update_item

MAX_ROWS = 5_000
"""Rows that a replica may name in one request."""
PAGE = 1_000
"""Rows that one answer tells at most."""
ROWS_PER_UNIT = 1_000
"""Rows of a space that count as one more request, as all of them are read."""
_log = structlog.get_logger(__name__)

Versions = Mapping[EntityKey, int]
"""The live entities of one bucket as a replica has them."""


class Comparison(Checksum):
    """All of one snapshot of the space. `differing` answers `buckets`; `updates`, `gone` and `has_more` answer `rows`.

    `updates` are entities that the replica lacks or has in another version, as in a snapshot; `gone` are those that it
    names and that are not there. With `has_more`, take these and ask again.
    """

    differing: NotRequired[list[int]]
    updates: NotRequired[list[UpdateItem]]
    gone: NotRequired[list[tuple[str, OutId]]]
    has_more: NotRequired[bool]


async def differing_buckets(
    services: Services, user_id: UserId, space_id: SpaceId, checksums: Sequence[int]
) -> Comparison:
    """In which buckets the replica differs, from the checksum of each of its own.

    A stored checksum that is not that of the rows is found here too, and put right.

    Raises:
        CommandError: NOT_FOUND, RATE_LIMIT_EXCEEDED.
    """
    await _charge(services, user_id, space_id)

    def query(reader: Reader, places: Places) -> tuple[Comparison, Receipt, bool]:
        role_in(places, space_id)
        answer = _snapshot(reader, space_id)
        answer["differing"] = []
        stored = reader.receipts((space_id,))[space_id]
        if _xor(checksums) == stored.checksum:
            return answer, stored, True  # as good as compared: nothing is read
        rows = reader.live_versions(space_id)
        ours = bucket_checksums(rows)
        answer["differing"] = [number for number in range(BUCKETS) if ours[number] != checksums[number]]
        answer["checksum"], answer["count"] = format_checksum(_xor(ours)), len(rows)
        return answer, stored, (stored.checksum, stored.live_count) == (_xor(ours), len(rows))

    answer, stored, is_sound = await read_as(services, user_id, query)
    if not is_sound:
        _log.error("checksum_differs", space_id=space_id, seq=answer["seq"])
        with suppress(CommandError):  # what was read is right, also where nothing can be written
            await services.committer.perform(partial(_recount, stored))
    services.feed.check_receipt(stored, is_sound=is_sound)
    return answer


def _recount(wrong: Receipt, writer: Writer, _now: Millis) -> tuple[None, Committed]:
    space_id = wrong.space_id
    if writer.receipts((space_id,))[space_id] == wrong:  # else it has changed meanwhile; who asks next finds it
        rows = writer.live_versions(space_id)
        more = len(rows) - wrong.live_count
        writer.shift_receipts([(space_id, wrong.checksum ^ checksum_of(rows), more, wrong.seq)])
    return None, Committed()


async def differing_rows(
    services: Services, user_id: UserId, space_id: SpaceId, buckets: Mapping[int, Versions]
) -> Comparison:
    """What the replica lacks, has otherwise, or should not have, in buckets of which it names every live row.

    Raises:
        CommandError: NOT_FOUND, RATE_LIMIT_EXCEEDED.
    """
    await _charge(services, user_id, space_id)

    def query(reader: Reader, places: Places) -> Comparison:
        role_in(places, space_id)
        theirs = {key: version for versions in buckets.values() for key, version in versions.items()}
        ours: dict[EntityKey, int] = {}
        for entity_type, entity_id, version in reader.live_versions(space_id):
            if bucket_of(entity_type, entity_id) in buckets:
                ours[EntityKey(entity_type, entity_id)] = version
        wanted = sorted(key for key, version in ours.items() if theirs.get(key) != version)
        updates = fitting(reader.states(wanted[:PAGE]))
        answer = _snapshot(reader, space_id)
        answer["updates"] = [update_item(update) for update in updates]
        answer["gone"] = [(key.entity_type, format_id(key.entity_id)) for key in sorted(theirs.keys() - ours.keys())]
        answer["has_more"] = len(updates) < len(wanted)
        return answer

    return await read_as(services, user_id, query)


def versions_by_bucket(rows: Mapping[str, Sequence[tuple[str, str, int]]]) -> dict[int, Versions]:
    """The rows of a request, checked.

    Raises:
        CommandError: VALIDATION_ERROR; too many, or one that is in another bucket.
    """
    if sum(map(len, rows.values())) > MAX_ROWS:
        error = validation_error("rows", f"are more than {MAX_ROWS}; name fewer buckets in a request")
        error.details["limit"] = MAX_ROWS
        raise error
    found: dict[int, Versions] = {}
    for name, some in rows.items():
        for index, (entity_type, entity_id, _) in enumerate(some):
            if bucket_of(entity_type, entity_id) != int(name):
                problem = f"is in bucket {bucket_of(entity_type, entity_id)}, by the CRC-32 of its type and id"
                raise validation_error(f"rows.{name}.{index}", problem)
        found[int(name)] = {EntityKey(EntityType(kind), EntityId(one)): version for kind, one, version in some}
    return found


async def _charge(services: Services, user_id: UserId, space_id: SpaceId) -> None:
    """Count the comparison as what it costs, beside the request that it is; half a minute's worth pays for any."""
    await services.feed.prepare_receipts(Viewer(user_id, ClientId(""), frozenset((space_id,))))
    units = services.feed.live_count(user_id, space_id) // ROWS_PER_UNIT
    if units:
        services.request_limit.spend(f"user:{user_id}", min(units, max(1, services.request_limit.per_minute // 2)))


def _snapshot(reader: Reader, space_id: SpaceId) -> Comparison:
    stored = checksum_at(reader, space_id)
    return Comparison(
        space_id=stored["space_id"],
        seq=stored["seq"],
        checksum=stored["checksum"],
        count=stored["count"],
        cursor=stored["cursor"],
    )


def _xor(checksums: Sequence[int]) -> int:
    total = 0
    for checksum in checksums:
        total ^= checksum
    return total

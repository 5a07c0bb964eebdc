"""When a write counts as made: the order in which the later of two writes is the one that stays."""

from collections.abc import Sequence
from typing import NamedTuple

from sync_server.conflict.model import Attempt, Revision
from sync_server.records import Entity
from sync_server.types import ClientId, Millis

TOLERANCE_MS = 2_000
"""How far a client's clock may run ahead of the server's before its stamps are held back."""


class Stamp(NamedTuple):
    """Stamps compare by time, then by client; the server's own repairs, of time 0 and no client, lose to any write."""

    at: Millis
    client_id: ClientId


def clamp(timestamp: Millis, *, base_at: Millis | None, now: Millis) -> Millis:
    """A client's time held between what it had already seen and now.

    Args:
        timestamp: when the client says that it wrote.
        base_at: when the version was committed that the write is based on; None where that is not known.
        now: the server's time.

    >>> clamp(Millis(50), base_at=Millis(70), now=Millis(100)), clamp(Millis(9_000), base_at=None, now=Millis(100))
    (70, 2100)
    """
    latest = Millis(now + TOLERANCE_MS)
    at = timestamp if base_at is None or timestamp > base_at else base_at
    return min(latest, at)


def write_stamp(attempt: Attempt, entity: Entity | None, history: Sequence[Revision], *, now: Millis) -> Stamp:
    """The stamp of an attempt."""
    at = write_time(attempt.timestamp, attempt.before_version, entity, history, now=now)
    return Stamp(at, attempt.client_id)


def write_time(
    timestamp: Millis, before_version: int | None, entity: Entity | None, history: Sequence[Revision], *, now: Millis
) -> Millis:
    """When a write counts as made; the log must keep it as the `timestamp` of the change."""
    return clamp(timestamp, base_at=_base_time(before_version, entity, history), now=now)


def revision_stamp(revision: Revision) -> Stamp:
    latest = revision.modified_at + TOLERANCE_MS
    return Stamp(Millis(min(revision.timestamp, latest)), revision.client_id)


def _base_time(version: int | None, entity: Entity | None, history: Sequence[Revision]) -> Millis | None:
    if version is None:
        return None
    if entity is not None and version == entity.version:
        return entity.updated_at
    return next((revision.modified_at for revision in history if revision.version == version), None)

"""Identifiers, enums and small values that every other module speaks in. Nothing here imports the project."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, NewType

EntityType = NewType("EntityType", str)
EntityId = NewType("EntityId", str)
SpaceId = NewType("SpaceId", str)
UserId = NewType("UserId", str)
ClientId = NewType("ClientId", str)
ConnectionId = NewType("ConnectionId", str)
OperationId = NewType("OperationId", str)
ConflictId = NewType("ConflictId", str)
SyncId = NewType("SyncId", str)
Seq = NewType("Seq", int)
"""Position of a change in the log: contiguous, in commit order, first is 1."""
Millis = NewType("Millis", int)
"""A moment: milliseconds since 1970-01-01T00:00:00Z."""

Json = dict[str, Any]

IDENTIFIER_PATTERN = r"^[A-Za-z0-9_\-]{1,64}$"
SPACE_ID_PATTERN = r"^[A-Za-z0-9_\-]{1,66}$"
"""An identifier, or `u-` before one: the personal space of a user."""
MAX_WIRE_INTEGER = 2**53 - 1
"""The largest integer that every JSON client reads exactly; larger decimal ids stay strings."""


class OperationType(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    READ = "read"
    RESOLVE = "resolve"


class Verdict(StrEnum):
    """The one durable end of an operation (promise P3)."""

    APPLIED = "applied"
    MERGED = "merged"
    SUPERSEDED = "superseded"
    CONFLICT = "conflict"
    REJECTED = "rejected"

    @property
    def is_success(self) -> bool:
        return self in _SUCCESSES


_SUCCESSES = frozenset({Verdict.APPLIED, Verdict.MERGED, Verdict.SUPERSEDED})


class ConflictType(StrEnum):
    CONTENT = "content"
    VERSION = "version"
    DELETE = "delete"
    PARENT = "parent"
    UNIQUE = "unique"


class Strategy(StrEnum):
    SERVER_WINS = "server_wins"
    CLIENT_WINS = "client_wins"
    MERGE = "merge"
    MANUAL = "manual"
    LATEST_WINS = "latest_wins"


class StrategySource(StrEnum):
    """What named the strategy that was in force for an operation."""

    OPERATION = "operation"
    REQUEST = "request"
    TYPE = "type"


class SyncStatus(StrEnum):
    PENDING = "pending"
    SYNCING = "syncing"
    SUCCESS = "success"
    FAILED = "failed"
    CONFLICT = "conflict"
    CANCELLED = "cancelled"


class Role(StrEnum):
    """What a member may do in a space; each role includes the ones below it."""

    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"

    @property
    def can_write(self) -> bool:
        return self is not Role.VIEWER

    @property
    def can_manage(self) -> bool:
        return self is Role.OWNER


def parse_id(wire: int | str) -> str:
    """The stored text of an id as it came over the wire.

    >>> parse_id(124), parse_id("124"), parse_id("note-a")
    ('124', '124', 'note-a')
    """
    return str(wire)


def format_id(stored: str) -> int | str:
    """The wire form of a stored id: a canonical decimal is a JSON number, all else a string.

    >>> format_id("124"), format_id("0124"), format_id("note-a")
    (124, '0124', 'note-a')
    """
    if stored.isascii() and stored.isdigit() and (stored[0] != "0" or stored == "0"):
        number = int(stored) if len(stored) <= 16 else MAX_WIRE_INTEGER + 1  # noqa: PLR2004  2**53 has 16 digits
        if number <= MAX_WIRE_INTEGER:
            return number
    return stored


@lru_cache(maxsize=4096)
def format_time(at: Millis) -> str:
    """RFC 3339 in UTC; milliseconds only where there are any, so whole seconds look as in the contract.

    >>> format_time(Millis(1704880800000)), format_time(Millis(1704880800120))
    ('2024-01-10T10:00:00Z', '2024-01-10T10:00:00.120Z')
    """
    moment = _EPOCH + at * _MILLISECOND
    precision = "milliseconds" if at % 1000 else "seconds"
    return moment.isoformat(timespec=precision)[:-6] + "Z"


def parse_time(text: str) -> Millis:
    """Whole milliseconds of an RFC 3339 or ISO 8601 text; without an offset it is taken as UTC.

    Raises:
        ValueError: the text is no moment between the years 1 and 9999.

    >>> parse_time("2024-01-10T10:00:00Z")
    1704880800000
    """
    moment = datetime.fromisoformat(text)
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:  # its offset takes it out of those years
        raise ValueError(text) from error
    return Millis((moment - _EPOCH) // _MILLISECOND)  # never up, which could lead into the year 10000


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

"""What a server says, typed: values that `wire` makes of bytes and the machine takes as events."""

from typing import NamedTuple

from sync_client.values import Conflict, Json, Key, OperationType, Problem, Row, WireId


class Update(NamedTuple):
    """A row as it was told.

    Attributes:
        begins: it may begin a deleted entity anew, see protocol section 5.
        is_revoked: the entity may be seen no more; nothing of it stays.
        seq: the position of the change; 0 where a plain server tells it.
    """

    row: Row
    begins: bool = False
    is_revoked: bool = False
    seq: int = 0


class Receipt(NamedTuple):
    """The live rows of a space as of its last change `seq`: the XOR of their fingerprints."""

    space_id: str
    seq: int
    checksum: int


class Admission(NamedTuple):
    """The reply to a token."""

    user_id: WireId | None
    problem: Problem | None


class Limits(NamedTuple):
    """What a request may hold. The defaults are the protocol's, for a server that does not say."""

    max_message_bytes: int = 262_144
    max_operations: int = 1_000


class Greeting(NamedTuple):
    """The reply to a handshake.

    Attributes:
        capabilities: None where the server names none: it is plain.
        admission: the reply to a token that went with the handshake.
    """

    capabilities: frozenset[str] | None
    limits: Limits
    heartbeat_s: float | None
    admission: Admission | None
    problem: Problem | None


class Expiring(NamedTuple):
    """The token ends soon."""


class Result(NamedTuple):
    """How an operation ended, or that it has not yet.

    Attributes:
        key: of the entity as the server names it; None where it names none.
        version: of the entity once the operation had taken effect; None where it says none.
        has_data: `data` is the entity as it stands, None if that is nothing; else the reply had no room for it.
        modified_at: when that was committed, where the server says it.
    """

    operation_id: str
    operation_type: OperationType | None
    success: bool
    verdict: str | None
    key: Key | None
    version: int | None
    has_data: bool
    data: str | None
    conflict_id: str | None
    problem: Problem | None
    modified_at: str | None = None


class Results(NamedTuple):
    """The reply to a sync.

    Attributes:
        omits_conflicts: the reply had no room for all of them.
        resets: spaces whose rows are replaced, None: all.
        synced_at: the server's time of the reply, as it wrote it.
        receipts: of the spaces that the request changed.
    """

    message_id: str | None
    results: list[Result]
    updates: list[Update]
    conflicts: list[Conflict]
    resets: list[str | None]
    synced_at: str | None
    has_more: bool
    omits_conflicts: bool = False
    receipts: tuple[Receipt, ...] = ()


class Changes(NamedTuple):
    """Pushed rows, and the cursor of who has them; a plain server gives none."""

    updates: list[Update]
    cursor: str | None


class Reset(NamedTuple):
    """The rows of a space (None: all) will be told anew."""

    space_id: str | None


class CaughtUp(NamedTuple):
    """
    Attributes:
        receipts: what must be here now; None from a server that does not say.
    """

    cursor: str | None
    receipts: tuple[Receipt, ...] | None = None


class DifferingBuckets(NamedTuple):
    """In which buckets a space differs, and the checksum that it should have."""

    buckets: list[int]
    checksum: int


class DifferingRows(NamedTuple):
    """What the rows that were named should be.

    Attributes:
        updates: rows that were not named, or in another version.
        gone: named ones that are not there.
        has_more: there are more updates: ask again with what is here then.
    """

    updates: list[Update]
    gone: list[Key]
    has_more: bool


class ConflictOpened(NamedTuple):
    conflict: Conflict


class ConflictClosed(NamedTuple):
    conflict_id: str


class Ping(NamedTuple):
    message_id: str | None
    timestamp: str | None


class Heard(NamedTuple):
    """Anything else: a sign of life."""


class Failure(NamedTuple):
    """The answer to a message that failed; without a message id, one that could not be read."""

    message_id: str | None
    problem: Problem
    is_retryable: bool
    retry_after_s: float | None


class Goodbye(NamedTuple):
    reason: str
    retry_after_s: float | None


Frame = (
    Greeting | Admission | Expiring | Results | Changes | Reset | CaughtUp | ConflictOpened | ConflictClosed | Ping
    | Heard | Failure | Goodbye
)  # fmt: skip

Message = Json
"""What the client says: a map as the protocol has it."""

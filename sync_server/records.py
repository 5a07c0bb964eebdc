"""The rows that travel between the engine, the stores and the doors. Values only; no behaviour beyond naming."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sync_server.errors import ErrorCode
from sync_server.types import (
    ClientId,
    ConflictId,
    ConflictType,
    EntityId,
    EntityType,
    Json,
    Millis,
    OperationId,
    OperationType,
    Role,
    Seq,
    SpaceId,
    Strategy,
    StrategySource,
    SyncId,
    SyncStatus,
    UserId,
    Verdict,
)

VERSION_STRIDE = 1_000_000
"""Versions of one epoch and of the next are whole strides apart, so that none of them has two meanings."""


class EntityKey(NamedTuple):
    entity_type: EntityType
    entity_id: EntityId


class Entity(NamedTuple):
    """The newest state of an entity; of a deleted one, its last data (a tombstone)."""

    entity_type: EntityType
    entity_id: EntityId
    space_id: SpaceId
    version: int
    data: Json
    deleted: bool
    created_at: Millis
    updated_at: Millis
    modified_by: UserId
    created_seq: Seq
    seq: Seq

    @property
    def key(self) -> EntityKey:
        return EntityKey(self.entity_type, self.entity_id)


class Change(NamedTuple):
    """One row of the log: what was committed.

    `data` is the JSON text of the entity's fields after the change, as stored and as spliced into frames. `previous`
    is the JSON text of `{field: [value before]}` for each changed field, `[]` where the field was absent. `submitted`
    is the JSON text of the fields whose stored value differs from what the client sent, as it sent them.
    """

    seq: Seq
    space_id: SpaceId
    entity_type: EntityType
    entity_id: EntityId
    version: int
    operation_type: OperationType
    data: str
    previous: str
    submitted: str | None
    rule: str
    timestamp: Millis
    modified_at: Millis
    modified_by: UserId
    client_id: ClientId
    operation_id: OperationId
    after_version: int | None
    """The version before it, 0 for the first; None in old rows: `version - 1`."""
    previous_seq: Seq
    """The change before of the same entity, 0 for its first."""

    @property
    def key(self) -> EntityKey:
        return EntityKey(self.entity_type, self.entity_id)


class Step(NamedTuple):
    """A row of the log without its data: which fields it changed, by which operation of whom.

    Attributes:
        after: the version before it.
        submitted: the fields that it sent otherwise than they were stored.
    """

    version: int
    after: int
    seq: Seq
    operation_type: OperationType
    fields: tuple[str, ...]
    rule: str
    modified_at: Millis
    modified_by: UserId
    client_id: ClientId
    operation_id: OperationId
    submitted: tuple[str, ...] = ()

    def sent(self, name: str) -> bool:
        """Whether it changed the field or tried to."""
        return name in self.fields or name in self.submitted


class Conflict(NamedTuple):
    """A stored conflict: both sides, their base and the rule that fired. Open until somebody or a rule settles it."""

    conflict_id: ConflictId
    conflict_type: ConflictType
    space_id: SpaceId
    entity_type: EntityType
    entity_id: EntityId
    operation_id: OperationId
    operation_type: OperationType
    user_id: UserId
    client_id: ClientId
    sync_id: SyncId
    fields: tuple[str, ...]
    rule: str
    suggested_strategy: Strategy
    base: Json
    server_version: int
    server_data: Json
    server_modified_at: Millis
    server_modified_by: UserId
    client_version: int
    client_data: Json
    client_modified_at: Millis
    created_at: Millis
    is_open: bool
    strategy: Strategy | None
    resolved_data: Json | None
    resolved_at: Millis | None
    resolved_by: UserId | None
    """None while open, and where a rule settled it; such a conflict may still be settled once by a person."""


class Membership(NamedTuple):
    """One user's place in a space. Without a role it is a revoked one, kept so that feeds can tell the user."""

    space_id: SpaceId
    user_id: UserId
    role: Role | None
    seq: Seq
    """Position in the log of the grant or the revocation; 0 for a personal space."""


class Space(NamedTuple):
    space_id: SpaceId
    name: str
    owner: UserId
    created_at: Millis


class Receipt(NamedTuple):
    """The live entities of a space as of its last change `seq`; it holds until the space's next change.

    Attributes:
        checksum: the XOR of their fingerprints, 64 bits without a sign.
        live_count: how many they are.
    """

    space_id: SpaceId
    seq: Seq
    checksum: int
    live_count: int


class Update(NamedTuple):
    """A change as a feed tells it. `data` is the entity's JSON text, None where it is gone for the reader."""

    seq: Seq
    space_id: SpaceId
    entity_type: EntityType
    entity_id: EntityId
    version: int
    operation_type: str
    data: str | None
    modified_at: Millis
    modified_by: UserId
    client_id: ClientId
    reason: str | None = None


def update_of(change: Sequence[Any]) -> Update:
    """A row of the log, its columns in the order of `Change`, as a feed tells it."""
    data = None if change[5] == _DELETE else change[6]
    return Update._make((*change[:6], data, *change[11:14], None))


_DELETE = OperationType.DELETE.value


class Decision(NamedTuple):
    """The durable end of one operation, in the order of the table's columns."""

    user_id: UserId
    client_id: ClientId
    operation_id: OperationId
    body_hash: bytes
    sync_id: SyncId
    operation_type: OperationType
    entity_type: EntityType | None
    entity_id: EntityId | None
    verdict: Verdict
    rule: str
    version: int | None
    seq: Seq | None
    conflict_id: ConflictId | None
    error_code: ErrorCode | None
    error: str | None
    details: Json | None
    body: str | None
    retry_count: int
    created_at: Millis
    place: int = 0
    """Where in its request the operation stood, kept with its body: operations are tried again in their order."""
    base_version: int | None = None
    """The version that the client built on, 0 for a create; None where it named none."""
    strategy: Strategy | None = None
    """The strategy in force, kept with its source and `sent` where the log does not tell what they did: where the
    operation met another state than its base, changed nothing, or resolves a conflict. Of a rejected operation the one
    that its request named, in force if it is tried again."""
    strategy_source: StrategySource | None = None
    sent: tuple[str, ...] | None = None
    """The names of the fields that it sent."""

    @property
    def key(self) -> "DecisionKey":
        return DecisionKey(self.user_id, self.client_id, self.operation_id)


class DecisionKey(NamedTuple):
    """The idempotency key of an operation (promise P2)."""

    user_id: UserId
    client_id: ClientId
    operation_id: OperationId


class SyncRecord(NamedTuple):
    """One sync of a client, of one or several requests, in the order of the table's columns."""

    sync_id: SyncId
    user_id: UserId
    client_id: ClientId
    status: SyncStatus
    started_at: Millis
    ended_at: Millis | None
    total_operations: int
    successful_operations: int
    failed_operations: int
    conflicts_count: int
    entity_types: tuple[str, ...]
    error: str | None

    @property
    def key(self) -> "SyncKey":
        return SyncKey(self.user_id, self.sync_id)


class SyncKey(NamedTuple):
    """A user's syncs have names of their own: another user's may be the same."""

    user_id: UserId
    sync_id: SyncId


class Filter(NamedTuple):
    """What a reader narrows itself to; None is everything that the user reads."""

    spaces: tuple[str, ...] | None = None
    entity_types: tuple[str, ...] | None = None


class Followed(NamedTuple):
    """What a client's last WebSocket follows, and once it is closed, what was written to it.

    Everything after `start` and up to `position` was; where the client resumed from a cursor, it had the rest before.
    """

    wanted: Filter
    is_resumed: bool
    epoch: str | None = None
    start: Seq | None = None
    position: Seq | None = None
    closed_at: Millis | None = None


class ClientRecord(NamedTuple):
    """`cursor` went out with the sync response of `last_sync_time`, which told what `asked` let through."""

    user_id: UserId
    client_id: ClientId
    device: Json
    cursor: str | None
    last_sync_time: Millis | None
    asked: Filter | None = None
    followed: Followed | None = None


class Head(NamedTuple):
    """Where the log stands: rows with floor_seq < seq <= head_seq are in it."""

    epoch: str
    head_seq: Seq
    floor_seq: Seq
    version_floor: int = 0
    """Versions that are made in this epoch are above it; a multiple of VERSION_STRIDE."""

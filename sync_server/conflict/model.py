"""The values that the conflict engine takes and gives. No clock, no store, no socket: see `decide`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from schema.entity import EntitySpec
from sync_server.errors import ErrorCode
from sync_server.records import Entity, EntityKey
from sync_server.types import (
    ClientId,
    ConflictType,
    EntityId,
    EntityType,
    Json,
    Millis,
    OperationId,
    OperationType,
    SpaceId,
    Strategy,
    UserId,
    Verdict,
)


class Rule(StrEnum):
    """Why a verdict is what it is; stored, shown on the wire and in histories."""

    CREATED = "created"
    SAME_VERSION = "same_version"
    NO_BASE = "no_base"
    """The operation named no version: it applies to whatever is there."""
    OWN_QUEUE = "own_queue"
    """Everything since the base came from the same client, earlier in its queue."""
    DISJOINT = "disjoint_fields"
    FIELD_MERGE = "field_merge"
    NO_CHANGE = "no_change"
    LAST_WRITER = "last_writer"
    SERVER_WINS = "server_wins"
    CLIENT_WINS = "client_wins"
    LATEST_WINS = "latest_wins"
    MERGE = "merge"
    MANUAL = "manual"
    EDIT_WINS = "edit_wins"
    DELETE_WINS = "delete_wins"
    PARENT_GONE = "parent_gone"
    PARENT_CYCLE = "parent_cycle"
    PARENT_TOO_DEEP = "parent_too_deep"
    UNIQUE_SUFFIX = "unique_suffix"
    UNIQUE_TAKEN = "unique_taken"
    RESOLVED = "resolved"
    INVALID = "invalid"


class Attempt(NamedTuple):
    """One create, update or delete as the engine sees it: validated fields, references already resolved to ids."""

    operation_id: OperationId
    operation_type: OperationType
    entity_type: EntityType
    entity_id: EntityId
    space_id: SpaceId
    fields: Json
    before_version: int | None
    strategy: Strategy | None
    """Of the operation, else of the request; None leaves it to the entity type."""
    timestamp: Millis
    user_id: UserId
    client_id: ClientId


class Revision(NamedTuple):
    """One past version of an entity, from the log. `previous[field]` is `[value]`, or `[]` where it was absent."""

    version: int
    operation_type: OperationType
    data: Json
    previous: Mapping[str, Sequence[object]]
    submitted: Json
    timestamp: Millis
    modified_at: Millis
    user_id: UserId
    client_id: ClientId
    rule: Rule
    after: int
    """The version before it, 0 for the first. It need not be one less: versions leap where an epoch begins."""


class Claim(NamedTuple):
    """A unique value that a live entity holds in its space. `value` is canonical JSON text of the key's values."""

    entity_type: EntityType
    space_id: SpaceId
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the constraints must see beside the entity itself.

    Attributes:
        entities: the parents that the attempt names and their ancestors; a key that is not there does not exist.
        claims: who holds the unique values that the attempt would take, and their suffixed forms.
        children: live entities that have this one as their parent.
        specs: the types of the children; a child whose type is not there never keeps its parent.
    """

    entities: Mapping[EntityKey, Entity]
    claims: Mapping[Claim, EntityId]
    children: Sequence[Entity] = ()
    specs: Mapping[EntityType, EntitySpec] = field(default_factory=dict)


class Dispute(NamedTuple):
    """A conflict as the engine found it; the committer adds ids, versions and times and stores it."""

    conflict_type: ConflictType
    fields: tuple[str, ...]
    base: Json
    rule: Rule
    suggested_strategy: Strategy
    is_open: bool


class Refusal(NamedTuple):
    code: ErrorCode
    message: str
    details: Json


class Outcome(NamedTuple):
    """What becomes of an attempt.

    Attributes:
        data: the entity's fields afterwards; None where the entity stays exactly as it is.
        submitted: the fields whose stored value differs from what the client sent, as it sent them.
        disputes: every conflict that was met, open or settled, also when nothing of the attempt was applied.
        deleted: whether the entity is deleted afterwards.
        refusal: set exactly when the verdict is `rejected`.
    """

    verdict: Verdict
    rule: Rule
    data: Json | None = None
    submitted: Json = {}
    disputes: tuple[Dispute, ...] = ()
    deleted: bool = False
    refusal: Refusal | None = None

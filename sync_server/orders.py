"""What the doors hand to the committer and get back: batches of checked operations, and what became of each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sync_server.conflict.model import Refusal
from sync_server.records import Conflict, Decision, Receipt, Update
from sync_server.types import (
    ClientId,
    ConflictId,
    EntityId,
    EntityType,
    Json,
    Millis,
    OperationId,
    OperationType,
    Seq,
    SpaceId,
    Strategy,
    StrategySource,
    SyncId,
    UserId,
)


class Order(NamedTuple):
    """One operation, its fields validated against the entity type; references may still name operations.

    `raw` is the operation as it came, kept where it does not succeed. `body_hash` covers what the operation means and
    not when it was sent, so that a resend is recognised.
    """

    operation_id: OperationId
    operation_type: OperationType
    entity_type: EntityType | None
    entity_id: EntityId | None
    entity_ref: OperationId | None
    space_id: SpaceId | None
    fields: Json
    before_version: int | None
    strategy: Strategy | None
    timestamp: Millis
    conflict_id: ConflictId | None
    resolved_data: Json | None
    body_hash: bytes
    raw: Json
    refusal: Refusal | None = None
    """Set where the door already knows that the operation cannot be done; its verdict is stored all the same."""
    retry_of: Decision | None = None
    strategy_source: StrategySource = StrategySource.TYPE

    @property
    def base_version(self) -> int | None:
        """The version that the client built on; a create builds on nothing."""
        return 0 if self.operation_type is OperationType.CREATE else self.before_version


class Batch(NamedTuple):
    """The operations of one request of one client, decided in order within one transaction."""

    user_id: UserId
    client_id: ClientId
    sync_id: SyncId
    orders: tuple[Order, ...]
    home: SpaceId
    """The space of an operation that names none."""
    atomic: bool = False
    is_last: bool = True
    entity_types: tuple[EntityType, ...] = ()


class Decided(NamedTuple):
    """A verdict and what the reply to it says besides: the entity's JSON text after it, the conflicts it met.

    A fresh verdict does not know its own `seq`: ask here.
    """

    decision: Decision
    data: str | None = None
    conflicts: tuple[Conflict, ...] = ()
    change: Sequence[Any] | None = None
    """The row of the log that it made in this round; the row has its number once the round is saved."""
    duplicate: bool = False

    @property
    def seq(self) -> Seq | None:
        """The position of its change; None where nothing changed."""
        number: Seq | None = self.change[0] if self.change is not None else self.decision.seq
        return number


class Committed(NamedTuple):
    """What a transaction made true, in seq order: the only source of pushes (promise P6)."""

    updates: tuple[Update, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    """Conflicts that were met, open or settled by a rule."""
    settled: tuple[tuple[Conflict, int | None], ...] = ()
    """Conflicts that somebody settled, each with the entity's version after it."""
    receipts: tuple[Receipt, ...] = ()
    """Of the spaces whose entities changed."""

"""What the store keeps and the application gets: plain values, no behaviour beyond reading them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import msgspec

Json = dict[str, Any]
WireId = int | str
"""A decimal number is a JSON number on the wire, any other id is text (protocol, section 1)."""

_MAX_WIRE_INTEGER = 2**53 - 1


class Key(NamedTuple):
    """Names an entity; the id as text."""

    entity_type: str
    entity_id: str


def parse_id(wire: WireId) -> str:
    """The text under which an id of the wire is stored.

    >>> parse_id(124), parse_id("note-a")
    ('124', 'note-a')
    """
    return str(wire)


def format_id(stored: str) -> WireId:
    """The wire form of a stored id.

    >>> format_id("124"), format_id("0124"), format_id("note-a")
    (124, '0124', 'note-a')
    """
    is_decimal = stored.isascii() and stored.isdigit() and (stored[0] != "0" or stored == "0")
    if is_decimal and len(stored) <= 16 and int(stored) <= _MAX_WIRE_INTEGER:  # noqa: PLR2004  2**53 has 16 digits
        return int(stored)
    return stored


class Row(NamedTuple):
    """An entity as the server has it. `data` is JSON text with its `id`; None where it is deleted.

    Attributes:
        stale: a reset marked it: unless it is told again, it goes when the snapshot is complete.
    """

    key: Key
    space_id: str | None
    version: int
    data: str | None
    modified_at: str | None
    modified_by: str | None
    stale: bool = False


class Draft(NamedTuple):
    """What the application sees of an entity with pending operations; `data` is None where they end in nothing."""

    key: Key
    space_id: str | None
    data: str | None


class OperationType(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    READ = "read"
    RESOLVE = "resolve"


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something the application did that has no verdict yet. What is sent of it never changes, but for a plain server.

    Attributes:
        fields: data of a create, changes of an update, `resolved_data` of a resolve that merges.
        before_version: the version of the row that it was made on; 0 where there was none.
        timestamp: when it was made, RFC 3339.
        home: the space in which the entity was shown when this was made.
        group: names the transaction it belongs to; its operations take effect together or not at all.
        shown: of a resolve: what the entity is shown as meanwhile; None as it is.
        shows_nothing: of a resolve: the entity is shown as deleted meanwhile.
        on_conflict: the strategy for fields that changed on both sides; None leaves it to the entity type.
        acknowledged: its verdict is known and its effect is in the entity from this version on.
        position: its place in the queue; 0 before it is stored.
    """

    operation_id: str
    operation_type: OperationType
    entity_type: str
    entity_id: str
    timestamp: str
    fields: Json | None = None
    before_version: int = 0
    space_id: str | None = None
    home: str | None = None
    group: str | None = None
    conflict_id: str | None = None
    strategy: str | None = None
    shown: Json | None = None
    shows_nothing: bool = False
    on_conflict: str | None = None
    acknowledged: int | None = None
    position: int = 0

    @property
    def key(self) -> Key:
        return Key(self.entity_type, self.entity_id)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why an operation was not accepted, in the server's words."""

    error: str
    error_code: str
    details: Json = msgspec.field(default_factory=dict)


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """An operation that was not accepted: it waits to be retried, maybe with other fields, or dropped.

    Attributes:
        since: when it was refused, RFC 3339.
    """

    operation: Operation
    problem: Problem
    since: str

    @property
    def operation_id(self) -> str:
        return self.operation.operation_id


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a conflict. `data` is None where that side deleted the entity."""

    version: int = 0
    data: Json | None = None
    modified_at: str | None = None
    modified_by: WireId | None = None


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Two sides changed the same; a person decides. Settle it with `keep_mine`, `keep_theirs` or `merge`.

    Attributes:
        mine: the side of whoever's operation met the conflict.
        theirs: what stands.
        base: the disputed fields before both; None where it is not known.
        whole: the entity as the server has it, or had it before it was deleted.
        fields: the names of the disputed fields.
        rule: why it could not be settled by itself.
    """

    conflict_id: str
    conflict_type: str
    entity_type: str
    entity_id: str
    operation_id: str | None
    fields: list[str]
    mine: Side
    theirs: Side
    base: Json | None
    whole: Json
    rule: str | None
    since: str
    space_id: str | None = None

    @property
    def key(self) -> Key:
        return Key(self.entity_type, self.entity_id)


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity as the application sees it: the server's row with the pending operations on top.

    Attributes:
        id: a number where the server made it up, text where a client did.
        data: its fields; a copy, yours to change.
        version: the server's; 0 where it has none yet.
        is_pending: some of it has not reached the server yet.
    """

    type: str
    id: WireId
    data: Json = field(default_factory=dict)
    version: int = 0
    space_id: str | None = None
    is_pending: bool = False
    modified_at: str | None = None
    modified_by: WireId | None = None

    @property
    def key(self) -> Key:
        return Key(self.type, parse_id(self.id))

    def __getitem__(self, name: str) -> Any:
        return self.data[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.data.get(name, default)


ChangeKind = Literal["created", "updated", "deleted", "reload"]
Origin = Literal["local", "remote"]


class Touch(NamedTuple):
    """A journal line: what became of an entity as the application sees it."""

    key: Key
    kind: ChangeKind
    origin: Origin


@dataclass(frozen=True, slots=True)
class Change:
    """What the application saw change. Several changes of an entity that nobody has read yet come as one.

    Attributes:
        kind: `reload` says that more changed than is kept: query again.
        entity: as it is now; None where it is gone.
        origin: `local` where it was written on this store, by this process or another.
    """

    kind: ChangeKind
    type: str
    id: WireId
    entity: Entity | None
    origin: Origin


class LinkState(StrEnum):
    """The connection in a person's words."""

    OFFLINE = "offline"
    CONNECTING = "connecting"
    CATCHING_UP = "catching_up"
    LIVE = "live"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Progress:
    """A first sync under way: how many entities have come. The server does not say how many there will be."""

    rows: int


@dataclass(frozen=True, slots=True)
class Status:
    """What a person may be shown.

    Attributes:
        since: when the state began.
        pending: operations without a verdict.
        conflicts: open ones.
        quarantined: operations that were not accepted.
        last_synced_at: when everything the server had was last known to be here; None before the first time.
        progress: of a first sync, while it lasts.
        link: `websocket`, `events` or `poll`, while connected.
        problem: why it is offline or stopped, in a sentence; None where there is nothing to say.
        is_syncing_here: this process holds the connection; else another one on the same store does.
        client_id: what the server knows this store as; who runs it asks by that name why a row is here or is not.
    """

    state: LinkState
    since: datetime
    pending: int = 0
    conflicts: int = 0
    quarantined: int = 0
    last_synced_at: datetime | None = None
    progress: Progress | None = None
    link: str | None = None
    problem: str | None = None
    is_syncing_here: bool = True
    client_id: str = ""

    @property
    def is_settled(self) -> bool:
        """Everything is up, and everything that the server had is here."""
        return self.state is LinkState.LIVE and not self.pending


Fields = Mapping[str, Any]

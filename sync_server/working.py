"""The state of one commit round: what was loaded, overlaid by what the round has decided so far."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from schema.registry import Registry
from sync_server.conflict.constraints import claims_of
from sync_server.conflict.model import Claim, Revision, Surroundings
from sync_server.conflict.values import equal
from sync_server.orders import Decided
from sync_server.records import Change, Conflict, DecisionKey, Entity, EntityKey
from sync_server.stores.reader import Reader, references_of
from sync_server.stores.writer import Writer, dump
from sync_server.types import (
    ClientId,
    ConflictId,
    EntityId,
    Json,
    Millis,
    OperationId,
    OperationType,
    Role,
    Seq,
    SpaceId,
    UserId,
)


class Origin(NamedTuple):
    """Who and what a change comes from."""

    user_id: UserId
    client_id: ClientId
    operation_id: OperationId
    timestamp: Millis
    rule: str


class Entities(Mapping[EntityKey, Entity]):
    """The entities as the round sees them; what was not loaded with the rest is fetched when asked for."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[EntityKey, Entity | None] = {}

    def load(self, keys: Iterable[EntityKey]) -> None:
        wanted = {key for key in keys if key not in self._known}
        found = self._reader.entities(wanted)
        self._known.update((key, found.get(key)) for key in wanted)

    def put(self, entity: Entity) -> None:
        self._known[entity.key] = entity

    def copy(self) -> "Entities":
        twin = Entities(self._reader)
        twin._known = dict(self._known)
        return twin

    def get(self, key: EntityKey, default: Entity | None = None) -> Entity | None:  # type: ignore[override]
        if key not in self._known:
            self.load((key,))
        entity = self._known[key]
        return entity if entity is not None else default

    def __getitem__(self, key: EntityKey) -> Entity:
        entity = self.get(key)
        if entity is None:
            raise KeyError(key)
        return entity

    def __iter__(self) -> Iterator[EntityKey]:
        return (key for key, entity in self._known.items() if entity is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Claims(Mapping[Claim, EntityId]):
    """Who holds which unique value as the round sees it; what was not loaded is fetched when asked for."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[Claim, EntityId | None] = {}
        self.released: set[Claim] = set()
        self.taken: dict[Claim, EntityId] = {}

    def load(self, claims: Iterable[Claim]) -> None:
        wanted = {claim for claim in claims if claim not in self._known}
        found = self._reader.claims(wanted)
        self._known.update((claim, found.get(claim)) for claim in wanted)

    def move(self, entity_id: EntityId, released: Iterable[Claim], taken: Iterable[Claim]) -> None:
        """A live holder keeps its value against another entity; who is last to come has none then."""
        for claim in released:
            if self.get(claim) != entity_id:
                continue
            self._known[claim] = None
            self.taken.pop(claim, None)
            self.released.add(claim)
        for claim in taken:
            if self.get(claim, entity_id) != entity_id:
                continue
            self._known[claim] = entity_id
            self.released.discard(claim)
            self.taken[claim] = entity_id

    def copy(self) -> "Claims":
        twin = Claims(self._reader)
        twin._known = dict(self._known)
        twin.released, twin.taken = set(self.released), dict(self.taken)
        return twin

    def get(self, claim: Claim, default: EntityId | None = None) -> EntityId | None:  # type: ignore[override]
        if claim not in self._known:
            self.load((claim,))
        holder = self._known[claim]
        return holder if holder is not None else default

    def __getitem__(self, claim: Claim) -> EntityId:
        holder = self.get(claim)
        if holder is None:
            raise KeyError(claim)
        return holder

    def __iter__(self) -> Iterator[Claim]:
        return (claim for claim, holder in self._known.items() if holder is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Working:
    """Everything a round knows and has decided; written with `save`, undone by going back to a `copy`."""

    def __init__(self, reader: Reader, registry: Registry, now: Millis) -> None:
        self._reader = reader
        self._registry = registry
        self.now = now
        self.entities = Entities(reader)
        self.claims = Claims(reader)
        self.surroundings = Surroundings(self.entities, self.claims, specs=registry)
        self.revisions: dict[EntityKey, list[Revision]] = {}
        self.children: dict[EntityKey, set[EntityKey]] = {}
        self.roles: dict[tuple[SpaceId, UserId], Role] = {}
        self.conflicts: dict[ConflictId, Conflict] = {}
        self.decided: dict[DecisionKey, Decided] = {}
        self.met: dict[ConflictId, None] = {}
        self.settled: dict[ConflictId, int | None] = {}
        self.changes: list[tuple[Any, ...]] = []  # the fields of a `Change` but its number
        self._texts: dict[EntityKey, str] = {}

    def copy(self) -> "Working":
        twin = Working(self._reader, self._registry, self.now)
        twin.entities, twin.claims = self.entities.copy(), self.claims.copy()
        twin.surroundings = Surroundings(twin.entities, twin.claims, specs=self._registry)
        twin.revisions = {key: list(rows) for key, rows in self.revisions.items()}
        twin.children = {key: set(rows) for key, rows in self.children.items()}
        twin.roles, twin.conflicts = self.roles, dict(self.conflicts)
        twin.decided, twin.met, twin.settled = dict(self.decided), dict(self.met), dict(self.settled)
        twin.changes, twin._texts = list(self.changes), dict(self._texts)
        return twin

    def text_of(self, entity: Entity) -> str:
        """The JSON text of the entity's data; made once for a state that this round wrote."""
        text = self._texts.get(entity.key)
        return text if text is not None else dump(entity.data)

    def live_children(self, parent: EntityKey) -> list[Entity]:
        """The live entities that refer to this one now, in the order of their keys."""
        candidates = (self.entities.get(key) for key in sorted(self.children.get(parent, ())))
        return [
            child
            for child in candidates
            if child is not None
            and not child.deleted
            and any(key == parent for _, key in references_of(child, self._registry[child.entity_type]))
        ]

    def apply(
        self,
        before: Entity | None,
        key: EntityKey,
        space_id: SpaceId,
        data: Json,
        origin: Origin,
        *,
        deleted: bool,
        submitted: Json,
    ) -> Entity:
        """Make `data` the entity's new version, as one more change of the log."""
        after = self._next(before, key, space_id, data, origin, deleted=deleted)
        previous = _previous(before.data, data) if before is not None else dict.fromkeys(data, ())
        kind = _operation_type(before, deleted=deleted)
        text = dump(data)
        change = (
            space_id, *key, after.version, kind, text, dump(previous), dump(submitted) if submitted else None,
            origin.rule, origin.timestamp, self.now, origin.user_id, origin.client_id, origin.operation_id,
        )  # fmt: skip
        self.changes.append(change)
        revision = Revision(
            after.version, kind, data, previous, submitted, origin.timestamp, self.now, origin.user_id, origin.client_id
        )
        self.revisions.setdefault(key, []).append(revision)
        self._texts[key] = text
        self._link(before, after)
        self.entities.put(after)
        return after

    def save(self, writer: Writer) -> tuple[tuple[Change, ...], list[Seq]]:
        """Write the entities, their claims and links and the log.

        The numbers are taken last of all that may wait. Changes of one space stand together, in the order they were
        decided, so that the space's subscribers get them in one frame.

        Returns:
            The changes in the order of their numbers, and the numbers in the order of the decisions.
        """
        if not self.changes:
            return (), []
        order = sorted(range(len(self.changes)), key=lambda index: self.changes[index][0])
        first = writer.take_numbers(len(order))
        numbers = [Seq(0)] * len(order)
        numbered = []
        created: dict[EntityKey, Seq] = {}
        last: dict[EntityKey, Seq] = {}
        for seq, index in enumerate(order, start=first):
            change = Change(Seq(seq), *self.changes[index])
            numbered.append(change)
            numbers[index] = change.seq
            key = change.key
            if change.version == 1:
                created[key] = change.seq
            last[key] = change.seq
        rows = [(self._stored(key, created.get(key), seq), self._texts[key]) for key, seq in last.items()]
        writer.save_entities(rows)
        writer.save_changes(numbered)
        writer.save_claims(self.claims.released, self.claims.taken.items())
        self._save_parents(writer, [entity for entity, _ in rows])
        return tuple(numbered), numbers

    def _stored(self, key: EntityKey, created_seq: Seq | None, seq: Seq) -> Entity:
        entity = self.entities[key]
        return Entity(*entity[:9], created_seq if created_seq is not None else entity.created_seq, seq)

    def _next(
        self, before: Entity | None, key: EntityKey, space_id: SpaceId, data: Json, origin: Origin, *, deleted: bool
    ) -> Entity:
        version, created_at, created_seq = 1, self.now, Seq(0)
        if before is not None:
            version, created_at, created_seq = before.version + 1, before.created_at, before.created_seq
        return Entity(*key, space_id, version, data, deleted, created_at, self.now, origin.user_id, created_seq, Seq(0))

    def _link(self, before: Entity | None, after: Entity) -> None:
        spec = self._registry[after.entity_type]
        if spec.unique:
            held = (
                set(claims_of(spec, before.space_id, before.data))
                if before is not None and not before.deleted
                else set()
            )
            wanted = set(claims_of(spec, after.space_id, after.data)) if not after.deleted else set()
            self.claims.move(after.entity_id, held - wanted, wanted - held)
        if spec.references:
            for _, parent in references_of(after, spec):
                self.children.setdefault(parent, set()).add(after.key)

    def _save_parents(self, writer: Writer, entities: list[Entity]) -> None:
        referring = [entity for entity in entities if self._registry[entity.entity_type].references]
        replaced = [entity for entity in referring if entity.version > 1]
        links = [
            (*parent, *entity.key, name)
            for entity in referring
            if not entity.deleted
            for name, parent in references_of(entity, self._registry[entity.entity_type])
        ]
        writer.save_parents([entity.key for entity in replaced], links)


def _operation_type(before: Entity | None, *, deleted: bool) -> OperationType:
    if deleted:
        return OperationType.DELETE
    return OperationType.CREATE if before is None or before.deleted else OperationType.UPDATE


def _previous(old: Json, new: Json) -> dict[str, Sequence[Any]]:
    """What the changed fields held before."""
    return {
        name: (old[name],) if name in old else ()
        for name in {**old, **new}
        if name not in old or name not in new or not equal(old[name], new[name])
    }

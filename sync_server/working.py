"""The state of one commit round: what was loaded, overlaid by what the round has decided so far."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from schema.entity import EntitySpec
from schema.registry import Registry
from sync_server.conflict.constraints import claims_of
from sync_server.conflict.model import Attempt, Claim, Outcome, Revision, Surroundings
from sync_server.conflict.values import equal
from sync_server.fingerprints import fingerprint
from sync_server.orders import Decided
from sync_server.records import Conflict, DecisionKey, Entity, EntityKey, Receipt, Update, update_of
from sync_server.stores.reader import Reader
from sync_server.stores.writer import Writer, dump
from sync_server.types import ConflictId, EntityId, EntityType, Json, Millis, OperationType, Role, Seq, SpaceId, UserId


class Entities(Mapping[EntityKey, Entity]):
    """The entities as the round sees them; what was not loaded with the rest is fetched when asked for."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[EntityKey, Entity | None] = {}

    def load(self, keys: Iterable[EntityKey]) -> None:
        wanted = {key for key in keys if key not in self._known}
        found = self._reader.entities(wanted)
        self._known.update((key, found.get(key)) for key in wanted)

    def put(self, key: EntityKey, entity: Entity) -> None:
        self._known[key] = entity

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

    def __init__(self, reader: Reader, registry: Registry, now: Millis, *, version_floor: int) -> None:
        self._reader = reader
        self._registry = registry
        self._version_floor = version_floor
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
        self.changes: list[list[Any]] = []
        """The columns of the log in their order; `save` alone changes them, it fills in the numbers."""
        self._texts: dict[EntityKey, str] = {}
        self._loaded: dict[EntityKey, Entity | None] = {}
        """What this round changes, as the database has it."""
        self.receipts: tuple[Receipt, ...] = ()

    def copy(self) -> "Working":
        twin = Working(self._reader, self._registry, self.now, version_floor=self._version_floor)
        twin.entities, twin.claims = self.entities.copy(), self.claims.copy()
        twin.surroundings = Surroundings(twin.entities, twin.claims, specs=self._registry)
        twin.revisions = {key: list(rows) for key, rows in self.revisions.items()}
        twin.children = {key: set(rows) for key, rows in self.children.items()}
        twin.roles, twin.conflicts = self.roles, dict(self.conflicts)
        twin.decided, twin.met, twin.settled = dict(self.decided), dict(self.met), dict(self.settled)
        twin.changes, twin._texts = list(self.changes), dict(self._texts)
        twin._loaded = self._loaded  # what the database has: whatever is undone
        return twin

    def text_of(self, key: EntityKey, entity: Entity) -> str:
        """The JSON text of the entity's data; made once for a state that this round wrote."""
        text = self._texts.get(key)
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
        self, before: Entity | None, key: EntityKey, attempt: Attempt, outcome: Outcome
    ) -> tuple[Entity, Sequence[Any]]:
        """Make the outcome's data the entity's new version; returns it and its row of the log.

        Until `save` numbers it, the entity's `seq` is that of its last change before this round.
        """
        data = outcome.data if outcome.data is not None else {}
        deleted = outcome.deleted
        previous: Mapping[str, Sequence[Any]] = dict.fromkeys(data, ())
        if before is None:
            kind = _CREATE
            on, created_at, created_seq, seq = 0, self.now, _UNNUMBERED, _UNNUMBERED
        else:
            kind, previous = _kind(before, deleted=deleted), _previous(before.data, data)
            on, created_at, created_seq, seq = before.version, before.created_at, before.created_seq, before.seq
        version = max(on, self._version_floor) + 1
        after = Entity(
            key.entity_type, key.entity_id, attempt.space_id, version, data, deleted, created_at, self.now,
            attempt.user_id, created_seq, seq,
        )  # fmt: skip
        text = dump(data)
        submitted = dump(outcome.submitted) if outcome.submitted else None
        # plain strings: the driver takes several times as long over a member of an enumeration
        change = [
            _UNNUMBERED, attempt.space_id, key.entity_type, key.entity_id, version, str(kind), text, dump(previous),
            submitted, str(outcome.rule), attempt.timestamp, self.now, attempt.user_id, attempt.client_id,
            attempt.operation_id, on, seq,
        ]  # fmt: skip
        self.changes.append(change)
        revision = Revision(
            version, kind, data, previous, outcome.submitted, attempt.timestamp, self.now, attempt.user_id,
            attempt.client_id, outcome.rule, after=on,
        )  # fmt: skip
        self.revisions.setdefault(key, []).append(revision)
        self._texts[key] = text
        self._loaded.setdefault(key, before)
        self._link(before, key, after)
        self.entities.put(key, after)
        return after, change

    def save(self, writer: Writer) -> tuple[Update, ...]:
        """Write the entities, their claims and links and the log; returns what to tell, in the order of the numbers.
        What is stored of the spaces they are in follows them, see `receipts`.

        The numbers are taken last of all that may wait. Changes of one space stand together, in the order they were
        decided, so that the space's subscribers get them in one frame.
        """
        if not self.changes:
            return ()
        changes = sorted(self.changes, key=_SPACE)
        created: dict[EntityKey, Seq] = {}
        last: dict[EntityKey, Seq] = {}
        for seq, change in enumerate(changes, start=writer.take_numbers(len(changes))):
            key = EntityKey(change[2], change[3])
            change[_SEQ] = seq
            change[_PREVIOUS_SEQ] = last.get(key, change[_PREVIOUS_SEQ])
            if self._loaded[key] is None:
                created.setdefault(key, Seq(seq))
            last[key] = Seq(seq)
        entities = [self.entities[key] for key in last]
        writer.save_entities(
            (*entity[:4], self._texts[key], entity.deleted, *entity[6:9], created.get(key, entity.created_seq), seq)
            for entity, (key, seq) in zip(entities, last.items(), strict=True)
        )
        writer.save_changes(changes)
        self.receipts = tuple(writer.shift_receipts(self._shifts(zip(last.items(), entities, strict=True))))
        writer.save_claims(self.claims.released, self.claims.taken.items())
        self._save_parents(writer, entities)
        return tuple(map(update_of, changes))

    def _shifts(self, saved: Iterable[tuple[tuple[EntityKey, Seq], Entity]]) -> Iterator[tuple[SpaceId, int, int, Seq]]:
        """Of each space what the round made of its live entities, see `Writer.shift_receipts`."""
        shifts: dict[SpaceId, tuple[int, int, Seq]] = {}
        for (key, seq), after in saved:
            toggled, more, last = shifts.get(after.space_id, (0, 0, seq))
            for entity, count in ((self._loaded[key], -1), (after, 1)):
                if entity is not None and not entity.deleted:
                    toggled ^= fingerprint(*key, entity.version)
                    more += count
            shifts[after.space_id] = (toggled, more, max(last, seq))
        return ((space_id, *shift) for space_id, shift in shifts.items())

    def _link(self, before: Entity | None, key: EntityKey, after: Entity) -> None:
        spec = self._registry[after.entity_type]
        if spec.unique:
            held = (
                set(claims_of(spec, before.space_id, before.data))
                if before is not None and not before.deleted
                else set()
            )
            wanted = set(claims_of(spec, after.space_id, after.data)) if not after.deleted else set()
            self.claims.move(after.entity_id, held - wanted, wanted - held)
        for _, parent in references_of(after, spec):
            self.children.setdefault(parent, set()).add(key)

    def _save_parents(self, writer: Writer, entities: list[Entity]) -> None:
        replaced, links = [], []
        for entity in entities:
            spec = self._registry[entity.entity_type]
            if not spec.references:
                continue
            if self._loaded[entity.key] is not None:
                replaced.append(entity.key)
            if not entity.deleted:
                links += [(*parent, *entity.key, name) for name, parent in references_of(entity, spec)]
        writer.save_parents(replaced, links)


_SEQ, _PREVIOUS_SEQ = 0, -1
_SPACE = itemgetter(1)
_UNNUMBERED = Seq(0)
_CREATE = OperationType.CREATE


def _kind(before: Entity, *, deleted: bool) -> OperationType:
    if deleted:
        return OperationType.DELETE
    return _CREATE if before.deleted else OperationType.UPDATE


def _previous(old: Json, new: Json) -> dict[str, Sequence[Any]]:
    """What the changed fields held before."""
    return {
        name: (old[name],) if name in old else ()
        for name in {**old, **new}
        if name not in old or name not in new or not equal(old[name], new[name])
    }


def references_of(entity: Entity, spec: EntitySpec) -> list[tuple[str, EntityKey]]:
    """(field, parent) for each reference that the entity holds."""
    found = []
    for name, reference in spec.references.items():
        value = entity.data.get(name)
        if value is not None:
            found.append((name, EntityKey(EntityType(reference.entity_type), EntityId(str(value)))))
    return found

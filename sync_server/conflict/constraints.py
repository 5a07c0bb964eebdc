"""What must hold between entities: parents exist, nothing is its own ancestor, unique values are held once."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from schema.entity import EntitySpec
from schema.policy import OnConstraint, Reference, Unique
from sync_server.conflict.disputes import suggested_strategy
from sync_server.conflict.model import Claim, Dispute, Rule, Surroundings
from sync_server.conflict.values import ABSENT, canonical_text, equal
from sync_server.records import Entity, EntityKey
from sync_server.types import ConflictType, EntityId, EntityType, Json, OperationId, SpaceId, parse_id

MAX_UNSUFFIXED = 200
"""Characters of a text that are kept in front of a suffix."""
_LAST_NUMBER = 20
MAX_ANCESTORS = 100
"""Entities above one another; a parent further down than this is none, so that every walk to the root has an end."""


class Target(NamedTuple):
    """The entity that is to take new data, and the operation that brings it.

    `before` is its live data so far; None where it is created or brought back, so that everything is checked.
    """

    key: EntityKey
    space_id: SpaceId
    operation_id: OperationId
    before: Json | None

    def changes(self, name: str, data: Json) -> bool:
        return self.before is None or not equal(self.before.get(name, ABSENT), data.get(name, ABSENT))


class Constrained(NamedTuple):
    """Data as repaired, and the disputes met on the way; with an open one among them the operation must wait."""

    data: Json
    disputes: tuple[Dispute, ...] = ()


def is_constrained(data: Json, spec: EntitySpec) -> bool:
    """Whether other entities have a say in this data."""
    return bool(spec.unique) or any(map(data.get, spec.references))


def constrain(target: Target, data: Json, spec: EntitySpec, surroundings: Surroundings) -> Constrained:
    """Check what the new data changes; repair it or park it, as the type says."""
    data, parents = _with_parents(target, data, spec, surroundings)
    data, clashes = _with_unique(target, data, spec, surroundings)
    return Constrained(data, (*parents, *clashes))


def keeping_children(entity: Entity, surroundings: Surroundings) -> tuple[Entity, ...]:
    """The live children that do not let go of this entity as their parent."""
    return tuple(
        child
        for child in surroundings.children
        if not child.deleted and child.space_id == entity.space_id and _is_kept_by(entity, child, surroundings)
    )


def claims_of(spec: EntitySpec, space_id: SpaceId, data: Json) -> tuple[Claim, ...]:
    """The unique values that an entity with this data holds; none for a key whose last field is absent or null."""
    claims = (_claim(spec.entity_type, space_id, unique, data) for unique in spec.unique)
    return tuple(claim for claim in claims if claim is not None)


def _claim(entity_type: EntityType, space_id: SpaceId, unique: Unique, data: Json) -> Claim | None:
    values = [data.get(name) for name in unique.fields]
    if values[-1] is None:
        return None
    return Claim(entity_type, space_id, ",".join(unique.fields), canonical_text(values))


def _suffixed(value: object, operation_id: OperationId) -> Iterator[str]:
    if isinstance(value, str):
        stem = value[:MAX_UNSUFFIXED]
        yield from (f"{stem} ({number})" for number in range(2, _LAST_NUMBER + 1))
        yield f"{stem} ({operation_id})"


def _with_parents(
    target: Target, data: Json, spec: EntitySpec, surroundings: Surroundings
) -> tuple[Json, list[Dispute]]:
    disputes = []
    for name, reference in spec.references.items():
        if data.get(name) is None or not target.changes(name, data):
            continue
        rule = _parent_fault(target, name, reference, data, surroundings)
        if rule is not None:
            disputes.append(_dispute(ConflictType.PARENT, (name,), rule, reference.on_gone, target, spec))
            data = {**data, name: None}
    return data, disputes


def _parent_fault(
    target: Target, name: str, reference: Reference, data: Json, surroundings: Surroundings
) -> Rule | None:
    key = _parent_key(reference, data[name])
    above = tuple(islice(_ancestry(key, name, reference, target.key, surroundings), MAX_ANCESTORS + 1))
    if target.key in above:
        return Rule.PARENT_CYCLE
    if len(above) > MAX_ANCESTORS:
        return Rule.PARENT_TOO_DEEP
    parent = surroundings.entities.get(key)
    is_there = parent is not None and not parent.deleted and parent.space_id == target.space_id
    return None if is_there else Rule.PARENT_GONE


def _ancestry(
    key: EntityKey, name: str, reference: Reference, child: EntityKey, surroundings: Surroundings
) -> Iterator[EntityKey]:
    """The parent and its own parents; it ends at the root, at the child and where old data already runs in a circle."""
    seen: set[EntityKey] = set()
    while reference.entity_type == child.entity_type and key not in seen:
        yield key
        seen.add(key)
        entity = surroundings.entities.get(key)
        parent = None if entity is None else entity.data.get(name)
        if parent is None:
            return
        key = _parent_key(reference, parent)


def _parent_key(reference: Reference, value: object) -> EntityKey:
    return EntityKey(EntityType(reference.entity_type), EntityId(parse_id(str(value))))


def _with_unique(
    target: Target, data: Json, spec: EntitySpec, surroundings: Surroundings
) -> tuple[Json, list[Dispute]]:
    disputes = []
    for unique in spec.unique:
        if not any(target.changes(name, data) for name in unique.fields) or _is_free(
            target, data, unique, spec, surroundings
        ):
            continue
        repaired = (
            _renamed(target, data, unique, spec, surroundings) if unique.on_clash is OnConstraint.REPAIR else None
        )
        rule, how = (
            (Rule.UNIQUE_TAKEN, OnConstraint.PARK) if repaired is None else (Rule.UNIQUE_SUFFIX, unique.on_clash)
        )
        disputes.append(_dispute(ConflictType.UNIQUE, unique.fields[-1:], rule, how, target, spec))
        data = data if repaired is None else repaired
    return data, disputes


def _is_free(target: Target, data: Json, unique: Unique, spec: EntitySpec, surroundings: Surroundings) -> bool:
    claim = _claim(spec.entity_type, target.space_id, unique, data)
    holder = None if claim is None else surroundings.claims.get(claim)
    return holder is None or holder == target.key.entity_id


def _renamed(target: Target, data: Json, unique: Unique, spec: EntitySpec, surroundings: Surroundings) -> Json | None:
    name = unique.fields[-1]
    candidates = ({**data, name: text} for text in _suffixed(data[name], target.operation_id))
    return next((c for c in candidates if _is_free(target, c, unique, spec, surroundings)), None)


def _dispute(
    kind: ConflictType, names: tuple[str, ...], rule: Rule, how: OnConstraint, target: Target, spec: EntitySpec
) -> Dispute:
    before = target.before if target.before is not None else {}
    base = {name: before[name] for name in names if name in before}
    return Dispute(kind, names, base, rule, suggested_strategy((), spec), is_open=how is OnConstraint.PARK)


def _is_kept_by(entity: Entity, child: Entity, surroundings: Surroundings) -> bool:
    spec = surroundings.specs.get(child.entity_type)
    references: Iterable[tuple[str, Reference]] = () if spec is None else spec.references.items()
    return any(
        reference.on_gone is OnConstraint.PARK
        and child.data.get(name) is not None
        and _parent_key(reference, child.data[name]) == entity.key
        for name, reference in references
    )

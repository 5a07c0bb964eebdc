"""What a round of operations touches, loaded before it is decided: a few set-based queries for all of them."""

from collections.abc import Iterable, Sequence

from schema.registry import Registry
from sync_server.conflict.constraints import MAX_ANCESTORS, claims_of
from sync_server.conflict.model import Claim
from sync_server.orders import Batch, Decided, Order
from sync_server.records import Decision, DecisionKey, EntityKey
from sync_server.stores.reader import Reader
from sync_server.stores.writer import dump
from sync_server.types import EntityId, EntityType, OperationType, SpaceId, UserId, parse_id
from sync_server.working import Working


class Preload:
    """Fills a round's working state.

    Args:
        reader: the round's own transaction.
    """

    def __init__(self, reader: Reader, registry: Registry, working: Working) -> None:
        self._reader = reader
        self._registry = registry
        self._working = working
        self._parents_of = referenced_types(registry)

    def load(self, batches: Sequence[Batch]) -> None:
        """Ask for everything in one query a kind; what turns up later is fetched when the round asks for it."""
        orders = [(batch, order) for batch in batches for order in batch.orders]
        self._load_decisions(orders)
        working = self._working
        working.conflicts |= self._reader.conflicts({o.conflict_id for _, o in orders if o.conflict_id is not None})
        conflicts = list(working.conflicts.values())
        keys = {EntityKey(c.entity_type, c.entity_id) for c in conflicts}
        moved: set[EntityKey] = set()
        for _, order in orders:
            self._add_touched(order, keys, moved)
        working.entities.load(keys)
        working.entities.load(self._reader.ancestors(moved, depth=MAX_ANCESTORS))
        named = [(batch, order) for batch, order in orders if order.entity_id is not None]
        self._load_children(named)
        working.revisions = self._reader.revisions(self._stale(named))
        working.claims.load(self._likely_claims(orders))
        self._load_roles(orders)

    def _load_decisions(self, orders: Iterable[tuple[Batch, Order]]) -> None:
        keys = {DecisionKey(b.user_id, b.client_id, o.operation_id) for b, o in orders}
        found = self._reader.decisions(keys)
        changes = self._reader.changes_at({d.seq for d in found.values() if d.seq is not None})
        conflicts = self._reader.conflicts({d.conflict_id for d in found.values() if d.conflict_id is not None})
        stood = self._texts_that_stood(found.values())
        for key, decision in found.items():
            change = changes.get(decision.seq) if decision.seq is not None else None
            conflict = conflicts.get(decision.conflict_id) if decision.conflict_id is not None else None
            data = change.data if change is not None and decision.operation_type is not OperationType.DELETE else None
            data = stood.get(key, data)
            met = (conflict,) if conflict is not None else ()
            self._working.decided[key] = Decided(decision, data, met, duplicate=True)

    def _texts_that_stood(self, decisions: Iterable[Decision]) -> dict[DecisionKey, str]:
        """What operations met and did not change, as their first results told it."""
        met = {
            d.key: (EntityKey(d.entity_type, d.entity_id), d.version)
            for d in decisions
            if d.seq is None and d.entity_type is not None and d.entity_id is not None and d.version is not None
        }
        since: dict[EntityKey, int] = {}
        for entity, version in met.values():
            since[entity] = min(version, since.get(entity, version))
        found = self._reader.revisions(since)
        return {
            key: dump(revision.data)
            for key, (entity, version) in met.items()
            for revision in found.get(entity, ())
            if revision.version == version and revision.operation_type is not OperationType.DELETE
        }

    def _add_touched(self, order: Order, keys: set[EntityKey], moved: set[EntityKey]) -> None:
        """Add the entities that the order names; to `moved` those that get a child of their own type."""
        if order.entity_type is None:
            return
        if order.entity_id is not None:
            keys.add(EntityKey(order.entity_type, order.entity_id))
        for name, reference in self._registry[order.entity_type].references.items():
            value = order.fields.get(name)
            if isinstance(value, int | str):
                parent = EntityKey(EntityType(reference.entity_type), EntityId(parse_id(value)))
                keys.add(parent)
                if parent.entity_type == order.entity_type:
                    moved.add(parent)

    def _load_children(self, orders: Iterable[tuple[Batch, Order]]) -> None:
        deleted = {
            EntityKey(order.entity_type, order.entity_id)
            for _, order in orders
            if order.entity_type in self._parents_of
            and order.entity_id is not None
            and order.entity_type is not None
            and order.operation_type in {OperationType.DELETE, OperationType.RESOLVE}
        } | {
            EntityKey(conflict.entity_type, conflict.entity_id)
            for conflict in self._working.conflicts.values()
            if conflict.operation_type is OperationType.DELETE and conflict.entity_type in self._parents_of
        }
        found = self._reader.children(deleted)
        self._working.children = {key: set(children) for key, children in found.items()}
        self._working.entities.load({child for children in found.values() for child in children})

    def _stale(self, orders: Iterable[tuple[Batch, Order]]) -> dict[EntityKey, int]:
        """From which version on the history of each entity is needed."""
        since: dict[EntityKey, int] = {}
        for _, order in orders:
            if order.entity_type is None or order.entity_id is None:
                continue
            base = order.base_version
            if base is None:
                continue
            key = EntityKey(order.entity_type, order.entity_id)
            entity = self._working.entities.get(key)
            if entity is not None and base < entity.version:
                since[key] = min(base, since.get(key, base))
        return since

    def _likely_claims(self, orders: Iterable[tuple[Batch, Order]]) -> Iterable[Claim]:
        for batch, order in orders:
            spec = self._registry[order.entity_type] if order.entity_type is not None else None
            if spec is None or not spec.unique or not order.fields:
                continue
            key = EntityKey(spec.entity_type, order.entity_id) if order.entity_id is not None else None
            entity = self._working.entities.get(key) if key is not None else None
            space_id = entity.space_id if entity is not None else order.space_id or batch.home
            data = {**(entity.data if entity is not None else {}), **order.fields}
            if not any(isinstance(data.get(name), dict) for name in spec.references):
                yield from claims_of(spec, space_id, data)

    def _load_roles(self, orders: Iterable[tuple[Batch, Order]]) -> None:
        pairs: set[tuple[SpaceId, UserId]] = {(batch.home, batch.user_id) for batch, _ in orders}
        for batch, order in orders:
            if order.space_id is not None:
                pairs.add((order.space_id, batch.user_id))
            if order.entity_type is not None and order.entity_id is not None:
                entity = self._working.entities.get(EntityKey(order.entity_type, order.entity_id))
                if entity is not None:
                    pairs.add((entity.space_id, batch.user_id))
            conflict = self._working.conflicts.get(order.conflict_id) if order.conflict_id is not None else None
            if conflict is not None:
                pairs.add((conflict.space_id, batch.user_id))
        self._working.roles = self._reader.roles(pairs)


def referenced_types(registry: Registry) -> frozenset[str]:
    """The types that others refer to: deleting one of them concerns its children."""
    return frozenset(reference.entity_type for spec in registry.values() for reference in spec.references.values())

"""One round of the group commit: many batches, one transaction. Load what they touch, decide in order, write."""

from collections.abc import Callable, Iterable, Sequence

from schema.entity import EntitySpec
from schema.registry import Registry
from sync_server.conflict.constraints import claims_of
from sync_server.conflict.decide import decide
from sync_server.conflict.model import Attempt, Claim, Dispute, Outcome, Refusal, Revision, Rule, Surroundings
from sync_server.conflict.resolve import resolve
from sync_server.conflict.stamps import write_stamp
from sync_server.errors import CommandError, ErrorCode
from sync_server.ids import IdBlocks
from sync_server.orders import Batch, Committed, Decided, Order
from sync_server.records import Conflict, Decision, DecisionKey, Entity, EntityKey, SyncRecord
from sync_server.stores.writer import Writer, dump
from sync_server.types import (
    ClientId,
    ConflictId,
    EntityId,
    EntityType,
    Json,
    Millis,
    OperationType,
    Role,
    Seq,
    SpaceId,
    SyncId,
    SyncStatus,
    UserId,
    Verdict,
    format_id,
    parse_id,
)
from sync_server.working import Origin, Working

SERVER_CLIENT = ClientId("")
"""The client of changes that the server makes itself; pushed to everybody, the author too."""
_NOT_FOUND = Refusal(ErrorCode.NOT_FOUND, "There is no such entity.", {})
_FORBIDDEN = Refusal(ErrorCode.FORBIDDEN, "Your role in this space does not allow writing.", {})


class Round:
    """Decides the batches of one transaction. Use once: `run`, then read `committed`.

    Args:
        writer: the open write transaction.
        registry: the entity types.
        ids: hands out integer ids; its blocks are reserved in this transaction.
        now: the moment of everything that this round writes.
        new_conflict_id: makes a fresh id for a conflict.
    """

    def __init__(
        self,
        writer: Writer,
        registry: Registry,
        ids: IdBlocks,
        *,
        now: Millis,
        new_conflict_id: Callable[[], ConflictId],
    ) -> None:
        self._writer = writer
        self._registry = registry
        self._ids = ids
        self._now = now
        self._new_conflict_id = new_conflict_id
        self._working = Working(writer, registry, now)
        self._parents_of = _referenced_types(registry)
        self.committed = Committed()

    def run(self, batches: Sequence[Batch]) -> list[list[Decided] | CommandError]:
        """Decide and write the batches; one list of verdicts each, or the reason why the whole batch was refused."""
        syncs = self._writer.syncs({batch.sync_id for batch in batches})
        refused = {index: error for index, batch in enumerate(batches) if (error := _refused(batch, syncs))}
        admitted = [batch for index, batch in enumerate(batches) if index not in refused]
        self._load(admitted)
        decided = {id(batch): self._decide_batch(batch) for batch in admitted}
        changes = self._working.save(self._writer)
        numbered = self._save(admitted, decided, {(c.key, c.version): c.seq for c in changes}, syncs)
        self.committed = Committed(
            changes,
            tuple(self._working.conflicts[conflict_id] for conflict_id in self._working.met),
            tuple((self._working.conflicts[key], version) for key, version in self._working.settled.items()),
        )
        return [refused[index] if index in refused else numbered[id(batch)] for index, batch in enumerate(batches)]

    # --- load ------------------------------------------------------------------------------------------------------

    def _load(self, batches: Sequence[Batch]) -> None:
        orders = [(batch, order) for batch in batches for order in batch.orders]
        self._load_decisions(orders)
        working = self._working
        working.conflicts |= self._writer.conflicts({o.conflict_id for _, o in orders if o.conflict_id is not None})
        conflicts = list(working.conflicts.values())
        keys = {EntityKey(c.entity_type, c.entity_id) for c in conflicts}
        for _, order in orders:
            keys.update(self._touched(order))
        working.entities.load(keys)
        working.entities.load(self._writer.ancestors(self._moved(orders)))
        self._load_children(orders)
        working.revisions = self._writer.revisions(self._stale(orders))
        working.claims.load(self._likely_claims(orders))
        self._load_roles(orders)

    def _load_decisions(self, orders: Iterable[tuple[Batch, Order]]) -> None:
        keys = {DecisionKey(b.user_id, b.client_id, o.operation_id) for b, o in orders if o.retry_of is None}
        found = self._writer.decisions(keys)
        changes = self._writer.changes_at({d.seq for d in found.values() if d.seq is not None})
        conflicts = self._writer.conflicts({d.conflict_id for d in found.values() if d.conflict_id is not None})
        for key, decision in found.items():
            change = changes.get(decision.seq) if decision.seq is not None else None
            conflict = conflicts.get(decision.conflict_id) if decision.conflict_id is not None else None
            data = change.data if change is not None and not _is_delete(decision) else None
            met = (conflict,) if conflict is not None else ()
            self._working.decided[key] = Decided(decision, data, met, duplicate=True)

    def _touched(self, order: Order) -> Iterable[EntityKey]:
        if order.entity_type is None:
            return
        if order.entity_id is not None:
            yield EntityKey(order.entity_type, order.entity_id)
        yield from _parents(self._registry[order.entity_type], order.fields)

    def _moved(self, orders: Iterable[tuple[Batch, Order]]) -> set[EntityKey]:
        """The new parents of entities that move within a tree of their own type."""
        return {
            parent
            for _, order in orders
            if order.entity_type is not None
            for parent in _parents(self._registry[order.entity_type], order.fields)
            if parent.entity_type == order.entity_type
        }

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
        found = self._writer.children(deleted)
        self._working.children = {key: set(children) for key, children in found.items()}
        self._working.entities.load({child for children in found.values() for child in children})

    def _stale(self, orders: Iterable[tuple[Batch, Order]]) -> dict[EntityKey, int]:
        """From which version on the history of each entity is needed."""
        since: dict[EntityKey, int] = {}
        for _, order in orders:
            base = _base_version(order)
            if order.entity_type is None or order.entity_id is None or base is None:
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
        pairs: set[tuple[SpaceId, UserId]] = set()
        for batch, order in orders:
            pairs.add((order.space_id if order.space_id is not None else batch.home, batch.user_id))
            if order.entity_type is not None and order.entity_id is not None:
                entity = self._working.entities.get(EntityKey(order.entity_type, order.entity_id))
                if entity is not None:
                    pairs.add((entity.space_id, batch.user_id))
            conflict = self._working.conflicts.get(order.conflict_id) if order.conflict_id is not None else None
            if conflict is not None:
                pairs.add((conflict.space_id, batch.user_id))
        self._working.roles = self._writer.roles(pairs)

    # --- decide ----------------------------------------------------------------------------------------------------

    def _decide_batch(self, batch: Batch) -> list[Decided]:
        before = self._working.copy() if batch.atomic else None
        created: dict[str, EntityId] = {}
        decided: list[Decided] = []
        for order in batch.orders:
            result = self._decide_once(batch, order, created)
            decided.append(result)
            if before is not None and not result.decision.verdict.is_success:
                self._working = before
                return [self._undone(batch, other, result) for other in batch.orders]
        return decided

    def _decide_once(self, batch: Batch, order: Order, created: dict[str, EntityId]) -> Decided:
        key = DecisionKey(batch.user_id, batch.client_id, order.operation_id)
        prior = self._working.decided.get(key)
        if prior is None:
            prior = self._decide(batch, order, created)
            if order.operation_type is not OperationType.READ:
                self._working.decided[key] = prior
        elif prior.decision.body_hash != order.body_hash:
            return _reject(batch, order, self._now, _OTHER_BODY)._replace(duplicate=True)
        else:
            prior = prior._replace(duplicate=True)
        decision = prior.decision
        if order.operation_type is OperationType.CREATE and decision.entity_id is not None:
            created[order.operation_id] = decision.entity_id
        return prior

    def _decide(self, batch: Batch, order: Order, created: dict[str, EntityId]) -> Decided:
        if order.refusal is not None:
            return _reject(batch, order, self._now, order.refusal)
        try:
            order = _with_references(order, created)
            match order.operation_type:
                case OperationType.READ:
                    return self._read(batch, order)
                case OperationType.RESOLVE:
                    return self._resolve(batch, order)
                case _:
                    return self._write(batch, order)
        except CommandError as error:
            return _reject(batch, order, self._now, Refusal(error.code, error.message, error.details))

    def _read(self, batch: Batch, order: Order) -> Decided:
        entity = self._visible(batch, order)
        if entity is None or entity.deleted:
            return _reject(batch, order, self._now, _NOT_FOUND)
        decision = _decision(batch, order, self._now, Verdict.APPLIED, Rule.NO_CHANGE, entity)
        return Decided(decision, self._working.text_of(entity))

    def _write(self, batch: Batch, order: Order) -> Decided:
        entity, space_id = self._target(batch, order)
        entity_id = order.entity_id
        if entity_id is None:
            entity_id = self._ids.next_id(self._writer, _type_of(order))
            order = order._replace(entity_id=entity_id)
        attempt = Attempt(
            order.operation_id, order.operation_type, _type_of(order), entity_id, space_id, order.fields,
            order.before_version, order.strategy, order.timestamp, batch.user_id, batch.client_id,
        )  # fmt: skip
        spec = self._registry[attempt.entity_type]
        history = self._history(attempt, entity)
        stamp = write_stamp(attempt, entity, history, now=self._now)
        outcome = decide(attempt, entity, history, spec, self._surroundings(attempt, spec), now=self._now)
        attempt = attempt._replace(timestamp=stamp.at)
        return self._apply(batch, order, attempt, entity, outcome)

    def _resolve(self, batch: Batch, order: Order) -> Decided:
        conflict = self._working.conflicts.get(order.conflict_id) if order.conflict_id is not None else None
        role = self._working.roles.get((conflict.space_id, batch.user_id)) if conflict is not None else None
        if conflict is None or role is None:
            return _reject(batch, order, self._now, Refusal(ErrorCode.NOT_FOUND, "There is no such conflict.", {}))
        if not role.can_write:
            return _reject(batch, order, self._now, _FORBIDDEN)
        order = order._replace(entity_type=conflict.entity_type, entity_id=conflict.entity_id)
        spec = self._registry[conflict.entity_type]
        key = EntityKey(conflict.entity_type, conflict.entity_id)
        entity = self._working.entities.get(key)
        strategy = order.strategy if order.strategy is not None else conflict.suggested_strategy
        surroundings = Surroundings(
            self._working.entities, self._working.claims, self._working.live_children(key), self._registry
        )
        outcome = resolve(
            conflict,
            entity,
            spec=spec,
            strategy=strategy,
            resolved_data=order.resolved_data,
            surroundings=surroundings,
            operation_id=order.operation_id,
        )
        attempt = Attempt(
            order.operation_id, conflict.operation_type, key.entity_type, key.entity_id, conflict.space_id, {},
            None, strategy, order.timestamp, batch.user_id, batch.client_id,
        )  # fmt: skip
        decided = self._apply(batch, order, attempt, entity, outcome)
        if decided.decision.verdict.is_success:
            self._settle(batch, conflict, order, decided)
        return decided

    def _settle(self, batch: Batch, conflict: Conflict, order: Order, decided: Decided) -> None:
        after = self._working.entities.get(EntityKey(conflict.entity_type, conflict.entity_id))
        self._working.conflicts[conflict.conflict_id] = conflict._replace(
            is_open=False,
            strategy=order.strategy if order.strategy is not None else conflict.suggested_strategy,
            resolved_data=after.data if after is not None and not after.deleted else {},
            resolved_at=self._now,
            resolved_by=batch.user_id,
        )
        self._working.settled[conflict.conflict_id] = decided.decision.version

    def _target(self, batch: Batch, order: Order) -> tuple[Entity | None, SpaceId]:
        """The entity that the order means and its space, once the author may write there."""
        space_id = order.space_id if order.space_id is not None else batch.home
        entity = self._entity(order)
        if entity is not None:
            self._require_place(batch, order, entity)
            space_id = entity.space_id
        elif order.operation_type is not OperationType.CREATE:
            raise CommandError(ErrorCode.NOT_FOUND, _NOT_FOUND.message)
        role = self._role(batch, space_id)
        if role is None:
            raise CommandError(ErrorCode.NOT_FOUND, "There is no such space.", details={"field": "space_id"})
        if not role.can_write:
            raise CommandError(_FORBIDDEN.code, _FORBIDDEN.message, details={"space_id": space_id})
        return entity, space_id

    def _require_place(self, batch: Batch, order: Order, entity: Entity) -> None:
        """The author sees the entity, and does not ask for it to be in another space."""
        if self._role(batch, entity.space_id) is None:
            if order.operation_type is OperationType.CREATE:
                message = "This id is taken; choose another."
                raise CommandError(ErrorCode.CONFLICT, message, details={"field": "entity_id"})
            raise CommandError(ErrorCode.NOT_FOUND, _NOT_FOUND.message)
        if order.space_id is not None and order.space_id != entity.space_id:
            message = "An entity cannot move to another space; create it there and delete it here."
            raise CommandError(ErrorCode.VALIDATION_ERROR, message, details={"field": "space_id"})

    def _visible(self, batch: Batch, order: Order) -> Entity | None:
        entity = self._entity(order)
        return entity if entity is not None and self._role(batch, entity.space_id) is not None else None

    def _entity(self, order: Order) -> Entity | None:
        if order.entity_id is None:
            return None
        return self._working.entities.get(EntityKey(_type_of(order), order.entity_id))

    def _role(self, batch: Batch, space_id: SpaceId) -> Role | None:
        pair = (space_id, batch.user_id)
        if pair not in self._working.roles:
            self._working.roles |= self._writer.roles((pair,))
        return self._working.roles.get(pair)

    def _history(self, attempt: Attempt, entity: Entity | None) -> Sequence[Revision]:
        if entity is None:
            return ()
        base = 0 if attempt.operation_type is OperationType.CREATE else attempt.before_version
        if base is None or base >= entity.version:
            return ()
        return [r for r in self._working.revisions.get(entity.key, ()) if r.version >= base]

    def _surroundings(self, attempt: Attempt, spec: EntitySpec) -> Surroundings:
        children: Sequence[Entity] = ()
        if attempt.operation_type is OperationType.DELETE and spec.entity_type in self._parents_of:
            children = self._working.live_children(EntityKey(attempt.entity_type, attempt.entity_id))
        return Surroundings(self._working.entities, self._working.claims, children, self._registry)

    def _apply(self, batch: Batch, order: Order, attempt: Attempt, entity: Entity | None, outcome: Outcome) -> Decided:
        if outcome.refusal is not None:
            return _reject(batch, order, self._now, outcome.refusal)
        conflicts = tuple(self._record(batch, attempt, entity, outcome, dispute) for dispute in outcome.disputes)
        after = entity
        if outcome.data is not None:
            after = self._commit(attempt, entity, outcome)
        blocking = next((c for c in conflicts if c.is_open), conflicts[0] if conflicts else None)
        decision = _decision(batch, order, self._now, outcome.verdict, outcome.rule, after)._replace(
            conflict_id=blocking.conflict_id if blocking is not None else None,
            body=dump(order.raw) if outcome.verdict is Verdict.CONFLICT else None,
            # any number: it is replaced by the change's own once that is taken
            seq=Seq(0) if outcome.data is not None else None,
        )
        text = self._working.text_of(after) if after is not None and not after.deleted else None
        return Decided(decision, text, conflicts)

    def _commit(self, attempt: Attempt, entity: Entity | None, outcome: Outcome) -> Entity:
        key = EntityKey(attempt.entity_type, attempt.entity_id)
        data = outcome.data if outcome.data is not None else {}
        origin = Origin(attempt.user_id, attempt.client_id, attempt.operation_id, attempt.timestamp, outcome.rule)
        after = self._working.apply(
            entity, key, attempt.space_id, data, origin, deleted=outcome.deleted, submitted=outcome.submitted
        )
        if outcome.deleted:
            for child in self._working.live_children(key):
                self._adopt(child, key, origin)
        return after

    def _adopt(self, child: Entity, parent: EntityKey, origin: Origin) -> None:
        """Move a live child of a deleted parent to the root, as a change of the server's own."""
        spec = self._registry[child.entity_type]
        fields: Json = {
            name: None
            for name, reference in spec.references.items()
            if EntityKey(EntityType(reference.entity_type), EntityId(str(child.data.get(name)))) == parent
        }
        attempt = Attempt(
            origin.operation_id, OperationType.UPDATE, child.entity_type, child.entity_id, child.space_id, fields,
            None, None, Millis(0), origin.user_id, SERVER_CLIENT,
        )  # fmt: skip
        surroundings = Surroundings(self._working.entities, self._working.claims)
        outcome = decide(attempt, child, (), spec, surroundings, now=self._now)
        if outcome.data is None:  # a unique value that cannot be repaired: the name stays, the clash is the person's
            outcome = Outcome(Verdict.APPLIED, Rule.PARENT_GONE, {**child.data, **fields})
        self._commit(attempt, child, outcome._replace(rule=Rule.PARENT_GONE))

    def _record(
        self, batch: Batch, attempt: Attempt, entity: Entity | None, outcome: Outcome, dispute: Dispute
    ) -> Conflict:
        settled = not dispute.is_open
        after = outcome.data if outcome.data is not None else (entity.data if entity is not None else {})
        conflict = Conflict(
            conflict_id=self._new_conflict_id(),
            conflict_type=dispute.conflict_type,
            space_id=attempt.space_id,
            entity_type=attempt.entity_type,
            entity_id=attempt.entity_id,
            operation_id=attempt.operation_id,
            operation_type=attempt.operation_type,
            user_id=attempt.user_id,
            client_id=attempt.client_id,
            sync_id=batch.sync_id,
            fields=dispute.fields,
            rule=dispute.rule,
            suggested_strategy=dispute.suggested_strategy,
            base=dispute.base,
            server_version=entity.version if entity is not None else 0,
            server_data=entity.data if entity is not None else {},
            server_modified_at=entity.updated_at if entity is not None else self._now,
            server_modified_by=entity.modified_by if entity is not None else attempt.user_id,
            client_version=attempt.before_version if attempt.before_version is not None else 0,
            client_data=attempt.fields,
            client_modified_at=attempt.timestamp,
            created_at=self._now,
            is_open=dispute.is_open,
            strategy=dispute.suggested_strategy if settled else None,
            resolved_data=after if settled else None,
            resolved_at=self._now if settled else None,
            resolved_by=None,
        )
        self._working.conflicts[conflict.conflict_id] = conflict
        self._working.met[conflict.conflict_id] = None
        return conflict

    def _undone(self, batch: Batch, order: Order, culprit: Decided) -> Decided:
        """The verdict of an operation of an atomic request that failed as a whole: as if it had never been sent."""
        if order.operation_id == culprit.decision.operation_id:
            return culprit._replace(decision=culprit.decision._replace(conflict_id=None), conflicts=())
        message = "Nothing of this atomic request was applied, because another of its operations failed."
        details = {"failed_operation_id": culprit.decision.operation_id}
        return _reject(batch, order, self._now, Refusal(ErrorCode.CONFLICT, message, details))

    # --- write -----------------------------------------------------------------------------------------------------

    def _save(
        self,
        batches: Sequence[Batch],
        decided: dict[int, list[Decided]],
        numbers: dict[tuple[EntityKey, int], Seq],
        syncs: dict[SyncId, SyncRecord],
    ) -> dict[int, list[Decided]]:
        """Write verdicts, conflicts and syncs; returns the verdicts with the numbers of their changes."""
        numbered = {key: [_numbered(result, numbers) for result in results] for key, results in decided.items()}
        fresh = [
            result.decision
            for batch in batches
            if not (batch.atomic and _has_failed(numbered[id(batch)]))
            for result in numbered[id(batch)]
            if not result.duplicate and result.decision.operation_type is not OperationType.READ
        ]
        self._writer.save_decisions(fresh)
        touched = {**self._working.met, **self._working.settled}
        self._writer.save_conflicts(self._working.conflicts[conflict_id] for conflict_id in touched)
        self._writer.close_decisions(
            DecisionKey(c.user_id, c.client_id, c.operation_id)
            for c in (self._working.conflicts[conflict_id] for conflict_id in self._working.settled)
        )
        for batch in batches:
            if any(order.operation_type is not OperationType.READ for order in batch.orders) or not batch.is_last:
                syncs[batch.sync_id] = _sync_record(batch, numbered[id(batch)], syncs.get(batch.sync_id), self._now)
        self._writer.save_syncs(syncs[key] for key in {batch.sync_id for batch in batches} if key in syncs)
        return numbered


_OTHER_BODY = Refusal(
    ErrorCode.VALIDATION_ERROR,
    "This operation_id was used for another operation; give each operation an id of its own.",
    {"field": "operation_id", "problem": "already used with another body"},
)


def _refused(batch: Batch, syncs: dict[SyncId, SyncRecord]) -> CommandError | None:
    record = syncs.get(batch.sync_id)
    if record is None:
        return None
    if record.user_id != batch.user_id or record.client_id != batch.client_id:
        return CommandError(ErrorCode.NOT_FOUND, "There is no such sync.", details={"field": "sync_id"})
    if record.status is SyncStatus.CANCELLED:
        return CommandError(ErrorCode.CONFLICT, "This sync was cancelled; begin another.", details={"field": "sync_id"})
    return None


def _referenced_types(registry: Registry) -> frozenset[str]:
    return frozenset(reference.entity_type for spec in registry.values() for reference in spec.references.values())


def _type_of(order: Order) -> EntityType:
    if order.entity_type is None:
        message = "This operation needs an entity_type."
        raise CommandError(ErrorCode.VALIDATION_ERROR, message, details={"field": "entity_type"})
    return order.entity_type


def _parents(spec: EntitySpec, fields: Json) -> Iterable[EntityKey]:
    for name, reference in spec.references.items():
        value = fields.get(name)
        if isinstance(value, int | str):
            yield EntityKey(EntityType(reference.entity_type), EntityId(parse_id(value)))


def _base_version(order: Order) -> int | None:
    return 0 if order.operation_type is OperationType.CREATE else order.before_version


def _with_references(order: Order, created: dict[str, EntityId]) -> Order:
    """The order with each `{"ref": operation_id}` replaced by the id of the entity that operation created."""
    if order.entity_ref is not None:
        order = order._replace(entity_id=_created(order.entity_ref, created, "entity_id"), entity_ref=None)
    pending = {name: value["ref"] for name, value in order.fields.items() if _is_ref(value)}
    if not pending:
        return order
    ids = {name: format_id(_created(ref, created, name)) for name, ref in pending.items()}
    return order._replace(fields={**order.fields, **ids})


def _is_ref(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"ref"}


def _created(ref: str, created: dict[str, EntityId], field: str) -> EntityId:
    entity_id = created.get(ref)
    if entity_id is None:
        message = "The ref names no operation before this one, in this request, that created an entity."
        raise CommandError(ErrorCode.VALIDATION_ERROR, message, details={"field": field, "ref": ref})
    return entity_id


def _decision(batch: Batch, order: Order, now: Millis, verdict: Verdict, rule: str, entity: Entity | None) -> Decision:
    retries = order.retry_of.retry_count + 1 if order.retry_of is not None else 0
    created_at = order.retry_of.created_at if order.retry_of is not None else now
    return Decision(
        batch.user_id, batch.client_id, order.operation_id, order.body_hash, batch.sync_id, order.operation_type,
        order.entity_type, entity.entity_id if entity is not None else order.entity_id, verdict, rule,
        entity.version if entity is not None else None, None, None, None, None, None, None, retries, created_at,
    )  # fmt: skip


def _reject(batch: Batch, order: Order, now: Millis, refusal: Refusal) -> Decided:
    decision = _decision(batch, order, now, Verdict.REJECTED, Rule.INVALID, None)
    return Decided(
        decision._replace(
            error_code=refusal.code, error=refusal.message, details=dict(refusal.details), body=dump(order.raw)
        )
    )


def _numbered(result: Decided, numbers: dict[tuple[EntityKey, int], Seq]) -> Decided:
    decision = result.decision
    if (result.duplicate and decision.seq != 0) or decision.seq is None:
        return result
    key = EntityKey(EntityType(decision.entity_type or ""), EntityId(decision.entity_id or ""))
    return result._replace(decision=decision._replace(seq=numbers[key, decision.version or 0]))


def _is_delete(decision: Decision) -> bool:
    return decision.operation_type is OperationType.DELETE


def _has_failed(results: Iterable[Decided]) -> bool:
    return any(not result.decision.verdict.is_success for result in results)


def _sync_record(batch: Batch, results: Sequence[Decided], before: SyncRecord | None, now: Millis) -> SyncRecord:
    """The record of the batch's sync, with this batch counted in; a resent operation is not counted again."""
    fresh = [result.decision.verdict for result in results if not result.duplicate]
    retried = sum(order.retry_of is not None for order in batch.orders)
    succeeded = sum(verdict.is_success for verdict in fresh)
    parked = sum(verdict is Verdict.CONFLICT for verdict in fresh)
    record = before if before is not None else SyncRecord(
        batch.sync_id, batch.user_id, batch.client_id, SyncStatus.SYNCING, now, None, 0, 0, 0, 0, (), None
    )  # fmt: skip
    record = record._replace(
        total_operations=record.total_operations + len(fresh) - retried,
        successful_operations=record.successful_operations + succeeded,
        failed_operations=record.failed_operations + len(fresh) - succeeded - retried,
        conflicts_count=record.conflicts_count + parked + sum(
            1 for r in results if not r.duplicate and r.decision.verdict.is_success and r.decision.conflict_id
        ),
        entity_types=tuple(dict.fromkeys((*record.entity_types, *batch.entity_types))),
    )  # fmt: skip
    if not batch.is_last:
        return record
    return record._replace(status=_final_status(record, parked), ended_at=now)


def _final_status(record: SyncRecord, parked: int) -> SyncStatus:
    if parked:
        return SyncStatus.CONFLICT
    if record.total_operations and not record.successful_operations:
        return SyncStatus.FAILED
    return SyncStatus.SUCCESS


def request_status(results: Sequence[Decided]) -> SyncStatus:
    """The `status` of a sync response (protocol, section 3)."""
    verdicts = [result.decision.verdict for result in results]
    if Verdict.CONFLICT in verdicts:
        return SyncStatus.CONFLICT
    if verdicts and not any(verdict.is_success for verdict in verdicts):
        return SyncStatus.FAILED
    return SyncStatus.SUCCESS

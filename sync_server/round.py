"""One round of the group commit: many batches, one transaction. Load what they touch, decide in order, write."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from schema.entity import EntitySpec
from schema.registry import Registry
from sync_server.conflict.decide import decide
from sync_server.conflict.model import Attempt, Dispute, Outcome, Refusal, Revision, Rule, Surroundings
from sync_server.conflict.resolve import resolve
from sync_server.conflict.stamps import write_time
from sync_server.decisions import counted, decision_of, has_failed, rejected, with_context
from sync_server.errors import CommandError, ErrorCode
from sync_server.ids import IdBlocks
from sync_server.orders import Batch, Committed, Decided, Order
from sync_server.preload import Preload, referenced_types
from sync_server.records import Conflict, Decision, DecisionKey, Entity, EntityKey, SyncKey, SyncRecord
from sync_server.stores.writer import Writer
from sync_server.types import (
    ClientId,
    ConflictId,
    EntityId,
    EntityType,
    Json,
    Millis,
    OperationType,
    Role,
    SpaceId,
    Strategy,
    SyncStatus,
    Verdict,
    format_id,
)
from sync_server.working import Working

SERVER_CLIENT = ClientId("")
"""The client of changes that the server makes itself; pushed to everybody, the author too."""
_CREATE, _READ = OperationType.CREATE, OperationType.READ
_WRITES = frozenset({OperationType.CREATE, OperationType.UPDATE, OperationType.DELETE})
_NOT_FOUND = Refusal(ErrorCode.NOT_FOUND, "There is no such entity.", {})
_ID_TAKEN = Refusal(ErrorCode.CONFLICT, "The entity is gone, and its id is taken.", {"field": "entity_id"})
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
        self._working = Working(writer, registry, now, version_floor=writer.head().version_floor)
        self._parents_of = referenced_types(registry)
        self.committed = Committed()

    def run(self, batches: Sequence[Batch]) -> list[list[Decided] | CommandError]:
        """Decide and write the batches; one list of verdicts each, or the reason why the whole batch was refused."""
        syncs = self._writer.syncs({SyncKey(batch.user_id, batch.sync_id) for batch in batches})
        refused = {index: error for index, batch in enumerate(batches) if (error := _refused(batch, syncs))}
        admitted = [batch for index, batch in enumerate(batches) if index not in refused]
        Preload(self._writer, self._registry, self._working).load(admitted)
        verdicts = {id(batch): self._decide_batch(batch) for batch in admitted}
        updates = self._working.save(self._writer)
        self._save(admitted, verdicts, syncs)
        self.committed = Committed(
            updates,
            tuple(self._working.conflicts[conflict_id] for conflict_id in self._working.met),
            tuple((self._working.conflicts[key], version) for key, version in self._working.settled.items()),
            self._working.receipts,
        )
        return [refused[index] if index in refused else verdicts[id(batch)] for index, batch in enumerate(batches)]

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
        if prior is None or _is_due(order, prior.decision):
            prior = self._decide(batch, order, created)
            if order.operation_type is not _READ:
                self._working.decided[key] = prior
        elif prior.decision.body_hash != order.body_hash:
            return rejected(batch, order, self._now, _OTHER_BODY)._replace(duplicate=True)
        else:
            prior = self._repeated(batch, prior)
        decision = prior.decision
        if order.operation_type is _CREATE and decision.entity_id is not None:
            created[order.operation_id] = decision.entity_id
        return prior

    def _repeated(self, batch: Batch, prior: Decided) -> Decided:
        """The first result again, without what its author may no longer read (promise P10)."""
        decision = prior.decision
        spaces = {conflict.space_id for conflict in prior.conflicts}
        if decision.entity_type is not None and decision.entity_id is not None:
            entity = self._working.entities.get(EntityKey(decision.entity_type, decision.entity_id))
            spaces |= {entity.space_id} if entity is not None else set()
        if any(self._role(batch, space_id) is None for space_id in spaces):
            prior = prior._replace(data=None, conflicts=())
        return prior._replace(duplicate=True)

    def _decide(self, batch: Batch, order: Order, created: dict[str, EntityId]) -> Decided:
        if order.refusal is not None:
            return rejected(batch, order, self._now, order.refusal)
        try:
            order = self._with_references(order, created)
            if order.operation_type in _WRITES:
                return self._write(batch, order)
            return self._read(batch, order) if order.operation_type is _READ else self._resolve(batch, order)
        except CommandError as error:
            return rejected(batch, order, self._now, Refusal(error.code, error.message, error.details))

    def _with_references(self, order: Order, created: dict[str, EntityId]) -> Order:
        """The order with each `{"ref": operation_id}` replaced by the id of the entity that operation created."""
        if order.entity_ref is not None:
            order = order._replace(entity_id=_created(order.entity_ref, created, "entity_id"), entity_ref=None)
        names = self._registry[order.entity_type].references if order.entity_type is not None else ()
        for name in names:
            value = order.fields.get(name)
            if isinstance(value, dict):
                entity_id = format_id(_created(value["ref"], created, name))
                order = order._replace(fields={**order.fields, name: entity_id})
        return order

    def _read(self, batch: Batch, order: Order) -> Decided:
        entity = self._visible(batch, order)
        if entity is None or entity.deleted:
            return rejected(batch, order, self._now, _NOT_FOUND)
        decision = decision_of(batch, order, self._now, Verdict.APPLIED, Rule.NO_CHANGE, entity)
        return Decided(decision, self._working.text_of(entity.key, entity))

    def _write(self, batch: Batch, order: Order) -> Decided:
        entity, space_id = self._target(batch, order)
        entity_id = order.entity_id
        if entity_id is None:
            entity_id = self._ids.next_id(self._writer, _type_of(order))
        history = self._history(order, entity)
        written_at = write_time(order.timestamp, order.before_version, entity, history, now=self._now)
        attempt = Attempt(
            order.operation_id, order.operation_type, _type_of(order), entity_id, space_id, order.fields,
            order.before_version, order.strategy, written_at, batch.user_id, batch.client_id,
        )  # fmt: skip
        spec = self._registry[attempt.entity_type]
        outcome = decide(attempt, entity, history, spec, self._surroundings(attempt, spec), now=self._now)
        return self._apply(batch, order, attempt, entity, outcome)

    def _resolve(self, batch: Batch, order: Order) -> Decided:
        conflict = self._working.conflicts.get(order.conflict_id) if order.conflict_id is not None else None
        role = self._working.roles.get((conflict.space_id, batch.user_id)) if conflict is not None else None
        if conflict is None or role is None:
            return rejected(batch, order, self._now, Refusal(ErrorCode.NOT_FOUND, "There is no such conflict.", {}))
        if not role.can_write:
            return rejected(batch, order, self._now, _FORBIDDEN)
        order = order._replace(entity_type=conflict.entity_type, entity_id=conflict.entity_id)
        spec = self._registry[conflict.entity_type]
        key = EntityKey(conflict.entity_type, conflict.entity_id)
        entity = self._entity_in(conflict.space_id, key)
        strategy = order.strategy if order.strategy is not None else conflict.suggested_strategy
        surroundings = replace(self._working.surroundings, children=self._working.live_children(key))
        outcome = resolve(
            conflict,
            entity,
            spec=spec,
            strategy=strategy,
            resolved_data=order.resolved_data,
            surroundings=surroundings,
            operation_id=order.operation_id,
        )
        if outcome.data is not None and entity is None and key in self._working.entities:
            return rejected(batch, order, self._now, _ID_TAKEN)
        attempt = Attempt(
            order.operation_id, conflict.operation_type, key.entity_type, key.entity_id, conflict.space_id, {},
            None, strategy, order.timestamp, batch.user_id, batch.client_id,
        )  # fmt: skip
        decided = self._apply(batch, order, attempt, entity, outcome)
        if decided.decision.verdict.is_success:
            self._settle(batch, conflict, order, decided)
        return decided

    def _settle(self, batch: Batch, conflict: Conflict, order: Order, decided: Decided) -> None:
        after = self._entity_in(conflict.space_id, EntityKey(conflict.entity_type, conflict.entity_id))
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

    def _entity_in(self, space_id: SpaceId, key: EntityKey) -> Entity | None:
        """The entity, unless another space took its id once it was purged."""
        entity = self._working.entities.get(key)
        return entity if entity is not None and entity.space_id == space_id else None

    def _role(self, batch: Batch, space_id: SpaceId) -> Role | None:
        pair = (space_id, batch.user_id)
        if pair not in self._working.roles:
            self._working.roles |= self._writer.roles((pair,))
        return self._working.roles.get(pair)

    def _history(self, order: Order, entity: Entity | None) -> Sequence[Revision]:
        if entity is None:
            return ()
        base = order.base_version
        if base is None or base >= entity.version:
            return ()
        return [r for r in self._working.revisions.get(entity.key, ()) if r.version >= base]

    def _surroundings(self, attempt: Attempt, spec: EntitySpec) -> Surroundings:
        if spec.entity_type not in self._parents_of or attempt.operation_type is not OperationType.DELETE:
            return self._working.surroundings
        children = self._working.live_children(EntityKey(attempt.entity_type, attempt.entity_id))
        return replace(self._working.surroundings, children=children)

    def _apply(self, batch: Batch, order: Order, attempt: Attempt, entity: Entity | None, outcome: Outcome) -> Decided:
        if outcome.refusal is not None:
            return rejected(batch, order, self._now, outcome.refusal)
        conflicts: tuple[Conflict, ...] = ()
        if outcome.disputes:
            conflicts = tuple(self._record(batch, attempt, entity, outcome, dispute) for dispute in outcome.disputes)
        key = EntityKey(attempt.entity_type, attempt.entity_id)
        after, change = entity, None
        if outcome.data is not None:
            after, change = self._commit(key, attempt, entity, outcome)
        blocking = next((c for c in conflicts if c.is_open), conflicts[0]) if conflicts else None
        decision = decision_of(
            batch, order, self._now, outcome.verdict, outcome.rule, after,
            conflict_id=blocking.conflict_id if blocking is not None else None,
        )  # fmt: skip
        if outcome.data is None or conflicts or _met_another(order, entity):
            decision = with_context(decision, order, self._registry[key.entity_type].strategy)
        text = self._working.text_of(key, after) if after is not None and not after.deleted else None
        return Decided(decision, text, conflicts, change)

    def _commit(
        self, key: EntityKey, attempt: Attempt, entity: Entity | None, outcome: Outcome
    ) -> tuple[Entity, Sequence[Any]]:
        after, change = self._working.apply(entity, key, attempt, outcome)
        if outcome.deleted:
            for child in self._working.live_children(key):
                self._adopt(child, key, attempt)
        return after, change

    def _adopt(self, child: Entity, parent: EntityKey, deletion: Attempt) -> None:
        """Move a live child of a deleted parent to the root, as a change of the server's own."""
        spec = self._registry[child.entity_type]
        fields: Json = {
            name: None
            for name, reference in spec.references.items()
            if EntityKey(EntityType(reference.entity_type), EntityId(str(child.data.get(name)))) == parent
        }
        attempt = Attempt(
            deletion.operation_id, OperationType.UPDATE, child.entity_type, child.entity_id, child.space_id, fields,
            None, None, Millis(0), deletion.user_id, SERVER_CLIENT,
        )  # fmt: skip
        outcome = decide(attempt, child, (), spec, self._working.surroundings, now=self._now)
        if outcome.data is None:  # a unique value that cannot be repaired: the name stays, the clash is the person's
            outcome = Outcome(Verdict.APPLIED, Rule.PARENT_GONE, {**child.data, **fields})
        self._commit(child.key, attempt, child, outcome._replace(rule=Rule.PARENT_GONE))

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
            strategy=_settling_strategy(dispute) if settled else None,
            resolved_data=after if settled else None,
            resolved_at=self._now if settled else None,
            resolved_by=None,
        )
        self._working.conflicts[conflict.conflict_id] = conflict
        self._working.met[conflict.conflict_id] = None
        return conflict

    def _undone(self, batch: Batch, order: Order, culprit: Decided) -> Decided:
        """The verdict of an operation of an atomic request that failed as a whole: as if it had never been sent."""
        prior = self._working.decided.get(DecisionKey(batch.user_id, batch.client_id, order.operation_id))
        if prior is not None and prior.decision.body_hash == order.body_hash:
            return self._repeated(batch, prior)  # it was done before this request
        if order.operation_id == culprit.decision.operation_id:
            if culprit.decision.verdict is Verdict.REJECTED:
                return culprit
            message = "This operation conflicts, so nothing of this atomic request was applied."
            details = {"rule": str(culprit.decision.rule)}
            return rejected(batch, order, self._now, Refusal(ErrorCode.CONFLICT, message, details))
        message = "Nothing of this atomic request was applied, because another of its operations failed."
        details = {"failed_operation_id": culprit.decision.operation_id}
        return rejected(batch, order, self._now, Refusal(ErrorCode.CONFLICT, message, details))

    # --- write -----------------------------------------------------------------------------------------------------

    def _save(
        self, batches: Sequence[Batch], verdicts: dict[int, list[Decided]], syncs: dict[SyncKey, SyncRecord]
    ) -> None:
        """Write verdicts, conflicts and syncs."""
        fresh = [
            (result.decision if result.decision.body is None else _placed(result.decision, place), result.seq)
            for batch in batches
            if not (batch.atomic and has_failed(verdicts[id(batch)]))
            for place, result in enumerate(verdicts[id(batch)])
            if not result.duplicate and result.decision.operation_type is not _READ
        ]
        self._writer.save_decisions(fresh)
        touched = {**self._working.met, **self._working.settled}
        self._writer.save_conflicts(self._working.conflicts[conflict_id] for conflict_id in touched)
        self._writer.close_decisions(
            DecisionKey(c.user_id, c.client_id, c.operation_id)
            for c in (self._working.conflicts[conflict_id] for conflict_id in self._working.settled)
        )
        for batch in batches:
            if any(order.operation_type is not _READ for order in batch.orders) or not batch.is_last:
                key = SyncKey(batch.user_id, batch.sync_id)
                before = syncs.get(key)
                had_conflicts = before is not None and self._writer.has_open_conflicts(key)
                syncs[key] = counted(batch, verdicts[id(batch)], before, self._now, had_conflicts=had_conflicts)
        keys = {SyncKey(batch.user_id, batch.sync_id) for batch in batches}
        self._writer.save_syncs(syncs[key] for key in keys if key in syncs)


_OTHER_BODY = Refusal(
    ErrorCode.VALIDATION_ERROR,
    "This operation_id was used for another operation; give each operation an id of its own.",
    {"field": "operation_id", "problem": "already used with another body"},
)


def _refused(batch: Batch, syncs: dict[SyncKey, SyncRecord]) -> CommandError | None:
    record = syncs.get(SyncKey(batch.user_id, batch.sync_id))
    if record is None:
        return None
    if record.client_id != batch.client_id:
        return CommandError(ErrorCode.NOT_FOUND, "There is no such sync.", details={"field": "sync_id"})
    if record.status is SyncStatus.CANCELLED:
        return CommandError(ErrorCode.CONFLICT, "This sync was cancelled; begin another.", details={"field": "sync_id"})
    return None


def _placed(decision: Decision, place: int) -> Decision:
    """The verdict on what may have to be tried again, with its place; a retry keeps its first one."""
    return decision if decision.retry_count else decision._replace(place=place)


def _is_due(order: Order, known: Decision) -> bool:
    """Whether a retry is of the very verdict that stands; of two at once, the second is a resend (promise P2)."""
    retried = order.retry_of
    return retried is not None and known.verdict is Verdict.REJECTED and known.retry_count == retried.retry_count


def _settling_strategy(dispute: Dispute) -> Strategy:
    """The strategy that settled it; where another rule did, the one that would be chosen."""
    return next((strategy for strategy in Strategy if strategy.value == dispute.rule.value), dispute.suggested_strategy)


def _met_another(order: Order, entity: Entity | None) -> bool:
    """Whether the operation met another state than the one it was made on, or was made to settle a conflict."""
    if order.operation_type is OperationType.RESOLVE:
        return True
    base = order.base_version
    return base is not None and base != (entity.version if entity is not None else 0)


def _type_of(order: Order) -> EntityType:
    if order.entity_type is None:
        message = "This operation needs an entity_type."
        raise CommandError(ErrorCode.VALIDATION_ERROR, message, details={"field": "entity_type"})
    return order.entity_type


def _created(ref: str, created: dict[str, EntityId], field: str) -> EntityId:
    entity_id = created.get(ref)
    if entity_id is None:
        message = "The ref names no operation before this one, in this request, that created an entity."
        raise CommandError(ErrorCode.VALIDATION_ERROR, message, details={"field": field, "ref": ref})
    return entity_id

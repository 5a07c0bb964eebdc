"""What becomes of a create, an update or a delete: the whole conflict engine in one question."""

from collections.abc import Sequence
from typing import NamedTuple, assert_never

from schema.entity import EntitySpec
from schema.policy import DeletePolicy
from sync_server.conflict.constraints import Target, constrain, is_constrained, keeping_children
from sync_server.conflict.disputes import delete_dispute, field_disputes, suggested_strategy
from sync_server.conflict.fields import CHOSEN, Settlement, settle_fields
from sync_server.conflict.lineage import Lineage, lineage
from sync_server.conflict.model import Attempt, Dispute, Outcome, Refusal, Revision, Rule, Surroundings
from sync_server.conflict.stamps import write_stamp
from sync_server.conflict.values import ABSENT, equal
from sync_server.errors import ErrorCode
from sync_server.records import Entity, EntityKey
from sync_server.types import ConflictType, Json, Millis, OperationType, Strategy, Verdict


def decide(
    attempt: Attempt,
    entity: Entity | None,
    history: Sequence[Revision],
    spec: EntitySpec,
    surroundings: Surroundings,
    *,
    now: Millis,
) -> Outcome:
    """Decide on one attempt. Equal arguments give equal outcomes; it never raises and changes none of them.

    Args:
        attempt: fields validated by `spec`, references resolved to ids.
        entity: its newest state, a tombstone if deleted; None where it never was or is purged.
        history: what the log has of its revisions from `before_version` on (of a create: all), oldest first. May be
            empty where the attempt is not stale; where it is, a missing revision makes the base unknown.
        now: the server's time, which bounds how far ahead a client's clock may be.
    """
    of_type = _OF_TYPE.get(attempt.operation_type)
    if of_type is None:
        return refused(ErrorCode.VALIDATION_ERROR, f"A {attempt.operation_type} changes no entity by itself.")
    return of_type(_Case(attempt, entity, history, spec, surroundings, now))


def refused(code: ErrorCode, message: str, details: Json | None = None) -> Outcome:
    refusal = Refusal(code, message, details if details is not None else {})
    return Outcome(Verdict.REJECTED, Rule.INVALID, refusal=refusal)


class _Case(NamedTuple):
    attempt: Attempt
    entity: Entity | None
    history: Sequence[Revision]
    spec: EntitySpec
    surroundings: Surroundings
    now: Millis

    def settle(self, line: Lineage) -> tuple[Settlement, ...]:
        stamp = write_stamp(self.attempt, self.entity, self.history, now=self.now)
        return settle_fields(self.attempt, line, self.spec, stamp)


def _create(case: _Case) -> Outcome:
    attempt, entity = case.attempt, case.entity
    if entity is None:
        return _landed(case, None, attempt.fields, Verdict.APPLIED, Rule.CREATED)
    if entity.space_id != attempt.space_id:
        return refused(ErrorCode.CONFLICT, "This id is taken; choose another one.", {"entity_id": attempt.entity_id})
    return _edit_tombstone(case, entity) if entity.deleted else _update_stale(case, entity)


def _update(case: _Case) -> Outcome:
    entity, version = case.entity, case.attempt.before_version
    if entity is None:
        return _not_found(case)
    if entity.deleted:
        return _edit_tombstone(case, entity)
    if version is None:
        return _update_on_top(case, entity, Rule.NO_BASE)
    return _update_on_top(case, entity, Rule.SAME_VERSION) if version == entity.version else _update_stale(case, entity)


def _delete(case: _Case) -> Outcome:
    entity, version = case.entity, case.attempt.before_version
    if entity is None:
        return _not_found(case)
    if entity.deleted:
        return Outcome(Verdict.APPLIED, Rule.NO_CHANGE, deleted=True)
    if version is None:
        return _deleted(case, entity, Rule.NO_BASE)
    return _deleted(case, entity, Rule.SAME_VERSION) if version == entity.version else _delete_stale(case, entity)


def _not_found(case: _Case) -> Outcome:
    attempt = case.attempt
    message = f"There is no {attempt.entity_type} with this id."
    return refused(ErrorCode.NOT_FOUND, message, {"entity_id": attempt.entity_id})


def _update_on_top(case: _Case, entity: Entity, rule: Rule) -> Outcome:
    data = {**entity.data, **case.attempt.fields}
    if _is_same(entity.data, data, case.attempt.fields):
        return Outcome(Verdict.APPLIED, Rule.NO_CHANGE)
    return _landed(case, entity.data, data, Verdict.APPLIED, rule)


def _update_stale(case: _Case, entity: Entity) -> Outcome:
    line = lineage(case.attempt, entity, case.history)
    settlements = case.settle(line)
    disputes = field_disputes(_conflict_type(case, line), settlements, case.spec)
    rule = _strongest(settlements)
    if rule is Rule.MANUAL:
        return Outcome(Verdict.CONFLICT, rule, disputes=disputes)
    data = _with(entity.data, settlements)
    if _is_same(entity.data, data, case.attempt.fields):
        is_lost = disputes or rule is Rule.FIELD_MERGE
        return Outcome(Verdict.SUPERSEDED if is_lost else Verdict.APPLIED, rule, disputes=disputes)
    if line.is_complete and not line.rivals:
        return _landed(case, entity.data, data, Verdict.APPLIED, Rule.OWN_QUEUE, disputes)
    return _landed(case, entity.data, data, Verdict.MERGED, rule, disputes)


def _conflict_type(case: _Case, line: Lineage) -> ConflictType:
    if case.attempt.operation_type is OperationType.CREATE:
        return ConflictType.UNIQUE
    return ConflictType.CONTENT if line.has_base else ConflictType.VERSION


def _strongest(settlements: Sequence[Settlement]) -> Rule:
    """The rule that says most about how an update was merged."""
    rules = {settlement.rule for settlement in settlements}
    ranked = (*CHOSEN, Rule.FIELD_MERGE, Rule.DISJOINT)
    return next((rule for rule in ranked if rule in rules), Rule.NO_CHANGE)


def _with(data: Json, settlements: Sequence[Settlement]) -> Json:
    return {**data, **{s.name: s.value for s in settlements if s.value is not ABSENT}}


def _is_same(before: Json, after: Json, names: Json) -> bool:
    return all(equal(before.get(name, ABSENT), after.get(name, ABSENT)) for name in names)


def _edit_tombstone(case: _Case, entity: Entity) -> Outcome:
    attempt = case.attempt
    if attempt.operation_type is OperationType.UPDATE and attempt.before_version == entity.version:
        return _revived(case, entity, attempt.fields, Verdict.APPLIED, Rule.SAME_VERSION)
    line = lineage(attempt, entity, case.history)
    if _changes_nothing(attempt, line):
        return Outcome(Verdict.APPLIED, Rule.NO_CHANGE, deleted=True)
    if line.ends_in_own_delete():
        return _merge_into_tombstone(case, entity, line, Verdict.MERGED if line.rivals else Verdict.APPLIED, ())
    rule = _delete_rule(attempt, case.spec)
    rule = Rule.EDIT_WINS if rule is Rule.CLIENT_WINS else rule
    dispute = delete_dispute(attempt.fields, line, rule, case.spec)
    if rule is Rule.EDIT_WINS:
        return _merge_into_tombstone(case, entity, line, Verdict.MERGED, (dispute,))
    verdict = Verdict.CONFLICT if dispute.is_open else Verdict.SUPERSEDED
    return Outcome(verdict, rule, deleted=True, disputes=(dispute,))


def _changes_nothing(attempt: Attempt, line: Lineage) -> bool:
    """Whether an update only repeats what its client already had; a create is always meant."""
    if attempt.operation_type is OperationType.CREATE or not line.has_base:
        return False
    return all(equal(value, line.base(name)) for name, value in attempt.fields.items())


def _merge_into_tombstone(
    case: _Case, entity: Entity, line: Lineage, verdict: Verdict, disputes: tuple[Dispute, ...]
) -> Outcome:
    """Bring the entity back, unless nothing of the edit outlives the writes that came before the delete."""
    if case.attempt.operation_type is OperationType.CREATE or case.attempt.before_version is None:
        return _revived(case, entity, case.attempt.fields, verdict, Rule.EDIT_WINS, disputes)
    settlements = case.settle(line)
    rule = _strongest(settlements)
    is_lost = line.is_complete and all(s.is_lost_to(entity.data) for s in settlements)
    if rule is Rule.MANUAL or is_lost:
        contended = field_disputes(ConflictType.DELETE, settlements, case.spec)
        verdict = Verdict.CONFLICT if rule is Rule.MANUAL else Verdict.SUPERSEDED
        return Outcome(verdict, rule, deleted=True, disputes=contended)
    contended = field_disputes(ConflictType.CONTENT, settlements, case.spec)
    return _revived(case, entity, _with({}, settlements), verdict, Rule.EDIT_WINS, (*contended, *disputes))


def _revived(
    case: _Case, entity: Entity, changes: Json, verdict: Verdict, rule: Rule, disputes: tuple[Dispute, ...] = ()
) -> Outcome:
    return _landed(case, None, {**entity.data, **changes}, verdict, rule, disputes)


def _delete_rule(attempt: Attempt, spec: EntitySpec) -> Rule:
    """Which rule settles a delete against an edit: a strategy that names a side, else the type's policy."""
    match attempt.strategy:
        case Strategy.SERVER_WINS | Strategy.CLIENT_WINS | Strategy.MANUAL:
            return Rule(attempt.strategy.value)
        case Strategy.LATEST_WINS | Strategy.MERGE | None:
            return Rule.EDIT_WINS if spec.deletes is DeletePolicy.EDIT_WINS else Rule.DELETE_WINS
        case _:
            assert_never(attempt.strategy)


def _delete_stale(case: _Case, entity: Entity) -> Outcome:
    line = lineage(case.attempt, entity, case.history)
    if not line.has_rival_edit():
        return _deleted(case, entity, Rule.OWN_QUEUE)
    rule = _delete_rule(case.attempt, case.spec)
    names = dict.fromkeys(name for revision in line.rivals for name in revision.previous)
    dispute = delete_dispute(names, line, rule, case.spec)
    if rule in {Rule.CLIENT_WINS, Rule.DELETE_WINS}:
        return _deleted(case, entity, rule, (dispute,))
    return Outcome(Verdict.CONFLICT if dispute.is_open else Verdict.SUPERSEDED, rule, disputes=(dispute,))


def _deleted(case: _Case, entity: Entity, rule: Rule, disputes: tuple[Dispute, ...] = ()) -> Outcome:
    parked = parked_delete(entity, case.spec, case.surroundings)
    if parked is not None:
        return parked
    return Outcome(Verdict.APPLIED, rule, data=entity.data, deleted=True, disputes=disputes)


def parked_delete(entity: Entity, spec: EntitySpec, surroundings: Surroundings) -> Outcome | None:
    """The delete of a parent whose children do not let go waits; None where nothing holds it."""
    if not surroundings.children or not keeping_children(entity, surroundings):
        return None
    suggested = suggested_strategy((), spec)
    dispute = Dispute(ConflictType.PARENT, (), {}, Rule.PARENT_GONE, suggested, is_open=True)
    return Outcome(Verdict.CONFLICT, Rule.PARENT_GONE, disputes=(dispute,))


def _landed(
    case: _Case,
    before: Json | None,
    data: Json,
    verdict: Verdict,
    rule: Rule,
    disputes: tuple[Dispute, ...] = (),
) -> Outcome:
    """The outcome of new data once the constraints have had their say; `before` is None for a create or a revival."""
    attempt, entity = case.attempt, case.entity
    space_id = attempt.space_id if entity is None else entity.space_id
    found: tuple[Dispute, ...] = ()
    if is_constrained(data, case.spec):
        target = Target(EntityKey(attempt.entity_type, attempt.entity_id), space_id, attempt.operation_id, before)
        data, found = constrain(target, data, case.spec, case.surroundings)
    if found:
        if any(dispute.is_open for dispute in found):
            return _parked(entity, found)
        verdict, rule, disputes = Verdict.MERGED, found[0].rule, (*disputes, *found)
        if before is not None and _is_same(before, data, attempt.fields):
            return Outcome(Verdict.SUPERSEDED, rule, disputes=disputes)
    return Outcome(verdict, rule, data, _submitted(attempt.fields, data), disputes)


def _submitted(fields: Json, data: Json) -> Json:
    """The fields that are stored with another value than they were sent with."""
    if data is fields:
        return {}
    return {name: value for name, value in fields.items() if not equal(value, data.get(name, ABSENT))}


_OF_TYPE = {OperationType.CREATE: _create, OperationType.UPDATE: _update, OperationType.DELETE: _delete}


def _parked(entity: Entity | None, found: Sequence[Dispute]) -> Outcome:
    waiting = tuple(dispute for dispute in found if dispute.is_open)
    is_deleted = entity is not None and entity.deleted
    return Outcome(Verdict.CONFLICT, waiting[0].rule, deleted=is_deleted, disputes=waiting)

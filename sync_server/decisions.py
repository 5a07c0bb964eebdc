"""The durable records that a round leaves of its operations: verdicts, and the syncs that count them."""

from collections import Counter
from collections.abc import Iterable, Sequence

from sync_server.conflict.model import Refusal, Rule
from sync_server.orders import Batch, Decided, Order
from sync_server.records import Decision, Entity, SyncRecord
from sync_server.stores.writer import dump
from sync_server.types import ConflictId, Millis, Strategy, StrategySource, SyncStatus, Verdict


def decision_of(
    batch: Batch,
    order: Order,
    now: Millis,
    verdict: Verdict,
    rule: str,
    entity: Entity | None,
    *,
    conflict_id: ConflictId | None = None,
    refusal: Refusal | None = None,
) -> Decision:
    """The verdict on an order, with the entity as it is afterwards.

    Its body is kept where it did not succeed, so that it can be tried again.

    Its `seq` is not known yet: see `Decided`.
    """
    retries, created_at, place = 0, now, 0
    if order.retry_of is not None:
        retries, created_at, place = order.retry_of.retry_count + 1, order.retry_of.created_at, order.retry_of.place
    code, error, details = None, None, None
    if refusal is not None:
        code, error, details = refusal.code, refusal.message, dict(refusal.details)
    entity_id, version = order.entity_id, None
    if entity is not None:
        entity_id, version = entity.entity_id, entity.version
    return Decision(
        batch.user_id, batch.client_id, order.operation_id, order.body_hash, batch.sync_id, order.operation_type,
        order.entity_type, entity_id, verdict, rule, version, None, conflict_id,
        code, error, details, None if verdict.is_success else dump(order.raw), retries, created_at, place,
        order.base_version,
    )  # fmt: skip


def with_context(decision: Decision, order: Order, own_strategy: Strategy) -> Decision:
    """The verdict with what the log will not tell of it.

    Args:
        own_strategy: of the entity type, in force where neither the operation nor its request names one.
    """
    strategy, source = order.strategy, order.strategy_source
    if strategy is None:
        strategy, source = own_strategy, StrategySource.TYPE
    return decision._replace(strategy=strategy, strategy_source=source, sent=tuple(order.fields))


def rejected(batch: Batch, order: Order, now: Millis, refusal: Refusal) -> Decided:
    """The verdict on an order that cannot be done; it keeps what a retry does not find in the order's body."""
    decision = decision_of(batch, order, now, Verdict.REJECTED, Rule.INVALID, None, refusal=refusal)
    if order.strategy_source is StrategySource.REQUEST:
        decision = decision._replace(strategy=order.strategy, strategy_source=order.strategy_source)
    return Decided(decision)


def has_failed(results: Iterable[Decided]) -> bool:
    return any(not result.decision.verdict.is_success for result in results)


def counted(
    batch: Batch, results: Sequence[Decided], before: SyncRecord | None, now: Millis, *, had_conflicts: bool
) -> SyncRecord:
    """The record of the batch's sync, with this batch counted in; a resent operation is not counted again.

    Args:
        had_conflicts: whether an earlier batch left a conflict that is still open.
    """
    fresh = [result.decision for result in results if not result.duplicate]
    retried = sum(order.retry_of is not None for order in batch.orders)
    verdicts = Counter(decision.verdict for decision in fresh)
    succeeded = sum(count for verdict, count in verdicts.items() if verdict.is_success)
    parked = verdicts[Verdict.CONFLICT]
    settled = sum(decision.conflict_id is not None and decision.verdict.is_success for decision in fresh)
    record = SyncRecord(
        batch.sync_id, batch.user_id, batch.client_id, SyncStatus.SYNCING, now, None, len(fresh) - retried, succeeded,
        len(fresh) - succeeded - retried, parked + settled, batch.entity_types, None,
    )  # fmt: skip
    if before is not None:
        record = _added(before, record)
    if not batch.is_last:
        return record
    status = _final_status(record, has_conflicts=had_conflicts or parked > 0)
    return SyncRecord._make((*record[:3], status, record.started_at, now, *record[6:]))


def _added(before: SyncRecord, record: SyncRecord) -> SyncRecord:
    """A sync of several batches, with one more."""
    return before._replace(
        total_operations=before.total_operations + record.total_operations,
        successful_operations=before.successful_operations + record.successful_operations,
        failed_operations=before.failed_operations + record.failed_operations,
        conflicts_count=before.conflicts_count + record.conflicts_count,
        entity_types=tuple(dict.fromkeys((*before.entity_types, *record.entity_types))),
    )


def _final_status(record: SyncRecord, *, has_conflicts: bool) -> SyncStatus:
    if has_conflicts:
        return SyncStatus.CONFLICT
    if record.total_operations and not record.successful_operations:
        return SyncStatus.FAILED
    return SyncStatus.SUCCESS


def request_status(results: Sequence[Decided]) -> SyncStatus:
    """The `status` of a sync response (protocol, section 3)."""
    verdicts = {result.decision.verdict for result in results}
    if Verdict.CONFLICT in verdicts:
        return SyncStatus.CONFLICT
    if verdicts and not any(verdict.is_success for verdict in verdicts):
        return SyncStatus.FAILED
    return SyncStatus.SUCCESS


def status_of(decision: Decision) -> str:
    """A parked operation whose conflict is settled is done: it has no body any more."""
    if decision.verdict.is_success or decision.body is None:
        return "completed"
    return "conflict" if decision.verdict is Verdict.CONFLICT else "failed"

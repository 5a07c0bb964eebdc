"""Retries: the rejected operations of a sync, done again."""

from collections.abc import Iterable, Mapping, Sequence

import orjson
from typing_extensions import TypedDict

from sync_server.clock import now_ms
from sync_server.handlers.operations import Defaults, order_of, refused_order
from sync_server.handlers.syncs import no_such_sync
from sync_server.orders import Batch, Decided, Order
from sync_server.protocol.client_messages import MAX_OPERATIONS, Operation
from sync_server.protocol.operations import parse_operation
from sync_server.protocol.server_messages import OperationResult
from sync_server.records import Decision, DecisionKey, SyncKey, SyncRecord
from sync_server.services import Services
from sync_server.stores.reader import Reader
from sync_server.types import Json, OperationId, OperationType, StrategySource, SyncId, UserId, Verdict, format_id
from sync_server.users import home_of
from sync_server.views import operation_result


class Retried(TypedDict):
    sync_id: str
    retried_count: int
    operation_results: list[OperationResult]


async def retry(services: Services, user_id: UserId, sync_id: SyncId, operation_ids: Sequence[str] | None) -> Retried:
    """Do the rejected operations of a sync again, as they were sent: all of them, or those named, in that order.

    Operations that are parked in a conflict are not retried: resolve the conflict.

    Raises:
        CommandError: NOT_FOUND, or CONFLICT for a cancelled sync.
    """

    def query(reader: Reader) -> tuple[SyncRecord | None, list[Decision]]:
        key = SyncKey(user_id, sync_id)
        return reader.syncs((key,)).get(key), reader.unsuccessful(user_id, sync_id)

    record, unsuccessful = await services.feed.read(query)
    if record is None:
        raise no_such_sync()
    rejected = {one.operation_id: one for one in unsuccessful if one.verdict is Verdict.REJECTED}
    wanted = dict.fromkeys(operation_ids) if operation_ids is not None else rejected
    chosen = [rejected[OperationId(key)] for key in wanted if key in rejected]
    services.operation_limit.spend(user_id, len(chosen))
    decided: list[Decided] = []
    for start in range(0, len(chosen), MAX_OPERATIONS):
        orders = await _orders(services, record, chosen[start : start + MAX_OPERATIONS])
        batch = Batch(user_id, record.client_id, sync_id, orders, home_of(user_id), is_last=record.ended_at is not None)
        decided += await services.committer.submit(batch)
    return {
        "sync_id": sync_id,
        "retried_count": len(decided),
        "operation_results": [operation_result(one) for one in decided],
    }


async def _orders(services: Services, record: SyncRecord, decisions: Sequence[Decision]) -> tuple[Order, ...]:
    """The orders of stored bodies; references to entities that were created meanwhile are settled."""
    now = now_ms()
    orders = []
    for decision in decisions:
        of_request = decision.strategy if decision.strategy_source is StrategySource.REQUEST else None
        defaults = Defaults(of_request, now)
        raw: Json = orjson.loads(decision.body or "{}")
        parsed = parse_operation(raw)
        if isinstance(parsed, Operation):
            order = order_of(parsed, raw, services.registry, defaults)
        else:  # malformed, then as now
            refused = refused_order(parsed, raw, services.registry, defaults)
            if refused is None:
                continue
            order = refused
        orders.append(order._replace(body_hash=decision.body_hash, retry_of=decision))
    retried = {order.operation_id for order in orders}
    refs = {ref for order in orders for ref in _refs(order)} - retried
    keys = [DecisionKey(record.user_id, record.client_id, ref) for ref in refs]
    found = await services.feed.read(lambda reader: reader.decisions(keys))
    created = {
        key.operation_id: done
        for key, done in found.items()
        if done.operation_type is OperationType.CREATE and done.verdict.is_success
    }
    return tuple(_with_created(order, created) for order in orders)


def _refs(order: Order) -> Iterable[OperationId]:
    if order.entity_ref is not None:
        yield order.entity_ref
    yield from (OperationId(value["ref"]) for value in order.fields.values() if _is_ref(value))


def _with_created(order: Order, created: Mapping[OperationId, Decision]) -> Order:
    made = created.get(order.entity_ref) if order.entity_ref is not None else None
    if made is not None:
        order = order._replace(entity_id=made.entity_id, entity_ref=None)
    fields = {
        name: format_id(done.entity_id)
        for name, value in order.fields.items()
        if _is_ref(value) and (done := created.get(value["ref"])) is not None and done.entity_id is not None
    }
    return order._replace(fields={**order.fields, **fields}) if fields else order


def _is_ref(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"ref"}

"""The verdict of one operation: what became of it, and why."""

from typing_extensions import TypedDict

from sync_server.errors import CommandError, ErrorCode
from sync_server.handlers.queues import queued_item, status_of
from sync_server.protocol.server_messages import OutId
from sync_server.protocol.validation import validation_error
from sync_server.records import Decision, DecisionKey
from sync_server.services import Services
from sync_server.stores.reader import Reader
from sync_server.types import ClientId, Json, OperationId, UserId, Verdict, format_id, format_time


class OperationView(TypedDict):
    """`verdict`, and what depends on it, is null while the operation waits for one."""

    operation_id: str
    client_id: str
    sync_id: str
    operation_type: str
    entity_type: str | None
    entity_id: OutId | None
    status: str
    verdict: Verdict | None
    rule: str | None
    version: int | None
    seq: int | None
    conflict_id: str | None
    error: str | None
    error_code: ErrorCode | None
    details: Json
    retry_count: int
    created_at: str


async def operation(
    services: Services, user_id: UserId, operation_id: OperationId, client_id: ClientId | None
) -> OperationView:
    """What became of an operation and why.

    Raises:
        CommandError: NOT_FOUND, or VALIDATION_ERROR where several of the user's clients used this id and none is named.
    """
    waiting = _queued_view(services, user_id, operation_id, client_id)
    known = [client_id] if client_id is not None else [*services.clients.ids_of(user_id), ClientId("")]

    def query(reader: Reader) -> dict[DecisionKey, Decision]:
        found = reader.decisions(DecisionKey(user_id, one, operation_id) for one in dict.fromkeys(known))
        if client_id is None:
            found.update((decision.key, decision) for decision in reader.decisions_named(user_id, operation_id))
        return found

    found = await services.feed.read(query)
    clients = {key.client_id for key in found} | ({waiting["client_id"]} if waiting is not None else set())
    if len(clients) > 1:
        error = validation_error("client_id", "is required: several of your clients used this operation_id")
        error.details["client_ids"] = sorted(clients)
        raise error
    if found:
        return _operation_view(next(iter(found.values())))
    if waiting is None:
        raise CommandError(ErrorCode.NOT_FOUND, "There is no such operation.")
    return waiting


def _queued_view(
    services: Services, user_id: UserId, operation_id: OperationId, client_id: ClientId | None
) -> OperationView | None:
    for queued in services.committer.queued(user_id):
        if client_id not in {None, queued.batch.client_id}:
            continue
        for order in queued.batch.orders:
            if order.operation_id == operation_id:
                item = queued_item(queued, order, "")
                return {
                    "operation_id": operation_id,
                    "client_id": item["client_id"],
                    "sync_id": item["sync_id"],
                    "operation_type": item["operation_type"],
                    "entity_type": item["entity_type"],
                    "entity_id": item["entity_id"],
                    "status": item["status"],
                    "verdict": None,
                    "rule": None,
                    "version": None,
                    "seq": None,
                    "conflict_id": None,
                    "error": None,
                    "error_code": None,
                    "details": {},
                    "retry_count": item["retry_count"],
                    "created_at": item["created_at"],
                }
    return None


def _operation_view(decision: Decision) -> OperationView:
    return {
        "operation_id": decision.operation_id,
        "client_id": decision.client_id,
        "sync_id": decision.sync_id,
        "operation_type": decision.operation_type.value,
        "entity_type": decision.entity_type,
        "entity_id": format_id(decision.entity_id) if decision.entity_id is not None else None,
        "status": status_of(decision),
        "verdict": decision.verdict,
        "rule": decision.rule,
        "version": decision.version,
        "seq": decision.seq,
        "conflict_id": decision.conflict_id,
        "error": decision.error,
        "error_code": decision.error_code,
        "details": decision.details if decision.details is not None else {},
        "retry_count": decision.retry_count,
        "created_at": format_time(decision.created_at),
    }

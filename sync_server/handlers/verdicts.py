"""The verdict of one operation: what became of it, and why."""

from functools import partial

from sync_server.errors import CommandError, ErrorCode
from sync_server.explanations.evidence import operation_evidence
from sync_server.explanations.operations import Explanation, explain_operation
from sync_server.explanations.replies import OperationView, operation_view
from sync_server.handlers.access import read_as
from sync_server.handlers.queues import queued_item
from sync_server.memberships import Places, followed
from sync_server.protocol.validation import validation_error
from sync_server.records import Decision, DecisionKey
from sync_server.services import Services
from sync_server.stores.reader import Reader
from sync_server.types import ClientId, OperationId, UserId


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
        return operation_view(await read_as(services, user_id, partial(_explained, next(iter(found.values())))))
    if waiting is None:
        raise CommandError(ErrorCode.NOT_FOUND, "There is no such operation.")
    return waiting


def _explained(decision: Decision, reader: Reader, places: Places) -> Explanation:
    """The explanation for the operation's author, without what they may no longer read (promise P10)."""
    evidence = operation_evidence(reader, decision)
    return explain_operation(evidence, may_read=evidence.space_id in {None, *followed(places)})


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
                    "explanation": "It waits for its turn and has no verdict yet.",
                    "base": None,
                    "strategy": None,
                    "fields": [],
                    "conflicts": [],
                    "withheld": False,
                }
    return None

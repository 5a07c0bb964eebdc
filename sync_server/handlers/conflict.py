"""Contract 5 and REST 5: somebody settles a conflict, from whatever device, once."""

from sync_server.clock import new_id, now_ms
from sync_server.connection import Connection, failed
from sync_server.errors import CommandError, ErrorCode
from sync_server.handlers.operations import Defaults, order_of
from sync_server.orders import Batch, Decided
from sync_server.protocol.client_messages import Operation, Resolution, ResolveConflict
from sync_server.protocol.codec import JsonText
from sync_server.protocol.validation import validation_error
from sync_server.services import Services
from sync_server.types import ClientId, Json, OperationType, SyncId, UserId
from sync_server.users import home_of


async def settle(services: Services, connection: Connection, message: ResolveConflict) -> None:
    subscriber = connection.subscriber
    assert subscriber is not None  # READY connections have one
    head: Json = {
        "type": "conflict_resolved",
        "message_id": message.message_id,
        "conflict_id": message.resolution.conflict_id,
    }
    try:
        reply = await resolve(services, subscriber.viewer.user_id, connection.client_id, message.resolution)
    except CommandError as error:
        connection.send({**head, **failed(error)})
        return
    connection.send({**head, **reply})


async def resolve(services: Services, user_id: UserId, client_id: ClientId, resolution: Resolution) -> Json:
    """Settle one conflict; the members of the contract's reply.

    Raises:
        CommandError: NOT_FOUND, FORBIDDEN, CONFLICT when it is settled already, VALIDATION_ERROR for its data.
    """
    services.operation_limit.spend(user_id)
    raw: Json = {
        "operation_id": new_id("resolution"),
        "operation_type": OperationType.RESOLVE.value,
        "conflict_id": resolution.conflict_id,
        "strategy": resolution.strategy.value,
        "resolved_data": resolution.resolved_data,
    }
    order = order_of(Operation.model_validate(raw), raw, services.registry, Defaults(None, now_ms()))
    sync_id = SyncId(new_id("sync"))
    decided = (await services.committer.submit(Batch(user_id, client_id, sync_id, (order,), home_of(user_id))))[0]
    return _reply(resolution, decided)


def _reply(resolution: Resolution, decided: Decided) -> Json:
    decision = decided.decision
    if decision.error is not None and decision.error_code is not None:
        raise CommandError(decision.error_code, decision.error, details=decision.details)
    if not decision.verdict.is_success or decision.entity_id is None:
        raise CommandError(ErrorCode.CONFLICT, "The resolution itself conflicts; resolve it with other data.")
    return {
        "success": True,
        "conflict_id": resolution.conflict_id,
        "resolved_data": JsonText(decided.data) if decided.data is not None else None,
        "new_version": decision.version,
    }


def require_same_conflict(outer: str, inner: str) -> None:
    """REST names the conflict twice; both names must agree."""
    if outer != inner:
        raise validation_error("resolution.conflict_id", "must be the conflict_id of the request")

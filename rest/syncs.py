"""The contract's routes (T3 contract, "REST API接口"), and the one that tells an operation's verdict."""

from rest.endpoint import Call, Endpoint, NoBody
from rest.requests import (
    CancelRequest,
    ClearHistoryRequest,
    DataDiffRequest,
    OperationQuery,
    Query,
    QueueQuery,
    ResolveAllRequest,
    ResolveRequest,
    RetryRequest,
    StatusQuery,
    SyncDataRequest,
)
from sync_server.clock import new_id
from sync_server.errors import ErrorCode
from sync_server.explanations.replies import OperationView
from sync_server.handlers import entities, feeds, queues, retries, syncs, verdicts
from sync_server.handlers.conflict import require_same_conflict, resolve
from sync_server.handlers.conflicts import ConflictSettled, resolve_each
from sync_server.handlers.sync import synchronise
from sync_server.protocol.client_messages import SyncRequest
from sync_server.protocol.server_messages import SyncResponseData
from sync_server.protocol.validation import validation_error
from sync_server.protocol.versions import PROTOCOL_VERSION, is_supported
from sync_server.records import EntityKey
from sync_server.types import ClientId, EntityId, EntityType, Json, OperationId, SyncId, parse_id


async def _sync(call: Call[Query, SyncRequest]) -> SyncResponseData:
    return await synchronise(call.services, call.user_id, call.body, subscriber=None)


async def _sync_data(call: Call[Query, SyncDataRequest]) -> feeds.SyncData:
    body = call.body
    if not is_supported(body.protocol_version):
        raise validation_error("protocol_version", f"is not supported; this server speaks {PROTOCOL_VERSION}")
    types = tuple(dict.fromkeys(body.entity_types if body.entity_types is not None else call.services.registry))
    for index, name in enumerate(types):
        if name not in call.services.registry:
            raise validation_error(f"entity_types.{index}", "is no entity type of this server")
    spaces = tuple(sorted(body.space_ids)) if body.space_ids is not None else None
    request = feeds.WalkRequest(body.client_id, types, spaces, body.since, body.full_sync)
    return await feeds.sync_data(
        call.services,
        call.user_id,
        call.walks,
        request,
        sync_id=new_id("sync"),
        cursor=body.cursor,
        batch_index=body.batch_index,
        limit=body.batch_size,
    )


async def _status(call: Call[StatusQuery, NoBody]) -> syncs.Status:
    query = call.query
    return await syncs.status(call.services, call.user_id, client_id=query.client_id, sync_id=query.sync_id)


async def _queue(call: Call[QueueQuery, NoBody]) -> queues.Queue:
    query = call.query
    wanted = queues.QueueQuery(query.queue_type, query.client_id, query.entity_type, query.page, query.limit)
    return await queues.queue(call.services, call.user_id, wanted)


async def _resolve(call: Call[Query, ResolveRequest]) -> Json:
    require_same_conflict(call.body.conflict_id, call.body.resolution.conflict_id)
    return await resolve(call.services, call.user_id, _client(call.body.client_id), call.body.resolution)


async def _resolve_all(call: Call[Query, ResolveAllRequest]) -> list[Json]:
    for one in call.body.resolutions:
        require_same_conflict(one.conflict_id, one.resolution.conflict_id)
    resolutions = [one.resolution for one in call.body.resolutions]
    return await resolve_each(call.services, call.user_id, _client(call.body.client_id), resolutions)


async def _data_diff(call: Call[Query, DataDiffRequest]) -> entities.DataDiff:
    body = call.body
    return await entities.difference(
        call.services,
        call.user_id,
        EntityKey(EntityType(body.entity_type), EntityId(parse_id(body.entity_id))),
        client_version=body.client_version,
        server_version=body.server_version,
        client_data=body.client_data,
    )


async def _cancel(call: Call[Query, CancelRequest]) -> syncs.Cancelled:
    return await syncs.cancel(call.services, call.user_id, SyncId(call.body.sync_id), call.body.reason)


async def _retry(call: Call[Query, RetryRequest]) -> retries.Retried:
    return await retries.retry(call.services, call.user_id, SyncId(call.body.sync_id), call.body.operation_ids)


async def _clear_history(call: Call[Query, ClearHistoryRequest]) -> syncs.Cleared:
    body = call.body
    return await syncs.clear_history(
        call.services, call.user_id, client_id=body.client_id, retain_days=body.retain_days
    )


async def _operation(call: Call[OperationQuery, NoBody]) -> OperationView:
    client_id = ClientId(call.query.client_id) if call.query.client_id is not None else None
    return await verdicts.operation(call.services, call.user_id, OperationId(call.path("operation_id")), client_id)


def _client(client_id: str | None) -> ClientId:
    """Who resolves: without a name, nobody's client, so that all of the user's clients are told."""
    return ClientId(client_id if client_id is not None else "")


_RESOLUTION: Json = {
    "conflict_id": "conflict_001",
    "resolution": {
        "conflict_id": "conflict_001",
        "strategy": "merge",
        "resolved_data": {"title": "合并后的标题", "content": "合并后的内容"},
        "auto_resolve": True,
    },
}

ENDPOINTS = (
    Endpoint(
        method="POST", path="/sync", tag="Sync", summary="Do operations, and hear what others changed",
        description="The same as the `sync` message of the WebSocket: each operation has a verdict of its own.",
        handle=_sync, query=Query, body=SyncRequest, reply=SyncResponseData,
        errors=(ErrorCode.CONFLICT, ErrorCode.NOT_FOUND),
        example={
            "request_id": "sync_req_001", "client_id": "client_abc123",
            "client_state": {
                "client_id": "client_abc123", "last_sync_time": "2024-01-09T10:00:00Z", "server_version": "1.0.0",
                "pending_operations": 2,
            },
            "protocol_version": "1.0.0",
            "operations": [
                {
                    "operation_id": "op_001", "operation_type": "create", "entity_type": "note",
                    "data": {"title": "新笔记", "content": "笔记内容"}, "client_id": "client_abc123",
                    "timestamp": "2024-01-10T10:00:00Z",
                }
            ],
            "default_resolution_strategy": "latest_wins", "incremental": True, "batch_size": 100, "batch_index": 0,
            "is_last_batch": True,
        },
    ),
    Endpoint(
        method="POST", path="/sync-data", tag="Sync", summary="All entities, or those changed since a time, in batches",
        description=(
            "One type at a time, in the order of `entity_types`. Go on with `cursor`, or with `batch_index`; an entity "
            "that changes meanwhile may come twice and is never missed. After the last batch follow `/changes` from "
            "`changes_cursor`."
        ),
        handle=_sync_data, query=Query, body=SyncDataRequest, reply=feeds.SyncData,
        errors=(ErrorCode.CONFLICT, ErrorCode.NOT_FOUND),
        example={
            "client_id": "client_abc123", "protocol_version": "1.0.0", "entity_types": ["note", "folder", "review"],
            "since": "2024-01-09T10:00:00Z", "full_sync": False, "batch_size": 100, "batch_index": 0,
            "is_last_batch": False,
        },
    ),
    Endpoint(
        method="GET", path="/status", tag="Sync", summary="Unfinished and latest finished syncs, and a client's state",
        handle=_status, query=StatusQuery, body=NoBody, reply=syncs.Status,
    ),
    Endpoint(
        method="GET", path="/queue", tag="Sync", summary="Operations by what became of them",
        handle=_queue, query=QueueQuery, body=NoBody, reply=queues.Queue,
    ),
    Endpoint(
        method="POST", path="/resolve-conflict", tag="Conflicts", summary="Settle a conflict",
        handle=_resolve, query=Query, body=ResolveRequest, reply=ConflictSettled,
        errors=(ErrorCode.CONFLICT, ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND), example=_RESOLUTION,
    ),
    Endpoint(
        method="POST", path="/resolve-conflicts", tag="Conflicts", summary="Settle several conflicts",
        description="One entry for each, in their order; one that fails says so in its own entry.",
        handle=_resolve_all, query=Query, body=ResolveAllRequest, reply=list[ConflictSettled],
        example={
            "resolutions": [
                {
                    "conflict_id": "conflict_001",
                    "resolution": {"conflict_id": "conflict_001", "strategy": "server_wins", "auto_resolve": True},
                }
            ]
        },
    ),
    Endpoint(
        method="POST", path="/data-diff", tag="Entities",
        summary="What differs between a client's state and the server's",
        handle=_data_diff, query=Query, body=DataDiffRequest, reply=entities.DataDiff, errors=(ErrorCode.NOT_FOUND,),
        example={
            "client_id": "client_abc123", "entity_type": "note", "entity_id": 123, "client_version": 2,
            "server_version": 3,
        },
    ),
    Endpoint(
        method="POST", path="/cancel", tag="Sync", summary="End an unfinished sync",
        handle=_cancel, query=Query, body=CancelRequest, reply=syncs.Cancelled, is_flat=True,
        errors=(ErrorCode.CONFLICT, ErrorCode.NOT_FOUND), example={"sync_id": "sync_abc123", "reason": "用户取消"},
    ),
    Endpoint(
        method="POST", path="/retry", tag="Sync", summary="Do a sync's rejected operations again",
        handle=_retry, query=Query, body=RetryRequest, reply=retries.Retried, is_flat=True,
        errors=(ErrorCode.CONFLICT, ErrorCode.NOT_FOUND),
        example={"sync_id": "sync_abc123", "operation_ids": ["op_001", "op_002"]},
    ),
    Endpoint(
        method="POST", path="/clear-history", tag="Sync", summary="Forget ended syncs",
        handle=_clear_history, query=Query, body=ClearHistoryRequest, reply=syncs.Cleared, is_flat=True,
        example={"client_id": "client_abc123", "retain_days": 30},
    ),
    Endpoint(
        method="GET", path="/operations/{operation_id:path}", tag="Sync",
        summary="What became of an operation, and why",
        description=(
            "Which rule gave the verdict, from which base and against whom. `base.since` has the newest versions "
            "between the base and what the operation met; `fields` tell what became of each field that was sent. "
            "What others wrote is left out (`withheld`) once you no longer read the space."
        ),
        handle=_operation, query=OperationQuery, body=NoBody, reply=OperationView,
        errors=(ErrorCode.NOT_FOUND,),
    ),
)  # fmt: skip

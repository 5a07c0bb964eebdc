"""Single entities and conflicts, to look at."""

from rest.endpoint import Call, Endpoint, NoBody
from rest.requests import ConflictsQuery, HistoryQuery, Query
from sync_server.errors import ErrorCode
from sync_server.handlers import conflicts, entities
from sync_server.protocol.server_messages import ConflictView
from sync_server.records import EntityKey
from sync_server.types import ConflictId, EntityId, EntityType


async def _entity(call: Call[Query, NoBody]) -> entities.EntityView:
    return await entities.entity(call.services, call.user_id, _key(call.path("entity_type"), call.path("entity_id")))


async def _history(call: Call[HistoryQuery, NoBody]) -> entities.History:
    key = _key(call.path("entity_type"), call.path("entity_id"))
    query = call.query
    return await entities.history(call.services, call.user_id, key, before=query.before, limit=query.limit)


async def _conflicts(call: Call[ConflictsQuery, NoBody]) -> conflicts.ConflictList:
    query = call.query
    is_open = None if query.status is None else query.status == "open"
    return await conflicts.conflicts(
        call.services, call.user_id, space_ids=query.space_ids, is_open=is_open, page=query.page, limit=query.limit
    )


async def _conflict(call: Call[Query, NoBody]) -> ConflictView:
    return await conflicts.conflict(call.services, call.user_id, ConflictId(call.path("conflict_id")))


def _key(entity_type: str, entity_id: str) -> EntityKey:
    return EntityKey(EntityType(entity_type), EntityId(entity_id))


ENDPOINTS = (
    Endpoint(
        method="GET", path="/entities/{entity_type}/{entity_id}", tag="Entities", summary="An entity as it is now",
        handle=_entity, query=Query, body=NoBody, reply=entities.EntityView, errors=(ErrorCode.NOT_FOUND,),
    ),
    Endpoint(
        method="GET", path="/entities/{entity_type}/{entity_id}/history", tag="Entities",
        summary="An entity's versions, newest first",
        description="Who changed what, when, and by which rule; as far back as the log is kept.",
        handle=_history, query=HistoryQuery, body=NoBody, reply=entities.History, errors=(ErrorCode.NOT_FOUND,),
    ),
    Endpoint(
        method="GET", path="/conflicts", tag="Conflicts", summary="The conflicts of your spaces, newest first",
        handle=_conflicts, query=ConflictsQuery, body=NoBody, reply=conflicts.ConflictList,
        errors=(ErrorCode.NOT_FOUND,),
    ),
    Endpoint(
        method="GET", path="/conflicts/{conflict_id}", tag="Conflicts", summary="One conflict",
        handle=_conflict, query=Query, body=NoBody, reply=ConflictView, errors=(ErrorCode.NOT_FOUND,),
    ),
)  # fmt: skip

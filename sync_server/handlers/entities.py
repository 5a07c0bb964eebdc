"""Single entities: what they are now, every version they had, and how two of those differ."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired

import orjson
from typing_extensions import TypedDict

from sync_server.clock import now_ms
from sync_server.conflict.values import equal
from sync_server.errors import CommandError, ErrorCode
from sync_server.handlers.access import read_as, role_in
from sync_server.memberships import Places
from sync_server.protocol.server_messages import OutId, Spliced
from sync_server.protocol.validation import validation_error
from sync_server.records import Change, Entity, EntityKey
from sync_server.services import Services
from sync_server.stores.reader import Reader
from sync_server.stores.writer import dump
from sync_server.types import Json, UserId, format_id, format_time
from sync_server.views import entity_text


class EntityView(TypedDict):
    entity_type: str
    entity_id: OutId
    space_id: str
    version: int
    data: Spliced
    created_at: str
    updated_at: str
    modified_by: OutId
    seq: int


class VersionView(TypedDict):
    """One version: `data` is the whole entity after it, `previous` what its changed fields were, each in a list that
    is empty where the field was absent; `submitted` is what the client had sent where something else was stored."""

    version: int
    operation_type: str
    data: Spliced
    previous: Spliced
    submitted: NotRequired[Spliced]
    rule: str
    modified_at: str
    modified_by: OutId
    client_id: str
    operation_id: str
    seq: int


class History(TypedDict):
    entity_type: str
    entity_id: OutId
    versions: list[VersionView]
    has_more: bool
    next_before: int | None


class FieldDiff(TypedDict):
    field_name: str
    client_value: Any
    server_value: Any
    diff_type: Literal["added", "removed", "modified"]


class EntityDiff(TypedDict):
    entity_id: OutId
    entity_type: str
    client_version: int
    server_version: int
    client_data: Spliced
    server_data: Spliced
    field_diffs: list[FieldDiff]
    diff_type: Literal["conflict", "modified"]
    has_conflict: bool


class DataDiff(TypedDict):
    diffs: list[EntityDiff]
    total_diffs: int
    conflicts_count: int
    server_time: str


async def entity(services: Services, user_id: UserId, key: EntityKey) -> EntityView:
    """The newest state of a live entity.

    Raises:
        CommandError: NOT_FOUND.
    """
    found = await read_as(services, user_id, lambda reader, places: _visible(reader, places, key))
    if found.deleted:
        raise _not_found()
    return {
        "entity_type": key.entity_type,
        "entity_id": format_id(key.entity_id),
        "space_id": found.space_id,
        "version": found.version,
        "data": entity_text(key.entity_id, dump(found.data)),
        "created_at": format_time(found.created_at),
        "updated_at": format_time(found.updated_at),
        "modified_by": format_id(found.modified_by),
        "seq": found.seq,
    }


async def history(services: Services, user_id: UserId, key: EntityKey, *, before: int | None, limit: int) -> History:
    """The versions that the log still has, newest first; also of a deleted entity, as long as its tombstone is kept.

    Raises:
        CommandError: NOT_FOUND.
    """

    def query(reader: Reader, places: Places) -> list[Change]:
        _visible(reader, places, key)
        return reader.history(key, before_version=before, limit=limit + 1)

    changes = await read_as(services, user_id, query)
    has_more = len(changes) > limit
    shown = changes[:limit]
    return {
        "entity_type": key.entity_type,
        "entity_id": format_id(key.entity_id),
        "versions": [_version(change) for change in shown],
        "has_more": has_more,
        "next_before": shown[-1].version if has_more else None,
    }


async def difference(
    services: Services,
    user_id: UserId,
    key: EntityKey,
    *,
    client_version: int,
    server_version: int | None,
    client_data: Json | None,
) -> DataDiff:
    """What differs between a client's state of an entity and the server's.

    The client's side is `client_data`, else the version it names. Both sides changed, so that it is a conflict, when
    the client's version is older than the server's and they differ.

    Raises:
        CommandError: NOT_FOUND: there is no such entity, or a version is no longer in the history; VALIDATION_ERROR:
            a version is newer than the entity.
    """

    def sides(reader: Reader, places: Places) -> tuple[int, Json, Json]:
        current = _visible(reader, places, key)
        newest = server_version if server_version is not None else current.version
        for field, version in (("client_version", client_version), ("server_version", newest)):
            if version > current.version:
                raise validation_error(field, f"must be at most {current.version}, the newest version of the entity")
        server = _data_at(reader, current, newest, "server_version")
        client = client_data if client_data is not None else _data_at(reader, current, client_version, "client_version")
        return newest, client, server

    newest, client, server = await read_as(services, user_id, sides)
    fields = field_diffs(client, server)
    has_conflict = bool(fields) and client_version < newest
    diff: EntityDiff = {
        "entity_id": format_id(key.entity_id),
        "entity_type": key.entity_type,
        "client_version": client_version,
        "server_version": newest,
        "client_data": client,
        "server_data": server,
        "field_diffs": fields,
        "diff_type": "conflict" if has_conflict else "modified",
        "has_conflict": has_conflict,
    }
    diffs = [diff] if fields else []
    return {
        "diffs": diffs,
        "total_diffs": len(diffs),
        "conflicts_count": int(has_conflict),
        "server_time": format_time(now_ms()),
    }


def field_diffs(client: Mapping[str, Any], server: Mapping[str, Any]) -> list[FieldDiff]:
    """The fields that differ: added are on the server alone, removed on the client alone.

    >>> [(diff["field_name"], diff["diff_type"]) for diff in field_diffs({"a": 1, "b": 2}, {"b": 3, "c": 4})]
    [('a', 'removed'), ('b', 'modified'), ('c', 'added')]
    """
    return [
        {
            "field_name": name,
            "client_value": client.get(name),
            "server_value": server.get(name),
            "diff_type": "added" if name not in client else "removed" if name not in server else "modified",
        }
        for name in {**client, **server}
        if name not in client or name not in server or not equal(client[name], server[name])
    ]


def _visible(reader: Reader, places: Places, key: EntityKey) -> Entity:
    found = reader.entities((key,)).get(key)
    if found is None:
        raise _not_found()
    role_in(places, found.space_id, "entity")
    return found


def _data_at(reader: Reader, entity: Entity, version: int, field: str) -> Json:
    """The entity's data at a version; nothing before the first one and once it is deleted."""
    if version == entity.version:
        return {} if entity.deleted else entity.data
    if version == 0:
        return {}
    found: Sequence[Change] = reader.history(entity.key, before_version=version + 1, limit=1)
    if not found or found[0].version != version:
        message = "This version is no longer in the history; send client_data to compare with."
        raise CommandError(ErrorCode.NOT_FOUND, message, details={"field": field, "problem": "is no longer kept"})
    data: Json = orjson.loads(found[0].data)
    return {} if found[0].operation_type.value == "delete" else data


def _version(change: Change) -> VersionView:
    deleted = change.operation_type.value == "delete"
    view: VersionView = {
        "version": change.version,
        "operation_type": change.operation_type.value,
        "data": None if deleted else entity_text(change.entity_id, change.data),
        "previous": orjson.loads(change.previous),
        "rule": change.rule,
        "modified_at": format_time(change.modified_at),
        "modified_by": format_id(change.modified_by),
        "client_id": change.client_id,
        "operation_id": change.operation_id,
        "seq": change.seq,
    }
    if change.submitted is not None:
        view["submitted"] = orjson.loads(change.submitted)
    return view


def _not_found() -> CommandError:
    return CommandError(ErrorCode.NOT_FOUND, "There is no such entity.")

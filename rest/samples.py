"""JSON Schemas for people: a few words for each member, and an example of the whole."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sync_server.types import Json

MAX_DEPTH = 6
_BY_NAME: Mapping[str, Any] = {
    "entity_id": 124, "id": 124, "user_id": 1, "modified_by": 2, "owner": 1, "version": 2, "seq": 4711,
    "new_version": 2, "client_version": 2, "server_version": 3, "entity_type": "note", "space_id": "u-1",
    "sync_id": "sync_abc123", "client_id": "client_abc123", "operation_id": "op_001", "conflict_id": "conflict_001",
    "request_id": "sync_req_001", "message_id": "msg_125", "last_sync_id": "sync_abc123",
    "protocol_version": "1.0.0", "connection_id": "conn_xyz789", "server_id": "server-1", "role": "editor",
    "timestamp": "2024-01-10T10:00:00Z", "server_time": "2024-01-10T10:00:02Z", "created_at": "2024-01-10T10:00:00Z",
    "updated_at": "2024-01-10T10:00:00Z", "modified_at": "2024-01-10T10:00:00Z", "start_time": "2024-01-10T10:00:00Z",
    "end_time": "2024-01-10T10:00:02Z", "last_sync_time": "2024-01-09T10:00:00Z", "since": "2024-01-09T10:00:00Z",
    "estimated_processing_time": "2024-01-10T10:00:05Z", "expires_at": "2024-01-10T11:00:00Z",
    "cursor": "MS4xZi40NzEx", "changes_cursor": "MS4xZi40NzEx", "checksum": "19c3ab16e2ea2e3b", "rule": "same_version",
    "data": {"title": "新笔记"}, "resolved_data": {"title": "新笔记"}, "server_data": {"title": "服务器标题"},
    "client_data": {"title": "客户端标题"}, "client_value": "客户端标题", "server_value": "服务器标题",
    "conflict_fields": ["title"], "field_name": "title", "entity_types": ["note"], "spaces": ["u-1"], "progress": 100,
    "name": "Family", "previous": {"title": ["旧标题"]}, "token": "eyJ…", "page": 1, "limit": 20, "total_pages": 1,
    "total": 1, "total_diffs": 1, "conflicts_count": 1, "count": 1, "type": "note", "error": None, "details": {},
    "operation_type": "update", "conflict_type": "content", "submitted": {"title": "新笔记"}, "next_before": None,
    "explanation": "The update of note 124 was applied as version 2, because nobody had changed it since its base.",
    "met_version": 1, "own": False, "withheld": False, "fields": ["title"],
    "title": "新笔记", "content": "笔记内容", "error_code": None, "supported_versions": ["1.0.0"], "retry_count": 0,
    "status": "success", "verdict": "applied", "capabilities": ["batch_updates"], "queue_type": "pending",
}  # fmt: skip
"""What a member of this name holds in an example, where its schema leaves it open."""
_SHOWN = frozenset({"entity_id", "new_version", "data", "space_id", "cursor", "capabilities"})
"""Optional members that an example has all the same."""
_BY_TYPE: Mapping[str, Any] = {"string": "…", "integer": 0, "number": 0, "boolean": True, "null": None}


class Member(NamedTuple):
    name: str
    kind: str
    is_required: bool
    description: str


def members_of(schema: Json, definitions: Json) -> list[Member]:
    """The members of an object's schema, in order; none for anything else."""
    target = _target(schema, definitions)
    required = set(target.get("required", ()))
    return [
        Member(name, described(member), name in required, member.get("description", ""))
        for name, member in target.get("properties", {}).items()
    ]


def described(schema: Json) -> str:
    """A few words for a schema; shapes by their name.

    >>> described({"anyOf": [{"type": "array", "items": {"$ref": "#/x/Reset"}}, {"type": "null"}]})
    'list of Reset or null'
    """
    match schema:
        case {"$ref": ref}:
            text = str(ref).rpartition("/")[2]
        case {"anyOf": members} | {"type": [*members]}:
            kinds = (described(one) if isinstance(one, dict) else str(one) for one in members)
            text = " or ".join(dict.fromkeys(kinds))
        case {"enum": values}:
            text = " or ".join(f"“{value}”" for value in values)
        case {"const": value}:
            text = "true" if value is True else "false" if value is False else f"“{value}”"
        case {"type": "array", "items": items}:
            text = f"list of {described(items)}"
        case {"type": kind}:
            text = str(kind)
        case _:
            text = "any value"
    return text


def example_of(schema: Json, definitions: Json, name: str = "", depth: int = 0) -> Any:
    """A value that the schema allows, as it may come; most optional members are left out."""
    if depth > MAX_DEPTH:
        return {}
    target = _target(schema, definitions)
    if "allOf" in target:
        return {key: value for one in target["allOf"] for key, value in example_of(one, definitions, "", depth).items()}
    if "properties" in target:
        required = target.get("required", ())
        return {
            key: example_of(member, definitions, key, depth + 1)
            for key, member in target["properties"].items()
            if key in required or key in _SHOWN
        }
    if "enum" in target or "const" in target:
        choices = target.get("enum", [target.get("const")])
        return _BY_NAME[name] if _BY_NAME.get(name) in choices else choices[0]
    if name in _BY_NAME and "$ref" not in str(target):
        return _BY_NAME[name]
    return _open_example(target, definitions, name, depth)


def _open_example(schema: Json, definitions: Json, name: str, depth: int) -> Any:
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], definitions, name, depth + 1)
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "array":
        return [example_of(schema.get("items", {}), definitions, "", depth + 1)]
    return _BY_TYPE.get(kind, {})


def _target(schema: Json, definitions: Json) -> Json:
    while "$ref" in schema:
        schema = definitions[str(schema["$ref"]).rpartition("/")[2]]
    return schema

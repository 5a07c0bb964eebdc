"""How records look on the wire (T3 contract, sections 3 to 5): rows of the store become members of messages."""

from collections.abc import Sequence

import orjson

from sync_server.cursor import Cursor, format_cursor
from sync_server.errors import ErrorCode
from sync_server.fingerprints import format_checksum
from sync_server.orders import Decided
from sync_server.protocol.codec import JsonText
from sync_server.protocol.server_messages import (
    ConflictNotice,
    ConflictView,
    OperationResult,
    ReceiptView,
    ServerUpdate,
    ServerUpdates,
    UpdateData,
    UpdateItem,
)
from sync_server.records import Conflict, Decision, Receipt, Update
from sync_server.types import Json, Verdict, format_id, format_time


def entity_text(entity_id: str, data: str) -> JsonText:
    """The entity's stored JSON text with its id in front, spliced and not parsed.

    >>> entity_text("124", '{"title":"x"}'), entity_text("a", "{}")
    ('{"id":124,"title":"x"}', '{"id":"a"}')
    """
    return _with_id(format_id(entity_id), data)


def _with_id(wire: int | str, data: str) -> JsonText:
    head = f'{{"id":{wire}' if isinstance(wire, int) else f'{{"id":"{wire}"'
    return JsonText(f"{head},{data[1:]}" if len(data) > len("{}") else f"{head}}}")


def update_data(update: Update) -> UpdateData:
    view: UpdateData = {
        "operation_type": update.operation_type,
        "version": update.version,
        "data": entity_text(update.entity_id, update.data) if update.data is not None else None,
        "modified_at": format_time(update.modified_at),
        "modified_by": format_id(update.modified_by),
    }
    if update.reason is not None:
        view["reason"] = update.reason
    return view


def update_item(update: Update) -> UpdateItem:
    return {
        "entity_type": update.entity_type,
        "entity_id": format_id(update.entity_id),
        "space_id": update.space_id,
        "seq": update.seq,
        **update_data(update),
    }


def _message_id(update: Update) -> str:
    """Unique for each change; those that tell of one revocation have its position in common."""
    suffix = f"_{update.entity_type}_{update.entity_id}" if update.reason is not None else ""
    return f"msg_server_{update.seq}{suffix}"


def server_update(update: Update, cursor: Cursor, *, is_snapshot: bool = False) -> ServerUpdate:
    return {
        "type": "server_update",
        "message_id": _message_id(update),
        "timestamp": format_time(update.modified_at),
        "update_type": "snapshot" if is_snapshot else "incremental",
        "entity_type": update.entity_type,
        "entity_id": format_id(update.entity_id),
        "space_id": update.space_id,
        "seq": update.seq,
        "cursor": format_cursor(cursor),
        "update_data": update_data(update),
    }


def server_updates(updates: Sequence[Update], cursor: Cursor, *, is_snapshot: bool = False) -> ServerUpdates:
    """Several changes in one frame; `cursor` is where a client stands that has taken them all."""
    newest = updates[-1]
    return {
        "type": "server_updates",
        "message_id": _message_id(newest),
        "timestamp": format_time(newest.modified_at),
        "update_type": "snapshot" if is_snapshot else "incremental",
        "cursor": format_cursor(cursor),
        "updates": [update_item(update) for update in updates],
    }


def receipt_view(receipt: Receipt) -> ReceiptView:
    return {
        "space_id": receipt.space_id,
        "seq": receipt.seq,
        "checksum": format_checksum(receipt.checksum),
        "count": receipt.live_count,
    }


def caught_up(cursor: Cursor, receipts: Sequence[Receipt] | None) -> Json:
    """The message without its time; None where what is followed is narrowed to some entity types."""
    message: Json = {"type": "caught_up", "cursor": format_cursor(cursor)}
    return message if receipts is None else {**message, "receipts": [receipt_view(one) for one in receipts]}


def conflict_size(conflict: Conflict) -> int:
    """About how many characters of data a view of the conflict holds."""
    return sum(len(orjson.dumps(side)) for side in (conflict.base, conflict.server_data, conflict.client_data))


def conflict_view(conflict: Conflict) -> ConflictView:
    view: ConflictView = {
        "conflict_id": conflict.conflict_id,
        "conflict_type": conflict.conflict_type.value,
        "entity_type": conflict.entity_type,
        "entity_id": format_id(conflict.entity_id),
        "space_id": conflict.space_id,
        "operation_id": conflict.operation_id,
        "base_data": conflict.base,
        "server_data": {
            "version": conflict.server_version,
            "data": conflict.server_data,
            "modified_at": format_time(conflict.server_modified_at),
            "modified_by": format_id(conflict.server_modified_by),
        },
        "client_data": {
            "version": conflict.client_version,
            "data": conflict.client_data,
            "modified_at": format_time(conflict.client_modified_at),
            "operation_type": conflict.operation_type.value,
        },
        "conflict_fields": list(conflict.fields),
        "suggested_strategy": conflict.suggested_strategy,
        "rule": conflict.rule,
        "status": "open" if conflict.is_open else "resolved",
        "timestamp": format_time(conflict.created_at),
    }
    resolution = conflict_resolution(conflict)
    if resolution is not None:
        view["resolution"] = resolution
    return view


def conflict_resolution(conflict: Conflict) -> Json | None:
    """How a settled conflict ended: by which strategy, with what data, and by whom unless a rule did it."""
    if conflict.strategy is None:
        return None
    resolution: Json = {"strategy": conflict.strategy, "resolved_data": conflict.resolved_data}
    if conflict.resolved_at is not None:
        resolution["resolved_at"] = format_time(conflict.resolved_at)
    if conflict.resolved_by is not None:
        resolution["resolved_by"] = format_id(conflict.resolved_by)
    return resolution


def conflict_notice(conflict: Conflict) -> ConflictNotice:
    notice: ConflictNotice = {
        "type": "conflict",
        "message_id": f"msg_{conflict.conflict_id}",
        "timestamp": format_time(conflict.created_at),
        "conflict": conflict_view(conflict),
        "requires_manual_resolution": conflict.is_open,
    }
    resolution = conflict_resolution(conflict)
    if resolution is not None:
        notice["resolution"] = resolution
    return notice


def conflict_settled_notice(conflict: Conflict, version: int | None) -> Json:
    resolution = conflict_resolution(conflict) or {}
    return {
        "type": "conflict_resolved",
        "message_id": f"msg_resolved_{conflict.conflict_id}",
        "timestamp": format_time(conflict.resolved_at or conflict.created_at),
        "success": True,
        "conflict_id": conflict.conflict_id,
        "resolved_data": resolution.get("resolved_data"),
        "new_version": version,
    }


_CONFLICT, _REJECTED = Verdict.CONFLICT, Verdict.REJECTED


def operation_result(decided: Decided) -> OperationResult:
    """The reply to one operation (contract 3, `operation_results`)."""
    decision, text = decided.decision, decided.data
    entity_id = format_id(decision.entity_id) if decision.entity_id is not None else None
    result: OperationResult = {
        "operation_id": decision.operation_id,
        "operation_type": str(decision.operation_type),
        "entity_type": decision.entity_type,
        "success": decision.verdict.is_success,
        "verdict": decision.verdict,
        "rule": str(decision.rule),
        "entity_id": entity_id,
    }
    if decision.verdict is not _REJECTED:
        result["new_version"] = decision.version
        result["data"] = _with_id(entity_id, text) if entity_id is not None and text is not None else None
    _add_outcome(result, decided, decision)
    return result


def _add_outcome(result: OperationResult, decided: Decided, decision: Decision) -> None:
    if decided.duplicate:
        result["duplicate"] = True
    seq = decided.seq
    if seq is not None:
        result["seq"] = seq
        if not decision.retry_count:  # else it was first decided, and refused, before
            result["modified_at"] = format_time(decision.created_at)
    if decision.conflict_id is not None:
        result["conflict_id"] = decision.conflict_id
    if decision.error is not None and decision.error_code is not None:
        result["error"] = decision.error
        result["error_code"] = decision.error_code
        result["details"] = decision.details if decision.details is not None else {}
    if decision.verdict is _CONFLICT:
        result["error"] = "This operation waits in an open conflict; resolve it."
        result["error_code"] = ErrorCode.CONFLICT

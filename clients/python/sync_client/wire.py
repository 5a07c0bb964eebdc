"""Bytes to frames and messages to bytes, for JSON and MessagePack (protocol, section 2)."""

from abc import ABC, abstractmethod
from typing import ClassVar, assert_never

import msgspec
from msgspec import UNSET, Raw

from sync_client import told
from sync_client.frames import (
    Admission,
    CaughtUp,
    Changes,
    ConflictClosed,
    ConflictOpened,
    Expiring,
    Failure,
    Frame,
    Goodbye,
    Greeting,
    Heard,
    Limits,
    Message,
    Ping,
    Receipt,
    Reset,
    Result,
    Results,
    Update,
)
from sync_client.told import Told
from sync_client.values import Conflict, Key, OperationType, Problem, Row, Side, WireId, parse_id

RETRYABLE = frozenset({"SYNC_ERROR", "NETWORK_ERROR", "TIMEOUT", "RATE_LIMIT_EXCEEDED", "UNAUTHORIZED"})
"""Codes of what may succeed later, or with a newer token (protocol, section 9)."""

VERSION_STRIDE = 1_000_000
LEAST_BYTES = 16_384
"""A limit below this would shut everything out: it is a mistake of the server."""
LONGEST_WAIT_S = 3_600.0
LONGEST_NAME = 128

UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError)
"""What reading bytes may raise; the last, what JSON has no way to say."""

_OPERATION_TYPES = {kind.value: kind for kind in OperationType}


class UnreadableFrameError(Exception):
    """A frame is not what the protocol says; it cannot be skipped, as rows may have been in it."""


class Codec(ABC):
    """One way to write the same maps."""

    subprotocol: ClassVar[str]

    @abstractmethod
    def encode(self, message: Message) -> bytes | str:
        """A message as a WebSocket frame: text for JSON, bytes for MessagePack."""

    @abstractmethod
    def text(self, raw: Raw) -> str | None:
        """The JSON text of a value that was not looked into; None for null."""

    @abstractmethod
    def _told(self, data: bytes | str) -> Told: ...

    @abstractmethod
    def _plain(self, data: bytes | str) -> object: ...

    def decode(self, data: bytes | str) -> Frame:
        """
        Raises:
            UnreadableFrameError: it is not a message of the protocol.
        """
        try:
            return frame(self._told(data), self)
        except UNREADABLE as error:
            if self._type_of(data) in told.TYPES:
                raise UnreadableFrameError(str(error)) from None
            return Heard()

    def _type_of(self, data: bytes | str) -> str:
        try:
            plain = self._plain(data)
        except UNREADABLE:
            raise UnreadableFrameError("a frame is not well-formed") from None
        kind = plain.get("type") if isinstance(plain, dict) else None
        if not isinstance(kind, str):
            raise UnreadableFrameError("a frame has no type")
        return kind


class _Json(Codec):
    subprotocol = "sync.v1.json"
    _encoder = msgspec.json.Encoder()
    _decoder: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told)

    def encode(self, message: Message) -> str:
        return self._encoder.encode(message).decode()

    def text(self, raw: Raw) -> str | None:
        data = bytes(raw)
        if data == b"null":
            return None
        # escapes are undone, so that a field is found by its name however a server wrote it
        return (msgspec.json.encode(msgspec.json.decode(data)) if b"\\u" in data else data).decode()

    def _told(self, data: bytes | str) -> Told:
        return self._decoder.decode(data)

    def _plain(self, data: bytes | str) -> object:
        return msgspec.json.decode(data)


class _MessagePack(Codec):
    subprotocol = "sync.v1.msgpack"
    _encoder = msgspec.msgpack.Encoder()
    _decoder: msgspec.msgpack.Decoder[Told] = msgspec.msgpack.Decoder(Told)

    def encode(self, message: Message) -> bytes:
        return self._encoder.encode(message)

    def text(self, raw: Raw) -> str | None:
        value = msgspec.msgpack.decode(raw)
        return msgspec.json.encode(value).decode() if value is not None else None

    def _told(self, data: bytes | str) -> Told:
        return self._decoder.decode(_bytes(data))

    def _plain(self, data: bytes | str) -> object:
        return msgspec.msgpack.decode(_bytes(data))


JSON: Codec = _Json()
MESSAGE_PACK: Codec = _MessagePack()
CODECS = {codec.subprotocol: codec for codec in (JSON, MESSAGE_PACK)}


def is_first(version: int) -> bool:
    """Whether an entity may have begun with this version: in later epochs they count from more than one."""
    return version % VERSION_STRIDE == 1


def frame(message: Told, codec: Codec) -> Frame:  # noqa: C901, PLR0911, PLR0912  one line for each message
    """The frame that a message stands for."""
    match message:
        case told.Handshake():
            return _greeting(message)
        case told.Auth():
            return _admission(message)
        case told.AuthExpiring():
            return Expiring()
        case told.SyncResponse(data, message_id):
            return results(data, message_id, codec) if data is not None else _refused(message)
        case told.ServerUpdate(entity_type, entity_id, data, space_id, cursor):
            row = _row(codec, Key(entity_type, parse_id(entity_id)), space_id, data, message.seq)
            return Changes([row], cursor)
        case told.ServerUpdates(updates, cursor):
            return Changes([update(codec, one) for one in updates], cursor)
        case told.ToldReset(space_id):
            return Reset(space_id)
        case told.ToldCaughtUp(cursor, found):
            return CaughtUp(cursor, receipts(found) if found is not None else None)
        case told.ConflictNotice(view, requires_manual_resolution):
            is_open = requires_manual_resolution and view.status == "open"
            return ConflictOpened(conflict(view)) if is_open else Heard()
        case told.ConflictResolved(success, conflict_id):
            return ConflictClosed(conflict_id) if success else Heard()
        case told.ToldPing(message_id, timestamp):
            return Ping(_echoed(message_id), _echoed(timestamp))
        case told.Error():
            retryable = bool(message.retryable) or message.error_code in RETRYABLE
            return Failure(message.message_id, problem(message), retryable, _seconds(message.retry_after_ms))
        case told.ToldGoodbye(reason, retry_after_ms):
            return Goodbye(reason, _seconds(retry_after_ms))
        case _:
            assert_never(message)


def _greeting(message: told.Handshake) -> Greeting:
    return Greeting(
        frozenset(message.capabilities) if message.capabilities is not None else None,
        Limits(max(message.limits.max_message_bytes, LEAST_BYTES), max(message.limits.max_operations, 1)),
        message.heartbeat_interval_ms / 1_000 if message.heartbeat_interval_ms else None,
        _admission(message.auth) if message.auth is not None else None,
        problem(message) if not message.success else None,
    )


def _admission(message: told.AuthResult) -> Admission:
    return Admission(message.user_id, problem(message) if not message.success else None)


def _refused(message: told.SyncResponse) -> Failure:
    if message.error is None and message.error_code is None:
        raise UnreadableFrameError("a sync_response has neither data nor an error")
    found = problem(message)
    return Failure(message.message_id, found, found.error_code in RETRYABLE, None)


def results(data: told.SyncData, message_id: str | None, codec: Codec) -> Results:
    return Results(
        message_id,
        [_result(codec, one) for one in data.operation_results if one.operation_id is not None],
        [update(codec, one) for one in data.server_updates],
        [conflict(one) for one in data.conflicts if one.status == "open" and one.resolution is None],
        [one.space_id for one in data.resets],
        data.new_client_state.last_sync_time,
        data.new_client_state.has_more,
        data.conflicts_omitted > 0,
        receipts(data.new_client_state.receipts),
    )


def receipts(found: list[told.ToldReceipt]) -> tuple[Receipt, ...]:
    return tuple(Receipt(one.space_id, one.seq, checksum(one.checksum)) for one in found)


def checksum(digits: str) -> int:
    """
    Raises:
        UnreadableFrameError: it is no hexadecimal number.
    """
    try:
        return int(digits, 16)
    except ValueError:
        raise UnreadableFrameError("a checksum is no hexadecimal number") from None


def update(codec: Codec, item: told.UpdateItem) -> Update:
    return _row(codec, Key(item.entity_type, parse_id(item.entity_id)), item.space_id, item, item.seq)


def _row(codec: Codec, key: Key, space_id: str | None, item: told.UpdateData | told.UpdateItem, seq: int) -> Update:
    if item.operation_type == "delete":
        data = None
    elif item.data is UNSET:
        raise UnreadableFrameError(f"a {item.operation_type} has no data")
    else:
        data = _entity_text(codec, item.data)
    if not 0 <= item.version < 2**53:
        raise UnreadableFrameError("a version is out of range")
    row = Row(key, space_id, item.version, data, item.modified_at, _stored(item.modified_by))
    begins = item.operation_type == "create" and is_first(item.version)
    return Update(row, begins, item.reason == "revoked", seq)


def _result(codec: Codec, one: told.OperationResult) -> Result:
    # a resend is told its first result again: what it said of the entity may long be past, but for a delete
    is_present = not one.duplicate or one.operation_type == OperationType.DELETE
    has_key = one.entity_id is not None and one.entity_type is not None
    return Result(
        one.operation_id or "",
        _OPERATION_TYPES.get(one.operation_type or ""),
        one.success,
        one.verdict,
        Key(one.entity_type or "", _stored(one.entity_id) or "") if has_key else None,
        one.new_version,
        one.data is not UNSET and is_present,
        _entity_text(codec, one.data) if one.data is not UNSET else None,
        one.conflict_id,
        problem(one) if one.error is not None or one.error_code is not None else None,
        one.modified_at,
    )


def conflict(view: told.ConflictView) -> Conflict:
    mine_deletes = view.client_data.operation_type == "delete"
    theirs_deletes = view.conflict_type == "delete" and not mine_deletes
    return Conflict(
        conflict_id=view.conflict_id,
        conflict_type=view.conflict_type,
        entity_type=view.entity_type,
        entity_id=parse_id(view.entity_id),
        operation_id=view.operation_id,
        fields=view.conflict_fields,
        mine=_side(view.client_data, deletes=mine_deletes),
        theirs=_side(view.server_data, deletes=theirs_deletes),
        whole=view.server_data.data or {},
        base=view.base_data,
        rule=view.rule,
        since=view.timestamp,
        space_id=view.space_id,
    )


def _side(side: told.ConflictSide, *, deletes: bool) -> Side:
    data = side.data if not deletes else None
    return Side(version=side.version, data=data, modified_at=side.modified_at, modified_by=side.modified_by)


def problem(
    refusal: told.SyncResponse | told.Handshake | told.AuthResult | told.Error | told.OperationResult | told.Refusal,
) -> Problem:
    details = getattr(refusal, "details", None)
    return Problem(error=refusal.error or "", error_code=refusal.error_code or "SYNC_ERROR", details=details or {})


def _stored(wire: WireId | None) -> str | None:
    return parse_id(wire) if wire is not None else None


def _seconds(milliseconds: float | None) -> float | None:
    return min(max(milliseconds / 1_000, 0.0), LONGEST_WAIT_S) if milliseconds is not None else None


def _echoed(text: str | None) -> str | None:
    """What a pong repeats: not more than the protocol allows."""
    return text if text is not None and len(text) <= LONGEST_NAME else None


def _entity_text(codec: Codec, raw: Raw) -> str | None:
    """
    Raises:
        UnreadableFrameError: it is no entity, or no text: what was not looked into was not checked either.
    """
    try:
        text = codec.text(raw)
    except UNREADABLE as error:
        raise UnreadableFrameError(str(error)) from None
    if text is not None and not text.startswith("{"):
        raise UnreadableFrameError("an entity is no object")
    return text


def _bytes(data: bytes | str) -> bytes:
    return data if isinstance(data, bytes) else data.encode()

"""Replies over HTTP, as the WebSocket would say them (docs/rest.md)."""

from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from sync_client import told
from sync_client.frames import CaughtUp, Changes, DifferingBuckets, DifferingRows, Failure, Frame, Reset
from sync_client.values import Conflict, Key, WireId, parse_id
from sync_client.wire import (
    JSON,
    RETRYABLE,
    UNREADABLE,
    UnreadableFrameError,
    checksum,
    conflict,
    problem,
    receipts,
    results,
    update,
)

T = TypeVar("T")


class Reply(Struct, Generic[T]):
    data: T


class Page(Struct):
    changes: list[told.UpdateItem]
    cursor: str
    has_more: bool
    resets: list[told.ResetItem] = []
    receipts: list[told.ToldReceipt] | None = None


class Space(Struct):
    space_id: str
    is_personal: bool = False
    owner: WireId | None = None


class Spaces(Struct):
    spaces: list[Space]


class Conflicts(Struct):
    conflicts: list[told.ConflictView]


class Checksum(Struct):
    checksum: str


class Buckets(Struct):
    checksum: str
    differing: list[int]


class Rows(Struct):
    updates: list[told.UpdateItem]
    gone: list[tuple[str, WireId]]
    has_more: bool = False


_sync = msgspec.json.Decoder(Reply[told.SyncData])
_page = msgspec.json.Decoder(Reply[Page])
_spaces = msgspec.json.Decoder(Reply[Spaces])
_conflicts = msgspec.json.Decoder(Reply[Conflicts])
_checksum = msgspec.json.Decoder(Reply[Checksum])
_buckets = msgspec.json.Decoder(Reply[Buckets])
_rows = msgspec.json.Decoder(Reply[Rows])
_refusal = msgspec.json.Decoder(told.Refusal)


def sync_reply(body: bytes, message_id: str | None) -> Frame:
    """The reply of `POST /sync`."""
    return results(_read(_sync, body), message_id, JSON)


def changes_reply(body: bytes) -> list[Frame]:
    """The reply of `GET /changes`."""
    page = _read(_page, body)
    frames: list[Frame] = [Reset(one.space_id) for one in page.resets]
    frames.append(Changes([update(JSON, one) for one in page.changes], page.cursor))
    if not page.has_more:
        frames.append(CaughtUp(page.cursor, receipts(page.receipts) if page.receipts is not None else None))
    return frames


def spaces_reply(body: bytes) -> list[Space]:
    """The reply of `GET /spaces`."""
    return _read(_spaces, body).spaces


def conflicts_reply(body: bytes) -> list[Conflict]:
    """The reply of `GET /conflicts`."""
    return [conflict(one) for one in _read(_conflicts, body).conflicts]


def checksum_reply(body: bytes) -> int:
    """What `GET /spaces/{space_id}/checksum` says."""
    return checksum(_read(_checksum, body).checksum)


def buckets_reply(body: bytes) -> DifferingBuckets:
    """What `POST /verify` says of buckets."""
    reply = _read(_buckets, body)
    return DifferingBuckets(reply.differing, checksum(reply.checksum))


def rows_reply(body: bytes) -> DifferingRows:
    """What `POST /verify` says of rows."""
    reply = _read(_rows, body)
    gone = [Key(entity_type, parse_id(entity_id)) for entity_type, entity_id in reply.gone]
    return DifferingRows([update(JSON, one) for one in reply.updates], gone, reply.has_more)


def error_reply(body: bytes, message_id: str | None, retry_after_s: float | None) -> Failure | None:
    """The body of a refused request; None where something else than the server answered."""
    try:
        refusal = _refusal.decode(body)
    except UNREADABLE:
        return None
    return Failure(message_id, problem(refusal), refusal.error_code in RETRYABLE, retry_after_s)


def _read(decoder: "msgspec.json.Decoder[Reply[T]]", body: bytes) -> T:
    try:
        return decoder.decode(body).data
    except UNREADABLE as error:
        raise UnreadableFrameError(str(error)) from None

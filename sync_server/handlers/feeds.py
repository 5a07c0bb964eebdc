"""What changed, over HTTP: pages that may wait for more, and a stream of events. The same rows as the pushes."""

import asyncio
import base64
import binascii
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, NamedTuple, NotRequired

from typing_extensions import TypedDict

from sync_server.clock import monotonic_s, now_ms
from sync_server.cursor import Cursor, format_cursor
from sync_server.errors import CommandError, ErrorCode
from sync_server.feed import Viewer
from sync_server.handlers.access import read_as, readable_spaces
from sync_server.memberships import Places, followed
from sync_server.protocol.codec import JsonText
from sync_server.protocol.server_messages import OutId, ReceiptView, Reset, Spliced, UpdateItem
from sync_server.protocol.validation import validation_error
from sync_server.records import Head
from sync_server.services import Services
from sync_server.stores.log_reader import EntityRow, EntityScan
from sync_server.stores.reader import Reader
from sync_server.stores.statements import NO_END
from sync_server.types import ClientId, Json, Millis, Seq, UserId, format_id, format_time, parse_time
from sync_server.views import caught_up, receipt_view, server_update, update_item

STREAM_PAGE = 100
"""Rows that a stream reads at once; it reads no more before they are sent."""


class Changes(TypedDict):
    changes: list[UpdateItem]
    cursor: str
    has_more: bool
    update_type: Literal["incremental", "snapshot"]
    server_time: str
    resets: NotRequired[list[Reset]]
    receipts: NotRequired[list[ReceiptView]]


class Event(NamedTuple):
    """One event of a stream; who has it resumes with `cursor`."""

    name: str
    data: Json
    cursor: str


async def viewer_for(
    services: Services,
    user_id: UserId,
    client_id: str | None,
    space_ids: Sequence[str] | None,
    entity_types: Sequence[str] | None,
) -> Viewer:
    """Who reads: without a client, also what the user's own clients did.

    Raises:
        CommandError: NOT_FOUND, a named space is not theirs to read.
    """
    spaces = None
    if space_ids is not None:
        spaces = readable_spaces(await services.feed.memberships.of(user_id), space_ids)
    types = tuple(sorted(set(entity_types))) if entity_types is not None else None
    return Viewer(user_id, ClientId(client_id if client_id is not None else ""), spaces, types)


async def changes(
    services: Services, viewer: Viewer, cursor: Cursor, *, limit: int, wait_s: float, gone: asyncio.Future[None]
) -> Changes:
    """The next page after the cursor; where there is nothing yet, the wait for it is at most `wait_s`.

    Args:
        gone: done once nobody waits for the answer any more.
    """
    deadline_s = monotonic_s() + wait_s
    page = await services.feed.page(viewer, cursor, limit=limit)
    resets = page.resets
    while not page.updates and not resets:
        if not page.has_more:
            if monotonic_s() >= deadline_s or services.connections.is_draining or gone.done():
                break
            await _something_new(services, viewer, page.cursor, deadline_s, gone)
        page = await services.feed.page(viewer, page.cursor, limit=limit)
        resets = page.resets
    answer: Changes = {
        "changes": [update_item(update) for update in page.updates],
        "cursor": format_cursor(page.cursor),
        "has_more": page.has_more,
        "update_type": "snapshot" if page.is_snapshot else "incremental",
        "server_time": format_time(now_ms()),
    }
    if resets:
        answer["resets"] = [{"space_id": reset.space_id, "reason": reset.reason} for reset in resets]
    if not page.has_more:
        await services.feed.prepare_receipts(viewer)
        receipts = services.feed.receipts(viewer, page.cursor)
        if receipts is not None:
            answer["receipts"] = [receipt_view(receipt) for receipt in receipts]
    return answer


async def events(services: Services, viewer: Viewer, cursor: Cursor, *, until: Millis) -> AsyncGenerator[Event]:
    """Everything after the cursor for as long as somebody takes it, the server runs, and it is before `until`.

    A page is read once the one before it has been taken, so a slow reader holds a page and no more. What is revoked
    meanwhile is not told from the page either.
    """
    announced = False
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # who is gone takes no further event
    while not services.connections.is_draining and now_ms() < until:
        places = await services.feed.memberships.of(viewer.user_id)
        page = await services.feed.page(viewer, cursor, limit=STREAM_PAGE)
        announced = announced and not page.resets
        for reset in page.resets:
            yield Event("reset", {"type": "reset", **reset._asdict()}, format_cursor(cursor))
        for update, end in zip(page.updates, page.ends(cursor), strict=True):
            if not _is_current(services, viewer, places):
                break
            data = dict(server_update(update, end, is_snapshot=page.is_snapshot))
            yield Event("server_update", data, format_cursor(end))
            cursor = end
        else:
            cursor = page.cursor
            if not page.has_more:
                if not announced:
                    announced = True
                    await services.feed.prepare_receipts(viewer)
                    yield Event(
                        "caught_up", caught_up(cursor, services.feed.receipts(viewer, cursor)), format_cursor(cursor)
                    )
                remaining_s = max(0, until - now_ms()) / 1_000
                await _something_new(services, viewer, cursor, monotonic_s() + remaining_s, never)


def _is_current(services: Services, viewer: Viewer, places: Places) -> bool:
    return services.feed.memberships.cached(viewer.user_id) is places


async def _something_new(
    services: Services, viewer: Viewer, cursor: Cursor, deadline_s: float, gone: asyncio.Future[None]
) -> None:
    """Return when something was committed after the cursor that may concern the reader, or nobody waits any more."""
    stop = asyncio.ensure_future(_either(services.connections.draining, gone))
    try:
        while cursor.seq >= services.feed.head.head_seq and not stop.done():
            remaining_s = deadline_s - monotonic_s()
            if remaining_s <= 0:
                return
            places = await services.feed.memberships.of(viewer.user_id)
            if cursor.seq < services.feed.head.head_seq:
                return
            spaces = frozenset(space_id for space_id in followed(places) if viewer.follows(space_id))
            await services.hub.wait_for_change(spaces, timeout_s=remaining_s, end=stop)
    finally:
        stop.cancel()


async def _either(draining: asyncio.Event, gone: asyncio.Future[None]) -> None:
    drains: asyncio.Future[object] = asyncio.ensure_future(draining.wait())
    ends: set[asyncio.Future[Any]] = {drains, gone}
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        drains.cancel()


# --- all entities, type by type ------------------------------------------------------------------------------------


class SyncEntity(TypedDict):
    """`deleted` is there, and `data` null, where the entity was deleted since the time that was asked for."""

    id: OutId
    version: int
    data: Spliced
    space_id: str
    created_at: str
    updated_at: str
    deleted: NotRequired[bool]


class SyncData(TypedDict):
    """`cursor` goes on with the walk, `changes_cursor` with the log from where the walk began.

    `full_sync` is true where the page is of a walk over everything, also when the log no longer reaches back to the
    time that was asked for: then what the walk does not tell is gone.
    """

    sync_id: str
    entity_type: str
    entities: list[SyncEntity]
    has_more: bool
    next_batch_index: int | None
    server_time: str
    cursor: str
    changes_cursor: str
    full_sync: bool


class Position(NamedTuple):
    """How far a walk has come: `after` is of the type's entities, `base` is where those of the time asked for begin.

    All entities are told in the order of their creation, and then those that changed since the walk began, at `start`.
    Those changed since a time are told in the order of their last change. So one that changes during the walk comes, or
    comes again, at its end: it is never missed.
    """

    sync_id: str
    epoch: str
    type_index: int
    after: Seq
    base: Seq
    start: Seq
    is_full: bool


class WalkRequest(NamedTuple):
    """What a walk is over; the same for all its batches."""

    client_id: str
    entity_types: tuple[str, ...]
    space_ids: tuple[str, ...] | None
    since: str | None
    full_sync: bool


class Walks:
    """Where the batches of recent walks began, for clients that ask by `batch_index` alone."""

    MAX_WALKS = 10_000
    MAX_BATCHES = 16

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[UserId, WalkRequest], dict[int, Position]] = OrderedDict()

    def remember(self, user_id: UserId, request: WalkRequest, index: int, position: Position) -> None:
        batches = self._known.setdefault((user_id, request), {})
        self._known.move_to_end((user_id, request))
        batches[index] = position
        if len(batches) > self.MAX_BATCHES:
            del batches[next(iter(batches))]
        if len(self._known) > self.MAX_WALKS:
            self._known.popitem(last=False)

    def position(self, user_id: UserId, request: WalkRequest, index: int) -> Position:
        """Where this batch begins.

        Raises:
            CommandError: CONFLICT, it is not known here (any more).
        """
        found = self._known.get((user_id, request), {}).get(index)
        if found is None:
            message = "The batch before this one is not known here; begin again with batch_index 0, or send the cursor."
            raise CommandError(ErrorCode.CONFLICT, message, details={"field": "batch_index"})
        return found


async def sync_data(
    services: Services,
    user_id: UserId,
    walks: Walks,
    request: WalkRequest,
    *,
    sync_id: str,
    cursor: str | None,
    batch_index: int,
    limit: int,
) -> SyncData:
    """One batch of all entities that the user reads, or of those that changed since a time; one type at a time.

    Args:
        sync_id: names the walk, should it begin here.

    Raises:
        CommandError: see `Walks.position`; NOT_FOUND for a space that is not theirs; VALIDATION_ERROR.
    """
    if cursor is not None:
        position = parse_position(cursor, len(request.entity_types))
    elif batch_index:
        position = walks.position(user_id, request, batch_index)
    else:
        position = await _beginning(services, request, sync_id)

    def query(reader: Reader, places: Places) -> tuple[Head, Position, list[EntityRow], bool]:
        return (reader.head(), *_batch(reader, request, position, places, limit))

    head, here, rows, has_more = await read_as(services, user_id, query)
    if position.epoch != head.epoch or _log_needed(position) < head.floor_seq:
        message = "The log has begun anew, or no longer reaches back so far; begin again with batch_index 0."
        raise CommandError(ErrorCode.CONFLICT, message, details={"field": "cursor"})
    after = _next(here, rows, has_more=has_more, limit=limit, types=len(request.entity_types))
    if has_more:
        walks.remember(user_id, request, batch_index + 1, after)
    return {
        "sync_id": position.sync_id,
        "entity_type": request.entity_types[here.type_index],
        "entities": [_sync_entity(row) for row in rows[:limit]],
        "has_more": has_more,
        "next_batch_index": batch_index + 1 if has_more else None,
        "server_time": format_time(now_ms()),
        "cursor": format_position(after),
        "changes_cursor": format_cursor(Cursor(position.epoch, position.start)),
        "full_sync": position.is_full,
    }


def _log_needed(position: Position) -> Seq:
    """From where on the log must be there for the rest of the walk."""
    return position.start if position.is_full else position.base


async def _beginning(services: Services, request: WalkRequest, sync_id: str) -> Position:
    head = services.feed.head
    since = services.feed.beginning
    if request.since is not None and not request.full_sync:
        try:
            moment = parse_time(request.since)
        except ValueError:
            raise validation_error("since", "must be a moment such as 2024-01-10T10:00:00Z") from None
        since = await services.feed.cursor_before(moment)
    is_full = since.scan is not None or since.seq < services.feed.head.floor_seq
    return Position(sync_id, head.epoch, 0, Seq(0), Seq(0) if is_full else since.seq, head.head_seq, is_full)


def _batch(
    reader: Reader, request: WalkRequest, position: Position, places: Places, limit: int
) -> tuple[Position, list[EntityRow], bool]:
    """The next rows, one more than asked for where there are more of their type; types without rows are passed over."""
    last = len(request.entity_types) - 1
    while True:
        rows = reader.entity_rows(
            _scans(request, position, places),
            request.entity_types[position.type_index],
            live_only=position.is_full,
            limit=limit + 1,
        )
        if rows or position.type_index == last:
            return position, rows, len(rows) > limit or position.type_index < last
        position = position._replace(type_index=position.type_index + 1, after=Seq(0))


def _scans(request: WalkRequest, position: Position, places: Places) -> list[EntityScan]:
    after, base, start = position.after, position.base, position.start
    scans = []
    for space_id in sorted(readable_spaces(places, request.space_ids)):
        # a space that was granted after the time asked for is told whole
        is_whole = not base or places[space_id].seq > base
        if is_whole:
            scans.append(EntityScan(space_id, after, start, by_creation=True))
        scans.append(EntityScan(space_id, max(after, start if is_whole else base), Seq(NO_END), by_creation=False))
    return scans


def _next(position: Position, rows: Sequence[EntityRow], *, has_more: bool, limit: int, types: int) -> Position:
    if len(rows) > limit:
        return position._replace(after=rows[limit - 1].position)
    if has_more and position.type_index + 1 < types:
        return position._replace(type_index=position.type_index + 1, after=Seq(0))
    return position._replace(after=rows[-1].position) if rows else position


def _sync_entity(row: EntityRow) -> SyncEntity:
    view: SyncEntity = {
        "id": format_id(row.entity_id),
        "version": row.version,
        "data": None if row.deleted else JsonText(row.data),
        "space_id": row.space_id,
        "created_at": format_time(row.created_at),
        "updated_at": format_time(row.updated_at),
    }
    if row.deleted:
        view["deleted"] = True
    return view


_POSITION = re.compile(
    r"w2\.([A-Za-z0-9_\-]{1,128})\.([0-9a-f]{1,32})\.(\d{1,4})\.(\d{1,18})\.(\d{1,18})\.(\d{1,18})\.([01])"
)


def format_position(position: Position) -> str:
    """
    >>> at = Position("sync_1", "e1", 0, Seq(7), Seq(0), Seq(9), True)
    >>> parse_position(format_position(at), 3) == at
    True
    """
    text = ".".join(["w2", *map(str, position[:-1]), str(int(position.is_full))])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def parse_position(text: str, types: int) -> Position:
    """Where a walk over so many types goes on.

    Raises:
        CommandError: VALIDATION_ERROR; this is no cursor of such a walk.
    """
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        plain = ""
    match = _POSITION.fullmatch(plain)
    if match is None or int(match[3]) >= types:
        raise validation_error("cursor", "is not one that this server handed out for these entity_types")
    sync_id, epoch, *numbers = match.groups()
    type_index, after, base, start, is_full = map(int, numbers)
    return Position(sync_id, epoch, type_index, Seq(after), Seq(base), Seq(start), bool(is_full))

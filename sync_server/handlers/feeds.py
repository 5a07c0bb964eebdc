"""What changed, over HTTP: pages that may wait for more, and a stream of events. The same rows as the pushes."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, NamedTuple

from typing_extensions import NotRequired, TypedDict

from sync_server.clock import monotonic_s, now_ms
from sync_server.cursor import Cursor, format_cursor
from sync_server.feed import Page, Viewer
from sync_server.memberships import Places
from sync_server.handlers.access import narrowed, readable_spaces
from sync_server.protocol.messages import Reset, UpdateItem
from sync_server.services import Services
from sync_server.types import ClientId, Json, Millis, UserId, format_time
from sync_server.views import server_update, update_item

MAX_WAIT_S = 25
STREAM_PAGE = 100
"""Rows that a stream reads at once; it reads no more before they are sent."""
LOOK_S = 0.5
"""How often who waits for a change looks whether the server stops."""


class Changes(TypedDict):
    changes: list[UpdateItem]
    cursor: str
    has_more: bool
    update_type: Literal["incremental", "snapshot"]
    server_time: str
    resets: NotRequired[list[Reset]]


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
    spaces = await readable_spaces(services, user_id, space_ids) if space_ids is not None else None
    types = tuple(sorted(set(entity_types))) if entity_types is not None else None
    return Viewer(user_id, ClientId(client_id if client_id is not None else ""), spaces, types)


async def changes(services: Services, viewer: Viewer, cursor: Cursor, *, limit: int, wait_s: float) -> Changes:
    """The next page after the cursor; where there is nothing yet, the wait for it is at most `wait_s`."""
    deadline_s = monotonic_s() + wait_s
    page = await services.feed.page(viewer, cursor, limit=limit)
    resets = page.resets
    while not page.updates and not resets:
        if not page.has_more:
            if monotonic_s() >= deadline_s or services.connections.is_draining:
                break
            await _something_new(services, viewer, page.cursor, deadline_s)
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
    return answer


async def events(services: Services, viewer: Viewer, cursor: Cursor, *, until: Millis) -> AsyncIterator[Event]:
    """Everything after the cursor for as long as somebody takes it, the server runs, and it is before `until`.

    A page is read once the one before it has been taken, so a slow reader holds a page and no more. What is revoked
    meanwhile is not told from the page either.
    """
    announced = False
    while not services.connections.is_draining and now_ms() < until:
        places = await services.feed.memberships.of(viewer.user_id)
        page = await services.feed.page(viewer, cursor, limit=STREAM_PAGE)
        for reset in page.resets:
            yield Event("reset", {"type": "reset", **reset._asdict()}, format_cursor(cursor))
        for update, end in zip(page.updates, _ends(page, cursor), strict=True):
            if not _is_current(services, viewer, places):
                break
            yield Event("server_update", dict(server_update(update, end, is_snapshot=page.is_snapshot)), format_cursor(end))
            cursor = end
        else:
            cursor = page.cursor
            if not page.has_more:
                if not announced:
                    announced = True
                    yield Event("caught_up", {"type": "caught_up", "cursor": format_cursor(cursor)}, format_cursor(cursor))
                remaining_s = max(0, until - now_ms()) / 1_000
                await _something_new(services, viewer, cursor, monotonic_s() + remaining_s)


def _ends(page: Page, start: Cursor) -> list[Cursor]:
    """Where a reader stands after each row; between the rows of a scan that is where the page began."""
    if not page.updates:
        return []
    return [*(start if page.is_scan else page.cursor._replace(seq=row.seq) for row in page.updates[:-1]), page.cursor]


def _is_current(services: Services, viewer: Viewer, places: Places) -> bool:
    return services.feed.memberships.cached(viewer.user_id) is places


async def _something_new(services: Services, viewer: Viewer, cursor: Cursor, deadline_s: float) -> None:
    """Return when something was committed after the cursor that may concern the reader, or nothing comes any more."""
    while cursor.seq >= services.feed.head.head_seq and not services.connections.is_draining:
        remaining_s = deadline_s - monotonic_s()
        if remaining_s <= 0:
            return
        places = await services.feed.memberships.of(viewer.user_id)
        if cursor.seq < services.feed.head.head_seq:
            return
        spaces = frozenset(space_id for space_id in narrowed(places, None) if viewer.follows(space_id))
        await services.hub.wait_for_change(spaces, timeout_s=min(remaining_s, LOOK_S))


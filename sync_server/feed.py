"""Reads the change log: pages of changes, snapshots, newest states, each with the cursor to go on from.

Everything a client learns, through any door, comes from here or from the hub, which pushes the same rows.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

from sync_server.cursor import Cursor, Scan, ScanKind
from sync_server.errors import CommandError, ErrorCode
from sync_server.memberships import Memberships, Places, followed
from sync_server.protocol.server_messages import ResetReason
from sync_server.receipts import Receipts, StoredReceipts
from sync_server.records import Filter, Head, Membership, Receipt, Update
from sync_server.stores.log_reader import Placed, SpaceScan
from sync_server.stores.reader import Reader
from sync_server.stores.sql import Store, StoreError
from sync_server.types import ClientId, Millis, Seq, SpaceId, UserId

T = TypeVar("T")
_NOTHING = Seq(0)
MEMBER = "member"
"""The entity type of log rows that grant or revoke; they are told as resets and deletes, never as rows."""


PAGE_CHARACTERS = 1_000_000
"""Text of the rows of one page, but for its last row: what a connection is sent at once is bounded (promise P11)."""


RECENT_LOOK = 500
"""Changes in memory that a page looks through, however few it may tell: most of them may be of others."""


NEWEST_LOOK = 10_000
"""Rows of the log that a page of newest states reads at most, however few of them are still the newest."""


RECENT_CHARACTERS = 64_000_000
"""Data kept in memory for readers that are close behind."""


class Viewer(NamedTuple):
    """Who reads, and what of it: None follows every space, or every entity type."""

    user_id: UserId
    client_id: ClientId
    spaces: frozenset[SpaceId] | None = None
    entity_types: tuple[str, ...] | None = None

    @property
    def wanted(self) -> Filter:
        return Filter(tuple(sorted(self.spaces)) if self.spaces is not None else None, self.entity_types)

    def follows(self, space_id: SpaceId) -> bool:
        return self.spaces is None or space_id in self.spaces

    def wants(self, update: Update, *, own: Seq = _NOTHING) -> bool:
        """Whether a row of a followed space is for this reader: of a wanted type, and not their own client's.

        Args:
            own: up to here their own client's changes are wanted as well, see `Cursor`.
        """
        if self.entity_types is not None and update.entity_type not in self.entity_types:
            return False
        is_own = update.client_id == self.client_id and update.modified_by == self.user_id
        return not (is_own and self.client_id and update.seq > own)  # no client at all is told everything


class SpaceReset(NamedTuple):
    """The reader drops all they have of this space (None: of every space); the rows that follow replace it."""

    space_id: SpaceId | None
    reason: ResetReason


class Page(NamedTuple):
    """Rows in seq order, or of a scan in the order of creation, and where the reader stands once they have them."""

    updates: list[Update]
    cursor: Cursor
    has_more: bool
    resets: tuple[SpaceReset, ...] = ()
    is_snapshot: bool = False
    is_scan: bool = False
    """The rows come from a scan: only the page as a whole can be resumed after, not each row."""

    def ends(self, start: Cursor) -> list[Cursor]:
        """For each row where a reader stands who had come to `start` and has taken it and those before."""
        if not self.updates:
            return []
        base = self.cursor._replace(own=max(start.own, self.cursor.own))
        return [*(start if self.is_scan else base.at(row.seq) for row in self.updates[:-1]), self.cursor]


class Recent:
    """The newest changes of the log in memory, contiguous, so that who is close behind needs no query.

    It is bounded twice, in rows and in characters of their data: past a bound, the older half goes.
    """

    def __init__(self, head_seq: Seq, *, capacity: int, max_characters: int = RECENT_CHARACTERS) -> None:
        self._capacity = capacity
        self._max_characters = max_characters
        self.begin(head_seq)

    def extend(self, updates: Sequence[Update]) -> None:
        self._rows.extend(updates)
        self._characters += weight_of(updates)
        if len(self._rows) > 2 * self._capacity:
            self._drop(len(self._rows) - self._capacity)
        while self._characters > self._max_characters:
            self._drop((len(self._rows) + 1) // 2)

    def begin(self, floor: Seq) -> None:
        """Forget everything; what comes next is what follows on this position."""
        self._rows: list[Update] = []
        self._characters = 0
        self._floor = floor

    def _drop(self, count: int) -> None:
        self._characters -= weight_of(self._rows[:count])
        self._floor = Seq(self._floor + count)
        del self._rows[:count]

    def covers(self, seq: Seq) -> bool:
        return seq >= self._floor

    def after(self, seq: Seq, limit: int) -> list[Update]:
        """The next `limit` changes after a covered position, whoever may read them."""
        start = seq - self._floor
        return self._rows[start : start + limit]


def weight_of(updates: Sequence[Update]) -> int:
    """How many characters of data these changes hold."""
    return sum(len(update.data) for update in updates if update.data is not None)


class Feed:
    """Pages of the log for one reader at a time; see `page`.

    Args:
        readers: where blocking reads run.
        head: where the log stood when the server started; `advance` keeps it.
        recent_capacity: how many changes to keep in memory.
    """

    def __init__(
        self, store: Store, readers: Executor, head: Head, *, recent_capacity: int, clock: Callable[[], Millis]
    ) -> None:
        self._store = store
        self._readers = readers
        self.now = clock
        self.head = head
        self.recent = Recent(head.head_seq, capacity=recent_capacity)
        self.memberships = Memberships(self._load_memberships)
        self._receipts = Receipts(head.head_seq, self._load_receipts)

    def advance(self, updates: Sequence[Update], receipts: Sequence[Receipt] = ()) -> bool:
        """Take in what one transaction committed after the head, at least one change.

        Returns False where changes before these have not come: then memory begins anew behind the hole, and whoever
        stands before it has to read the log, which has them all.
        """
        first, last = updates[0].seq, updates[-1].seq
        is_next = first == self.head.head_seq + 1
        if not is_next:
            self.recent.begin(Seq(first - 1))
            self._receipts.begin(last)
            self.memberships.forget_all()
        self.recent.extend(updates)
        self._receipts.take(receipts)
        self.head = self.head._replace(head_seq=last)
        return is_next

    def raise_floor(self, floor_seq: Seq) -> None:
        self.head = self.head._replace(floor_seq=floor_seq)

    @property
    def end(self) -> Cursor:
        """The cursor of who has seen everything."""
        return Cursor(self.head.epoch, self.head.head_seq)

    @property
    def beginning(self) -> Cursor:
        """The cursor of who has seen nothing: a snapshot of all that is live now, then the log."""
        head = self.head
        return Cursor(head.epoch, head.head_seq, Scan(ScanKind.SNAPSHOT, None, Seq(0), head.head_seq))

    async def read(self, query: Callable[[Reader], T]) -> T:
        """The answer to a query on a snapshot of now, computed on a reader thread.

        Raises:
            CommandError: SYNC_ERROR, retryable; the database could not answer.
        """
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._answer, query)

    async def page(
        self, viewer: Viewer, cursor: Cursor, *, limit: int, newest_only: bool = False, until: Seq | None = None
    ) -> Page:
        """What comes after the cursor: rows of a snapshot, or changes of the log, never both in one page.

        A cursor that the log no longer covers, or of another epoch, starts over with a snapshot (promise P12).

        Args:
            limit: at most so many rows; a page may have fewer and yet not be the last, see `has_more`.
            newest_only: tell each entity's newest state instead of every change.
            until: read no changes after this position, which is at most the head.
        """
        while True:
            places = await self.memberships.of(viewer.user_id)
            if not newest_only:
                page = self.recent_page(viewer, places, cursor, limit=limit, until=until)
                if page is not None:
                    return page
            page = await self.read(lambda reader: _page(reader, viewer, cursor, limit, until, newest_only=newest_only))
            if self.memberships.cached(viewer.user_id) is places:
                break  # else a right changed meanwhile: what was read may not be theirs any more
        if page.resets:
            page = page._replace(cursor=page.cursor._replace(own=self.head.head_seq))
        return page

    def recent_page(
        self, viewer: Viewer, places: Places, cursor: Cursor, *, limit: int, until: Seq | None = None
    ) -> Page | None:
        """The page if memory holds it: without a wait, so that it can be the last step before going live."""
        end = until if until is not None else self.head.head_seq
        if cursor.scan is not None or cursor.epoch != self.head.epoch or not self.recent.covers(cursor.seq):
            return None
        if cursor.seq > end or places.newest_seq > cursor.seq:
            return None
        rows = fitting(self.recent.after(cursor.seq, min(max(limit, RECENT_LOOK), end - cursor.seq)))
        wanted = [
            row
            for row in rows
            if places.is_read(row.space_id) and viewer.follows(row.space_id)
            if row.entity_type != MEMBER and viewer.wants(row, own=cursor.own)
        ]
        if len(wanted) > limit:
            wanted = wanted[:limit]
            rows = wanted
        position = rows[-1].seq if rows else cursor.seq
        return Page(wanted, cursor.at(position), position < end)

    async def prepare_receipts(self, viewer: Viewer) -> None:
        """Read the receipts that the reader may be told and memory does not know; none if the database cannot say."""
        if viewer.entity_types is None:
            places = await self.memberships.of(viewer.user_id)
            with contextlib.suppress(CommandError):
                await self._receipts.load(filter(viewer.follows, followed(places)))

    def receipts(self, viewer: Viewer, cursor: Cursor) -> list[Receipt] | None:
        """Of the spaces that the reader follows, as far as memory knows them, what holds at the cursor; see
        `prepare_receipts`. None for who leaves entity types out. It does not wait."""
        if viewer.entity_types is not None:
            return None
        places = self.memberships.cached(viewer.user_id)
        if places is None or cursor.scan is not None or cursor.epoch != self.head.epoch:
            return []
        spaces = (s for s in filter(viewer.follows, followed(places)) if places[s].seq <= cursor.seq)
        return self._receipts.at(cursor.seq, spaces, head_seq=self.head.head_seq)

    def newest_receipts(self, user_id: UserId, space_ids: Iterable[SpaceId]) -> list[Receipt]:
        """Of those of these spaces that the user reads, as far as memory knows them, what holds at the head."""
        places = self.memberships.cached(user_id)
        found = {space_id: places.get(space_id) if places is not None else None for space_id in space_ids}
        readable = [space_id for space_id, place in found.items() if place is not None and place.role is not None]
        return self._receipts.at(self.head.head_seq, readable, head_seq=self.head.head_seq)

    def check_receipt(self, stored: Receipt, *, is_sound: bool) -> None:
        """Forget what memory knows of the space if it is wrong: the next one who is to be told it has it read."""
        known = self._receipts.known(stored.space_id)
        if not is_sound or (known is not None and known.seq == stored.seq and known != stored):
            self._receipts.forget(stored.space_id)

    def live_count(self, user_id: UserId, space_id: SpaceId) -> int:
        """About how many live entities there are in the space; 0 also where the user does not read it."""
        places, known = self.memberships.cached(user_id), self._receipts.known(space_id)
        return known.live_count if known is not None and places is not None and places.is_read(space_id) else 0

    async def cursor_before(self, moment: Millis, *, margin_ms: int = 300_000) -> Cursor:
        """A position that is surely before everything committed after `moment`, some minutes early."""
        early = Millis(min(moment, self.now()) - margin_ms)
        seq = await self.read(lambda reader: reader.seq_before(early))
        # a moment below the horizon may be any: only who has seen nothing of the log is surely before it
        return Cursor(self.head.epoch, seq if seq > self.head.floor_seq else Seq(0))

    async def _load_memberships(self, user_id: UserId) -> list[Membership]:
        return await self.read(lambda reader: reader.memberships(user_id))

    async def _load_receipts(self, space_ids: list[SpaceId]) -> StoredReceipts:
        return await self.read(lambda reader: StoredReceipts(reader.head().head_seq, reader.receipts(space_ids)))

    def _answer(self, query: Callable[[Reader], T]) -> T:
        try:
            with self._store.read() as reader:
                return query(reader)
        except StoreError as error:
            message = "The database could not be read; try again."
            raise CommandError(ErrorCode.SYNC_ERROR, message, retry_after_ms=1_000) from error


def _page(reader: Reader, viewer: Viewer, cursor: Cursor, limit: int, until: Seq | None, *, newest_only: bool) -> Page:
    head = reader.head()
    places = Places((p.space_id, p) for p in reader.memberships(viewer.user_id) if viewer.follows(p.space_id))
    cursor, resets = _anchored(cursor, head)
    page = Page([], cursor, True, resets)
    end = until if until is not None else head.head_seq
    while page.has_more:
        if page.cursor.scan is not None:
            step = _scan_page(reader, viewer, page.cursor, places, limit)
        else:
            step = _log_page(reader, viewer, page.cursor, places, end, limit, newest_only=newest_only)
        has_more = step.cursor.scan is not None or step.cursor.seq < end
        page = step._replace(resets=(*page.resets, *step.resets), has_more=has_more)
        if page.updates or newest_only:  # one look at the newest states may read much that it does not tell
            break
    return page


def fitting(rows: list[Update]) -> list[Update]:
    """As many of these rows as one page may weigh, and at least one."""
    total = 0
    for index, row in enumerate(rows):
        total += len(row.data) if row.data is not None else 0
        if total > PAGE_CHARACTERS and index > 0:
            return rows[:index]
    return rows


def _anchored(cursor: Cursor, head: Head) -> tuple[Cursor, tuple[SpaceReset, ...]]:
    """The cursor if the log covers it, else the beginning with a reset of everything."""
    if cursor.epoch != head.epoch or cursor.seq > head.head_seq:
        reason: ResetReason = "epoch"
    elif cursor.seq < head.floor_seq:
        reason = "horizon"
    else:
        return cursor, ()
    scan = Scan(ScanKind.SNAPSHOT, None, Seq(0), head.head_seq)
    return Cursor(head.epoch, head.head_seq, scan), (SpaceReset(None, reason),)


def _scan_page(reader: Reader, viewer: Viewer, cursor: Cursor, places: Places, limit: int) -> Page:
    scan = cursor.scan
    assert scan is not None  # the caller looked
    place = places.get(scan.space_id) if scan.space_id is not None else None
    found: list[Placed] = []
    if scan.kind is ScanKind.SNAPSHOT:
        scans = _snapshot_scans(scan, places)
        found = reader.snapshot(scans, until=scan.until, entity_types=viewer.entity_types, limit=limit)
    elif place is not None and place.role is None:
        found = reader.revoked(place.space_id, after=scan.after, revoked_at=place.seq, limit=limit)
    rows = fitting([placed.update for placed in found])
    is_last = len(found) < limit and len(rows) == len(found)
    rest = None if is_last else scan._replace(after=found[len(rows) - 1].position)
    return Page(rows, cursor._replace(scan=rest), True, is_snapshot=scan.kind is ScanKind.SNAPSHOT, is_scan=True)


def _snapshot_scans(scan: Scan, places: Places) -> list[SpaceScan]:
    # a space granted after the snapshot began is told when the log comes to its grant
    return [
        SpaceScan(place.space_id, scan.after)
        for place in places.values()
        if place.role is not None and place.seq <= scan.until and scan.space_id in {None, place.space_id}
    ]


def _log_page(
    reader: Reader, viewer: Viewer, cursor: Cursor, places: Places, end: Seq, limit: int, *, newest_only: bool
) -> Page:
    """Changes up to the next grant or revocation of the reader; having reached that, the cursor scans its space."""
    if newest_only:
        end = min(end, Seq(cursor.seq + NEWEST_LOOK))
    events = sorted((p for p in places.values() if cursor.seq < p.seq <= end), key=lambda place: place.seq)
    bound = events[0].seq if events else end
    scans = [
        SpaceScan(place.space_id, max(cursor.seq, place.seq))
        for place in places.values()
        if place.role is not None and place.seq < bound
    ]
    if newest_only:
        found = reader.newest(scans, until=bound, entity_types=viewer.entity_types, limit=limit)
        wanted = rows = fitting(found)
    else:
        found = reader.updates(scans, until=bound, entity_types=viewer.entity_types, limit=limit)
        rows = fitting(found)
        wanted = [row for row in rows if viewer.wants(row, own=cursor.own)]
    if len(found) == limit or len(rows) < len(found):
        return Page(wanted, cursor.at(rows[-1].seq), True)
    reached = cursor.at(max(cursor.seq, bound))
    if not events:
        return Page(wanted, reached, True)
    return _at_event(wanted, reached, events[0])


def _at_event(rows: list[Update], reached: Cursor, place: Membership) -> Page:
    if place.role is None:
        return Page(rows, reached._replace(scan=Scan(ScanKind.REVOKED, place.space_id, Seq(0), place.seq)), True)
    scan = Scan(ScanKind.SNAPSHOT, place.space_id, Seq(0), place.seq)
    return Page(rows, reached._replace(scan=scan), True, (SpaceReset(place.space_id, "granted"),))

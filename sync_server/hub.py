"""Who follows what in this process, and the one road by which committed changes reach them (promise P4).

A subscriber is *live*, and then takes each round as it is published, or it is fed from its position by a *pump* that
reads pages of the log until memory holds the rest. The last step of the pump is one synchronous call, so nothing
commits between the page and going live. A live subscriber whose socket is congested lags: it goes back to a pump, which
feeds it the newest state of each entity once it reads again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import structlog

from sync_server import metrics
from sync_server.cursor import Cursor
from sync_server.errors import CloseCode, CommandError
from sync_server.feed import MEMBER, PAGE_CHARACTERS, Feed, Page, Viewer, weight_of
from sync_server.memberships import Places, followed
from sync_server.orders import Committed
from sync_server.protocol.codec import Codec
from sync_server.records import Conflict, Update
from sync_server.sockets import Frames, room
from sync_server.subscribers import Audience, Subscriber, write_once
from sync_server.types import ConnectionId, Json, Seq, SpaceId, UserId, format_time
from sync_server.views import caught_up, conflict_notice, conflict_settled_notice, server_update, server_updates

_log = structlog.get_logger(__name__)

PUMP_PAGE = 500
"""Rows in one page of a pump."""
LONGEST_PUBLISH_S = 5.0
"""After which a pump that has read more than is published looks again."""
SENDS_PER_TURN = 500
"""Deliveries after which a broadcast lets other work of the event loop run."""


class _Round(NamedTuple):
    """One transaction, or some in a row, on their way to the followers."""

    updates: Sequence[Update]
    conflicts: Sequence[Conflict]
    settled: Sequence[tuple[Conflict, int | None]]


class Hub:
    """Followers of this process. Everything here runs in the event loop.

    Args:
        feed: where pumps read.
        slow_consumer_s: how long a congested socket may take nothing before it is closed.
    """

    def __init__(self, feed: Feed, *, slow_consumer_s: float) -> None:
        self._feed = feed
        self._slow_consumer_s = slow_consumer_s
        self._subscribers: dict[ConnectionId, Subscriber] = {}
        self._of_user: dict[UserId, dict[Subscriber, None]] = {}
        self._followers: dict[SpaceId, dict[Subscriber, None]] = {}
        self._rounds: deque[_Round] = deque()
        self._published = asyncio.Event()
        self._waiters: dict[asyncio.Future[None], frozenset[SpaceId] | None] = {}
        self._flushed = feed.head.head_seq
        self._arrived: Callable[[Subscriber], None] = _unobserved
        self._left: Callable[[Subscriber, SpaceId], None] = _unobserved

    def observe(self, *, arrived: Callable[[Subscriber], None], left: Callable[[Subscriber, SpaceId], None]) -> None:
        """Be told when a subscriber has caught up with all that it follows, and when it follows a space no more."""
        self._arrived, self._left = arrived, left

    # --- who follows -----------------------------------------------------------------------------------------------

    async def add(self, subscriber: Subscriber, cursor: Cursor | None) -> None:
        """Follow from the cursor on; without one, from now on. Registered before anything is read."""
        self._subscribers[subscriber.connection_id] = subscriber
        self._of_user.setdefault(subscriber.viewer.user_id, {})[subscriber] = None
        await self._follow(subscriber)
        self.resume(subscriber, cursor)

    async def narrow(self, subscriber: Subscriber, viewer: Viewer, cursor: Cursor | None) -> None:
        """Follow something else from the cursor on; without one, from where the connection stands."""
        self._stop_pump(subscriber)
        here = self._here(subscriber)
        subscriber.is_live = False
        subscriber.narrow(viewer)
        await self._follow(subscriber)
        self.resume(subscriber, cursor if cursor is not None else here)

    def remove(self, subscriber: Subscriber) -> None:
        self._stop_pump(subscriber)
        subscriber.is_live = False
        self._unfollow(subscriber, list(subscriber.spaces))
        self._subscribers.pop(subscriber.connection_id, None)
        of_user = self._of_user.get(subscriber.viewer.user_id, {})
        of_user.pop(subscriber, None)
        if not of_user:
            self._of_user.pop(subscriber.viewer.user_id, None)

    def resume(self, subscriber: Subscriber, cursor: Cursor | None) -> None:
        """Feed the subscriber from the cursor until it is live; without one it is live at once, from the head on."""
        self._stop_pump(subscriber)
        if cursor is None:
            subscriber.start = subscriber.position = self._feed.head.head_seq
            subscriber.is_live = True
            # soon, not now: the reply to what brought the subscriber here goes first
            asyncio.get_running_loop().call_soon(self._announce, subscriber)
            return
        subscriber.own = cursor.own
        subscriber.start = subscriber.position = cursor.seq if cursor.scan is None else Seq(0)
        self._start_pump(subscriber, cursor, announce=True)

    def _announce(self, subscriber: Subscriber) -> None:
        if subscriber.is_live:
            self._arrived(subscriber)

    def connections_of(self, user_id: UserId) -> list[Subscriber]:
        return list(self._of_user.get(user_id, ()))

    def followers(self, space_id: SpaceId) -> list[Subscriber]:
        return list(self._followers.get(space_id, ()))

    def may_read(self, subscriber: Subscriber, space_id: SpaceId) -> bool:
        """Whether its user may, as far as is known at this moment."""
        places = self._feed.memberships.cached(subscriber.viewer.user_id)
        return places is not None and places.is_read(space_id)

    def look_again(self, subscriber: Subscriber) -> None:
        """Let a live subscriber's pump read what its user may see."""
        if subscriber.is_live:
            self._refeed(subscriber, newest_only=False)

    def position_of(self, subscriber: Subscriber) -> Seq:
        """Up to which position everything that the subscriber follows has been written to its socket."""
        return max(subscriber.position, self._flushed) if subscriber.is_live else subscriber.position

    def _here(self, subscriber: Subscriber) -> Cursor:
        """From where the subscriber is to be fed, should it be fed anew."""
        return Cursor(self._feed.head.epoch, Seq(0), own=subscriber.own).at(self.position_of(subscriber))

    def told(self, subscriber: Subscriber, cursor: Cursor) -> None:
        """A reply told the subscriber everything up to the cursor: it need not be pushed any more."""
        if subscriber.is_live and cursor.scan is None:
            subscriber.position = max(self.position_of(subscriber), cursor.seq)

    def rest(self, subscriber: Subscriber, cursor: Cursor, *, limit: int) -> Page | None:
        """What is committed after the cursor and on its way to a live subscriber, for a reply to tell now.

        Who asks after an acknowledgement must see what was acknowledged (promise P7), however many others are pushed
        it first. None where it comes from a pump.
        """
        places = self._feed.memberships.cached(subscriber.viewer.user_id)
        if not subscriber.is_live or places is None:
            return None
        page = self._feed.recent_page(subscriber.viewer, places, cursor, limit=limit)
        if page is not None:
            self.told(subscriber, page.cursor)
        return page

    # --- publish ---------------------------------------------------------------------------------------------------

    def publish(self, committed: Committed) -> None:
        """Take in what a transaction committed. Never waits and never raises for a subscriber's sake.

        Commits may come out of order or twice: what is not next makes everybody read the log, which is in order.
        """
        updates = committed.updates
        if updates and updates[-1].seq <= self._feed.head.head_seq:
            updates = ()  # too late, or again: whoever wanted them has read them in the log
        is_next = not updates or self._feed.advance(updates, committed.receipts)
        metrics.HEAD_SEQ.set(self._feed.head.head_seq)
        moved = [update for update in updates if update.entity_type == MEMBER]
        for update in moved:
            self._rights_changed(UserId(update.entity_id), update)
        self._rounds.append(_Round(updates, committed.conflicts, committed.settled))
        if not is_next:
            _log.info("changes_missed", first_seq=updates[0].seq)
            for subscriber in self._subscribers.values():
                subscriber.has_missed_conflicts = True
                self.look_again(subscriber)  # wherever it stands: a right of its user may have changed in the hole
        self._published.set()
        touched = {update.space_id for update in updates}
        for waiter, spaces in self._waiters.items():
            if not waiter.done() and (spaces is None or moved or not is_next or not touched.isdisjoint(spaces)):
                waiter.set_result(None)

    async def wait_for_change(self, spaces: frozenset[SpaceId], *, timeout_s: float, end: asyncio.Future[Any]) -> None:
        """Return when something happened in these spaces, or to anybody's rights, at the end, or after the timeout."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = spaces
        try:
            await asyncio.wait({waiter, end}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._waiters[waiter]

    async def _published_up_to(self, seq: Seq) -> None:
        """Return once what was read in the log is published as well, or after a while."""
        if self._feed.head.head_seq < seq:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters[waiter] = None
            try:
                await asyncio.wait({waiter}, timeout=LONGEST_PUBLISH_S)
            finally:
                del self._waiters[waiter]

    async def run(self) -> None:
        """Deliver rounds in order, for ever: the one flusher of this process."""
        while True:
            await self._published.wait()
            self._published.clear()
            while self._rounds:
                current = self._next_round()
                try:
                    await self._deliver(current)
                except Exception:  # noqa: BLE001  a round that cannot be delivered must not stop the next one
                    _log.exception("round_not_delivered")
                    self._leave_to_pumps(current)

    def _next_round(self) -> _Round:
        """The oldest round and those after it that fit into a page with it: who falls behind writes less often."""
        current = self._rounds.popleft()
        updates, weight = list(current.updates), weight_of(current.updates)
        conflicts, settled = [*current.conflicts], [*current.settled]
        while self._rounds:
            other = self._rounds[0]
            weight += weight_of(other.updates)
            if len(updates) + len(other.updates) > PUMP_PAGE or weight > PAGE_CHARACTERS:
                break
            updates += other.updates
            conflicts += other.conflicts
            settled += other.settled
            self._rounds.popleft()
        return _Round(updates, conflicts, settled)

    def _rights_changed(self, user_id: UserId, update: Update) -> None:
        """Stop what was revoked at once; the pump tells the rest in its place in the log."""
        self._feed.memberships.forget(user_id)
        for subscriber in self.connections_of(user_id):
            if update.data is None:
                self._unfollow(subscriber, [update.space_id])
            self.look_again(subscriber)

    async def _deliver(self, current: _Round) -> None:
        rows = [update for update in current.updates if update.entity_type != MEMBER]
        for space_id, group in groupby(rows, key=lambda update: update.space_id):
            await self._broadcast(space_id, list(group))
        if current.updates:
            self._flushed = max(self._flushed, current.updates[-1].seq)
        for conflict in current.conflicts:
            await self._tell(conflict, conflict_notice(conflict))
        for conflict, version in current.settled:
            await self._tell(conflict, conflict_settled_notice(conflict, version))

    async def _broadcast(self, space_id: SpaceId, updates: list[Update]) -> None:
        first, last = updates[0].seq, updates[-1].seq
        epoch = self._feed.head.epoch
        authors = {(update.modified_by, update.client_id) for update in updates}
        encoded: dict[Audience, Frames | None] = {}
        delivered = 0
        for count, subscriber in enumerate(self.followers(space_id), start=1):
            if not subscriber.is_live or subscriber.position >= last or space_id not in subscriber.spaces:
                continue
            viewer = subscriber.viewer
            if subscriber.position >= first or (viewer.user_id, viewer.client_id) in authors:
                own = [update for update in updates if update.seq > subscriber.position and viewer.wants(update)]
                frames = _changes(subscriber.audience, own, epoch)
            elif subscriber.audience in encoded:
                frames = encoded[subscriber.audience]
            else:
                frames = _changes(subscriber.audience, [u for u in updates if viewer.wants(u)], epoch)
                encoded[subscriber.audience] = frames
            delivered += self._push(subscriber, frames, last)
            if count % SENDS_PER_TURN == 0:
                await asyncio.sleep(0)
        metrics.DELIVERIES.inc(delivered)

    def _push(self, subscriber: Subscriber, frames: Frames | None, seq: Seq) -> int:
        """Take a live subscriber to `seq`, unless its socket is congested: then it lags from where it stands.

        Returns how many frames were written.
        """
        if frames is None:
            subscriber.position = seq
            return 0
        if subscriber.socket.congested:
            self._refeed(subscriber, newest_only=True)
            return 0
        subscriber.socket.write(frames)
        subscriber.position = seq
        return len(frames.payloads)

    def _leave_to_pumps(self, current: _Round) -> None:
        """Let whoever is still without these changes read them from the log."""
        if not current.updates:
            return
        last = current.updates[-1].seq
        for subscriber in list(self._subscribers.values()):
            if subscriber.is_live and subscriber.position < last:
                self._refeed(subscriber, newest_only=False)
        self._flushed = max(self._flushed, last)

    def _refeed(self, subscriber: Subscriber, *, newest_only: bool) -> None:
        """Send a live subscriber back to a pump, from where it stands."""
        subscriber.position = self.position_of(subscriber)
        subscriber.is_live = False
        self._start_pump(subscriber, self._here(subscriber), announce=False, newest_only=newest_only)

    async def _tell(self, conflict: Conflict, message: Mapping[str, object]) -> None:
        """Send to the author's connections and to the space's editors."""
        editors = (s for s in self.followers(conflict.space_id) if s.spaces[conflict.space_id].can_write)
        audience = dict.fromkeys((*self.connections_of(conflict.user_id), *editors))
        encoded: dict[Codec, Frames] = {}
        for count, subscriber in enumerate(audience, start=1):
            places = self._feed.memberships.cached(subscriber.viewer.user_id)
            may_see = places is None or places.is_read(conflict.space_id)
            if may_see and (places is None or not write_once(subscriber, message, encoded)):
                subscriber.has_missed_conflicts = True
                if subscriber.is_live:
                    self._refeed(subscriber, newest_only=True)
            if count % SENDS_PER_TURN == 0:
                await asyncio.sleep(0)

    # --- pump ------------------------------------------------------------------------------------------------------

    def _start_pump(self, subscriber: Subscriber, cursor: Cursor, *, announce: bool, newest_only: bool = False) -> None:
        self._stop_pump(subscriber)
        work = self._pump(subscriber, cursor, announce=announce, newest_only=newest_only)
        subscriber.pump = asyncio.get_running_loop().create_task(work)

    def _stop_pump(self, subscriber: Subscriber) -> None:
        if subscriber.pump is not None and subscriber.pump is not asyncio.current_task():
            subscriber.pump.cancel()
        subscriber.pump = None

    async def _pump(self, subscriber: Subscriber, cursor: Cursor, *, announce: bool, newest_only: bool) -> None:
        metrics.LAGGING.inc()
        try:
            await self._follow(subscriber)
            await self._feed_until_live(subscriber, cursor, announce=announce, newest_only=newest_only)
        except TimeoutError:
            subscriber.close(CloseCode.SLOW_CONSUMER, "This connection takes nothing of what waits for it.")
        except CommandError as error:
            subscriber.close(CloseCode.INTERNAL, error.message)
        except Exception:  # noqa: BLE001  a subscriber that nobody feeds must know it
            _log.exception("pump_failed")
            subscriber.close(CloseCode.INTERNAL, "The server failed to read what this connection follows.")
        finally:
            metrics.LAGGING.dec()

    async def _feed_until_live(
        self, subscriber: Subscriber, cursor: Cursor, *, announce: bool, newest_only: bool
    ) -> None:
        while True:
            await room(subscriber.socket, patience_s=self._slow_consumer_s)
            announce = announce or subscriber.has_missed_conflicts
            if announce:
                await self._feed.prepare_receipts(subscriber.viewer)
            if not newest_only and self._go_live(subscriber, cursor, announce=announce):
                return
            page = await self._feed.page(subscriber.viewer, cursor, limit=PUMP_PAGE, newest_only=newest_only)
            self._write_page(subscriber, cursor, page)
            announce = announce or bool(page.resets)  # who drops rows is told when those in their place are all here
            cursor = page.cursor
            newest_only = newest_only and page.has_more
            if not page.has_more:
                await self._published_up_to(cursor.seq)

    def _go_live(self, subscriber: Subscriber, cursor: Cursor, *, announce: bool) -> bool:
        """Write what memory holds after the cursor and go live, in one step; False where memory does not hold it."""
        places = self._feed.memberships.cached(subscriber.viewer.user_id)
        if places is None:
            return False
        page = self._feed.recent_page(subscriber.viewer, places, cursor, limit=PUMP_PAGE)
        if page is None or page.has_more:
            return False
        self._write_page(subscriber, cursor, page)
        self._refollow(subscriber, places)
        subscriber.is_live = True
        subscriber.pump = None
        if announce:
            subscriber.has_missed_conflicts = False
            receipts = self._feed.receipts(subscriber.viewer, page.cursor)
            subscriber.send({**caught_up(page.cursor, receipts), "timestamp": format_time(self._feed.now())})
        self._arrived(subscriber)
        return True

    def _write_page(self, subscriber: Subscriber, start: Cursor, page: Page) -> None:
        for reset in page.resets:
            message: Json = {"type": "reset", "timestamp": format_time(self._feed.now()), **reset._asdict()}
            subscriber.send(message)
            subscriber.own = page.cursor.own
        if page.updates:
            subscriber.socket.write(_encode(subscriber.audience, page, page.ends(start)))
            metrics.DELIVERIES.inc(len(page.updates))
        if page.cursor.scan is None:
            subscriber.position = page.cursor.seq

    # --- following -------------------------------------------------------------------------------------------------

    async def _follow(self, subscriber: Subscriber) -> None:
        places = await self._feed.memberships.of(subscriber.viewer.user_id)
        if subscriber.connection_id in self._subscribers:  # it may have left while this was read
            self._refollow(subscriber, places)

    def _refollow(self, subscriber: Subscriber, places: Places) -> None:
        """Bring the index of followers to what the subscriber may see and wants to see."""
        roles = {s: role for s, role in followed(places).items() if subscriber.viewer.follows(s)}
        self._unfollow(subscriber, [space_id for space_id in subscriber.spaces if space_id not in roles])
        for space_id in roles:
            self._followers.setdefault(space_id, {})[subscriber] = None
        subscriber.spaces = roles

    def _unfollow(self, subscriber: Subscriber, space_ids: Iterable[SpaceId]) -> None:
        for space_id in space_ids:
            subscriber.spaces.pop(space_id, None)
            followers = self._followers.get(space_id, {})
            followers.pop(subscriber, None)
            if not followers:
                self._followers.pop(space_id, None)
            subscriber.met.discard(space_id)
            self._left(subscriber, space_id)


def _unobserved(*_: object) -> None:
    """Nobody asked to be told."""


def _changes(audience: Audience, updates: list[Update], epoch: str) -> Frames | None:
    """The frames of live changes, None where there are none."""
    if not updates:
        return None
    ends = [Cursor(epoch, update.seq) for update in updates]
    return _encode(audience, Page(updates, ends[-1], has_more=False), ends)


def _encode(audience: Audience, page: Page, ends: Sequence[Cursor]) -> Frames:
    """The page's rows as frames; `ends` says for each where a client stands that has it and all before."""
    encode, is_snapshot = audience.codec.encode, page.is_snapshot
    if audience.takes_batches:
        payloads = [encode(server_updates(page.updates, page.cursor, is_snapshot=is_snapshot))]
    else:
        payloads = [
            encode(server_update(update, end, is_snapshot=is_snapshot))
            for update, end in zip(page.updates, ends, strict=True)
        ]
    return Frames(payloads, is_text=audience.codec.opcode_is_text)

"""The connection's rules without a connection: events and moments in, effects out. Nothing waits or reads a clock.

Numbered laws, each held by a property test (docs/client.md):

 M1 Every event is taken in every state, as the table `states.TABLE` says.
 M2 At most one request is under way; what it carried is sent again unless its reply came.
 M3 Nothing but the handshake, the token and pongs is sent before the token was accepted.
 M4 A cursor is used only once the rows that it stands for were applied.
 M5 While it waits to connect, or has something to send, a deadline or an answer is to come: it never waits for nothing.
 M6 After a close code of the range 45xx, and with another user's token, it does not connect by itself.
 M7 An operation that fails is held back alone, with what names its entity: others go on.
"""

from collections.abc import Callable
from functools import partial
from typing import assert_never

from sync_client import replica
from sync_client.events import (
    Apply,
    AskToken,
    Check,
    Close,
    Diverged,
    Effect,
    Input,
    ListConflicts,
    Loaded,
    Lost,
    NewToken,
    Open,
    Opened,
    Profile,
    Received,
    Resume,
    Send,
    Start,
    Stop,
    Synced,
    Written,
)
from sync_client.frames import (
    Admission,
    CaughtUp,
    Changes,
    ConflictClosed,
    ConflictOpened,
    Expiring,
    Failure,
    Goodbye,
    Greeting,
    Heard,
    Limits,
    Message,
    Ping,
    Reset,
    Results,
)
from sync_client.ladder import Ladder, LinkKind
from sync_client.pauses import pause
from sync_client.receipts import Receipts
from sync_client.states import TABLE, Event, State
from sync_client.uploads import PROTOCOL_VERSION, Uploads
from sync_client.values import Json, Problem, parse_id

GREETING_S = 15.0
"""How long the way from an open link to an accepted token may take."""
GOOD_AFTER_S = 5.0
"""A connection that lasted so long was a good one: the pauses begin anew."""
LISTING_S = 30.0
"""Pause between two lists of conflicts on a link over HTTP."""
LISTING_SOON_S, HEARTBEAT_S = 1.0, 20.0
"""After the last row of a lost space; and silence before a ping, for a server that does not say."""


class Machine:
    """One client's connection, through all its links.

    Args:
        new_id: makes ids of messages.
        chance: random numbers from 0 up to 1.
        now_text: the wall clock as RFC 3339, stamped on what is stored; nothing is decided by it.
    """

    def __init__(
        self, profile: Profile, resume: Resume, *, ladder: Ladder, new_id: Callable[[], str],
        chance: Callable[[], float], now_text: Callable[[], str],
    ) -> None:  # fmt: skip
        self.state = State.IDLE
        self.rows_told = 0
        self.problem: str | None = None
        self.is_foreign = False
        """The token is of another user than the store."""
        self.is_complete = resume.is_complete
        self._profile = profile
        self.cursor = resume.cursor
        self._owner = resume.owner
        self._ladder = ladder
        self._new_id = new_id
        self._chance = chance
        self._now_text = now_text
        self._uploads = Uploads(
            profile.client_id, new_id=new_id, chance=chance, now_text=now_text, synced_at=resume.synced_at
        )
        self._attempts = 0
        self._retry_at = 0.0
        self._retry_after_s: float | None = None
        self._token = ""
        self._needs_new_token = False
        self._has_renewed = False
        self._check_is_due = not resume.is_complete
        self._receipts = Receipts()
        self._forget_link()

    def _forget_link(self) -> None:
        self._uploads.begin(Limits(), is_plain=False)
        self._receipts.begin()
        self._heartbeat_s: float | None = None
        self._heard_at = 0.0
        self._pinged_at: float | None = None
        self._greeted_at = 0.0
        self._ready_at: float | None = None
        self._list_at: float | None = None
        """When the conflicts are listed again, on a link that does not push them."""
        self._told: str | None = None
        """Why the server ends this link, in its words."""
        self._is_proven = False
        """The link brought something of the feed: what cuts it later is no reason to try another kind."""

    # --- in --------------------------------------------------------------------------------------------------------

    @property
    def kind(self) -> LinkKind:
        """The link in use, or to be tried next."""
        return self._ladder.kind

    @property
    def is_plain(self) -> bool:
        """The server follows the T3 document alone."""
        return self._uploads.is_plain

    @property
    def is_retrying(self) -> bool:
        """The last attempt failed, or the connection was lost and is not back."""
        return self._attempts > 0

    @property
    def deadline(self) -> float | None:
        """When `tick` is to be called next; None while only an event can change anything."""
        match self.state:
            case State.IDLE | State.STOPPED | State.CONNECTING:
                return None
            case State.WAITING:
                return self._retry_at
            case State.GREETING | State.SIGNING_IN:
                return self._greeted_at + GREETING_S
            case State.CATCHING_UP | State.LIVE:
                return min(self._deadlines(), default=None)

    def _deadlines(self) -> list[float]:
        found = self._uploads.deadlines()
        if self._heartbeat_s is not None:
            since = self._pinged_at if self._pinged_at is not None else self._heard_at
            found.append(since + self._heartbeat_s)
        if self.state is State.LIVE:
            compare_at = self._receipts.due_at if self._uploads.is_at_rest else None
            found += [moment for moment in (self._ladder.look_at, self._list_at, compare_at) if moment is not None]
        return found

    def tick(self, now: float) -> list[Effect]:
        """The deadline has come, or may have."""
        if self.deadline is None or now < self.deadline:
            return []
        match self.state:
            case State.WAITING:
                return self._take(Event.RETRY, None, now)
            case State.GREETING | State.SIGNING_IN:
                return self._take(Event.SILENT, None, now)
            case _:
                return self._take(self._event_of_time(now), None, now)

    def handle(self, event: Input, now: float) -> list[Effect]:
        """Take an event; do the effects in their order, each before the next."""
        if isinstance(event, Received) and TABLE[self.state][Event.HEARD] is not None:
            self._heard_at, self._pinged_at = now, None
        return self._take(self._event_of(event), event, now)

    def _take(self, event: Event, given: Input | None, now: float) -> list[Effect]:
        following = TABLE[self.state][event]
        if following is None:
            return []
        before, self.state = self.state, following
        effects = self._perform(event, given, now)
        if self.state is State.LIVE and before is not State.LIVE:
            effects += self._now_live(now)
        elif event is Event.CAUGHT_UP and self._list_at is None:
            effects.append(ListConflicts())  # those of a space that is granted now, or told while nothing was read
        return effects

    def _event_of_time(self, now: float) -> Event:
        if self._uploads.is_overdue(now) or self._is_unanswered(now):
            return Event.SILENT
        if self.state is State.LIVE and self._ladder.look_at is not None and now >= self._ladder.look_at:
            return Event.LOOK_UP
        return Event.TICK

    def _is_unanswered(self, now: float) -> bool:
        if self._heartbeat_s is None or self._pinged_at is None:
            return False
        return now >= self._pinged_at + self._heartbeat_s

    def _event_of(self, event: Input) -> Event:  # noqa: PLR0911  one line for each event
        match event:
            case Start():
                return Event.START
            case Stop():
                return Event.STOP
            case Opened():
                return Event.OPENED
            case Lost():
                return Event.BANNED if self._is_ban(event) else Event.LOST
            case Received(frame):
                return self._event_of_frame(frame)
            case Written():
                return Event.WRITTEN
            case Loaded():
                return Event.LOADED
            case NewToken():
                return Event.TOKEN
            case Diverged():
                return Event.DIVERGED
            case _:
                assert_never(event)

    def _event_of_frame(self, frame: object) -> Event:
        match frame:
            case Greeting(problem=None, admission=None):
                return Event.GREETED
            case Greeting(problem=None, admission=Admission() as admission) | (Admission() as admission):
                return self._event_of_admission(admission)
            case Greeting():
                return Event.REFUSED
            case Results(has_more=has_more):
                return Event.LAST_RESULTS if self._uploads.is_plain and not has_more else Event.RESULTS
            case _:
                return _FRAMES[type(frame)]

    def _event_of_admission(self, admission: Admission) -> Event:
        if admission.problem is not None:
            return Event.REFUSED
        told = parse_id(admission.user_id) if admission.user_id is not None else None
        return Event.MISOWNED if None not in {told, self._owner} and told != self._owner else Event.ADMITTED

    def _perform(  # noqa: C901, PLR0911  one line for each event
        self, event: Event, given: Input | None, now: float
    ) -> list[Effect]:
        """What an event does besides leading to a state; those of a frame are in `_perform_frame`."""
        match given:
            case Received():
                return self._perform_frame(event, given.frame, now)
            case Opened():
                return self._greet(given, now)
            case Lost():
                return self._lost(given, now) if event is Event.LOST else self._end(self._told or given.reason)
            case Loaded():
                return self._uploads.loaded(given, now, cursor=self.cursor)
            case NewToken():
                self._token = given.token
                return [self._sign_in()]
        match event:
            case Event.START | Event.RETRY:
                return self._connect()
            case Event.STOP:
                return self._end(None)
            case Event.SILENT:
                return self._lost(Lost("the server says nothing", is_odd=self._ready_at is None), now)
            case Event.LOOK_UP:
                self._ladder.look_up()
                return self._leave(now)
            case Event.DIVERGED:
                self._forget_cursor()
                return [*self._leave(now), Apply(replica.forget_cursor)]
            case Event.WRITTEN:
                return self._uploads.written(now)
            case _:
                return self._tick(now)

    def _perform_frame(  # noqa: C901, PLR0911  one line for each frame
        self, event: Event, frame: object, now: float
    ) -> list[Effect]:
        match frame:
            case Greeting() | Admission():
                return self._answered(event, frame, now)
            case Changes():
                return self._changes(frame, now)
            case Reset():
                self._check_is_due = True
                self._receipts.reset(frame.space_id)
                return [Apply(partial(replica.mark, space_id=frame.space_id))]
            case CaughtUp():
                self._is_proven = True
                self.cursor = frame.cursor or self.cursor
                checks = self._check(frame, now)
                return [Apply(partial(replica.complete, cursor=frame.cursor)), *self._synced(), *checks]
            case Results():
                receipts = frame.receipts if self._profile.entity_types is None else ()
                self._receipts.answered(receipts, now, is_in_order=self.kind is LinkKind.WEBSOCKET)
                self.rows_told += len(frame.updates) if self._uploads.is_plain else 0
                listing: list[Effect] = [ListConflicts()] if frame.omits_conflicts else []
                return [*self._uploads.results(frame, now, cursor=self.cursor), *listing, *self._synced()]
            case Failure():
                return self._failure(frame, now)
            case ConflictOpened():
                return [Apply(partial(replica.conflict_opened, conflict=frame.conflict))]
            case ConflictClosed():
                return [Apply(partial(replica.conflict_closed, conflict_id=frame.conflict_id))]
            case Ping():
                return [Send(_pong(frame)), *self._synced()]
            case Goodbye():
                self._told, self._retry_after_s = frame.reason or None, frame.retry_after_s
                return []
            case Expiring():
                return [AskToken()]
            case _:
                return self._synced()

    def _synced(self) -> list[Effect]:
        return [Synced()] if self.state is State.LIVE else []

    def _failure(self, failure: Failure, now: float) -> list[Effect]:
        effects = self._uploads.failure(failure, now)
        if effects is None:
            self._told = failure.problem.error
        return effects or []

    # --- the way to READY ------------------------------------------------------------------------------------------

    def _connect(self) -> list[Effect]:
        self._forget_link()
        needs_new_token, self._needs_new_token = self._needs_new_token, False
        return [Open(self._ladder.kind, needs_new_token)]

    def _greet(self, opened: Opened, now: float) -> list[Effect]:
        self._token = opened.token
        self._greeted_at = self._heard_at = now
        self._heartbeat_s = HEARTBEAT_S if opened.has_heartbeat else None
        wanted: Json = {"cursor": self.cursor} if self.cursor is not None else {"incremental": False}
        if self._profile.spaces is not None:
            wanted["spaces"] = list(self._profile.spaces)
        if self._profile.entity_types is not None:
            wanted["entity_types"] = list(self._profile.entity_types)
        message: Message = {
            "type": "handshake", "message_id": self._new_id(), "timestamp": self._now_text(),
            "client_id": self._profile.client_id, "client_info": dict(self._profile.info),
            "protocol_version": PROTOCOL_VERSION, "capabilities": ["batch_updates"], "token": opened.token,
            "subscriptions": wanted,
        }  # fmt: skip
        return [Send(message)]

    def _sign_in(self) -> Send:
        return Send({"type": "auth", "message_id": self._new_id(), "timestamp": self._now_text(), "token": self._token})

    def _answered(self, event: Event, frame: Greeting | Admission, now: float) -> list[Effect]:
        """The reply to the handshake or to a token."""
        admission = frame.admission if isinstance(frame, Greeting) else frame
        if isinstance(frame, Greeting) and event is not Event.REFUSED and self._ready_at is None:
            self._learn(frame)
        match event:
            case Event.GREETED:
                return [self._sign_in()]
            case Event.ADMITTED if admission is not None:
                return self._admitted(admission, now)
            case Event.MISOWNED:
                self.is_foreign = True
                return self._end(
                    f"this store belongs to user {self._owner}, the token names another: use another store"
                )
            case _:
                # not every server closes then with a code that says so
                self._needs_new_token = admission is not None and admission.problem is not None
                problem = frame.problem or (admission.problem if admission is not None else None)
                self._told = problem.error if problem is not None else None
                return []

    def _learn(self, greeting: Greeting) -> None:
        is_plain = greeting.capabilities is None or "subscribe" not in greeting.capabilities
        self._uploads.begin(greeting.limits, is_plain=is_plain)
        if self._heartbeat_s is not None:
            self._heartbeat_s = greeting.heartbeat_s or HEARTBEAT_S

    def _admitted(self, admission: Admission, now: float) -> list[Effect]:
        effects: list[Effect] = []
        self.problem, self._has_renewed = None, False
        if self._owner is None and admission.user_id is not None:
            self._owner = parse_id(admission.user_id)
            effects.append(Apply(partial(replica.own, owner=self._owner)))
        self._ready_at = now if self._ready_at is None else self._ready_at
        return effects + self._uploads.look(now)

    def _now_live(self, now: float) -> list[Effect]:
        self._ladder.worked(now)
        self.is_complete = self._is_proven = True
        if self._uploads.is_plain:
            return [Apply(partial(replica.complete, cursor=None)), Synced()]
        self._list_at = now + LISTING_S if self._heartbeat_s is None else None
        return [Synced(), ListConflicts()]

    def _check(self, frame: CaughtUp, now: float) -> list[Effect]:
        """All rows are here: they are compared with the server's, at once after a first sync or a reset."""
        is_due = self._check_is_due and not self._uploads.is_plain
        self._check_is_due = is_due and frame.receipts == ()  # it could tell none now: rows may be on their way
        if self._profile.entity_types is not None:
            return []
        self._receipts.told(frame.receipts or (), now, is_urgent=is_due)
        return [Check()] if is_due and frame.receipts is None else []

    def _changes(self, frame: Changes, now: float) -> list[Effect]:
        self.rows_told += len(frame.updates)
        self.cursor, self._is_proven = frame.cursor or self.cursor, True
        updates, is_plain = self._uploads.told(frame.updates), self._uploads.is_plain
        self._receipts.changed(updates, now)
        step = partial(replica.take, updates=updates, cursor=frame.cursor, is_plain=is_plain)
        if self.state is State.LIVE and any(update.is_revoked for update in updates):
            self._list_at = now + LISTING_SOON_S  # nobody tells that conflicts went with their space
        return [Apply(step), *self._synced()]

    # --- losing it -------------------------------------------------------------------------------------------------

    def _is_ban(self, lost: Lost) -> bool:
        if lost.code not in _STOP:
            return False
        if lost.code == _UNAUTHORIZED and self._profile.can_renew and not self._has_renewed:
            return False  # the function may know a better token
        return not (lost.code == _BAD_FRAME and self._uploads.is_under_way)  # what was sent is at fault, not all of it

    def _lost(self, lost: Lost, now: float) -> list[Effect]:
        effects: list[Effect] = [Close()]
        if lost.code in _DISCARD_CURSOR:
            effects.append(Apply(replica.forget_cursor))
            self._forget_cursor()
        if lost.code in _NEW_TOKEN or lost.code == _UNAUTHORIZED or lost.is_unauthorized:
            self._needs_new_token, self._has_renewed = True, lost.code == _UNAUTHORIZED
        if lost.code == _BAD_FRAME:
            effects += self._uploads.blame(Problem(error=lost.reason, error_code="VALIDATION_ERROR"))
        if not self._is_proven:
            self._ladder.failed(is_odd=lost.is_odd)
        if self._ready_at is not None and now - self._ready_at >= GOOD_AFTER_S:
            self._attempts = 0
        at_least_s = lost.retry_after_s if lost.retry_after_s is not None else self._retry_after_s
        self._retry_at = now + pause(self._attempts, chance=self._chance(), at_least_s=at_least_s)
        self._retry_after_s = None
        self._attempts += 1
        self.problem = self._told or lost.reason
        self._forget_link()
        return effects

    def _forget_cursor(self) -> None:
        self.cursor, self._uploads.synced_at, self._check_is_due = None, None, True

    def _leave(self, now: float) -> list[Effect]:
        """Connect anew at once."""
        self._forget_link()
        self._retry_at = now
        return [Close()]

    def _end(self, problem: str | None) -> list[Effect]:
        self.problem, self._needs_new_token = problem, problem is not None
        self._forget_link()
        return [Close()]

    def _tick(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if self._heartbeat_s is not None and self._pinged_at is None and now >= self._heard_at + self._heartbeat_s:
            self._pinged_at = now
            effects.append(Send({"type": "ping", "timestamp": self._now_text()}))
        if self._list_at is not None and now >= self._list_at:
            self._list_at = now + LISTING_S if self._heartbeat_s is None else None
            effects.append(ListConflicts())
        if self.state is State.LIVE and self._uploads.is_at_rest and (receipts := self._receipts.taken(now)):
            effects.append(Check(receipts))
        return effects + self._uploads.tick(now)


_NEW_TOKEN = range(4200, 4300)
_DISCARD_CURSOR = range(4300, 4400)
_STOP = range(4500, 4600)
_UNAUTHORIZED = 4500
_BAD_FRAME = 4502
"""Ranges and codes of closes (protocol, section 9)."""

_FRAMES: dict[type, Event] = {
    Expiring: Event.EXPIRING, Changes: Event.CHANGES, Reset: Event.RESET, CaughtUp: Event.CAUGHT_UP,
    ConflictOpened: Event.CONFLICT, ConflictClosed: Event.CONFLICT, Ping: Event.PING, Heard: Event.HEARD,
    Failure: Event.FAILURE, Goodbye: Event.GOODBYE,
}  # fmt: skip


def _pong(ping: Ping) -> Message:
    given = {"message_id": ping.message_id, "timestamp": ping.timestamp}
    return {"type": "pong", **{name: value for name, value in given.items() if value is not None}}

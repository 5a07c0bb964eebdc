"""The laws M1 to M7 of `machine`, on random events; the steps it asks for are done on a store in memory."""

from typing import Any

from hypothesis import event as note
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sync_client import replica, views
from sync_client.events import (
    Apply,
    Close,
    Diverged,
    Effect,
    Input,
    Load,
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
    Frame,
    Goodbye,
    Greeting,
    Heard,
    Limits,
    Message,
    Ping,
    Receipt,
    Reset,
    Results,
)
from sync_client.ladder import Ladder
from sync_client.machine import Machine
from sync_client.states import TABLE, Event, State
from sync_client.stores.memory import MemoryTables
from sync_client.values import Problem, WireId

from clients.python.tests.builders import AT, applied, conflict, create, refused, reply, told

READY = {State.CATCHING_UP, State.LIVE}
CODES = (1000, 1006, 4000, 4002, 4100, 4101, 4102, 4200, 4201, 4202, 4300, 4301, 4500, 4501, 4502, 4503, 4504, 4505)
problems = st.sampled_from(("VALIDATION_ERROR", "SYNC_ERROR", "UNAUTHORIZED", "RATE_LIMIT_EXCEEDED")).map(
    lambda code: Problem(error="no", error_code=code)
)
seconds = st.one_of(st.none(), st.floats(0, 30))
cursors = st.sampled_from(("c1", "c2", "c3"))
capabilities = st.sampled_from((None, frozenset[str](), frozenset({"subscribe"})))
users: st.SearchStrategy[WireId | None] = st.sampled_from((1, 1, 1, 2, None))
admissions = st.builds(Admission, users, st.one_of(st.none(), st.none(), problems))
greetings: st.SearchStrategy[Frame] = st.builds(
    Greeting, capabilities, st.builds(Limits, st.just(262_144), st.integers(1, 5)), st.sampled_from((None, 20.0)),
    st.one_of(st.none(), admissions), st.one_of(st.none(), st.none(), problems),
)  # fmt: skip
changes: st.SearchStrategy[Frame] = st.builds(
    Changes, st.lists(st.builds(told, st.sampled_from("ab"), st.integers(1, 9)), max_size=2), cursors
)
news: st.SearchStrategy[Frame] = st.one_of(
    changes,
    st.builds(CaughtUp, cursors, st.sampled_from((None, (), (Receipt("u-1", 5, 7),)))),
    st.just(Expiring()),
    st.builds(Reset, st.sampled_from((None, "u-1"))),
    st.just(ConflictOpened(conflict())),
    st.just(ConflictClosed("c1")),
    st.just(Ping("m", None)),
    st.just(Heard()),
    st.builds(Failure, st.none(), problems, st.booleans(), seconds),
    st.builds(Goodbye, st.just("the server restarts"), seconds),
)
losses = st.builds(
    Lost, st.just("gone"), st.one_of(st.none(), st.sampled_from(CODES)), st.booleans(), st.booleans(), seconds
)

stray: st.SearchStrategy[Input] = st.one_of(
    st.just(Start()),
    st.just(Stop()),
    st.just(NewToken("token")),
    st.just(Written()),
    st.just(Diverged()),
    st.builds(Loaded, st.integers(0, 9), st.just([]), st.just(True)),
    losses,
    st.builds(Received, st.one_of(greetings, admissions, news, st.builds(reply, has_more=st.booleans()))),
)
"""What may come in any state."""

OF_INPUTS: dict[type, Event] = {
    Start: Event.START, Stop: Event.STOP, Opened: Event.OPENED, Written: Event.WRITTEN, Loaded: Event.LOADED,
    NewToken: Event.TOKEN, Diverged: Event.DIVERGED,
}  # fmt: skip
OF_FRAMES: dict[type, Event] = {
    Expiring: Event.EXPIRING, Changes: Event.CHANGES, Reset: Event.RESET, CaughtUp: Event.CAUGHT_UP,
    ConflictOpened: Event.CONFLICT, ConflictClosed: Event.CONFLICT, Ping: Event.PING, Heard: Event.HEARD,
    Failure: Event.FAILURE, Goodbye: Event.GOODBYE,
}  # fmt: skip
OF_TIME: dict[State, set[Event]] = {
    State.WAITING: {Event.RETRY}, State.GREETING: {Event.SILENT}, State.SIGNING_IN: {Event.SILENT},
    State.CATCHING_UP: {Event.TICK, Event.SILENT}, State.LIVE: {Event.TICK, Event.SILENT, Event.LOOK_UP},
}  # fmt: skip

AWAY = Problem(error="the database is away", error_code="SYNC_ERROR")


def numbered(entity_id: str) -> int:
    return int(entity_id[1:])


def numbers_of(sync: Message) -> set[int]:
    """The entities that a request is about, by their numbers."""
    return {numbered(form["entity_id"]) for form in sync["data"]["operations"]}


class MachineLaws(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.count = 0
        self.tables = MemoryTables()
        self.machine = Machine(
            Profile("client_a", can_renew=True), Resume(), ladder=Ladder(), new_id=self.named, chance=lambda: 0.5,
            now_text=lambda: AT,
        )  # fmt: skip
        self.is_admitted = False
        self.is_open = False
        self.under_way: Message | None = None
        self.loads: list[int] = []
        self.banned = False
        self.owed: set[int] = set()
        """What was under way when a link was lost, and was not sent again yet."""
        self.is_pushed = False
        """The newest cursor came with changes."""

    def named(self) -> str:
        self.count += 1
        return f"m{self.count}"

    # --- the shell -------------------------------------------------------------------------------------------------

    def tell(self, event: Input) -> None:
        before, events = self.machine.state, self.events_of(event)
        effects = self.machine.handle(event, self.now)
        self.followed_the_table(before, events, effects)
        self.perform(effects)

    def tick(self) -> None:
        before, deadline = self.machine.state, self.machine.deadline
        is_due = deadline is not None and deadline <= self.now
        effects = self.machine.tick(self.now)
        self.followed_the_table(before, OF_TIME[before] if is_due else set(), effects)
        self.perform(effects)

    def followed_the_table(self, before: State, events: set[Event], effects: list[Effect]) -> None:
        """M1"""
        following = {TABLE[before][event] for event in events} - {None}
        if following:
            assert self.machine.state in following
        else:
            assert (self.machine.state, effects) == (before, [])

    def events_of(self, event: Input) -> set[Event]:  # noqa: PLR0911  one line for each event
        match event:
            case Lost(code=4500):
                return {Event.LOST, Event.BANNED}  # the second time in a row
            case Lost(code=code):
                is_at_fault = code == 4502 and self.under_way is not None
                return {Event.BANNED if code in range(4501, 4600) and not is_at_fault else Event.LOST}
            case Received(Greeting(problem=None, admission=None)):
                return {Event.GREETED}
            case Received(Greeting(problem=None, admission=Admission() as admission) | (Admission() as admission)):
                return {self.event_of_admission(admission)}
            case Received(Greeting()):
                return {Event.REFUSED}
            case Received(Results(has_more=has_more)):
                return {Event.LAST_RESULTS if self.machine.is_plain and not has_more else Event.RESULTS}
            case Received(frame):
                return {OF_FRAMES[type(frame)]}
            case _:
                return {OF_INPUTS[type(event)]}

    def event_of_admission(self, admission: Admission) -> Event:
        if admission.problem is not None:
            return Event.REFUSED
        owner = self.tables.value(views.OWNER)
        is_other = admission.user_id is not None and owner is not None and str(admission.user_id) != owner
        return Event.MISOWNED if is_other else Event.ADMITTED

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Apply(step):
                    step(self.tables)
                case Send(message):
                    self.sent(message)
                case Load(after):
                    self.loads.append(after)
                case Open():
                    assert not self.banned, "M6"
                    self.is_open = False
                case Close():
                    self.closed()
                case _:
                    pass

    def closed(self) -> None:
        if self.under_way is not None:
            self.owed |= numbers_of(self.under_way)
        self.is_admitted, self.is_open, self.under_way = False, False, None
        self.loads.clear()

    def sent(self, message: Message) -> None:
        assert self.is_open
        match message["type"]:
            case "handshake":
                cursor = message["subscriptions"].get("cursor")
                assert cursor == self.tables.value(views.CURSOR), "M4"
                note(f"handshake with {'no' if cursor is None else 'a'} cursor")
                if self.is_pushed:
                    note("handshake with a pushed cursor")
            case "sync":
                assert self.is_admitted, "M3"
                assert self.under_way is None, "M2"
                self.sent_again(numbers_of(message))
                self.under_way = message
                note("sync")
            case "ping":
                assert self.is_admitted, "M3"
            case kind:
                assert kind in {"auth", "pong"}

    def sent_again(self, numbers: set[int]) -> None:
        """M2: what had no reply goes up before anything behind it."""
        self.owed &= self.waiting
        late = self.owed - numbers
        assert not late or not numbers or max(numbers) < min(late), "M2"
        if self.owed & numbers:
            note("sync that sends again")
        self.owed -= numbers

    @property
    def waiting(self) -> set[int]:
        """What is in the queue, by the numbers of its entities, which grow along it."""
        return {numbered(one.entity_id) for one in views.waiting(self.tables, after=0, limit=1_000)}

    # --- what happens ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.machine.state in {State.IDLE, State.WAITING, State.STOPPED})
    @rule()
    def start(self) -> None:
        self.banned = False
        self.tell(Start())

    @precondition(lambda self: self.machine.state is State.CONNECTING)
    @rule(has_heartbeat=st.booleans())
    def opened(self, *, has_heartbeat: bool) -> None:
        self.is_open = self.is_open or self.machine.state is State.CONNECTING
        self.tell(Opened("token", has_heartbeat))

    @precondition(lambda self: self.machine.state is State.WAITING)
    @rule(frame=st.one_of(news, greetings))
    def opened_and_told(self, frame: Frame) -> None:
        """M1: nothing of the feed is taken before the token was."""
        self.start()
        self.opened(has_heartbeat=True)
        self.received(frame)

    @rule(event=stray, chance=st.integers(0, 3))
    def out_of_turn(self, event: Input, chance: int) -> None:
        """M1: anything, whenever it may come."""
        if chance:
            return
        if isinstance(event, Start):
            self.start()
        elif isinstance(event, Received):
            self.received(event.frame)
        else:
            self.tell(event)
            self.banned = self.machine.state is State.STOPPED

    @initialize(can_subscribe=st.booleans(), catches_up=st.booleans())
    def begins_ready(self, *, can_subscribe: bool, catches_up: bool) -> None:
        self.becomes_ready(can_subscribe=can_subscribe, catches_up=catches_up)

    @precondition(lambda self: self.machine.state not in READY)
    @rule(can_subscribe=st.booleans(), catches_up=st.booleans())
    def becomes_ready(self, *, can_subscribe: bool, catches_up: bool) -> None:
        """The whole way in one rule, as chance alone seldom finds it."""
        self.start()
        self.opened(has_heartbeat=True)
        names = frozenset({"subscribe"}) if can_subscribe else None
        self.received(Greeting(names, Limits(), 20.0, Admission(1, None), None))
        if catches_up:
            self.received(CaughtUp("c1"))

    @precondition(lambda self: self.machine.state not in {State.IDLE, State.WAITING, State.STOPPED})
    @rule(lost=losses, chance=st.integers(0, 2))
    def lost(self, lost: Lost, chance: int) -> None:
        if chance:
            return
        self.tell(lost)
        self.banned = self.machine.state is State.STOPPED

    @precondition(lambda self: self.machine.state in {State.GREETING, State.SIGNING_IN})
    @rule(frame=st.one_of(greetings, admissions, news))
    def answered_by(self, frame: Frame) -> None:
        self.received(frame)

    @precondition(lambda self: self.machine.state in READY)
    @rule(frame=news)
    def told(self, frame: Frame) -> None:
        self.received(frame)

    def received(self, frame: Frame) -> None:
        admission = frame.admission if isinstance(frame, Greeting) else frame
        is_refused = isinstance(frame, Greeting) and frame.problem is not None
        if isinstance(admission, Admission) and admission.problem is None and not is_refused:
            self.is_admitted = True
        before = self.machine.state
        if before in READY and isinstance(frame, Changes | CaughtUp):
            self.is_pushed = isinstance(frame, Changes)
        self.tell(Received(frame))
        self.is_admitted = self.machine.state in READY
        if before is not State.STOPPED and self.machine.state is State.STOPPED:
            self.banned = True

    @precondition(lambda self: self.machine.state in READY)
    @rule(number=st.integers(1, 3), is_sent=st.booleans())
    def write(self, number: int, *, is_sent: bool) -> None:
        for _ in range(number):
            replica.append(self.tables, [create(self.named(), self.named(), title="x")])
        self.tell(Written())
        while is_sent and self.loads:
            self.loaded()

    @precondition(lambda self: self.machine.state in READY)
    @rule(frame=changes, can_subscribe=st.booleans(), is_sent=st.booleans())
    def is_cut_and_comes_back(self, frame: Frame, *, can_subscribe: bool, is_sent: bool) -> None:
        self.received(frame)
        self.tell(Lost("cut"))
        self.becomes_ready(can_subscribe=can_subscribe, catches_up=False)
        while is_sent and self.loads:
            self.loaded()

    @precondition(lambda self: self.loads)
    @rule()
    def loaded(self) -> None:
        after = self.loads.pop()
        operations = views.waiting(self.tables, after=after, limit=4)
        self.tell(Loaded(after, operations, len(operations) < 4))

    @precondition(lambda self: self.under_way is not None)
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        assert self.under_way is not None
        message, self.under_way = self.under_way, None
        results = []
        for form in message["data"]["operations"]:
            one = create(form["operation_id"], form["entity_id"])
            outcome = data.draw(st.sampled_from(("applied", "refused", "later", "bare", "none")))
            if outcome in {"applied", "bare"}:
                results.append(applied(one, 1, {"title": "x"}, has_data=outcome == "applied"))
            elif outcome != "none":
                results.append(refused(one, "SYNC_ERROR" if outcome == "later" else "VALIDATION_ERROR"))
        has_more = data.draw(st.booleans())
        note("results")
        self.tell(Received(reply(*results, message_id=message["message_id"], has_more=has_more)))

    @precondition(lambda self: self.under_way is not None)
    @rule(problem=problems, retryable=st.booleans(), after=seconds)
    def failed(self, *, problem: Problem, retryable: bool, after: float | None) -> None:
        assert self.under_way is not None
        message, self.under_way = self.under_way, None
        self.tell(Received(Failure(message["message_id"], problem, retryable, after)))

    @precondition(lambda self: self.machine.state in READY and len(self.waiting) > 1)
    @rule(data=st.data(), whole=st.booleans())
    def one_fails_again_and_again(self, data: st.DataObject, *, whole: bool) -> None:
        """M7: others go on.

        Args:
            whole: the server fails the request, not the operation.
        """
        fails = data.draw(st.sampled_from(sorted(self.waiting)))
        note(f"one {'request' if whole else 'operation'} fails again and again")
        for _ in range(60 + 30 * len(self.waiting)):
            if not self.waiting - {fails} or self.machine.state not in READY:
                return
            self.serve(fails, whole=whole)
        raise AssertionError("M7")

    def serve(self, fails: int, *, whole: bool) -> None:
        """One step of a server that does everything else."""
        self.received(Heard())
        if self.loads:
            self.loaded()
        elif self.under_way is None:
            self.the_deadline_comes()
        else:
            message, self.under_way = self.under_way, None
            forms = message["data"]["operations"]
            if whole and fails in numbers_of(message):
                self.tell(Received(Failure(message["message_id"], AWAY, True, None)))
                return
            done = [create(form["operation_id"], form["entity_id"]) for form in forms]
            results = [
                refused(one, "SYNC_ERROR") if numbered(one.entity_id) == fails else applied(one, 1, {"title": "x"})
                for one in done
            ]
            self.tell(Received(reply(*results, message_id=message["message_id"])))

    @rule(later=st.floats(0.001, 30))
    def time_passes(self, later: float) -> None:
        self.now += later
        self.tick()

    @rule()
    def the_deadline_comes(self) -> None:
        if self.machine.deadline is not None:
            self.now = max(self.now, self.machine.deadline)
        ticks = 0
        while self.machine.deadline is not None and self.machine.deadline <= self.now and not self.loads:
            ticks += 1
            assert ticks < 4, "it would spin"
            self.tick()

    # --- laws ------------------------------------------------------------------------------------------------------

    @invariant()
    def it_is_woken_where_it_waits(self) -> None:
        """M5"""
        deadline: Any = self.machine.deadline
        if self.machine.state in {State.WAITING, State.GREETING, State.SIGNING_IN}:
            assert deadline is not None

    @invariant()
    def a_ban_holds(self) -> None:
        """M6"""
        assert not self.banned or self.machine.state in {State.STOPPED, State.IDLE}

    @invariant()
    def what_is_written_is_sent(self) -> None:
        """M5: with a connection and a queue, something is under way, looked for, or has its moment."""
        waiting = self.tables.counts().pending and self.machine.state in READY
        assert not waiting or self.under_way is not None or self.loads or self.machine.deadline is not None


TestMachineLaws = MachineLaws.TestCase
TestMachineLaws.settings = settings(max_examples=350, stateful_step_count=40, deadline=None)

"""The laws M1 to M6 of `machine`, on random events; the steps it asks for are done on a store in memory."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
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
    Received,
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
    Reset,
)
from sync_client.ladder import Ladder
from sync_client.machine import Machine, Profile, Resume
from sync_client.states import State
from sync_client.stores.memory import MemoryTables, _State
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
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(
        Greeting, capabilities, st.builds(Limits, st.just(262_144), st.integers(1, 5)), st.sampled_from((None, 20.0)),
        st.one_of(st.none(), admissions), st.one_of(st.none(), st.none(), problems),
    ),
    admissions,
    st.just(Expiring()),
    st.builds(Changes, st.lists(st.builds(told, st.sampled_from("ab"), st.integers(1, 9)), max_size=2), cursors),
    st.builds(Reset, st.sampled_from((None, "u-1"))),
    st.builds(CaughtUp, cursors),
    st.just(ConflictOpened(conflict())),
    st.just(ConflictClosed("c1")),
    st.just(Ping("m", None)),
    st.just(Heard()),
    st.builds(Failure, st.none(), problems, st.booleans(), seconds),
    st.builds(Goodbye, st.just("the server restarts"), seconds),
)  # fmt: skip
losses = st.builds(
    Lost, st.just("gone"), st.one_of(st.none(), st.sampled_from(CODES)), st.booleans(), st.booleans(), seconds
)


class MachineLaws(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.count = 0
        self.tables = MemoryTables(_State())
        self.machine = Machine(
            Profile("client_a", can_renew=True), Resume(), ladder=Ladder(), new_id=self.named, chance=lambda: 0.5,
            now_text=lambda: AT,
        )  # fmt: skip
        self.is_admitted = False
        self.is_open = False
        self.under_way: Message | None = None
        self.loads: list[int] = []
        self.banned = False

    def named(self) -> str:
        self.count += 1
        return f"m{self.count}"

    # --- the shell -------------------------------------------------------------------------------------------------

    def tell(self, event: Input) -> None:
        self.perform(self.machine.handle(event, self.now))

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
                    self.is_admitted, self.is_open, self.under_way = False, False, None
                    self.loads.clear()
                case _:
                    pass

    def sent(self, message: Message) -> None:
        assert self.is_open
        match message["type"]:
            case "handshake":
                assert message["subscriptions"].get("cursor") == self.tables.value(views.CURSOR), "M4"
            case "sync":
                assert self.is_admitted, "M3"
                assert self.under_way is None, "M2"
                self.under_way = message
            case "ping":
                assert self.is_admitted, "M3"
            case kind:
                assert kind in {"auth", "pong"}

    # --- what happens ----------------------------------------------------------------------------------------------

    @rule()
    def start(self) -> None:
        self.banned = False
        self.tell(Start())

    @rule(stops=st.integers(0, 9))
    def stop(self, stops: int) -> None:
        if stops == 0:
            self.tell(Stop())

    @rule(has_heartbeat=st.booleans())
    def opened(self, *, has_heartbeat: bool) -> None:
        self.is_open = self.is_open or self.machine.state is State.CONNECTING
        self.tell(Opened("token", has_heartbeat))

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

    @rule(lost=losses, chance=st.integers(0, 5))
    def lost(self, lost: Lost, chance: int) -> None:
        if chance:
            return
        self.tell(lost)
        self.banned = self.machine.state is State.STOPPED

    @rule(frame=frames)
    def received(self, frame: Frame) -> None:
        admission = frame.admission if isinstance(frame, Greeting) else frame
        is_refused = isinstance(frame, Greeting) and frame.problem is not None
        if isinstance(admission, Admission) and admission.problem is None and not is_refused:
            self.is_admitted = True
        before = self.machine.state
        self.tell(Received(frame))
        self.is_admitted = self.machine.state in READY
        if before is not State.STOPPED and self.machine.state is State.STOPPED:
            self.banned = True

    @precondition(lambda self: self.machine.state in READY)
    @rule(number=st.integers(1, 3))
    def write(self, number: int) -> None:
        for _ in range(number):
            replica.append(self.tables, [create(self.named(), self.named(), title="x")])
        self.tell(Written())

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
        self.tell(Received(reply(*results, message_id=message["message_id"], has_more=has_more)))

    @precondition(lambda self: self.under_way is not None)
    @rule(problem=problems, retryable=st.booleans(), after=seconds)
    def failed(self, *, problem: Problem, retryable: bool, after: float | None) -> None:
        assert self.under_way is not None
        message, self.under_way = self.under_way, None
        self.tell(Received(Failure(message["message_id"], problem, retryable, after)))

    @rule()
    def new_token(self) -> None:
        self.tell(NewToken("token"))

    @rule(chance=st.integers(0, 9))
    def diverged(self, chance: int) -> None:
        if chance == 0:
            self.tell(Diverged())

    @rule(later=st.floats(0.001, 30))
    def time_passes(self, later: float) -> None:
        self.now += later
        self.perform(self.machine.tick(self.now))

    @rule()
    def the_deadline_comes(self) -> None:
        if self.machine.deadline is not None:
            self.now = max(self.now, self.machine.deadline)
        ticks = 0
        while self.machine.deadline is not None and self.machine.deadline <= self.now and not self.loads:
            ticks += 1
            assert ticks < 4, "it would spin"
            self.perform(self.machine.tick(self.now))

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
TestMachineLaws.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)

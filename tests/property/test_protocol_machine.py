"""Laws of the machine: no sequence of frames and moments breaks it, and it is silent after its last word."""

import json
from math import inf
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync_server.protocol.client_messages import CLIENT_MESSAGES
from sync_server.protocol.codec import JSON
from sync_server.protocol.machine import Close, Command, Deliver, Machine, MachineLimits, Send
from sync_server.protocol.states import State

LIMITS = MachineLimits(frames_per_second=5, frames_burst=20, max_message_bytes=2_000, unauthenticated_frame_bytes=500)
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.floats()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
)
MEMBERS = [
    "message_id",
    "timestamp",
    "client_id",
    "token",
    "data",
    "resolution",
    "space_id",
    "state",
    "protocol_version",
]
GOOD: list[dict[str, Any]] = [
    {"type": "handshake", "client_id": "c"},
    {"type": "auth", "token": "t"},
    {"type": "sync", "data": {"client_id": "c"}},
    {"type": "subscribe"},
    {"type": "ping", "timestamp": "2024-01-10T10:00:30Z"},
    {"type": "pong"},
]
MESSAGES = st.builds(
    lambda kind, members: {"type": kind} | members,
    st.sampled_from([*CLIENT_MESSAGES, "dance", None, 7]),
    st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=4),
)
FRAMES = (
    (st.sampled_from(GOOD) | MESSAGES).map(json.dumps)
    | st.text(max_size=30)
    | st.binary(max_size=10)
    | st.integers(400, 2_100).map(lambda length: '{"type":"ping"' + " " * length + "}")
)
PAUSES_S = st.sampled_from([0.0, 0.001, 0.5, 4.0, 10.0, 25.0, 40.0]) | st.floats(0, 100)
STEPS = st.lists(
    st.tuples(
        PAUSES_S,
        st.one_of(
            st.tuples(st.just("frame"), FRAMES),
            st.tuples(st.just("tick"), st.none()),
            st.tuples(st.just("drain"), st.none()),
            st.tuples(st.just("closed"), st.none()),
        ),
    ),
    max_size=60,
)


def play(machine: Machine, step: str, frame: Any, now: float) -> list[Command]:
    """One step, with a shell that accepts every handshake and every token."""
    match step:
        case "frame":
            commands = machine.receive(frame, now=now)
        case "tick":
            commands = machine.tick(now)
        case "drain":
            commands = machine.drain()
        case _:
            machine.closed()
            commands = []
    for command in commands:
        if isinstance(command, Deliver):
            accept(machine, command, now)
    return commands


def accept(machine: Machine, delivered: Deliver, now: float) -> None:
    if machine.state is State.OPENING:
        machine.greeted()
    elif delivered.message.model_dump()["type"] == "auth":
        machine.authenticated(expires_at=now + 90.0, expires_at_text="soon", now=now)


class TestAnyConversation:
    @given(steps=STEPS)
    def test_ends_with_its_close(self, steps: list[tuple[float, tuple[str, Any]]]) -> None:
        machine, now, ended = Machine(JSON, LIMITS, now=0.0), 0.0, False
        for pause_s, (step, frame) in steps:
            now += pause_s
            commands = play(machine, step, frame, now)
            assert not (ended and commands)
            assert not any(isinstance(command, Close) for command in commands[:-1])
            ended = ended or step == "closed" or any(isinstance(command, Close) for command in commands)

    @given(steps=STEPS)
    def test_says_goodbye_right_before_its_close(self, steps: list[tuple[float, tuple[str, Any]]]) -> None:
        machine, now = Machine(JSON, LIMITS, now=0.0), 0.0
        said: list[Command] = []
        for pause_s, (step, frame) in steps:
            now += pause_s
            said += play(machine, step, frame, now)
        closes = [position for position, command in enumerate(said) if isinstance(command, Close)]
        assert closes in ([], [len(said) - 1])
        for position in closes:
            before, close = said[position - 1], said[position]
            assert isinstance(before, Send)
            assert isinstance(close, Close)
            assert (before.message["type"], before.message["code"]) == ("goodbye", close.code)

    @given(steps=STEPS)
    def test_can_be_encoded(self, steps: list[tuple[float, tuple[str, Any]]]) -> None:
        machine, now = Machine(JSON, LIMITS, now=0.0), 0.0
        for pause_s, (step, frame) in steps:
            now += pause_s
            for command in play(machine, step, frame, now):
                assert not isinstance(command, Send) or JSON.encode(command.message)

    @given(steps=STEPS)
    def test_has_something_to_say_at_every_deadline_and_never_before(
        self, steps: list[tuple[float, tuple[str, Any]]]
    ) -> None:
        machine, now = Machine(JSON, LIMITS, now=0.0), 0.0
        for pause_s, (step, frame) in steps:
            while machine.deadline <= now + pause_s:
                now = max(now, machine.deadline)
                assert machine.tick(now) != []
                assert machine.deadline > now
            now += pause_s
            assert machine.tick(now) == []
            play(machine, step, frame, now)

    @given(steps=STEPS)
    def test_is_over_in_the_end_when_the_peer_falls_silent(self, steps: list[tuple[float, tuple[str, Any]]]) -> None:
        machine, now = Machine(JSON, LIMITS, now=0.0), 0.0
        for pause_s, (step, frame) in steps:
            now += pause_s
            play(machine, step, frame, now)
        ticks = 0
        while machine.deadline < inf:
            machine.tick(max(now, machine.deadline))
            ticks += 1
        assert ticks <= 4
        assert machine.state in {State.DRAINING, State.CLOSED}

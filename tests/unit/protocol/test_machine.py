"""One connection as a machine: frames and moments in, commands out."""

from math import inf
from typing import Any

import orjson
import pytest

from sync_server.errors import CloseCode
from sync_server.protocol.client_messages import CLIENT_MESSAGES, Auth, Handshake, Sync
from sync_server.protocol.codec import JSON, MSGPACK
from sync_server.protocol.machine import (
    MAX_REASON_BYTES,
    Close,
    Command,
    Deliver,
    IllegalEventError,
    Machine,
    MachineLimits,
    Send,
)
from sync_server.protocol.states import MESSAGES, Answer, State

LIMITS = MachineLimits()
MEMBERS: dict[str, dict[str, Any]] = {
    "handshake": {"client_id": "client_abc123"},
    "auth": {"token": "t"},
    "sync": {"data": {"client_id": "client_abc123"}},
    "conflict": {"resolution": {"conflict_id": "conflict_001", "strategy": "merge"}},
    "subscribe": {},
    "presence": {"space_id": "u-1", "state": None},
    "ping": {},
    "pong": {},
}
EXPIRES_TEXT = "2024-01-10T11:00:00Z"


def frame(message_type: str, **members: Any) -> str:
    return orjson.dumps({"type": message_type} | MEMBERS[message_type] | members).decode()


def machine_in(state: State, *, limits: MachineLimits = LIMITS, expires_at: float = inf) -> Machine:
    machine = Machine(JSON, limits, now=0.0)
    if state in {State.GREETED, State.READY}:
        machine.greeted()
    if state is State.READY:
        machine.authenticated(expires_at=expires_at, expires_at_text=EXPIRES_TEXT, now=0.0)
    if state is State.DRAINING:
        machine.drain()
    if state is State.CLOSED:
        machine.closed()
    return machine


def types(commands: list[Command]) -> list[str]:
    """What is sent by its type, what is delivered as "deliver", a close by its code."""
    return [_type(command) for command in commands]


def _type(command: Command) -> str:
    match command:
        case Send(message):
            return str(message["type"])
        case Deliver():
            return "deliver"
        case Close(code):
            return str(int(code))


def sent(command: Command) -> dict[str, Any]:
    assert isinstance(command, Send)
    return command.message


class TestTheMachine:
    @pytest.mark.parametrize("state", list(State))
    @pytest.mark.parametrize("message_type", list(CLIENT_MESSAGES))
    def test_does_with_each_message_what_the_table_says(self, state: State, message_type: str) -> None:
        told = {
            Answer.DELIVER: ["deliver"],
            Answer.PONG: ["pong"],
            Answer.TAKE: [],
            Answer.REFUSE: ["error", "goodbye", "4502"],
            Answer.DROP: [],
        }
        commands = machine_in(state).receive(frame(message_type), now=1.0)
        assert types(commands) == told[MESSAGES[state][message_type]]

    def test_holds_no_dictionary(self) -> None:
        assert not hasattr(machine_in(State.OPENING), "__dict__")

    def test_speaks_the_codec_it_was_given(self) -> None:
        machine = Machine(MSGPACK, LIMITS, now=0.0)
        assert types(machine.receive(MSGPACK.encode({"type": "ping"}), now=0.0)) == ["pong"]
        assert types(machine.receive(frame("ping"), now=0.0)) == ["error", "goodbye", "4502"]

    def test_stamps_nothing(self) -> None:
        commands = machine_in(State.READY).receive("{", now=1.0)
        assert all("timestamp" not in sent(command) for command in commands[:-1])


class TestAHandshake:
    def test_is_delivered_as_a_model(self) -> None:
        (command,) = machine_in(State.OPENING).receive(frame("handshake", message_id="m1"), now=1.0)
        assert isinstance(command, Deliver)
        assert command.message == Handshake(type="handshake", client_id="client_abc123", message_id="m1")

    def test_alone_does_not_change_the_state(self) -> None:
        machine = machine_in(State.OPENING)
        machine.receive(frame("handshake"), now=1.0)
        assert machine.state is State.OPENING

    @pytest.mark.parametrize("version", ["2.0.0", "0.9", "latest", "", 1, None, ["1.0.0"]])
    def test_of_another_major_version_is_terminal(self, version: object) -> None:
        machine = machine_in(State.OPENING)
        reply, goodbye, close = machine.receive(frame("handshake", message_id="m1", protocol_version=version), now=1.0)
        assert sent(reply) == {
            "type": "handshake",
            "message_id": "m1",
            "success": False,
            "protocol_version": "1.0.0",
            "error": "This protocol version is not supported.",
            "error_code": "VALIDATION_ERROR",
            "supported_versions": ["1.0.0"],
        }
        assert sent(goodbye)["reconnect"] is False
        assert close == Close(CloseCode.UNSUPPORTED_VERSION, "This protocol version is not supported.")

    def test_of_another_major_version_need_not_have_our_shape(self) -> None:
        commands = machine_in(State.OPENING).receive('{"type":"handshake","protocol_version":"2.0.0"}', now=1.0)
        assert types(commands) == ["handshake", "goodbye", "4503"]

    @pytest.mark.parametrize("version", ["1.0.0", "1.9.9", "1"])
    def test_of_the_same_major_version_is_delivered(self, version: str) -> None:
        assert types(machine_in(State.OPENING).receive(frame("handshake", protocol_version=version), now=1.0)) == [
            "deliver"
        ]

    def test_with_a_wrong_field_is_terminal(self) -> None:
        error, _, close = machine_in(State.OPENING).receive(frame("handshake", client_id=7, message_id="m1"), now=1.0)
        assert sent(error)["details"] == {"field": "client_id", "problem": "must be a string"}
        assert sent(error)["message_id"] == "m1"
        assert isinstance(close, Close)
        assert close.code is CloseCode.BAD_FRAME


class TestAPing:
    def test_is_answered_with_its_own_timestamp(self) -> None:
        commands = machine_in(State.READY).receive(frame("ping", timestamp="2024-01-10T10:00:30Z"), now=1.0)
        assert commands == [Send({"type": "pong", "timestamp": "2024-01-10T10:00:30Z"})]

    def test_is_answered_with_its_own_message_id(self) -> None:
        commands = machine_in(State.READY).receive(frame("ping", message_id="m1"), now=1.0)
        assert commands == [Send({"type": "pong", "message_id": "m1"})]

    def test_with_a_wrong_field_is_an_error(self) -> None:
        commands = machine_in(State.READY).receive(frame("ping", timestamp=7), now=1.0)
        assert types(commands) == ["error"]


class TestABadMessageInReady:
    @pytest.mark.parametrize(
        ("text", "field", "problem"),
        [
            ('{"message_id":"m1"}', "type", "is required"),
            ('{"message_id":"m1","type":null}', "type", "is required"),
            ('{"message_id":"m1","type":"dance"}', "type", "is no message type of this protocol"),
            ('{"message_id":"m1","type":["sync"]}', "type", "is no message type of this protocol"),
            ('{"message_id":"m1","type":"sync"}', "data", "is required"),
            (
                '{"message_id":"m1","type":"sync","data":{"client_id":"c","operations":7}}',
                "data.operations",
                "must be a list",
            ),
        ],
    )
    def test_is_told_and_the_connection_stays(self, text: str, field: str, problem: str) -> None:
        machine = machine_in(State.READY)
        (error,) = machine.receive(text, now=1.0)
        assert sent(error)["error_code"] == "VALIDATION_ERROR"
        assert sent(error)["details"] == {"field": field, "problem": problem}
        assert sent(error)["message_id"] == "m1"
        assert machine.state is State.READY

    @pytest.mark.parametrize("message_id", [7, None, "x" * 129, ["m1"]])
    def test_with_a_wrong_message_id_gets_none_back(self, message_id: object) -> None:
        (error,) = machine_in(State.READY).receive(frame("sync", message_id=message_id, data=7), now=1.0)
        assert "message_id" not in sent(error)

    @pytest.mark.parametrize("broken", ["", "[]", "{", '{"a":NaN}', b"{}"])
    def test_that_is_no_frame_of_the_codec_is_terminal(self, broken: str | bytes) -> None:
        assert types(machine_in(State.READY).receive(broken, now=1.0)) == ["error", "goodbye", "4502"]


class TestTheSizeLimit:
    @pytest.mark.parametrize("state", [State.OPENING, State.GREETED])
    def test_is_small_before_ready(self, state: State) -> None:
        ping = frame("ping", pad="")
        fitting = frame("ping", pad="x" * (16 * 1024 - len(ping)))
        assert types(machine_in(state).receive(fitting, now=1.0)) == ["pong"]
        assert types(machine_in(state).receive(fitting + " ", now=1.0)) == ["error", "goodbye", "4502"]

    def test_is_larger_once_ready(self) -> None:
        ping = frame("ping", pad="")
        fitting = frame("ping", pad="x" * (256 * 1024 - len(ping)))
        assert types(machine_in(State.READY).receive(fitting, now=1.0)) == ["pong"]
        error, *_ = machine_in(State.READY).receive(fitting + " ", now=1.0)
        assert sent(error)["details"] == {"max_bytes": 256 * 1024}

    def test_counts_bytes_not_characters(self) -> None:
        text = '{"type":"ping","pad":"' + "é" * 9_000 + '"}'
        assert types(machine_in(State.OPENING).receive(text, now=1.0)) == ["error", "goodbye", "4502"]


class TestTheFrameBudget:
    def test_takes_a_burst(self) -> None:
        machine = machine_in(State.READY)
        assert [types(machine.receive(frame("pong"), now=1.0)) for _ in range(400)] == [[]] * 400

    def test_ends_a_flood(self) -> None:
        machine = machine_in(State.READY)
        for _ in range(400):
            machine.receive(frame("pong"), now=1.0)
        error, goodbye, close = machine.receive(frame("pong"), now=1.0)
        assert sent(error)["error_code"] == "RATE_LIMIT_EXCEEDED"
        assert sent(error)["retryable"] is True
        assert sent(error)["retry_after_ms"] == sent(goodbye)["retry_after_ms"] == 2005
        assert isinstance(close, Close)
        assert close.code is CloseCode.RATE_LIMITED

    def test_is_paid_back_by_time(self) -> None:
        machine = machine_in(State.READY)
        for _ in range(400):
            machine.receive(frame("pong"), now=1.0)
        assert [types(machine.receive(frame("pong"), now=1.5)) for _ in range(100)] == [[]] * 100
        assert types(machine.receive(frame("pong"), now=1.5)) == ["error", "goodbye", "4101"]

    def test_never_grows_past_the_burst(self) -> None:
        machine = machine_in(State.READY)
        for _ in range(400):
            machine.receive(frame("pong"), now=10_000.0)
        assert types(machine.receive(frame("pong"), now=10_000.0)) == ["error", "goodbye", "4101"]

    def test_lets_a_steady_sender_go_on(self) -> None:
        machine = machine_in(State.READY)
        assert [types(machine.receive(frame("pong"), now=number / 200)) for number in range(5_000)] == [[]] * 5_000

    def test_counts_before_ready_too(self) -> None:
        machine = machine_in(State.OPENING)
        for _ in range(400):
            machine.receive(frame("pong"), now=1.0)
        assert types(machine.receive(frame("pong"), now=1.0)) == ["error", "goodbye", "4101"]


class TestTheAuthDeadline:
    @pytest.mark.parametrize("state", [State.OPENING, State.GREETED])
    def test_ends_the_connection(self, state: State) -> None:
        machine = machine_in(state)
        assert machine.deadline == 8.0
        assert machine.tick(7.9) == []
        assert types(machine.tick(8.0)) == ["goodbye", "4201"]

    def test_is_not_extended_by_traffic(self) -> None:
        machine = machine_in(State.OPENING)
        for second in range(8):
            machine.receive(frame("ping"), now=float(second))
        assert machine.deadline == 8.0

    def test_holds_even_when_nobody_ticks(self) -> None:
        assert types(machine_in(State.GREETED).receive(frame("auth"), now=8.0)) == ["goodbye", "4201"]

    def test_is_gone_once_ready(self) -> None:
        machine = machine_in(State.READY)
        assert machine.tick(8.0) == []
        assert machine.deadline == 25.0


class TestTheHeartbeat:
    def test_pings_after_an_interval_of_silence(self) -> None:
        machine = machine_in(State.READY)
        assert machine.tick(24.9) == []
        assert machine.tick(25.0) == [Send({"type": "ping"})]

    def test_pings_once_an_interval(self) -> None:
        machine = machine_in(State.READY)
        machine.tick(25.0)
        assert machine.tick(26.0) == []
        assert machine.deadline == 50.0

    def test_ends_the_connection_after_two_missed_intervals(self) -> None:
        machine = machine_in(State.READY)
        machine.tick(25.0)
        assert types(machine.tick(50.0)) == ["goodbye", "4002"]

    @pytest.mark.parametrize("sign_of_life", [frame("pong"), frame("sync"), '{"type":"dance"}'])
    def test_takes_any_frame_for_life(self, sign_of_life: str) -> None:
        machine = machine_in(State.READY)
        machine.tick(25.0)
        machine.receive(sign_of_life, now=49.0)
        assert machine.deadline == 74.0
        assert machine.tick(74.0) == [Send({"type": "ping"})]

    def test_gives_the_peer_an_interval_to_answer_after_our_own_pause(self) -> None:
        machine = machine_in(State.READY)
        assert machine.tick(1_000.0) == [Send({"type": "ping"})]
        assert machine.deadline == 1_025.0

    def test_may_be_told_to_wait_longer(self) -> None:
        machine = machine_in(State.READY, limits=MachineLimits(heartbeat_interval_s=10.0, missed_heartbeats=3))
        assert [types(machine.tick(at)) for at in (10.0, 20.0, 30.0)] == [["ping"], ["ping"], ["goodbye", "4002"]]


class TestATokensEnd:
    def test_is_announced(self) -> None:
        machine = machine_in(State.READY, limits=MachineLimits(heartbeat_interval_s=1e9), expires_at=3_600.0)
        assert machine.deadline == 3_540.0
        assert machine.tick(3_540.0) == [Send({"type": "auth_expiring", "expires_at": EXPIRES_TEXT})]
        assert machine.deadline == 3_630.0

    def test_leaves_a_grace_and_then_ends_the_connection(self) -> None:
        machine = machine_in(State.READY, limits=MachineLimits(heartbeat_interval_s=1e9), expires_at=3_600.0)
        machine.tick(3_540.0)
        assert types(machine.receive(frame("sync"), now=3_629.9)) == ["deliver"]
        assert types(machine.tick(3_630.0)) == ["goodbye", "4200"]

    def test_holds_even_when_nobody_ticks(self) -> None:
        machine = machine_in(State.READY, expires_at=100.0)
        assert types(machine.receive(frame("sync"), now=130.0)) == ["goodbye", "4200"]

    def test_is_announced_at_once_when_it_is_near(self) -> None:
        machine = machine_in(State.READY, expires_at=5.0)
        assert machine.deadline == 0.0
        assert types(machine.tick(0.0)) == ["auth_expiring"]

    def test_moves_with_a_refresh(self) -> None:
        machine = machine_in(State.READY, limits=MachineLimits(heartbeat_interval_s=1e9), expires_at=100.0)
        machine.tick(40.0)
        assert types(machine.receive(frame("auth"), now=50.0)) == ["deliver"]
        machine.authenticated(expires_at=1_000.0, expires_at_text="later", now=50.0)
        assert machine.deadline == 940.0
        assert machine.tick(940.0) == [Send({"type": "auth_expiring", "expires_at": "later"})]
        assert machine.deadline == 1_030.0

    def test_may_be_never(self) -> None:
        machine = machine_in(State.READY, expires_at=inf)
        assert machine.tick(24.0) == []


class TestClosing:
    def test_says_goodbye_first(self) -> None:
        machine = machine_in(State.READY)
        assert machine.close(CloseCode.SLOW_CONSUMER, "too slow", retry_after_ms=500) == [
            Send({"type": "goodbye", "code": 4100, "reason": "too slow", "reconnect": True, "retry_after_ms": 500}),
            Close(CloseCode.SLOW_CONSUMER, "too slow"),
        ]
        assert machine.state is State.DRAINING

    def test_happens_once(self) -> None:
        machine = machine_in(State.READY)
        machine.drain()
        assert machine.close(CloseCode.INTERNAL, "again") == []
        assert machine.drain() == []

    def test_stops_the_clock(self) -> None:
        machine = machine_in(State.READY, expires_at=100.0)
        machine.drain()
        assert machine.deadline == inf
        assert machine.tick(1e9) == []

    def test_cuts_a_reason_to_what_a_close_frame_can_hold(self) -> None:
        *_, close = machine_in(State.READY).close(CloseCode.INTERNAL, "é" * 100)
        assert isinstance(close, Close)
        assert close.reason == "é" * (MAX_REASON_BYTES // 2)

    def test_leaves_a_late_answer_of_the_shell_harmless(self) -> None:
        machine = machine_in(State.OPENING)
        machine.tick(8.0)
        machine.greeted()
        machine.authenticated(expires_at=100.0, expires_at_text=EXPIRES_TEXT, now=8.0)
        assert machine.state is State.DRAINING
        assert machine.deadline == inf

    def test_ends_in_closed_however_often_it_is_told(self) -> None:
        machine = machine_in(State.READY)
        machine.closed()
        machine.closed()
        assert machine.state is State.CLOSED
        assert machine.drain() == []


class TestAMistakeOfTheShell:
    def test_to_greet_twice_is_raised(self) -> None:
        with pytest.raises(IllegalEventError, match="greeted"):
            machine_in(State.GREETED).greeted()

    def test_to_skip_the_handshake_is_raised(self) -> None:
        with pytest.raises(IllegalEventError, match="opening"):
            machine_in(State.OPENING).authenticated(expires_at=1.0, expires_at_text="", now=0.0)


class TestADelivery:
    def test_is_a_typed_message(self) -> None:
        machine = machine_in(State.READY)
        (sync,) = machine.receive(frame("sync"), now=1.0)
        (auth,) = machine.receive(frame("auth"), now=1.0)
        assert isinstance(sync, Deliver)
        assert isinstance(sync.message, Sync)
        assert isinstance(auth, Deliver)
        assert isinstance(auth.message, Auth)

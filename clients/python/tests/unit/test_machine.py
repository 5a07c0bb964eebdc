"""What the machine does in the situations that have a name."""

import pytest
from sync_client import replica, views
from sync_client.events import (
    Apply,
    AskToken,
    Check,
    Close,
    Diverged,
    ListConflicts,
    Load,
    Loaded,
    Lost,
    NewToken,
    Open,
    Opened,
    Resume,
    Send,
    Start,
    Synced,
    Written,
)
from sync_client.frames import (
    Admission,
    CaughtUp,
    Changes,
    ConflictClosed,
    Expiring,
    Failure,
    Goodbye,
    Greeting,
    Heard,
    Limits,
    Ping,
    Reset,
    Update,
)
from sync_client.ladder import TRIES, LinkKind
from sync_client.machine import GOOD_AFTER_S, GREETING_S, HEARTBEAT_S
from sync_client.states import State
from sync_client.values import Problem

from clients.python.tests.builders import applied, create, refused, reply, told, tombstone
from clients.python.tests.shell import BUSY, PLAIN, WELCOME, WRONG, Shell, kinds


class TestConnecting:
    def test_takes_one_round_trip(self) -> None:
        shell = Shell(Resume(cursor="c0"))
        assert shell.tell(Start()) == [Open(LinkKind.WEBSOCKET, needs_new_token=False)]
        shell.tell(Opened("token", has_heartbeat=True))
        (handshake,) = shell.sent
        assert (handshake["type"], handshake["token"], handshake["subscriptions"]) == (
            "handshake", "token", {"cursor": "c0"},
        )  # fmt: skip
        shell.hear(WELCOME)
        assert shell.machine.state is State.CATCHING_UP
        effects = shell.hear(CaughtUp("c1"))
        assert shell.machine.state is State.LIVE
        assert kinds(effects) == [Apply, Synced, Check, Synced, ListConflicts]

    def test_lists_the_conflicts_again_when_it_has_caught_up_again(self) -> None:
        """Their notices are not kept for who reads slowly, nor for who is granted a space."""
        shell = Shell(Resume(cursor="c0", is_complete=True)).connect()
        shell.hear(CaughtUp("c1"))
        assert ListConflicts in kinds(shell.hear(CaughtUp("c2")))

    def test_lists_the_conflicts_again_when_a_space_is_lost(self) -> None:
        """Nobody tells that they went with it, and what others wrote is in them."""
        shell = Shell(Resume(cursor="c0", is_complete=True)).connect()
        gone = Changes((Update(tombstone("n"), is_revoked=True, seq=5),), "c1")
        assert ListConflicts not in kinds(shell.hear(gone)), "they are listed once all is here"
        assert ListConflicts in kinds(shell.hear(CaughtUp("c2")))
        assert not [kind for _ in range(3) for kind in kinds(shell.hear(gone)) if kind is ListConflicts]
        assert kinds(shell.wait()).count(ListConflicts) == 1, "one list for all of its rows"
        assert ListConflicts not in kinds(shell.hear(Changes((Update(tombstone("n"), seq=6),), "c3")))
        assert ListConflicts not in kinds(shell.wait())

    def test_without_a_cursor_asks_for_everything(self) -> None:
        shell = Shell(entity_types=("note",), spaces=("u-1",))
        shell.connect()
        wanted = {"incremental": False, "spaces": ["u-1"], "entity_types": ["note"]}
        assert shell.sent[0]["subscriptions"] == wanted
        assert Check not in kinds(shell.hear(CaughtUp("c1"))), "checksums are of all types"

    def test_sends_the_token_again_where_the_handshake_did_not_take_it(self) -> None:
        shell = Shell()
        shell.connect(Greeting(None, Limits(), None, None, None))
        assert (shell.machine.state, shell.sent[-1]["type"]) == (State.SIGNING_IN, "auth")
        shell.hear(Admission(1, None))
        assert shell.machine.state is State.CATCHING_UP
        assert shell.request["data"]["client_state"]["last_sync_time"] is None, (
            "a plain server is asked what was missed"
        )
        shell.hear(reply(message_id=shell.request["message_id"]))
        assert shell.machine.state is State.LIVE

    def test_ends_where_nothing_is_said(self) -> None:
        shell = Shell()
        shell.tell(Start())
        shell.tell(Opened("token", has_heartbeat=True))
        assert shell.machine.deadline == shell.now + GREETING_S
        assert kinds(shell.wait())[0] is Close
        assert shell.machine.state is State.WAITING

    def test_with_another_users_token_stops_before_anything_moves(self) -> None:
        shell = Shell(Resume(owner="2"))
        replica.append(shell.tables, [create("o1")])
        shell.connect()
        assert shell.machine.state is State.STOPPED
        assert [one["type"] for one in shell.sent] == ["handshake"]


class TestLosingTheLink:
    def test_pauses_longer_and_longer_and_begins_anew_after_a_good_one(self) -> None:
        shell = Shell()
        shell.tell(Start())
        pauses = []
        for _ in range(9):
            shell.tell(Lost("down"))
            assert shell.machine.deadline is not None
            pauses.append(shell.machine.deadline - shell.now)
            shell.wait()
        assert pauses == pytest.approx([0.25, 0.5, 1, 2, 4, 8, 16, 30, 30])
        shell.tell(Opened("token", has_heartbeat=True))
        shell.hear(WELCOME)
        shell.now += 6
        shell.tell(Lost("cut"))
        assert shell.machine.deadline == pytest.approx(shell.now + 0.25)

    def test_waits_as_long_as_a_goodbye_asks(self) -> None:
        shell = Shell().live()
        shell.hear(Goodbye("the server restarts", 7.0))
        shell.tell(Lost("closed", code=4000))
        assert shell.machine.deadline == pytest.approx(shell.now + 7.25)
        assert shell.machine.problem == "the server restarts"

    def test_with_an_expired_token_asks_for_a_new_one(self) -> None:
        shell = Shell().live()
        shell.tell(Lost("expired", code=4200))
        assert shell.wait() == [Open(LinkKind.WEBSOCKET, needs_new_token=True)]

    @pytest.mark.parametrize("code", [4300, 4301])
    def test_with_a_cursor_that_is_no_good_forgets_it(self, code: int) -> None:
        shell = Shell().live()
        shell.hear(Changes([told("a", 3)], "c2"))
        shell.tell(Lost("epoch", code=code))
        assert (shell.machine.cursor, shell.tables.value(views.CURSOR)) == (None, None)
        assert shell.tables.stale_keys(limit=9) == [told("a").row.key]

    @pytest.mark.parametrize("code", [4501, 4503, 4504, 4505, 4506])
    def test_for_good_stops(self, code: int) -> None:
        shell = Shell().live()
        shell.tell(Lost("do not come back", code=code))
        assert (shell.machine.state, shell.machine.deadline) == (State.STOPPED, None)
        assert shell.tell(Start()) == [Open(LinkKind.WEBSOCKET, needs_new_token=True)], (
            "the person may have a better one"
        )

    def test_with_a_wrong_token_tries_one_more_from_a_function(self) -> None:
        shell = Shell(can_renew=True)
        shell.tell(Start())
        shell.tell(Opened("token", has_heartbeat=True))
        shell.tell(Lost("wrong", code=4500))
        assert shell.wait() == [Open(LinkKind.WEBSOCKET, needs_new_token=True)]
        shell.tell(Opened("token", has_heartbeat=True))
        shell.tell(Lost("wrong", code=4500))
        assert shell.machine.state is State.STOPPED

    def test_sends_again_what_had_no_reply(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        first = shell.request
        shell.tell(Lost("cut"))
        shell.wait()
        shell.tell(Opened("token", has_heartbeat=True))
        shell.hear(WELCOME)
        assert shell.request["data"]["operations"] == first["data"]["operations"]

    def test_too_soon_does_not_begin_the_pauses_anew(self) -> None:
        """A server that takes connections and cuts them would else be asked twice a second."""
        shell = Shell()
        pauses = []
        for _ in range(5):
            shell.connect()
            shell.now += GOOD_AFTER_S - 1
            shell.tell(Lost("cut"))
            assert shell.machine.deadline is not None
            pauses.append(shell.machine.deadline - shell.now)
        assert pauses == pytest.approx([0.25, 0.5, 1, 2, 4])

    def test_counts_the_wait_of_a_goodbye_once(self) -> None:
        shell = Shell().live()
        shell.hear(Goodbye("the server restarts", 7.0))
        shell.tell(Lost("closed", code=4000))
        shell.wait()
        shell.tell(Lost("down"))
        assert shell.machine.deadline == pytest.approx(shell.now + 0.5)

    def test_waits_as_long_as_the_refusal_asks(self) -> None:
        shell = Shell()
        shell.tell(Start())
        shell.tell(Lost("the server answered 503", retry_after_s=9.0))
        assert shell.machine.deadline == pytest.approx(shell.now + 9.25)

    def test_tells_the_newest_reason(self) -> None:
        shell = Shell().live()
        shell.hear(Failure(None, WRONG, is_retryable=False, retry_after_s=None))
        shell.hear(Failure(None, BUSY, is_retryable=True, retry_after_s=None))
        shell.tell(Lost("closed"))
        told = [shell.machine.problem]
        for reason in ("no route", "no network"):
            shell.wait()
            shell.tell(Lost(reason))
            told.append(shell.machine.problem)
        assert told == [BUSY.error, "no route", "no network"]
        shell.connect()
        assert shell.machine.problem is None

    def test_of_a_link_that_is_proven_moves_nobody_down(self) -> None:
        """L1: what it brought shows that the way is good."""
        for frame in (CaughtUp("c1"), Changes([told("a")], "c1"), Changes([], None)):
            shell = Shell()
            for _ in range(TRIES):
                shell.connect()
                shell.hear(frame)
                shell.tell(Lost("cut", is_odd=True))
            assert shell.machine.kind is LinkKind.WEBSOCKET

    def test_of_a_plain_server_that_told_everything_moves_nobody_down(self) -> None:
        shell = Shell()
        for _ in range(TRIES):
            shell.connect(PLAIN)
            shell.answer()
            shell.tell(Lost("cut", is_odd=True))
        assert shell.machine.kind is LinkKind.WEBSOCKET

    def test_before_anything_came_moves_down(self) -> None:
        shell = Shell()
        for _ in range(TRIES):
            shell.connect()
            shell.tell(Lost("cut", is_odd=True))
        assert shell.machine.kind is LinkKind.EVENTS

    def test_by_silence_before_it_is_ready_moves_down(self) -> None:
        """Some proxies open a WebSocket and pass nothing."""
        shell = Shell()
        for _ in range(TRIES):
            shell.tell(Start())
            shell.tell(Opened("token", has_heartbeat=True))
            shell.wait()
            assert shell.machine.state is State.WAITING
            shell.wait()
        assert shell.machine.kind is LinkKind.EVENTS

    def test_by_silence_later_moves_nobody_down(self) -> None:
        """L1: then the network went away."""
        shell = Shell()
        for _ in range(TRIES):
            shell.connect()
            shell.wait()
            shell.wait()
            assert shell.machine.state is State.WAITING
        assert shell.machine.kind is LinkKind.WEBSOCKET

    def test_with_a_wrong_token_again_after_a_good_one_tries_again(self) -> None:
        """A token that was renewed and accepted is no reason to give up on the next day."""
        shell = Shell(can_renew=True)
        for _ in range(2):
            shell.connect()
            assert shell.machine.state is State.CATCHING_UP
            shell.tell(Lost("wrong", code=4500))
            assert shell.wait() == [Open(LinkKind.WEBSOCKET, needs_new_token=True)]

    def test_with_a_wrong_token_and_no_function_stops(self) -> None:
        shell = Shell()
        shell.connect()
        shell.tell(Lost("wrong", code=4500))
        assert shell.machine.state is State.STOPPED


class TestACheck:
    """Checksums are compared where rows may have been missed."""

    def test_is_due_after_a_reset(self) -> None:
        shell = Shell(Resume(cursor="c0", is_complete=True)).connect()
        shell.hear(Reset("u-1"))
        assert Check in kinds(shell.hear(CaughtUp("c1")))

    def test_is_due_after_a_reset_of_a_live_link(self) -> None:
        shell = Shell(Resume(cursor="c0", is_complete=True)).live()
        shell.hear(Reset("u-1"))
        assert Check in kinds(shell.hear(CaughtUp("c2")))

    def test_is_due_once_everything_was_taken_anew(self) -> None:
        shell = Shell(Resume(cursor="c0", is_complete=True)).live()
        shell.tell(Diverged())
        shell.connect()
        assert Check in kinds(shell.hear(CaughtUp("c1")))

    def test_is_not_due_otherwise_and_only_once(self) -> None:
        shell = Shell(Resume(cursor="c0", is_complete=True)).connect()
        assert Check not in kinds(shell.hear(CaughtUp("c1")))
        shell.hear(Reset("u-1"))
        shell.hear(CaughtUp("c2"))
        assert Check not in kinds(shell.hear(CaughtUp("c3")))

    def test_is_not_made_of_a_plain_server(self) -> None:
        shell = Shell().connect(PLAIN)
        assert Check not in kinds(shell.answer())


class TestSilence:
    def test_is_broken_by_a_ping_and_then_ends_the_link(self) -> None:
        shell = Shell().live()
        shell.wait()
        assert (shell.sent[-1]["type"], shell.machine.state) == ("ping", State.LIVE)
        assert kinds(shell.wait())[0] is Close
        assert shell.machine.state is State.WAITING

    def test_is_ended_by_anything_that_comes(self) -> None:
        shell = Shell().live()
        shell.wait()
        shell.now += 3
        shell.hear(Ping("m", "now"))
        assert shell.sent[-1] == {"type": "pong", "message_id": "m", "timestamp": "now"}
        assert shell.machine.deadline == shell.now + 20
        shell.wait()
        assert (shell.sent[-1]["type"], shell.machine.state) == ("ping", State.LIVE)

    def test_after_a_request_ends_the_link_too(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        for _ in range(6):
            shell.now += 10
            shell.hear(Ping(None, None))
        shell.wait()
        assert shell.machine.state is State.WAITING

    def test_is_as_long_as_the_server_says(self) -> None:
        shell = Shell().connect(WELCOME._replace(heartbeat_s=7.0))
        assert shell.machine.deadline == shell.now + 7
        shell.wait()
        assert (shell.sent[-1]["type"], shell.machine.deadline) == ("ping", shell.now + 7)

    def test_has_a_length_for_a_server_that_does_not_say(self) -> None:
        shell = Shell().connect(WELCOME._replace(heartbeat_s=None))
        assert shell.machine.deadline == shell.now + HEARTBEAT_S

    def test_begins_anew_with_everything_that_is_heard(self) -> None:
        shell = Shell().live()
        for frame in (Heard(), Changes([], None), Ping(None, None), ConflictClosed("c1"), Expiring()):
            shell.now += 13
            shell.hear(frame)
            assert shell.machine.deadline == shell.now + 20
        assert "ping" not in [one["type"] for one in shell.sent]

    def test_means_nothing_on_a_link_that_has_no_heartbeat(self) -> None:
        shell = Shell()
        shell.tell(Start())
        shell.tell(Opened("token", has_heartbeat=False))
        shell.hear(WELCOME)
        assert shell.machine.deadline is None


class TestATokenThatEnds:
    def test_is_replaced_on_the_same_link(self) -> None:
        shell = Shell().live()
        assert kinds(shell.hear(Expiring())) == [AskToken]
        shell.tell(NewToken("newer"))
        assert (shell.sent[-1]["type"], shell.sent[-1]["token"]) == ("auth", "newer")
        shell.hear(Admission(1, None))
        assert shell.machine.state is State.LIVE

    def test_is_not_shown(self) -> None:
        assert "secret" not in repr((Opened("secret", has_heartbeat=True), NewToken("secret")))


class TestARequest:
    def test_carries_what_waits_and_asks_for_nothing_else(self) -> None:
        shell = Shell().live()
        shell.write(create("o1", title="x"), create("o2", "b"))
        assert shell.asked == ["o1", "o2"]
        assert (shell.request["data"]["entity_types"], shell.request["data"]["client_state"]["cursor"]) == ([], "c1")

    def test_is_one_at_a_time(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        shell.write(create("o2", "b"))
        assert shell.asked == ["o1"]
        shell.hear(reply(applied(create("o1"), 1, {}), message_id=shell.request["message_id"]))
        assert shell.asked == ["o2"]

    def test_is_followed_by_the_next_before_its_results_are_stored(self) -> None:
        shell = Shell().connect(WELCOME._replace(limits=Limits(max_operations=2)))
        shell.write(*(create(f"o{n}", f"n{n}") for n in range(5)))
        results = [applied(create(one, one), 1, {}) for one in shell.asked]
        shell.done.clear()
        shell.hear(reply(*results, message_id=shell.request["message_id"]))
        assert [type(one) for one in shell.done[:3]] == [Send, Load, Apply]
        assert shell.asked == ["o2", "o3"]

    def test_is_not_followed_in_haste_where_something_failed(self) -> None:
        """B1, B2: what is behind may name what is held back."""
        shell = Shell().connect(WELCOME._replace(limits=Limits(max_operations=2)))
        shell.write(create("o0", "a"), create("o1", "b"), create("o2", "c", refers="a"), create("o3", "d"))
        results = [refused(create("o0", "a"), "SYNC_ERROR"), applied(create("o1", "b"), 1, {})]
        shell.hear(reply(*results, message_id=shell.request["message_id"]))
        assert shell.asked == ["o3"]

    def test_holds_back_what_failed_and_lets_others_go(self) -> None:
        """M7"""
        shell = Shell().live()
        shell.write(create("o1"), create("o2", "b"))
        results = [refused(create("o1"), "SYNC_ERROR"), applied(create("o2", "b"), 1, {})]
        shell.hear(reply(*results, message_id=shell.request["message_id"]))
        shell.write(create("o3", "c"), create("o4", "d", refers="a"))
        assert shell.asked == ["o3"]
        shell.hear(reply(applied(create("o3", "c"), 1, {}), message_id=shell.request["message_id"]))
        shell.wait()
        assert shell.asked == ["o1", "o4"]

    def test_is_looked_for_again_when_a_hold_ends_during_a_look(self) -> None:
        """The look began while it was held, and would else be the last one."""
        shell = Shell().live()
        shell.write(create("o1"))
        shell.hear(reply(refused(create("o1"), "SYNC_ERROR"), message_id=shell.request["message_id"]))
        load = next(one for one in shell.machine.handle(Written(), shell.now) if isinstance(one, Load))
        shell.now += 1
        shell.tell(Loaded(load.after, views.waiting(shell.tables, after=0, limit=9), is_end=True))
        assert shell.machine.deadline is not None
        assert shell.machine.deadline <= shell.now
        shell.wait()
        assert shell.asked == ["o1"]

    def test_that_fails_for_now_is_repeated_in_smaller_parts_after_the_pause(self) -> None:
        shell = Shell().live()
        shell.write(*(create(f"o{n}", f"n{n}") for n in range(8)))
        shell.hear(Failure(shell.request["message_id"], BUSY, is_retryable=True, retry_after_s=3.0))
        assert shell.machine.deadline == pytest.approx(shell.now + 3.25)
        shell.wait()
        assert shell.asked == ["o0", "o1", "o2", "o3"]
        shell.hear(reply(message_id=shell.request["message_id"]))
        assert shell.tables.counts().pending == 8

    def test_that_fails_for_good_ends_with_the_operation_at_fault(self) -> None:
        shell = Shell().live()
        shell.write(*(create(f"o{n}", f"n{n}") for n in range(4)))
        while shell.tables.counts().pending:
            message = shell.request
            if "o2" in shell.asked:
                shell.hear(Failure(message["message_id"], WRONG, is_retryable=False, retry_after_s=None))
            else:
                done = [applied(create(one, f"n{one[1:]}"), 1, {}) for one in shell.asked]
                shell.hear(reply(*done, message_id=message["message_id"]))
        assert [one.operation_id for one in shell.tables.quarantined()] == ["o2"]

    def test_that_closes_the_connection_is_at_fault_itself(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        shell.tell(Lost("a frame that is too large", code=4502))
        assert shell.machine.state is State.WAITING
        assert [one.operation_id for one in shell.tables.quarantined()] == ["o1"]

    def test_without_room_for_an_entity_is_followed_by_a_look_at_it(self) -> None:
        """D4: the operation stays in sight until the row has what it did."""
        shell = Shell().live()
        shell.write(create("o1", title="mine"))
        shell.hear(reply(applied(create("o1"), 1, None, has_data=False), message_id=shell.request["message_id"]))
        (form,) = shell.request["data"]["operations"]
        assert (form["operation_type"], form["entity_id"]) == ("read", "a")
        read = applied(create(form["operation_id"]), 1, {"title": "mine"})
        shell.hear(reply(read, message_id=shell.request["message_id"]))
        assert shell.tables.counts().pending == 0
        assert shell.tables.rows([create("o1").key])[create("o1").key].version == 1

    def test_refused_for_its_token_asks_for_another_and_keeps_everything(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        problem = Problem(error="expired", error_code="UNAUTHORIZED")
        effects = shell.hear(Failure(shell.request["message_id"], problem, is_retryable=True, retry_after_s=None))
        assert AskToken in kinds(effects)
        assert shell.tables.counts().pending == 1

"""The life of a connection as tables."""

import pytest

from sync_server.protocol.client_messages import CLIENT_MESSAGES
from sync_server.protocol.states import EVENTS, MESSAGES, Answer, Event, State, expected


class TestTheMessageTable:
    def test_answers_every_message_in_every_state(self) -> None:
        assert set(MESSAGES) == set(State)
        assert all(set(row) == set(CLIENT_MESSAGES) for row in MESSAGES.values())

    @pytest.mark.parametrize("state", [State.OPENING, State.GREETED, State.READY])
    def test_takes_a_heartbeat_in_every_open_state(self, state: State) -> None:
        assert MESSAGES[state]["ping"] is Answer.PONG
        assert MESSAGES[state]["pong"] is Answer.TAKE

    @pytest.mark.parametrize("state", [State.DRAINING, State.CLOSED])
    def test_says_nothing_once_the_connection_ends(self, state: State) -> None:
        assert set(MESSAGES[state].values()) == {Answer.DROP}

    def test_takes_a_handshake_only_once(self) -> None:
        assert [state for state in State if MESSAGES[state]["handshake"] is Answer.DELIVER] == [State.OPENING]

    def test_takes_data_only_when_ready(self) -> None:
        for message_type in ("sync", "conflict", "subscribe", "presence"):
            assert [state for state in State if MESSAGES[state][message_type] is Answer.DELIVER] == [State.READY]


class TestTheEventTable:
    def test_lets_every_state_end(self) -> None:
        assert set(EVENTS) == set(State)
        assert all(EVENTS[state][Event.CLOSED] is State.CLOSED for state in State)

    def test_never_leaves_the_end(self) -> None:
        assert set(EVENTS[State.CLOSED].values()) == {State.CLOSED}
        assert set(EVENTS[State.DRAINING].values()) == {State.DRAINING, State.CLOSED}

    def test_reaches_ready_only_through_an_accepted_token(self) -> None:
        ways = {(state, event) for state, row in EVENTS.items() for event, after in row.items() if after is State.READY}
        assert ways == {(State.GREETED, Event.AUTHENTICATED), (State.READY, Event.AUTHENTICATED)}


class TestTheExpectedMessages:
    def test_are_those_a_state_hands_on(self) -> None:
        assert expected(State.OPENING) == "handshake"
        assert expected(State.READY) == "auth, sync, conflict, subscribe, presence"

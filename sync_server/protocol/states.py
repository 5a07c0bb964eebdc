"""The life of a connection as data: which message each state takes, and which call leads to which state."""

from collections.abc import Mapping
from enum import StrEnum

from sync_server.protocol.client_messages import CLIENT_MESSAGES


class State(StrEnum):
    """OPENING -handshake-> GREETED -auth-> READY -> DRAINING -> CLOSED; any state may go to DRAINING."""

    OPENING = "opening"
    GREETED = "greeted"
    READY = "ready"
    DRAINING = "draining"
    CLOSED = "closed"


class Answer(StrEnum):
    """What the machine does with a message."""

    DELIVER = "deliver"
    """Hands it to the shell, which answers."""
    PONG = "pong"
    """Answers it at once."""
    TAKE = "take"
    """Takes it as a sign of life and no more."""
    REFUSE = "refuse"
    """Answers with an `error` and closes with 4502."""
    DROP = "drop"
    """Says nothing: the peer may have sent it before it saw our close."""


class Event(StrEnum):
    """What the shell tells the machine."""

    GREETED = "greeted"
    AUTHENTICATED = "authenticated"
    CLOSING = "closing"
    CLOSED = "closed"


def _row(takes: Mapping[str, Answer], *, otherwise: Answer = Answer.REFUSE) -> Mapping[str, Answer]:
    return {message_type: takes.get(message_type, otherwise) for message_type in CLIENT_MESSAGES}


_HEARTBEAT = {"ping": Answer.PONG, "pong": Answer.TAKE}

MESSAGES: Mapping[State, Mapping[str, Answer]] = {
    State.OPENING: _row({"handshake": Answer.DELIVER, **_HEARTBEAT}),
    State.GREETED: _row({"auth": Answer.DELIVER, **_HEARTBEAT}),
    State.READY: _row(
        {
            "auth": Answer.DELIVER,
            "sync": Answer.DELIVER,
            "conflict": Answer.DELIVER,
            "subscribe": Answer.DELIVER,
            "presence": Answer.DELIVER,
            **_HEARTBEAT,
        }
    ),
    State.DRAINING: _row({}, otherwise=Answer.DROP),
    State.CLOSED: _row({}, otherwise=Answer.DROP),
}
"""State and type of a client's message -> answer; total. No message changes the state: only an event does."""

EVENTS: Mapping[State, Mapping[Event, State]] = {
    State.OPENING: {Event.GREETED: State.GREETED, Event.CLOSING: State.DRAINING, Event.CLOSED: State.CLOSED},
    State.GREETED: {Event.AUTHENTICATED: State.READY, Event.CLOSING: State.DRAINING, Event.CLOSED: State.CLOSED},
    State.READY: {Event.AUTHENTICATED: State.READY, Event.CLOSING: State.DRAINING, Event.CLOSED: State.CLOSED},
    State.DRAINING: {
        Event.GREETED: State.DRAINING,
        Event.AUTHENTICATED: State.DRAINING,
        Event.CLOSING: State.DRAINING,
        Event.CLOSED: State.CLOSED,
    },
    State.CLOSED: dict.fromkeys(Event, State.CLOSED),
}
"""State and event -> next state. A pair that is missing is a mistake of the shell."""


def expected(state: State) -> str:
    """The messages a state hands on, for the text of an error.

    >>> expected(State.GREETED)
    'auth'
    """
    return ", ".join(name for name, answer in MESSAGES[state].items() if answer is Answer.DELIVER)

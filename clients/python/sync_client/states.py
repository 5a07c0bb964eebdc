"""The life of a connection as data: which event leads from which state to which (docs/client.md prints it)."""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    IDLE = "idle"
    """Nobody asked for a connection."""
    WAITING = "waiting"
    """A pause before the next attempt."""
    CONNECTING = "connecting"
    """A token and a link are on their way."""
    GREETING = "greeting"
    """The handshake is sent."""
    SIGNING_IN = "signing in"
    """The server takes the token in a message of its own."""
    CATCHING_UP = "catching up"
    """Operations go up; what was missed comes down."""
    LIVE = "live"
    """What the server has is here."""
    STOPPED = "stopped"
    """The server said not to come back: a person has to do something."""


class Event(StrEnum):
    START = "start"
    STOP = "stop"
    RETRY = "the pause is over"
    OPENED = "the link is open"
    LOST = "the link is lost, or was not opened"
    BANNED = "the server says not to come back"
    SILENT = "nothing was heard for too long"
    LOOK_UP = "a better link is to be tried"
    DIVERGED = "a checksum differs"
    GREETED = "handshake accepted, the token not asked for"
    ADMITTED = "token accepted"
    REFUSED = "handshake or token refused"
    MISOWNED = "the token is another user's"
    EXPIRING = "the token ends soon"
    TOKEN = "a new token is here"  # noqa: S105  no password
    CHANGES = "changes"
    RESET = "reset"
    CAUGHT_UP = "caught up"
    RESULTS = "results"
    LAST_RESULTS = "results, and all that was missed (plain server)"
    FAILURE = "error"
    CONFLICT = "conflict opened or closed"
    PING = "ping"
    HEARD = "any other message"
    GOODBYE = "goodbye"
    WRITTEN = "the application wrote"
    LOADED = "operations are loaded"
    TICK = "a deadline within the connection"


_LINKED = (State.CONNECTING, State.GREETING, State.SIGNING_IN, State.CATCHING_UP, State.LIVE)
_OPEN = _LINKED[1:]
_READY = (State.CATCHING_UP, State.LIVE)


def _stays(*states: State) -> dict[State, State]:
    return {state: state for state in states}


def _leads(to: State, *states: State) -> dict[State, State]:
    return dict.fromkeys(states, to)


_NEXT: Mapping[Event, Mapping[State, State]] = {
    Event.START: _leads(State.CONNECTING, State.IDLE, State.WAITING, State.STOPPED),
    Event.STOP: _leads(State.IDLE, *State),
    Event.RETRY: _leads(State.CONNECTING, State.WAITING),
    Event.OPENED: _leads(State.GREETING, State.CONNECTING),
    Event.LOST: _leads(State.WAITING, *_LINKED),
    Event.BANNED: _leads(State.STOPPED, *_LINKED),
    Event.SILENT: _leads(State.WAITING, *_OPEN),
    Event.LOOK_UP: _leads(State.WAITING, State.LIVE),
    Event.DIVERGED: _leads(State.WAITING, *_READY),
    Event.GREETED: _leads(State.SIGNING_IN, State.GREETING),
    Event.ADMITTED: {**_leads(State.CATCHING_UP, State.GREETING, State.SIGNING_IN), **_stays(*_READY)},
    Event.REFUSED: _stays(*_OPEN),
    Event.MISOWNED: _leads(State.STOPPED, *_OPEN),
    Event.EXPIRING: _stays(*_READY),
    Event.TOKEN: _stays(*_READY),
    Event.CHANGES: _stays(*_READY),
    Event.RESET: _stays(*_READY),
    Event.CAUGHT_UP: _leads(State.LIVE, *_READY),
    Event.RESULTS: _stays(*_READY),
    Event.LAST_RESULTS: _leads(State.LIVE, *_READY),
    Event.FAILURE: _stays(*_OPEN),
    Event.CONFLICT: _stays(*_READY),
    Event.PING: _stays(*_OPEN),
    Event.HEARD: _stays(*_OPEN),
    Event.GOODBYE: _stays(*_OPEN),
    Event.WRITTEN: _stays(*_READY),
    Event.LOADED: _stays(*_READY),
    Event.TICK: _stays(*_OPEN),
}

TABLE: Mapping[State, Mapping[Event, State | None]] = {
    state: {event: _NEXT[event].get(state) for event in Event} for state in State
}
"""State and event -> next state, for every pair. None: the event is too late or too early, and changes nothing."""


def table() -> str:
    """The table as Markdown, for the document."""
    head = " | ".join(state.value for state in State)
    lines = [f"| event | {head} |", "| --- |" + " --- |" * len(State)]
    for event in Event:
        cells = (TABLE[state][event] for state in State)
        shown = (cell.value if cell is not None else "-" for cell in cells)
        lines.append(f"| {event.value} | {' | '.join(shown)} |")
    return "\n".join(lines)

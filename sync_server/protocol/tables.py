"""The tables of `docs/protocol.md`, made from the enums, the models and the limits, so that they cannot be wrong.

`python -m sync_server.protocol.tables docs/protocol.md` writes them anew between the document's markers.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path

from sync_server.errors import CloseCode, ErrorCode
from sync_server.protocol.client_messages import CLIENT_MESSAGES, DEFAULT_PAGE, MAX_OPERATIONS
from sync_server.protocol.codec import CODECS, MAX_DEPTH, MAX_PACKED_ITEMS
from sync_server.protocol.machine import MachineLimits
from sync_server.protocol.operations import REQUIRED_FIELDS
from sync_server.protocol.states import EVENTS, MESSAGES, Answer, Event, State
from sync_server.protocol.wire import wire_schemas
from sync_server.types import ConflictType, Json, OperationType, Role, Strategy, SyncStatus, Verdict

_MARKED = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

ERROR_MEANINGS: Mapping[ErrorCode, str] = {
    ErrorCode.UNAUTHORIZED: "the token is missing, wrong or expired",
    ErrorCode.FORBIDDEN: "your role in the space does not allow it",
    ErrorCode.NOT_FOUND: "there is no such entity, space, conflict or sync, or you may not see it",
    ErrorCode.CONFLICT: "it contradicts the present state, such as a conflict that is settled already",
    ErrorCode.VALIDATION_ERROR: "a field is wrong; `details` names it. Sending the same again fails again",
    ErrorCode.SYNC_ERROR: "the server failed; try again",
    ErrorCode.NETWORK_ERROR: "something the server depends on cannot be reached; try again",
    ErrorCode.TIMEOUT: "it took too long; whether it happened is known after a resend",
    ErrorCode.RATE_LIMIT_EXCEEDED: "too much at once; wait `retry_after_ms`",
    ErrorCode.CONNECTION_REPLACED: "the same `client_id` has connected again elsewhere",
}
CLOSE_MEANINGS: Mapping[CloseCode, str] = {
    CloseCode.DRAINING: "the server restarts",
    CloseCode.HEARTBEAT_LOST: "nothing was heard from the client for too long",
    CloseCode.SLOW_CONSUMER: "the client did not read what it was sent",
    CloseCode.RATE_LIMITED: "too many frames",
    CloseCode.OVERLOADED: "the server has no room",
    CloseCode.INTERNAL: "the server failed",
    CloseCode.TOKEN_EXPIRED: "the token has expired",
    CloseCode.AUTH_DEADLINE: "no valid token came in time",
    CloseCode.RIGHTS_CHANGED: "what the user may do has changed",
    CloseCode.EPOCH_CHANGED: "the log is another one, such as after a restored backup",
    CloseCode.BELOW_HORIZON: "the cursor is older than the log",
    CloseCode.UNAUTHORIZED: "the token is wrong, or a refresh was for another user",
    CloseCode.FORBIDDEN: "the user may not connect",
    CloseCode.BAD_FRAME: "a frame that is broken, too large, or not allowed in this state",
    CloseCode.UNSUPPORTED_VERSION: "another major version of the protocol",
    CloseCode.CONNECTION_LIMIT: "too many connections of this user",
    CloseCode.REPLACED: "the same `client_id` has connected again elsewhere",
    CloseCode.BAD_ORIGIN: "the web page's origin is not allowed",
}
VERDICT_MEANINGS: Mapping[Verdict, str] = {
    Verdict.APPLIED: "it took effect as sent",
    Verdict.MERGED: "it took effect together with changes the client had not seen; `data` is the result",
    Verdict.SUPERSEDED: "it was accepted, but newer values won; `data` is what stands",
    Verdict.CONFLICT: "it waits for a person: see `conflict_id`",
    Verdict.REJECTED: "it was not accepted: see `error_code` and `details`",
}
ANSWER_MEANINGS: Mapping[Answer, str] = {
    Answer.DELIVER: "answered",
    Answer.PONG: "`pong`",
    Answer.TAKE: "taken",
    Answer.REFUSE: "`error`, 4502",
    Answer.DROP: "ignored",
}
EVENT_MEANINGS: Mapping[Event, str] = {
    Event.GREETED: "handshake accepted",
    Event.AUTHENTICATED: "token accepted",
    Event.CLOSING: "the server closes",
    Event.CLOSED: "the WebSocket is gone",
}


def table(name: str) -> str:
    """One table as Markdown, with a line break at its end.

    Raises:
        KeyError: there is no table of this name.
    """
    return TABLES[name]()


def render(document: str) -> str:
    """The document with what stands between its markers made anew."""
    return _MARKED.sub(lambda match: match[1] + table(match[2]) + match[3], document)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def _subprotocols() -> str:
    rows = [(f"`{name}`", "text" if codec.opcode_is_text else "binary") for name, codec in CODECS.items()]
    return _markdown(("subprotocol", "frames"), rows)


def _states() -> str:
    rows = [
        (f"`{message_type}`", *(ANSWER_MEANINGS[MESSAGES[state][message_type]] for state in State))
        for message_type in CLIENT_MESSAGES
    ]
    return _markdown(("from the client", *(state.name for state in State)), rows)


def _events() -> str:
    rows = [
        (EVENT_MEANINGS[event], *(after.name if (after := EVENTS[state].get(event)) else "-" for state in State))
        for event in Event
    ]
    return _markdown(("what happens", *(state.name for state in State)), rows)


def _errors() -> str:
    rows = [
        (f"`{code}`", code.status, "yes" if code.is_retryable else "no", ERROR_MEANINGS[code]) for code in ErrorCode
    ]
    return _markdown(("error_code", "HTTP", "retryable", "meaning"), rows)


def _closes() -> str:
    rows = [(int(code), f"`{code.name}`", CLOSE_MEANINGS[code], code.action.value) for code in CloseCode]
    return _markdown(("code", "name", "meaning", "what to do"), rows)


def _verdicts() -> str:
    rows = [
        (f"`{verdict}`", "true" if verdict.is_success else "false", VERDICT_MEANINGS[verdict]) for verdict in Verdict
    ]
    return _markdown(("verdict", "success", "meaning"), rows)


def _enums() -> str:
    enums: Sequence[type[Enum]] = (OperationType, ConflictType, Strategy, SyncStatus, Role)
    rows = [(_words(enum.__name__), ", ".join(f"`{member.value}`" for member in enum)) for enum in enums]
    return _markdown(("enum", "values"), rows)


def _required() -> str:
    rows = [(f"`{kind}`", ", ".join(f"`{field}`" for field in fields)) for kind, fields in REQUIRED_FIELDS.items()]
    return _markdown(("operation_type", "must carry"), rows)


def _limits() -> str:
    limits = MachineLimits()
    return _markdown(
        ("limit", "default"),
        [
            ("time from the connection to an accepted token", f"{limits.auth_deadline_s:g} s"),
            ("bytes of a frame before READY", limits.unauthenticated_frame_bytes),
            ("bytes of a frame in READY", limits.max_message_bytes),
            ("frames a second, on average", f"{limits.frames_per_second:g}"),
            ("frames at once", limits.frames_burst),
            (
                "silence before the server pings, at most; the handshake reply says",
                f"{limits.heartbeat_interval_s:g} s",
            ),
            ("silent intervals before the server closes", limits.missed_heartbeats),
            ("warning before a token ends", f"{limits.expiry_warning_s:g} s"),
            ("grace after a token has ended", f"{limits.expiry_grace_s:g} s"),
            ("operations in a request; changes in a page", MAX_OPERATIONS),
            ("changes in a page unless `batch_size` says otherwise", DEFAULT_PAGE),
            ("objects and lists inside each other", MAX_DEPTH),
            ("items of one list in MessagePack", MAX_PACKED_ITEMS),
        ],
    )


def _client_messages() -> str:
    schemas = wire_schemas()
    return "".join(
        f"`{name}`\n\n{_members(schemas.definitions[_target(schema)])}\n" for name, schema in schemas.client.items()
    )


def _server_messages() -> str:
    schemas = wire_schemas()
    return "".join(
        f"`{name}`\n\n{_members(schemas.definitions[_target(schema)])}\n" for name, schema in schemas.server.items()
    )


def _shapes() -> str:
    """What messages are made of: the definitions that are neither messages nor enums."""
    schemas = wire_schemas()
    messages = {_target(schema) for schema in (*schemas.client.values(), *schemas.server.values())}
    return "".join(
        f"`{name}`\n\n{_members(schema)}\n"
        for name, schema in schemas.definitions.items()
        if name not in messages and "properties" in schema
    )


def _members(schema: Json) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (f"`{name}`", "yes" if name in required else "no", _described(member))
        for name, member in schema["properties"].items()
        if name != "type"
    ]
    return _markdown(("member", "always", "value"), rows) if rows else "No members but `type`.\n"


def _described(schema: Json) -> str:
    match schema:
        case {"$ref": _}:
            text = f"`{_target(schema)}`"
        case {"anyOf": members}:
            text = " or ".join(dict.fromkeys(_described(member) for member in members))
        case {"enum": values}:
            text = " or ".join(f"`{value}`" for value in values)
        case {"type": "array"}:
            text = f"list of {_described(schema['items'])}{_bounds(schema)}"
        case {"type": [*kinds]}:
            text = " or ".join(kinds)
        case {"type": kind}:
            text = f"{kind}{_bounds(schema)}"
        case _:
            text = "any value"
    return text


_BOUNDS: Mapping[str, str] = {
    "minLength": "at least {} long",
    "maxLength": "at most {} long",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "maxItems": "at most {} of them",
}


def _bounds(schema: Json) -> str:
    if "pattern" in schema and "maxLength" not in schema:
        return " (an identifier)"
    said = [text.format(schema[word]) for word, text in _BOUNDS.items() if word in schema]
    return f" ({', '.join(said)})" if said else ""


def _target(schema: Json) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


TABLES: Mapping[str, Callable[[], str]] = {
    "subprotocols": _subprotocols,
    "states": _states,
    "events": _events,
    "client-messages": _client_messages,
    "server-messages": _server_messages,
    "shapes": _shapes,
    "required": _required,
    "verdicts": _verdicts,
    "errors": _errors,
    "closes": _closes,
    "enums": _enums,
    "limits": _limits,
}

if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")

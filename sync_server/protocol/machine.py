"""One connection as a sans-IO machine: frames and moments in, commands out; it never waits and reads no clock."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

from pydantic import ValidationError

from sync_server.errors import CloseCode, CommandError, ErrorCode, ProtocolError, SyncServerError
from sync_server.protocol.client_messages import CLIENT_MESSAGES, MAX_MESSAGE_ID, ClientMessage
from sync_server.protocol.codec import Codec
from sync_server.protocol.replies import error_frame, goodbye
from sync_server.protocol.states import EVENTS, MESSAGES, Answer, Event, State, expected
from sync_server.protocol.validation import first_problem, validation_error
from sync_server.protocol.versions import PROTOCOL_VERSION, SUPPORTED_VERSIONS, is_supported
from sync_server.types import Json

MAX_REASON_BYTES = 123
"""RFC 6455, 5.5: a control frame holds 125 bytes, two of them the code."""


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """What one connection may take and how long it may be silent; one value shared by all connections."""

    auth_deadline_s: float = 8.0
    unauthenticated_frame_bytes: int = 16 * 1024
    max_message_bytes: int = 256 * 1024
    heartbeat_interval_s: float = 25.0
    missed_heartbeats: int = 2
    frames_per_second: float = 200.0
    frames_burst: int = 400
    expiry_warning_s: float = 60.0
    expiry_grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Send:
    """Write this message; where it has no `timestamp`, the shell stamps the present one."""

    message: Json


@dataclass(frozen=True, slots=True)
class Deliver:
    """A message to be handled, valid and allowed in this state."""

    message: ClientMessage


@dataclass(frozen=True, slots=True)
class Close:
    """Close the WebSocket with this code, once everything sent before is written; always the last command."""

    code: CloseCode
    reason: str


Command = Send | Deliver | Close


class IllegalEventError(SyncServerError):
    """The shell reported an event that the connection's state does not know: a mistake of the server."""


class Machine:
    """The protocol of one connection, whatever carries it.

    The shell feeds whole messages in order, one at a time: it finishes what `receive` delivered (and reports it with
    `greeted` or `authenticated`) before it feeds the next. It calls `tick` when `deadline` has come; calling it earlier
    is harmless. Commands are carried out in order. After a `Close` the machine is DRAINING and says nothing more.

    A message of the machine carries no `timestamp`, except a pong, which repeats its ping's: the shell stamps it in the
    one place where it writes.

    Args:
        codec: how this connection's frames are written.
        limits: shared by all connections.
        now: the moment of the upgrade, in seconds of a monotonic clock, as every `now` here.

    Attributes:
        state: where the connection is in its life; read only.
    """

    __slots__ = (
        "_beat_at",
        "_budget_at",
        "_codec",
        "_expires_at_text",
        "_give_up_at",
        "_limits",
        "_missed",
        "_warn_at",
        "state",
    )

    def __init__(self, codec: Codec, limits: MachineLimits, *, now: float) -> None:
        self.state = State.OPENING
        self._codec = codec
        self._limits = limits
        self._give_up_at = now + limits.auth_deadline_s
        self._beat_at = now + limits.heartbeat_interval_s
        self._warn_at = inf
        self._budget_at = now
        self._missed = 0
        self._expires_at_text = ""

    @property
    def deadline(self) -> float:
        """The next moment at which `tick` has something to say; infinite once the connection ends."""
        return min(self._give_up_at, self._beat_at, self._warn_at)

    def receive(self, frame: str | bytes, *, now: float) -> list[Command]:
        """What a message from the peer leads to. Never raises, whatever the frame holds.

        Args:
            frame: `str` for a text frame, `bytes` for a binary one.
        """
        if self.state is State.DRAINING or self.state is State.CLOSED:
            return []
        if now >= self._give_up_at:
            return self._give_up()
        self._beat_at = now + self._limits.heartbeat_interval_s
        self._missed = 0
        wait_s = self._overdrawn_s(now)
        if wait_s > 0:
            return self._refuse_flood(wait_s)
        max_bytes = self._max_frame_bytes()
        if len(frame) > max_bytes or _size(frame) > max_bytes:
            return self._break_off(_too_large(max_bytes))
        try:
            raw = self._codec.decode(frame)
        except ProtocolError as error:
            return self._break_off(CommandError(error.error_code, error.message), code=error.close_code)
        return self._take(raw)

    def tick(self, now: float) -> list[Command]:
        """What the passing of time leads to: warnings and pings that are due, or the end of the connection."""
        if now >= self._give_up_at:
            return self._give_up()
        commands: list[Command] = []
        if now >= self._warn_at:
            self._warn_at = inf
            commands.append(Send({"type": "auth_expiring", "expires_at": self._expires_at_text}))
        if now >= self._beat_at:
            if self._missed + 1 >= self._limits.missed_heartbeats:
                return commands + self.close(CloseCode.HEARTBEAT_LOST, "nothing was heard for too long")
            self._missed += 1
            self._beat_at = now + self._limits.heartbeat_interval_s
            commands.append(Send({"type": "ping"}))
        return commands

    def greeted(self) -> None:
        """The shell accepted the handshake. Nothing happens when the connection ends already.

        Raises:
            IllegalEventError: there was no handshake to accept.
        """
        self._step(Event.GREETED)

    def authenticated(self, *, expires_at: float, expires_at_text: str, now: float) -> None:
        """The shell accepted a token, the first or a newer one. Nothing happens when the connection ends already.

        Args:
            expires_at: the end of the token on the axis of `now`; `inf` for a token without one.
            expires_at_text: the same for the peer, as in the `auth` reply.

        Raises:
            IllegalEventError: the handshake has not been accepted.
        """
        self._step(Event.AUTHENTICATED)
        if self.state is State.READY:
            self._give_up_at = expires_at + self._limits.expiry_grace_s
            self._warn_at = max(now, expires_at - self._limits.expiry_warning_s)
            self._expires_at_text = expires_at_text

    def close(self, code: CloseCode, reason: str, *, retry_after_ms: int = 0) -> list[Command]:
        """Ends the connection from our side: a `goodbye`, then the close; nothing if it ends already.

        Args:
            reason: a clause without secrets; cut to what a close frame can hold.
            retry_after_ms: how long the client should stay away; spread it when many are sent away at once.
        """
        if self.state is State.DRAINING or self.state is State.CLOSED:
            return []
        self._end(Event.CLOSING)
        reason = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        return [Send(goodbye(code, reason, retry_after_ms)), Close(code, reason)]

    def drain(self, reason: str = "the server restarts", *, retry_after_ms: int = 0) -> list[Command]:
        """Sends the client elsewhere: it reconnects and keeps its cursor."""
        return self.close(CloseCode.DRAINING, reason, retry_after_ms=retry_after_ms)

    def closed(self) -> None:
        """The WebSocket is gone, whoever ended it. May be told more than once."""
        self._end(Event.CLOSED)

    def _step(self, event: Event) -> None:
        after = EVENTS[self.state].get(event)
        if after is None:
            message = f"{event} is no event of a connection that is {self.state}"
            raise IllegalEventError(message)
        self.state = after

    def _end(self, event: Event) -> None:
        self._step(event)
        self._give_up_at = self._beat_at = self._warn_at = inf

    def _overdrawn_s(self, now: float) -> float:
        """Seconds of the frame budget's debt, at most zero while within it (a token bucket in one number)."""
        per_frame_s = 1 / self._limits.frames_per_second
        self._budget_at = max(self._budget_at, now) + per_frame_s
        return self._budget_at - now - self._limits.frames_burst * per_frame_s - _ROUNDING_S

    def _max_frame_bytes(self) -> int:
        if self.state is State.READY:
            return self._limits.max_message_bytes
        return self._limits.unauthenticated_frame_bytes

    def _take(self, raw: Json) -> list[Command]:
        message_type = raw.get("type")
        if not isinstance(message_type, str) or message_type not in CLIENT_MESSAGES:
            problem = "is required" if message_type is None else "is no message type of this protocol"
            return self._reject(raw, validation_error("type", problem))
        match MESSAGES[self.state][message_type]:
            case Answer.DELIVER:
                return self._deliver(message_type, raw)
            case Answer.PONG:
                return self._pong(raw)
            case Answer.REFUSE:
                return self._break_off(_out_of_turn(message_type, self.state), raw=raw)
            case Answer.TAKE | Answer.DROP:
                return []

    def _deliver(self, message_type: str, raw: Json) -> list[Command]:
        if message_type == "handshake" and not is_supported(raw.get("protocol_version", PROTOCOL_VERSION)):
            return self._refuse_version(raw)
        try:
            return [Deliver(_VALIDATORS[message_type](raw))]
        except ValidationError as error:
            return self._reject(raw, validation_error(*first_problem(error)))

    def _pong(self, raw: Json) -> list[Command]:
        try:
            ping = _VALIDATORS["ping"](raw)
        except ValidationError as error:
            return self._reject(raw, validation_error(*first_problem(error)))
        pong: Json = {"type": "pong"}
        if ping.message_id is not None:
            pong["message_id"] = ping.message_id
        if ping.timestamp is not None:
            pong["timestamp"] = ping.timestamp
        return [Send(pong)]

    def _reject(self, raw: Json, error: CommandError) -> list[Command]:
        if self.state is State.READY:
            return [Send(error_frame(error, message_id=_message_id(raw)))]
        return self._break_off(error, raw=raw)

    def _break_off(
        self, error: CommandError, *, code: CloseCode = CloseCode.BAD_FRAME, raw: Json | None = None
    ) -> list[Command]:
        message_id = _message_id(raw) if raw is not None else None
        farewell = self.close(code, error.message, retry_after_ms=error.retry_after_ms or 0)
        return [Send(error_frame(error, message_id=message_id)), *farewell]

    def _refuse_flood(self, wait_s: float) -> list[Command]:
        pause_s = wait_s + self._limits.frames_burst / self._limits.frames_per_second
        error = CommandError(
            ErrorCode.RATE_LIMIT_EXCEEDED,
            "Too many frames came; send fewer, or more operations in each.",
            details={"frames_per_second": self._limits.frames_per_second},
            retry_after_ms=ceil(pause_s * 1000),
        )
        return self._break_off(error, code=CloseCode.RATE_LIMITED)

    def _refuse_version(self, raw: Json) -> list[Command]:
        reason = "This protocol version is not supported."
        reply: Json = {
            "type": "handshake",
            "message_id": _message_id(raw),
            "success": False,
            "protocol_version": PROTOCOL_VERSION,
            "error": reason,
            "error_code": ErrorCode.VALIDATION_ERROR,
            "supported_versions": list(SUPPORTED_VERSIONS),
        }
        return [Send(reply), *self.close(CloseCode.UNSUPPORTED_VERSION, reason)]

    def _give_up(self) -> list[Command]:
        if self.state is State.READY:
            return self.close(CloseCode.TOKEN_EXPIRED, "the token has expired")
        return self.close(CloseCode.AUTH_DEADLINE, "no valid token came in time")


_ROUNDING_S = 1e-9
_VALIDATORS: dict[str, Callable[[Any], ClientMessage]] = {
    message_type: model.__pydantic_validator__.validate_python for message_type, model in CLIENT_MESSAGES.items()
}
"""One look-up by type is faster than a discriminated union, and its problems name plain paths."""


def _size(frame: str | bytes) -> int:
    if isinstance(frame, bytes) or frame.isascii():
        return len(frame)
    return len(frame.encode("utf-8", "surrogatepass"))


def _message_id(raw: Json) -> str | None:
    message_id = raw.get("message_id")
    return message_id if isinstance(message_id, str) and len(message_id) <= MAX_MESSAGE_ID else None


def _too_large(max_bytes: int) -> CommandError:
    return CommandError(
        ErrorCode.VALIDATION_ERROR,
        f"A message has at most {max_bytes} bytes here; send it in parts.",
        details={"max_bytes": max_bytes},
    )


def _out_of_turn(message_type: str, state: State) -> CommandError:
    return CommandError(
        ErrorCode.VALIDATION_ERROR,
        f"A {message_type} message has no place in a connection that is {state}; expected: {expected(state)}.",
        details={"field": "type", "problem": f"is not allowed while {state}"},
    )

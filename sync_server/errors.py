"""What can go wrong, as data: error codes with their HTTP status, close codes whose range is an instruction."""

from enum import IntEnum, StrEnum

from sync_server.types import Json


class ErrorCode(StrEnum):
    """T3 contract, "common error codes"; statuses from docs/protocol.md, section 2."""

    UNAUTHORIZED = "UNAUTHORIZED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    SYNC_ERROR = "SYNC_ERROR"
    NETWORK_ERROR = "NETWORK_ERROR"
    TIMEOUT = "TIMEOUT"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    CONNECTION_REPLACED = "CONNECTION_REPLACED"

    @property
    def status(self) -> int:
        return _STATUS[self]

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later without being changed."""
        return self in _RETRYABLE


_STATUS = {
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.CONFLICT: 409,
    ErrorCode.VALIDATION_ERROR: 400,
    ErrorCode.SYNC_ERROR: 500,
    ErrorCode.NETWORK_ERROR: 502,
    ErrorCode.TIMEOUT: 504,
    ErrorCode.RATE_LIMIT_EXCEEDED: 429,
    ErrorCode.CONNECTION_REPLACED: 409,
}
_RETRYABLE = {ErrorCode.SYNC_ERROR, ErrorCode.NETWORK_ERROR, ErrorCode.TIMEOUT, ErrorCode.RATE_LIMIT_EXCEEDED}


class CloseAction(StrEnum):
    """What the range of a close code tells the client to do."""

    RECONNECT = "reconnect, keep the cursor"
    BACK_OFF = "reconnect after a pause"
    NEW_TOKEN = "reconnect with a new token"  # noqa: S105  not a secret
    RESET = "reconnect, discard the cursor"
    STOP = "do not reconnect"


class CloseCode(IntEnum):
    """WebSocket close codes of this protocol (RFC 6455, 7.4.2: 4000-4999 are the application's)."""

    DRAINING = 4000
    HEARTBEAT_LOST = 4002
    SLOW_CONSUMER = 4100
    RATE_LIMITED = 4101
    OVERLOADED = 4102
    INTERNAL = 4103
    TOKEN_EXPIRED = 4200
    AUTH_DEADLINE = 4201
    RIGHTS_CHANGED = 4202
    EPOCH_CHANGED = 4300
    BELOW_HORIZON = 4301
    UNAUTHORIZED = 4500
    FORBIDDEN = 4501
    BAD_FRAME = 4502
    UNSUPPORTED_VERSION = 4503
    CONNECTION_LIMIT = 4504
    REPLACED = 4505
    BAD_ORIGIN = 4506

    @property
    def action(self) -> CloseAction:
        return _ACTIONS[self // 100]

    @property
    def reconnect(self) -> bool:
        return self.action is not CloseAction.STOP


_ACTIONS = {
    40: CloseAction.RECONNECT,
    41: CloseAction.BACK_OFF,
    42: CloseAction.NEW_TOKEN,
    43: CloseAction.RESET,
    45: CloseAction.STOP,
}


class SyncServerError(Exception):
    """Base of every error this project raises on purpose."""


class CommandError(SyncServerError):
    """A request or an operation cannot be done; becomes a typed reply, never a closed connection.

    Args:
        code: the contract's error code.
        message: one sentence for the person who reads the client's log: what is wrong and what to do. It never
            carries an exception's text, a path, a query or a secret.
        details: machine-readable facts, such as the field's name.
        retry_after_ms: when the same request may succeed, where known.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, details: Json | None = None, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details if details is not None else {}
        self.retry_after_ms = retry_after_ms


class Unavailable(CommandError):  # noqa: N818  a state of the server
    """The server is full or stopping; the same request may succeed soon, here or elsewhere."""

    status = 503
    RETRY_AFTER_MS = 5_000

    def __init__(self) -> None:
        message = "The server takes no connections right now; try again."
        super().__init__(ErrorCode.SYNC_ERROR, message, retry_after_ms=self.RETRY_AFTER_MS)


class ProtocolError(SyncServerError):
    """The peer broke the protocol; the connection is closed with this code after an `error` frame."""

    def __init__(
        self, close_code: CloseCode, message: str, *, error_code: ErrorCode = ErrorCode.VALIDATION_ERROR
    ) -> None:
        super().__init__(message)
        self.close_code = close_code
        self.message = message
        self.error_code = error_code


class UnclearQuestionError(SyncServerError):
    """What was asked for on the command line is not there, or there several times; one line that says what to do."""


class ConfigurationError(SyncServerError):
    """The server cannot start as it is set up; the text is one line that names the setting and the remedy."""

"""Frames that say the same through whatever part of the server sends them."""

from sync_server.errors import CloseCode, CommandError
from sync_server.types import Json


def error_frame(error: CommandError, *, message_id: str | None = None) -> Json:
    """The `error` message for a request that failed; without `timestamp`, which the shell stamps."""
    frame: Json = {
        "type": "error",
        "error": error.message,
        "error_code": error.code,
        "details": error.details,
        "retryable": error.code.is_retryable,
    }
    if message_id is not None:
        frame["message_id"] = message_id
    if error.retry_after_ms is not None:
        frame["retry_after_ms"] = error.retry_after_ms
    return frame


def goodbye(code: CloseCode, reason: str, retry_after_ms: int = 0) -> Json:
    """The last message before a close that the server starts; without `timestamp`, which the shell stamps.

    >>> goodbye(CloseCode.DRAINING, "the server restarts", 250)["reconnect"]
    True
    """
    return {
        "type": "goodbye",
        "code": int(code),
        "reason": reason,
        "reconnect": code.reconnect,
        "retry_after_ms": retry_after_ms,
    }

"""The only module that reads time or makes identifiers."""

import secrets
import time

from sync_server.types import Millis


def now_ms() -> Millis:
    """Wall clock, for what is stored or shown."""
    return Millis(time.time_ns() // 1_000_000)


def monotonic_s() -> float:
    """Seconds that never step back, for deadlines and durations."""
    return time.monotonic()


def new_id(prefix: str) -> str:
    """A fresh identifier such as `conn_1f0c…`: 80 random bits, unguessable enough to name a thing, not to guard it."""
    return f"{prefix}_{secrets.token_hex(10)}"


def new_secret() -> str:
    """256 random bits as text, for signing keys."""
    return secrets.token_urlsafe(32)


def new_epoch() -> str:
    """Names an incarnation of a log: 64 random bits, so that no two are ever mistaken for each other."""
    return secrets.token_hex(8)

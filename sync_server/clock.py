"""The only module that reads time or makes identifiers."""

import random
import secrets
import time

from sync_server.types import Millis

_generator = random.Random(secrets.randbits(256))  # noqa: S311  names, not secrets


def now_ms() -> Millis:
    """Wall clock, for what is stored or shown."""
    return Millis(time.time_ns() // 1_000_000)


def monotonic_s() -> float:
    """Seconds that never step back, for deadlines and durations."""
    return time.monotonic()


def new_id(prefix: str) -> str:
    """A fresh identifier such as `conn_0198c…`: the time, then 48 random bits, that name a thing and do not guard it.

    Ids of one moment stand together in an index. Their bits come from a generator that is seeded once: asking the
    system each time gives the interpreter lock up, and a busy server waits for it again.
    """
    return f"{prefix}_{now_ms():012x}{_generator.getrandbits(48):012x}"


def new_secret() -> str:
    """256 random bits as text, for signing keys."""
    return secrets.token_urlsafe(32)


def new_epoch() -> str:
    """Names an incarnation of a log: 64 random bits, so that no two are ever mistaken for each other."""
    return secrets.token_hex(8)

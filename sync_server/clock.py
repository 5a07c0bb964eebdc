"""The only module that reads time or makes identifiers."""

import random
import secrets
import time
from contextvars import ContextVar
from typing import Protocol

from sync_server.types import Millis


class Clock(Protocol):
    """Where time and chance come from."""

    def now_ms(self) -> Millis: ...

    def monotonic_s(self) -> float: ...

    def bits(self, count: int) -> int:
        """So many random bits."""


class SystemClock:
    """The machine's own.

    The bits come from a generator that is seeded once: asking the system each time gives the interpreter lock up, and
    a busy server waits for it again.
    """

    def __init__(self) -> None:
        self.bits = random.Random(secrets.randbits(256)).getrandbits  # noqa: S311  names, not secrets
        self.monotonic_s = time.monotonic

    def now_ms(self) -> Millis:
        return Millis(time.time_ns() // 1_000_000)


CLOCK: ContextVar[Clock] = ContextVar("clock", default=SystemClock())  # noqa: B039  it is the same for all
"""The clock of this context: a simulation has its own."""


def now_ms() -> Millis:
    """Wall clock, for what is stored or shown."""
    return CLOCK.get().now_ms()


def monotonic_s() -> float:
    """Seconds that never step back, for deadlines and durations."""
    return CLOCK.get().monotonic_s()


def new_id(prefix: str) -> str:
    """A fresh identifier such as `conn_0198c…`: the time, then 48 random bits, that name a thing and do not guard it.

    Ids of one moment stand together in an index.
    """
    clock = CLOCK.get()
    return f"{prefix}_{clock.now_ms():012x}{clock.bits(48):012x}"


def new_secret() -> str:
    """256 random bits as text, for signing keys."""
    return secrets.token_urlsafe(32)


def new_epoch() -> str:
    """Names an incarnation of a log: 64 random bits, so that no two are ever mistaken for each other."""
    return f"{CLOCK.get().bits(64):016x}"

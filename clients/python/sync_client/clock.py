"""The wall clock, chance and identifiers, for whoever is a shell: the rules are handed all three."""

import random
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Protocol

import uuid_utils


class Clock(Protocol):
    """Where they come from."""

    def now(self) -> datetime: ...

    def chance(self) -> float:
        """From 0 to 1, but never 1."""

    def new_id(self) -> str: ...


class SystemClock:
    """The machine's own."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def chance(self) -> float:
        return random.random()  # noqa: S311  it spreads pauses

    def new_id(self) -> str:
        return str(uuid_utils.uuid7())


CLOCK: ContextVar[Clock] = ContextVar("clock", default=SystemClock())  # noqa: B039  it is the same for all
"""The clock of this context: a simulation has one for each device."""


def now() -> datetime:
    return CLOCK.get().now()


def now_text() -> str:
    """The wall clock as RFC 3339, in milliseconds."""
    return now().isoformat(timespec="milliseconds").replace("+00:00", "Z")


def chance() -> float:
    """From 0 to 1, but never 1."""
    return CLOCK.get().chance()


def new_id() -> str:
    """A new identifier: UUID version 7 (RFC 9562), which sorts by time."""
    return CLOCK.get().new_id()

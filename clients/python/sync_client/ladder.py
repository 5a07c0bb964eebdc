"""Which link to try: the best one that the way to the server lets through.

L1 A network that is down moves nobody down: only a link that was refused or cut in an odd way does.
L2 Who stands below looks up from time to time, and comes back at once if that fails.
"""

from collections.abc import Sequence
from enum import StrEnum


class LinkKind(StrEnum):
    WEBSOCKET = "websocket"
    EVENTS = "events"
    POLL = "poll"


TRIES = 2
"""Odd failures in a row before the next link is tried."""
FIRST_LOOK_S = 300.0
LONGEST_LOOK_S = 3_600.0


class Ladder:
    """The links from the best to the one that always works.

    Args:
        kinds: those that may be used, in this order.
    """

    def __init__(self, kinds: Sequence[LinkKind] = tuple(LinkKind)) -> None:
        self._kinds = tuple(kinds)
        self._rung = 0
        self._odd = 0
        self._works: int | None = None
        self._look_s = FIRST_LOOK_S
        self.look_at: float | None = None
        """When a better link is to be tried, while one below is in use."""

    @property
    def kind(self) -> LinkKind:
        return self._kinds[self._rung]

    def worked(self, now: float) -> None:
        """The link carried a whole catch-up: it is good."""
        self._odd = 0
        self._works = self._rung
        if self._rung == 0:
            self._look_s = FIRST_LOOK_S
        self.look_at = now + self._look_s if self._rung else None

    def look_up(self) -> None:
        """Try the best link next; should it fail, the next attempt is on the one that works."""
        self._look_s = min(self._look_s * 2, LONGEST_LOOK_S)
        self.look_at = None
        self._rung = 0
        self._odd = TRIES - 1

    def failed(self, *, is_odd: bool) -> None:
        """The link was not opened, or cut before it was good.

        Args:
            is_odd: something on the way answered, and not as the server does.
        """
        if not is_odd:
            return
        self._odd += 1
        if self._odd >= TRIES:
            self._odd = 0
            self._rung = self._next()

    def _next(self) -> int:
        if self._rung == 0 and self._works:
            return self._works
        return (self._rung + 1) % len(self._kinds)

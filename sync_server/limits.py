"""How often an address may connect and a user may ask, in memory: one number for each key."""

import math
from itertools import islice

from sync_server.clock import monotonic_s
from sync_server.errors import CommandError, ErrorCode

MAX_KEYS = 100_000
"""Keys remembered at once; those that are at rest are forgotten first."""


class RateLimit:
    """At most `per_minute` units a minute for each key, at most a minute's worth of them at once.

    The generic cell rate algorithm (ITU-T I.371): a key's number is the moment at which it will have paid for all it
    has taken; it may be at most a minute ahead.

    Args:
        remedy: what the one who is refused should do.
    """

    def __init__(self, *, per_minute: int, remedy: str) -> None:
        self.per_minute = per_minute
        self._unit_s = 60 / per_minute
        self._remedy = remedy
        self._paid_at: dict[str, float] = {}

    def spend(self, key: str, units: int = 1) -> None:
        """Count these units; a refused call counts nothing.

        Raises:
            CommandError: RATE_LIMIT_EXCEEDED, with the time after which there is room again.
        """
        now = monotonic_s()
        begins_at = max(self._paid_at.get(key, now), now)
        paid_at = begins_at + units * self._unit_s
        if paid_at > now + 60 and begins_at > now:
            wait_s = min(paid_at - 60, begins_at) - now
            raise CommandError(ErrorCode.RATE_LIMIT_EXCEEDED, self._remedy, retry_after_ms=math.ceil(wait_s * 1_000))
        if len(self._paid_at) >= MAX_KEYS:
            self._forget(now)
        self._paid_at[key] = paid_at

    def _forget(self, now: float) -> None:
        self._paid_at = {key: paid_at for key, paid_at in self._paid_at.items() if paid_at > now}
        if len(self._paid_at) >= MAX_KEYS:
            # many at once: to look at all of them takes milliseconds, which no one address may cost at each request
            for key in list(islice(self._paid_at, MAX_KEYS // 10 + 1)):
                del self._paid_at[key]

"""How often an address may connect and a user may ask: fixed windows of a minute, in memory."""

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from sync_server.clock import now_ms
from sync_server.errors import CommandError, ErrorCode


class RateLimit:
    """At most `per_minute` units for each key.

    Args:
        remedy: what the one who is refused should do.
    """

    def __init__(self, name: str, *, per_minute: int, remedy: str) -> None:
        self._name = name
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._remedy = remedy

    def spend(self, key: str, units: int = 1) -> None:
        """Count these units.

        Raises:
            CommandError: RATE_LIMIT_EXCEEDED, with the time after which there is room again.
        """
        if units == 0 or self._limiter.hit(self._item, self._name, key, cost=units):
            return
        reset_at_ms = self._limiter.get_window_stats(self._item, self._name, key).reset_time * 1_000
        wait_ms = max(1_000, round(reset_at_ms - now_ms()))
        raise CommandError(ErrorCode.RATE_LIMIT_EXCEEDED, self._remedy, retry_after_ms=min(wait_ms, 60_000))

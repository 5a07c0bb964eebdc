"""How long to wait before something is tried again: exponential, with full jitter, so that clients that were cut
together do not come back together (M. Brooker, "Exponential Backoff And Jitter", 2015)."""

FIRST_S = 0.5
LONGEST_S = 60.0


def pause(attempt: int, *, chance: float, at_least_s: float | None = None) -> float:
    """Seconds before attempt number `attempt` (from 0) is repeated.

    Args:
        chance: a random number from 0 up to 1.
        at_least_s: what the server asked for; the jitter is added to it.

    >>> pause(0, chance=0.5), pause(3, chance=1), pause(99, chance=1), pause(0, chance=0, at_least_s=2)
    (0.25, 4.0, 60.0, 2.0)
    """
    ceiling = min(LONGEST_S, FIRST_S * 2.0 ** min(attempt, 16))
    return (at_least_s or 0.0) + chance * ceiling

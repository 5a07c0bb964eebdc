"""Rate limits."""

import pytest

from sync_server import limits
from sync_server.errors import CommandError, ErrorCode
from sync_server.limits import RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limits, "monotonic_s", clock)
    return clock


def spent(limit: RateLimit, key: str, units: int = 1) -> bool:
    try:
        limit.spend(key, units)
    except CommandError:
        return False
    return True


class TestARateLimit:
    def test_lets_a_minutes_worth_through_at_once(self, clock: Clock) -> None:
        limit = RateLimit(per_minute=10, remedy="wait")
        assert [spent(limit, "a") for _ in range(11)] == [True] * 10 + [False]

    def test_keeps_keys_apart(self, clock: Clock) -> None:
        limit = RateLimit(per_minute=1, remedy="wait")
        assert (spent(limit, "a"), spent(limit, "b"), spent(limit, "a")) == (True, True, False)

    def test_makes_room_at_its_rate(self, clock: Clock) -> None:
        limit = RateLimit(per_minute=60, remedy="wait")
        limit.spend("a", 60)
        clock.now += 2.0
        assert [spent(limit, "a") for _ in range(3)] == [True, True, False]

    def test_says_when_to_come_back(self, clock: Clock) -> None:
        limit = RateLimit(per_minute=60, remedy="send them later")
        limit.spend("a", 60)
        with pytest.raises(CommandError) as refused:
            limit.spend("a", 5)
        assert (refused.value.code, refused.value.message) == (ErrorCode.RATE_LIMIT_EXCEEDED, "send them later")
        assert refused.value.retry_after_ms == 5_000

    def test_lets_one_at_rest_take_more_than_a_minutes_worth_and_pay_for_it(self, clock: Clock) -> None:
        limit = RateLimit(per_minute=10, remedy="wait")
        limit.spend("a", 20)
        clock.now += 60.0
        assert not spent(limit, "a", 10)
        clock.now += 60.0
        assert spent(limit, "a", 10)

    def test_forgets_keys_at_rest_before_it_grows(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "MAX_KEYS", 3)
        limit = RateLimit(per_minute=60, remedy="wait")
        for key in "abc":
            limit.spend(key)
        clock.now += 2.0
        limit.spend("d")
        assert list(limit._paid_at) == ["d"]

    def test_makes_room_for_many_where_no_key_is_at_rest(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "MAX_KEYS", 100)
        limit = RateLimit(per_minute=1, remedy="wait")
        for key in range(101):
            limit.spend(str(key))
        assert len(limit._paid_at) == 90
        assert "100" in limit._paid_at

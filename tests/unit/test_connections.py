"""The ticker of all connections."""

import asyncio
from typing import Any, cast

import pytest

from sync_server import app, connections
from sync_server.connections import Connections
from sync_server.errors import CloseCode, CommandError, ErrorCode, Unavailable
from sync_server.types import UserId


class Ticked:
    """A connection that only counts."""

    connection_id = "conn_1"
    principal = None

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.again = asyncio.Event()

    def tick(self, now: float) -> None:
        self.moments.append(now)
        if len(self.moments) > 1:
            self.again.set()


class Broken:
    """A connection whose deadlines fail."""

    connection_id = "conn_broken"
    principal = None

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.code: CloseCode | None = None

    def tick(self, _now: float) -> None:
        raise RuntimeError

    def close(self, code: CloseCode, _reason: str) -> None:
        self.code = code
        self.closed.set()


class TestTheTicker:
    async def test_asks_nobody_right_after_the_loop_was_blocked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        moments = iter([0.0, 1.0, 1.0, 7.0, 7.0, 8.0, 8.0])  # the second tick comes five seconds late
        ended = asyncio.Event()

        def clock() -> float:
            moment = next(moments, None)
            if moment is None:
                ended.set()
                return 1_000.0
            return moment

        async def no_sleep(_seconds: float) -> None:
            await real_sleep(0)

        real_sleep = asyncio.sleep
        monkeypatch.setattr(connections, "monotonic_s", clock)
        monkeypatch.setattr(connections.asyncio, "sleep", no_sleep)
        ticked: Any = Ticked()
        everybody = Connections()
        everybody.add(ticked)
        task = asyncio.create_task(everybody.run_ticks())
        await asyncio.wait_for(ended.wait(), 2)
        task.cancel()
        assert ticked.moments[:2] == [1.0, 8.0]

    async def test_goes_on_when_a_connection_fails_and_closes_that_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "TICK_S", 0.01)
        everybody = Connections()
        broken, whole = Broken(), Ticked()
        for connection in (broken, whole):
            everybody.add(cast("Any", connection))
        task = asyncio.create_task(everybody.run_ticks())
        async with asyncio.timeout(2):
            await broken.closed.wait()
        async with asyncio.timeout(2):
            await whole.again.wait()
        task.cancel()
        assert broken.code == CloseCode.INTERNAL


class TestReaders:
    def test_count_with_the_connections_until_they_end(self) -> None:
        everybody = Connections()
        with everybody.reading(UserId("1"), most=10, most_of_user=1):
            assert (len(everybody), everybody.count_of(UserId("1"))) == (1, 1)
            with pytest.raises(CommandError) as refused, everybody.reading(UserId("1"), most=10, most_of_user=1):
                pass
            with everybody.reading(UserId("2"), most=10, most_of_user=1):
                pass
        assert refused.value.code is ErrorCode.RATE_LIMIT_EXCEEDED
        assert (len(everybody), everybody.count_of(UserId("1"))) == (0, 0)

    def test_are_not_let_in_when_the_server_is_full(self) -> None:
        everybody = Connections()
        with (
            everybody.reading(UserId("1"), most=1, most_of_user=9),
            pytest.raises(Unavailable),
            everybody.reading(UserId("2"), most=1, most_of_user=9),
        ):
            pass


class TestABackgroundTask:
    async def test_that_fails_is_begun_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(app, "RESTART_PAUSE_S", 0)
        begun: list[int] = []
        again = asyncio.Event()

        async def work() -> None:
            begun.append(1)
            if len(begun) == 1:
                raise RuntimeError
            again.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(app._kept_running(work))
        async with asyncio.timeout(2):
            await again.wait()
        task.cancel()
        assert len(begun) == 2

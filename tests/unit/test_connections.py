"""The ticker of all connections."""

import asyncio
from typing import Any

import pytest

from sync_server import connections
from sync_server.connections import Connections


class Ticked:
    """A connection that only counts."""

    connection_id = "conn_1"
    principal = None

    def __init__(self) -> None:
        self.moments: list[float] = []

    def tick(self, now: float) -> None:
        self.moments.append(now)


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

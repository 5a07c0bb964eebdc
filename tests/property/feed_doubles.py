"""Stand-ins that a test holds back: answers of the database, and a socket with a peer that does not read."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from sync_server.sockets import Frames


class HeldReaders(Executor):
    """Runs a query when it is asked and hands the answer over later, so that the world moves in between."""

    def __init__(self) -> None:
        self._held: deque[Callable[[], None]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            deliver = self._delivery(future.set_result, fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  an executor passes on whatever was raised
            deliver = self._delivery(future.set_exception, error)
        self._held.append(deliver)
        return future

    @property
    def held(self) -> int:
        return len(self._held)

    def release(self, count: int) -> None:
        for _ in range(min(count, len(self._held))):
            self._held.popleft()()

    def _delivery(self, hand_over: Callable[[Any], None], value: Any) -> Callable[[], None]:
        return lambda: hand_over(value)


class FakeSocket:
    """A socket that is congested when a test says so; what is written is passed on at once."""

    def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
        self._take = take
        self._room = asyncio.Event()
        self._room.set()

    @property
    def congested(self) -> bool:
        return not self._room.is_set()

    def write(self, frames: Frames) -> None:
        for payload in frames.payloads:
            self._take(json.loads(payload))

    @property
    def buffered_bytes(self) -> int:
        return 0

    async def drained(self) -> None:
        await self._room.wait()

    async def close(self, code: int, reason: str, *, timeout_s: float) -> None:
        self._room.set()

    def release(self) -> None:
        self._room.set()

    def congest(self) -> None:
        self._room.clear()

    def drain(self) -> None:
        self._room.set()

"""An event loop on virtual time: nothing waits for real, nothing runs in a thread, and a process can be killed.

Everything that happens is a step of this loop, in an order that depends on nothing outside: the same program with the
same chances takes the same steps. Between two steps any `Node` may be killed, which is to be killed at an await.
"""

import asyncio
import heapq
import math
import signal
import threading
from asyncio import events
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST_THREAD_S = 0.003
"""How long work of a thread seems to take at most."""


MOST_ENDS = 10
END_S = 100.0
MOST_LOOKS = 40
"""Looks after a step that does not end, until a run is broken off although time passes."""
MOST_TURNS = 20_000
"""Turns of the loop in one moment, after which nobody waits for its end any more."""


class KilledError(BaseException):
    """Unwinds the stack of a process that was killed inside a step. Nobody catches it but the loop."""


class StuckError(BaseException):
    """The run cannot go on; why is said."""


class Node:
    """A process of the simulation. What runs in its context never runs again once it is killed.

    Attributes:
        dies_in: how many steps it still takes, if it is to be killed at a certain one.
    """

    def __init__(self, name: str, *, killed: Callable[[], None]) -> None:
        self.name = name
        self.is_dead = False
        self.dies_in: int | None = None
        self._killed = killed
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)  # nothing else can kill
        loop.nodes.append(self)
        self._died: asyncio.Future[None] = loop.create_future()
        # what is forgotten while it waits would be ended in good order at some moment, and the dead do nothing
        self._remains: set[asyncio.Task[Any]] = set()
        self.missed: list[events.Handle] = []
        self.context = copy_context()
        self.context.run(NODE.set, self)

    def set(self, variable: ContextVar[T], value: T) -> None:
        self.context.run(variable.set, value)

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run it in this process."""
        return asyncio.get_running_loop().create_task(work, context=self.context.copy())

    async def result(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What comes of work in this process; None if it is killed meanwhile."""
        task = self.start(work)
        await self.end(task)
        return task.result() if task.done() else None

    async def end(self, task: "asyncio.Task[Any]") -> None:
        """Return when a task of this process has ended, or the process has."""
        await asyncio.wait({task, self._died}, return_when=asyncio.FIRST_COMPLETED)

    def soon(self, delay_s: float, call: Callable[..., object], *args: object) -> None:
        """Call it in this process."""
        asyncio.get_running_loop().call_later(delay_s, call, *args, context=self.context.copy())

    def kill(self) -> None:
        """End the process as `kill -9` does: at once, without a word to anybody."""
        if not self.is_dead:
            self.is_dead = True
            self._remains = asyncio.all_tasks()
            self._died.set_result(None)
            self._killed()

    def may_step(self) -> bool:
        if self.dies_in is not None and not self.is_dead:
            self.dies_in -= 1
            if self.dies_in < 0:
                self.kill()
        return not self.is_dead


NODE: ContextVar[Node | None] = ContextVar("node", default=None)
"""The process that this context belongs to; None is the simulator itself."""


class _Handle(events.Handle):
    __slots__ = ()

    def _run(self) -> None:
        if _may_run(self, self._context):  # type: ignore[attr-defined]
            super()._run()


class _TimerHandle(events.TimerHandle):
    __slots__ = ()

    def _run(self) -> None:
        if _may_run(self, self._context):  # type: ignore[attr-defined]
            super()._run()


async def _cancelled() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=END_S)


def _may_run(handle: events.Handle, context: Context) -> bool:
    node = context.get(NODE)
    if node is None or node.may_step():
        return True
    node.missed.append(handle)
    return False


class _Jump:
    """In place of a selector: there is nothing to wait for but time, and that is virtual."""

    def __init__(self, loop: "SimulatedLoop") -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout_s: float | None) -> tuple[()]:
        if self._loop.is_stuck:
            raise StuckError("a step does not end")
        if timeout_s is None:
            raise StuckError("everything waits, and nothing will happen any more")
        self._turns += 1
        if timeout_s > 0:
            self._turns = 0
            self._loop.jump()
        elif self._turns > MOST_TURNS:
            raise StuckError("something goes round in circles, and no time passes")
        return ()

    def close(self) -> None:
        pass


class SimulatedLoop(asyncio.BaseEventLoop):
    """
    Attributes:
        now_s: virtual seconds since the simulation began.
        problems: what nobody caught, as text.
        is_stuck: a step took so long that it was broken off.
    """

    def __init__(self, chance: Random) -> None:
        self.now_s = 0.0
        super().__init__()
        self.problems: list[str] = []
        self.nodes: list[Node] = []
        self.is_stuck = False
        self._chance = chance
        self._selector = _Jump(self)
        self.set_exception_handler(self._uncaught)

    @property
    def _clock_resolution(self) -> float:
        """As fine as it can be: a timer that ran a moment early would be set again for that very moment."""
        return math.ulp(self.now_s)

    @_clock_resolution.setter
    def _clock_resolution(self, value: float) -> None:
        """The base class asks the machine."""

    def jump(self) -> None:
        """To the moment of the next timer."""
        self.now_s = max(self.now_s, self._scheduled[0].when())  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now_s

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        timer = _TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]  # noqa: SLF001  as its base class does
        return timer

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]  # noqa: ARG002
        """What a thread does, done a moment later in one step."""
        answer: asyncio.Future[T] = self.create_future()

        def run() -> None:
            if answer.done():
                return
            try:
                answer.set_result(func(*args))
            except Exception as error:  # noqa: BLE001  as a thread does, it is told to who waits
                answer.set_exception(error)

        self.call_later(self._chance.random() * LONGEST_THREAD_S, run)
        return answer

    @contextmanager
    def patience(self, longest_s: float) -> Iterator[None]:
        """Break off a step that does not end for so many real seconds, where the system can.

        It looks twice in that time whether any virtual time has passed; how long everything takes does not matter, but
        for `MOST_LOOKS`.
        """
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            yield
            return

        looks, seen_s = 0, -1.0

        def look(_number: int, _frame: object) -> None:
            nonlocal looks, seen_s
            looks, before_s, seen_s = looks + 1, seen_s, self.now_s
            if before_s == self.now_s or looks > MOST_LOOKS:
                self.is_stuck = True
                raise StuckError("a step does not end")

        before = signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, longest_s / 2, longest_s / 2)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def end(self) -> None:
        """Let everything that is still under way end in good order, also what was killed: nobody looks any more."""
        for node in self.nodes:
            node.is_dead, node.dies_in = False, None
            self._ready.extend(node.missed)  # type: ignore[attr-defined]
        for _ in range(MOST_ENDS):
            if not asyncio.all_tasks(self):
                break
            self.run_until_complete(_cancelled())
        self.run_until_complete(self.shutdown_asyncgens())
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]

    def _call_soon(self, callback: Any, args: Any, context: Context | None) -> events.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def _process_events(self, event_list: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _uncaught(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, (KilledError, StuckError)):
            self.problems.append(f"{context['message']}: {error!r}")

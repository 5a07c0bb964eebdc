"""An event loop on virtual time: nothing waits for real, nothing runs in a thread, and a process can be killed.

Everything that happens is a step of this loop, in an order that depends on nothing outside: the same program with the
same chances takes the same steps. Between two steps any `Node` may be killed, which is to be killed at an await.
"""

import asyncio
import heapq
import signal
import threading
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from itertools import count
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


class _Handle(events.TimerHandle):
    """A callback. The base classes ask the loop twice for its debug mode, and there are thousands in a run."""

    __slots__ = ()

    def __init__(self, when: float, callback: Any, args: Any, loop: "SimulatedLoop", context: Context | None) -> None:
        self._when = when
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._scheduled = False
        self._repr = None
        self._source_traceback = None

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = None, ()


async def _cancelled() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=END_S)


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
        self._turns = 0
        self._timers: list[tuple[float, int, _Handle]] = []
        self._numbers = count()
        self.set_exception_handler(self._uncaught)

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> events.Handle:  # type: ignore[override]
        handle = _Handle(self.now_s, callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        """Call it then; what is for one moment is called in the order in which it was asked for."""
        timer = _Handle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
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
        self._timers.clear()

    def _run_once(self) -> None:
        """One turn, as the base class has it, of a loop that waits for nothing but time, and time is virtual."""
        if self.is_stuck:
            raise StuckError("a step does not end")
        ready: deque[_Handle] = self._ready  # type: ignore[attr-defined]
        timers = self._timers
        self._turns += 1
        if not ready:
            self._jump()
        if self._turns > MOST_TURNS:
            raise StuckError("something goes round in circles, and no time passes")
        while timers and timers[0][0] <= self.now_s:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:  # noqa: SLF001
                continue
            node = handle._context.get(NODE)  # noqa: SLF001
            if node is None or node.may_step():
                handle._run()  # noqa: SLF001
            else:
                node.missed.append(handle)

    def _jump(self) -> None:
        """To the moment of the next timer."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise StuckError("everything waits, and nothing will happen any more")
        if timers[0][0] > self.now_s:
            self.now_s, self._turns = timers[0][0], 0

    def _write_to_self(self) -> None:
        pass

    def _uncaught(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, (KilledError, StuckError)):
            self.problems.append(f"{context['message']}: {error!r}")

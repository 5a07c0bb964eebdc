"""One run: a plan is played, everything heals, everybody settles, and what they saw is checked."""

import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

import structlog

from schema.registry import Registry, load_registry
from sync_server.testing.acts import ACTS, Act, act_plainly
from sync_server.testing.checks import violations
from sync_server.testing.faults import FAULTS
from sync_server.testing.history import History, Restored
from sync_server.testing.loop import SimulatedLoop, StuckError
from sync_server.testing.plan import Plan, Step
from sync_server.testing.servers import SimulatedServer
from sync_server.testing.world import World

LONGEST_S = 20_000.0
"""Virtual seconds after which a run counts as one that never ends."""
MENDED = "P9: a client found that its rows are wrong:"
PATIENCE_S = 30.0
"""Real seconds after which a step that does not end is broken off, at most."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  a file system in memory, where there is one


class Run(NamedTuple):
    """
    Attributes:
        problems: each begins with the promise that was broken, such as `P4`.
    """

    plan: Plan
    history: History
    problems: list[str]


Check = Callable[[World], Awaitable[list[str]]]
"""What must hold once everything is at rest: says what does not."""


class Setting(NamedTuple):
    """What is simulated: which types, what people do with them, and what must hold in the end."""

    registry: Registry
    acts: Mapping[str, Act]
    checks: tuple[Check, ...] = ()
    server_type: type[SimulatedServer] = SimulatedServer


@cache
def own_setting() -> Setting:
    """The project's own: notes. Made once: what is built of its types, such as the routes, is theirs for all runs."""
    return Setting(load_registry(None), ACTS)


def play(plan: Plan, setting: Setting) -> Run:
    """Play a plan. The same plan takes the same course, however often and wherever it is played."""
    directory = Path(tempfile.mkdtemp(prefix="simulation-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
    loop = SimulatedLoop(Random(f"{plan.seed}/threads"))
    history = History()
    with _listening() as logged:
        try:
            with loop.patience(PATIENCE_S):
                problems = loop.run_until_complete(_played(plan, setting, directory, history))
        except StuckError as error:
            problems = [f"P3: {error}"]
        try:
            problems += [f"crash: {text}" for text in loop.problems]
            problems += [text for text in logged if not (_may_mend(history) and text.startswith(MENDED))]
            loop.is_stuck = False
            with loop.patience(PATIENCE_S):
                loop.end()
        except StuckError:
            pass  # what is stuck cannot end
        finally:
            loop.close()
            shutil.rmtree(directory)
    return Run(plan, history, problems)


def _may_mend(history: History) -> bool:
    """Rows were made wrong, or are of a lost history: over HTTP a client may ask for them before its feed says so."""
    return history.is_corrupted or (bool(history.http_devices) and any(history.of(Restored)))


async def _played(plan: Plan, setting: Setting, directory: Path, history: History) -> list[str]:
    world = World(plan, directory, setting.registry, history, server_type=setting.server_type)
    found: list[str] = []
    try:
        async with asyncio.timeout(LONGEST_S):
            await world.begin()
            await _steps(world, setting)
            await world.heal()
            await world.settle()
            await world.close()
            for check in setting.checks:
                found += await check(world)
    except TimeoutError:
        return ["P3: this run does not end", *world.history.problems]
    return [*violations(world.history), *found]


async def _steps(world: World, setting: Setting) -> None:
    tasks = []
    for step in world.plan.steps:
        await asyncio.sleep(max(0.0, step.at - world.now))
        tasks.append(asyncio.ensure_future(_step(world, setting, step)))
    await asyncio.gather(*tasks)


async def _step(world: World, setting: Setting, step: Step) -> None:
    chance = Random(step.seed)
    if step.who == "world":
        await FAULTS[step.what](world, chance)
    elif step.who in world.devices:
        await setting.acts[step.what](world, world.devices[step.who], chance)
    elif step.who in world.plain:
        await act_plainly(world, world.plain[step.who], chance)


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What the server and the client log as failures of their own; nothing is printed."""
    logged: list[str] = []
    before, handler, client = structlog.get_config(), _Listener(logged), logging.getLogger("sync_client")
    structlog.configure(processors=[_collector(logged)], cache_logger_on_first_use=False)
    client.addHandler(handler)
    client.propagate = False
    try:
        yield logged
    finally:
        structlog.configure(**before)
        client.removeHandler(handler)
        client.propagate = True


class _Listener(logging.Handler):
    def __init__(self, logged: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._logged = logged

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.ERROR:
            error = record.exc_info[1] if record.exc_info is not None else None
            self._logged.append(f"crash: client: {text}: {error!r}")
        elif "differ" in text:
            self._logged.append(f"{MENDED} {text}")


def _collector(logged: list[str]) -> Callable[..., str]:
    def collect(_logger: object, method: str, event: Mapping[str, object]) -> str:
        if method in {"exception", "critical"}:
            error = event.get("exc_info")
            logged.append(
                f"crash: server: {event['event']}: {error if isinstance(error, Exception) else sys.exc_info()[1]!r}"
            )
        if event["event"] == "checksum_differs":
            logged.append(f"P9: the server's checksum is wrong: {dict(event)}")
        raise structlog.DropEvent

    return collect

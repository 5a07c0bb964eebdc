"""The real server as a process of the simulation: its own code on a real SQLite file, killed and started again."""

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from random import Random

from starlette.applications import Starlette

from rest.middleware import EXCEPTION_HANDLERS, middleware
from rest.routes import routes
from schema.registry import Registry
from sync_server.app import running_services
from sync_server.auth import Authenticator, issue_token
from sync_server.clock import CLOCK, new_epoch
from sync_server.committer import Committer
from sync_server.config import Settings
from sync_server.errors import CommandError
from sync_server.services import Services
from sync_server.stores.engine import open_engine
from sync_server.stores.migrations import migrate
from sync_server.stores.sql import Store, StoreError
from sync_server.stores.writer import Writer
from sync_server.testing.loop import KilledError, Node
from sync_server.testing.network import Line, Server
from sync_server.trimmer import Trimmer
from sync_server.types import Millis, UserId

SECRET = "the secret of simulated servers, known to all"  # noqa: S105  it guards nothing
BEGIN_MS = 1_767_225_600_000
"""2026-01-01, when every simulation begins."""
TOKEN_S = 900
DAY_MS = 86_400_000
LONGEST_ROUND_S = 0.01
LONGEST_PUBLISH_S = 0.02


class ServerClock:
    """
    Attributes:
        ahead_ms: how wrong the wall clock is.
    """

    def __init__(self, chance: Random) -> None:
        self.ahead_ms = 0
        self.bits = chance.getrandbits

    def now_ms(self) -> Millis:
        return Millis(BEGIN_MS + int(self.monotonic_s() * 1_000) + self.ahead_ms)

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


class SteppedCommitter(Committer):
    """The committer, its rounds driven by the loop: a round, and later the publication and the answers.

    Attributes:
        disorder_s: how late each publication of changes may be on its own account, so that others overtake it; half of
            them come twice then. 0: in order, and once.
    """

    disorder_s = 0.0
    _published_at = 0.0

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def close(self) -> None:
        self._closing = True
        await self._is_idle.wait()

    def _waits(self) -> None:
        if self._is_idle.is_set():
            self._is_idle.clear()
            asyncio.get_running_loop().call_later(_moment(LONGEST_ROUND_S), self._round)

    def _round(self) -> None:
        loop = asyncio.get_running_loop()
        jobs = self._take(0) if self._queue else None
        if jobs is not None:
            results, committed = self._perform_round(jobs)
            self._published_at = max(self._published_at + 1e-6, loop.time() + _moment(LONGEST_PUBLISH_S))
            has_notices = any(made.conflicts or made.settled for made in committed)  # which no log has in order
            late_s = _share() * self.disorder_s if not has_notices else 0.0
            loop.call_at(self._published_at + late_s, self._deliver, jobs, results, committed)
            if self.disorder_s and not has_notices and _share() < 0.5:
                again_at = self._published_at + _share() * self.disorder_s
                for made in committed:
                    loop.call_at(again_at, self._publish, made)
        if self._queue:
            loop.call_later(_moment(LONGEST_ROUND_S), self._round)
        else:
            self._is_idle.set()


def _moment(longest_s: float) -> float:
    return _share() ** 3 * longest_s


def _share() -> float:
    return CLOCK.get().bits(16) / 65_536


class SimulatedServer:
    """One server over its lives. Its database, and nothing else, survives from one to the next.

    Attributes:
        lines: of the devices that may connect.
        clock: of the machine it runs on.
        dies: the place in the next commit at which it is to be killed, `before commit` or `after commit`.
        full_for: how many of the next transactions find the disk full.
    """

    committer_type: type[Committer] = SteppedCommitter

    def __init__(self, directory: Path, registry: Registry, settings: Settings, chance: Random) -> None:
        self.lines: list[Line] = []
        self.clock = ServerClock(chance)
        self.dies: str | None = None
        self.full_for = 0
        self.lives = 0
        self._path = directory / "sync.db"
        self._registry = registry
        self._settings = settings
        self._chance = chance
        self._app = _app(settings, registry)
        self._store: _FailingStore | None = None
        self._running: asyncio.Task[None] | None = None
        self.node: Node | None = None
        shutil.copyfile(migrated_database(), self._path)

    @property
    def is_up(self) -> bool:
        return self.node is not None and not self.node.is_dead

    @property
    def committer(self) -> SteppedCommitter | None:
        """That of a server which is up."""
        committer = self.services.committer if self.is_up else None
        return committer if isinstance(committer, SteppedCommitter) else None

    @property
    def services(self) -> Services:
        services: Services = self._app.state.services
        return services

    def token(self, user: str) -> str:
        return _token(user, self.clock.now_ms() // 1_000)

    async def start(self) -> None:
        """Return once connections are taken, or it was killed before."""
        self.lives += 1
        self._is_leaving = False
        node = self.node = Node("server", killed=self._was_killed)
        node.set(CLOCK, self.clock)
        self._store = _FailingStore(self._path, self)
        ready = asyncio.get_running_loop().create_future()
        self._ready = ready
        self._running = node.start(self._run(self._store, ready))
        await asyncio.wait({ready, self._running}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            self._refused(self._running)
        if self.is_up:
            for line in self.lines:
                line.server = Server(self._app, node)

    def _refused(self, running: "asyncio.Task[None]") -> None:
        """It could not even start, as it may where the disk is full."""
        if isinstance(error := running.exception(), StoreError) and self.node is not None:
            self.node.kill()
        elif error is not None:
            raise error

    async def stop(self) -> None:
        """Stop in good order: everybody is sent away, and what is queued is finished."""
        node = self.node
        if node is None or node.is_dead or self._running is None:
            return
        await node.result(self.services.connections.drain(budget_s=5))
        if node.is_dead:
            return
        self._running.cancel()
        await node.end(self._running)  # a commit of its own may be its end
        self._is_leaving = True
        node.kill()

    async def trim(self) -> int | None:
        """Forget the whole log, as if it were old; up to where, unless it was killed meanwhile."""
        services, node = self.services, self.node
        trimmer = Trimmer(services.feed, services.committer, retention_days=1, verdict_retention_days=90, interval_s=60)
        if node is None:
            return None
        with contextlib.suppress(CommandError):  # the disk may be full
            await node.result(trimmer.trim(Millis(self.clock.now_ms() + 2 * DAY_MS)))
        return services.feed.head.floor_seq if not node.is_dead else None

    def back_up(self) -> Path:
        """A copy of the database as it is at this moment."""
        target = self._path.with_name("backup.db")
        target.unlink(missing_ok=True)
        with _connection(self._path) as source, _connection(target) as copy:
            source.backup(copy)
        return target

    def restore(self, backup: Path) -> None:
        """Put a backup in place of the database of a server that is down, as an operator does, with a new epoch."""
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(f"sync.db{suffix}").unlink(missing_ok=True)
        shutil.copyfile(backup, self._path)
        store = Store(open_engine(f"sqlite:///{self._path}"))
        token = CLOCK.set(self.clock)
        try:
            with store.write() as writer:
                writer.start_epoch(new_epoch())
        finally:
            CLOCK.reset(token)
            store.close()

    def commit_point(self, place: str) -> None:
        if self.dies == place and self.node is not None:
            self.dies = None
            self.node.kill()
            raise KilledError

    def _was_killed(self) -> None:
        """The system closes what a dead process had open; where the machine itself died, nobody is told."""
        is_told = self._is_leaving or self._chance.random() < 0.8
        for line in self.lines:
            line.server = None
            line.cut(tell_device=is_told, tell_server=False)
        if not self._ready.done():
            self._ready.set_result(None)
        if self._store is not None:
            asyncio.get_running_loop().call_soon(self._store.close)

    async def _run(self, store: Store, ready: "asyncio.Future[None]") -> None:
        authenticator = Authenticator(secret=SECRET, jwks=None, audience=self._settings.auth_audience)
        async with running_services(
            self._settings, self._registry, authenticator, store, committer_type=self.committer_type
        ) as services:
            self._app.state.services = services
            ready.set_result(None)
            await asyncio.Event().wait()


@lru_cache(maxsize=64)
def _token(user: str, now_s: int) -> str:
    """A token says whole seconds: those of one are the same."""
    return issue_token(SECRET, UserId(user), ttl_s=TOKEN_S, now=Millis(now_s * 1_000))


class _FailingStore(Store):
    """The store, which may be killed or find the disk full at its commits."""

    def __init__(self, path: Path, server: SimulatedServer) -> None:
        super().__init__(open_engine(f"sqlite:///{path}"))
        self._server = server

    @contextmanager
    def write(self) -> Iterator[Writer]:
        with super().write() as writer:
            yield writer
            if self._server.full_for > 0:
                self._server.full_for -= 1
                raise sqlite3.OperationalError("database or disk is full")
            self._server.commit_point("before commit")
        self._server.commit_point("after commit")


@contextmanager
def _connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    try:
        yield connection
    finally:
        connection.close()


@cache
def migrated_database() -> Path:
    """An empty database at the current schema, to copy: migrations take longer than a run."""
    path = Path(tempfile.mkdtemp(prefix="simulation-")) / "empty.db"
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path


_apps: dict[int, Starlette] = {}


def _app(settings: Settings, registry: Registry) -> Starlette:
    """The application without a lifespan: the simulation starts and ends what it runs on. Routes are made once."""
    app = _apps.get(id(registry))
    if app is None:
        app = _apps[id(registry)] = Starlette(
            routes=routes(registry), middleware=middleware(settings), exception_handlers=EXCEPTION_HANDLERS
        )
        app.state.registry = registry  # as long as it lives, no other one has its id
    return app

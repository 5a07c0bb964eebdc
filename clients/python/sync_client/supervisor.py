"""Keeps an open client going: whether this process syncs, what other processes wrote, and the status."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

import msgspec

from sync_client import replica, views
from sync_client.clock import new_id, now
from sync_client.engine import Engine
from sync_client.errors import StoreError
from sync_client.events import Lost, Profile, Resume, Start
from sync_client.lease import Lease
from sync_client.links.port import LinkLostError
from sync_client.machine import Machine
from sync_client.signals import Signal
from sync_client.states import State
from sync_client.stores.port import Store, Tables
from sync_client.values import LinkState, Progress, Status

T = TypeVar("T")

_log = logging.getLogger("sync_client")

LOOK_S = 0.1
"""How often a shared store is looked at for what other processes wrote."""
LEASE_S = 1.0
"""How often a process that does not sync tries to become the one that does."""
AGAIN_S = 5.0
"""Pause before a store that failed is used again."""
STATUS_S = 0.05
"""Pause between two looks at what the status counts."""

SAVE_S = 5.0
"""How fresh `last_synced_at` is in the store."""

_CLIENT_ID = "client_id"
_SCOPE = "scope"
_STATUS = "status"
_LINK_STATES = {
    State.IDLE: LinkState.OFFLINE,
    State.WAITING: LinkState.OFFLINE,
    State.CONNECTING: LinkState.CONNECTING,
    State.GREETING: LinkState.CONNECTING,
    State.SIGNING_IN: LinkState.CONNECTING,
    State.CATCHING_UP: LinkState.CATCHING_UP,
    State.LIVE: LinkState.LIVE,
    State.STOPPED: LinkState.STOPPED,
}


class Supervisor:
    """
    Args:
        make: an `Engine` over the store, but for `profile`, `resume` and `changed`.
    """

    def __init__(
        self, store: Store, make: Callable[..., Engine], *, spaces: tuple[str, ...] | None,
        entity_types: tuple[str, ...] | None,
    ) -> None:  # fmt: skip
        self.store = store
        self.moved = Signal()
        self.status_moved = Signal()
        self.status = Status(LinkState.OFFLINE, now())
        self._make = make
        self._scope = (spaces, entity_types)
        self._lease = Lease(store.path)
        self._engine: Engine | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stale = asyncio.Event()
        self._saved_gist: object = None
        self._trouble: str | None = None
        """Why this process does not sync although it should, until it tries again."""

    async def open(self, *, connect: bool, user_id: str | None) -> None:
        """Begin.

        Args:
            user_id: who is at work, if that is known.

        Raises:
            StoreError: the store cannot be used, or it is another user's.
        """
        owner = await self.store.run(_named)
        if None not in {owner, user_id} and owner != user_id:
            raise StoreError(f"this store belongs to user {owner}, the token names another: use another store")
        await self._refresh()
        work: list[Awaitable[None]] = [self._keep_status()]
        if self.store.path is not None:
            work.append(self._look())
        if connect:
            work.append(self._sync())
        self._tasks = [asyncio.ensure_future(one) for one in work]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._engine is not None:
            self._engine = None
            with contextlib.suppress(StoreError):
                await self._refresh()
        self.moved.end()
        self.status_moved.end()
        await self.store.close()
        self._lease.release()

    # --- what the client asks --------------------------------------------------------------------------------------

    async def run(self, job: Callable[[Tables], T], *, durable: bool = False, discard: bool = False) -> T:
        """See `Store.run`.

        Raises:
            StoreError: also if the store has turned out to be another user's.
        """
        if self._engine is not None and self._engine.machine.is_foreign:
            raise StoreError(str(self._engine.machine.problem))
        return await self.store.run(job, durable=durable, discard=discard)

    def written(self) -> None:
        """This process put operations into the queue."""
        if self._engine is not None:
            self._engine.written()
        self._changed()

    def reconnect(self) -> None:
        if self._engine is not None:
            self._engine.tell(Start())

    async def is_settled(self) -> bool:
        """Whether everything is up and everything is here, at this moment; another process says so in the store."""
        engine = self._engine
        is_synced = engine.is_settled if engine is not None else self.status.state is LinkState.LIVE
        return is_synced and (await self.store.run(lambda tables: tables.counts())).pending == 0

    async def verify(self) -> bool:
        """See `Engine.verify`."""
        if self._engine is None:
            raise LinkLostError(Lost("this process does not sync"))
        return await self._engine.verify()

    # --- tasks -----------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self.moved.fire()
        self._is_stale.set()

    async def _sync(self) -> None:
        """Run an engine while this process holds the lease; take it when another one lets go."""
        while not self._acquired():  # noqa: ASYNC110  a lock of the file system wakes nobody
            await asyncio.sleep(LEASE_S)
        while True:
            try:
                profile, resume = await self.store.run(self._resume)
                self._engine = self._make(profile=profile, resume=resume, changed=self._changed)
                await self._engine.run()
            except StoreError as error:
                self._trouble = str(error)
            except Exception as error:  # noqa: BLE001  a client that syncs no more must say so, and try again
                _log.exception("syncing failed")
                self._trouble = f"syncing failed ({type(error).__name__}) and is tried again; the log says more"
            self._engine = None
            self._is_stale.set()
            await asyncio.sleep(AGAIN_S)
            self._trouble = None

    def _acquired(self) -> bool:
        try:
            return self._lease.acquire()
        except OSError as error:
            self._trouble = f"no lock can be put beside the store: {error.strerror}; mend its directory's permissions"
            self._is_stale.set()
            return False

    async def _look(self) -> None:
        """Hear of what other processes on the store write."""
        while True:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(StoreError):
                if await self.store.was_changed_elsewhere():
                    if self._engine is not None:
                        self._engine.written()
                    self._changed()

    async def _keep_status(self) -> None:
        while True:
            await self._is_stale.wait()
            self._is_stale.clear()
            try:
                await self._refresh()
            except StoreError as error:
                self._show(replace(self.status, state=LinkState.OFFLINE, link=None, problem=str(error)))
            await asyncio.sleep(STATUS_S)

    async def _refresh(self) -> None:
        engine = self._engine
        if engine is not None:
            shown = _of_machine(engine.machine, engine.synced_at, self.status)
        else:
            shown = await self.store.run(_saved)
            if self._lease.is_free() and shown.state is not LinkState.OFFLINE:
                since = self.status.since if self.status.state is LinkState.OFFLINE else now()
                shown = replace(shown, state=LinkState.OFFLINE, since=since, link=None, progress=None, problem=None)
            shown = replace(shown, problem=self._trouble or shown.problem)
        shown = replace(shown, is_syncing_here=engine is not None)
        if shown.state is not self.status.state and engine is not None:
            shown = replace(shown, since=now())
        status = await self.store.run(partial(_counted, shown=shown))
        await self._save(status)
        self._show(status)

    def _show(self, status: Status) -> None:
        if status != self.status:
            self.status = status
            self.status_moved.fire()

    async def _save(self, status: Status) -> None:
        """Leave the status in the store, where processes that do not sync find it; not every moment of it."""
        at = status.last_synced_at
        gist = (status.state, status.link, status.problem, int(at.timestamp() / SAVE_S) if at is not None else None)
        if status.is_syncing_here and gist != self._saved_gist:
            self._saved_gist = gist
            text = msgspec.json.encode(status).decode()
            await self.store.run(lambda tables: tables.save_value(_STATUS, text))

    def _resume(self, tables: Tables) -> tuple[Profile, Resume]:
        """What the store knows; who hears of something else than the last one needs it from the beginning."""
        scope = msgspec.json.encode(self._scope).decode()
        if tables.value(_SCOPE) not in {None, scope}:
            replica.forget_cursor(tables)
        tables.save_value(_SCOPE, scope)
        profile = Profile(tables.value(_CLIENT_ID) or "", *self._scope)
        resume = Resume(
            tables.value(views.CURSOR), tables.value(views.OWNER), tables.value(views.SYNCED_AT),
            tables.value(views.IS_COMPLETE) is not None,
        )  # fmt: skip
        return profile, resume


def _of_machine(machine: Machine, synced_at: datetime | None, before: Status) -> Status:
    state = _LINK_STATES[machine.state]
    if state is LinkState.CONNECTING and machine.is_retrying:
        state = LinkState.OFFLINE
    is_first = state is LinkState.CATCHING_UP and not machine.is_complete
    return replace(
        before,
        state=state,
        last_synced_at=synced_at or before.last_synced_at,
        progress=Progress(machine.rows_told) if is_first else None,
        link=machine.kind.value if state in {LinkState.CATCHING_UP, LinkState.LIVE} else None,
        problem=machine.problem if state in {LinkState.OFFLINE, LinkState.STOPPED} else None,
    )


def _named(tables: Tables) -> str | None:
    """Give the client its name, once and for ever; whose store it is."""
    if tables.value(_CLIENT_ID) is None:
        tables.save_value(_CLIENT_ID, new_id())
    return tables.value(views.OWNER)


def _saved(tables: Tables) -> Status:
    """What the process that syncs, or last did, left."""
    text = tables.value(_STATUS)
    return msgspec.json.decode(text, type=Status) if text is not None else Status(LinkState.OFFLINE, now())


def _counted(tables: Tables, shown: Status) -> Status:
    counts = tables.counts()
    conflicts = len(views.open_conflicts(tables)) if counts.conflicts else 0
    client_id = tables.value(_CLIENT_ID) or ""
    return replace(
        shown, pending=counts.pending, quarantined=counts.quarantined, conflicts=conflicts, client_id=client_id
    )

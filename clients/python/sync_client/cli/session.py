"""A command at work: an open client, and how long to wait for its server."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from functools import wraps
from typing import Any, Concatenate, NamedTuple, NoReturn, ParamSpec

import click

from sync_client.cli.options import PROGRAM, Setup, setup_of
from sync_client.cli.trouble import Trouble, Unconfirmed
from sync_client.client import SyncClient
from sync_client.values import Key, LinkState, Status

P = ParamSpec("P")


class Shortfall(NamedTuple):
    """Why the server was not reached, or not in time."""

    reason: str
    trouble: type[Trouble]


class Session:
    """An open client, and how long to wait for its server."""

    def __init__(self, client: SyncClient, setup: Setup) -> None:
        self.client = client
        self.setup = setup
        self.printer = setup.printer

    async def caught_up(self, *, timeout_s: float | None = None) -> Shortfall | None:
        """Wait until what the server has is here; None if it is, or if nobody wants to connect."""
        return await self._reached(lambda: self._until(is_live), timeout_s or self.setup.timeout_s)

    async def settled(self) -> Shortfall | None:
        """Wait until there is a verdict on everything that was written."""
        return await self._reached(self.client.settled, self.setup.timeout_s)

    async def looked(self) -> None:
        """Wait until it is clear how things stand, good or bad."""
        await self._reached(lambda: first(self.client.settled(), self._until(_is_trouble)), self.setup.timeout_s)

    async def stopped(self) -> NoReturn:
        """Tell how the connection is doing until the server says not to come back, if it ever does."""
        told: str | None = None
        async with aclosing(self.client.statuses()) as statuses:
            async for status in statuses:
                if status.state is LinkState.STOPPED:
                    break
                text = f"offline: {status.problem}" if _is_trouble(status) else "live" if is_live(status) else told
                if text is not None and text != told:
                    self.printer.note(text)
                    told = text
        raise Trouble(self._reason)

    async def verdict(self, key: Key, mark: str, shortfall: Shortfall | None = None) -> None:
        """Wait for the server's word on what was just written of an entity, and print what it is then.

        Args:
            mark: an id made before it was written; those of its operations sort after it.
            shortfall: of a wait before; then there is no other.

        Raises:
            Trouble: it was not accepted, or there was no word in time.
        """
        shortfall = shortfall or await self.settled()
        await self._check_accepted(key, mark)
        entity = await self.client.get(*key)
        is_pending = entity.is_pending if entity is not None else self.setup.is_offline or shortfall is not None
        if entity is not None:
            self.printer.entity(entity)
        else:
            self.printer.deleted(key, is_pending=is_pending)
        if shortfall is not None and is_pending:
            text = "written locally, not sent yet: {}; it goes up with the next command that reaches the server"
            raise shortfall.trouble(text.format(shortfall.reason))

    async def _check_accepted(self, key: Key, mark: str) -> None:
        for one in await self.client.quarantine():
            if one.operation.key == key and one.operation_id > mark:
                reason = f"{one.problem.error.rstrip('.')} ({one.problem.error_code})"
                raise Trouble(
                    f"the server did not accept it: {reason}; mend it with "
                    f"`{PROGRAM} quarantine retry {one.operation_id} field=value` or forget it with "
                    f"`{PROGRAM} quarantine drop {one.operation_id}`"
                )
        for conflict in await self.client.conflicts():
            if conflict.key == key and (conflict.operation_id or "") > mark:
                raise Trouble(
                    f"someone else changed the same ({', '.join(conflict.fields) or 'all of it'}): see both sides with "
                    f"`{PROGRAM} conflicts show {conflict.conflict_id}`"
                )

    async def _reached(self, goal: Callable[[], Coroutine[Any, Any, object]], timeout_s: float) -> Shortfall | None:
        if self.setup.is_offline:
            return None
        try:
            async with asyncio.timeout(timeout_s) as limit:
                await first(goal(), self._follow(limit, timeout_s))
        except TimeoutError:
            return Shortfall(self._reason, Unconfirmed)
        is_stopped = self.client.status.state is LinkState.STOPPED
        return Shortfall(self._reason, Trouble) if is_stopped else None

    async def _follow(self, limit: asyncio.Timeout, timeout_s: float) -> None:
        """Show the progress of a first sync, which may take its time while it moves, until the connection stops."""
        with self.printer.progress() as told:
            async with aclosing(self.client.statuses()) as statuses:
                async for status in statuses:
                    if status.state is LinkState.STOPPED:
                        return
                    if status.progress is not None:
                        told(status.progress.rows)
                        limit.reschedule(asyncio.get_running_loop().time() + timeout_s)

    async def _until(self, is_reached: Callable[[Status], bool]) -> None:
        async with aclosing(self.client.statuses()) as statuses:
            async for status in statuses:
                if is_reached(status):
                    return

    @property
    def _reason(self) -> str:
        status = self.client.status
        if status.problem is not None:
            return status.problem.rstrip(".")
        return f"{self.setup.url} did not answer within {self.setup.timeout_s:g} seconds"


def is_live(status: Status) -> bool:
    return status.state is LinkState.LIVE


def _is_trouble(status: Status) -> bool:
    return status.state is LinkState.OFFLINE and status.problem is not None and status.is_syncing_here


async def first(*works: Coroutine[Any, Any, object]) -> None:
    """Wait for the first of them; the others end."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def connected(work: Callable[Concatenate[Session, P], Awaitable[None]]) -> Callable[P, None]:
    """A command that works in a session."""

    @wraps(work)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        asyncio.run(perform(setup_of(click.get_current_context()), arguments, options))

    async def perform(setup: Setup, arguments: Any, options: Any) -> None:
        connect = not setup.is_offline
        async with SyncClient(
            setup.url, token=setup.token, store=setup.store, user_id=setup.user_id, connect=connect
        ) as client:
            await work(Session(client, setup), *arguments, **options)

    return run

"""The shell of the machine: it opens links, moves frames, runs steps in the store, keeps time and decides nothing."""

import asyncio
import contextlib
import inspect
import logging
import platform
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime
from functools import partial
from typing import assert_never

from sync_client import replica, views
from sync_client.clock import chance, new_id, now, now_text
from sync_client.errors import StoreError
from sync_client.events import (
    Apply,
    AskToken,
    Check,
    Close,
    Diverged,
    Effect,
    Input,
    ListConflicts,
    Load,
    Loaded,
    Lost,
    NewToken,
    Open,
    Opened,
    Profile,
    Received,
    Resume,
    Send,
    Start,
    Stop,
    Synced,
    Written,
)
from sync_client.frames import Admission, Message, Receipt
from sync_client.inputs import is_token
from sync_client.ladder import Ladder, LinkKind
from sync_client.links.api import Api
from sync_client.links.http import HttpLink
from sync_client.links.network import Network
from sync_client.links.port import Address, Link, LinkLostError
from sync_client.machine import Machine
from sync_client.repairs import MOST_CHECKS, Outcome, Repairs
from sync_client.states import State
from sync_client.stores.port import Store
from sync_client.wire import Codec, UnreadableFrameError

_log = logging.getLogger("sync_client")

Token = str | Callable[[], str | Awaitable[str]]
"""A JSON Web Token, or a function that gives one: it is called for each connection that needs a new one."""

INBOX = 16
"""Frames that wait while a step is stored; then the link is read no further."""
LOAD_PAGE = 1_000
"""Operations that are looked at together."""
TOKEN_S = 60.0
"""How long the function that gives a token may take."""
OUTBOX = 64
"""Messages that wait to be sent: a request and pongs; more is a server that asks and does not read."""


class _Session:
    """One attempt at a link, with the tasks that move its messages. What comes from an older one is not heard."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.outbox: asyncio.Queue[Message] = asyncio.Queue(OUTBOX)
        self.tasks: set[asyncio.Task[None]] = set()
        self.has_listed = False
        """The open conflicts were asked for on this link, and came if the server could be asked."""


class Engine:
    """Keeps one store in step with one server until it is cancelled.

    Args:
        changed: called whenever the machine may have moved on.
    """

    def __init__(  # noqa: PLR0913  the shell is where everything comes together
        self, store: Store, address: Address, token: Token, profile: Profile, resume: Resume, *, codec: Codec,
        links: Collection[LinkKind], network: Network, changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._address = address
        self._token_source = token
        self._token: str | None = None
        self._profile = profile._replace(info=_info(), can_renew=callable(token))
        self._codec = codec
        self._network = network
        self._changed = changed
        self._api = Api(address.http, network.http)
        self._repairs = Repairs(store, self._api)
        self._inbox: asyncio.Queue[tuple[_Session | None, Input]] = asyncio.Queue(INBOX)
        self._answers: deque[Input] = deque()
        self._has_written = False
        self._wake = asyncio.Event()
        self._session = _Session()
        self._following: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self.synced_at: datetime | None = None
        self.machine = Machine(
            self._profile, resume, ladder=Ladder([kind for kind in LinkKind if kind in links]), new_id=new_id,
            chance=chance, now_text=now_text,
        )  # fmt: skip

    async def run(self) -> None:
        """
        Raises:
            StoreError: the store cannot be used any more.
        """
        self.tell(Start())
        try:
            while True:
                await self._turn()
        finally:
            await self._close()
            for task in self._following:
                task.cancel()
            await asyncio.gather(*self._following, *self._closing, return_exceptions=True)
            await self._api.close()

    def tell(self, event: Start | Stop) -> None:
        """Hand the machine an event from outside."""
        self._follow(self._put(None, event))

    @property
    def is_settled(self) -> bool:
        """Everything that the server has is here, the open conflicts, too."""
        is_live = self.machine.state is State.LIVE
        return is_live and (self._session.has_listed or self.machine.is_plain)

    def written(self) -> None:
        """Operations were put into the queue, by this process or another."""
        self._has_written = True
        self._wake.set()

    # --- turns -----------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Wait for the next thing to happen and do what the machine says about it."""
        session, event = await self._next()
        if session is not None and session is not self._session:
            return  # from a link that was closed since
        at = _loop_time()
        effects = self.machine.handle(event, at) if event is not None else self.machine.tick(at)
        for effect in effects:
            await self._do(effect)
        if isinstance(event, Received) and isinstance(event.frame, Admission) and event.frame.problem is None:
            self._take_token()
        self._changed()

    def _take_token(self) -> None:
        """What is asked over HTTP is asked with the new token, once the link's server accepted it for this store."""
        if not self.machine.is_foreign and self._token is not None:
            self._api.token = self._token

    async def _next(self) -> tuple[_Session | None, Input | None]:
        """What happened next; nothing where the machine's deadline came first."""
        while (happened := self._happened()) is None:
            self._wake.clear()
            try:
                async with asyncio.timeout_at(self.machine.deadline):
                    await self._wake.wait()
            except TimeoutError:
                return None, None
        return happened

    def _happened(self) -> tuple[_Session | None, Input] | None:
        if self._answers:
            return self._session, self._answers.popleft()
        if self._has_written:
            self._has_written = False
            return None, Written()
        return self._inbox.get_nowait() if not self._inbox.empty() else None

    async def _put(self, session: _Session | None, event: Input) -> None:
        await self._inbox.put((session, event))
        self._wake.set()

    async def _do(self, effect: Effect) -> None:
        match effect:
            case Open(kind, needs_new_token):
                self._begin(self._carry(self._session, kind, needs_new_token=needs_new_token))
            case Close():
                await self._close()
            case Send(message):
                self._send(message)
            case AskToken():
                self._begin(self._renewed(self._session))
            case Load(after):
                self._answers.append(await self._loaded(after))
            case Apply(step):
                await self._store.run(step)
            case ListConflicts():
                self._follow(self._conflicts(self._session))
            case Check(receipts):
                self._follow(self._check(receipts))
            case Synced():
                self.synced_at = now()
            case _:
                assert_never(effect)

    # --- the link --------------------------------------------------------------------------------------------------

    def _begin(self, work: Awaitable[None]) -> None:
        """Start a task that ends with the link."""
        _keep(self._session.tasks, work)

    def _follow(self, work: Awaitable[None]) -> None:
        """Start a task that ends with the engine."""
        _keep(self._following, work)

    async def _close(self) -> None:
        session, self._session = self._session, _Session()
        self._answers.clear()
        for task in session.tasks:
            task.cancel()
        await asyncio.gather(*session.tasks, return_exceptions=True)
        if session.link is not None:
            _keep(self._closing, session.link.close())  # it may take a second: nobody waits for it but the end

    async def _carry(self, session: _Session, kind: LinkKind, *, needs_new_token: bool) -> None:
        """Open a link and read it to its end; the machine hears of the end, whatever it is."""
        try:
            await self._opened(session, kind, needs_new_token=needs_new_token)
        except Exception as error:  # noqa: BLE001  a machine that waits for an answer must get one
            _log.exception("the link failed")
            await self._put(session, Lost(f"the link failed ({type(error).__name__}); the log says more"))

    async def _opened(self, session: _Session, kind: LinkKind, *, needs_new_token: bool) -> None:
        try:
            if needs_new_token or self._token is None:
                self._token = await self._ask_token()
            self._api.token = self._token
            session.link = link = await self._link(kind)
        except LinkLostError as error:
            await self._put(session, error.lost)
            return
        self._begin(self._write(session, link))
        await self._put(session, Opened(self._token, link.has_heartbeat))
        await self._read(session, link)

    async def _link(self, kind: LinkKind) -> Link:
        if kind is LinkKind.WEBSOCKET:
            return await self._network.websocket(self._address.websocket, self._codec)
        return await HttpLink.open(self._api, kind)

    async def _read(self, session: _Session, link: Link) -> None:
        try:
            while True:
                await self._put(session, Received(await link.receive()))
        except LinkLostError as error:
            await self._put(session, error.lost)
        except UnreadableFrameError as error:
            _log.warning("a frame of the server could not be read: %s", error)
            await self._put(session, Lost("the server said something that cannot be read", is_odd=True))

    def _send(self, message: Message) -> None:
        try:
            self._session.outbox.put_nowait(message)
        except asyncio.QueueFull:
            self._answers.append(Lost("the server takes nothing"))

    async def _write(self, session: _Session, link: Link) -> None:
        try:
            while True:
                await link.send(await session.outbox.get())
        except LinkLostError:
            pass  # the reader tells it
        except Exception as error:  # noqa: BLE001  a machine that waits for a reply must hear that none will come
            _log.exception("a message could not be sent")
            await self._put(session, Lost(f"a message could not be sent ({type(error).__name__})"))

    async def _ask_token(self) -> str:
        """
        Raises:
            LinkLostError: the application's function failed.
        """
        if isinstance(self._token_source, str):
            return self._token_source
        try:
            async with asyncio.timeout(TOKEN_S):
                given = self._token_source()
                token = await given if inspect.isawaitable(given) else given
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise LinkLostError(Lost("no token: the function that gives it was cancelled")) from None
        except Exception as error:  # noqa: BLE001  the application's own function may raise anything
            _log.exception("the function that gives the token failed")
            raise LinkLostError(Lost(f"no token: the function that gives it failed ({type(error).__name__})")) from None
        if not isinstance(token, str) or not is_token(token):
            raise LinkLostError(Lost("no token: what the function gave is none, or has spaces in it"))
        return token

    async def _renewed(self, session: _Session) -> None:
        try:
            self._token = await self._ask_token()
        except LinkLostError:
            return  # the link goes on until the old token ends
        await self._put(session, NewToken(self._token))

    # --- the store and the server ----------------------------------------------------------------------------------

    async def _loaded(self, after: int) -> Loaded:
        operations = await self._store.run(partial(views.waiting, after=after, limit=LOAD_PAGE))
        return Loaded(after, operations, len(operations) < LOAD_PAGE)

    async def _conflicts(self, session: _Session) -> None:
        """Bring the list of conflicts up to date; what is missed here comes with the next connection."""
        session.has_listed = False
        try:
            known = await self._store.run(lambda tables: [conflict.conflict_id for conflict in tables.conflicts()])
            listed = await self._api.conflicts()
            await self._store.run(lambda tables: replica.conflicts_listed(tables, known, listed))
        except (LinkLostError, UnreadableFrameError, StoreError) as error:
            _log.info("the open conflicts were not listed: %s", error)
        finally:
            session.has_listed = True
            self._changed()

    async def _check(self, receipts: tuple[Receipt, ...] | None) -> None:
        """What cannot be found out now is looked at after the next receipt."""
        unknown = contextlib.suppress(LinkLostError, StoreError, UnreadableFrameError)
        with unknown:
            if receipts is None:
                await self.verify()
                return
            for space_id in await self._store.run(partial(views.differing_spaces, receipts=receipts)):
                with unknown:  # one that changes too fast must not keep the others from being mended
                    await self._agrees([space_id], most_looks=2)

    async def verify(self) -> bool:
        """Whether the store has what the server has, by their checksums; if not, the rows that differ are mended.

        Changes may be under way, so a difference counts only once the same was seen twice. Where mending does not help,
        everything is taken anew.

        Raises:
            LinkLostError: the server cannot be asked.
        """
        spaces = self._profile.spaces if self._profile.spaces is not None else await self._api.spaces()
        return await self._agrees(spaces)

    async def _agrees(self, spaces: Iterable[str], *, most_looks: int = MOST_CHECKS) -> bool:
        session = self._session
        outcomes = [await self._repairs.mend(space_id, most_looks=most_looks) for space_id in spaces]
        if Outcome.HOPELESS in outcomes:
            _log.warning("the local store differs from the server: everything is taken anew")
            await self._put(session, Diverged())
        self._changed()
        return all(outcome is Outcome.AGREES for outcome in outcomes)


def _keep(tasks: set[asyncio.Task[None]], work: Awaitable[None]) -> None:
    task = asyncio.ensure_future(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _info() -> tuple[tuple[str, str], ...]:
    """What the server's operator is told of this installation."""
    return (("device_type", "python"), ("os_name", platform.system()), ("os_version", platform.release()))

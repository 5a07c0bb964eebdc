"""What an application opens: local reads and writes that answer at once, and a connection that keeps them in step."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from sync_client import changes, replica, views, writing
from sync_client.clock import new_id, now_text
from sync_client.engine import Engine, Token
from sync_client.errors import ClosedError, InvalidInputError, NoLongerThereError
from sync_client.inputs import (
    checked_choice,
    checked_fields,
    checked_key,
    checked_names,
    checked_new_id,
    checked_query,
    checked_some,
    checked_space,
    checked_strategy,
    checked_type,
    is_token,
    user_named_by,
)
from sync_client.ladder import LinkKind
from sync_client.links.network import Internet, Network
from sync_client.links.port import LinkLostError, parse_address
from sync_client.signals import either
from sync_client.stores.memory import MemoryStore
from sync_client.stores.port import Scalar, Store, Tables
from sync_client.stores.sqlite import SqliteStore
from sync_client.supervisor import Supervisor
from sync_client.values import (
    Change,
    Conflict,
    Entity,
    Key,
    Operation,
    OperationType,
    Quarantined,
    Status,
    WireId,
)
from sync_client.wire import CODECS
from sync_client.writing import Intent, Stamp

T = TypeVar("T")
Named = Entity | Key | tuple[str, WireId]
"""What names an entity: itself, or its type and its id."""


class SyncClient:
    """Offline-first client of one user on one store.

    Everything that is read comes from the store, and everything that is written is in it when the call returns;
    whether there is a network is told by `status`, never by an error.

    Args:
        url: the server, such as `ws://localhost:3000` or `https://sync.example.org`.
        token: a JSON Web Token, or a function, plain or async, that gives one; it is called again when one ends.
        store: a file, which other processes may open as well; `None` keeps everything in memory, and a
            `Store` is used as it is.
        user_id: whose token it is, where a function gives it and that is known: a store of another user is then refused
            when it is opened, and not only when the server says so.
        spaces: hear of these spaces alone; None is all of the user's.
        entity_types: hear of these types alone.
        codec: how messages are written.
        links: the ways that may be used.
        on_conflict: the strategy for fields that were changed on both sides, unless a call names another;
            None leaves it to each entity type.
        connect: False reads and writes the store without ever connecting.
        network: how connections are opened; a simulation has its own.

    Raises:
        InvalidInputError: an argument cannot be used.
    """

    def __init__(  # noqa: PLR0913  what a connection can be told, each by its name
        self,
        url: str,
        *,
        token: Token,
        store: str | Path | Store | None = None,
        user_id: str | int | None = None,
        spaces: Sequence[str] | None = None,
        entity_types: Sequence[str] | None = None,
        codec: Literal["json", "msgpack"] = "json",
        links: Sequence[LinkKind | str] = tuple(LinkKind),
        on_conflict: str | None = None,
        connect: bool = True,
        network: Network | None = None,
    ) -> None:
        self._address = parse_address(url)
        if not callable(token) and (not isinstance(token, str) or not is_token(token)):
            raise InvalidInputError("token", "must be a JSON Web Token, or a function that gives one")
        self._token = token
        self._store_at = store
        self._user_id = str(user_id) if user_id is not None else user_named_by(token)
        self._spaces = checked_names("spaces", spaces)
        self._entity_types = checked_names("entity_types", entity_types)
        self._codec = CODECS[f"sync.v1.{checked_choice('codec', codec, ('json', 'msgpack'))}"]
        self._links = [
            LinkKind(checked_choice("links", link, tuple(LinkKind))) for link in checked_some("links", links)
        ]
        self._on_conflict = checked_strategy(on_conflict)
        self._connects = connect
        self._network = network if network is not None else Internet()
        self._supervisor: Supervisor | None = None
        self._transaction: ContextVar[_Transaction | None] = ContextVar("transaction", default=None)

    def __repr__(self) -> str:
        return f"SyncClient({self._address.websocket!r}, store={self._store_at!r})"

    async def __aenter__(self) -> Self:
        """
        Raises:
            StoreError: the store cannot be used.
        """
        if self._supervisor is not None:
            raise InvalidInputError("client", "is open already")
        store = await _opened(self._store_at)
        try:
            make = partial(
                Engine, store, self._address, self._token, codec=self._codec, links=self._links, network=self._network
            )
            supervisor = Supervisor(store, make, spaces=self._spaces, entity_types=self._entity_types)
            await supervisor.open(connect=self._connects, user_id=self._user_id)
        except BaseException:
            await store.close()
            raise
        self._supervisor = supervisor
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        supervisor, self._supervisor = self._open, None
        await asyncio.shield(asyncio.ensure_future(supervisor.close()))

    @property
    def _open(self) -> Supervisor:
        if self._supervisor is None:
            raise ClosedError
        return self._supervisor

    # --- write -----------------------------------------------------------------------------------------------------

    async def create(
        self, entity_type: str, data: Mapping[str, Any] | None = None, /, *, entity_id: str | None = None,
        space_id: str | None = None, **fields: Any,
    ) -> Entity:  # fmt: skip
        """Make an entity; others may refer to its id at once.

        Args:
            entity_id: its id, should it be of your choosing; else a UUID version 7.
            space_id: where it belongs; the user's own space, if none is named.
        """
        key = Key(checked_type(entity_type), checked_new_id(entity_id if entity_id is not None else new_id()))
        intent = Intent(
            OperationType.CREATE, key, checked_fields(data or {}, fields), checked_space(space_id), self._on_conflict
        )
        return _there(await self._write(intent))

    async def update(
        self, entity: Named, changes: Mapping[str, Any] | None = None, /, *, on_conflict: str | None = None,
        **fields: Any,
    ) -> Entity:  # fmt: skip
        """Change some fields of an entity; the others stay as they are.

        Args:
            entity: as it was read: what others changed since then is merged, or in conflict, and not overwritten. Named
                by its type and id, it is changed as it stands in the store.
            on_conflict: the strategy for fields that were changed on both sides.

        Raises:
            EntityNotFoundError
        """
        strategy = checked_strategy(on_conflict) or self._on_conflict
        plain = checked_fields(changes or {}, fields)
        if not plain:
            raise InvalidInputError("changes", "are empty: name a field")
        intent = Intent(OperationType.UPDATE, checked_key(entity), plain, None, strategy, _version_of(entity))
        return _there(await self._write(intent))

    async def delete(self, entity: Named, /, *, on_conflict: str | None = None) -> None:
        """Delete an entity.

        Raises:
            EntityNotFoundError
        """
        strategy = checked_strategy(on_conflict) or self._on_conflict
        await self._write(Intent(OperationType.DELETE, checked_key(entity), None, None, strategy, _version_of(entity)))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """What the block writes is stored, and later takes effect on the server, all or nothing.

        If the block raises, nothing of it was done. A plain server (one that follows the T3 document alone) takes the
        operations one by one.
        """
        if self._transaction.get() is not None:
            raise InvalidInputError("transaction", "cannot be inside another one")
        block = _Transaction()
        mark = self._transaction.set(block)
        try:
            yield
        finally:
            self._transaction.reset(mark)
            block.is_over = True
        if block.operations:
            await self._commit(lambda tables: replica.append(tables, writing.grouped(block.operations)))

    async def _write(self, intent: Intent) -> Entity | None:
        stamp = Stamp(new_id, now_text())
        block = self._transaction.get()
        if block is None:
            return await self._commit(partial(writing.perform, intent=intent, stamp=stamp))
        job = partial(writing.preview, earlier=block.of(intent.key), intent=intent, stamp=stamp)
        operation, entity = await self._open.run(job, discard=True)
        block.add(operation)
        return entity

    async def _commit(self, job: Callable[[Tables], T]) -> T:
        supervisor = self._open
        try:
            return await supervisor.run(job, durable=True)
        finally:
            supervisor.written()  # also when who waits is cancelled: the step is done all the same

    # --- read ------------------------------------------------------------------------------------------------------

    async def get(self, entity_type: str, entity_id: WireId, /) -> Entity | None:
        """An entity; None where there is none."""
        key = checked_key((entity_type, entity_id))
        block = self._transaction.get()
        return await self._read(lambda tables: views.entity(tables, key), block.of(key) if block is not None else [])

    async def query(
        self, entity_type: str, where: Mapping[str, Scalar] | None = None, /, *, order_by: str | None = None,
        limit: int | None = None, **equals: Scalar,
    ) -> list[Entity]:  # fmt: skip
        """Entities of a type, in the order of creation, unless the application chose their ids.

        Args:
            where: fields and what they are equal to; None finds null and absent ones.
            order_by: another order, by this field; with `-` before it from the largest to the smallest.
        """
        query = checked_query(entity_type, {**(where or {}), **equals}, order_by=order_by, limit=limit)
        block = self._transaction.get()
        return await self._read(
            lambda tables: views.select(tables, query), block.operations if block is not None else []
        )

    async def _read(self, job: Callable[[Tables], T], written: Sequence[Operation]) -> T:
        """Inside a transaction, what it wrote so far is seen."""
        earlier = tuple(written)

        def over(tables: Tables) -> T:
            replica.append(tables, earlier)
            return job(tables)

        return await self._open.run(over if earlier else job, discard=bool(earlier))

    def changes(self, entity_type: str | None = None, /, *, existing: bool = False) -> AsyncGenerator[Change]:
        """What the application would see change, from the first step of the iteration on: written here, by other
        processes on the store, or on the server. Also when an entity's `is_pending` ends.

        A slow reader is told the newest state, once.

        Args:
            entity_type: only of this type.
            existing: first, what of this type is there already, as `created`; nothing is missed between.
        """
        kind = checked_type(entity_type) if entity_type is not None else None
        if existing and kind is None:
            raise InvalidInputError("existing", "needs an entity_type")
        return changes.follow(self._open.store, self._open.moved, kind, existing=existing)

    # --- what waits for a person -----------------------------------------------------------------------------------

    async def conflicts(self) -> list[Conflict]:
        """The open conflicts of the user's spaces, oldest first."""
        return await self._open.run(views.open_conflicts)

    async def keep_mine(self, conflict: Conflict | str, /) -> None:
        """Settle a conflict: the side of the operation that met it stands.

        Raises:
            NoLongerThereError: it is settled already.
        """
        await self._resolve(conflict, "client_wins", None)

    async def keep_theirs(self, conflict: Conflict | str, /) -> None:
        """Settle a conflict: what the server has stays."""
        await self._resolve(conflict, "server_wins", None)

    async def merge(self, conflict: Conflict | str, data: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Settle a conflict with these values."""
        await self._resolve(conflict, "merge", checked_fields(data or {}, fields))

    async def _resolve(self, conflict: Conflict | str, strategy: str, resolved: dict[str, Any] | None) -> None:
        conflict_id = conflict.conflict_id if isinstance(conflict, Conflict) else conflict
        stamp = Stamp(new_id, now_text())

        def job(tables: Tables) -> None:
            replica.append(tables, [writing.resolution_of(tables, conflict_id, strategy, resolved, stamp)])

        await self._commit(job)

    async def quarantine(self) -> list[Quarantined]:
        """Operations that the server did not accept, oldest first, with its reason."""
        return await self._open.run(lambda tables: tables.quarantined())

    async def retry(self, refused: Quarantined | str, data: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Send a quarantined operation once more, with these fields instead of what it had; its transaction with it.

        Raises:
            NoLongerThereError: it was retried or dropped already.
        """
        changed = checked_fields(data or {}, fields)
        stamp = Stamp(new_id, now_text())

        def job(tables: Tables) -> None:
            replica.append(tables, writing.retried(tables, _id_of(refused), changed, stamp))

        await self._commit(job)

    async def drop(self, refused: Quarantined | str, /) -> None:
        """Forget a quarantined operation for good; its transaction with it.

        Raises:
            NoLongerThereError: it was retried or dropped already.
        """
        operation_id = _id_of(refused)

        def job(tables: Tables) -> None:
            if not replica.released(tables, operation_id):
                raise NoLongerThereError(f"the operation {operation_id} is not in the quarantine any more")

        await self._commit(job)

    # --- the connection --------------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """How things stand."""
        return self._open.status

    async def statuses(self) -> AsyncGenerator[Status]:
        """The status, and again whenever it has changed, until the end. A slow reader is told the newest."""
        supervisor = self._open
        told: Status | None = None
        while True:
            changing = supervisor.status_moved.next
            if supervisor.status != told:
                told = supervisor.status
                yield told
            elif supervisor.status_moved.is_over:
                return
            else:
                await changing.wait()

    async def settled(self, *, timeout_s: float | None = None) -> Status:
        """Wait until everything is up and everything that the server has is here.

        Raises:
            TimeoutError: it took longer.
        """
        supervisor = self._open
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    moves = supervisor.moved.next, supervisor.status_moved.next
                    if supervisor.status.is_settled and await supervisor.is_settled():
                        return supervisor.status
                    if supervisor.moved.is_over:
                        raise ClosedError
                    await either(*moves)
        except TimeoutError:
            status = supervisor.status
            why = f": {status.problem}" if status.problem is not None else ""
            raise TimeoutError(f"{status.state}, {status.pending} pending after {timeout_s:g} s{why}") from None

    def reconnect(self) -> None:
        """Try at once, also after the server said not to come back: when the network or the token is new."""
        self._open.reconnect()

    async def verify(self) -> bool:
        """Whether the store had what the server has, by their checksums; changes under way are waited for.

        If not, the rows that differ are taken anew from the server, before this returns; where that does not help, all
        of them are, soon. What was written here stays.

        Raises:
            ConnectionError: the server cannot be asked now.
            InvalidInputError: this client leaves entity types out, and checksums are of all.
        """
        if self._entity_types is not None:
            raise InvalidInputError("entity_types", "leave types out, and checksums are of all: open a client without")
        try:
            return await self._open.verify()
        except LinkLostError as error:
            raise ConnectionError(str(error)) from None


class _Transaction:
    """What a block has written so far."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.is_over = False

    def of(self, key: Key) -> list[Operation]:
        """What it wrote of one entity."""
        return [operation for operation in self.operations if operation.key == key]

    def add(self, operation: Operation) -> None:
        """
        Raises:
            InvalidInputError: the block has ended, and what it wrote is stored.
        """
        if self.is_over:
            raise InvalidInputError("transaction", "is over: a task that it started cannot write in it any more")
        self.operations.append(operation)


def _there(entity: Entity | None) -> Entity:
    assert entity is not None  # it was just written
    return entity


def _version_of(entity: Named) -> int | None:
    return entity.version if isinstance(entity, Entity) else None


def _id_of(refused: Quarantined | str) -> str:
    return refused.operation_id if isinstance(refused, Quarantined) else refused


async def _opened(store: str | Path | Store | None) -> Store:
    if store is None:
        return MemoryStore()
    if isinstance(store, (str, Path)):
        return await SqliteStore.open(Path(store))
    return store

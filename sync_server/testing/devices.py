"""Devices: the real client with its store, over a simulated line; everything it says and hears is written down."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import UUID

import httpx2 as httpx
import msgspec
from sync_client import SyncClient
from sync_client.clock import CLOCK
from sync_client.events import Lost
from sync_client.frames import Frame, Message
from sync_client.links.port import OPEN_S, LinkLostError
from sync_client.stores.memory import MemoryStore
from sync_client.stores.port import Query, Store, Tables
from sync_client.stores.sqlite import SqliteStore, connected
from sync_client.stores.sqlite_tables import SqliteTables
from sync_client.values import Key, Row
from sync_client.wire import Codec

from sync_server.testing.history import DeviceEnd, Got, History, Opened, Sent, State
from sync_server.testing.loop import Node
from sync_server.testing.network import Line, Transport, Wire
from sync_server.testing.servers import BEGIN_MS

T = TypeVar("T")

_BEGIN = datetime.fromtimestamp(BEGIN_MS / 1_000, UTC)
_MOST_S = 100_000 * 86_400
_JSON = "sync.v1.json"


class DeviceClock:
    """
    Attributes:
        ahead_s: how wrong the device's clock is.
    """

    def __init__(self, chance: Random) -> None:
        self.ahead_s = 0.0
        self._chance = chance

    def now(self) -> datetime:
        seconds = asyncio.get_running_loop().time() + self.ahead_s
        return _BEGIN + timedelta(seconds=max(-_MOST_S, min(seconds, _MOST_S)))

    def chance(self) -> float:
        return self._chance.random()

    def new_id(self) -> str:
        """UUID version 7, by this clock."""
        moment = int(self.now().timestamp() * 1_000) & (1 << 48) - 1
        bits = self._chance.getrandbits
        return str(UUID(int=moment << 80 | 7 << 76 | bits(12) << 64 | 2 << 62 | bits(62)))


class Device:
    """One installation of one user: `SyncClient` in a process that may be killed, and a store that survives it.

    Attributes:
        client: while the process runs.
    """

    def __init__(
        self, name: str, user: str, line: Line, history: History, chance: Random, *, token: Callable[[], str],
        store_path: Path | None, **options: Any,
    ) -> None:  # fmt: skip
        self.name = name
        self.user = user
        self.line = line
        self.clock = DeviceClock(chance)
        self.client: SyncClient | None = None
        self.node: Node | None = None
        self._history = history
        self._token = token
        self._store_path = store_path
        self._kept = _KeptStore()
        self._options = options
        self._links = count(1)

    @property
    def may_use_http(self) -> bool:
        return tuple(self._options["links"]) != ("websocket",)

    @property
    def is_on(self) -> bool:
        return self.client is not None

    async def turn_on(self) -> None:
        node = self.node = Node(self.name, killed=self._was_killed)
        node.set(CLOCK, self.clock)
        store: Store = _InlineSqliteStore(self._store_path) if self._store_path is not None else self._kept
        network = _RecordedNetwork(self, node, self._history)
        client = SyncClient("ws://sync.test", token=self._token, store=store, network=network, **self._options)
        await node.result(client.__aenter__())
        if not node.is_dead:
            self.client = client

    async def turn_off(self) -> None:
        """Close it in good order."""
        client, node = self.client, self.node
        self.client = None
        if client is not None and node is not None:
            await node.result(client.__aexit__(None, None, None))
            node.kill()

    async def do(self, act: Callable[[SyncClient], Awaitable[T]]) -> T | None:
        """What somebody does at this device; None if it is off, or is killed meanwhile."""
        client, node = self.client, self.node
        return await node.result(_done(act, client)) if client is not None and node is not None else None

    async def corrupt(self, chance: Random) -> None:
        """Lose a row, be wrong about its version, or have one that never was."""
        client = self.client
        assert client is not None  # the caller looked

        def spoil(tables: Tables) -> None:
            keys = [Key("note", f"phantom-{chance.getrandbits(32)}")]
            keys += tables.select(Query("note"))
            rows = list(tables.rows(keys).values())
            for row in chance.sample(rows, min(len(rows), 2)):
                if chance.random() < 0.5:
                    tables.delete_rows([row.key])
                else:
                    tables.save_rows([row._replace(version=max(1, row.version + chance.choice((-1, 1_000))))])
            if rows and chance.random() < 0.5:
                tables.save_rows([rows[0]._replace(key=keys[0])])

        await client._open.store.run(spoil)  # noqa: SLF001  nobody else may write there

    def next_link(self) -> int:
        return next(self._links)

    async def end(self, keys: set[Key]) -> DeviceEnd:
        client = self.client
        assert client is not None  # the run turned it on
        store = client._open.store  # noqa: SLF001  rows as the server told them are nobody's but the client's

        def read(tables: Tables) -> DeviceEnd:
            queued = tables.queue(after=0, limit=None)
            status = client.status
            return DeviceEnd(
                self.user, tables.value("client_id") or "", status.state == "live", str(status.problem or status.state),
                _live(tables.rows(keys)), tuple(queued), tuple(tables.quarantined()), tuple(tables.conflicts()),
            )  # fmt: skip

        return await store.run(read)

    def _was_killed(self) -> None:
        self.client = None
        self.line.cut()


def _live(rows: dict[Key, Row]) -> dict[Key, State]:
    states = {}
    for key, row in sorted(rows.items()):
        if row.data is not None:
            data = json.loads(row.data)
            data.pop("id", None)
            states[key] = State(row.space_id, row.version, data)
    return states


async def _done(act: Callable[[SyncClient], Awaitable[T]], client: SyncClient) -> T:
    return await act(client)


class _RecordedNetwork:
    def __init__(self, device: Device, node: Node, history: History) -> None:
        self._device = device
        self._node = node
        self._history = history

    async def websocket(self, _url: str, codec: Codec) -> "RecordedLink":
        line = self._device.line
        try:
            server = await line.reach()
            async with asyncio.timeout(OPEN_S):
                wire = Wire(line, server, self._node, codec.subprotocol)
                await wire.opened
        except TimeoutError:
            raise LinkLostError(Lost("the server does not answer", is_odd=True)) from None
        except OSError:
            raise LinkLostError(Lost("the server cannot be reached")) from None
        return RecordedLink(wire, codec, self._device.name, self._device.next_link(), self._history)

    async def http(self) -> httpx.AsyncClient:
        transport = _RecordedTransport(Transport(self._device.line, self._node), self._device, self._history)
        return httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(OPEN_S, read=60.0), trust_env=False)


class RecordedLink:
    has_heartbeat = True

    def __init__(self, wire: Wire, codec: Codec, device: str, number: int, history: History) -> None:
        self._wire = wire
        self._codec = codec
        self._about = device, number
        self._history = history
        history.add(Opened(_now(), *self._about, "websocket"))

    async def send(self, message: Message) -> None:
        self._history.add(Sent(_now(), *self._about, dict(message)))
        data = self._codec.encode(message)
        self._wire.send(
            data.encode() if isinstance(data, str) else data,
            is_text=isinstance(data, str),
            may_repeat=message["type"] == "sync",
        )

    async def receive(self) -> Frame:
        data = await self._wire.receive()
        plain = json.loads(data) if self._codec.subprotocol == _JSON else msgspec.msgpack.decode(data)
        self._history.add(Got(_now(), *self._about, plain))
        return self._codec.decode(data.decode() if self._codec.subprotocol == _JSON else data)

    async def close(self) -> None:
        self._wire.close()


class _RecordedTransport(httpx.AsyncBaseTransport):
    """Writes down operations, verdicts and changes as if they were the messages of a WebSocket."""

    def __init__(self, transport: Transport, device: Device, history: History) -> None:
        self._transport = transport
        self._device = device
        self._history = history

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/sync")
        about = self._device.name, self._device.next_link()
        if path == "/sync":
            self._history.add(Opened(_now(), *about, "http"))
            self._history.add(Sent(_now(), *about, {"type": "sync", "data": json.loads(await request.aread())}))
        response = await self._transport.handle_async_request(request)
        if path == "/sync":
            body = b"".join([chunk async for chunk in response.stream])  # type: ignore[union-attr]
            if response.status_code == 200:
                self._history.add(Got(_now(), *about, {"type": "sync_response", "data": json.loads(body)["data"]}))
            return httpx.Response(response.status_code, headers=response.headers, content=body, request=request)
        return response


class _KeptStore(MemoryStore):
    """A memory that survives its process, as a file does."""

    async def close(self) -> None:
        pass


class _InlineSqliteStore(SqliteStore):
    """The SQLite store without its thread: a job is one step of the loop."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._connection = connected(path)
        self._tables = SqliteTables(self._connection)

    @property
    def path(self) -> Path | None:
        return None  # nobody shares it: no lease, and nothing to look for

    async def run(self, job: Callable[[Tables], T], *, durable: bool = False, discard: bool = False) -> T:
        answer = self._queued(job, durable=durable, discard=discard)
        while not self._jobs.empty():
            self._perform(self._connection, self._tables, self._waiting())
        return await answer

    async def close(self) -> None:
        self._connection.close()


def _now() -> float:
    return asyncio.get_running_loop().time()

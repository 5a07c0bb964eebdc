"""A real server on a real socket, and a client that checks every frame it gets."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx2 as httpx
import msgpack
import uvicorn
import websockets
from pydantic import ConfigDict, TypeAdapter
from websockets.asyncio.client import ClientConnection, connect

from sync_server.app import create_app
from sync_server.auth import issue_token
from sync_server.clock import now_ms
from sync_server.config import Settings
from sync_server.orders import Committed
from sync_server.protocol.server_messages import ServerMessage
from sync_server.records import Space
from sync_server.server import SyncHttpProtocol, SyncWebSocketProtocol, listening_socket
from sync_server.services import Services
from sync_server.stores.writer import Writer
from sync_server.types import Millis, Role, SpaceId, UserId
from sync_server.users import save_member

SECRET = "a secret for tests, at least 32 bytes long"
TIMEOUT_S = 5.0
"""The bound of every wait for something that must come."""
QUIET_S = 0.2
"""How long nothing must come, where a test says that nothing comes."""
_SERVER_MESSAGE: TypeAdapter[Any] = TypeAdapter(ServerMessage, config=ConfigDict(extra="forbid"))

Message = dict[str, Any]


def token_for(user: str, *, ttl_s: int = 3_600) -> str:
    return issue_token(SECRET, UserId(user), ttl_s=ttl_s, now=now_ms())


def settings_for(data_dir: Path, **changes: Any) -> Settings:
    defaults: dict[str, Any] = {"data_dir": data_dir, "port": 0, "auth_secret": SECRET, "frames_burst": 100_000}
    return Settings(**{**defaults, "operations_per_minute": 10_000_000, **changes})


class RunningServer:
    """A server in the test's own event loop, reached over TCP like any other."""

    def __init__(self, port: int, services: Services) -> None:
        self.port = port
        self.services = services

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/sync/ws"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def http(self, user: str | None = "1", **options: Any) -> httpx.AsyncClient:
        """An HTTP client with the user's token, or with none."""
        headers = {"Authorization": f"Bearer {token_for(user)}"} if user is not None else {}
        return httpx.AsyncClient(base_url=self.http_url, headers=headers, timeout=TIMEOUT_S, **options)

    async def share(self, space_id: str, **roles: str | None) -> None:
        """Give users (`_1="owner"` as in `_<user>`) roles in a space, which is made if it is new; None revokes."""
        for name, role in roles.items():
            known = Role(role) if role is not None else None
            await self.services.committer.perform(partial(_share, SpaceId(space_id), UserId(name.strip("_")), known))

    @asynccontextmanager
    async def client(self, user: str = "1", client_id: str = "client_a", **greeting: Any) -> AsyncIterator["Client"]:
        """A client that is READY."""
        async with open_client(self.ws_url, client_id) as client:
            await client.greet(token=token_for(user), **greeting)
            yield client


@asynccontextmanager
async def running_server(data_dir: Path, **changes: Any) -> AsyncIterator[RunningServer]:
    settings = settings_for(data_dir, **changes)
    app = create_app(settings, SECRET)
    config = uvicorn.Config(
        app, http=SyncHttpProtocol, ws=SyncWebSocketProtocol, loop="none", lifespan="on", log_config=None,
        access_log=False, ws_max_size=settings.max_message_bytes + 65_536, ws_per_message_deflate=False,
        ws_ping_interval=None, timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    listener = listening_socket("127.0.0.1", 0)
    task = asyncio.create_task(server._serve(sockets=[listener]))
    while not server.started:
        if task.done():
            await task
        await asyncio.sleep(0)
    try:
        yield RunningServer(listener.getsockname()[1], app.state.services)
    finally:
        server.should_exit = True
        await task
        listener.close()


def _share(
    space_id: SpaceId, user_id: UserId, role: Role | None, writer: Writer, now: Millis
) -> tuple[None, Committed]:
    if not writer.spaces((space_id,)):
        writer.save_space(Space(space_id, space_id, user_id, now))
    return None, Committed((save_member(writer, space_id, user_id, role, by=user_id, now=now),))


class Client:
    """One WebSocket client. `greet` it, then `sync`; frames that answer nothing are kept in order for `next`."""

    def __init__(self, ws: ClientConnection, client_id: str) -> None:
        self.ws = ws
        self.client_id = client_id
        self.cursor: str | None = None
        self.replica = Replica()
        self._inbox: list[Message] = []
        self._count = 0

    async def send(self, **message: Any) -> None:
        packs = self.ws.subprotocol == "sync.v1.msgpack"
        await self.ws.send(msgpack.packb(message) if packs else json.dumps(message))

    async def receive(self, *, timeout_s: float = TIMEOUT_S) -> Message:
        """The next frame from the socket, checked against the schema of what a server sends."""
        raw = await asyncio.wait_for(self.ws.recv(), timeout_s)
        message: Message = json.loads(raw) if isinstance(raw, str) else msgpack.unpackb(raw)
        _SERVER_MESSAGE.validate_python(message)
        self.replica.take(message)
        return message

    async def next(self, *types: str, timeout_s: float = TIMEOUT_S) -> Message:
        """The next frame, of one of these types if any are named; others stay for later."""
        for index, message in enumerate(self._inbox):
            if not types or message["type"] in types:
                return self._inbox.pop(index)
        while True:
            message = await self.receive(timeout_s=timeout_s)
            if not types or message["type"] in types:
                return message
            self._inbox.append(message)

    async def nothing(self, *types: str) -> None:
        """Fails if such a frame comes within a moment."""
        try:
            message = await self.next(*types, timeout_s=QUIET_S)
        except TimeoutError:
            return
        raise AssertionError(message)

    async def close_code(self, *, timeout_s: float = TIMEOUT_S) -> int:
        """The code with which the server closes; frames before it are kept."""
        try:
            while True:
                self._inbox.append(await self.receive(timeout_s=timeout_s))
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006

    async def greet(self, *, token: str | None = None, **greeting: Any) -> Message:
        await self.send(type="handshake", message_id="hello", client_id=self.client_id, token=token, **greeting)
        reply = await self.next("handshake")
        if token is not None and reply["auth"]["success"]:
            self.cursor = reply["auth"]["cursor"]
        return reply

    async def sync(self, *operations: Message, **request: Any) -> Message:
        """The `data` of the response to one request with these operations."""
        self._count += 1
        message_id = f"sync_{self._count}"
        data: Message = {
            "client_id": self.client_id,
            "request_id": message_id,
            "operations": list(operations),
            **request,
        }
        if "client_state" not in request and self.cursor is not None:
            data["client_state"] = {"cursor": self.cursor}
        await self.send(type="sync", message_id=message_id, data=data)
        reply = await self.next("sync_response", "error")
        assert reply["type"] == "sync_response", reply
        assert reply["message_id"] == message_id
        response: Message = reply["data"]
        self.cursor = response["new_client_state"]["cursor"]
        return response

    async def do(self, operation: Message, **request: Any) -> Message:
        """The result of one operation."""
        result: Message = (await self.sync(operation, **request))["operation_results"][0]
        return result


class Replica:
    """What a client of docs/protocol.md keeps: of each entity the newest version, of each reset only what follows.

    Attributes:
        rows: (space, version, data) by (type, id); data is None once deleted.
        cursor: the newest one that came with what is in `rows`.
        told: every change in the order it came, as (seq, type, id, version, reason).
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Any], tuple[str, int, Message | None]] = {}
        self.cursor: str | None = None
        self.told: list[tuple[int, str, Any, int, str | None]] = []

    def take(self, message: Message) -> None:
        match message["type"]:
            case "server_update":
                self._apply({**message, **message["update_data"]})
            case "server_updates":
                for update in message["updates"]:
                    self._apply(update)
            case "reset":
                self._drop(message["space_id"])
            case "sync_response":
                self._take_response(message["data"])
        self.cursor = message.get("cursor", self.cursor)

    @property
    def live(self) -> dict[tuple[str, Any], tuple[int, Message]]:
        """(version, data) of what is not deleted."""
        return {key: (version, data) for key, (_, version, data) in self.rows.items() if data is not None}

    def _take_response(self, data: Message) -> None:
        for reset in data.get("resets", []):
            self._drop(reset["space_id"])
        for result in data["operation_results"]:
            if result.get("new_version") and result["operation_type"] != "read" and "data" in result:
                key = (result["entity_type"], result["entity_id"])
                space_id = self.rows[key][0] if key in self.rows else ""
                self._put(key, space_id, result["new_version"], result["data"])
        for update in data["server_updates"]:
            self._apply(update)
        self.cursor = data["new_client_state"]["cursor"]

    def _apply(self, update: Message) -> None:
        key = (update["entity_type"], update["entity_id"])
        self.told.append((update["seq"], *key, update["version"], update.get("reason")))
        if update.get("reason") == "revoked":
            self.rows.pop(key, None)
        else:
            if update["operation_type"] == "create" and update["version"] % 1_000_000 == 1 and self._is_gone(key):
                del self.rows[key]
            self._put(key, update["space_id"], update["version"], update["data"])

    def _is_gone(self, key: tuple[str, Any]) -> bool:
        return key in self.rows and self.rows[key][2] is None

    def _put(self, key: tuple[str, Any], space_id: str, version: int, data: Message | None) -> None:
        if key not in self.rows or self.rows[key][1] < version:
            self.rows[key] = (space_id, version, data)

    def _drop(self, space_id: str | None) -> None:
        self.rows = {key: row for key, row in self.rows.items() if space_id is not None and row[0] != space_id}


@asynccontextmanager
async def open_client(url: str, client_id: str, **options: Any) -> AsyncIterator[Client]:
    async with connect(url, compression=None, max_size=None, close_timeout=1, **options) as ws:
        yield Client(ws, client_id)


def create(operation_id: str, entity_type: str = "note", *, entity_id: str | None = None, **data: Any) -> Message:
    operation: Message = {
        "operation_id": operation_id, "operation_type": "create", "entity_type": entity_type, "data": data,
    }  # fmt: skip
    return operation if entity_id is None else {**operation, "entity_id": entity_id}


def update(operation_id: str, entity_id: Any, before_version: int | None, **changes: Any) -> Message:
    return {
        "operation_id": operation_id, "operation_type": "update", "entity_type": "note", "entity_id": entity_id,
        "before_version": before_version, "changes": changes,
    }  # fmt: skip


def delete(operation_id: str, entity_id: Any, before_version: int | None = None, entity_type: str = "note") -> Message:
    return {
        "operation_id": operation_id, "operation_type": "delete", "entity_type": entity_type, "entity_id": entity_id,
        "before_version": before_version,
    }  # fmt: skip


class ServerProcess:
    """The server as a process of its own, to be killed.

    Args:
        program: what Python runs, with its arguments.

    Attributes:
        output: every line that it has written, also in earlier lives.
    """

    def __init__(self, data_dir: Path, *, program: Sequence[str] = ("run_server.py",), **environment: str) -> None:
        self.port = free_port()
        self.output: list[str] = []
        self._program = program
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SYNC_")},
            "SYNC_DATA_DIR": str(data_dir),
            "SYNC_PORT": str(self.port),
            "SYNC_AUTH_SECRET": SECRET,
            **environment,
        }
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/sync/ws"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start and return once it accepts connections."""
        root = Path(__file__).parent.parent
        self._process = subprocess.Popen(
            [sys.executable, *self._program], cwd=root, env=self._environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        settled = threading.Event()
        # read until it ends: a full pipe would stop the server at its next line
        self._reader = threading.Thread(target=self._read, args=(self._process, settled), daemon=True)
        self._reader.start()
        settled.wait(30)
        if not any("ws://" in line for line in self.output) or self._process.poll() is not None:
            raise AssertionError("".join(self.output))
        return self

    def kill(self) -> None:
        """kill -9."""
        self._stop(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; returns the exit status."""
        return self._stop(signal.SIGTERM)

    def wait(self) -> int:
        """The exit status, once it has ended by itself."""
        assert self._process is not None
        assert self._reader is not None
        status = self._process.wait(timeout=30)
        self._reader.join()
        return status

    def _stop(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait()

    def _read(self, process: subprocess.Popen[str], settled: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.output.append(line)
                if "ws://" in line:
                    settled.set()
        settled.set()


@contextmanager
def server_process(
    data_dir: Path, *, program: Sequence[str] = ("run_server.py",), **environment: str
) -> Iterator[ServerProcess]:
    process = ServerProcess(data_dir, program=program, **environment).start()
    try:
        yield process
    finally:
        if process._process is not None and process._process.poll() is None:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

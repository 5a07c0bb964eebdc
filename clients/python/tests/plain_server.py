"""A server that knows the T3 document and nothing else: how another implementer would have read it, in memory.

What the document leaves open is done the plain way: moments are of whole seconds, so that updates are told more than
once; a client is never told what it did itself; a deletion has no data. Operations are done once for each
`operation_id`, which the document does not promise.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

Json = dict[str, Any]
Key = tuple[str, Any]
SOMEBODY = "somebody else"
"""The client that `PlainServer.write` stands for."""


class PlainServer:
    """
    Attributes:
        entities: version and data of each; the data is None once deleted.
        received: the id of every operation in the order in which it came, resends too.
        requests: the `data` of every sync.
        replies_to_lose: so many syncs are done, and the connection is cut in place of the reply.
        refusals: answers to whole syncs, used up one by one; they are not done.
        refused_title: what has it is not accepted.
        pings: how many came.
        token: the one that is accepted; None accepts any.
        refused: set once a token was refused.
    """

    def __init__(self) -> None:
        self.port = 0
        self.entities: dict[Key, tuple[int, Json | None]] = {}
        self.received: list[str] = []
        self.requests: list[Json] = []
        self.replies_to_lose = 0
        self.refusals: list[Json] = []
        self.refused_title: str | None = None
        self.token: str | None = None
        self.pings = 0
        self.refused = asyncio.Event()
        self._results: dict[str, tuple[Json, Json | None]] = {}
        self._log: list[tuple[str, str, Json]] = []
        self._clients: dict[ServerConnection, str] = {}
        self._silent: set[ServerConnection] = set()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; again on the same port after a `stop`."""
        self._server = await serve(self._serve, "127.0.0.1", self.port, ping_interval=None)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Cut every connection, as a crash would; what is known stays."""
        assert self._server is not None
        self.cut()
        self._server.close()
        await self._server.wait_closed()

    def cut(self) -> None:
        for connection in self._clients:
            connection.transport.abort()

    def fall_silent(self) -> None:
        """Nothing that comes on the present connections is done or answered any more."""
        self._silent.update(self._clients)

    async def close(self, code: int) -> None:
        await asyncio.gather(*(connection.close(code) for connection in self._clients))

    async def write(self, operation_type: str, entity_type: str, entity_id: Any = None, /, **fields: Any) -> int:
        """Do what another client did; returns the id of the entity."""
        version = self.entities[entity_type, entity_id][0] if entity_id is not None else 0
        operation = {
            "operation_id": f"{SOMEBODY} {len(self._log)}", "operation_type": operation_type,
            "entity_type": entity_type, "entity_id": entity_id, "data": fields, "changes": fields,
            "before_version": version,
        }  # fmt: skip
        result, _ = await self._do(operation, SOMEBODY)
        assert result["success"], result
        entity_id = result["entity_id"]
        assert isinstance(entity_id, int)
        return entity_id

    # --- messages --------------------------------------------------------------------------------------------------

    async def _serve(self, connection: ServerConnection) -> None:
        self._clients[connection] = ""
        with suppress(ConnectionClosed):
            async for raw in connection:
                message = json.loads(raw)
                self.pings += message["type"] == "ping"
                if connection in self._silent:
                    continue
                answer = await self._answer(connection, message)
                if answer is None:
                    connection.transport.abort()
                else:
                    echo = {"type": message["type"], "message_id": message.get("message_id"), "timestamp": _now()}
                    await connection.send(json.dumps({**echo, **answer}))
        del self._clients[connection]

    async def _answer(self, connection: ServerConnection, message: Json) -> Json | None:
        """What the reply has besides its id and time; None where the reply is lost."""
        match message["type"]:
            case "handshake":
                self._clients[connection] = message["client_id"]
                return {
                    "success": True, "server_id": "plain", "protocol_version": "1.0.0", "connection_id": "conn_1",
                }  # fmt: skip
            case "auth" if self.token not in {None, message["token"]}:
                self.refused.set()
                return {"success": False, "error": "token无效", "error_code": "UNAUTHORIZED"}
            case "auth":
                return {"success": True, "user_id": 1, "current_state": self._state(connection)}
            case "sync" if self.refusals:
                return self.refusals.pop(0)
            case "sync":
                data = await self._sync(connection, message["data"])
                return {"type": "sync_response", "request_id": data["request_id"], "data": data} if data else None
        return {"type": "pong"}

    async def _sync(self, connection: ServerConnection, asked: Json) -> Json | None:
        self.requests.append(asked)
        client_id = self._clients[connection]
        done = [await self._do(operation, client_id) for operation in asked["operations"]]
        if self.replies_to_lose:
            self.replies_to_lose -= 1
            return None
        since = asked["client_state"].get("last_sync_time") or ""
        return {
            "request_id": asked["request_id"], "server_time": _now(), "protocol_version": "1.0.0", "status": "success",
            "operation_results": [result for result, _ in done],
            "server_updates": [update for at, by, update in self._log if at >= since and by != client_id],
            "conflicts": [conflict for _, conflict in done if conflict is not None],
            "new_client_state": self._state(connection),
        }  # fmt: skip

    def _state(self, connection: ServerConnection) -> Json:
        return {
            "client_id": self._clients[connection], "last_sync_time": _now(), "server_version": "1.0.0",
            "pending_operations": 0,
        }  # fmt: skip

    # --- operations ------------------------------------------------------------------------------------------------

    async def _do(self, operation: Json, client_id: str) -> tuple[Json, Json | None]:
        """The result, and the conflict that it met."""
        operation_id = operation["operation_id"]
        if client_id != SOMEBODY:
            self.received.append(operation_id)
        if operation_id not in self._results:
            self._results[operation_id] = await self._done(operation, client_id)
        return self._results[operation_id]

    async def _done(self, operation: Json, client_id: str) -> tuple[Json, Json | None]:
        kind, entity_type, entity_id = operation["operation_type"], operation["entity_type"], operation.get("entity_id")
        fields = operation.get("data" if kind == "create" else "changes") or {}
        result = {"operation_id": operation["operation_id"], "operation_type": kind, "entity_type": entity_type}
        if kind == "create":
            entity_id = len(self.entities) + 1
        version, data = self.entities.get((entity_type, entity_id), (0, {}))
        is_refused = self.refused_title is not None and fields.get("title") == self.refused_title
        if is_refused or kind not in {"create", "update", "delete"}:
            return {**result, "success": False, "error": "拒绝", "error_code": "VALIDATION_ERROR"}, None
        if data is None or (kind != "create" and version == 0):
            return {**result, "success": False, "error": "不存在", "error_code": "NOT_FOUND"}, None
        if kind == "update" and operation["before_version"] < version:
            refusal = {"success": False, "error": "冲突", "error_code": "CONFLICT", "entity_id": entity_id}
            return {**result, **refusal}, _conflict(operation, version, data)
        now = {"id": entity_id, **data, **fields} if kind != "delete" else None
        self.entities[entity_type, entity_id] = version + 1, now
        told = {"data": now} if now is not None else {}
        await self._tell(
            {**told, "entity_type": entity_type, "entity_id": entity_id, "operation_type": kind}, client_id
        )
        return {**result, **told, "success": True, "entity_id": entity_id, "new_version": version + 1}, None

    async def _tell(self, update: Json, client_id: str) -> None:
        version = self.entities[update["entity_type"], update["entity_id"]][0]
        update |= {"version": version, "modified_at": _now(), "modified_by": 1}
        self._log.append((_now(), client_id, update))
        names = ("entity_type", "entity_id")
        push = {
            "type": "server_update", "message_id": f"push_{len(self._log)}", "timestamp": _now(),
            "update_type": "incremental", **{name: update[name] for name in names},
            "update_data": {name: value for name, value in update.items() if name not in names},
        }  # fmt: skip
        others = [connection for connection, other in self._clients.items() if other not in {"", client_id}]
        await asyncio.gather(*(one.send(json.dumps(push)) for one in others), return_exceptions=True)


def _conflict(operation: Json, version: int, data: Json) -> Json:
    return {
        "conflict_id": f"conflict of {operation['operation_id']}", "conflict_type": "content",
        "entity_type": operation["entity_type"], "entity_id": operation["entity_id"],
        "operation_id": operation["operation_id"],
        "server_data": {"version": version, "data": data, "modified_at": _now(), "modified_by": 2},
        "client_data": {
            "version": operation["before_version"], "data": operation["changes"], "modified_at": operation["timestamp"],
            "operation_type": "update",
        },
        "conflict_fields": list(operation["changes"]), "suggested_strategy": "latest_wins", "timestamp": _now(),
    }  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@asynccontextmanager
async def plain_server() -> AsyncIterator[PlainServer]:
    server = PlainServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()

"""A client of the T3 document alone: it numbers its operations from one, and sends again what has no answer."""

import asyncio
import json
from collections.abc import Callable
from itertools import count
from typing import Any

from sync_client.links.port import OPEN_S, LinkLostError
from sync_client.values import Key

from sync_server.testing.history import Got, History, Json, Opened, Sent
from sync_server.testing.loop import Node
from sync_server.testing.network import Line, Wire

AGAIN_S = 0.7
ANSWER_S = 30.0
AT_ONCE = 20


class PlainDevice:
    """
    Attributes:
        known: the newest version of each note that it heard of.
    """

    def __init__(self, name: str, user: str, line: Line, history: History, *, token: Callable[[], str]) -> None:
        self.name = name
        self.user = user
        self.line = line
        self.known: dict[Key, int] = {}
        self._token = token
        self._history = history
        self._waiting: dict[str, Json] = {}
        self._numbers = count(1)
        self._links = count(1)
        self._is_at_rest = asyncio.Event()
        self._more = asyncio.Event()
        self._node = Node(name, killed=lambda: None)

    def turn_on(self) -> None:
        self._node.start(self._run())

    def put(self, operation_type: str, entity_type: str, **operation: Any) -> None:
        """Queue an operation."""
        operation_id = f"op_{next(self._numbers)}"
        self._waiting[operation_id] = {
            "operation_id": operation_id, "operation_type": operation_type, "entity_type": entity_type, **operation,
        }  # fmt: skip
        self._is_at_rest.clear()
        self._more.set()

    async def settled(self, timeout_s: float) -> None:
        if self._waiting:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._is_at_rest.wait()
            except TimeoutError:
                self._history.problems.append(f"{self.name} never gets its answers")

    async def _run(self) -> None:
        while True:
            try:
                await self._live()
            except (LinkLostError, OSError):
                await asyncio.sleep(AGAIN_S * (1 + self.line.chance.random()))

    async def _live(self) -> None:
        server = await self.line.reach()
        async with asyncio.timeout(OPEN_S):
            wire = Wire(self.line, server, self._node, None)
            await wire.opened
        number = next(self._links)
        self._history.add(Opened(_now(), self.name, number, "plain"))
        try:
            await self._talk(wire, number)
        finally:
            wire.close()

    async def _talk(self, wire: Wire, number: int) -> None:
        self._send(wire, number, {"type": "handshake", "message_id": "hello", "client_id": self.name})
        await self._until(wire, number, "handshake")
        self._send(wire, number, {"type": "auth", "message_id": "who", "token": self._token()})
        await self._until(wire, number, "auth")
        while True:
            if not self._waiting:
                self._is_at_rest.set()
                self._more.clear()
                await self._more_to_do(wire, number)
                continue
            operations = list(self._waiting.values())[:AT_ONCE]
            data = {"client_id": self.name, "operations": operations}
            self._send(wire, number, {"type": "sync", "message_id": "sync", "data": data})
            self._answered(await self._until(wire, number, "sync_response", "error"))

    async def _more_to_do(self, wire: Wire, number: int) -> None:
        """Hear what comes until there is something to send."""
        waits = {asyncio.ensure_future(self._more.wait()), asyncio.ensure_future(self._next(wire, number))}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for one in waits:
                one.cancel()

    async def _until(self, wire: Wire, number: int, *types: str) -> Json:
        async with asyncio.timeout(ANSWER_S):
            while True:
                message = await self._next(wire, number)
                if message["type"] in types:
                    return message

    async def _next(self, wire: Wire, number: int) -> Json:
        message: Json = json.loads(await wire.receive())
        self._history.add(Got(_now(), self.name, number, message))
        if message["type"] == "ping":
            self._send(wire, number, {"type": "pong"})
        if message["type"] == "server_update":
            update = {**message, **message["update_data"]}
            key = Key(update["entity_type"], str(update["entity_id"]))
            if update["operation_type"] == "delete":
                self.known.pop(key, None)
            else:
                self.known[key] = update["version"]
        return message

    def _answered(self, message: Json) -> None:
        for result in message.get("data", {}).get("operation_results", ()):
            if result.get("error_code") in {"SYNC_ERROR", "RATE_LIMIT_EXCEEDED"}:
                continue
            self._waiting.pop(result["operation_id"], None)
            if result["success"] and result.get("new_version"):
                self.known[Key(result["entity_type"], str(result["entity_id"]))] = result["new_version"]

    def _send(self, wire: Wire, number: int, message: Json) -> None:
        self._history.add(Sent(_now(), self.name, number, message))
        wire.send(json.dumps(message).encode(), is_text=True, may_repeat=message["type"] == "sync")


def _now() -> float:
    return asyncio.get_running_loop().time()

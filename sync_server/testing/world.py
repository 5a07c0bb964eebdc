"""One simulated world: a server, devices, their lines and what people know; a plan is played in it."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx2 as httpx
from sync_client.values import Entity, Key

from schema.registry import Registry
from sync_server.config import Settings
from sync_server.cursor import Cursor, parse_cursor
from sync_server.testing.devices import Device
from sync_server.testing.evidence import BUFFER_BYTES, mentioned
from sync_server.testing.history import (
    Granted,
    Happened,
    History,
    Json,
    Restored,
    State,
    Trimmed,
    Truth,
    Version,
    Wrote,
)
from sync_server.testing.loop import Node
from sync_server.testing.network import Line, Transport
from sync_server.testing.plain import PlainDevice
from sync_server.testing.plan import Plan
from sync_server.testing.servers import SECRET, SimulatedServer

SETTLE_S = 900.0
"""How long everything may take to come to rest once nothing is wrong any more."""
NOTICED_S = 150.0
"""By when everybody has noticed that a connection of before is dead."""
REST_S = 5.0
"""By when a device that has come to rest has compared its rows with the server's."""
LISTED_S = 40.0
"""By when a device that hears of changes over HTTP has listed the conflicts again: it does so every 30 s."""
PAGE = 1_000
API = "http://sync.test/api/sync"
ANSWER_S = 5.0
OWNER = "1"


class Backup(NamedTuple):
    """
    Attributes:
        head: a position that its log surely has.
    """

    at: float
    head: int
    path: Path


class World:
    """
    Attributes:
        shared: the space that users share.
        ledger: what a test remembers.
        memory: entities as some device once read them, to be written to much later.
    """

    def __init__(
        self, plan: Plan, directory: Path, registry: Registry, history: History, *, server_type: type[SimulatedServer]
    ) -> None:
        self.plan = plan
        self.history = history
        self.shared = ""
        self.memory: dict[str, list[Entity]] = {}
        self.ledger: dict[Any, Any] = {}
        self.backup: Backup | None = None
        settings = _settings().model_copy(update={"data_dir": directory, "feed_cache_changes": plan.recent})
        self.server = server_type(directory, registry, settings, self.chance("server"))
        self.devices = {one.name: self._device(index, one.name, directory) for index, one in enumerate(plan.devices)}
        self.plain = {
            name: PlainDevice(name, OWNER, self._line(name, 100 + index), self.history, token=self._token_of(OWNER))
            for index in range(plan.plain)
            for name in [f"plain_{index}"]
        }
        self._owner = Line("10.9.9.9", self.chance("owner"))
        self.server.lines.append(self._owner)
        self._people = Node("people", killed=lambda: None)
        self._marks = count(1)

    def chance(self, name: str) -> Random:
        """The chance of one part: what others do with theirs does not move it."""
        return Random(f"{self.plan.seed}/{name}")

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def users(self) -> list[str]:
        return sorted({device.user for device in self.devices.values()} | {OWNER})

    def mark(self) -> str:
        """A text that occurs nowhere else."""
        return f"<{next(self._marks)}>"

    def tell(self, who: str, what: str) -> None:
        self.history.add(Happened(self.now, who, what))

    def wrote(self, device: Device, what: str, key: Key, *marks: str) -> None:
        self.history.add(Wrote(self.now, device.name, what, key, marks))

    # --- from the beginning to the end -----------------------------------------------------------------------------

    async def begin(self) -> None:
        await self.server.start()
        reply = await self.ask("POST", "/spaces", json={"name": "shared"})
        self.shared = reply["space_id"]
        for user in self.users:
            await self.ask("GET", "/spaces", user=user)
            if user != OWNER:
                await self.grant(user, "editor")
        for device in self.devices.values():
            self.history.users[device.name] = device.user
            if device.may_use_http:
                self.history.http_devices.add(device.name)
            await device.turn_on()
        for plain in self.plain.values():
            self.history.users[plain.name] = plain.user
            plain.turn_on()

    async def heal(self) -> None:
        """From now on nothing is wrong any more."""
        self.tell("world", "heals")
        self.server.dies, self.server.full_for, self.server.clock.ahead_ms = None, 0, 0
        if self.server.node is not None:
            self.server.node.dies_in = None
        if not self.server.is_up:
            await self.server.start()
        for line in self.server.lines:
            line.is_up, line.bytes_per_s, line.repeats = True, None, 0.0
            if line.is_silent:
                line.is_silent = False
                line.cut()
        for device in self.devices.values():
            device.clock.ahead_s = 0.0
            if device.node is not None:
                device.node.dies_in = None
            if not device.is_on:
                await device.turn_on()

    async def settle(self) -> None:
        """Until every device says that everything is up and everything is here."""
        await asyncio.sleep(NOTICED_S if any(line.was_cut_silently for line in self.server.lines) else REST_S)
        for plain in self.plain.values():
            await plain.settled(SETTLE_S)
        await self._all_settled()
        if self.history.is_corrupted:  # rows are compared when a device has caught up and nothing happens
            for device in self.devices.values():
                device.line.cut()
            await asyncio.sleep(NOTICED_S)
            await self._all_settled()
        elif self.history.http_devices:  # the last thing that anybody sent may have opened a conflict
            await asyncio.sleep(LISTED_S)
            await self._all_settled()

    async def close(self) -> None:
        """Write down what everybody has in the end."""
        rows = {user: await self._rows(user) for user in self.users}
        versions = await self._versions(rows.values())
        for user in self.users:
            spaces = frozenset(space["space_id"] for space in (await self.ask("GET", "/spaces", user=user))["spaces"])
            self.history.truths[user] = Truth(spaces, rows[user], versions, tuple(await self._conflicts(user)))
        self.history.epoch = (await self._head()).epoch
        keys = mentioned(self.history).union(*rows.values())
        for device in self.devices.values():
            self.history.ends[device.name] = await device.end(keys)

    async def _all_settled(self) -> None:
        await asyncio.gather(*(self._settled(device) for device in self.devices.values()))

    async def _settled(self, device: Device) -> None:
        client = device.client
        if client is None:
            return
        try:
            await device.do(lambda client: client.settled(timeout_s=SETTLE_S))
        except TimeoutError:
            self.history.problems.append(f"{device.name} never comes to rest: {client.status}")

    # --- what the owner of the shared space does, over a line without faults ---------------------------------------

    async def grant(self, user: str, role: str | None) -> None:
        asked_at = self.now
        path = f"/spaces/{self.shared}/members/{user}"
        method, body = ("PUT", {"role": role}) if role is not None else ("DELETE", None)
        is_sure = True
        try:
            await self.ask(method, path, json=body)
        except httpx.HTTPError:
            is_sure = False
        self.history.add(Granted(asked_at, self.now, user, self.shared, role, is_sure))

    async def ask(self, method: str, path: str, *, user: str = OWNER, line: Line | None = None, **options: Any) -> Any:
        """The `data` of the server's answer.

        Raises:
            httpx.HTTPError: there is none, or it tells of a failure.
        """
        response = await self.answer(method, path, user=user, line=line, **options)
        response.raise_for_status()
        return response.json()["data"]

    async def back_up(self) -> None:
        head = 0
        with contextlib.suppress(httpx.HTTPError):  # it may be down
            head = (await self._head()).seq
        self.backup = Backup(self.now, head, self.server.back_up())

    async def answer(
        self, method: str, path: str, *, user: str, line: Line | None = None,
        params: Mapping[str, Any] | None = None, json: Json | None = None,
    ) -> httpx.Response:  # fmt: skip
        """The server's answer, whatever it says.

        Raises:
            httpx.HTTPError: there is none.
        """
        headers = {"Authorization": f"Bearer {self.server.token(user)}"}
        url = f"{API}{path}?{urlencode(params)}" if params is not None else f"{API}{path}"
        # without a client, which would go three times over every URL
        request = httpx.Request(method, url, headers=headers, json=json, extensions={"timeout": {"read": ANSWER_S}})
        response = await Transport(line or self._owner, self._people).handle_async_request(request)
        await response.aread()
        return response

    def restored(self) -> None:
        assert self.backup is not None  # the caller looked
        self.server.restore(self.backup.path)
        self.history.add(Restored(self.now, self.backup.at, self.backup.head))

    async def trim(self) -> None:
        """Have the server forget its log; what it has of it is written down before, as far as nobody writes meanwhile.

        Nothing is forgotten where it cannot be asked.
        """
        asked_at, life = self.now, self.server.lives
        try:
            # a snapshot ends with what is published
            head = min((await self._head()).seq, self.server.services.feed.head.head_seq)
            rows = [await self._rows(user) for user in self.users]
            versions = await self._versions(rows)
        except httpx.HTTPError:
            return
        if self.server.is_up and self.server.lives == life:
            floor = await self.server.trim()
            known = tuple(version for version in versions if version.seq <= head)
            self.history.add(Trimmed(asked_at, self.now, head, sys.maxsize if floor is None else floor, known))

    # --- what the server tells -------------------------------------------------------------------------------------

    async def _head(self) -> Cursor:
        """Where its log ends."""
        return parse_cursor((await self.ask("GET", f"/spaces/{self.shared}/checksum"))["cursor"])

    async def _rows(self, user: str) -> dict[Key, State]:
        """The snapshot that a new device of a user is told."""
        rows: dict[Key, State] = {}
        query: dict[str, Any] = {"limit": PAGE}
        while True:
            page = await self.ask("GET", "/changes", user=user, params=query)
            for update in page["changes"]:
                key = Key(update["entity_type"], str(update["entity_id"]))
                rows.pop(key, None)
                if update["data"] is not None:
                    rows[key] = State(update["space_id"], update["version"], _plain(update["data"]))
            query["cursor"] = page["cursor"]
            if not page["has_more"]:
                return rows

    async def _versions(self, rows: Iterable[Iterable[Key]]) -> tuple[Version, ...]:
        """The history of every entity that anybody has or has written to."""
        keys = mentioned(self.history).union(*rows)
        found: dict[Key, list[Version]] = {}
        for user in self.users:  # the owner first: what they may read is asked once
            asked = sorted(keys - found.keys())
            histories = await asyncio.gather(*(self._history_of(user, key) for key in asked))
            found |= {key: versions for key, versions in zip(asked, histories, strict=True) if versions}
        return tuple(version for key in sorted(found) for version in found[key])

    async def _history_of(self, user: str, key: Key) -> list[Version]:
        path = f"/entities/{key.entity_type}/{key.entity_id}/history"
        try:
            found = await self.ask("GET", path, user=user, params={"limit": 100})
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return []
            raise
        return [_version(key, told) for told in found["versions"]]

    async def _conflicts(self, user: str) -> Sequence[Json]:
        found: list[Json] = []
        for page in count(1):
            some = await self.ask("GET", "/conflicts", user=user, params={"page": page, "limit": 100})
            found += some["conflicts"]
            if len(some["conflicts"]) < 100:
                return found
        return found

    # --- parts -----------------------------------------------------------------------------------------------------

    def _line(self, name: str, number: int) -> Line:
        line = Line(f"10.0.0.{number}", self.chance(f"line of {name}"))
        self.server.lines.append(line)
        return line

    def _token_of(self, user: str) -> Any:
        return lambda: self.server.token(user)

    def _device(self, index: int, name: str, directory: Path) -> Device:
        one = self.plan.devices[index]
        path = directory / f"{name}.db" if one.has_file else None
        return Device(
            name, one.user, self._line(name, index + 1), self.history, self.chance(name),
            token=self._token_of(one.user), store_path=path, codec=one.codec, links=one.links,
        )  # fmt: skip


@cache
def _settings() -> Settings:
    return Settings(
        auth_secret=SECRET, operations_per_minute=10_000_000, requests_per_minute=10_000_000,
        connects_per_minute=1_000_000, frames_burst=100_000, frames_per_second=10_000, send_buffer_bytes=BUFFER_BYTES,
    )  # fmt: skip


def _plain(data: Json) -> Json:
    return {name: value for name, value in data.items() if name != "id"}


def _version(key: Key, told: Json) -> Version:
    data = _plain(told["data"]) if told["operation_type"] != "delete" else None
    return Version(
        key, told["version"], told["seq"], told["operation_id"], told["client_id"], told["operation_type"], data,
        json.dumps(told, ensure_ascii=False),
    )  # fmt: skip

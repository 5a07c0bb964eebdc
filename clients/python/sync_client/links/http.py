"""The links over HTTP, for where WebSockets are forbidden: requests go up, and changes come as events or by polls.

They ask for changes without a `client_id`, so this client's own come, too: a reset that was under way while an
operation was acknowledged must not take its effect away (protocol, section 6).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import httpx2 as httpx

from sync_client.events import Lost
from sync_client.frames import Admission, CaughtUp, Changes, Failure, Frame, Greeting, Heard, Limits, Message
from sync_client.ladder import LinkKind
from sync_client.links.api import Api, refused, unreachable
from sync_client.links.port import MAX_FRAME_BYTES, OPEN_S, LinkLostError, seconds
from sync_client.replies import changes_reply, error_reply, sync_reply
from sync_client.values import Problem, WireId
from sync_client.wire import JSON, UnreadableFrameError

_log = logging.getLogger("sync_client")

SILENCE_S = 45.0
"""How long a stream may say nothing: the server sends a comment every 15 s."""
POLL_S = 25
POLL_PAGE = 1_000
IDLE_S = 1.0
"""Pause after a poll that brought nothing although it did not wait."""
INBOX = 64
"""Frames that wait to be taken; then the stream is read no further."""

_OK = 200


class HttpLink:
    """Requests go up beside the feed, which runs in a task of its own from the handshake on."""

    has_heartbeat = False

    def __init__(self, api: Api, kind: LinkKind) -> None:
        self._api = api
        self._feed_of = self._events if kind is LinkKind.EVENTS else self._polls
        self._inbox: asyncio.Queue[Frame | Exception] = asyncio.Queue(INBOX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._owner: WireId | None = None

    @classmethod
    async def open(cls, api: Api, kind: LinkKind) -> "HttpLink":
        return cls(api, kind)

    async def send(self, message: Message) -> None:
        match message["type"]:
            case "handshake":
                self._start(partial(self._greet, message))
            case "auth":
                self._start(partial(self._renew, message["token"]))
            case "sync":
                self._start(partial(self._sync, message))
            case _:
                pass  # a ping has no meaning here

    async def receive(self) -> Frame:
        frame = await self._inbox.get()
        if isinstance(frame, Exception):
            raise frame
        return frame

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(self._reported(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reported(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (LinkLostError, UnreadableFrameError) as error:
            await self._inbox.put(error)
        except httpx.HTTPError as error:
            await self._inbox.put(LinkLostError(unreachable(error)))
        except Exception as error:  # noqa: BLE001  who waits for frames must hear of the end
            _log.exception("the link failed")
            await self._inbox.put(LinkLostError(Lost(f"the link failed ({type(error).__name__})", is_odd=True)))

    async def _put(self, frame: Frame) -> None:
        await self._inbox.put(frame)

    async def _greet(self, handshake: Message) -> None:
        """There is no handshake over HTTP: the first request stands for it, and then the feed begins."""
        self._owner = await self._owner_of(handshake["token"])
        admission = Admission(self._owner, None)
        await self._put(Greeting(frozenset({"subscribe"}), Limits(), None, admission, None))
        wanted = handshake["subscriptions"]
        lists = {"space_ids": wanted.get("spaces"), "entity_types": wanted.get("entity_types")}
        query = {name: ",".join(values) for name, values in lists.items() if values is not None}
        async for frame in self._feed_of(wanted.get("cursor"), query):
            await self._put(frame)

    async def _renew(self, token: str) -> None:
        """Nothing is asked with another token before it is known to be of the same user."""
        owner = await self._owner_of(token)
        if owner == self._owner:
            self._api.token = token
        await self._put(Admission(owner, None))

    async def _owner_of(self, token: str) -> WireId:
        owner = await self._api.owner(token)
        if owner is None:
            raise LinkLostError(Lost("the server does not say whose token it is", is_odd=True))
        return owner

    async def _events(self, cursor: str | None, query: dict[str, str]) -> AsyncIterator[Frame]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor is not None else {})
        timeout = httpx.Timeout(OPEN_S, read=SILENCE_S)
        response = await self._api.stream("GET", "/events", params=query, headers=headers, timeout=timeout)
        try:
            if response.status_code != _OK:
                raise LinkLostError(refused(response))
            async for event in httpx.EventSource(response, MAX_FRAME_BYTES):
                yield JSON.decode(event.data) if event.data else Heard()
        finally:
            await response.aclose()
        raise LinkLostError(Lost("the stream of events ended"))

    async def _polls(self, cursor: str | None, query: dict[str, str]) -> AsyncIterator[Frame]:
        wait_s, loop = 0, asyncio.get_running_loop()
        while True:
            wanted: dict[str, str | int] = {**query, "limit": POLL_PAGE, "wait": wait_s}
            if cursor is not None:
                wanted["cursor"] = cursor
            asked_at = loop.time()
            frames = changes_reply(await self._api.get("/changes", wanted))
            for frame in frames:
                cursor = getattr(frame, "cursor", cursor)
                yield frame
            is_idle = wait_s > 0 and not any(isinstance(frame, Changes) and frame.updates for frame in frames)
            if is_idle and loop.time() - asked_at < IDLE_S:
                await asyncio.sleep(IDLE_S)  # a server that does not wait is not asked without end
            wait_s = POLL_S if isinstance(frames[-1], CaughtUp) else 0

    async def _sync(self, message: Message) -> None:
        message_id = message["message_id"]
        try:
            response, body = await self._api.fetch("POST", "/sync", json=message["data"])
        except httpx.HTTPError:
            await self._put(_unavailable(message_id, None))
            return
        if response.status_code == _OK:
            await self._put(sync_reply(body, message_id))
            return
        retry_after_s = seconds(response.headers.get("Retry-After"))
        failure = error_reply(body, message_id, retry_after_s)
        await self._put(failure if failure is not None else _unavailable(message_id, retry_after_s))


def _unavailable(message_id: str, retry_after_s: float | None) -> Failure:
    problem = Problem(error="The request did not reach the server.", error_code="NETWORK_ERROR")
    return Failure(message_id, problem, is_retryable=True, retry_after_s=retry_after_s)

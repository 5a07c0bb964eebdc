"""An HTTP client of the running server, and what every reply must look like."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2 as httpx

from sync_server.orders import Committed
from tests.harness import TIMEOUT_S, RunningServer

Json = dict[str, Any]


@asynccontextmanager
async def rest_client(server: RunningServer, user: str = "1") -> AsyncIterator[httpx.AsyncClient]:
    async with server.http(user) as client:
        done(await client.get("/api/sync/spaces"))  # the user exists from here on
        yield client


def done(reply: httpx.Response) -> Json:
    """The body of a request that succeeded."""
    body: Json = reply.json()
    assert reply.is_success, body
    assert body["success"] is True
    return body


def failed(reply: httpx.Response, status: int, code: str) -> Json:
    """The body of a request that failed as said, in the contract's shape."""
    body: Json = reply.json()
    assert (reply.status_code, body["error_code"]) == (status, code), body
    assert set(body) == {"success", "error", "error_code", "details"}
    assert body["success"] is False
    assert body["error"].endswith(".")
    assert isinstance(body["details"], dict)
    return body


@contextmanager
def held(server: RunningServer) -> Iterator[None]:
    """Keeps the committer busy while the block runs, so that what is sent waits."""
    release = threading.Event()

    def wait(*_: Any) -> tuple[None, Committed]:
        release.wait(TIMEOUT_S)
        return None, Committed()

    task = asyncio.ensure_future(server.services.committer.perform(wait))
    try:
        yield
    finally:
        release.set()
        task.add_done_callback(lambda done_task: done_task.result())


async def eventually(question: Callable[[], Awaitable[Any]]) -> Any:
    """The first answer that is something, within the bound of every wait."""
    async with asyncio.timeout(TIMEOUT_S):
        while (answer := await question()) is None:
            pass
    return answer

"""What tests of whole clients share."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sync_client import Status, SyncClient

from tests.harness import token_for

T = TypeVar("T")
BOUND_S = 10.0
"""The bound of every wait for something that must come."""


def client_of(url: str, user: str = "1", **options: Any) -> SyncClient:
    return SyncClient(url, **{"token": token_for(user), **options})


async def until(notes: SyncClient, look: Callable[[], Awaitable[T]], *, timeout_s: float = BOUND_S) -> T:
    """What `look` finds once it finds something; it looks again whenever the store has moved."""
    async with asyncio.timeout(timeout_s):
        while True:
            moving = notes._open.moved.next
            if found := await look():
                return found
            await moving.wait()


async def status_that(notes: SyncClient, fits: Callable[[Status], object], *, timeout_s: float = BOUND_S) -> Status:
    """The first status that fits."""
    async with asyncio.timeout(timeout_s):
        async for status in notes.statuses():
            if fits(status):
                return status
    raise AssertionError


async def titles(notes: SyncClient) -> list[str]:
    return sorted(str(note.get("title")) for note in await notes.query("note"))

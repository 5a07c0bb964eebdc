"""How connections are opened, for the engine to be run on something else than the internet."""

import asyncio
from typing import Protocol

import httpx2 as httpx

from sync_client.links.port import OPEN_S, Link
from sync_client.links.websocket import WebSocketLink
from sync_client.wire import Codec


class Network(Protocol):
    async def websocket(self, url: str, codec: Codec) -> Link:
        """
        Raises:
            LinkLostError
        """

    async def http(self) -> httpx.AsyncClient:
        """A client for requests, to be closed by who asked."""


class Internet:
    """The real one."""

    async def websocket(self, url: str, codec: Codec) -> Link:
        return await WebSocketLink.open(url, codec)

    async def http(self) -> httpx.AsyncClient:
        return await asyncio.to_thread(_http_client)  # it reads certificates


def _http_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(
        timeout=httpx.Timeout(OPEN_S, read=60.0),
        headers={"User-Agent": "sync-client", "Accept-Encoding": "identity"},
        follow_redirects=False,
    )

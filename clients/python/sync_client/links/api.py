"""What the client asks over HTTP, whichever link it has (docs/rest.md)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx2 as httpx

from sync_client.events import Lost
from sync_client.frames import DifferingBuckets, DifferingRows
from sync_client.links.port import MAX_FRAME_BYTES, LinkLostError, refusal
from sync_client.replies import buckets_reply, checksum_reply, conflicts_reply, rows_reply, spaces_reply
from sync_client.values import Conflict, Json, WireId, format_id
from sync_client.views import Named

_OK = 200
_NOT_OFFERED = (400, 404, 405, 413)
"""An older server has no such route, or the question is larger than it takes."""
CONFLICTS_PAGE = 100
MOST_CONFLICT_PAGES = 100


class Api:
    """Requests with the newest token.

    Args:
        make: makes the HTTP client, when it is first needed.
    """

    def __init__(self, url: str, make: Callable[[], Awaitable[httpx.AsyncClient]]) -> None:
        self._url = url
        self._make = make
        self._http: httpx.AsyncClient | None = None
        self._making = asyncio.Lock()
        self.token = ""

    async def stream(self, method: str, path: str, *, token: str | None = None, **options: Any) -> httpx.Response:
        """Send a request; its answer's body is still to be read, and the answer to be closed.

        Raises:
            httpx.HTTPError: there is no answer.
        """
        async with self._making:
            if self._http is None:
                self._http = await self._make()
        headers = {"Authorization": f"Bearer {token or self.token}", **options.pop("headers", {})}
        request = self._http.build_request(method, f"{self._url}{path}", headers=headers, **options)
        return await self._http.send(request, stream=True)

    async def fetch(self, method: str, path: str, **options: Any) -> tuple[httpx.Response, bytes]:
        """An answer with its body.

        Raises:
            httpx.HTTPError: there is none, or it is larger than a server's may be.
        """
        response = await self.stream(method, path, **options)
        body = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_FRAME_BYTES:
                    raise httpx.DecodingError("the answer is too large", request=response.request)
        finally:
            await response.aclose()
        return response, bytes(body)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def get(self, path: str, query: Mapping[str, str | int] | None = None, *, token: str | None = None) -> bytes:
        """
        Raises:
            LinkLostError
        """
        try:
            response, body = await self.fetch("GET", path, params=query, token=token)
        except httpx.HTTPError as error:
            raise LinkLostError(unreachable(error)) from None
        if response.status_code != _OK:
            raise LinkLostError(refused(response))
        return body

    async def owner(self, token: str) -> WireId | None:
        """Whose token it is."""
        spaces = spaces_reply(await self.get("/spaces", token=token))
        return next((space.owner for space in spaces if space.is_personal), None)

    async def spaces(self) -> list[str]:
        """The spaces that the user reads."""
        return [space.space_id for space in spaces_reply(await self.get("/spaces"))]

    async def checksum(self, space_id: str) -> int:
        """What the server computes of a space."""
        return checksum_reply(await self.get(f"/spaces/{space_id}/checksum"))

    async def differing_buckets(self, space_id: str, checksums: list[int]) -> DifferingBuckets | None:
        """Which buckets of a space differ from these; None where the server does not say such things."""
        body = await self._verified({"space_id": space_id, "buckets": [f"{one:016x}" for one in checksums]})
        return buckets_reply(body) if body is not None else None

    async def differing_rows(self, space_id: str, named: Named) -> DifferingRows | None:
        """What the rows of some buckets should be; None where the server will not say."""
        rows = {
            str(number): [[key.entity_type, format_id(key.entity_id), version] for key, version in some.items()]
            for number, some in named.live.items()
        }
        body = await self._verified({"space_id": space_id, "rows": rows})
        return rows_reply(body) if body is not None else None

    async def _verified(self, question: Json) -> bytes | None:
        try:
            response, body = await self.fetch("POST", "/verify", json=question)
        except httpx.HTTPError as error:
            raise LinkLostError(unreachable(error)) from None
        if response.status_code in _NOT_OFFERED:
            return None
        if response.status_code != _OK:
            raise LinkLostError(refused(response))
        return body

    async def conflicts(self) -> list[Conflict]:
        """The open conflicts of the user's spaces."""
        found: list[Conflict] = []
        for page in range(1, MOST_CONFLICT_PAGES + 1):
            query: dict[str, str | int] = {"status": "open", "page": page, "limit": CONFLICTS_PAGE}
            some = conflicts_reply(await self.get("/conflicts", query))
            found += some
            if len(some) < CONFLICTS_PAGE:
                break
        return found


def refused(response: httpx.Response) -> Lost:
    return refusal(response.status_code, response.headers.get("Retry-After"), "over HTTP")


def unreachable(error: httpx.HTTPError) -> Lost:
    is_odd = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    return Lost(f"the server cannot be reached over HTTP: {type(error).__name__}", is_odd=is_odd)

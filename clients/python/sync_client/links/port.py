"""What a link is, and how its end is told."""

from typing import NamedTuple, Protocol
from urllib.parse import urlsplit, urlunsplit

from sync_client.errors import InvalidInputError
from sync_client.events import Lost
from sync_client.frames import Frame, Message
from sync_client.wire import LONGEST_WAIT_S

MAX_FRAME_BYTES = 32 * 1024 * 1024
"""What one message of a server may hold: the largest reply that the protocol allows, with room."""
_BUSY = (429, 503)
_UNAUTHORIZED = 401
OPEN_S = 10.0
"""How long opening may take."""


class LinkLostError(Exception):
    """The link could not be opened, or is gone.

    Attributes:
        lost: what the machine is told.
    """

    def __init__(self, lost: Lost) -> None:
        super().__init__(lost.reason)
        self.lost = lost


def refusal(status: int, retry_after: str | None, what: str) -> Lost:
    """What an HTTP status other than the one that was hoped for means.

    Args:
        retry_after: the header of this name.
        what: what was asked, for people to read.
    """
    return Lost(
        f"the server answered {status} {what}",
        is_odd=status not in {*_BUSY, _UNAUTHORIZED},
        is_unauthorized=status == _UNAUTHORIZED,
        retry_after_s=seconds(retry_after),
    )


def seconds(header: str | None) -> float | None:
    """A `Retry-After` in seconds; its form as a date is not understood.

    >>> seconds("3"), seconds("Wed, 21 Oct 2026 07:28:00 GMT"), seconds(None), seconds("9" * 400)
    (3.0, None, None, 3600.0)
    """
    if header is None or not header.isascii() or not header.isdigit():
        return None
    return min(float(header), LONGEST_WAIT_S)


class Link(Protocol):
    """One open way. `receive` and `send` may wait; `close` never waits for the peer for long."""

    has_heartbeat: bool

    async def send(self, message: Message) -> None:
        """
        Raises:
            LinkLostError
        """

    async def receive(self) -> Frame:
        """
        Raises:
            LinkLostError
            UnreadableFrameError: the link is of no more use.
        """

    async def close(self) -> None: ...


class Address(NamedTuple):
    """Where a server is, by both roads."""

    websocket: str
    http: str


def parse_address(url: str) -> Address:
    """The addresses of the server at an URL such as `ws://localhost:3000` or `https://sync.example.org`.

    Raises:
        InvalidInputError: it is no such URL.

    >>> parse_address("ws://localhost:3000")
    Address(websocket='ws://localhost:3000/api/sync/ws', http='http://localhost:3000/api/sync')
    >>> parse_address("https://example.org/api/sync/ws").websocket
    'wss://example.org/api/sync/ws'
    """
    try:
        parts = urlsplit(url)
        is_named = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that is none
        is_named = False
    secure = {"ws": False, "http": False, "wss": True, "https": True}.get(parts.scheme) if is_named else None
    if secure is None:
        raise InvalidInputError("url", f"must be like ws://localhost:3000 and is {url!r}")
    if parts.username or parts.password or parts.query:
        raise InvalidInputError("url", "must not hold credentials or a query: the token is an argument of its own")
    path = parts.path.rstrip("/").removesuffix("/ws").removesuffix("/api/sync") + "/api/sync"
    websocket = urlunsplit(("wss" if secure else "ws", parts.netloc, f"{path}/ws", "", ""))
    return Address(websocket, urlunsplit(("https" if secure else "http", parts.netloc, path, "", "")))

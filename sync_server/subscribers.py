"""One connection as the hub sees it: what it follows, how far it has come, and how it is written to."""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from sync_server.errors import CloseCode
from sync_server.feed import Viewer
from sync_server.protocol.codec import Codec
from sync_server.sockets import Frames, Socket
from sync_server.types import ConnectionId, Json, Role, Seq, SpaceId


class Audience(NamedTuple):
    """Subscribers that get the very same bytes."""

    codec: Codec
    takes_batches: bool
    entity_types: tuple[str, ...] | None


class Subscriber:
    """One READY connection as the hub sees it.

    Attributes:
        own: up to this position its own changes are told as well: a reset made it drop them.
        start: the position from which this connection has been fed without a gap.
        position: the newest position of what has been written to the socket.
        met: the followed spaces of which it was told who is there.
        owed: those of which it missed who came or went.
        has_missed_conflicts: some were told while it was congested; `caught_up` will bid it to list them again.
    """

    __slots__ = (
        "_close",
        "audience",
        "connection_id",
        "has_missed_conflicts",
        "is_live",
        "met",
        "owed",
        "own",
        "position",
        "pump",
        "socket",
        "spaces",
        "start",
        "viewer",
    )  # fmt: skip

    def __init__(
        self,
        connection_id: ConnectionId,
        viewer: Viewer,
        codec: Codec,
        socket: Socket,
        close: Callable[[CloseCode, str], None],
        *,
        takes_batches: bool,
    ) -> None:
        self.connection_id = connection_id
        self.socket = socket
        self._close = close
        self.spaces: dict[SpaceId, Role] = {}
        self.met: set[SpaceId] = set()
        self.owed: set[SpaceId] = set()
        self.own = Seq(0)
        self.start = Seq(0)
        self.position = Seq(0)
        self.is_live = False
        self.has_missed_conflicts = False
        self.pump: asyncio.Task[None] | None = None
        self.audience = Audience(codec, takes_batches, None)
        self.viewer = viewer
        self.narrow(viewer)

    def narrow(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.audience = self.audience._replace(entity_types=viewer.entity_types)

    def send(self, message: Json) -> None:
        """Write one message that is for this connection alone."""
        codec = self.audience.codec
        self.socket.write(Frames((codec.encode(message),), is_text=codec.opcode_is_text))

    def close(self, code: CloseCode, reason: str) -> None:
        self._close(code, reason)


def write_once(subscriber: Subscriber, message: Mapping[str, object], encoded: dict[Codec, Frames]) -> bool:
    """Write what may be missed, encoded once for each codec; a congested subscriber goes without.

    Conflicts wait in the list of conflicts and presences are told anew: only changes must arrive.

    Returns whether it was written.
    """
    if subscriber.socket.congested:
        return False
    codec = subscriber.audience.codec
    if codec not in encoded:
        encoded[codec] = Frames((codec.encode(message),), is_text=codec.opcode_is_text)
    subscriber.socket.write(encoded[codec])
    return True

"""Who is where right now: told to the space's other connections, never stored."""

from sync_server.clock import now_ms
from sync_server.hub import Hub
from sync_server.protocol.codec import Codec
from sync_server.protocol.server_messages import PresenceEntry
from sync_server.sockets import Frames
from sync_server.subscribers import Subscriber, write_once
from sync_server.types import ConnectionId, Json, Millis, SpaceId, format_id, format_time


class Presence:
    """The presences of this process, by space and connection.

    A connection that comes to follow a space where somebody is gets told who; one that follows it no more has left it.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._spaces: dict[SpaceId, dict[ConnectionId, PresenceEntry]] = {}
        hub.observe(
            arrived=lambda subscriber: self.welcome(subscriber, now=now_ms()),
            left=lambda subscriber, space_id: self.leave(subscriber, space_id, now=now_ms()),
        )

    def welcome(self, subscriber: Subscriber, *, now: Millis) -> None:
        """Tell a follower who is in the spaces that it has not been told of."""
        owed = subscriber.owed & subscriber.spaces.keys()
        for space_id in owed | (subscriber.spaces.keys() - subscriber.met):
            if self._spaces.get(space_id) or space_id in owed:
                self._introduce(subscriber, space_id, now)
        subscriber.met.update(subscriber.spaces)
        subscriber.owed.clear()

    def set(self, subscriber: Subscriber, space_id: SpaceId, state: Json, *, now: Millis) -> None:
        """Tell the space's others; somebody new in the space is first told who is there."""
        present = self._spaces.setdefault(space_id, {})
        if subscriber.connection_id not in present:
            self._introduce(subscriber, space_id, now)
        entry: PresenceEntry = {
            "connection_id": subscriber.connection_id,
            "client_id": subscriber.viewer.client_id,
            "user_id": format_id(subscriber.viewer.user_id),
            "state": state,
        }
        present[subscriber.connection_id] = entry
        self._tell(space_id, subscriber, [entry], [], now)

    def leave(self, subscriber: Subscriber, space_id: SpaceId, *, now: Millis) -> None:
        present = self._spaces.get(space_id, {})
        if present.pop(subscriber.connection_id, None) is None:
            return
        if not present:
            self._spaces.pop(space_id, None)
        self._tell(space_id, subscriber, [], [subscriber.connection_id], now)

    def _introduce(self, subscriber: Subscriber, space_id: SpaceId, now: Millis) -> None:
        others = list(self._spaces.get(space_id, {}).values())
        subscriber.send(
            {"type": "presence_state", "timestamp": format_time(now), "space_id": space_id, "presences": others}
        )

    def _tell(
        self, space_id: SpaceId, source: Subscriber, joins: list[PresenceEntry], leaves: list[ConnectionId], now: Millis
    ) -> None:
        message: Json = {
            "type": "presence_diff",
            "timestamp": format_time(now),
            "space_id": space_id,
            "joins": joins,
            "leaves": leaves,
        }
        encoded: dict[Codec, Frames] = {}
        for subscriber in self._hub.followers(space_id):
            if subscriber is source:
                continue
            if self._hub.may_read(subscriber, space_id):
                write_once(subscriber, message, encoded)
            else:
                subscriber.owed.add(space_id)  # it is told who is there once it is known that it may
                self._hub.look_again(subscriber)

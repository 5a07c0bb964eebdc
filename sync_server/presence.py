"""Who is where right now: told to the space's other connections, never stored."""

from sync_server.hub import Hub, Subscriber
from sync_server.protocol.messages import PresenceEntry
from sync_server.types import ConnectionId, Json, Millis, SpaceId, format_id, format_time


class Presence:
    """The presences of this process, by space and connection."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._spaces: dict[SpaceId, dict[ConnectionId, PresenceEntry]] = {}

    def set(self, subscriber: Subscriber, space_id: SpaceId, state: Json, *, now: Millis) -> None:
        """Tell the space's others; somebody new in the space is first told who is there."""
        present = self._spaces.setdefault(space_id, {})
        if subscriber.connection_id not in present:
            others = list(present.values())
            subscriber.send(
                {"type": "presence_state", "timestamp": format_time(now), "space_id": space_id, "presences": others}
            )
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

    def leave_all(self, subscriber: Subscriber, *, now: Millis) -> None:
        for space_id in [space for space, present in self._spaces.items() if subscriber.connection_id in present]:
            self.leave(subscriber, space_id, now=now)

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
        for subscriber in self._hub.followers(space_id):
            if subscriber is not source and not subscriber.socket.congested:
                subscriber.send(message)

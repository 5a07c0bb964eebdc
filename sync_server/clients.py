"""What the server remembers of each client: its device, the cursor that went out with its last sync time, and what its
last WebSocket followed.

Kept in memory and written behind, some seconds late: what a crash loses only makes a client without a cursor start
earlier than it needs to.
"""

import structlog

from sync_server.committer import Committer
from sync_server.errors import CommandError
from sync_server.feed import Feed
from sync_server.orders import Committed
from sync_server.records import ClientRecord, Filter, Followed
from sync_server.stores.writer import Writer
from sync_server.types import ClientId, Json, Millis, UserId

MAX_CLIENTS = 50_000
_log = structlog.get_logger(__name__)


class Clients:
    """The clients of this process."""

    def __init__(self, feed: Feed, committer: Committer) -> None:
        self._feed = feed
        self._committer = committer
        self._known: dict[tuple[UserId, ClientId], ClientRecord] = {}
        self._dirty: dict[tuple[UserId, ClientId], ClientRecord] = {}
        self._of_user: dict[UserId, dict[ClientId, None]] = {}

    async def record(self, user_id: UserId, client_id: ClientId) -> ClientRecord | None:
        key = user_id, client_id
        if key not in self._known:
            stored = await self._feed.read(lambda reader: reader.client(user_id, client_id))
            # what was noted and is not written yet, also while this was read, is newer
            newest = self._known.get(key, self._dirty.get(key, stored))
            if newest is not None:
                self._remember(newest)
        return self._known.get(key)

    async def introduced(self, user_id: UserId, client_id: ClientId, device: Json) -> ClientRecord:
        """A client said who it is; returns what is known of it."""
        known = await self.record(user_id, client_id)
        if known is None or known.device != device:
            known = _new(user_id, client_id) if known is None else known
            known = known._replace(device=device)
            self._note(known)
        return known

    async def synced(self, user_id: UserId, client_id: ClientId, *, cursor: str, at: Millis, asked: Filter) -> None:
        """A sync response with this cursor and this `last_sync_time` is on its way; it tells what `asked` lets pass."""
        known = await self.record(user_id, client_id)  # also what an earlier process wrote of its device
        known = _new(user_id, client_id) if known is None else known
        self._note(known._replace(cursor=cursor, last_sync_time=at, asked=asked))

    def follows(self, user_id: UserId, client_id: ClientId, followed: Followed) -> None:
        """A WebSocket of a client that was introduced follows this now, or has been written so much when it closed.

        Who only comes and goes costs a row when they go.
        """
        known = self._known.get((user_id, client_id))
        if known is None:
            return  # forgotten meanwhile: what is in the database of it stays
        before = known.followed
        is_news = before is None or before.wanted != followed.wanted or followed.closed_at is not None
        known = known._replace(followed=followed)
        if is_news:
            self._note(known)
        else:
            self._remember(known)

    def ids_of(self, user_id: UserId) -> list[ClientId]:
        """The user's clients that this process has heard of."""
        return list(self._of_user.get(user_id, ()))

    async def flush(self) -> None:
        """Write what changed since the last time; what the database refuses is kept for the next time."""
        if not self._dirty:
            return
        records, self._dirty = list(self._dirty.values()), {}

        def save(writer: Writer, _: Millis) -> tuple[None, Committed]:
            writer.save_clients(records)
            return None, Committed()

        try:
            await self._committer.perform(save)
        except CommandError as error:
            self._dirty = {(record.user_id, record.client_id): record for record in records} | self._dirty
            _log.warning("clients_not_written", reason=error.message)

    def _note(self, record: ClientRecord) -> None:
        self._remember(record)
        self._dirty[record.user_id, record.client_id] = record

    def _remember(self, record: ClientRecord) -> None:
        key = record.user_id, record.client_id
        if key not in self._known and len(self._known) >= MAX_CLIENTS:
            self._forget(*next(iter(self._known)))
        self._known[key] = record
        self._of_user.setdefault(record.user_id, {})[record.client_id] = None

    def _forget(self, user_id: UserId, client_id: ClientId) -> None:
        del self._known[user_id, client_id]
        del self._of_user[user_id][client_id]
        if not self._of_user[user_id]:
            del self._of_user[user_id]


def _new(user_id: UserId, client_id: ClientId) -> ClientRecord:
    return ClientRecord(user_id, client_id, {}, None, None)

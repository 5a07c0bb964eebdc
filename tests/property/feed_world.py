"""A log, the feed and the hub over it, and the devices that read: what a test makes happen, and what must hold."""

import asyncio
import json
import shutil
import tempfile
from collections import deque
from pathlib import Path
from typing import Any
from unittest.mock import patch

from schema.registry import load_registry
from sync_server import feed
from sync_server.cursor import Cursor, format_cursor, parse_cursor
from sync_server.errors import CloseCode
from sync_server.feed import Feed, Viewer
from sync_server.fingerprints import checksum_of, format_checksum
from sync_server.handlers.operations import Defaults, order_of
from sync_server.hub import Hub
from sync_server.ids import IdBlocks
from sync_server.orders import Batch, Committed
from sync_server.protocol.client_messages import Operation
from sync_server.protocol.codec import JSON
from sync_server.receipts import Receipts
from sync_server.records import Space, Update
from sync_server.round import Round
from sync_server.stores.engine import open_engine
from sync_server.stores.sql import Store
from sync_server.stores.writer import Writer
from sync_server.subscribers import Subscriber
from sync_server.testing.servers import migrated_database
from sync_server.types import Role, SpaceId, UserId
from sync_server.users import save_member
from sync_server.views import update_item
from tests.harness import Replica
from tests.property.feed_doubles import FakeSocket, HeldReaders

REGISTRY = load_registry(None)
SPACES = ("s1", "s2")
READERS = ("1", "2")
WRITER = "9"
TURNS = 400
"""More loop turns than anything here needs to come to rest."""


class Peer:
    """One device: its connection, what it keeps, and what it kept at each cursor it was ever given."""

    def __init__(self, user: str, name: str, world: "FeedWorld") -> None:
        self.viewer = Viewer(UserId(user), name)  # type: ignore[arg-type]  a NewType
        self.world = world
        self.replica = Replica()
        self.checkpoints: list[tuple[str, dict[Any, Any]]] = []
        self.subscriber: Subscriber | None = None
        self.socket = FakeSocket(self.take)
        self.run: list[int] | None = None
        self.run_start = 0
        self.disputes: set[str] = set()

    def connect(self, *, takes_batches: bool) -> Subscriber:
        self.socket = FakeSocket(self.take)
        self.subscriber = Subscriber(
            self.viewer.client_id,
            self.viewer,
            JSON,
            self.socket,
            self.closed,
            takes_batches=takes_batches,  # type: ignore[arg-type]
        )
        return self.subscriber

    def closed(self, code: CloseCode, reason: str) -> None:
        raise AssertionError((code, reason))

    def take(self, message: dict[str, Any]) -> None:
        self.world.may_take(self, message)
        self.count(message)
        self.replica.take(message)
        if message["type"] == "caught_up":
            self.check_receipts(message.get("receipts"))
            self.disputes.clear()  # who hears this lists the conflicts
        if message["type"] == "conflict":
            self.disputes.discard(message["conflict"]["conflict_id"])
        if "cursor" in message:
            self.checkpoints.append((message["cursor"], dict(self.replica.rows)))

    def check_receipts(self, receipts: list[dict[str, Any]] | None) -> None:
        """P9: whoever has caught up has what the server says they have."""
        assert (receipts is None) == (self.viewer.entity_types is not None)
        for receipt in receipts or ():
            rows = [
                (kind, str(entity_id), version)
                for (kind, entity_id), (space_id, version, data) in self.replica.rows.items()
                if data is not None and space_id == receipt["space_id"]
            ]
            assert (receipt["count"], receipt["checksum"]) == (len(rows), format_checksum(checksum_of(rows))), receipt
            self.world.receipts_told += 1

    def count(self, message: dict[str, Any]) -> None:
        """Keep the positions of live changes, as long as nothing but the log was told."""
        if message["type"] == "reset" or message.get("update_type") == "snapshot":
            self.run = None
        if self.run is not None and message["type"] == "server_update":
            self.run.append(message["seq"])
        if self.run is not None and message["type"] == "server_updates":
            self.run += [update["seq"] for update in message["updates"]]

    def begin_run(self, seq: int) -> None:
        self.run, self.run_start = [], seq


class FeedWorld:
    """Nothing in it moves by itself: publications, answers of the database and turns of the loop are made to happen."""

    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp())
        shutil.copy(migrated_database(), self.directory / "sync.db")
        self.store = Store(open_engine(f"sqlite:///{self.directory / 'sync.db'}"))
        with self.store.write() as writer:
            writer._cursor.execute("COMMIT")
            writer._cursor.execute("PRAGMA synchronous=OFF")
            writer._cursor.execute("BEGIN IMMEDIATE")
            writer.start_epoch("e1")
            for space_id in SPACES:
                writer.save_space(Space(SpaceId(space_id), space_id, UserId(WRITER), self.now()))
            head = writer.head()
        self.ids = IdBlocks()
        self.count = 0
        self.receipts_told = 0
        self.small_pages = patch.object(feed, "NEWEST_LOOK", 3)
        self.small_pages.start()
        self.readers = HeldReaders()
        self.feed = Feed(self.store, self.readers, head, recent_capacity=3, clock=self.now)
        self.feed._receipts = Receipts(head.head_seq, self.feed._load_receipts, capacity=1)
        self.hub = Hub(self.feed, slow_consumer_s=3_600)
        self.unpublished: deque[Committed] = deque()
        self.published_once: list[Committed] = []
        self.roles: dict[tuple[str, str], Role] = {}
        self.grants: dict[tuple[str, str], int] = {}
        self.log: list[Update] = []
        self.rights_moved: dict[str, int] = {}
        self.peers = [Peer(user, f"{user}-{name}", self) for user in READERS for name in "ab"]
        self.failures: list[BaseException] = []
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context["exception"]))
        self.flusher = self.loop.create_task(self.hub.run())
        self.waiting: list[asyncio.Task[Any]] = []
        for space_id in SPACES:
            self.member(WRITER, space_id, Role.EDITOR)
        self.publish_all()

    def now(self) -> Any:
        return 1_700_000_000_000

    def operation(
        self, space: str, name: str, kind: str, *, entity_type: str = "note", nested: bool = False
    ) -> dict[str, Any]:
        self.count += 1
        label = "title" if entity_type == "note" else "name"
        fields: dict[str, Any] = {label: f"{name} {self.count}"}
        if nested:
            fields["folder_id"] = f"{space}-f"
        content = {"create": {"data": fields}, "update": {"changes": fields}, "delete": {}}[kind]
        return {
            "operation_id": f"op_{self.count}", "operation_type": kind, "entity_type": entity_type,
            "entity_id": f"{space}-{name}", "space_id": space, **content,
        }  # fmt: skip

    def commit(self, raws: list[dict[str, Any]], *, atomic: bool = False) -> None:
        orders = tuple(
            order_of(Operation.model_validate(raw), raw, REGISTRY, Defaults(None, self.now())) for raw in raws
        )
        batch = Batch(UserId(WRITER), "desk", f"sync_{self.count}", orders, SpaceId("u-9"), atomic)  # type: ignore[arg-type]
        with self.store.write() as writer:
            number = f"conflict_{self.count}"
            current = Round(
                writer,
                REGISTRY,
                self.ids,
                now=self.now(),
                new_conflict_id=lambda: f"{number}-{id(object())}",  # type: ignore[arg-type,return-value]
            )
            current.run([batch])
        self.committed(current.committed)

    def member(self, user: str, space: str, role: Role | None) -> None:
        with self.store.write() as writer:
            if self.role_of(writer, user, space) is role:
                return
            change = save_member(writer, SpaceId(space), UserId(user), role, by=UserId(WRITER), now=self.now())
        if role is not None:
            self.grants[user, space] = change.seq
        self.committed(Committed((change,)))

    def committed(self, made: Committed) -> None:
        if made.updates:
            self.log += made.updates
            self.unpublished.append(made)

    def role_of(self, writer: Writer, user: str, space: str) -> Role | None:
        return writer.roles([(SpaceId(space), UserId(user))]).get((SpaceId(space), UserId(user)))

    def publish_next(self) -> None:
        self.published_once.append(self.unpublished.popleft())
        self.publish_one(self.published_once[-1])

    def publish_one(self, committed: Committed) -> None:
        self.loop.call_soon(self.published, committed)
        self.loop.run_until_complete(self.turns(1))

    def published(self, committed: Committed) -> None:
        """In the very turn of the loop in which the hub is told: what was on its way before may still arrive."""
        before = self.feed.head.head_seq
        for update in self.log:
            if update.entity_type == "member" and before < update.seq <= committed.updates[-1].seq:
                self.told_of(update)
        self.hub.publish(committed)

    def told_of(self, change: Update) -> None:
        pair = (change.entity_id, change.space_id)
        self.roles.pop(pair, None)
        if change.data is not None:
            self.roles[pair] = Role(json.loads(change.data)["role"])
        elif self.grants.get(pair, 0) < change.seq:
            self.grants.pop(pair, None)
        self.rights_moved[change.entity_id] = change.seq

    def publish_all(self) -> None:
        while self.unpublished:
            self.publish_next()

    def may_take(self, peer: Peer, message: dict[str, Any]) -> None:
        """Nothing of a space after its revocation was published, but that it is gone. A grant counts once committed."""
        for update in message.get("updates", [message] if message["type"] == "server_update" else []):
            told = update.get("update_data", update)
            assert told.get("reason") == "revoked" or (peer.viewer.user_id, update["space_id"]) in self.grants, message

    def check_run(self, peer: Peer) -> None:
        """Since it connected with a cursor into the log, each visible change came once and in order."""
        if peer.run is None or self.rights_moved.get(peer.viewer.user_id, 0) > peer.run_start:
            return
        expected = [
            change.seq
            for change in self.log
            if change.seq > peer.run_start
            and (peer.viewer.user_id, change.space_id) in self.roles
            and change.entity_type != "member"
            and peer.viewer.follows(change.space_id)
            and (peer.viewer.entity_types is None or change.entity_type in peer.viewer.entity_types)
        ]
        assert peer.run == expected

    def visible(self, viewer: Viewer) -> dict[tuple[str, Any], tuple[int, Any]]:
        """What a fresh snapshot must hold, asked of the database in another way."""
        with self.store.read() as reader:
            rows = reader._rows(
                "SELECT entity_type, entity_id, space_id, version, data FROM entities WHERE deleted = 0"
            )
            roles = {(m.space_id, m.user_id) for space in SPACES for m in reader.members(SpaceId(space))}
        return {
            (entity_type, entity_id): (version, {"id": entity_id, **json.loads(data)})
            for entity_type, entity_id, space_id, version, data in rows
            if (space_id, viewer.user_id) in roles
            and viewer.follows(space_id)
            and (viewer.entity_types is None or entity_type in viewer.entity_types)
        }

    def leave(self, peer: Peer) -> None:
        self.settle_waiting()
        if peer.subscriber is not None:
            self.loop.call_soon(self.hub.remove, peer.subscriber)
            self.loop.run_until_complete(self.turns(1))
            peer.subscriber = None
        peer.socket.drain()

    def wait_for(self, work: Any) -> None:
        self.waiting.append(self.loop.create_task(work))

    def answered(self, work: Any) -> Any:
        task = self.loop.create_task(work)
        for _ in range(TURNS):
            self.readers.release(10)
            self.loop.run_until_complete(self.turns(2))
            if task.done():
                break
        return task.result()

    def settle_waiting(self) -> None:
        """Publish and answer everything, and let the loop run until nothing moves."""
        self.publish_all()
        self.loop.run_until_complete(self.rest())
        for task in self.waiting:
            task.result()
        self.waiting = []

    async def rest(self) -> None:
        for _ in range(TURNS):
            self.readers.release(10)
            await self.turns(2)
            if self.is_at_rest():
                return
        raise AssertionError([peer.subscriber for peer in self.peers])

    def is_at_rest(self) -> bool:
        pumping = any(
            peer.subscriber.pump is not None and not peer.socket.congested
            for peer in self.peers
            if peer.subscriber is not None
        )
        return not (pumping or self.readers.held or self.hub._rounds) and all(task.done() for task in self.waiting)

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    def read_whole(self, viewer: Viewer, limit: int) -> tuple[Replica, Cursor]:
        """Page by page, while nothing is published."""
        replica, cursor, has_more = Replica(), self.feed.beginning, True
        while has_more:
            page = self.answered(self.feed.page(viewer, cursor, limit=limit))
            assert len(page.updates) <= limit
            replica.take(
                {
                    "type": "sync_response",
                    "data": {
                        "operation_results": [],
                        "resets": [reset._asdict() for reset in page.resets],
                        "server_updates": [json.loads(JSON.encode(update_item(update))) for update in page.updates],
                        "new_client_state": {"cursor": format_cursor(page.cursor)},
                    },
                }
            )
            cursor, has_more = parse_cursor(format_cursor(page.cursor)), page.has_more
        return replica, cursor

"""The feed and the hub under every interleaving: whoever follows, however slowly, ends with what may be seen."""

import shutil
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sync_server.cursor import parse_cursor
from sync_server.fingerprints import checksum_of
from sync_server.orders import Committed
from sync_server.types import Role, Seq, SpaceId
from tests.contract.builders import conflict
from tests.property.feed_world import READERS, SPACES, WRITER, FeedWorld

spaces = st.sampled_from(SPACES)
names = st.sampled_from([f"n{index}" for index in range(4)])
peers = st.integers(0, 3)


def _first_seq(committed: Committed) -> int:
    return committed.updates[0].seq


class FeedMachine(FeedWorld, RuleBasedStateMachine):
    """Everything that happens to a log and its readers, in any order."""

    @initialize()
    def start(self) -> None:
        self.begin()

    # --- what happens ----------------------------------------------------------------------------------------------

    @rule(space=spaces, name=names, kind=st.sampled_from(["create", "update", "delete"]), nested=st.booleans())
    def commit_one(self, space: str, name: str, kind: str, *, nested: bool) -> None:
        self.commit([self.operation(space, name, kind, nested=nested)])

    @rule(first=names, second=names, space=spaces)
    def commit_several(self, first: str, second: str, space: str) -> None:
        other = SPACES[SPACES.index(space) - 1]
        self.commit([self.operation(space, first, "create"), self.operation(other, second, "create")])

    @rule(first=names, second=names, space=spaces, kind=st.sampled_from(["create", "update", "delete"]))
    def commit_together(self, first: str, second: str, space: str, kind: str) -> None:
        """All or nothing; an update or a delete of what is not there is nothing."""
        self.commit([self.operation(space, first, "create"), self.operation(space, second, kind)], atomic=True)

    @rule(space=spaces, kind=st.sampled_from(["create", "delete"]))
    def commit_folder(self, space: str, kind: str) -> None:
        self.commit([self.operation(space, "f", kind, entity_type="folder")])

    @rule(space=spaces)
    def dispute(self, space: str) -> None:
        """A conflict that changes nothing: whoever may settle it hears of it, or is bid to list them."""
        self.count += 1
        found = conflict(f"dispute_{self.count}", space_id=space, user_id=WRITER)
        with self.store.read() as reader:
            editors = {member.user_id for member in reader.members(SpaceId(space)) if member.role is Role.EDITOR}
        for peer in self.peers:
            if peer.subscriber is not None and peer.viewer.user_id in editors and peer.viewer.follows(SpaceId(space)):
                peer.disputes.add(found.conflict_id)
        self.hub.publish(Committed((), (found,)))

    @rule(user=st.sampled_from(READERS), space=spaces, role=st.sampled_from([Role.VIEWER, Role.EDITOR]))
    def grant(self, user: str, space: str, role: Role) -> None:
        self.member(user, space, role)

    @rule(user=st.sampled_from(READERS), space=spaces)
    def revoke(self, user: str, space: str) -> None:
        self.member(user, space, None)

    @precondition(lambda self: self.unpublished)
    @rule()
    def publish(self) -> None:
        self.publish_next()

    @precondition(lambda self: len(self.unpublished) > 1)
    @rule(index=st.integers(1, 3))
    def publish_early(self, index: int) -> None:
        """Before what was committed before it."""
        self.unpublished.rotate(-min(index, len(self.unpublished) - 1))
        self.publish_next()
        self.unpublished = deque(sorted(self.unpublished, key=_first_seq))

    @precondition(lambda self: self.published_once)
    @rule(index=st.integers(1, 5))
    def publish_again(self, index: int) -> None:
        self.publish_one(self.published_once[-min(index, len(self.published_once))])

    @precondition(lambda self: len(self.unpublished) > 1)
    @rule()
    def lose(self) -> None:
        """Not the last one: only what comes later shows that something is missing."""
        self.unpublished.popleft()

    @rule(count=st.integers(1, 4))
    def turn(self, count: int) -> None:
        self.loop.run_until_complete(self.turns(count))

    @rule(count=st.integers(1, 3))
    def answer_reads(self, count: int) -> None:
        self.readers.release(count)
        self.loop.run_until_complete(self.turns(2))

    @rule(index=peers, back=st.integers(0, 5), takes_batches=st.booleans())
    def connect(self, index: int, back: int, *, takes_batches: bool) -> None:
        """Come back with an earlier cursor and what was kept with it, or for the first time."""
        peer = self.peers[index]
        self.leave(peer)
        cursor = self.feed.beginning
        peer.replica.rows, peer.run = {}, None
        if peer.checkpoints:
            text, rows = peer.checkpoints[-1 - min(back, len(peer.checkpoints) - 1)]
            cursor, peer.replica.rows = parse_cursor(text), dict(rows)
            if cursor.scan is None:
                peer.begin_run(cursor.seq)
        self.wait_for(self.hub.add(peer.connect(takes_batches=takes_batches), cursor))

    @rule(index=peers)
    def close(self, index: int) -> None:
        self.leave(self.peers[index])

    @rule(index=peers)
    def congest(self, index: int) -> None:
        self.peers[index].socket.congest()
        self.peers[index].run = None

    @rule(index=peers)
    def drain(self, index: int) -> None:
        self.peers[index].socket.drain()

    @rule(index=peers, space=st.sampled_from([None, *SPACES]), entity_type=st.sampled_from([None, "note"]))
    def narrow(self, index: int, space: str | None, entity_type: str | None) -> None:
        """Subscribe to something else, with a snapshot."""
        peer = self.peers[index]
        chosen = frozenset({SpaceId(space)}) if space is not None else None
        types = (entity_type,) if entity_type is not None else None
        if peer.subscriber is None:
            return
        self.settle_waiting()
        peer.viewer = peer.viewer._replace(spaces=chosen, entity_types=types)
        peer.replica.rows, peer.run, peer.checkpoints = {}, None, []
        self.wait_for(self.hub.narrow(peer.subscriber, peer.viewer, self.feed.beginning))

    @rule(index=peers, limit=st.integers(1, 3))
    def page(self, index: int, limit: int) -> None:
        """Read everything page by page, as a sync does, while the world stands still."""
        self.publish_all()
        viewer = self.peers[index].viewer
        replica, _ = self.read_whole(viewer, limit)
        assert replica.live == self.visible(viewer)

    @rule(index=peers)
    def read_ahead(self, index: int) -> None:
        """A sync takes a snapshot on a live connection, also of what is not published yet."""
        peer = self.peers[index]
        if peer.subscriber is not None and peer.subscriber.is_live:
            replica, cursor = self.read_whole(peer.viewer, 100)
            if peer.subscriber.is_live:
                peer.replica.rows, peer.run = replica.rows, None
                self.hub.told(peer.subscriber, cursor)

    @rule(until=st.integers(0, 30))
    def trim(self, until: int) -> None:
        self.publish_all()
        with self.store.write() as writer:
            writer.trim_changes(until=Seq(min(until, writer.head().head_seq)), limit=2_000)
            floor = writer.head().floor_seq
        self.feed.raise_floor(floor)

    @rule()
    def come_to_rest(self) -> None:
        """Let everything happen that can; then everybody has what they may see, and live ones had each change once."""
        self.publish_all()
        for peer in self.peers:
            peer.socket.drain()
        self.settle_waiting()
        for peer in self.peers:
            if peer.subscriber is not None:
                assert peer.subscriber.is_live
                assert self.hub.position_of(peer.subscriber) == self.feed.head.head_seq
                assert peer.replica.live == self.visible(peer.viewer)
                assert not peer.disputes
                self.check_run(peer)

    @invariant()
    def nothing_has_failed(self) -> None:
        assert not getattr(self, "failures", [])

    @invariant()
    def what_is_stored_of_a_space_is_what_a_scan_finds(self) -> None:
        if not hasattr(self, "store"):
            return
        with self.store.read() as reader:
            for space_id, receipt in reader.receipts(map(SpaceId, SPACES)).items():
                rows = reader.live_versions(space_id)
                assert (receipt.live_count, receipt.checksum) == (len(rows), checksum_of(rows))

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.come_to_rest()
        self.small_pages.stop()
        for peer in self.peers:
            self.leave(peer)
        self.flusher.cancel()
        self.loop.run_until_complete(self.turns(5))
        assert self.hub._followers == {}
        assert self.hub._subscribers == {}
        self.loop.close()
        self.store.close()
        shutil.rmtree(self.directory)
        self.nothing_has_failed()


class TestAHole:
    def test_hides_no_revocation_from_who_has_read_past_it(self) -> None:
        """A reply read past what is published; then a change overtakes the revocation that it had seen."""
        world = FeedMachine()
        world.start()
        world.member("1", "s1", Role.EDITOR)
        world.connect(0, 0, takes_batches=True)
        world.come_to_rest()
        world.member("1", "s1", None)
        world.commit([world.operation("s1", "n1", "create")])
        world.read_ahead(0)
        world.publish_early(1)
        world.come_to_rest()
        subscriber = world.peers[0].subscriber
        followed = set(subscriber.spaces) if subscriber is not None else None
        world.teardown()
        assert followed == set()


TestFeedMachine = FeedMachine.TestCase
TestFeedMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

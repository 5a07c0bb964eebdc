"""The newest changes in memory."""

from typing import Any

from sync_server.cursor import Cursor
from sync_server.feed import Feed, Recent, Viewer
from sync_server.memberships import Places
from sync_server.records import Head, Membership, Receipt, Update
from sync_server.types import ClientId, EntityId, EntityType, Millis, Role, Seq, SpaceId, UserId


def update(seq: int, data: str | None = "{}") -> Update:
    return Update(
        Seq(seq), SpaceId("s"), EntityType("note"), EntityId(str(seq)), 1, "create", data, Millis(0), UserId("1"),
        ClientId("c"),
    )  # fmt: skip


def kept(recent: Recent, until: int) -> list[int]:
    first = next(seq for seq in range(until + 1) if recent.covers(Seq(seq)))
    return [row.seq for row in recent.after(Seq(first), until)]


class TestRecent:
    def test_keeps_between_one_and_two_times_its_capacity(self) -> None:
        recent = Recent(Seq(0), capacity=3)
        recent.extend([update(seq) for seq in range(1, 7)])
        assert kept(recent, 6) == [1, 2, 3, 4, 5, 6]
        recent.extend([update(7)])
        assert kept(recent, 7) == [5, 6, 7]

    def test_drops_the_older_half_of_what_weighs_too_much(self) -> None:
        recent = Recent(Seq(0), capacity=100, max_characters=40)
        recent.extend([update(seq, "x" * 10) for seq in range(1, 5)])
        assert kept(recent, 4) == [1, 2, 3, 4]
        recent.extend([update(5, None), update(6, "x" * 10)])
        assert kept(recent, 6) == [4, 5, 6]

    def test_holds_nothing_that_is_too_heavy_alone(self) -> None:
        recent = Recent(Seq(9), capacity=100, max_characters=40)
        recent.extend([update(10, "x" * 41)])
        assert (recent.covers(Seq(9)), recent.covers(Seq(10))) == (False, True)
        recent.extend([update(11)])
        assert [row.seq for row in recent.after(Seq(10), 5)] == [11]


class TestAHole:
    def test_is_found_and_memory_begins_behind_it(self) -> None:
        nowhere: Any = None
        feed = Feed(nowhere, nowhere, Head("e", Seq(3), Seq(0)), recent_capacity=1_000, clock=lambda: Millis(0))
        assert feed.advance([update(4)])
        assert not feed.advance([update(7), update(8)])
        assert (feed.head.head_seq, feed.recent.covers(Seq(4)), kept(feed.recent, 8)) == (8, False, [7, 8])
        assert feed.advance([update(9)])
        assert kept(feed.recent, 9) == [7, 8, 9]

    def test_makes_unknown_what_others_were_told_of_it(self) -> None:
        """A right or a receipt in the hole is not to be told from memory."""
        nowhere: Any = None
        feed = Feed(nowhere, nowhere, Head("e", Seq(3), Seq(0)), recent_capacity=1_000, clock=lambda: Millis(0))
        feed.memberships._remember(UserId("2"), Places())
        feed.advance([update(4)], [Receipt(SpaceId("s"), 1, 7, Seq(4))])
        feed.advance([update(6)], [Receipt(SpaceId("t"), 1, 7, Seq(6))])
        assert feed.memberships.cached(UserId("2")) is None
        told = feed._receipts.at(Seq(6), [SpaceId("s"), SpaceId("t")], head_seq=Seq(6))
        assert [receipt.space_id for receipt in told] == ["t"]


class TestAReceiptInMemory:
    def test_is_forgotten_where_the_database_says_otherwise(self) -> None:
        nowhere: Any = None
        right, wrong = Receipt(SpaceId("s"), Seq(4), 1, 7), Receipt(SpaceId("s"), Seq(4), 2, 7)
        newer = Receipt(SpaceId("s"), Seq(5), 3, 7)
        cases = [(right, True, True), (right, False, False), (wrong, True, False), (newer, True, True)]
        for known, is_sound, stays in cases:
            feed = Feed(nowhere, nowhere, Head("e", Seq(3), Seq(0)), recent_capacity=1_000, clock=lambda: Millis(0))
            feed._receipts.take([known])
            feed.check_receipt(right, is_sound=is_sound)
            assert (feed._receipts.known(SpaceId("s")) is not None) is stays


class TestAPageOfRecentChanges:
    def test_looks_past_the_rows_of_others_and_stops_at_its_limit(self) -> None:
        nowhere: Any = None
        feed = Feed(nowhere, nowhere, Head("e", Seq(0), Seq(0)), recent_capacity=1_000, clock=lambda: Millis(0))
        others = [update(seq)._replace(space_id=SpaceId("others")) for seq in range(1, 400)]
        feed.advance([*others, update(400), update(401)])
        places = Places({SpaceId("s"): Membership(SpaceId("s"), UserId("2"), Role.EDITOR, Seq(0))})
        viewer = Viewer(UserId("2"), ClientId("d"))
        first = feed.recent_page(viewer, places, Cursor("e", Seq(0)), limit=1)
        assert first is not None
        second = feed.recent_page(viewer, places, first.cursor, limit=1)
        assert second is not None
        assert [[row.seq for row in page.updates] for page in (first, second)] == [[400], [401]]
        assert (first.has_more, second.has_more) == (True, False)

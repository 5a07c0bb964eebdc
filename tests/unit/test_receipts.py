"""Receipts in memory, fed by what is published and by reads of before and after."""

from sync_server.receipts import MAX_TOLD, Receipts, StoredReceipts
from sync_server.records import Receipt
from sync_server.types import Seq, SpaceId

S, OTHER = SpaceId("s"), SpaceId("other")


def receipt(seq: int, space_id: SpaceId = S) -> Receipt:
    return Receipt(space_id, Seq(seq), 100 + seq, seq)


class Database:
    """Answers reads with what a test says."""

    def __init__(self, head_seq: int, *receipts: Receipt) -> None:
        self.answer = StoredReceipts(Seq(head_seq), {one.space_id: one for one in receipts})
        self.asked: list[list[SpaceId]] = []
        self.meanwhile: list[Receipt] = []
        self.known: Receipts | None = None

    async def __call__(self, space_ids: list[SpaceId]) -> StoredReceipts:
        self.asked.append(space_ids)
        if self.known is not None:
            self.known.take(self.meanwhile)
        return self.answer


def told(receipts: Receipts, seq: int, head_seq: int | None = None) -> list[int]:
    found = receipts.at(Seq(seq), (S, OTHER), head_seq=Seq(head_seq if head_seq is not None else seq))
    return [one.seq for one in found]


class TestAReceipt:
    async def test_is_read_once_and_then_follows_what_is_published(self) -> None:
        database = Database(5, receipt(3))
        receipts = Receipts(Seq(5), database)
        await receipts.load([S])
        await receipts.load([S])
        assert (told(receipts, 5), database.asked) == ([3], [[S]])
        receipts.take([receipt(6)])
        assert told(receipts, 6) == [6]

    async def test_is_not_told_at_a_cursor_before_it(self) -> None:
        receipts = Receipts(Seq(5), Database(5))
        receipts.take([receipt(6)])
        assert told(receipts, 5, head_seq=6) == []

    async def test_is_not_told_at_a_cursor_past_what_is_published(self) -> None:
        """The page came from a read that saw commits which nobody was told of yet."""
        receipts = Receipts(Seq(5), Database(5, receipt(3)))
        await receipts.load([S])
        assert told(receipts, 6, head_seq=5) == []

    async def test_of_a_read_that_is_newer_than_the_feed_waits_for_it(self) -> None:
        receipts = Receipts(Seq(5), Database(7, receipt(7)))
        await receipts.load([S])
        assert told(receipts, 5) == []
        receipts.take([receipt(6)])
        assert told(receipts, 6) == [], "the space changed at 6, but what it was then is not known any more"
        receipts.take([receipt(7)])
        assert told(receipts, 7) == [7]

    async def test_that_was_forgotten_does_not_come_back_with_a_read_of_before(self) -> None:
        database = Database(5, receipt(3))
        receipts = Receipts(Seq(5), database)

        async def meanwhile(space_ids: list[SpaceId]) -> StoredReceipts:
            receipts.take([receipt(6)])
            receipts.forget(S)
            return await database(space_ids)

        receipts._load = meanwhile
        await receipts.load([S])
        assert told(receipts, 6) == []

    async def test_of_a_read_that_is_older_than_the_feed_is_forgotten(self) -> None:
        database = Database(5, receipt(3))
        receipts = database.known = Receipts(Seq(5), database)
        database.meanwhile = [receipt(6)]
        await receipts.load([S])
        assert told(receipts, 6) == [6]

    async def test_of_an_old_read_does_not_come_back_once_the_newer_one_had_no_room(self) -> None:
        database = Database(5, receipt(3))
        receipts = database.known = Receipts(Seq(5), database, capacity=1)
        database.meanwhile = [receipt(6), receipt(7, OTHER)]
        await receipts.load([S])
        assert told(receipts, 7) == [7]
        assert receipts.at(Seq(7), [S], head_seq=Seq(7)) == []

    async def test_is_one_of_a_bounded_number(self) -> None:
        spaces = [SpaceId(f"s{number:05}") for number in range(MAX_TOLD + 5)]
        database = Database(5)
        receipts = Receipts(Seq(5), database)
        await receipts.load(spaces)
        receipts.take([receipt(6, space_id) for space_id in spaces])
        assert database.asked == [spaces[:MAX_TOLD]]
        assert len(receipts.at(Seq(6), spaces, head_seq=Seq(6))) == MAX_TOLD

    async def test_that_goes_to_make_room_for_a_read_does_not_come_back_older(self) -> None:
        """Found by the laws: the newer one went for want of room between two receipts of the old read."""
        database = Database(0, receipt(0, SpaceId("a")), receipt(0, SpaceId("b")), receipt(0, SpaceId("c")))
        receipts = database.known = Receipts(Seq(0), database, capacity=2)
        database.meanwhile = [receipt(1, SpaceId("c"))]
        await receipts.load([SpaceId("a"), SpaceId("b"), SpaceId("c")])
        assert receipts.at(Seq(1), [SpaceId("c")], head_seq=Seq(1)) in ([], [receipt(1, SpaceId("c"))])

"""The newest changes in memory."""

from sync_server.feed import Recent
from sync_server.records import Update
from sync_server.types import ClientId, EntityId, EntityType, Millis, Seq, SpaceId, UserId


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

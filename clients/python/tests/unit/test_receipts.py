"""The laws R1 to R4 of `receipts`, alone and in the machine."""

from sync_client.events import Check, Effect, Lost, Resume
from sync_client.frames import CaughtUp, Changes, Receipt, Reset, Update
from sync_client.ladder import LinkKind
from sync_client.receipts import COMPARE_S, REST_S, Receipts

from clients.python.tests.builders import applied, create, row, tombstone
from clients.python.tests.shell import PLAIN, Shell


def receipt(seq: int = 5, space_id: str = "u-1") -> Receipt:
    return Receipt(space_id, seq, 7)


def change(seq: int, space_id: str = "u-1", *, is_revoked: bool = False) -> Update:
    return Update(row("a", 9, space_id=space_id), is_revoked=is_revoked, seq=seq)


def due(receipts: Receipts) -> tuple[Receipt, ...]:
    """What is compared at its time."""
    return receipts.taken(receipts.due_at) if receipts.due_at is not None else ()


class TestAReceipt:
    """R1"""

    def test_is_compared_once(self) -> None:
        receipts = Receipts()
        receipts.told([receipt(), receipt(space_id="s")], 100.0)
        assert due(receipts) == (receipt(), receipt(space_id="s"))
        assert receipts.due_at is None

    def test_is_void_once_its_space_has_changed(self) -> None:
        receipts = Receipts()
        receipts.told([receipt(5), receipt(5, "s")], 100.0)
        receipts.changed([change(6)], 101.0)
        assert due(receipts) == (receipt(5, "s"),)

    def test_counts_changes_that_come_after_it(self) -> None:
        receipts = Receipts()
        receipts.told([receipt(5)], 100.0)
        receipts.changed([change(5), change(9, "s"), Update(tombstone("b")._replace(space_id=None), seq=9)], 101.0)
        assert due(receipts) == (receipt(5),)

    def test_is_void_once_its_space_is_lost_or_comes_anew(self) -> None:
        for void in (
            lambda receipts: receipts.changed([change(3, is_revoked=True)], 101.0),
            lambda receipts: receipts.reset("u-1"),
            lambda receipts: receipts.reset(None),
            lambda receipts: receipts.begin(),
        ):
            receipts = Receipts()
            receipts.told([receipt(5)], 100.0)
            void(receipts)
            assert due(receipts) == ()

    def test_is_the_newer_one_of_two_roads(self) -> None:
        receipts = Receipts()
        receipts.told([receipt(5)], 100.0)
        receipts.told([receipt(4)], 100.5)
        assert due(receipts) == (receipt(5),)
        receipts.told([receipt(5)], 101.0)
        receipts.told([receipt(6)], 101.0)
        assert due(receipts) == (receipt(6),)


class TestAComparison:
    """R3"""

    def test_waits_for_a_moment_of_rest(self) -> None:
        receipts = Receipts()
        receipts.told([receipt(5)], 100.0)
        receipts.told([receipt(6)], 100.0 + REST_S / 2)
        assert receipts.due_at == 100.0 + 1.5 * REST_S
        assert receipts.taken(100.0 + REST_S) == ()

    def test_waits_a_minute_after_the_last_one(self) -> None:
        receipts = Receipts()
        receipts.told([receipt(5)], 100.0)
        receipts.taken(110.0)
        receipts.begin()
        receipts.told([receipt(6)], 111.0)
        assert receipts.due_at == 110.0 + COMPARE_S

    def test_waits_for_nothing_where_all_rows_came_anew(self) -> None:
        receipts = Receipts()
        receipts.told([receipt(5)], 100.0)
        receipts.taken(101.0)
        receipts.told([receipt(6)], 102.0, is_urgent=True)
        assert receipts.taken(102.0) == (receipt(6),)


class TestAReceiptBesideTheFeed:
    """R4"""

    def early(self, seq: int = 6) -> Receipts:
        receipts = Receipts()
        receipts.answered([receipt(seq)], 100.0, is_in_order=False)
        assert receipts.due_at is None
        return receipts

    def test_waits_until_the_feed_has_told_as_much(self) -> None:
        receipts = self.early()
        receipts.changed([change(5), change(6, "s")], 101.0)
        assert receipts.due_at is None
        receipts.changed([change(6)], 102.0)
        assert receipts.due_at == 102.0 + REST_S
        assert due(receipts) == (receipt(6),)

    def test_is_void_once_its_space_has_changed_again_or_is_lost_or_comes_anew(self) -> None:
        for void in (
            lambda receipts: receipts.changed([change(6), change(7)], 101.0),
            lambda receipts: receipts.changed([change(3, is_revoked=True), change(6)], 101.0),
            lambda receipts: receipts.reset("u-1"),
            lambda receipts: receipts.reset(None),
            lambda receipts: receipts.begin(),
        ):
            receipts = self.early()
            void(receipts)
            assert due(receipts) == ()

    def test_makes_an_older_one_untrue(self) -> None:
        receipts = Receipts()
        receipts.told([receipt(5)], 100.0)
        receipts.answered([receipt(6)], 100.0, is_in_order=False)
        receipts.told([receipt(5)], 101.0)
        assert due(receipts) == ()
        receipts.told([receipt(7)], 102.0)
        assert due(receipts) == (receipt(7),)

    def test_that_is_missing_makes_those_that_wait_untrue(self) -> None:
        """A repeated verdict has none: what it acknowledges is in the store, and the feed is not so far."""
        receipts = Receipts()
        receipts.told([receipt(5)], 100.0)
        receipts.answered([], 100.0, is_in_order=True)
        assert receipts.due_at is not None
        receipts.answered([], 100.0, is_in_order=False)
        assert receipts.due_at is None


def checks(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, Check)]


class TestTheMachine:
    def come_back(self, **profile: object) -> Shell:
        shell = Shell(Resume(cursor="c0", is_complete=True), **profile).connect()
        assert checks(shell.hear(CaughtUp("c1", (receipt(5),)))) == []
        return shell

    def compared(self, shell: Shell) -> list[Effect]:
        """What is compared before anything else happens, some minutes on."""
        for _ in range(3):
            if found := checks(shell.wait()):
                return found
        return []

    def test_compares_once_it_caught_up(self) -> None:
        assert self.compared(self.come_back()) == [Check((receipt(5),))]

    def test_compares_at_once_after_a_first_sync(self) -> None:
        shell = Shell().connect()
        shell.hear(CaughtUp("c1", (receipt(5),)))
        now = shell.now
        assert checks(shell.wait()) == [Check((receipt(5),))]
        assert shell.now == now

    def test_asks_a_server_that_tells_no_receipts(self) -> None:
        shell = Shell().connect()
        assert checks(shell.hear(CaughtUp("c1"))) == [Check(None)]

    def test_waits_for_one_from_a_server_that_can_tell_none_at_that_moment(self) -> None:
        """A change came between the last page and `caught_up`; asked at once, the server knew more than it had told."""
        shell = Shell().connect()
        assert checks(shell.hear(CaughtUp("c1", ()))) == []
        shell.write(create("o1", title="x"))
        shell.answer(applied(create("o1"), 1, {"title": "x"}), receipts=(receipt(6),))
        now = shell.now
        assert checks(shell.wait()) == [Check((receipt(6),))]
        assert shell.now == now, "all rows came anew"
        shell.tell(Lost("gone"))
        shell.connect()
        shell.hear(CaughtUp("c2", (receipt(7),)))
        now = shell.now
        assert checks(shell.wait()) == [Check((receipt(7),))]
        assert shell.now == now, "the first sync was never compared as a whole"

    def test_compares_what_an_acknowledgement_says(self) -> None:
        shell = self.come_back()
        shell.write(create("o1", title="x"))
        shell.answer(applied(create("o1"), 1, {"title": "x"}), receipts=(receipt(6),))
        assert self.compared(shell) == [Check((receipt(6),))]

    def test_compares_no_acknowledgement_that_overtook_a_feed_over_http(self) -> None:
        """R4: the feed hung, an operation went its own way, and rows on their way were taken for wrong ones."""
        shell = self.come_back(links=(LinkKind.POLL,))
        shell.write(create("o1", title="x"))
        shell.answer(applied(create("o1"), 1, {"title": "x"}), receipts=(receipt(6),))
        assert checks(shell.wait()) == []
        shell.hear(Changes([change(6)], "c2"))
        assert self.compared(shell) == [Check((receipt(6),))]

    def test_compares_nothing_while_a_request_is_under_way(self) -> None:
        """R2, and it is not woken for it either."""
        shell = self.come_back()
        shell.write(create("o1", title="x"))
        assert shell.machine.deadline is not None
        assert shell.machine.deadline > shell.now + 2 * REST_S
        assert self.compared(shell) == []

    def test_compares_nothing_that_an_older_link_said(self) -> None:
        shell = self.come_back()
        shell.tell(Lost("gone"))
        shell.connect()
        shell.hear(CaughtUp("c2", ()))
        assert self.compared(shell) == []

    def test_compares_nothing_that_changed_or_is_gone(self) -> None:
        """R1"""
        for frame in (Changes([change(6)], "c2"), Reset("u-1")):
            shell = self.come_back()
            shell.hear(frame)
            assert self.compared(shell) == []

    def test_compares_nothing_where_types_are_left_out(self) -> None:
        shell = self.come_back(entity_types=("note",))
        shell.write(create("o1", title="x"))
        shell.answer(applied(create("o1"), 1, {"title": "x"}), receipts=(receipt(6),))
        assert self.compared(shell) == []

    def test_compares_nothing_with_a_plain_server(self) -> None:
        shell = Shell().connect(PLAIN)
        shell.answer()
        assert not any(checks(shell.wait()) for _ in range(3))

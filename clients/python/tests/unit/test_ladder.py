"""The laws L1 and L2: which link is tried."""

from sync_client.ladder import FIRST_LOOK_S, LONGEST_LOOK_S, TRIES, Ladder, LinkKind

WEBSOCKET, EVENTS, POLL = LinkKind


def fail(ladder: Ladder, times: int = TRIES, *, is_odd: bool = True) -> LinkKind:
    for _ in range(times):
        ladder.failed(is_odd=is_odd)
    return ladder.kind


class TestTheLadder:
    def test_begins_with_the_best(self) -> None:
        assert Ladder().kind is WEBSOCKET

    def test_does_not_move_while_the_network_is_down(self) -> None:
        assert fail(Ladder(), 100, is_odd=False) is WEBSOCKET

    def test_goes_down_after_odd_failures_and_around(self) -> None:
        ladder = Ladder()
        assert fail(ladder, TRIES - 1) is WEBSOCKET
        assert [fail(ladder, 1), fail(ladder), fail(ladder)] == [EVENTS, POLL, WEBSOCKET]

    def test_counts_anew_after_a_link_that_was_good(self) -> None:
        ladder = Ladder()
        fail(ladder, TRIES - 1)
        ladder.worked(0)
        assert fail(ladder, TRIES - 1) is WEBSOCKET
        assert ladder.look_at is None

    def test_looks_up_and_comes_back_at_once(self) -> None:
        ladder = Ladder()
        fail(ladder)
        fail(ladder)
        ladder.worked(10)
        assert (ladder.kind, ladder.look_at) == (POLL, 10 + FIRST_LOOK_S)
        ladder.look_up()
        assert (ladder.kind, ladder.look_at) == (WEBSOCKET, None)
        assert fail(ladder, 1) is POLL
        ladder.worked(1_000)
        assert ladder.look_at == 1_000 + 2 * FIRST_LOOK_S, "less and less often"

    def test_comes_back_at_once_too_if_the_network_is_down_meanwhile(self) -> None:
        ladder = Ladder()
        fail(ladder)
        ladder.worked(0)
        ladder.look_up()
        fail(ladder, 5, is_odd=False)
        assert (ladder.kind, fail(ladder, 1)) == (WEBSOCKET, EVENTS)

    def test_of_one_link_stays_on_it(self) -> None:
        ladder = Ladder([EVENTS])
        ladder.worked(0)
        assert (fail(ladder, 50), ladder.look_at) == (EVENTS, None)

    def test_looks_up_not_seldomer_than_it_says(self) -> None:
        ladder = Ladder()
        fail(ladder)
        for _ in range(20):
            ladder.worked(0)
            ladder.look_up()
            fail(ladder, 1)
        ladder.worked(0)
        assert ladder.look_at == LONGEST_LOOK_S

    def test_looks_up_as_soon_as_at_first_once_the_best_link_worked(self) -> None:
        ladder = Ladder()
        fail(ladder)
        ladder.worked(0)
        ladder.look_up()
        ladder.worked(0)
        assert (ladder.kind, ladder.look_at) == (WEBSOCKET, None)
        fail(ladder)
        ladder.worked(0)
        assert ladder.look_at == FIRST_LOOK_S

    def test_forgets_the_odd_failures_of_the_link_above(self) -> None:
        ladder = Ladder()
        fail(ladder)
        assert (fail(ladder, TRIES - 1), fail(ladder, 1)) == (EVENTS, POLL)

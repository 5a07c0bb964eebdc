"""What goes up and what becomes of it: requests that fail, operations that wait, servers that say less."""

from typing import Any

import pytest
from sync_client.events import AskToken, Lost, Resume
from sync_client.frames import Changes, Failure, Limits, Update
from sync_client.ladder import LinkKind
from sync_client.values import Operation, Problem

from clients.python.tests.builders import applied, create, key, refused, reply, told, tombstone
from clients.python.tests.shell import PLAIN, WELCOME, WRONG, Shell, kinds

DOWN = Problem(error="the database is away", error_code="SYNC_ERROR")
EXPIRED = Problem(error="expired", error_code="UNAUTHORIZED")


def creates(number: int, **members: Any) -> list[Operation]:
    return [create(f"o{n}", f"n{n}", **members) for n in range(number)]


def done(operation_id: str) -> Any:
    return applied(create(operation_id, f"n{operation_id[1:]}"), 1, {})


def serve(shell: Shell, *, fails: str, rounds: int = 30) -> list[list[str]]:
    """Answer requests; those with a certain operation fail as a whole, for now. Returns what each carried."""
    asked = []
    for _ in range(rounds):
        if shell.waiting == [fails] or not shell.is_asking:
            break
        asked.append(shell.asked)
        if fails in shell.asked:
            shell.fail(DOWN)
        else:
            shell.answer(*map(done, shell.asked))
        while not shell.is_asking and shell.waiting != [fails]:
            shell.wait()
    return asked


def acknowledged(shell: Shell, operation_id: str = "o1", entity_id: str = "a") -> str:
    """An operation that took effect, without room for it in the reply; the id of the read that follows."""
    shell.write(create(operation_id, entity_id, title="mine"))
    shell.answer(applied(create(operation_id, entity_id), 1, None, has_data=False))
    (read_id,) = shell.asked
    return read_id


class TestAReplyThatTheFeedOvertook:
    """Over HTTP a space was revoked, and then came what had been done in it before: the row stayed for ever."""

    def overtaken(self) -> Shell:
        shell = Shell(links=(LinkKind.POLL,)).live()
        shell.write(create("o1", "a", title="mine"), create("o2", "b", title="mine"))
        shell.hear(Changes([Update(tombstone("a", 0), is_revoked=True, seq=5)], "c2"))
        shell.answer(*(applied(create(f"o{n}", one), 1, {"title": "mine"}) for n, one in ((1, "a"), (2, "b"))))
        return shell

    def test_brings_no_row_back(self) -> None:
        shell = self.overtaken()
        assert shell.tables.rows([key("a")]) == {}
        assert shell.tables.rows([key("b")]).keys() == {key("b")}

    def test_is_followed_by_a_look_at_what_there_is_now(self) -> None:
        shell = self.overtaken()
        (read_id,) = shell.asked
        shell.answer(refused(create(read_id), "NOT_FOUND"))
        assert shell.waiting == []
        assert shell.tables.drafts([key("a")]) == {}

    def test_is_taken_where_the_space_was_given_back(self) -> None:
        shell = self.overtaken()
        (read_id,) = shell.asked
        shell.hear(Changes([told("a", 2, title="theirs")], "c3"))
        shell.answer(applied(create(read_id), 2, {"title": "theirs"}))
        assert shell.tables.rows([key("a")])[key("a")].version == 2

    def test_counts_for_one_request_alone(self) -> None:
        shell = self.overtaken()
        shell.answer(refused(create(shell.asked[0]), "NOT_FOUND"))
        shell.write(create("o3", "a", title="again"))
        shell.answer(applied(create("o3", "a"), 1, {"title": "again"}))
        assert shell.tables.rows([key("a")]).keys() == {key("a")}


class TestARequestThatFailsAgainAndAgain:
    @pytest.mark.parametrize("fails", ["o0", "o1", "o2", "o3"])
    def test_holds_its_one_operation_and_others_go(self, fails: str) -> None:
        """M7"""
        shell = Shell().live()
        shell.write(*creates(4))
        serve(shell, fails=fails)
        assert shell.waiting == [fails]

    def test_holds_nothing_that_was_only_beside_it(self) -> None:
        """M7: a part that is still too large is no verdict on what is in it."""
        shell = Shell().live()
        shell.write(*creates(4))
        asked = serve(shell, fails="o1")
        assert asked == [["o0", "o1", "o2", "o3"], ["o0", "o1"], ["o0"], ["o1", "o2"], ["o1"], ["o2"], ["o3"]]

    def test_holds_a_read_as_well(self) -> None:
        shell = Shell().live()
        acknowledged(shell)
        shell.fail(DOWN)
        shell.wait()
        shell.write(create("o2", "b"))
        shell.fail(DOWN)
        shell.wait()
        assert shell.asked == ["o2"]

    def test_holds_a_transaction_whole(self) -> None:
        shell = Shell().live()
        shell.write(*creates(2, group="g"), create("o9", "b"))
        for _ in range(2):
            assert shell.request["data"]["atomic"] is True
            shell.fail(DOWN)
            shell.wait()
        assert shell.asked == ["o9"]
        shell.answer(applied(create("o9", "b"), 1, {}))
        shell.wait()
        assert shell.asked == ["o0", "o1"]

    def test_pauses_longer_and_longer(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        pauses = []
        for _ in range(4):
            asked_at = shell.now
            shell.fail(DOWN)
            shell.wait_for_request()
            pauses.append(shell.now - asked_at)
        assert pauses == pytest.approx([0.25, 0.5 + 0.25, 1 + 0.5, 2 + 1])

    def test_is_as_small_as_it_was_until_one_succeeds_and_grows_again_then(self) -> None:
        shell = Shell().live()
        shell.write(*creates(12))
        sizes = []
        shell.fail(DOWN)
        shell.wait()
        shell.fail(DOWN)
        shell.wait()
        while shell.waiting:
            sizes.append(len(shell.asked))
            shell.answer(*map(done, shell.asked))
        assert sizes == [3, 6, 3]


class TestARequestThatIsRefused:
    def test_of_a_transaction_is_refused_whole(self) -> None:
        """B3: the half of a transaction that is right is no transaction."""
        shell = Shell().live()
        shell.write(*creates(3, group="g"), create("o9", "b"))
        shell.fail(WRONG, is_retryable=False)
        assert (shell.refused, shell.asked) == (["o0", "o1", "o2"], ["o9"])

    def test_for_a_read_touches_no_operation_beside_it(self) -> None:
        shell = Shell().live()
        acknowledged(shell)
        shell.answer(refused(create(shell.asked[0]), "SYNC_ERROR"))
        shell.write(create("o2", "b"))
        shell.answer(refused(create("o2", "b"), "SYNC_ERROR"))
        shell.wait()
        assert len(shell.asked) == 2
        while shell.waiting:
            is_at_fault = any(one["operation_type"] == "read" for one in shell.request["data"]["operations"])
            if is_at_fault:
                shell.fail(WRONG, is_retryable=False)
            else:
                shell.answer(applied(create("o2", "b"), 1, {}))
        assert shell.refused == []
        assert shell.tables.rows([key("b")])


class TestAReadOfAnAcknowledgedOperation:
    @pytest.mark.parametrize("code", ["NOT_FOUND", "VALIDATION_ERROR"])
    def test_refused_for_good_ends_it(self, code: str) -> None:
        shell = Shell().live()
        read_id = acknowledged(shell)
        shell.answer(refused(create(read_id), code))
        assert (shell.waiting, shell.refused, shell.is_asking) == ([], [], False)

    def test_refused_for_now_stays_and_is_asked_again(self) -> None:
        shell = Shell().live()
        read_id = acknowledged(shell)
        shell.answer(refused(create(read_id), "SYNC_ERROR"))
        assert (shell.waiting, shell.is_asking) == (["o1"], False)
        shell.wait()
        assert [one["operation_type"] for one in shell.request["data"]["operations"]] == ["read"]

    def test_without_any_result_stays(self) -> None:
        shell = Shell().live()
        acknowledged(shell)
        shell.answer()
        assert shell.waiting == ["o1"]

    def test_as_a_request_refused_for_good_ends_it(self) -> None:
        shell = Shell().live()
        acknowledged(shell)
        shell.fail(WRONG, is_retryable=False)
        assert (shell.waiting, shell.refused) == ([], [])


class TestAHold:
    def test_grows_its_pauses(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        assert self.pauses(shell, 5) == pytest.approx([0.25, 0.5, 1, 2, 4])

    def test_is_forgotten_after_success(self) -> None:
        """What is held by an id that ends, and comes again under it, begins anew: here an acknowledged operation."""
        shell = Shell().live()
        shell.write(create("o1"))
        self.pauses(shell, 3)
        shell.answer(applied(create("o1"), 1, None, has_data=False))
        assert [one["operation_type"] for one in shell.request["data"]["operations"]] == ["read"]
        asked_at = shell.now
        shell.answer(refused(create(shell.asked[0]), "SYNC_ERROR"))
        shell.wait()
        assert shell.now - asked_at == pytest.approx(0.25)

    def test_leaves_no_deadline_once_its_operation_ended(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        self.pauses(shell, 2)
        shell.answer(applied(create("o1"), 1, {}))
        assert shell.machine._uploads.deadlines() == []

    def test_lasts_over_a_lost_link(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        self.pauses(shell, 6)
        asked_at = shell.now
        shell.answer(refused(create("o1"), "SYNC_ERROR"))
        shell.tell(Lost("cut"))
        shell.connect()
        assert not shell.is_asking
        shell.wait_for_request()
        assert shell.now - asked_at == pytest.approx(16)

    @staticmethod
    def pauses(shell: Shell, times: int) -> list[float]:
        """How long the operation waits after each result that is none."""
        found = []
        for _ in range(times):
            asked_at = shell.now
            shell.answer(refused(create("o1"), "SYNC_ERROR"))
            shell.wait()
            found.append(shell.now - asked_at)
            assert shell.asked == ["o1"]
        return found


class TestAResultThatWantsAnotherToken:
    def test_asks_for_one_and_keeps_the_operation(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        assert AskToken in kinds(shell.answer(refused(create("o1"), "UNAUTHORIZED")))
        assert (shell.waiting, shell.refused) == (["o1"], [])

    def test_is_the_only_one_that_does(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"), create("o2", "b"))
        results = [refused(create("o1"), "SYNC_ERROR"), refused(create("o2", "b"), "FORBIDDEN")]
        assert AskToken not in kinds(shell.answer(*results))

    def test_as_a_whole_asks_once(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        assert kinds(shell.fail(EXPIRED)).count(AskToken) == 1


class TestAReplyOfAFullServer:
    def test_is_taken_for_its_results_alone(self) -> None:
        """One cursor, one order: what others did comes by the subscription, resets too."""
        shell = Shell().live()
        shell.tables.save_rows([told("b").row])
        shell.write(create("o1"))
        shell.answer(applied(create("o1"), 1, {}), updates=[told("c", 3)], resets=["u-1"], synced_at="later")
        assert set(shell.tables.rows([key("a"), key("b"), key("c")])) == {key("a"), key("b")}
        assert shell.tables.stale_keys(limit=9) == []
        assert shell.machine.rows_told == 0

    def test_does_not_move_the_cursor(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        shell.answer(applied(create("o1"), 1, {}), has_more=True)
        assert shell.machine.cursor == "c1"
        assert not shell.is_asking, "has_more is of no meaning without updates"

    def test_to_something_else_settles_and_ends_no_request(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"), create("o2", "b"))
        first = shell.request
        shell.hear(reply(applied(create("o2", "b"), 1, {}), message_id="m999"))
        assert (shell.waiting, shell.request) == (["o1"], first)
        assert shell.is_asking

    def test_that_is_an_error_of_something_else_ends_no_request(self) -> None:
        shell = Shell().live()
        shell.write(create("o1"))
        shell.hear(Failure("m999", WRONG, is_retryable=False, retry_after_s=None))
        assert (shell.waiting, shell.refused) == (["o1"], [])
        assert shell.is_asking


class TestAPlainServer:
    def test_may_leave_out_the_id_of_the_message(self) -> None:
        shell = Shell().connect(PLAIN)
        shell.answer(updates=[told("b")], message_id=None)
        assert not shell.is_asking
        shell.write(create("o1"))
        shell.answer(applied(create("o1"), 1, {}), message_id=None)
        assert (shell.waiting, shell.is_asking) == ([], False)

    def test_that_has_more_is_asked_again_at_once(self) -> None:
        shell = Shell(Resume(synced_at="t0")).connect(PLAIN)
        asked = []
        for number, has_more in enumerate((True, True, False), 1):
            asked.append(shell.request["data"]["client_state"]["last_sync_time"])
            shell.answer(updates=[told(f"n{number}")], synced_at=f"t{number}", has_more=has_more)
        assert asked == ["t0", "t1", "t2"]
        assert not shell.is_asking
        assert shell.machine.rows_told == 3

    def test_is_asked_again_after_a_failure(self) -> None:
        shell = Shell(Resume(synced_at="t0")).connect(PLAIN)
        shell.fail(DOWN)
        assert not shell.is_asking
        shell.wait()
        assert shell.asked == []
        assert shell.request["data"]["client_state"]["last_sync_time"] == "t0"

    def test_is_sent_no_atomic_request(self) -> None:
        shell = Shell().connect(PLAIN)
        shell.answer()
        shell.write(*creates(2, group="g"))
        assert "atomic" not in shell.request["data"]


class TestTheServersLimits:
    def test_of_bytes_are_kept(self) -> None:
        """B4: what is larger than a whole request is refused with both numbers."""
        shell = Shell().connect(WELCOME._replace(limits=Limits(max_message_bytes=6_000)))
        shell.write(create("o1", title="x" * 3_000), create("o2", "b"))
        assert (shell.refused, shell.asked) == (["o1"], ["o2"])
        (one,) = shell.tables.quarantined()
        assert one.problem.details["max_bytes"] < one.problem.details["bytes"] < 6_000

    def test_of_operations_are_kept_and_are_not_those_of_the_last_server(self) -> None:
        shell = Shell().connect(WELCOME._replace(limits=Limits(max_operations=3)))
        shell.write(*creates(5))
        assert len(shell.asked) == 3

"""What became of an operation, from what the store has of it."""

from typing import Any

import pytest

from sync_server.explanations.operations import MAX_SHOWN, Evidence, Fate, Field, explain_operation
from sync_server.types import ConflictType, OperationType, Verdict
from tests.contract.builders import change, conflict, decision, rejected
from tests.unit.explanations.builders import evidence, step, stood, update


def only(known: Evidence) -> Field:
    (field,) = explain_operation(known).fields
    return field


def contended(decided: Any = None, **changes: Any) -> Evidence:
    """Both sides wrote the title."""
    return evidence(decided, **{"steps": (step(2, "title"),), "bases": {"title": ["base"]}, **changes})


class TestWhatTheClientSentBefore:
    """It counts as the base of what it sends then, also where another value was stored."""

    def test_and_sends_again_is_not_called_merged(self) -> None:
        own = step(2, "content", modified_by="1", client_id="desktop", submitted=("title",))
        decided = update("own_queue", Verdict.APPLIED, client_id="desktop")
        known = evidence(
            decided, steps=(own,), stored={"title": "old"}, submitted={"title": "mine"}, changed={}, bases={}
        )
        assert only(known).fate is Fate.UNKNOWN

    def test_and_sends_again_alone_is_not_called_equal(self) -> None:
        own = step(2, "content", modified_by="1", client_id="desktop", submitted=("title",))
        known = stood("no_change", Verdict.APPLIED, steps=(own,), bases={})
        assert only(known).fate is Fate.UNKNOWN


class TestTheBase:
    def test_and_what_it_met_are_told_with_the_versions_between(self) -> None:
        told = explain_operation(evidence(update(base_version=0), steps=(step(2), step(1))))
        assert (told.base, told.met) == (0, 2)
        assert [one.version for one in told.since] == [2, 1]
        assert (told.more, told.trimmed) == (0, 0)

    def test_is_told_with_the_newest_versions_and_the_number_of_the_others(self) -> None:
        steps = tuple(step(version) for version in range(100, 1, -1))
        told = explain_operation(evidence(update(version=101), steps=steps))
        assert [one.version for one in told.since] == list(range(100, 100 - MAX_SHOWN, -1))
        assert (told.more, told.trimmed) == (99 - MAX_SHOWN, 0)

    def test_tells_how_much_of_the_history_is_trimmed(self) -> None:
        told = explain_operation(evidence(update(version=11), steps=(step(10), step(9))))
        assert (len(told.since), told.more, told.trimmed) == (2, 0, 7)

    def test_does_not_take_what_was_not_looked_at_for_trimmed(self) -> None:
        told = explain_operation(evidence(update(version=11), steps=(step(10), step(9)), is_cut=True))
        assert (told.more, told.trimmed) == (7, 0)

    @pytest.mark.parametrize(
        ("decided", "base", "met"),
        [
            (decision("c", base_version=None), 0, 0),
            (update("same_version", Verdict.APPLIED, base_version=None), 2, 2),
            (update("no_base", Verdict.APPLIED, base_version=None), None, 2),
            (update("server_wins", Verdict.SUPERSEDED, version=4, seq=None), 1, 4),
            (decision("p", verdict=Verdict.CONFLICT, version=None, seq=None, base_version=0), 0, 0),
            (rejected("r", base_version=7), 7, None),
        ],
    )
    def test_is_found_out_for_each_kind_of_verdict(self, decided: Any, base: int | None, met: int | None) -> None:
        told = explain_operation(Evidence(decided))
        assert (told.base, told.met) == (base, met)

    def test_of_a_verdict_from_before_it_was_stored_is_that_of_the_conflict(self) -> None:
        told = explain_operation(contended(update(base_version=None), conflicts=(conflict("c", client_version=1),)))
        assert (told.base, [one.version for one in told.since]) == (1, [2])

    def test_of_a_verdict_from_before_it_was_stored_is_that_of_the_body(self) -> None:
        known = Evidence(rejected("r", operation_type=OperationType.UPDATE), body={"before_version": 4})
        assert explain_operation(known).base == 4


class TestAField:
    def test_that_nobody_else_wrote_is_taken(self) -> None:
        field = only(evidence())
        assert (field.fate, field.rule, field.against) == (Fate.TAKEN, "disjoint_fields", None)
        assert (field.base, field.met, field.sent, field.stored) == ("base", "base", "mine", "mine")

    def test_that_is_taken_against_others_tells_whom(self) -> None:
        field = only(contended(conflicts=(conflict("c", rule="client_wins", client_data={"title": "mine"}),)))
        assert (field.fate, field.rule) == (Fate.TAKEN, "client_wins")
        assert field.against == step(2, "title")

    def test_that_is_stored_otherwise_is_merged(self) -> None:
        field = only(contended(stored={"title": "both"}, submitted={"title": "mine"}, changed={"title": ["theirs"]}))
        assert (field.fate, field.rule) == (Fate.MERGED, "field_merge")
        assert (field.base, field.met, field.sent, field.stored) == ("base", "theirs", "mine", "both")

    def test_that_theirs_holds_already_is_merged(self) -> None:
        field = only(contended(stored={"title": "theirs"}, submitted={"title": "mine"}, changed={}))
        assert field.fate is Fate.MERGED

    def test_that_lost_tells_to_whom_and_by_which_rule(self) -> None:
        known = contended(
            stored={"title": "theirs"}, submitted={"title": "mine"}, changed={},
            conflicts=(conflict("c", rule="server_wins", client_data={"title": "mine"}),),
            steps=(step(2, "title", operation_id="winner"),),
        )  # fmt: skip
        field = only(known)
        assert (field.fate, field.rule) == (Fate.LOST, "server_wins")
        assert field.against is not None
        assert field.against.operation_id == "winner"

    def test_names_the_newest_of_those_who_wrote_it(self) -> None:
        known = contended(update(version=5), steps=(step(4, "content"), step(3, "title"), step(2, "title")))
        assert only(known).against == step(3, "title")

    def test_never_met_its_own_client(self) -> None:
        own = step(2, "title", modified_by="1", client_id="desktop")
        assert only(contended(steps=(own,))).against is None

    def test_met_another_device_of_the_same_user(self) -> None:
        other = step(2, "title", modified_by="1", client_id="tablet")
        assert only(contended(steps=(other,))).against == other

    def test_that_is_the_same_on_both_sides_is_equal(self) -> None:
        field = only(contended(stored={"title": "same"}, changed={"content": ["x"]}))
        assert (field.fate, field.rule, field.against) == (Fate.EQUAL, None, None)

    def test_that_was_sent_as_it_was_in_the_base_is_no_write(self) -> None:
        field = only(contended(stored={"title": "theirs"}, submitted={"title": "base"}, changed={}))
        assert (field.fate, field.rule) == (Fate.UNCHANGED, None)

    def test_whose_base_is_trimmed_is_not_guessed(self) -> None:
        field = only(
            contended(update(version=9), stored={"title": "theirs"}, submitted={"title": "x"}, changed={}, bases={})
        )
        assert field.fate is Fate.UNKNOWN

    def test_that_its_own_client_wrote_before_is_not_guessed_from_the_base(self) -> None:
        own = step(2, "title", modified_by="1", client_id="desktop")
        field = only(contended(steps=(own,), stored={"title": "x"}, submitted={"title": "base"}, changed={}))
        assert field.fate is Fate.UNKNOWN

    def test_that_a_constraint_changed_is_repaired(self) -> None:
        found = conflict("c", rule="unique_suffix", conflict_type=ConflictType.UNIQUE, client_data={"title": "mine"})
        known = evidence(stored={"title": "mine (2)"}, submitted={"title": "mine"}, conflicts=(found,))
        assert (only(known).fate, only(known).rule) == (Fate.REPAIRED, "unique_suffix")

    def test_of_a_parked_operation_waits_with_all_others(self) -> None:
        known = stood(
            "manual", Verdict.CONFLICT, conflicts=(conflict("c", client_data={"title": "mine", "content": "x"}),)
        )
        decided = known.decision._replace(sent=("title", "content"))
        told = explain_operation(known._replace(decision=decided))
        assert [(one.name, one.fate, one.sent) for one in told.fields] == [
            ("title", Fate.PARKED, "mine"), ("content", Fate.PARKED, "x"),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("rule", "verdict", "fate"),
        [
            ("no_change", Verdict.APPLIED, Fate.UNKNOWN),
            ("field_merge", Verdict.SUPERSEDED, Fate.MERGED),
            ("latest_wins", Verdict.SUPERSEDED, Fate.LOST),
        ],
    )
    def test_of_an_operation_that_changed_nothing(self, rule: str, verdict: Verdict, fate: Fate) -> None:
        conflicts = (conflict("c", rule=rule),) if fate is Fate.LOST else ()
        assert only(stood(rule, verdict, conflicts=conflicts)).fate is fate

    def test_of_several_that_theirs_may_hold_is_not_guessed(self) -> None:
        known = stood("field_merge", steps=(step(2, "title", "tags"),))
        told = explain_operation(known._replace(decision=known.decision._replace(sent=("title", "tags"))))
        assert [field.fate for field in told.fields] == [Fate.UNKNOWN, Fate.UNKNOWN]

    def test_that_met_a_delete_lost_to_who_deleted(self) -> None:
        deleted = step(2, operation_type=OperationType.DELETE)
        found = conflict("c", rule="delete_wins", conflict_type=ConflictType.DELETE)
        field = only(stood("delete_wins", conflicts=(found,), steps=(deleted,), bases={}))
        assert (field.fate, field.against) == (Fate.LOST, deleted)

    def test_of_a_change_that_is_trimmed_is_not_known(self) -> None:
        field = only(evidence(change=None, stored={}, changed={}, steps=(), bases={}))
        assert field.fate is Fate.UNKNOWN


class TestAnOperationWithoutFields:
    def test_is_a_rejected_one(self) -> None:
        told = explain_operation(Evidence(rejected("r")))
        assert (told.fields, told.since, told.conflicts) == ((), (), ())

    def test_is_a_delete(self) -> None:
        decided = update("own_queue", Verdict.APPLIED, operation_type=OperationType.DELETE, sent=())
        assert explain_operation(evidence(decided, change=change(30, "a"))).fields == ()


class TestWhoMayNotReadTheSpace:
    def test_is_told_nothing_that_others_wrote(self) -> None:
        known = contended(conflicts=(conflict("c"),))
        told = explain_operation(known, may_read=False)
        assert told.is_withheld
        assert (told.met, told.since, told.more, told.fields, told.conflicts) == (None, (), 0, (), ())
        assert "theirs" not in repr(told)

    def test_is_told_a_rejection_as_everybody_is(self) -> None:
        known = Evidence(rejected("r"))
        assert explain_operation(known, may_read=False) == explain_operation(known)

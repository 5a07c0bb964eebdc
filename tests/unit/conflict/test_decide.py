import pytest

from sync_server.conflict.model import Rule
from sync_server.errors import ErrorCode
from sync_server.types import ConflictType, OperationType, Strategy, Verdict
from tests.unit.conflict.builders import (
    NOTE,
    NOW,
    SHELF,
    a_create,
    a_delete,
    a_parent,
    a_revision,
    among,
    an_entity,
    an_update,
    decided,
    mine,
)


def ended(outcome):
    return outcome.verdict, outcome.rule


class TestCreate:
    def test_of_a_new_entity_stores_its_fields(self):
        outcome = decided(a_create({"title": "t"}), None)
        assert ended(outcome) == (Verdict.APPLIED, Rule.CREATED)
        assert outcome.data == {"title": "t"}

    def test_of_an_id_that_another_client_chose_too_merges_what_is_disjoint(self):
        created = a_revision(1, {"title": "t"}, {"title": []})
        outcome = decided(a_create({"title": "t", "color": "c"}), an_entity({"title": "t"}, 1), created)
        assert ended(outcome) == (Verdict.MERGED, Rule.DISJOINT)
        assert outcome.data == {"title": "t", "color": "c"}
        assert outcome.disputes == ()

    def test_of_a_taken_id_with_another_value_disputes_uniqueness(self):
        created = a_revision(1, {"title": "t"}, {"title": []}, timestamp=7_000, modified_at=7_000)
        outcome = decided(a_create({"title": "mine"}), an_entity({"title": "t"}, 1), created)
        assert ended(outcome) == (Verdict.SUPERSEDED, Rule.LATEST_WINS)
        assert [(d.conflict_type, d.fields) for d in outcome.disputes] == [(ConflictType.UNIQUE, ("title",))]

    def test_of_the_same_entity_twice_changes_nothing(self):
        outcome = decided(a_create({"title": "t", "likes": 1}), an_entity({"title": "t", "likes": 1}, 1))
        assert ended(outcome) == (Verdict.APPLIED, Rule.NO_CHANGE)

    def test_of_an_id_in_another_space_is_refused(self):
        outcome = decided(a_create({"title": "t"}), an_entity({}, space_id="other"))
        assert outcome.refusal.code is ErrorCode.CONFLICT

    def test_of_a_deleted_entity_brings_it_back(self):
        outcome = decided(a_create({"title": "new"}), an_entity({"title": "old", "color": "c"}, deleted=True))
        assert ended(outcome) == (Verdict.MERGED, Rule.EDIT_WINS)
        assert (outcome.data, outcome.deleted) == ({"title": "new", "color": "c"}, False)


class TestUpdate:
    def test_of_nothing_there_is_refused(self):
        assert decided(an_update({}), None).refusal.code is ErrorCode.NOT_FOUND

    def test_of_the_newest_version_applies(self):
        outcome = decided(an_update({"title": "new"}), an_entity({"title": "old", "color": "c"}))
        assert ended(outcome) == (Verdict.APPLIED, Rule.SAME_VERSION)
        assert outcome.data == {"title": "new", "color": "c"}

    def test_without_a_base_applies_to_what_is_there(self):
        assert ended(decided(an_update({"title": "new"}, None), an_entity({}))) == (Verdict.APPLIED, Rule.NO_BASE)

    @pytest.mark.parametrize("before", [None, 3, 2, 9])
    def test_to_what_is_already_there_changes_nothing(self, before):
        outcome = decided(an_update({"title": "t"}, before), an_entity({"title": "t"}))
        assert ended(outcome) == (Verdict.APPLIED, Rule.NO_CHANGE)
        assert outcome.data is None

    def test_of_a_flag_is_not_mistaken_for_a_number(self):
        outcome = decided(an_update({"is_pinned": True}, spec=NOTE), an_entity({"is_pinned": 1}, spec=NOTE))
        assert outcome.data == {"is_pinned": True}


class TestStaleUpdate:
    def test_of_other_fields_merges(self):
        rival = a_revision(3, {"title": "theirs"}, {"title": ["old"]})
        outcome = decided(an_update({"color": "mine"}, 2), an_entity({"title": "theirs"}), rival)
        assert ended(outcome) == (Verdict.MERGED, Rule.DISJOINT)
        assert outcome.data == {"title": "theirs", "color": "mine"}

    def test_after_own_updates_only_applies(self):
        own = mine(a_revision(3, {"title": "one"}, {"title": ["old"]}))
        outcome = decided(an_update({"title": "two"}, 2), an_entity({"title": "one"}), own)
        assert ended(outcome) == (Verdict.APPLIED, Rule.OWN_QUEUE)
        assert outcome.data == {"title": "two"}

    def test_of_an_unchanged_field_leaves_the_others_value(self):
        rival = a_revision(3, {"title": "theirs"}, {"title": ["old"]})
        outcome = decided(an_update({"title": "old", "color": "mine"}, 2), an_entity({"title": "theirs"}), rival)
        assert outcome.data == {"title": "theirs", "color": "mine"}
        assert outcome.submitted == {"title": "old"}
        assert outcome.disputes == ()

    def test_of_a_text_merges_by_its_policy_without_a_dispute(self):
        rival = a_revision(3, {"body": "A\nb\n"}, {"body": ["a\nb\n"]})
        outcome = decided(an_update({"body": "a\nB\n"}, 2), an_entity({"body": "A\nb\n"}), rival)
        assert ended(outcome) == (Verdict.MERGED, Rule.FIELD_MERGE)
        assert (outcome.data, outcome.submitted) == ({"body": "A\nB\n"}, {"body": "a\nB\n"})
        assert outcome.disputes == ()

    def test_on_an_own_merged_update_keeps_what_was_merged_in(self):
        rival = a_revision(2, {"tags": ["r"]}, {"tags": [[]]})
        own = mine(a_revision(3, {"tags": ["r", "m"]}, {"tags": [["r"]]}, submitted={"tags": ["m"]}))
        outcome = decided(an_update({"tags": ["m", "n"]}, 1), an_entity({"tags": ["r", "m"]}), rival, own)
        assert outcome.data == {"tags": ["r", "m", "n"]}

    def test_of_a_counter_adds_up_even_to_an_equal_number(self):
        rival = a_revision(3, {"likes": 1}, {"likes": [0]})
        assert decided(an_update({"likes": 1}, 2), an_entity({"likes": 1}), rival).data == {"likes": 2}

    def test_that_a_later_write_beats_is_superseded_and_on_record(self):
        rival = a_revision(3, {"color": "theirs"}, {"color": ["old"]}, timestamp=7_000, modified_at=7_000)
        outcome = decided(an_update({"color": "mine"}, 2), an_entity({"color": "theirs"}), rival)
        assert ended(outcome) == (Verdict.SUPERSEDED, Rule.LAST_WRITER)
        assert [(d.base, d.is_open) for d in outcome.disputes] == [({"color": "old"}, False)]

    def test_that_is_later_wins_and_what_lost_is_on_record(self):
        rival = a_revision(3, {"color": "theirs"}, {"color": ["old"]})
        outcome = decided(an_update({"color": "mine"}, 2), an_entity({"color": "theirs"}), rival)
        assert ended(outcome) == (Verdict.MERGED, Rule.LAST_WRITER)
        assert outcome.data == {"color": "mine"}
        assert len(outcome.disputes) == 1

    def test_with_a_clock_from_the_future_beats_only_what_is_not_newer_still(self):
        rival = a_revision(3, {"color": "theirs"}, {"color": ["old"]}, timestamp=NOW + 2_000, modified_at=NOW)
        attempt = an_update({"color": "mine"}, 2, timestamp=10**12, client_id="a")
        assert decided(attempt, an_entity({"color": "theirs"}), rival).verdict is Verdict.SUPERSEDED

    def test_beyond_the_history_disputes_the_version(self):
        outcome = decided(an_update({"title": "mine"}, 1), an_entity({"title": "theirs"}), a_revision(3, {}, {}))
        assert [d.conflict_type for d in outcome.disputes] == [ConflictType.VERSION]

    def test_on_a_version_that_never_was_disputes_the_version(self):
        outcome = decided(an_update({"title": "mine"}, 9), an_entity({"title": "theirs"}))
        assert [d.conflict_type for d in outcome.disputes] == [ConflictType.VERSION]

    def test_whose_merge_no_client_could_send_goes_to_the_strategy(self):
        most = [f"tag {number}" for number in range(200)]
        rival = a_revision(3, {"tags": most}, {"tags": [[]]})
        outcome = decided(an_update({"tags": ["one more"]}, 2, NOTE), an_entity({"tags": most}, spec=NOTE), rival)
        assert ended(outcome) == (Verdict.MERGED, Rule.LATEST_WINS)


class TestStrategy:
    @pytest.mark.parametrize(
        ("strategy", "verdict", "data"),
        [
            (Strategy.SERVER_WINS, Verdict.SUPERSEDED, None),
            (Strategy.CLIENT_WINS, Verdict.MERGED, {"body": "mine"}),
            (Strategy.LATEST_WINS, Verdict.MERGED, {"body": "mine"}),
            (Strategy.MERGE, Verdict.MERGED, {"body": "theirs\nmine"}),
            (Strategy.MANUAL, Verdict.CONFLICT, None),
            (None, Verdict.MERGED, {"body": "mine"}),
        ],
    )
    def test_settles_what_the_policy_could_not(self, strategy, verdict, data):
        rival = a_revision(3, {"body": "theirs"}, {"body": ["old"]})
        outcome = decided(an_update({"body": "mine"}, 2, strategy=strategy), an_entity({"body": "theirs"}), rival)
        assert (outcome.verdict, outcome.data) == (verdict, data)
        assert [d.is_open for d in outcome.disputes] == [strategy is Strategy.MANUAL]

    def test_manual_parks_also_the_fields_that_nobody_disputes(self):
        rival = a_revision(3, {"title": "theirs"}, {"title": ["old"]})
        attempt = an_update({"title": "mine", "color": "mine"}, 2, strategy=Strategy.MANUAL)
        outcome = decided(attempt, an_entity({"title": "theirs"}), rival)
        assert ended(outcome) == (Verdict.CONFLICT, Rule.MANUAL)
        assert [d.fields for d in outcome.disputes] == [("title",)]

    def test_of_an_operation_goes_before_the_types(self):
        rival = a_revision(3, {"name": "theirs"}, {"name": ["old"]})
        entity = an_entity({"name": "theirs"}, spec=SHELF)
        own_way = decided(an_update({"name": "mine"}, 2, SHELF), entity, rival)
        assert ended(own_way) == (Verdict.SUPERSEDED, Rule.SERVER_WINS)
        asked = decided(an_update({"name": "mine"}, 2, SHELF, strategy=Strategy.CLIENT_WINS), entity, rival)
        assert asked.data == {"name": "mine"}


class TestDelete:
    def test_of_nothing_there_is_refused(self):
        assert decided(a_delete(), None).refusal.code is ErrorCode.NOT_FOUND

    def test_of_what_is_deleted_changes_nothing(self):
        outcome = decided(a_delete(), an_entity({}, deleted=True))
        assert (*ended(outcome), outcome.deleted) == (Verdict.APPLIED, Rule.NO_CHANGE, True)

    @pytest.mark.parametrize(("before", "rule"), [(None, Rule.NO_BASE), (3, Rule.SAME_VERSION)])
    def test_keeps_the_last_data_on_the_tombstone(self, before, rule):
        outcome = decided(a_delete(before), an_entity({"title": "t"}))
        assert (*ended(outcome), outcome.data, outcome.deleted) == (Verdict.APPLIED, rule, {"title": "t"}, True)

    def test_after_own_updates_only_applies(self):
        own = mine(a_revision(3, {}, {"title": ["old"]}))
        assert ended(decided(a_delete(2), an_entity({}), own)) == (Verdict.APPLIED, Rule.OWN_QUEUE)

    @pytest.mark.parametrize(
        ("strategy", "verdict", "rule"),
        [
            (None, Verdict.SUPERSEDED, Rule.EDIT_WINS),
            (Strategy.LATEST_WINS, Verdict.SUPERSEDED, Rule.EDIT_WINS),
            (Strategy.SERVER_WINS, Verdict.SUPERSEDED, Rule.SERVER_WINS),
            (Strategy.CLIENT_WINS, Verdict.APPLIED, Rule.CLIENT_WINS),
            (Strategy.MANUAL, Verdict.CONFLICT, Rule.MANUAL),
        ],
    )
    def test_of_what_others_edited_since_is_a_dispute(self, strategy, verdict, rule):
        rival = a_revision(3, {"title": "theirs"}, {"title": ["old"]})
        outcome = decided(a_delete(2, strategy=strategy), an_entity({"title": "theirs"}), rival)
        assert (*ended(outcome), outcome.deleted) == (verdict, rule, verdict is Verdict.APPLIED)
        dispute = outcome.disputes[0]
        assert (dispute.conflict_type, dispute.fields, dispute.base) == (
            ConflictType.DELETE, ("title",), {"title": "old"},
        )  # fmt: skip

    def test_of_what_others_edited_since_applies_where_deletes_win(self):
        rival = a_revision(3, {"name": "theirs"}, {"name": ["old"]})
        outcome = decided(a_delete(2, SHELF), an_entity({"name": "theirs"}, spec=SHELF), rival)
        assert (*ended(outcome), outcome.deleted) == (Verdict.APPLIED, Rule.DELETE_WINS, True)

    def test_beyond_the_history_counts_as_edited(self):
        assert ended(decided(a_delete(1), an_entity({}))) == (Verdict.SUPERSEDED, Rule.EDIT_WINS)

    def test_of_a_note_that_the_servers_repair_moved_applies(self):
        """A client deleted a folder and then its notes, offline; the server had moved the notes to the root."""
        repair = a_revision(3, {"folder_id": None}, {"folder_id": [7]}, client_id="", timestamp=0)
        outcome = decided(a_delete(2, NOTE), an_entity({"folder_id": None}, spec=NOTE), repair)
        assert outcome.deleted

    def test_of_a_parent_that_a_child_holds_on_to_is_parked(self):
        child = a_parent("9", SHELF, parent=1)
        around = among(children=(child,))
        outcome = decided(a_delete(spec=SHELF), an_entity({}, spec=SHELF), surroundings=around)
        assert ended(outcome) == (Verdict.CONFLICT, Rule.PARENT_GONE)
        assert [d.is_open for d in outcome.disputes] == [True]

    def test_of_a_parent_whose_children_let_go_applies(self):
        note = an_entity({"folder_id": 1}, spec=NOTE)
        assert decided(a_delete(spec=SHELF), an_entity({}, spec=SHELF), surroundings=among(children=(note,))).deleted


class TestEditOfSomethingDeleted:
    tombstone = an_entity({"title": "t"}, deleted=True)
    death = a_revision(3, {"title": "t"}, {}, operation_type=OperationType.DELETE)

    @pytest.mark.parametrize("strategy", [None, Strategy.CLIENT_WINS, Strategy.LATEST_WINS])
    def test_brings_it_back_and_records_the_delete_that_lost(self, strategy):
        outcome = decided(an_update({"color": "c"}, 2, strategy=strategy), self.tombstone, self.death)
        assert ended(outcome) == (Verdict.MERGED, Rule.EDIT_WINS)
        assert (outcome.data, outcome.deleted) == ({"title": "t", "color": "c"}, False)
        assert [d.conflict_type for d in outcome.disputes] == [ConflictType.DELETE]

    @pytest.mark.parametrize(
        ("strategy", "verdict"), [(Strategy.SERVER_WINS, Verdict.SUPERSEDED), (Strategy.MANUAL, Verdict.CONFLICT)]
    )
    def test_stays_deleted_where_the_operation_asks_for_it(self, strategy, verdict):
        outcome = decided(an_update({"color": "c"}, 2, strategy=strategy), self.tombstone, self.death)
        assert (outcome.verdict, outcome.data, outcome.deleted) == (verdict, None, True)
        assert len(outcome.disputes) == 1

    def test_stays_deleted_where_deletes_win(self):
        tombstone = an_entity({"name": "n"}, spec=SHELF, deleted=True)
        outcome = decided(an_update({"name": "new"}, 2, SHELF), tombstone, self.death)
        assert (*ended(outcome), len(outcome.disputes)) == (Verdict.SUPERSEDED, Rule.DELETE_WINS, 1)

    def test_by_the_one_who_deleted_it_is_no_dispute(self):
        outcome = decided(an_update({"color": "c"}, 2), self.tombstone, mine(self.death))
        assert (*ended(outcome), outcome.disputes) == (Verdict.APPLIED, Rule.EDIT_WINS, ())

    def test_by_one_who_knew_is_on_purpose(self):
        outcome = decided(an_update({}, 3), self.tombstone)
        assert (*ended(outcome), outcome.deleted) == (Verdict.APPLIED, Rule.SAME_VERSION, False)
        assert outcome.data == {"title": "t"}

    def test_that_changed_nothing_leaves_it_deleted(self):
        outcome = decided(an_update({"title": "t"}, 2), self.tombstone, self.death)
        assert (*ended(outcome), outcome.deleted) == (Verdict.APPLIED, Rule.NO_CHANGE, True)

    def test_that_had_lost_before_the_delete_leaves_it_deleted(self):
        later = a_revision(2, {"title": "t"}, {"title": ["old"]}, timestamp=4_000)
        outcome = decided(an_update({"title": "mine"}, 1, timestamp=2_000), self.tombstone, later, self.death)
        assert (*ended(outcome), outcome.deleted) == (Verdict.SUPERSEDED, Rule.LATEST_WINS, True)
        assert len(outcome.disputes) == 1


class TestOtherOperations:
    @pytest.mark.parametrize("kind", [OperationType.READ, OperationType.RESOLVE])
    def test_are_refused(self, kind):
        assert decided(an_update({}, operation_type=kind), None).refusal.code is ErrorCode.VALIDATION_ERROR

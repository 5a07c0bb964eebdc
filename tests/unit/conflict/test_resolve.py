import pytest

from sync_server.conflict.constraints import claims_of
from sync_server.conflict.model import Rule
from sync_server.conflict.resolve import resolve
from sync_server.errors import ErrorCode
from sync_server.types import ConflictType, OperationType, Strategy, Verdict
from tests.unit.conflict.builders import ALONE, CARD, FOLDER, SHELF, a_conflict, a_parent, among, an_entity


def resolved(conflict, entity, strategy, data=None, *, spec=CARD, surroundings=ALONE):
    return resolve(conflict, entity, spec, strategy, data, surroundings, operation_id="r1")


class TestOpenConflict:
    conflict = a_conflict({"title": "mine", "color": "mine"}, {"title": "theirs"}, fields=("title",))
    entity = an_entity({"title": "theirs", "likes": 4}, 7)

    def test_for_the_server_leaves_the_entity_as_it_is(self):
        outcome = resolved(self.conflict, self.entity, Strategy.SERVER_WINS)
        assert (outcome.verdict, outcome.rule, outcome.data) == (Verdict.APPLIED, Rule.RESOLVED, None)

    def test_for_the_client_applies_all_that_waits_to_what_is_there_now(self):
        outcome = resolved(self.conflict, self.entity, Strategy.CLIENT_WINS)
        assert outcome.data == {"title": "mine", "color": "mine", "likes": 4}

    @pytest.mark.parametrize(("client_at", "title"), [(6_000, "mine"), (5_000, "mine"), (4_000, None)])
    def test_for_the_latest_compares_the_times(self, client_at, title):
        outcome = resolved(self.conflict._replace(client_modified_at=client_at), self.entity, Strategy.LATEST_WINS)
        assert (outcome.data or {}).get("title") == title

    @pytest.mark.parametrize("strategy", [Strategy.MANUAL, Strategy.MERGE])
    def test_takes_the_fields_that_a_person_chose(self, strategy):
        outcome = resolved(self.conflict, self.entity, strategy, {"title": "both", "version": 3})
        assert outcome.data == {"title": "both", "likes": 4}

    def test_by_hand_without_data_is_refused_by_name(self):
        refusal = resolved(self.conflict, self.entity, Strategy.MANUAL).refusal
        assert (refusal.code, refusal.details) == (ErrorCode.VALIDATION_ERROR, {"field": "resolved_data"})

    def test_with_data_of_a_wrong_type_is_refused_by_name(self):
        refusal = resolved(self.conflict, self.entity, Strategy.MANUAL, {"title": 3}).refusal
        assert (refusal.code, refusal.details) == (ErrorCode.VALIDATION_ERROR, {"field": "resolved_data"})

    def test_merged_keeps_both_texts_and_what_changed_meanwhile(self):
        conflict = a_conflict({"body": "a\nmine\n"}, {"body": "a\ntheirs\n"}, base={"body": "a\nold\n"})
        outcome = resolved(conflict, an_entity({"body": "A\ntheirs\n"}), Strategy.MERGE)
        assert outcome.data == {"body": "A\ntheirs\na\nmine\n"}

    def test_merged_of_texts_that_merge_is_their_merge(self):
        conflict = a_conflict({"body": "a\nmine\n"}, {"body": "a\nb\n"}, base={"body": "a\nb\n"})
        outcome = resolved(conflict, an_entity({"body": "theirs\nb\n"}), Strategy.MERGE)
        assert outcome.data == {"body": "theirs\nmine\n"}

    def test_that_asks_for_what_is_there_changes_nothing(self):
        entity = an_entity({"title": "mine", "color": "mine"})
        assert resolved(self.conflict, entity, Strategy.CLIENT_WINS).data is None


class TestResolvingTwice:
    def test_by_a_person_is_refused(self):
        conflict = a_conflict({}, {}, is_open=False, resolved_by="bert")
        assert resolved(conflict, an_entity({}), Strategy.CLIENT_WINS).refusal.code is ErrorCode.CONFLICT


class TestConflictThatARuleSettled:
    def test_for_the_client_applies_only_what_was_disputed(self):
        conflict = a_conflict({"title": "mine", "color": "mine"}, {}, is_open=False, fields=("title",))
        outcome = resolved(conflict, an_entity({"title": "theirs", "color": "newer"}), Strategy.CLIENT_WINS)
        assert outcome.data == {"title": "mine", "color": "newer"}

    def test_for_the_server_restores_what_the_rule_had_dropped(self):
        conflict = a_conflict({"title": "mine"}, {"title": "theirs"}, is_open=False, resolved_data={"title": "mine"})
        assert resolved(conflict, an_entity({"title": "mine"}), Strategy.SERVER_WINS).data == {"title": "theirs"}

    def test_for_the_server_leaves_what_somebody_changed_since(self):
        conflict = a_conflict({"title": "mine"}, {"title": "theirs"}, is_open=False, resolved_data={"title": "mine"})
        assert resolved(conflict, an_entity({"title": "newest"}), Strategy.SERVER_WINS).data is None


class TestDelete:
    parked = a_conflict({}, {}, conflict_type=ConflictType.DELETE, operation_type=OperationType.DELETE)

    def test_that_waits_is_done_for_the_client(self):
        outcome = resolved(self.parked, an_entity({"title": "t"}), Strategy.CLIENT_WINS)
        assert (outcome.data, outcome.deleted) == ({"title": "t"}, True)

    def test_that_waits_is_dropped_for_the_server(self):
        outcome = resolved(self.parked, an_entity({}), Strategy.SERVER_WINS)
        assert (outcome.data, outcome.deleted) == (None, False)

    def test_that_had_won_is_undone_for_the_server(self):
        outcome = resolved(
            self.parked._replace(is_open=False), an_entity({"title": "t"}, deleted=True), Strategy.SERVER_WINS
        )
        assert (outcome.data, outcome.deleted) == ({"title": "t"}, False)

    def test_that_had_lost_to_an_edit_is_done_for_the_server(self):
        revived = self.parked._replace(operation_type=OperationType.UPDATE, is_open=False)
        assert resolved(revived, an_entity({}), Strategy.SERVER_WINS).deleted

    def test_of_a_parent_whose_children_hold_on_is_refused(self):
        around = among(children=(a_parent("9", SHELF, parent=1),))
        outcome = resolved(
            self.parked, an_entity({}, spec=SHELF), Strategy.CLIENT_WINS, spec=SHELF, surroundings=around
        )
        assert outcome.refusal.code is ErrorCode.CONFLICT

    def test_that_an_edit_waits_behind_is_undone_by_taking_the_edit(self):
        edit = self.parked._replace(operation_type=OperationType.UPDATE, client_data={"title": "mine"})
        outcome = resolved(edit, an_entity({"title": "t"}, deleted=True), Strategy.CLIENT_WINS)
        assert (outcome.data, outcome.deleted) == ({"title": "mine"}, False)


class TestConstraint:
    parked = a_conflict(
        {"name": "a"}, {}, conflict_type=ConflictType.UNIQUE, entity_type="shelf", operation_type=OperationType.CREATE,
        server_version=0,
    )  # fmt: skip

    def test_that_is_still_violated_leaves_the_conflict_open(self):
        around = among(claims=dict.fromkeys(claims_of(SHELF, "s", {"name": "a"}), "other"))
        outcome = resolved(self.parked, None, Strategy.CLIENT_WINS, spec=SHELF, surroundings=around)
        assert (outcome.verdict, outcome.refusal.code) == (Verdict.REJECTED, ErrorCode.CONFLICT)
        assert outcome.refusal.details == {"field": "name"}

    def test_that_holds_again_lets_the_create_through(self):
        assert resolved(self.parked, None, Strategy.CLIENT_WINS, spec=SHELF).data == {"name": "a"}

    def test_is_met_by_a_person_who_chooses_another_name(self):
        around = among(claims=dict.fromkeys(claims_of(SHELF, "s", {"name": "a"}), "other"))
        outcome = resolved(self.parked, None, Strategy.MANUAL, {"name": "b"}, spec=SHELF, surroundings=around)
        assert outcome.data == {"name": "b"}


class TestPurgedEntity:
    server = {"name": "theirs", "parent_id": None}
    conflict = a_conflict({"name": "mine"}, server, entity_type="folder", fields=("name",))

    def test_is_not_found_once_its_conflict_is_settled(self):
        settled = a_conflict({}, {}, is_open=False)
        assert resolved(settled, None, Strategy.CLIENT_WINS).refusal.code is ErrorCode.NOT_FOUND

    @pytest.mark.parametrize(("strategy", "client_at"), [(Strategy.SERVER_WINS, 6_000), (Strategy.LATEST_WINS, 1)])
    def test_stays_gone_for_the_server(self, strategy, client_at):
        conflict = self.conflict._replace(client_modified_at=client_at)
        outcome = resolved(conflict, None, strategy, spec=FOLDER)
        assert (outcome.verdict, outcome.data) == (Verdict.APPLIED, None)

    @pytest.mark.parametrize(
        ("strategy", "chosen", "name"),
        [
            (Strategy.CLIENT_WINS, None, "mine"),
            (Strategy.LATEST_WINS, None, "mine"),
            (Strategy.MERGE, None, "mine"),
            (Strategy.MANUAL, {"name": "both"}, "both"),
        ],
    )
    def test_is_made_anew_for_the_client(self, strategy, chosen, name):
        outcome = resolved(self.conflict, None, strategy, chosen, spec=FOLDER)
        assert (outcome.verdict, outcome.data) == (Verdict.APPLIED, {"name": name, "parent_id": None})

    def test_is_not_made_anew_of_parts(self):
        conflict = self.conflict._replace(client_data={"parent_id": None}, server_data={})
        refusal = resolved(conflict, None, Strategy.CLIENT_WINS, spec=FOLDER).refusal
        assert refusal.code is ErrorCode.VALIDATION_ERROR

    def test_of_a_delete_that_waits_is_deleted_for_the_client(self):
        parked = self.conflict._replace(operation_type=OperationType.DELETE, conflict_type=ConflictType.DELETE)
        outcome = resolved(parked, None, Strategy.CLIENT_WINS, spec=FOLDER)
        assert (outcome.verdict, outcome.data) == (Verdict.APPLIED, None)

import pytest

from sync_server.conflict.constraints import MAX_ANCESTORS, claims_of
from sync_server.conflict.model import Claim, Rule, Surroundings
from sync_server.types import ConflictType, Verdict
from tests.unit.conflict.builders import (
    FOLDER,
    NOTE,
    SHELF,
    SPECS,
    a_create,
    a_parent,
    among,
    an_entity,
    an_update,
    decided,
)


def disputed(outcome):
    return [(d.conflict_type, d.fields, d.rule, d.is_open) for d in outcome.disputes]


def taken(spec, parent, *names):
    return {claim: "other" for name in names for claim in claims_of(spec, "s", {"name": name, "parent_id": parent})}


class TestParent:
    @pytest.mark.parametrize("parent", [None, a_parent("7", deleted=True), a_parent("7", space_id="elsewhere")])
    def test_that_is_not_there_is_repaired_to_the_root(self, parent):
        around = among(*(p for p in (parent,) if p is not None))
        outcome = decided(a_create({"folder_id": 7}, NOTE), None, surroundings=around)
        assert (outcome.verdict, outcome.rule) == (Verdict.MERGED, Rule.PARENT_GONE)
        assert (outcome.data, outcome.submitted) == ({"folder_id": None}, {"folder_id": 7})
        assert disputed(outcome) == [(ConflictType.PARENT, ("folder_id",), Rule.PARENT_GONE, False)]

    def test_that_is_there_is_taken_by_number_or_by_name(self):
        around = among(a_parent("7"), a_parent("home"))
        assert decided(a_create({"folder_id": 7}, NOTE), None, surroundings=around).disputes == ()
        assert decided(a_create({"folder_id": "home"}, NOTE), None, surroundings=around).disputes == ()

    def test_that_is_gone_parks_where_the_type_says_so(self):
        outcome = decided(a_create({"parent_id": 7}, SHELF), None, surroundings=among())
        assert (outcome.verdict, outcome.data) == (Verdict.CONFLICT, None)
        assert disputed(outcome) == [(ConflictType.PARENT, ("parent_id",), Rule.PARENT_GONE, True)]

    def test_that_the_attempt_did_not_change_is_not_looked_at(self):
        outcome = decided(an_update({"title": "new"}, spec=NOTE), an_entity({"folder_id": 7}, spec=NOTE))
        assert outcome.disputes == ()

    def test_that_went_while_the_note_was_deleted_is_found_when_it_comes_back(self):
        outcome = decided(an_update({}, spec=NOTE), an_entity({"folder_id": 7}, spec=NOTE, deleted=True))
        assert outcome.data == {"folder_id": None}

    def test_that_leaves_nothing_to_change_supersedes_the_move(self):
        outcome = decided(an_update({"folder_id": 7}, spec=NOTE), an_entity({"folder_id": None}, spec=NOTE))
        assert (outcome.verdict, outcome.data, len(outcome.disputes)) == (Verdict.SUPERSEDED, None, 1)


class TestCycle:
    def test_through_descendants_is_repaired_to_the_root(self):
        around = among(a_parent("2", parent=1), a_parent("3", parent=2))
        moved = decided(an_update({"parent_id": 3}, spec=FOLDER), a_parent("1"), surroundings=around)
        assert disputed(moved) == [(ConflictType.PARENT, ("parent_id",), Rule.PARENT_CYCLE, False)]

    def test_of_an_entity_with_itself_is_one(self):
        entity = an_entity({"name": "n", "parent_id": 9}, spec=FOLDER)
        moved = decided(an_update({"parent_id": 1}, spec=FOLDER), entity, surroundings=among(entity))
        assert (moved.rule, moved.data["parent_id"]) == (Rule.PARENT_CYCLE, None)

    def test_parks_where_the_type_says_so(self):
        around = among(a_parent("2", SHELF, parent=1))
        moved = decided(an_update({"parent_id": 2}, spec=SHELF), a_parent("1", SHELF), surroundings=around)
        assert (moved.verdict, moved.rule) == (Verdict.CONFLICT, Rule.PARENT_CYCLE)

    def test_among_other_entities_does_not_hang(self):
        around = among(a_parent("2", parent=3), a_parent("3", parent=2))
        assert decided(an_update({"parent_id": 2}, spec=FOLDER), a_parent("1"), surroundings=around).disputes == ()


class TestDepth:
    @pytest.mark.parametrize(("above", "rule"), [(MAX_ANCESTORS, None), (MAX_ANCESTORS + 1, Rule.PARENT_TOO_DEEP)])
    def test_is_bounded_and_repaired_to_the_root(self, above, rule):
        around = among(*(a_parent(str(index), parent=index - 1 or None) for index in range(1, above + 1)))
        made = decided(a_create({"name": "n", "parent_id": above}, FOLDER, entity_id="new"), None, surroundings=around)
        assert [dispute.rule for dispute in made.disputes] == ([] if rule is None else [rule])
        assert made.data["parent_id"] == (above if rule is None else None)

    def test_of_a_parent_ends_the_walk(self):
        entities = {a_parent(str(index)).key: a_parent(str(index), parent=index - 1 or None) for index in range(1, 500)}
        asked = []

        class Asked(dict):
            def get(self, key, default=None):
                asked.append(key)
                return super().get(key, default)

        attempt = a_create({"name": "n", "parent_id": 499}, FOLDER, entity_id="new")
        decided(attempt, None, surroundings=Surroundings(Asked(entities), {}, specs=SPECS))
        assert len(asked) <= MAX_ANCESTORS + 1

    def test_of_a_note_is_not_counted(self):
        around = among(*(a_parent(str(index), parent=index - 1 or None) for index in range(1, 200)))
        assert decided(a_create({"folder_id": 199}, NOTE), None, surroundings=around).disputes == ()


class TestUniqueValue:
    def test_that_another_entity_holds_takes_the_first_free_suffix(self):
        around = among(claims=taken(FOLDER, None, "a", "a (2)"))
        outcome = decided(a_create({"name": "a"}, FOLDER), None, surroundings=around)
        assert (outcome.verdict, outcome.rule) == (Verdict.MERGED, Rule.UNIQUE_SUFFIX)
        assert (outcome.data, outcome.submitted) == ({"name": "a (3)"}, {"name": "a"})
        assert disputed(outcome) == [(ConflictType.UNIQUE, ("name",), Rule.UNIQUE_SUFFIX, False)]

    def test_with_all_numbers_taken_ends_in_the_operation_and_fits(self):
        name = "n" * 250
        numbers = [f"{name[:200]} ({number})" for number in range(2, 21)]
        around = among(claims=taken(FOLDER, None, name, *numbers))
        outcome = decided(a_create({"name": name}, FOLDER), None, surroundings=around)
        assert outcome.data == {"name": f"{name[:200]} (op-1)"}

    def test_with_nothing_free_waits(self):
        numbers = [f"a ({number})" for number in range(2, 21)]
        around = among(claims=taken(FOLDER, None, "a", *numbers, "a (op-1)"))
        outcome = decided(a_create({"name": "a"}, FOLDER), None, surroundings=around)
        assert disputed(outcome) == [(ConflictType.UNIQUE, ("name",), Rule.UNIQUE_TAKEN, True)]

    def test_that_is_taken_parks_where_the_type_says_so(self):
        outcome = decided(a_create({"name": "a"}, SHELF), None, surroundings=among(claims=taken(SHELF, None, "a")))
        assert (outcome.verdict, outcome.rule, outcome.data) == (Verdict.CONFLICT, Rule.UNIQUE_TAKEN, None)

    def test_that_the_entity_holds_itself_is_free(self):
        claims = dict.fromkeys(taken(FOLDER, None, "a"), "1")
        outcome = decided(
            an_update({"name": "a"}, spec=FOLDER), an_entity({}, spec=FOLDER), surroundings=among(claims=claims)
        )
        assert outcome.data == {"name": "a"}

    def test_is_checked_where_a_repaired_parent_leads(self):
        around = among(claims=taken(FOLDER, None, "a"))
        outcome = decided(a_create({"name": "a", "parent_id": 7}, FOLDER), None, surroundings=around)
        assert outcome.data == {"name": "a (2)", "parent_id": None}

    def test_is_not_checked_when_the_key_stays(self):
        entity = an_entity({"name": "a"}, spec=FOLDER)
        outcome = decided(
            an_update({"name": "a"}, spec=FOLDER), entity, surroundings=among(claims=taken(FOLDER, None, "a"))
        )
        assert outcome.rule is Rule.NO_CHANGE


class TestClaims:
    def test_name_the_key_and_its_values(self):
        assert claims_of(FOLDER, "s", {"name": "a"}) == (Claim("folder", "s", "parent_id,name", '[null,"a"]'),)

    def test_of_equal_values_are_equal(self):
        assert claims_of(FOLDER, "s", {"name": "a", "parent_id": 1}) == claims_of(
            FOLDER, "s", {"parent_id": 1.0, "name": "a"}
        )

    @pytest.mark.parametrize("data", [{}, {"name": None, "parent_id": 1}])
    def test_are_none_without_a_last_value(self, data):
        assert claims_of(FOLDER, "s", data) == ()

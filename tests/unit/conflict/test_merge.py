import pytest

from schema.policy import Merge
from sync_server.conflict.merge import IN_CONFLICT, join_field, merge_field
from sync_server.conflict.values import ABSENT


class TestSet:
    @pytest.mark.parametrize(
        ("base", "server", "client", "merged"),
        [
            (["a", "b"], ["b", "s"], ["a", "b", "c"], ["b", "s", "c"]),
            (["a"], ["a", "s"], [], ["s"]),
            (ABSENT, ["s"], ["c", "c"], ["s", "c"]),
            ([], [{"x": 1}], [{"x": 1.0}, {"x": True}], [{"x": 1}, {"x": True}]),
            ([], [1], [True], [1, True]),
        ],
    )
    def test_has_what_was_added_less_what_was_removed_in_the_servers_order(self, base, server, client, merged):
        assert merge_field(Merge.SET, base, server, client) == merged


class TestCounter:
    @pytest.mark.parametrize(("base", "server", "client", "merged"), [(1, 4, 3, 6), (0, 1, 1, 2), (ABSENT, 2, 3, 5)])
    def test_adds_up_both_changes(self, base, server, client, merged):
        assert merge_field(Merge.COUNTER, base, server, client) == merged

    @pytest.mark.parametrize("client", [None, True, "3", 1e308])
    def test_of_what_cannot_be_added_is_in_conflict(self, client):
        assert merge_field(Merge.COUNTER, 0, 10**308 * 2, client) is IN_CONFLICT

    @pytest.mark.parametrize(("base", "side"), [(0, 2**63), (0, -(2**62) - 1), (0, 2**64 - 1)])
    def test_past_what_can_be_written_is_in_conflict(self, base, side):
        merged = merge_field(Merge.COUNTER, base, side, side)
        assert merged is IN_CONFLICT


class TestMaximum:
    @pytest.mark.parametrize(("server", "client", "merged"), [(3, 5, 5), (5, 3, 5), ("2026-02", "2026-01", "2026-02")])
    def test_is_the_greater_of_the_two(self, server, client, merged):
        assert merge_field(Merge.MAX, None, server, client) == merged

    def test_of_a_number_and_a_text_is_in_conflict(self):
        assert merge_field(Merge.MAX, 0, 1, "2") is IN_CONFLICT


class TestOrderedList:
    def test_lands_edits_at_different_places(self):
        assert merge_field(Merge.ORDERED_LIST, ["a", "b", "c"], ["s", "a", "b", "c"], ["a", "c"]) == ["s", "a", "c"]

    def test_with_two_inserts_at_one_place_is_in_conflict(self):
        assert merge_field(Merge.ORDERED_LIST, ["a"], ["a", "s"], ["a", "c"]) is IN_CONFLICT

    def test_joined_keeps_both_the_servers_first(self):
        assert join_field(Merge.ORDERED_LIST, ["a"], ["a", "s"], ["a", "c"]) == ["a", "s", "c"]

    def test_joined_without_a_base_has_the_shared_items_once(self):
        assert join_field(Merge.ORDERED_LIST, ABSENT, ["a", "s", "z"], ["a", "c", "z"]) == ["a", "s", "c", "z"]


class TestText:
    def test_that_overlaps_is_in_conflict_but_can_be_joined(self):
        assert merge_field(Merge.TEXT, "a", "s", "c") is IN_CONFLICT
        assert join_field(Merge.TEXT, "a", "s", "c") == "s\nc"

    def test_that_is_none_on_one_side_is_in_conflict(self):
        assert merge_field(Merge.TEXT, "a", None, "c") is IN_CONFLICT
        assert join_field(Merge.TEXT, "a", None, "c") is IN_CONFLICT


class TestOtherFields:
    @pytest.mark.parametrize("policy", [Merge.ESCALATE, Merge.LAST_WRITER])
    def test_are_in_conflict_unless_the_client_left_them_alone(self, policy):
        assert merge_field(policy, "a", "s", "c") is IN_CONFLICT
        assert merge_field(policy, "a", "s", "a") == "s"

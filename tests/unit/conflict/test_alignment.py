import pytest

from sync_server.conflict import alignment
from sync_server.conflict.alignment import NO_PARTNER, align


def paired(base, other):
    return "".join(base[i] for i, place in enumerate(align(base, other)) if place != NO_PARTNER)


class TestAlignment:
    def test_keeps_common_ends_and_what_is_unique_between_them(self):
        assert align("a1b2c", "aXbYc") == [0, NO_PARTNER, 2, NO_PARTNER, 4]

    def test_of_moved_items_pairs_the_most_that_keep_their_order(self):
        assert paired("x12345y", "p51234q") == "1234"

    @pytest.mark.parametrize(
        ("base", "other", "length"), [("abab", "baba", 3), ("aabbab", "babaab", 4), ("ab", "cd", 0)]
    )
    def test_without_unique_items_is_a_longest_common_subsequence(self, base, other, length):
        assert len(paired(base, other)) == length

    def test_of_a_region_that_is_too_long_pairs_only_its_ends(self, monkeypatch):
        monkeypatch.setattr(alignment, "MAX_ITEMS", 4)
        assert paired("<abc>", "<bcd>") == "<>"

    def test_of_repeated_items_stops_at_its_budget(self, monkeypatch):
        monkeypatch.setattr(alignment, "MAX_CELLS", 3)
        assert paired("<abab>", "<baba>") == "<>"

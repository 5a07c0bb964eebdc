from sync_server.conflict.diff3 import hunks


def sides(base, server, client):
    return [(base[h.base], server[h.server], client[h.client]) for h in hunks(base, server, client)]


class TestHunks:
    def test_put_together_are_each_side(self):
        found = sides("abcdef", "aXcdef", "abcdYf")
        assert ["".join(side) for side in zip(*found, strict=True)] == ["abcdef", "aXcdef", "abcdYf"]

    def test_of_changes_apart_are_apart(self):
        assert sides("abc", "Xbc", "abY") == [("a", "X", "a"), ("b", "b", "b"), ("c", "c", "Y")]

    def test_of_inserts_at_one_place_are_one(self):
        assert sides("ab", "aXb", "aYb") == [("a", "a", "a"), ("", "X", "Y"), ("b", "b", "b")]

    def test_of_nothing_are_none(self):
        assert sides("", "", "") == []

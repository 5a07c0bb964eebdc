import pytest

from sync_server.conflict.values import ABSENT, canonical_text, equal, fingerprint, unwrapped


class TestEquality:
    @pytest.mark.parametrize(
        ("one", "other"),
        [(1, 1.0), (0.0, -0.0), ([1, {"a": 1}], [1.0, {"a": 1.0}]), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (None, None)],
    )
    def test_goes_by_what_a_value_means(self, one, other):
        assert equal(one, other)
        assert canonical_text(one) == canonical_text(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [(1, True), (0, False), ([1], [True]), (None, ABSENT), ("1", 1), ([], {}), ([[1], 2], [1, [2]]), ("", None)],
    )
    def test_tells_apart_what_python_or_a_sloppy_walk_would_not(self, one, other):
        assert not equal(one, other)

    def test_of_values_nested_deeper_than_the_stack_does_not_raise(self):
        one: list = []
        other: list = []
        for _ in range(100_000):
            one, other = [one], [other]
        assert fingerprint(one) == fingerprint(other)
        _unravel(one, other)

    def test_takes_two_values_that_are_no_number_as_the_same(self):
        assert equal([float("nan")], [float("nan")])


def _unravel(*lists):
    """Take deep lists apart from the outside, so that freeing them does not recurse."""
    for nested in lists:
        inner = nested
        while inner:
            inner = inner.pop()


class TestPrevious:
    def test_of_a_field_that_was_absent_is_not_null(self):
        assert unwrapped([]) is ABSENT
        assert unwrapped([None]) is None

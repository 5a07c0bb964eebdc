"""What an application hands in, checked: every refusal names its field."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest
from sync_client import inputs
from sync_client.errors import InvalidInputError
from sync_client.stores.port import Query
from sync_client.values import Entity, Key

NESTED: list[Any] = []
NESTED.append(NESTED)
query = partial(inputs.checked_query, "note", order_by=None, limit=None)


@pytest.mark.parametrize(
    ("check", "given", "field"),
    [
        *((inputs.checked_type, given, "entity_type") for given in ("", "a b", "ä", "x" * 65, "note\n", 7, None)),
        *((inputs.checked_new_id, given, "entity_id") for given in ("", "a/b", "x" * 65, "12", "0012", "a\n", 12)),
        *((inputs.checked_key, given, "entity") for given in ("a", ("note",), ("note", "a", 1), ("note", None), 7)),
        (inputs.checked_key, ("no note", "a"), "entity_type"),
        (partial(inputs.checked_fields, {}), {"id": "a"}, "id"),
        (partial(inputs.checked_fields, {"id": "a"}), {}, "id"),
        *((partial(inputs.checked_fields, {name: 1}), {}, repr(name)) for name in ("", 'a"b', "a\\b", "a\nb", 7)),
        *((partial(inputs.checked_fields, {}), {"x": value}, "x") for value in (float("nan"), float("inf"))),
        *((partial(inputs.checked_fields, {}), {"x": value}, "x") for value in (2**63, [-(2**63) - 1])),
        (partial(inputs.checked_fields, {}), {"x": {"deep": [1, (float("-inf"),)]}}, "x"),
        (partial(inputs.checked_fields, {}), {"x": object()}, "fields"),
        (lambda codec: inputs.checked_choice("codec", codec, ("json",)), "xml", "codec"),
        (partial(inputs.checked_some, "links"), [], "links"),
        (partial(inputs.checked_some, "links"), "poll", "links"),
        *((partial(inputs.checked_names, "spaces"), given, "spaces") for given in ("s1", [], ["a b"], [""], [7])),
        (partial(inputs.checked_names, "spaces"), ["s1", "x" * 67], "spaces"),
        *((inputs.checked_space, given, "space_id") for given in ("", "a b", "x" * 67, 7)),
        (inputs.checked_strategy, "mine", "on_conflict"),
        *((query, {"x": value}, "x") for value in ([1], {}, 2**63, -(2**63), float("nan"), datetime.now(UTC))),
        (query, {'x"': 1}, repr('x"')),
        (query, {f"x{n}": 1 for n in range(inputs.MOST_CONDITIONS + 1)}, "where"),
        *((lambda limit: query({}, limit=limit), limit, "limit") for limit in (-1, True, 1.5, "1")),
        *((lambda order: query({}, order_by=order), order, repr(order.removeprefix("-"))) for order in ('"', "-", "")),
        (lambda kind: inputs.checked_query(kind, {}, order_by=None, limit=None), "no note", "entity_type"),
    ],
)  # fmt: skip
def test_a_refusal_names_its_field(check: Callable[..., object], given: Any, field: str) -> None:
    call = partial(check, given) if not _is_fields(check) else partial(check, named=given)
    with pytest.raises(InvalidInputError) as refusal:
        call()
    assert refusal.value.field == field
    assert str(refusal.value) == f"{field} {refusal.value.problem}"
    assert "\n" not in str(refusal.value)


def _is_fields(check: object) -> bool:
    return isinstance(check, partial) and check.func is inputs.checked_fields


class TestFields:
    def test_are_plain_json_and_a_copy(self) -> None:
        given = {"tags": ["a"], "at": datetime(2026, 1, 2, tzinfo=UTC), "n": None}
        fields = inputs.checked_fields(given, {"title": "é"})
        assert fields == {"tags": ["a"], "at": "2026-01-02T00:00:00Z", "n": None, "title": "é"}
        assert fields["tags"] is not given["tags"]

    def test_that_are_named_stand_over_those_that_are_given(self) -> None:
        assert inputs.checked_fields({"title": "x"}, {"title": "y"}) == {"title": "y"}

    def test_that_never_end_are_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="fields must be JSON"):
            inputs.checked_fields({}, {"x": NESTED})


class TestWhatIsTaken:
    @pytest.mark.parametrize("given", ["note", "a-b_C9", "x" * 64])
    def test_types_and_ids(self, given: str) -> None:
        assert inputs.checked_type(given) == inputs.checked_new_id(given) == given

    def test_keys(self) -> None:
        assert inputs.checked_key(Entity("note", 12)) == inputs.checked_key(("note", 12)) == Key("note", "12")
        assert inputs.checked_key(Key("note", "a")) == Key("note", "a")

    def test_names(self) -> None:
        assert inputs.checked_names("spaces", None) is None
        assert inputs.checked_names("spaces", ["s1", "u-" + "x" * 64]) == ("s1", "u-" + "x" * 64)

    def test_numbers_of_64_bits(self) -> None:
        assert inputs.checked_fields({"x": [-(2**63), 2**63 - 1]}, {}) == {"x": [-(2**63), 2**63 - 1]}

    def test_spaces(self) -> None:
        assert [inputs.checked_space(one) for one in ("s1", "u-1", None)] == ["s1", "u-1", None]

    def test_choices(self) -> None:
        assert inputs.checked_choice("codec", "json", ("json", "msgpack")) == "json"
        assert inputs.checked_some("links", ["poll"]) == ["poll"]
        assert [inputs.checked_strategy(one) for one in (*inputs.STRATEGIES, None)] == [*inputs.STRATEGIES, None]

    def test_queries(self) -> None:
        where = {"a": 1, "b": None, "c": True, "d": 2**63 - 1, "e": 0.5}
        assert query(where, order_by="-at", limit=0) == Query("note", tuple(where.items()), "at", True, 0)
        assert query({}, order_by="at") == Query("note", (), "at", False, None)


def token(claims: bytes) -> str:
    return f"head.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.signature"


class TestTheUserOfAToken:
    @pytest.mark.parametrize("subject", ["1", "ab", "abc", "ÿ?>~"])
    def test_is_its_subject(self, subject: str) -> None:
        assert inputs.user_named_by(token(msgspec.json.encode({"sub": subject}))) == subject

    @pytest.mark.parametrize(
        "given", ["any", "a.b", "a.b.c.d", "a.!.c", token(b"{"), token(b"[1]"), token(b'{"sub":7}'), token(b"{}"), len]
    )
    def test_is_not_known_where_it_says_none(self, given: object) -> None:
        assert inputs.user_named_by(given) is None

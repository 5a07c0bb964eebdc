"""The laws B1 to B4: which operations go up next."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_client.batches import ENVELOPE_BYTES, Picker, names_of, weight_of, wire_form
from sync_client.frames import Limits
from sync_client.values import Operation, OperationType

from clients.python.tests.builders import create, delete, operation, update


def picker(*held: str, limit: int = 1_000, limits: Limits | None = None, is_plain: bool = False) -> Picker:
    return Picker(held, limits or Limits(), limit=limit, is_plain=is_plain)


def ids(operations: list[Operation]) -> list[str]:
    return [one.operation_id for one in operations]


class TestABatch:
    def test_is_the_oldest_operations(self) -> None:
        batch = picker(limit=2).batch([create("o1"), update("o2"), delete("o3")])
        assert (ids(batch.operations), batch.is_atomic) == (["o1", "o2"], False)

    def test_of_nothing_is_empty(self) -> None:
        assert picker().batch([]).operations == []

    def test_leaves_out_what_is_held_and_what_names_its_entity(self) -> None:
        queue = [
            create("o1", "folder"), create("o2", "n1", folder_id="folder"), update("o3", "n1", title="x"),
            create("o4", "n2"), create("o5", "n3", links=[{"to": "n1"}]),
        ]  # fmt: skip
        assert ids(picker("o1").batch(queue).operations) == ["o4"]

    def test_remembers_what_is_blocked_on_the_page_before(self) -> None:
        page = picker("o1")
        assert page.batch([create("o1", "folder")]).operations == []
        assert ids(page.batch([create("o2", "n1", folder_id="folder"), create("o3", "n2")]).operations) == ["o3"]

    @pytest.mark.parametrize("reference", [12, "12", [12], {"to": {"note": 12}}])
    def test_leaves_out_what_names_a_held_entity_by_its_number(self, reference: object) -> None:
        queue = [update("o1", "12", title="x"), create("o2", "n1", refers=reference), create("o3", "n2", done=True)]
        assert ids(picker("o1").batch(queue).operations) == ["o3"]

    @pytest.mark.parametrize("held", ["o1", "o2", "o3"])
    def test_leaves_out_what_names_any_entity_of_a_held_transaction(self, held: str) -> None:
        group = [create(f"o{n}", f"n{n}", group="g") for n in (1, 2, 3)]
        queue = [*group, *(create(f"later{n}", f"m{n}", refers=f"n{n}") for n in (1, 2, 3)), create("other", "b")]
        assert ids(picker(held).batch(queue).operations) == ["other"]

    def test_leaves_out_a_transaction_that_names_a_held_entity_and_what_names_the_transaction(self) -> None:
        queue = [
            update("o1", "a", title="x"), create("o2", "b", group="g"), create("o3", "c", group="g", refers="a"),
            create("o4", "d", refers="b"), create("o5", "e"),
        ]  # fmt: skip
        assert ids(picker("o1").batch(queue).operations) == ["o5"]

    def test_leaves_room_for_what_surrounds_its_operations(self) -> None:
        one = create("o1", content="y" * 30_000)
        fits = Limits(max_message_bytes=ENVELOPE_BYTES + weight_of(one))
        assert ids(picker(limits=fits).batch([one]).operations) == ["o1"]
        assert picker(limits=fits._replace(max_message_bytes=fits.max_message_bytes - 1)).batch([one]).unsendable
        assert ENVELOPE_BYTES >= 4_096, "a client id, a message id, a strategy and their names"

    def test_that_is_full_to_the_last_byte_takes_no_more(self) -> None:
        queue = [create(f"o{n}", f"n{n}", content="y" * 10_000) for n in range(4)]
        room = ENVELOPE_BYTES + sum(map(weight_of, queue[:2]))
        assert ids(picker(limits=Limits(room)).batch(queue).operations) == ["o0", "o1"]
        assert ids(picker(limits=Limits(room - 1)).batch(queue).operations) == ["o0"]

    def test_of_a_transaction_is_the_transaction_alone(self) -> None:
        queue = [create("o1", "a"), create("o2", "b", group="g"), create("o3", "c", group="g"), create("o4", "d")]
        first = picker().batch(queue)
        assert (ids(first.operations), first.is_atomic) == (["o1"], False)
        second = picker(limit=1).batch(queue[1:])
        assert (ids(second.operations), second.is_atomic) == (["o2", "o3"], True)
        assert ids(picker("o3").batch(queue).operations) == ["o1", "o4"]

    def test_keeps_the_limit_of_bytes(self) -> None:
        queue = [create(f"o{n}", f"n{n}", content="y" * 40_000) for n in range(20)]
        batch = picker().batch(queue)
        sent = msgspec.json.encode([wire_form(one, client_id="c" * 128) for one in batch.operations])
        assert 1 < len(batch.operations) < 20
        assert len(sent) < Limits().max_message_bytes

    def test_names_what_can_never_be_sent(self) -> None:
        queue = [create("o1", "a"), create("o2", "b", content="y" * 300_000), create("o3", "c")]
        assert ids(picker().batch(queue).operations) == ["o1"]
        refused = picker().batch(queue[1:]).unsendable
        assert refused is not None
        assert (ids(refused[0]), refused[1].details["max_operations"]) == (["o2"], 1_000)

    def test_names_a_transaction_that_is_too_long(self) -> None:
        queue = [create(f"o{n}", f"n{n}", group="g") for n in range(4)]
        refused = picker(limits=Limits(max_operations=3)).batch(queue).unsendable
        assert refused is not None
        assert len(refused[0]) == 4

    def test_for_a_plain_server_stops_before_what_names_something_of_it(self) -> None:
        queue = [create("o1", "folder"), create("o2", "n2"), create("o3", "n1", folder_id="folder")]
        assert ids(picker(is_plain=True).batch(queue).operations) == ["o1", "o2"]

    def test_reads_what_is_acknowledged_without_its_weight(self) -> None:
        done = operation("o1", OperationType.UPDATE, fields={"content": "y" * 300_000}, acknowledged=3)
        assert ids(picker().batch([done]).operations) == ["o1"]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "a", "b", "c"])), max_size=12),
    st.sets(st.integers(0, 11)),
    st.integers(1, 6),
)
def test_order_within_an_entity_is_kept_and_nothing_else_waits(
    made: list[tuple[str, str]], held: set[int], limit: int
) -> None:
    """B1, B2"""
    queue = [update(f"o{n}", entity_id, refers=refers) for n, (entity_id, refers) in enumerate(made)]
    picked = ids(picker(*(f"o{n}" for n in held), limit=limit).batch(queue).operations)
    blocked: set[str] = set()
    expected = []
    for one in queue:
        if one.operation_id in {f"o{n}" for n in held} or names_of(one) & blocked:
            blocked.add(one.entity_id)
        else:
            expected.append(one.operation_id)
    assert picked == expected[:limit]


@pytest.mark.parametrize("one", [create("o1", title="é" * 100, n=[1, 2.5, None]), update("o2"), delete("o3")])
def test_weight_is_never_less_than_what_is_sent(one: Operation) -> None:
    form = wire_form(one, client_id="c" * 128)
    assert weight_of(one) >= max(len(msgspec.json.encode(form)), len(msgspec.msgpack.encode(form)))


class TestTheWireForm:
    def test_of_a_delete_and_an_update_says_what_it_is_based_on(self) -> None:
        for one in (delete("o1", before_version=7), update("o2", before_version=7, title="x")):
            assert wire_form(one, client_id="c")["before_version"] == 7

    def test_of_a_create_is_based_on_nothing(self) -> None:
        form = wire_form(create("o1", title="x"), client_id="c")
        assert (form["data"], "before_version" in form, "changes" in form) == ({"title": "x"}, False, False)

    def test_of_a_resolve_says_how(self) -> None:
        members = {"conflict_id": "c1", "strategy": "merge", "fields": {"title": "both"}, "shown": {"title": "both"}}
        form = wire_form(operation("o1", OperationType.RESOLVE, **members), client_id="c")
        assert (form["conflict_id"], form["strategy"], form["resolved_data"]) == ("c1", "merge", {"title": "both"})
        assert "shown" not in form

    def test_has_numbers_as_numbers(self) -> None:
        found = [wire_form(create("o1", one), client_id="c")["entity_id"] for one in ("12", "012", "a")]
        assert found == [12, "012", "a"]

    def test_names_strategy_and_space_where_there_are_some(self) -> None:
        one = operation("o1", OperationType.CREATE, fields={}, space_id="s1", on_conflict="manual")
        form = wire_form(one, client_id="c")
        assert (form["space_id"], form["resolution_strategy"]) == ("s1", "manual")
        assert {"space_id", "resolution_strategy"}.isdisjoint(wire_form(create("o2"), client_id="c"))

"""The laws B1 to B4: which operations go up next."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_client.batches import Picker, names_of, weight_of, wire_form
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

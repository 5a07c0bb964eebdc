"""What an explanation says of a field is so, whatever was done in whatever order."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schema.registry import load_registry
from sync_server.conflict.model import Rule
from sync_server.conflict.values import ABSENT, equal
from sync_server.explanations.evidence import operation_evidence
from sync_server.explanations.operations import Explanation, Fate, Field, explain_operation, is_own
from sync_server.explanations.printing import operation_text
from sync_server.explanations.replies import operation_view
from sync_server.handlers.operations import Defaults, order_of
from sync_server.ids import IdBlocks
from sync_server.orders import Batch
from sync_server.protocol.client_messages import Operation
from sync_server.records import Membership, Space
from sync_server.round import Round
from sync_server.stores.opening import opened_store
from sync_server.stores.sql import Store
from sync_server.types import (
    ClientId,
    ConflictId,
    Json,
    Millis,
    OperationId,
    OperationType,
    Role,
    Seq,
    SpaceId,
    Strategy,
    SyncId,
    UserId,
    Verdict,
)

REGISTRY = load_registry(None)
HOME = SpaceId("u-1")
NUMBERS = itertools.count()

strategies = st.sampled_from([None, *Strategy])
fields = st.dictionaries(
    st.sampled_from(["title", "content", "tags", "is_pinned"]), st.integers(0, 3), min_size=1, max_size=3
)
steps = st.tuples(
    st.sampled_from(["desktop", "phone", "tablet"]),
    st.sampled_from(["update", "update", "update", "delete", "create"]),
    st.integers(0, 6),
    fields,
    strategies,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    data_dir: Path = tmp_path_factory.mktemp("laws")
    with opened_store(data_dir, f"sqlite:///{data_dir / 'sync.db'}") as opened:
        with opened.write() as writer:
            writer.start_epoch("e1")
            writer.save_space(Space(HOME, "", UserId("1"), Millis(1)))
            writer.save_membership(Membership(HOME, UserId("1"), Role.OWNER, Seq(0)))
        yield opened


def value(name: str, number: int) -> Any:
    match name:
        case "tags":
            return [f"tag {index}" for index in range(number)]
        case "is_pinned":
            return number > 1
        case "content":
            return f"first {number % 2}\nsecond\nthird {number // 2}\n"
        case _:
            return f"title {number}"


def operation(note: str, kind: str, back: int, chosen: dict[str, int], strategy: Strategy | None, version: int) -> Json:
    data = {name: value(name, number) for name, number in chosen.items()}
    raw: Json = {
        "operation_id": f"op_{next(NUMBERS)}", "operation_type": kind, "entity_type": "note", "entity_id": note,
        "resolution_strategy": strategy.value if strategy is not None else None,
    }  # fmt: skip
    if kind == "create":
        return {**raw, "data": data}
    raw["before_version"] = max(1, version - back) if back < 6 else None
    return {**raw, "changes": data} if kind == "update" else raw


def done(store: Store, client: str, raw: Json) -> tuple[OperationId, int]:
    """Do it, in a round of its own; returns its id and the version of the entity afterwards."""
    now = Millis(1_000 + next(NUMBERS))
    order = order_of(Operation.model_validate(raw), raw, REGISTRY, Defaults(None, now))
    batch = Batch(UserId("1"), ClientId(client), SyncId(client), (order,), HOME)
    with store.write() as writer:
        made = Round(writer, REGISTRY, IdBlocks(), now=now, new_conflict_id=lambda: ConflictId(f"c_{next(NUMBERS)}"))
        ((result,),) = made.run([batch])  # type: ignore[misc]
    return order.operation_id, result.decision.version or 1


def explained(store: Store, operation_id: OperationId) -> Explanation:
    with store.read() as reader:
        (decision,) = reader.operations_named(operation_id, user_id="1", client_id=None, limit=9)
        return explain_operation(operation_evidence(reader, decision))


def check(told: Explanation, field: Field) -> None:
    match field.fate:
        case Fate.TAKEN:
            assert equal(field.stored, field.sent)
            assert not equal(field.met, field.stored)
        case Fate.EQUAL | Fate.UNCHANGED:
            assert equal(field.stored, field.met)
        case Fate.LOST:
            assert equal(field.stored, field.met)
            assert field.rule is not None
        case Fate.MERGED:
            assert field.against is not None
            # of several writes on one base, what the client sent last is what the next one is measured by
            is_repeated = any(is_own(told.decision, step) and step.sent(field.name) for step in told.since)
            assert is_repeated or field.sent is ABSENT or not equal(field.sent, field.base)
            if equal(field.stored, field.met):
                assert all(field.name not in conflict.fields for conflict in told.conflicts)
        case Fate.PARKED:
            assert told.decision.verdict is Verdict.CONFLICT
        case Fate.REPAIRED | Fate.UNKNOWN:
            has_own = any(step.client_id == told.decision.client_id for step in told.since)
            assert has_own or told.decision.seq is None
    if field.fate is Fate.UNCHANGED:
        assert equal(field.sent, field.base)
    if field.fate in {Fate.LOST, Fate.MERGED} and field.sent is not ABSENT and told.decision.seq is not None:
        assert not equal(field.sent, field.stored)


class TestAnExplanation:
    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(plan=st.lists(steps, min_size=1, max_size=12), first=fields)
    def test_is_true_of_every_field(self, store: Store, plan: list[Any], first: dict[str, int]) -> None:
        note = f"n{next(NUMBERS)}"
        _, version = done(store, "desktop", operation(note, "create", 0, first, None, 0))
        for client, kind, back, chosen, strategy in plan:
            operation_id, version = done(store, client, operation(note, kind, back, chosen, strategy, version))
            told = explained(store, operation_id)
            decision = told.decision
            assert operation_text(told, width=80)
            assert operation_view(told)["withheld"] is False
            if decision.verdict is Verdict.REJECTED:
                continue
            assert told.trimmed == told.more == 0
            assert told.met is not None
            if told.base is not None:
                assert [step.version for step in told.since] == list(range(told.met, told.base, -1))
            sent = set() if decision.operation_type is OperationType.DELETE else set(chosen)
            if decision.rule not in {Rule.NO_BASE, Rule.SAME_VERSION}:
                assert {field.name for field in told.fields} == sent
            for field in told.fields:
                check(told, field)

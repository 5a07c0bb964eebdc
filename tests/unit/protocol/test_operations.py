"""Raw operations become typed ones, each alone."""

from typing import Any

import pytest

from sync_server.errors import ErrorCode
from sync_server.protocol.client_messages import Operation, Ref
from sync_server.protocol.operations import REQUIRED_FIELDS, RefusedOperation, parse_operation, parse_operations
from sync_server.types import OperationType, Strategy

COMPLETE: dict[str, dict[str, Any]] = {
    "create": {"entity_type": "note", "data": {"title": "a"}},
    "update": {"entity_type": "note", "entity_id": 123, "changes": {"title": "b"}},
    "delete": {"entity_type": "note", "entity_id": 123},
    "read": {"entity_type": "note"},
    "resolve": {"conflict_id": "conflict_1", "strategy": "merge"},
}
MISSING = [(kind, field) for kind, fields in REQUIRED_FIELDS.items() for field in fields]


def raw(kind: str, **members: Any) -> dict[str, Any]:
    return {"operation_id": "op_1", "operation_type": kind} | COMPLETE[kind] | members


def refusal(value: object) -> RefusedOperation:
    refused = parse_operation(value)
    assert isinstance(refused, RefusedOperation)
    return refused


class TestAnOperation:
    @pytest.mark.parametrize("kind", list(OperationType))
    def test_with_all_it_needs_is_parsed(self, kind: OperationType) -> None:
        operation = parse_operation(raw(kind))
        assert isinstance(operation, Operation)
        assert operation.operation_type is kind

    @pytest.mark.parametrize(("kind", "field"), MISSING)
    def test_without_what_its_type_needs_is_refused(self, kind: OperationType, field: str) -> None:
        incomplete = raw(kind)
        del incomplete[field]
        refused = refusal(incomplete)
        assert refused.error.code is ErrorCode.VALIDATION_ERROR
        assert refused.error.details == {"field": field, "problem": f"is required to {kind}"}

    def test_may_name_an_entity_of_the_same_request(self) -> None:
        operation = parse_operation(raw("update", entity_id={"ref": "op_0"}))
        assert isinstance(operation, Operation)
        assert operation.entity_id == Ref(ref="op_0")

    def test_may_not_create_an_entity_of_the_same_request(self) -> None:
        assert refusal(raw("create", entity_id={"ref": "op_0"})).error.details["field"] == "entity_id"

    def test_may_name_a_strategy(self) -> None:
        operation = parse_operation(raw("update", resolution_strategy="latest_wins"))
        assert isinstance(operation, Operation)
        assert operation.resolution_strategy is Strategy.LATEST_WINS

    def test_may_change_nothing(self) -> None:
        assert isinstance(parse_operation(raw("update", changes={})), Operation)

    def test_of_a_later_client_is_parsed_without_what_is_unknown(self) -> None:
        assert parse_operation(raw("delete", mood="new")) == parse_operation(raw("delete"))

    @pytest.mark.parametrize(
        ("member", "value"),
        [
            ("entity_id", -1),
            ("entity_id", True),
            ("entity_id", 1.0),
            ("entity_id", "a b"),
            ("entity_id", "x" * 65),
            ("entity_id", 2**53),
            ("before_version", -1),
            ("before_version", 2**64),
            ("before_version", "1"),
            ("changes", []),
            ("entity_type", "no/te"),
            ("operation_type", "UPDATE"),
            ("operation_type", None),
            ("resolution_strategy", "mine"),
            ("timestamp", 1704880800),
        ],
    )
    def test_with_a_wrong_member_is_refused_by_its_name(self, member: str, value: object) -> None:
        assert refusal(raw("update", **{member: value})).error.details["field"] == member


class TestARefusal:
    def test_names_the_operation(self) -> None:
        refused = refusal(raw("delete", entity_id=None))
        assert (refused.operation_id, refused.operation_type, refused.entity_type) == ("op_1", "delete", "note")

    @pytest.mark.parametrize("value", [None, 7, "op", [], {}, {"operation_id": 7}, {"operation_id": "x" * 9999}])
    def test_names_nothing_that_cannot_be_read(self, value: object) -> None:
        assert refusal(value).operation_id is None


class TestAListOfOperations:
    def test_keeps_its_order(self) -> None:
        parsed = parse_operations([raw("delete", operation_id=f"op_{number}") for number in range(20)])
        assert [operation.operation_id for operation in parsed] == [f"op_{number}" for number in range(20)]

    def test_refuses_only_the_malformed_ones(self) -> None:
        parsed = parse_operations(
            [raw("delete"), None, raw("delete", entity_id="a b"), raw("create", data=None), raw("read")]
        )
        assert [type(one) for one in parsed] == [
            Operation,
            RefusedOperation,
            RefusedOperation,
            RefusedOperation,
            Operation,
        ]

    def test_may_be_empty(self) -> None:
        assert parse_operations([]) == []

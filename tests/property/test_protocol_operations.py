"""Laws of reading operations: in a list or alone is the same, and nothing a client sends breaks it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync_server.protocol.client_messages import Operation
from sync_server.protocol.operations import RefusedOperation, parse_operation, parse_operations

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.floats()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
WELL_FORMED: list[dict[str, Any]] = [
    {"operation_id": "a", "operation_type": "create", "entity_type": "note", "data": {}},
    {"operation_id": "b", "operation_type": "delete", "entity_type": "note", "entity_id": 1},
    {"operation_id": "c", "operation_type": "read", "entity_type": "note"},
]
RAW = (
    st.sampled_from(WELL_FORMED)
    | st.builds(
        lambda base, member, value: base | {member: value},
        st.sampled_from(WELL_FORMED),
        st.sampled_from(list(Operation.model_fields)),
        VALUES,
    )
    | VALUES
)


def outline(parsed: Operation | RefusedOperation) -> object:
    if isinstance(parsed, Operation):
        return parsed
    return (
        parsed.operation_id,
        parsed.operation_type,
        parsed.entity_type,
        parsed.error.message,
        str(parsed.error.details),
    )


class TestAListOfOperations:
    @given(raw=st.lists(RAW, max_size=8))
    def test_is_read_as_its_members_are(self, raw: list[Any]) -> None:
        assert [outline(one) for one in parse_operations(raw)] == [outline(parse_operation(one)) for one in raw]

    @given(raw=RAW)
    def test_names_a_field_of_every_refusal(self, raw: Any) -> None:
        parsed = parse_operation(raw)
        assert isinstance(parsed, Operation) or parsed.error.details["problem"]

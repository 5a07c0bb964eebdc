"""What a client may send and a server may answer, as shapes."""

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from sync_server.protocol.client_messages import CLIENT_MESSAGES, AnyClientMessage, Handshake, Sync
from sync_server.protocol.server_messages import SERVER_MESSAGES, ServerMessage

MINIMAL: dict[str, dict[str, Any]] = {
    "handshake": {"client_id": "client_abc123"},
    "auth": {"token": "t"},
    "sync": {"data": {"client_id": "client_abc123"}},
    "conflict": {"resolution": {"conflict_id": "conflict_001", "strategy": "merge"}},
    "subscribe": {},
    "presence": {"space_id": "u-1", "state": None},
    "ping": {},
    "pong": {},
}


class TestTheTableOfClientMessages:
    def test_names_each_member_of_the_union(self) -> None:
        assert set(CLIENT_MESSAGES.values()) == set(get_args(get_args(AnyClientMessage)[0]))

    @pytest.mark.parametrize("message_type", list(CLIENT_MESSAGES))
    def test_agrees_with_the_union(self, message_type: str) -> None:
        message = TypeAdapter(AnyClientMessage).validate_python({"type": message_type} | MINIMAL[message_type])
        assert type(message) is CLIENT_MESSAGES[message_type]


class TestTheTableOfServerMessages:
    def test_names_each_member_of_the_union(self) -> None:
        assert list(SERVER_MESSAGES.values()) == list(get_args(ServerMessage))


class TestAClientMessage:
    @pytest.mark.parametrize("message_type", list(CLIENT_MESSAGES))
    def test_ignores_what_it_does_not_know(self, message_type: str) -> None:
        members = {"type": message_type} | MINIMAL[message_type]
        model = CLIENT_MESSAGES[message_type]
        assert model.model_validate(members | {"from_the_future": 1}) == model.model_validate(members)

    @pytest.mark.parametrize("message_type", list(CLIENT_MESSAGES))
    def test_cannot_be_changed(self, message_type: str) -> None:
        message = CLIENT_MESSAGES[message_type].model_validate({"type": message_type} | MINIMAL[message_type])
        with pytest.raises(ValidationError, match="frozen"):
            message.message_id = "other"  # type: ignore[misc]

    def test_hides_its_token_from_logs(self) -> None:
        assert "secret" not in repr(Handshake(type="handshake", client_id="c", token="secret"))

    def test_leaves_operations_raw_so_that_one_cannot_spoil_the_request(self) -> None:
        operations = [None, {"operation_id": 7}, "x"]
        sync = Sync.model_validate({"type": "sync", "data": {"client_id": "c", "operations": operations}})
        assert sync.data.operations == operations

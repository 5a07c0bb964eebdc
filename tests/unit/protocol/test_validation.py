"""What a peer is told about a value that is wrong."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sync_server.errors import ErrorCode
from sync_server.protocol.client_messages import Handshake, Operation, Subscription, SyncRequest
from sync_server.protocol.validation import MAX_PATH_LENGTH, first_problem, validation_error


def problem_of(model: Any, value: object) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(model).validate_python(value)
    return first_problem(caught.value)


class TestTheFirstProblem:
    @pytest.mark.parametrize(
        ("model", "value", "problem"),
        [
            (SyncRequest, {}, ("client_id", "is required")),
            (SyncRequest, None, ("", "must be an object")),
            (SyncRequest, [], ("", "must be an object")),
            (SyncRequest, {"client_id": 7}, ("client_id", "must be a string")),
            (SyncRequest, {"client_id": ""}, ("client_id", "must have at least 1 characters")),
            (SyncRequest, {"client_id": "x" * 129}, ("client_id", "must have at most 128 characters")),
            (SyncRequest, {"client_id": "c", "operations": {}}, ("operations", "must be a list")),
            (SyncRequest, {"client_id": "c", "operations": [0] * 1001}, ("operations", "must have at most 1000 items")),
            (SyncRequest, {"client_id": "c", "batch_size": 0}, ("batch_size", "must be at least 1")),
            (SyncRequest, {"client_id": "c", "batch_size": 2**64}, ("batch_size", "must be at most 1000")),
            (SyncRequest, {"client_id": "c", "batch_size": True}, ("batch_size", "must be an integer")),
            (SyncRequest, {"client_id": "c", "batch_size": 1.5}, ("batch_size", "must be an integer")),
            (SyncRequest, {"client_id": "c", "atomic": "yes"}, ("atomic", "must be true or false")),
            (SyncRequest, {"client_id": "c", "client_state": 1}, ("client_state", "must be an object")),
            (
                SyncRequest,
                {"client_id": "c", "client_state": {"pending_operations": -1}},
                ("client_state.pending_operations", "must be at least 0"),
            ),
            (
                Subscription,
                {"spaces": ["a", "b c"]},
                ("spaces.1", "must be 1 to 66 of the characters A-Z a-z 0-9 _ -"),
            ),
            (
                Operation,
                {"operation_id": "o", "operation_type": "upsert"},
                ("operation_type", "must be 'create', 'update', 'delete', 'read' or 'resolve'"),
            ),
            (
                Operation,
                {"operation_id": "o", "operation_type": "delete", "entity_id": 1.5},
                (
                    "entity_id",
                    "must be an integer or must be a string or must be an object",
                ),
            ),
            (Handshake, {"client_id": "c"}, ("type", "is required")),
        ],
    )
    def test_names_the_field_and_what_is_wrong(self, model: Any, value: object, problem: tuple[str, str]) -> None:
        assert problem_of(model, value) == problem

    def test_says_nothing_of_the_fields_after_it(self) -> None:
        value = {"client_id": 7, "operations": 7, "atomic": 7}
        assert problem_of(SyncRequest, value) == ("client_id", "must be a string")

    def test_refuses_a_nul_in_a_name(self) -> None:
        assert problem_of(SyncRequest, {"client_id": "a\x00b"})[0] == "client_id"

    def test_never_repeats_what_was_sent(self) -> None:
        path, problem = problem_of(Handshake, {"type": "handshake", "client_id": "c", "token": ["secret"]})
        assert path == "token"
        assert "secret" not in problem

    def test_is_of_bounded_length_however_long_the_keys(self) -> None:
        adapter = dict[str, dict[str, dict[str, dict[str, int]]]]
        path, problem = problem_of(adapter, {"k" * 9999: {"l" * 9999: {"m" * 9999: {"n" * 9999: None}}}})
        assert len(path) <= MAX_PATH_LENGTH
        assert problem == "must be an integer"

    def test_shows_keys_that_are_not_printable_escaped(self) -> None:
        assert problem_of(dict[str, int], {"a\nb": None})[0] == "a\\nb"

    def test_keeps_a_key_that_looks_like_a_type(self) -> None:
        class Closed(Subscription, extra="forbid"):
            pass

        assert problem_of(Closed, {"Mood": 1}) == ("Mood", "is not a field of this type")


class TestTheReply:
    def test_carries_the_field_and_the_problem(self) -> None:
        error = validation_error("data.client_id", "is required")
        assert error.code is ErrorCode.VALIDATION_ERROR
        assert error.message == "The field data.client_id is required."
        assert error.details == {"field": "data.client_id", "problem": "is required"}

    def test_speaks_of_the_message_when_no_field_is_to_blame(self) -> None:
        assert validation_error("", "must be an object").message == "The message must be an object."

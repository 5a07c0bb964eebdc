"""Laws of the HTTP door, made from its own OpenAPI document: the server keeps to what it says there, whatever is sent.

The document is the generator: requests that it allows and requests that it forbids, alone and in chains where one
reply feeds the next request. What a schema cannot say is listed in `excused`, and nothing else is.
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import schemathesis
from hypothesis import Phase, settings
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import run_state_machine_as_test
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
)

from rest.openapi import openapi_document
from rest.requests import MAX_WAIT_S
from schema.registry import load_registry
from tests.harness import ServerProcess, server_process, token_for

MOST = "100000000"
LEARNS_NOTHING = {"extra-data-sources": {"responses": False}}
"""A failure is found again by its seed alone: requests are made of the document and not of what was answered before."""
CONFIG = schemathesis.Config.from_dict(
    {
        "max-stream-events": 1,
        "request-timeout": 30.0,
        "generation": {"with-security-parameters": False},  # the token is ours to add and to leave out
        "phases": {
            "coverage": LEARNS_NOTHING,
            "fuzzing": {**LEARNS_NOTHING, "error-feedback": {"enabled": False}},
            "stateful": {"link-calibration": False},
        },
    }
)
SCHEMA = schemathesis.openapi.from_dict(openapi_document(load_registry(None)), config=CONFIG)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    limits = {"SYNC_REQUESTS_PER_MINUTE": MOST, "SYNC_OPERATIONS_PER_MINUTE": MOST}
    # nobody reads what it logs: only what would fill no pipe
    with server_process(tmp_path_factory.mktemp("rest_laws"), **limits, SYNC_LOG_LEVEL="error") as running:
        yield running


def address(process: ServerProcess, user: str = "1") -> dict[str, Any]:
    url = f"http://127.0.0.1:{process.port}"
    return {"base_url": url, "headers": {"Authorization": f"Bearer {token_for(user)}"}}


def keep(case: Any, process: ServerProcess) -> None:
    """Send the request and see that the reply is what the document says of it."""
    settle(case)
    where = address(process)
    response = case.call(**where)
    case.validate_response(response, excluded_checks=excused(case, response), transport_kwargs=where)


def settle(case: Any) -> None:
    """Take from a request what is no matter of the document."""
    case.body = whole(case.body)
    if is_wait(case.query.get("wait")):
        case.query["wait"] = 0  # nobody writes meanwhile


def is_wait(value: object) -> bool:
    try:
        return 0 <= float(str(value)) <= MAX_WAIT_S
    except ValueError:
        return False


def whole(value: Any) -> Any:
    """To JSON Schema 1.0 is an integer; here an integer has no fraction (protocol, section 1)."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [whole(one) for one in value]
        case dict():
            return {name: whole(one) for name, one in value.items()}
        case _:
            return value


def excused(case: Any, response: Any) -> list[Any]:
    """The checks that do not mean this reply."""
    body = response.json() if response.headers["content-type"] == ["application/json"] else {}
    found = [positive_data_acceptance, negative_data_rejection] if response.status_code == 413 else []
    if response.status_code == 400 and "in" not in body["details"]:
        found.append(positive_data_acceptance)  # a rule between values, such as who gave a cursor out
    if case.path == "/api/sync/sync" and has_refused_operation(body):
        found.append(negative_data_rejection)  # an operation is refused alone, in a reply that succeeds
    if any(case.query.get(name) in ("", [""]) for name in ("space_ids", "entity_types")):
        found.append(negative_data_rejection)  # a list of one empty name is written as an empty list is
    if case.path == "/api/sync/events":
        found.append(response_schema_conformance)  # OpenAPI 3.1 has no words for the events of a stream
    return found


def has_refused_operation(body: Any) -> bool:
    results = body["data"]["operation_results"] if body.get("success") else []
    return any(result["error_code"] == "VALIDATION_ERROR" for result in results if not result["success"])


def hold_chains(process: ServerProcess, *, chains: int, links: int, is_steady: bool) -> None:
    """Talk to the server in chains of requests, made of what its replies name."""
    users = count(100_000)
    found: list[FailureGroup] = []

    class Chain(SCHEMA.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            self.user = str(next(users))  # of whom the server remembers no earlier chain

        def before_call(self, case: Any) -> None:
            settle(case)

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return address(process, self.user)

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            where = address(process, self.user)
            try:
                case.validate_response(response, excluded_checks=excused(case, response), transport_kwargs=where)
            except FailureGroup as failures:
                found.append(failures)
                raise

    # ids that the server makes are others each time: a chain cannot be made shorter, and sometimes not be drawn alike
    phases = [Phase.generate]
    with suppress(FlakyStrategyDefinition):
        run_state_machine_as_test(
            Chain,
            settings=settings(max_examples=chains, stateful_step_count=links, phases=phases, derandomize=is_steady),
        )
    assert found == []


class TestARequest:
    @SCHEMA.parametrize()
    @settings(max_examples=10, derandomize=True)  # `make soak` looks for new ones
    def test_is_answered_as_the_document_says(self, case: Any, process: ServerProcess) -> None:
        keep(case, process)


class TestAChainOfRequests:
    def test_is_answered_as_the_document_says(self, process: ServerProcess) -> None:
        hold_chains(process, chains=25, links=8, is_steady=True)


@pytest.mark.soak
class TestManyRequests:
    @SCHEMA.parametrize()
    @settings(max_examples=1_000)
    def test_are_answered_as_the_document_says(self, case: Any, process: ServerProcess) -> None:
        keep(case, process)

    def test_in_chains_are_answered_as_the_document_says(self, process: ServerProcess) -> None:
        hold_chains(process, chains=1_500, links=15, is_steady=False)

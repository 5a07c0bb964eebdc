"""The test kit: a policy that forgets is found out, one that does not stands."""

from typing import Annotated

import pytest
from pydantic import Field

from examples.budget import Budget
from examples.test_budget import adds_up, open_budget, spend
from schema.entity import EntityModel
from schema.policy import Rules
from sync_server.testing.kit import first_failure
from sync_server.types import EntityType

ACTS = [open_budget, spend]


class ForgetfulBudget(EntityModel):
    """The same without a merge policy: the last writer wins."""

    rules = Rules(EntityType("budget"))

    name: Annotated[str, Field(max_length=100)]
    spent: int = 0


class TestTheKit:
    def test_finds_the_bug_in_a_policy_that_forgets(self) -> None:
        failure = first_failure(range(100), types=[ForgetfulBudget], acts=ACTS, check=adds_up)
        assert failure is not None
        assert "check: " in failure.text
        assert "was spent, the budgets say" in failure.text

    def test_tells_a_course_of_events_that_is_short(self) -> None:
        failure = first_failure(range(100), types=[ForgetfulBudget], acts=ACTS, check=adds_up)
        assert failure is not None
        steps = int(failure.text.partition("breaks a promise; ")[2].split()[0])
        assert steps <= 6
        assert "sends update" in failure.text

    def test_finds_nothing_in_a_policy_that_adds_up(self) -> None:
        assert first_failure(range(15), types=[Budget], acts=ACTS, check=adds_up) is None

    def test_refuses_faults_that_it_does_not_know(self) -> None:
        with pytest.raises(ValueError, match="sharks"):
            first_failure([1], acts=ACTS, check=adds_up, faults=["sharks"])

"""One plain sentence for each way in which an operation can end."""

from typing import Any

import pytest

from sync_server.conflict.model import Rule
from sync_server.explanations.operations import Evidence, explain_operation
from sync_server.explanations.sentences import sentence
from sync_server.types import ConflictType, OperationType, Strategy, StrategySource, Verdict
from tests.contract.builders import conflict, decision, rejected
from tests.unit.explanations.builders import evidence, step, stood, update


def said(known: Evidence, **options: Any) -> str:
    return sentence(explain_operation(known, **options))


LOST = {"stored": {"title": "theirs"}, "submitted": {"title": "mine"}, "changed": {}}
RIVAL = {"steps": (step(2, "title"),), "bases": {"title": ["base"]}}


class TestASentence:
    def test_of_a_create(self) -> None:
        known = Evidence(decision("c", base_version=0))
        assert said(known) == (
            "The create of note a was applied as version 1, because there was no such entity before."
        )

    def test_of_an_update_on_its_base(self) -> None:
        known = evidence(update("same_version", Verdict.APPLIED, base_version=2), steps=())
        assert said(known) == (
            "The update of note a was applied as version 3, because nobody had changed it since its base, version 2."
        )

    def test_of_a_merge_names_who_wrote(self) -> None:
        assert said(evidence()) == (
            "The update of note a was merged as version 3, because since its base, version 1, user 2 (phone) changed "
            "other fields only."
        )

    def test_of_a_verdict_from_before_its_base_was_stored_does_not_guess_it(self) -> None:
        assert said(evidence(update(base_version=None), steps=())) == (
            "The update of note a was merged as version 3, because since its base, which is not known, others changed "
            "other fields only."
        )

    def test_of_what_changed_nothing_and_others_wrote_does_not_say_that_it_was_so(self) -> None:
        """The client may have sent the base value, so that what others wrote stays."""
        assert said(stood("no_change", Verdict.APPLIED)) == (
            "The update of note a changed nothing, because what it sent was there already, or is what its client had "
            "before."
        )
        untouched = stood("no_change", Verdict.APPLIED, steps=(step(2, "content"),), bases={"content": ["old"]})
        assert said(untouched) == "The update of note a changed nothing, because what it asks for was so already."

    def test_of_a_loss_names_the_strategy_and_what_named_it(self) -> None:
        decided = update(
            "server_wins", sent=("title", "content"), strategy=Strategy.SERVER_WINS,
            strategy_source=StrategySource.REQUEST,
        )  # fmt: skip
        found = conflict("c", rule="server_wins", client_data={"title": "mine"})
        assert said(evidence(decided, **LOST, **RIVAL, conflicts=(found,))) == (
            "The update of note a was merged as version 3, because user 2 (phone) changed title too since its base, "
            "version 1, and server_wins (named by its request) keeps what was there; its title lost."
        )

    def test_of_an_open_conflict_says_what_to_do(self) -> None:
        known = stood("manual", Verdict.CONFLICT, conflicts=(conflict("c1", client_data={"title": "mine"}),))
        decided = known.decision._replace(
            conflict_id="c1", strategy=Strategy.MANUAL, strategy_source=StrategySource.OPERATION
        )
        assert said(known._replace(decision=decided)) == (
            "The update of note a waits whole in conflict c1 until somebody resolves it, because user 2 (phone) "
            "changed title too since its base, version 1, and manual (named by the operation) leaves that to a person."
        )

    def test_of_a_settled_conflict_says_by_whom(self) -> None:
        found = conflict("c1", is_open=False, strategy=Strategy.CLIENT_WINS, resolved_by="3")
        known = stood("manual", Verdict.CONFLICT, conflicts=(found,))
        text = said(known._replace(decision=known.decision._replace(conflict_id="c1")))
        assert "waited in conflict c1, which was settled by user 3 with client_wins, because" in text

    def test_of_an_edit_of_what_is_deleted_says_by_whom(self) -> None:
        found = conflict("c1", rule="delete_wins", conflict_type=ConflictType.DELETE, is_open=False)
        steps = (step(2, operation_type=OperationType.DELETE, client_id="{x}"),)
        assert said(stood("delete_wins", conflicts=(found,), steps=steps)) == (
            "The update of note a was superseded: nothing of it was left to store, and version 2 stays, because user 2 "
            "({x}) had deleted the entity, and for this type a delete wins over an edit."
        )

    def test_of_a_delete_of_what_is_edited_says_by_whom(self) -> None:
        found = conflict("c1", rule="edit_wins", conflict_type=ConflictType.DELETE, is_open=False)
        known = stood("edit_wins", conflicts=(found,))
        decided = known.decision._replace(operation_type=OperationType.DELETE)
        assert "because user 2 (phone) had edited title since its base, and an edit wins" in said(
            known._replace(decision=decided)
        )

    def test_of_a_rejection_is_its_error(self) -> None:
        assert said(Evidence(rejected("r"))) == ("The create of note a was rejected, and nothing of it is stored: No.")

    def test_of_what_may_not_be_read_says_so(self) -> None:
        assert said(evidence(**RIVAL), may_read=False) == (
            "The update of note a was merged as version 3; its author no longer reads the space, so the rest is not "
            "told."
        )

    def test_names_a_few_of_many(self) -> None:
        steps = tuple(step(version, "title", client_id=f"c{version}") for version in range(9, 1, -1))
        text = said(evidence(update(version=10), steps=steps))
        assert "user 2 (c9), user 2 (c8), user 2 (c7), user 2 (c6), user 2 (c5) and 3 more" in text

    @pytest.mark.parametrize("verdict", [one for one in Verdict if one is not Verdict.REJECTED])
    @pytest.mark.parametrize("rule", [rule for rule in Rule if rule is not Rule.INVALID])
    def test_is_there_for_every_rule_and_verdict(self, rule: Rule, verdict: Verdict) -> None:
        text = said(evidence(update(rule.value, verdict), **RIVAL))
        assert text.endswith(".")
        assert "{" not in text
        assert "says so" not in text

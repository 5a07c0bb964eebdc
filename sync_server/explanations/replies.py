"""An explanation of an operation as a reply: the same members over REST and with `--json`."""

from typing import Any, NotRequired

from typing_extensions import TypedDict

from sync_server.conflict.values import ABSENT
from sync_server.decisions import status_of
from sync_server.errors import ErrorCode
from sync_server.explanations.operations import Explanation, Fate, Field, is_own
from sync_server.explanations.sentences import sentence
from sync_server.protocol.server_messages import ConflictView, OutId
from sync_server.records import Decision, Step
from sync_server.types import Json, Strategy, StrategySource, Verdict, format_id, format_time
from sync_server.views import conflict_view


class StepView(TypedDict):
    """A version that was there before the operation and after its base. `own`: the operation's own client made it."""

    version: int
    seq: int
    operation_type: str
    user_id: OutId
    client_id: str
    operation_id: str
    fields: list[str]
    rule: str
    modified_at: str
    own: bool


class BaseView(TypedDict):
    """`version` is what the client built on: 0 for a create, null where it named none. `met_version` is what was there.

    `since` has the newest versions between the two; `more` further ones are in the log, `trimmed` ones no longer.
    """

    version: int | None
    met_version: int | None
    since: list[StepView]
    more: int
    trimmed: int


class StrategyView(TypedDict):
    name: Strategy
    source: StrategySource


class FieldView(TypedDict):
    """What became of a field that was sent. A value is left out where it is not known or was not there.

    `against` is the newest change of others to it since the base.
    """

    field_name: str
    fate: Fate
    rule: str | None
    against: StepView | None
    base: NotRequired[Any]
    met: NotRequired[Any]
    sent: NotRequired[Any]
    stored: NotRequired[Any]


class OperationView(TypedDict):
    """`verdict`, and what depends on it, is null or empty while the operation waits for one.

    `strategy` is null where none was asked. `withheld`: the author no longer reads the space, so nothing that others
    wrote is told.
    """

    operation_id: str
    client_id: str
    sync_id: str
    operation_type: str
    entity_type: str | None
    entity_id: OutId | None
    status: str
    verdict: Verdict | None
    rule: str | None
    version: int | None
    seq: int | None
    conflict_id: str | None
    error: str | None
    error_code: ErrorCode | None
    details: Json
    retry_count: int
    created_at: str
    explanation: str
    base: BaseView | None
    strategy: StrategyView | None
    fields: list[FieldView]
    conflicts: list[ConflictView]
    withheld: bool


def operation_view(explanation: Explanation) -> OperationView:
    decision = explanation.decision
    return {
        "operation_id": decision.operation_id,
        "client_id": decision.client_id,
        "sync_id": decision.sync_id,
        "operation_type": decision.operation_type.value,
        "entity_type": decision.entity_type,
        "entity_id": format_id(decision.entity_id) if decision.entity_id is not None else None,
        "status": status_of(decision),
        "verdict": decision.verdict,
        "rule": decision.rule,
        "version": decision.version,
        "seq": decision.seq,
        "conflict_id": decision.conflict_id,
        "error": decision.error,
        "error_code": decision.error_code,
        "details": decision.details if decision.details is not None else {},
        "retry_count": decision.retry_count,
        "created_at": format_time(decision.created_at),
        "explanation": sentence(explanation),
        "base": {
            "version": explanation.base,
            "met_version": explanation.met,
            "since": [_step_view(decision, step) for step in explanation.since],
            "more": explanation.more,
            "trimmed": explanation.trimmed,
        },
        "strategy": _strategy_view(explanation),
        "fields": [_field_view(decision, field) for field in explanation.fields],
        "conflicts": [conflict_view(conflict) for conflict in explanation.conflicts],
        "withheld": explanation.is_withheld,
    }


def _strategy_view(explanation: Explanation) -> StrategyView | None:
    if explanation.strategy is None or explanation.source is None:
        return None
    return {"name": explanation.strategy, "source": explanation.source}


def _step_view(decision: Decision, step: Step) -> StepView:
    return {
        "version": step.version,
        "seq": step.seq,
        "operation_type": step.operation_type.value,
        "user_id": format_id(step.modified_by),
        "client_id": step.client_id,
        "operation_id": step.operation_id,
        "fields": list(step.fields),
        "rule": step.rule,
        "modified_at": format_time(step.modified_at),
        "own": is_own(decision, step),
    }


def _field_view(decision: Decision, field: Field) -> FieldView:
    view: FieldView = {
        "field_name": field.name,
        "fate": field.fate,
        "rule": field.rule,
        "against": _step_view(decision, field.against) if field.against is not None else None,
    }
    for name, value in (("base", field.base), ("met", field.met), ("sent", field.sent), ("stored", field.stored)):
        if value is not ABSENT:
            view[name] = value  # type: ignore[literal-required]
    return view

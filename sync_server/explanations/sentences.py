"""An explanation of an operation as one plain sentence. Pure."""

from collections.abc import Mapping, Sequence

from sync_server.conflict.model import Rule
from sync_server.explanations.operations import Explanation, Fate, is_own
from sync_server.records import Conflict, Step
from sync_server.types import ConflictType, OperationType, StrategySource, Verdict

MAX_NAMES = 5
"""Fields or writers that a sentence names; the rest is counted."""

_CLASH = "{rivals} changed {fields} too since {base}"
_REASONS: Mapping[str, str] = {
    Rule.CREATED: "there was no such entity before",
    Rule.SAME_VERSION: "nobody had changed it since {base}",
    Rule.NO_BASE: "it named no base version, so it counts for whatever is there",
    Rule.OWN_QUEUE: "nothing but its own client's writes stood against it since {base}",
    Rule.NO_CHANGE: "what it asks for was so already",
    Rule.DISJOINT: "since {base}, {rivals} changed other fields only",
    Rule.FIELD_MERGE: "{clash}, and both sides' edits are kept",
    Rule.LAST_WRITER: "{clash}, and of each the later write stands",
    Rule.SERVER_WINS: "{clash}, and {strategy} keeps what was there",
    Rule.CLIENT_WINS: "{clash}, and {strategy} takes what was sent",
    Rule.LATEST_WINS: "{clash}, and {strategy} lets the later write stand",
    Rule.MERGE: "{clash}, and {strategy} joins what can be joined",
    Rule.MANUAL: "{clash}, and {strategy} leaves that to a person",
    Rule.EDIT_WINS: "an edit wins over a delete",
    Rule.DELETE_WINS: "for this type a delete wins over an edit",
    Rule.PARENT_GONE: "the parent that it names is gone",
    Rule.PARENT_CYCLE: "the parent that it names is below it",
    Rule.PARENT_TOO_DEEP: "the parent that it names is too far down",
    Rule.UNIQUE_SUFFIX: "another entity has the value of {fields} already, so this one has a suffix",
    Rule.UNIQUE_TAKEN: "another entity has the value of {fields} already",
    Rule.RESOLVED: "it settles a conflict by {strategy}",
}
_NOTHING_NEW = "what it sent was there already, or is what its client had before"
_DELETES: Mapping[str, str] = {
    Rule.SERVER_WINS: "{met}, and {strategy} keeps what was there",
    Rule.CLIENT_WINS: "{met}, and {strategy} takes what the client did",
    Rule.MANUAL: "{met}, and {strategy} leaves that to a person",
    Rule.EDIT_WINS: "{met}, and an edit wins over a delete",
    Rule.DELETE_WINS: "{met}, and for this type a delete wins over an edit",
}
_SOURCES: Mapping[StrategySource, str] = {
    StrategySource.OPERATION: "named by the operation",
    StrategySource.REQUEST: "named by its request",
    StrategySource.TYPE: "the way of the type",
}
_NOUNS = {OperationType.RESOLVE: "resolution"}


def sentence(explanation: Explanation) -> str:
    """Why the operation ended as it did."""
    decision = explanation.decision
    subject = subject_of(explanation)
    if decision.verdict is Verdict.REJECTED:
        return f"{subject} was rejected, and nothing of it is stored: {_ended(decision.error or 'it is not valid')}"
    if explanation.is_withheld:
        return f"{subject} {_end(explanation)}; its author no longer reads the space, so the rest is not told."
    return f"{subject} {_end(explanation)}, because {_reason(explanation)}{_besides(explanation)}."


def subject_of(explanation: Explanation) -> str:
    decision = explanation.decision
    kind = decision.entity_type if decision.entity_type is not None else "an entity"
    name = f"{kind} {decision.entity_id}" if decision.entity_id is not None else kind
    return f"The {_NOUNS.get(decision.operation_type, decision.operation_type)} of {name}"


def writer(step: Step) -> str:
    """Who made a change: the user and their client, where it has one."""
    return f"user {step.modified_by} ({step.client_id})" if step.client_id else f"user {step.modified_by}"


def _end(explanation: Explanation) -> str:
    decision = explanation.decision
    match decision.verdict:
        case Verdict.CONFLICT:
            return _waiting(explanation)
        case Verdict.SUPERSEDED:
            return f"was superseded: nothing of it was left to store, and {_state(explanation)} stays"
        case _ if decision.seq is None:
            return "changed nothing"
        case _:
            return f"was {decision.verdict} as version {decision.version}"


def _state(explanation: Explanation) -> str:
    return f"version {explanation.decision.version}" if explanation.decision.version is not None else "what was there"


def _waiting(explanation: Explanation) -> str:
    decision = explanation.decision
    conflict = next((c for c in explanation.conflicts if c.conflict_id == decision.conflict_id), None)
    if conflict is None:
        return f"was parked whole in conflict {decision.conflict_id}"
    if conflict.is_open:
        return f"waits whole in conflict {conflict.conflict_id} until somebody resolves it"
    by = f" by user {conflict.resolved_by}" if conflict.resolved_by is not None else ""
    return f"waited in conflict {conflict.conflict_id}, which was settled{by} with {conflict.strategy}"


def _reason(explanation: Explanation) -> str:
    decision = explanation.decision
    conflict = explanation.conflicts[0] if explanation.conflicts else None
    text = _REASONS.get(decision.rule, "the rule {rule} says so")
    met = ""
    if conflict is not None and conflict.conflict_type is ConflictType.DELETE and decision.rule in _DELETES:
        text, met = _DELETES[decision.rule], _delete_met(explanation, conflict)
    elif decision.rule == Rule.NO_CHANGE and any(field.fate is not Fate.EQUAL for field in explanation.fields):
        text = _NOTHING_NEW
    elif decision.rule == Rule.PARENT_GONE and decision.operation_type is OperationType.DELETE:
        text = "it has children whose type does not let them lose their parent"
    names = _contended(explanation)
    return text.replace("{clash}", _CLASH).format(
        base=f"its base, version {explanation.base}"
        if explanation.base is not None
        else "its base, which is not known",
        rivals=_rivals(explanation, names),
        fields=_listed(names) if names else "the same fields",
        strategy=_strategy(explanation),
        rule=decision.rule,
        met=met,
    )


def _delete_met(explanation: Explanation, conflict: Conflict) -> str:
    if explanation.decision.operation_type is OperationType.DELETE:
        return f"{_rivals(explanation, conflict.fields)} had edited {_listed(conflict.fields)} since its base"
    deleted = next((s for s in explanation.since if s.operation_type is OperationType.DELETE), None)
    return f"{writer(deleted) if deleted is not None else 'somebody'} had deleted the entity"


def _strategy(explanation: Explanation) -> str:
    if explanation.strategy is None or explanation.source is None:
        return "the strategy in force"
    return f"{explanation.strategy} ({_SOURCES[explanation.source]})"


def _rivals(explanation: Explanation, names: Sequence[str]) -> str:
    """Who else wrote these fields, or where nobody is known to have, who wrote anything."""
    steps = [step for step in explanation.since if not is_own(explanation.decision, step)]
    touching = [step for step in steps if not set(names).isdisjoint(step.fields)]
    writers = list(dict.fromkeys(map(writer, touching or steps)))
    return _listed(writers) if writers else "others"


def _contended(explanation: Explanation) -> list[str]:
    """The fields that the rule of the verdict was about."""
    rule = explanation.decision.rule
    named = [name for conflict in explanation.conflicts if conflict.rule == rule for name in conflict.fields]
    met = [field.name for field in explanation.fields if field.against is not None and field.rule == rule]
    return list(dict.fromkeys((*named, *met)))


def _besides(explanation: Explanation) -> str:
    """Which fields lost or were merged, where the verdict alone does not say so."""
    if explanation.decision.verdict in {Verdict.SUPERSEDED, Verdict.CONFLICT}:
        return ""
    lost = [field.name for field in explanation.fields if field.fate is Fate.LOST]
    merged = [
        field.name for field in explanation.fields if field.fate is Fate.MERGED and field.rule == Rule.FIELD_MERGE
    ]
    if explanation.decision.rule == Rule.FIELD_MERGE:
        merged = []
    parts = [f"its {_listed(names)} {word}" for names, word in ((lost, "lost"), (merged, "was merged")) if names]
    return f"; {' and '.join(parts)}" if parts else ""


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:MAX_NAMES])
    if len(names) > MAX_NAMES:
        shown.append(f"{len(names) - MAX_NAMES} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "nothing"


def _ended(text: str) -> str:
    return f"{text.rstrip('.')}."

"""Explanations for a terminal, wrapped to its width."""

import json
import textwrap
from collections.abc import Iterable, Sequence

from sync_server.conflict.values import ABSENT, equal
from sync_server.explanations.entities import RowExplanation
from sync_server.explanations.operations import Explanation, Fate, Field, is_own
from sync_server.explanations.sentences import sentence, writer
from sync_server.records import Conflict
from sync_server.types import Json, format_id, format_time

MAX_VALUE = 60
"""Characters of a value that are shown; --json has it whole."""


def operation_text(explanation: Explanation, *, width: int) -> str:
    decision = explanation.decision
    lines = [
        _wrapped(sentence(explanation), width),
        "",
        *_table(_facts(explanation), width),
    ]
    if explanation.since:
        lines += ["", "Since its base, newest first", *_since(explanation, width)]
    if explanation.fields:
        lines += ["", "Its fields", *_table(map(_field, explanation.fields), width)]
    if explanation.conflicts:
        rows = [(conflict.conflict_id, _conflict(conflict)) for conflict in explanation.conflicts]
        lines += ["", "Conflicts", *_table(rows, width)]
    if decision.details:
        lines += ["", "Details", _wrapped(_json(decision.details), width, indent=2)]
    return "\n".join(lines)


def _conflict(conflict: Conflict) -> str:
    text = f"{conflict.conflict_type} of {', '.join(conflict.fields) or 'the whole'}, {conflict.rule}"
    if conflict.is_open:
        return f"{text}, open"
    by = (
        f"by user {conflict.resolved_by} with {conflict.strategy}"
        if conflict.resolved_by is not None
        else "by the rule"
    )
    return f"{text}, settled {by}"


def row_text(explanation: RowExplanation, *, width: int) -> str:
    rows = [(finding.state.value, finding.text) for finding in explanation.findings]
    return "\n".join(
        [
            _wrapped(explanation.text, width),
            "",
            *_table(rows, width),
            "",
            _wrapped(explanation.remedy, width),
        ]
    )


def row_view(explanation: RowExplanation) -> Json:
    """The explanation of a row as `--json` prints it."""
    return {
        "entity_type": explanation.key.entity_type,
        "entity_id": format_id(explanation.key.entity_id),
        "user_id": format_id(explanation.user_id),
        "client_id": explanation.client_id,
        "findings": [finding._asdict() for finding in explanation.findings],
        "answer": explanation.answer,
        "version": explanation.version,
        "explanation": explanation.text,
        "remedy": explanation.remedy,
    }


def _facts(explanation: Explanation) -> Iterable[tuple[str, str]]:
    decision = explanation.decision
    yield "operation", decision.operation_id
    yield "sent by", f"user {decision.user_id}, client {decision.client_id or '(none)'}, sync {decision.sync_id}"
    yield (
        "first decided",
        format_time(decision.created_at) + (f", retried {decision.retry_count} times" if decision.retry_count else ""),
    )
    yield "verdict", f"{decision.verdict} by the rule {decision.rule}"
    if decision.error is not None:
        yield "error", f"{decision.error_code}: {decision.error}"
    if explanation.space_id is not None:
        yield "space", explanation.space_id
    if decision.version is not None:
        yield "version", f"{decision.version}" + (f" (seq {decision.seq})" if decision.seq is not None else "")
    if explanation.base is not None:
        yield "base", _base(explanation)
    if explanation.strategy is not None:
        yield "strategy", f"{explanation.strategy}, of the {explanation.source}"


def _base(explanation: Explanation) -> str:
    text = f"version {explanation.base}" if explanation.base else "none, as it creates"
    if explanation.met is not None and explanation.met != explanation.base:
        text += f"; it met version {explanation.met}"
    if explanation.trimmed:
        text += f"; {explanation.trimmed} of the versions between are trimmed from the log"
    return text


def _since(explanation: Explanation, width: int) -> list[str]:
    rows = []
    for step in explanation.since:
        own = ", its own client" if is_own(explanation.decision, step) else ""
        what = ", ".join(step.fields) or "no field"
        when = format_time(step.modified_at)
        who = f"{writer(step)}{own}, {when}"
        text = f"{step.operation_type} of {what} by {who}, {step.rule}, seq {step.seq}, {step.operation_id}"
        rows.append((f"version {step.version}", text))
    if explanation.more:
        rows.append(("", f"and {explanation.more} more before"))
    return _table(rows, width)


def _field(field: Field) -> tuple[str, str]:
    text = field.fate.value
    if field.against is not None:
        word = "to" if field.fate is Fate.LOST else "against"
        text += f" {word} {writer(field.against)}, version {field.against.version}"
    if field.rule is not None:
        text += f" ({field.rule})"
    stored = field.stored if not equal(field.stored, field.sent) else ABSENT
    named = (("base", field.base), ("met", field.met), ("sent", field.sent), ("stored", stored))
    values = [f"{name} {_shown(value)}" for name, value in named if value is not ABSENT]
    return field.name, f"{text}: {', '.join(values)}" if values else text


def _shown(value: object) -> str:
    text = _json(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _table(rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Rows of a name and a text, the texts wrapped beside the names."""
    found = [(name, text) for name, text in rows]
    column = max((len(name) for name, _ in found), default=0) + 4
    lines = []
    for name, text in found:
        head = f"  {name}".ljust(column)
        lines.append(
            textwrap.fill(text, width, initial_indent=head, subsequent_indent=" " * column, break_long_words=False)
        )
    return lines


def _wrapped(text: str, width: int, *, indent: int = 0) -> str:
    margin = " " * indent
    return textwrap.fill(text, width, initial_indent=margin, subsequent_indent=margin, break_long_words=False)

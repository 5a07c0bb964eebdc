"""Why an operation ended as it did: from which base, by which rule, against whom. Pure: see `explain_operation`."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from sync_server.conflict.fields import CHOSEN
from sync_server.conflict.lineage import told_apart
from sync_server.conflict.model import Rule
from sync_server.conflict.values import ABSENT, equal, unwrapped
from sync_server.records import VERSION_STRIDE, Change, Conflict, Decision, Step
from sync_server.types import ClientId, Json, OperationType, SpaceId, Strategy, StrategySource, UserId, Verdict

MAX_SHOWN = 20
"""Versions since the base that an explanation lists."""
_REPAIRS = frozenset({Rule.PARENT_GONE, Rule.PARENT_CYCLE, Rule.PARENT_TOO_DEEP, Rule.UNIQUE_SUFFIX})
_OVER_FIELDS = frozenset({*CHOSEN, Rule.EDIT_WINS, Rule.DELETE_WINS})
"""Rules under which a field that a conflict names, and that is not stored as it was sent, has lost."""


class Fate(StrEnum):
    """What became of one field of an operation."""

    TAKEN = "taken"
    MERGED = "merged"
    """Something of both sides is stored."""
    REPAIRED = "repaired"
    """A constraint put another value in its place."""
    LOST = "lost"
    EQUAL = "equal"
    """What was sent was there already."""
    UNCHANGED = "unchanged"
    """The client sent its base value, so what others wrote stays."""
    PARKED = "parked"
    UNKNOWN = "unknown"
    """What is stored does not tell: the log is trimmed, or what was sent was not kept."""


class Field(NamedTuple):
    """One field that was sent. A value that is not known, or was not there, is ABSENT.

    Attributes:
        against: the newest change of others to the field since the base.
        rule: what settled it; None where nothing had to be settled.
    """

    name: str
    fate: Fate
    rule: str | None
    against: Step | None
    base: object = ABSENT
    met: object = ABSENT
    sent: object = ABSENT
    stored: object = ABSENT


class Evidence(NamedTuple):
    """What the store has of an operation.

    Attributes:
        change: the row of the log that it made, while the log has it.
        met: the row of the log with the state that it met and left, where it made none.
        steps: the changes above its base up to the state it met, newest first, as many as were looked at.
        is_cut: whether there are more of them than were looked at.
        bases: by field, what stood before the earliest of the steps that touched it; `[]` where it was absent.
        conflicts: those it met, the blocking one first.
    """

    decision: Decision
    change: Change | None = None
    changed: Mapping[str, Sequence[object]] = {}
    submitted: Json = {}
    stored: Json = {}
    met: Json | None = None
    steps: tuple[Step, ...] = ()
    is_cut: bool = False
    bases: Mapping[str, Sequence[object]] = {}
    conflicts: tuple[Conflict, ...] = ()
    space_id: SpaceId | None = None
    body: Json | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every version between the base and what the operation met was looked at."""
        base, met = base_of(self), met_version(self)
        if base is None or met is None:
            return False
        return (self.steps[0].version, self.steps[-1].after) == (met, base) if self.steps else met <= base


class Explanation(NamedTuple):
    """Why the verdict is what it is.

    Attributes:
        base: the version that the client built on, 0 for a create; None where it named none.
        met: the version that the operation met; None where it met no entity, as one that was rejected.
        since: the newest versions after the base up to `met`, newest first.
        more: how many further ones the log has.
        trimmed: how many the log no longer has.
        is_withheld: whether the reader may not see what others wrote.
    """

    decision: Decision
    space_id: SpaceId | None
    base: int | None
    met: int | None
    since: tuple[Step, ...]
    more: int
    trimmed: int
    strategy: Strategy | None
    source: StrategySource | None
    fields: tuple[Field, ...]
    conflicts: tuple[Conflict, ...]
    is_withheld: bool = False

    @property
    def rivals(self) -> list[tuple[UserId, ClientId]]:
        """Who else wrote since the base, newest first, as far as listed."""
        return list(dict.fromkeys((s.modified_by, s.client_id) for s in self.since if not is_own(self.decision, s)))


def is_own(decision: Decision, step: Step) -> bool:
    return step.modified_by == decision.user_id and step.client_id == decision.client_id


def explain_operation(evidence: Evidence, *, may_read: bool = True) -> Explanation:
    """What the evidence says; what it does not say is left open, never guessed.

    Args:
        may_read: whether who asks may still read the space: if not, nothing of what others wrote is in the answer.
    """
    decision = evidence.decision
    base, met = base_of(evidence), met_version(evidence)
    total = _count_since(evidence, base, met)
    since = evidence.steps[:MAX_SHOWN]
    trimmed = total - len(evidence.steps) if not evidence.is_cut else 0
    hidden = not may_read and (met is not None or decision.seq is not None)
    was_asked = decision.verdict is not Verdict.REJECTED  # which keeps its request's for a retry alone
    return Explanation(
        decision,
        evidence.space_id,
        base,
        None if hidden else met,
        () if hidden else since,
        0 if hidden else total - trimmed - len(since),
        0 if hidden else trimmed,
        decision.strategy if was_asked else None,
        decision.strategy_source if was_asked else None,
        () if hidden else _fields(evidence),
        () if hidden else evidence.conflicts,
        is_withheld=hidden,
    )


def _count_since(evidence: Evidence, base: int | None, met: int | None) -> int:
    """How many versions there are from the base to what was met; of another epoch's base, as many as were found."""
    if base is None or met is None or met <= base:
        return 0
    return met - base if base // VERSION_STRIDE == met // VERSION_STRIDE else len(evidence.steps)


def met_version(evidence: Evidence) -> int | None:
    """The version that the operation met; 0 where the entity was not there."""
    decision = evidence.decision
    if decision.verdict is Verdict.REJECTED or decision.entity_id is None:
        return None
    if decision.version is None:
        return 0 if decision.operation_type is OperationType.CREATE else None
    if decision.seq is None:
        return decision.version
    if evidence.change is not None and evidence.change.after_version is not None:
        return evidence.change.after_version
    return decision.version - 1 if decision.version % VERSION_STRIDE != 1 or decision.version == 1 else None


def base_of(evidence: Evidence) -> int | None:
    """The base version, also of a verdict from before it was stored, where something tells it."""
    decision = evidence.decision
    if decision.base_version is not None or decision.operation_type is OperationType.RESOLVE:
        return decision.base_version
    if decision.operation_type is OperationType.CREATE:
        return 0
    if decision.rule == Rule.SAME_VERSION:
        return met_version(evidence)
    if evidence.conflicts and evidence.conflicts[0].client_version:
        return evidence.conflicts[0].client_version
    named = evidence.body.get("before_version") if evidence.body is not None else None
    return named if isinstance(named, int) else None


# --- fields --------------------------------------------------------------------------------------------------------


def _fields(evidence: Evidence) -> tuple[Field, ...]:
    decision = evidence.decision
    if decision.verdict is Verdict.REJECTED or decision.operation_type is OperationType.DELETE:
        return ()
    names = decision.sent
    if not names:
        parked = evidence.conflicts[0].client_data if evidence.conflicts else {}
        names = tuple(parked or {**evidence.changed, **evidence.submitted})
    return tuple(_field(evidence, name) for name in names)


def _field(evidence: Evidence, name: str) -> Field:
    conflict = next((c for c in evidence.conflicts if name in c.fields), None)
    rival = next((s for s in _rivals(evidence) if name in s.fields), None)
    values = _Values(
        _base(evidence, name, conflict), _met(evidence, name), _sent(evidence, name), _stored(evidence, name)
    )
    fate = _fate(evidence, name, conflict, rival, values)
    against = _opponent(evidence, conflict, rival, fate)
    return Field(name, fate, _rule(evidence, fate, conflict, against), against, *values)


class _Values(NamedTuple):
    base: object
    met: object
    sent: object
    stored: object


def _base(evidence: Evidence, name: str, conflict: Conflict | None) -> object:
    if conflict is not None and name in conflict.base:
        return conflict.base[name]
    if name in evidence.bases:
        return unwrapped(evidence.bases[name])
    if evidence.is_cut or base_of(evidence) is None or not evidence.is_whole:
        return ABSENT
    return _met(evidence, name)


def _met(evidence: Evidence, name: str) -> object:
    if name in evidence.changed:
        return unwrapped(evidence.changed[name])
    if evidence.change is not None:
        return evidence.stored.get(name, ABSENT)
    if evidence.met is not None:
        return evidence.met.get(name, ABSENT)
    return evidence.conflicts[0].server_data.get(name, ABSENT) if evidence.conflicts else ABSENT


def _sent(evidence: Evidence, name: str) -> object:
    if evidence.conflicts and name in evidence.conflicts[0].client_data:
        return evidence.conflicts[0].client_data[name]
    if name in evidence.submitted:
        return evidence.submitted[name]
    return evidence.stored.get(name, ABSENT) if evidence.change is not None else ABSENT


def _stored(evidence: Evidence, name: str) -> object:
    return evidence.stored.get(name, ABSENT) if evidence.change is not None else _met(evidence, name)


def _fate(evidence: Evidence, name: str, conflict: Conflict | None, rival: Step | None, values: _Values) -> Fate:
    if evidence.decision.verdict is Verdict.CONFLICT:
        return Fate.PARKED
    if evidence.change is None:
        return _fate_without_change(evidence, name, conflict, rival)
    if name not in evidence.submitted:
        return Fate.TAKEN if name in evidence.changed else Fate.EQUAL
    if conflict is not None and conflict.rule in _REPAIRS:
        return Fate.REPAIRED
    return Fate.MERGED if name in evidence.changed else _fate_of_what_stayed(evidence, name, conflict, values)


def _fate_of_what_stayed(evidence: Evidence, name: str, conflict: Conflict | None, values: _Values) -> Fate:
    """Another value was sent than is stored, and the operation did not change what was there."""
    if conflict is not None and conflict.rule in _OVER_FIELDS:
        return Fate.LOST
    has_own = any(s.sent(name) for s in set(evidence.steps).difference(_rivals(evidence)))
    if has_own or not evidence.is_whole:  # the base is what the client itself last sent of it
        return Fate.UNKNOWN
    return Fate.UNCHANGED if equal(values.sent, values.base) else Fate.MERGED


def _fate_without_change(evidence: Evidence, name: str, conflict: Conflict | None, rival: Step | None) -> Fate:
    decision = evidence.decision
    if decision.seq is not None:  # it made a change, which is trimmed
        return Fate.UNKNOWN
    if conflict is not None:
        return Fate.LOST
    if decision.rule != Rule.FIELD_MERGE:
        # what was sent is not stored: it was there already, or it is what the client had when others wrote
        is_open = base_of(evidence) is not None and not evidence.is_whole
        return Fate.UNKNOWN if is_open or any(s.sent(name) for s in evidence.steps) else Fate.EQUAL
    if rival is None:
        return Fate.EQUAL if evidence.is_whole else Fate.UNKNOWN
    # what was sent is not stored: of several fields that others wrote, only one need have been merged
    met = [name for name in decision.sent or () if any(name in s.fields for s in _rivals(evidence))]
    return Fate.MERGED if len(met) == 1 else Fate.UNKNOWN


def _rivals(evidence: Evidence) -> list[Step]:
    """What the engine took for the rivals of the operation, newest first."""
    _, rivals = told_apart(reversed(evidence.steps), partial(is_own, evidence.decision))
    return rivals[::-1]


def _opponent(evidence: Evidence, conflict: Conflict | None, rival: Step | None, fate: Fate) -> Step | None:
    """Whom the field met: who deleted the entity where that is what it met, else who wrote the field last."""
    if fate in {Fate.EQUAL, Fate.REPAIRED, Fate.UNKNOWN}:
        return None
    if conflict is not None and conflict.conflict_type.value == "delete" and rival is None:
        return next((s for s in evidence.steps if s.operation_type is OperationType.DELETE), None)
    return rival


def _rule(evidence: Evidence, fate: Fate, conflict: Conflict | None, against: Step | None) -> str | None:
    if fate in {Fate.EQUAL, Fate.UNCHANGED, Fate.UNKNOWN}:
        return None
    if conflict is not None:
        return conflict.rule
    if fate is Fate.MERGED or (fate is Fate.TAKEN and against is not None):
        return Rule.FIELD_MERGE.value
    return Rule.DISJOINT.value if evidence.decision.verdict is Verdict.MERGED else evidence.decision.rule

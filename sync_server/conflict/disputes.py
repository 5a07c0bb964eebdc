"""The conflicts that are put on record, so that no value and no intent is lost without a trace (promise P8)."""

from collections.abc import Iterable, Sequence

from schema.entity import EntitySpec
from schema.policy import Merge
from sync_server.conflict.fields import CHOSEN, Settlement
from sync_server.conflict.lineage import Lineage
from sync_server.conflict.model import Dispute, Rule
from sync_server.conflict.values import ABSENT
from sync_server.types import ConflictType, Strategy

_KEEP_BOTH = frozenset({Merge.TEXT, Merge.SET, Merge.ORDERED_LIST})


def field_disputes(kind: ConflictType, settlements: Sequence[Settlement], spec: EntitySpec) -> tuple[Dispute, ...]:
    """One dispute for each rule under which a side may have lost; of parked fields, only the open one."""
    rules = [rule for rule in CHOSEN if any(s.rule is rule for s in settlements)]
    if Rule.MANUAL in rules:
        rules = [Rule.MANUAL]
    return tuple(_dispute(kind, [s for s in settlements if s.rule is rule], rule, spec) for rule in rules)


def delete_dispute(names: Iterable[str], line: Lineage, rule: Rule, spec: EntitySpec) -> Dispute:
    """A delete met an edit of these fields. Under `manual` it is open."""
    base = {name: line.base(name) for name in names}
    known = {name: value for name, value in base.items() if value is not ABSENT}
    suggested = suggested_strategy(base, spec)
    return Dispute(ConflictType.DELETE, tuple(base), known, rule, suggested, is_open=rule is Rule.MANUAL)


def suggested_strategy(names: Iterable[str], spec: EntitySpec) -> Strategy:
    """What a person is offered first: keeping both where that works for every field, else the type's own way."""
    policies = {spec.merge.get(name, Merge.ESCALATE) for name in names}
    if policies and policies <= _KEEP_BOTH:
        return Strategy.MERGE
    return Strategy.LATEST_WINS if spec.strategy is Strategy.MANUAL else spec.strategy


def _dispute(kind: ConflictType, settlements: Sequence[Settlement], rule: Rule, spec: EntitySpec) -> Dispute:
    names = tuple(s.name for s in settlements)
    base = {s.name: s.base for s in settlements if s.base is not ABSENT}
    return Dispute(kind, names, base, rule, suggested_strategy(names, spec), is_open=rule is Rule.MANUAL)

"""The fields of a stale attempt, each settled by its policy, and what that leaves to the strategy by that."""

from typing import NamedTuple, assert_never

from schema.entity import EntitySpec
from schema.policy import Merge
from sync_server.conflict.lineage import Lineage
from sync_server.conflict.merge import IN_CONFLICT, join_field, merge_field
from sync_server.conflict.model import Attempt, Rule
from sync_server.conflict.stamps import Stamp
from sync_server.conflict.values import ABSENT, equal
from sync_server.types import Json, OperationType, Strategy

CHOSEN = (
    Rule.MANUAL,
    Rule.SERVER_WINS,
    Rule.CLIENT_WINS,
    Rule.LATEST_WINS,
    Rule.MERGE,
    Rule.LAST_WRITER,
)
"""The rules under which a side may lose, so that a dispute is recorded; the one that names an outcome first."""


class Settlement(NamedTuple):
    """What becomes of one field, and by which rule: `disjoint_fields` where the client's value simply stands."""

    name: str
    base: object
    value: object
    rule: Rule

    def is_lost_to(self, server: Json) -> bool:
        """Whether the client's write met another one and nothing of it is left to store."""
        met = self.rule is Rule.FIELD_MERGE or self.rule in CHOSEN
        return met and equal(self.value, server.get(self.name, ABSENT))


class _Sides(NamedTuple):
    base: object
    server: object
    client: object


def settle_fields(attempt: Attempt, line: Lineage, spec: EntitySpec, stamp: Stamp) -> tuple[Settlement, ...]:
    """One settlement for each field of the attempt, in its order. Under `manual` the value is the server's."""
    return tuple(_settle(name, attempt, line, spec, stamp) for name in attempt.fields)


def fits(spec: EntitySpec, name: str, value: object) -> bool:
    """Whether a value that no client sent is one that a client could send."""
    try:
        spec.validate_changes({name: value})
    except ValueError:
        return False
    return True


def _settle(name: str, attempt: Attempt, line: Lineage, spec: EntitySpec, stamp: Stamp) -> Settlement:
    policy = spec.merge.get(name, Merge.ESCALATE)
    sides = _Sides(line.base(name), line.entity.data.get(name, ABSENT), attempt.fields[name])
    is_contended = line.is_contended(name)
    adds_up = policy is Merge.COUNTER and is_contended and attempt.operation_type is OperationType.UPDATE
    if equal(sides.client, sides.base) or (equal(sides.client, sides.server) and not (adds_up and line.has_base)):
        return Settlement(name, sides.base, sides.server, Rule.NO_CHANGE)
    if sides.server is ABSENT or not is_contended:
        return Settlement(name, sides.base, sides.client, Rule.DISJOINT)
    merged = merge_field(policy, *sides) if line.has_base else IN_CONFLICT
    if merged is not IN_CONFLICT and fits(spec, name, merged):
        return Settlement(name, sides.base, merged, Rule.FIELD_MERGE)
    is_later = stamp > line.rival_stamp(name)
    if policy is Merge.LAST_WRITER and line.has_base:
        return Settlement(name, sides.base, sides.client if is_later else sides.server, Rule.LAST_WRITER)
    strategy = attempt.strategy if attempt.strategy is not None else spec.strategy
    value = chosen_value(strategy, spec, name, *sides, is_later=is_later)
    return Settlement(name, sides.base, value, Rule(strategy.value))


def chosen_value(
    strategy: Strategy, spec: EntitySpec, name: str, base: object, server: object, client: object, *, is_later: bool
) -> object:
    """The value that a strategy takes where the policy could not; `manual` leaves the server's."""
    match strategy:
        case Strategy.SERVER_WINS | Strategy.MANUAL:
            return server
        case Strategy.CLIENT_WINS:
            return client
        case Strategy.LATEST_WINS:
            return client if is_later else server
        case Strategy.MERGE:
            joined = join_field(spec.merge.get(name, Merge.ESCALATE), base, server, client)
            if joined is not IN_CONFLICT and fits(spec, name, joined):
                return joined
            return client if is_later else server
        case _:
            assert_never(strategy)

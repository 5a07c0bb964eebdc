"""The vocabulary in which an entity type says how it merges: annotations on its fields, rules on its class."""

from dataclasses import dataclass
from enum import StrEnum

from sync_server.types import EntityType, Strategy


class Merge(StrEnum):
    """How a field that both sides changed since their common base becomes one value.

    A policy that keeps both sides' intent (`TEXT`, `SET`, `COUNTER`, `MAX`, `ORDERED_LIST`) settles the field
    without a conflict. `LAST_WRITER` settles it at once and records what lost. `ESCALATE`, the default, and a text
    whose edits overlap leave it to the strategy of the operation.
    """

    ESCALATE = "escalate"
    LAST_WRITER = "last_writer"
    TEXT = "text"
    SET = "set"
    COUNTER = "counter"
    MAX = "max"
    ORDERED_LIST = "ordered_list"


class DeletePolicy(StrEnum):
    """Which side of a delete against a concurrent edit stays, unless the operation names a strategy that decides it."""

    EDIT_WINS = "edit_wins"
    DELETE_WINS = "delete_wins"


class OnConstraint(StrEnum):
    """What happens when a parent is gone or too deep, a cycle would close or a unique value is taken."""

    REPAIR = "repair"
    """Re-parent to the root, or suffix the last unique field; recorded as a settled conflict."""
    PARK = "park"
    """The operation waits whole in an open conflict."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Annotates a field that holds the id of another entity, its parent, in the same space."""

    entity_type: str
    on_gone: OnConstraint = OnConstraint.REPAIR


@dataclass(frozen=True, slots=True)
class Unique:
    """No two live entities of a space have the same values in `fields`; the last one takes a suffix on repair."""

    fields: tuple[str, ...]
    on_clash: OnConstraint = OnConstraint.REPAIR


@dataclass(frozen=True, slots=True)
class Rules:
    """What the type as a whole says: its wire name and the defaults of its conflicts."""

    entity_type: EntityType
    strategy: Strategy = Strategy.LATEST_WINS
    deletes: DeletePolicy = DeletePolicy.EDIT_WINS
    unique: tuple[Unique, ...] = ()

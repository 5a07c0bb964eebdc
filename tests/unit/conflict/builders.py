"""Values for the tests of the conflict engine: each test names what matters to it and leaves the rest."""

from typing import Annotated, Any

from schema.entities import Folder, Note, Review
from schema.entity import EntityIdField, EntityModel, EntitySpec, entity_spec
from schema.policy import DeletePolicy, Merge, OnConstraint, Reference, Rules, Unique
from sync_server.conflict.decide import decide
from sync_server.conflict.model import Attempt, Outcome, Revision, Rule, Surroundings
from sync_server.records import Conflict, Entity, EntityKey
from sync_server.types import ConflictType, EntityType, OperationType, Strategy

NOW = 10_000


class Card(EntityModel):
    """One field of each policy."""

    rules = Rules(EntityType("card"))

    title: str = ""
    color: Annotated[str, Merge.LAST_WRITER] = ""
    likes: Annotated[int, Merge.COUNTER] = 0
    best: Annotated[int, Merge.MAX] = 0
    tags: Annotated[list[str], Merge.SET] = []
    steps: Annotated[list[str], Merge.ORDERED_LIST] = []
    body: Annotated[str, Merge.TEXT] = ""


class Shelf(EntityModel):
    """Parks where a folder repairs; its deletes win."""

    rules = Rules(
        EntityType("shelf"),
        strategy=Strategy.SERVER_WINS,
        deletes=DeletePolicy.DELETE_WINS,
        unique=(Unique(("parent_id", "name"), OnConstraint.PARK),),
    )

    name: str = ""
    parent_id: Annotated[EntityIdField | None, Merge.LAST_WRITER, Reference("shelf", OnConstraint.PARK)] = None


CARD, SHELF, NOTE, FOLDER, REVIEW = map(entity_spec, (Card, Shelf, Note, Folder, Review))
SPECS = {spec.entity_type: spec for spec in (CARD, SHELF, NOTE, FOLDER, REVIEW)}
ALONE = Surroundings(entities={}, claims={})


def an_entity(data: dict[str, Any], version: int = 3, spec: EntitySpec = CARD, **changes: Any) -> Entity:
    entity = Entity(spec.entity_type, "1", "s", version, data, False, 1_000, 5_000, "owner", 1, version)
    return entity._replace(**changes)


def an_update(fields: dict[str, Any], before: int | None = 3, spec: EntitySpec = CARD, **changes: Any) -> Attempt:
    attempt = Attempt(
        "op-1", OperationType.UPDATE, spec.entity_type, "1", "s", fields, before, None, 6_000, "anna", "phone"
    )
    return attempt._replace(**changes)


def a_create(fields: dict[str, Any], spec: EntitySpec = CARD, **changes: Any) -> Attempt:
    return an_update(fields, None, spec, operation_type=OperationType.CREATE, **changes)


def a_delete(before: int | None = 3, spec: EntitySpec = CARD, **changes: Any) -> Attempt:
    return an_update({}, before, spec, operation_type=OperationType.DELETE, **changes)


def a_revision(version: int, data: dict[str, Any], previous: dict[str, list[Any]], **changes: Any) -> Revision:
    """Of another client, at second `version`."""
    at = version * 1_000
    revision = Revision(
        version, OperationType.UPDATE, data, previous, {}, at, at, "bert", "tablet", Rule.SAME_VERSION, version - 1
    )
    return revision._replace(**changes)


def mine(revision: Revision) -> Revision:
    """By the client of the attempts, merged with what it had not seen."""
    return revision._replace(user_id="anna", client_id="phone", rule=Rule.FIELD_MERGE)


def a_parent(entity_id: str, spec: EntitySpec = FOLDER, parent: Any = None, **changes: Any) -> Entity:
    data = {"name": entity_id, "parent_id": parent}
    return an_entity(data, spec=spec, entity_id=entity_id, **changes)


def among(*entities: Entity, claims: Any = None, children: tuple[Entity, ...] = ()) -> Surroundings:
    found = {EntityKey(entity.entity_type, entity.entity_id): entity for entity in entities}
    return Surroundings(found, claims if claims is not None else {}, children, SPECS)


def decided(attempt: Attempt, entity: Entity | None, *history: Revision, surroundings: Surroundings = ALONE) -> Outcome:
    return decide(attempt, entity, history, SPECS[attempt.entity_type], surroundings, now=NOW)


def a_conflict(client_data: dict[str, Any], server_data: dict[str, Any], **changes: Any) -> Conflict:
    """An open content conflict about a card."""
    conflict = Conflict(
        "c1", ConflictType.CONTENT, "s", "card", "1", "op-1", OperationType.UPDATE, "anna", "phone", "sync-1",
        tuple(client_data), "manual", Strategy.LATEST_WINS, {}, 3, server_data, 5_000, "bert", 2, client_data, 6_000,
        7_000, True, None, None, None, None,
    )  # fmt: skip
    return conflict._replace(**changes)

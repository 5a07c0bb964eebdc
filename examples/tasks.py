"""Entity types of one's own: a task list, each field with the way it merges.

Serve them with `SYNC_ENTITY_TYPES=examples.tasks sync-server serve`.
"""

from typing import Annotated

from pydantic import Field

from schema.entity import EntityIdField, EntityModel
from schema.policy import DeletePolicy, Merge, OnConstraint, Reference, Rules, Unique
from sync_server.types import EntityType, Strategy


class Project(EntityModel):
    """A list of tasks, named by a slug that no two projects of a space share."""

    rules = Rules(
        EntityType("project"),
        # a slug is part of links: a clash waits for a person, it is never renamed behind their back
        unique=(Unique(("slug",), on_clash=OnConstraint.PARK),),
    )

    slug: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    title: Annotated[str, Field(max_length=200)] = ""


class Task(EntityModel):
    """Something to do."""

    rules = Rules(EntityType("task"), strategy=Strategy.MANUAL, deletes=DeletePolicy.DELETE_WINS)

    title: Annotated[str, Field(min_length=1, max_length=200)]
    notes: Annotated[str, Field(max_length=20_000), Merge.TEXT] = ""
    project_id: Annotated[EntityIdField | None, Merge.LAST_WRITER, Reference("project", on_gone=OnConstraint.PARK)] = (
        None
    )
    labels: Annotated[list[str], Field(max_length=50), Merge.SET] = []
    steps: Annotated[list[str], Field(max_length=100), Merge.ORDERED_LIST] = []
    seconds_spent: Annotated[int, Merge.COUNTER] = 0
    done_until_step: Annotated[int, Merge.MAX] = 0


ENTITY_TYPES = (Project, Task)

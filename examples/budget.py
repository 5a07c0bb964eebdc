"""A budget that several people spend from, also offline: what was spent adds up, whoever spent it."""

from typing import Annotated

from pydantic import Field

from schema.entity import EntityModel
from schema.policy import Merge, Rules
from sync_server.types import EntityType


class Budget(EntityModel):
    rules = Rules(EntityType("budget"))

    name: Annotated[str, Field(max_length=100)]
    spent: Annotated[int, Merge.COUNTER] = 0


ENTITY_TYPES = (Budget,)

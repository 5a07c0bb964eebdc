"""The entity types of the T3 contract: notes, folders and daily reviews."""

from typing import Annotated

from pydantic import Field

from schema.entity import EntityIdField, EntityModel
from schema.policy import Merge, Reference, Rules, Unique
from sync_server.types import EntityType

Title = Annotated[str, Field(max_length=1_000)]
Text = Annotated[str, Field(max_length=200_000)]
Label = Annotated[str, Field(min_length=1, max_length=200)]


class Note(EntityModel):
    """A text with a title, in a folder or at the root."""

    rules = Rules(EntityType("note"))

    title: Title = ""
    content: Annotated[Text, Merge.TEXT] = ""
    folder_id: Annotated[EntityIdField | None, Merge.LAST_WRITER, Reference("folder")] = None
    book_id: Annotated[EntityIdField | None, Merge.LAST_WRITER] = None
    tags: Annotated[list[Label], Field(max_length=200), Merge.SET] = []
    is_pinned: Annotated[bool, Merge.LAST_WRITER] = False


class Folder(EntityModel):
    """A named place for notes and other folders; names differ within a parent."""

    rules = Rules(EntityType("folder"), unique=(Unique(("parent_id", "name")),))

    name: Annotated[str, Field(min_length=1, max_length=255)]
    parent_id: Annotated[EntityIdField | None, Merge.LAST_WRITER, Reference("folder")] = None


class Review(EntityModel):
    """A look back on one day."""

    rules = Rules(EntityType("review"))

    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    content: Annotated[Text, Merge.TEXT] = ""
    mood: Annotated[str | int | None, Merge.LAST_WRITER] = None
    achievements: Annotated[list[Text], Field(max_length=200), Merge.ORDERED_LIST] = []
    improvements: Annotated[list[Text], Field(max_length=200), Merge.ORDERED_LIST] = []
    plans: Annotated[list[Text], Field(max_length=200), Merge.ORDERED_LIST] = []


ENTITY_TYPES: tuple[type[EntityModel], ...] = (Note, Folder, Review)

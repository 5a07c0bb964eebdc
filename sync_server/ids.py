"""Integer ids of entities, handed out from blocks that are reserved in the database."""

from collections.abc import Iterator

from sync_server.stores.writer import Writer
from sync_server.types import EntityId, EntityType

BLOCK = 1_000


class IdBlocks:
    """The next integer id of each entity type. Used by the committer's thread alone.

    A block is reserved in the transaction that first needs it; when that one rolls back, call `forget`. Ids of a block
    that a crash or a rollback leaves behind are never used.
    """

    def __init__(self) -> None:
        self._blocks: dict[EntityType, Iterator[int]] = {}

    def next_id(self, writer: Writer, entity_type: EntityType) -> EntityId:
        number = next(self._blocks.get(entity_type, iter(())), None)
        if number is None:
            number = writer.reserve_ids(entity_type, BLOCK)
            self._blocks[entity_type] = iter(range(number + 1, number + BLOCK))
        return EntityId(str(number))

    def forget(self) -> None:
        self._blocks.clear()

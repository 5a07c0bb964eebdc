"""Integer ids of entities, handed out from blocks that are reserved in the database."""

from sync_server.stores.writer import Writer
from sync_server.types import EntityId, EntityType

BLOCK = 1_000


class IdBlocks:
    """The next integer id of each entity type. Used by the committer's thread alone.

    A block is reserved in the transaction that first needs it; when that one rolls back, call `forget`. Ids of a block
    that a crash or a rollback leaves behind are never used.
    """

    def __init__(self) -> None:
        self._blocks: dict[EntityType, range] = {}

    def next_id(self, writer: Writer, entity_type: EntityType) -> EntityId:
        block = self._blocks.get(entity_type, range(0))
        if not block:
            first = writer.reserve_ids(entity_type, BLOCK)
            block = range(first, first + BLOCK)
        self._blocks[entity_type] = block[1:]
        return EntityId(str(block[0]))

    def forget(self) -> None:
        self._blocks.clear()

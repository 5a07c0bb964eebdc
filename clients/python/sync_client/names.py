"""Where a plain server made ids of its own: what names an entity by the id that it was made under gets the server's."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from sync_client.frames import Result
from sync_client.shown import Before, redraw
from sync_client.stores.port import Tables
from sync_client.values import Key, Operation, OperationType, WireId, format_id

_ANY_TYPE = ""
"""Fields do not say of which type what they refer to is: the alias of an id that this package made, which is no other
text, is kept under its type and under this one."""
_MADE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def rename(tables: Tables, results: Sequence[Result], known: Mapping[str, Operation]) -> bool:
    """Where the server made ids of its own: what names the entities here is told the new ones.

    Args:
        known: the operations of the results that are in the queue.

    Returns:
        Whether there were any.
    """
    names = {
        known[result.operation_id].key: result.key
        for result in results
        if result.success and result.operation_id in known and result.key is not None
        if result.key != known[result.operation_id].key
    }
    if not names:
        return False
    queue = tables.queue(after=0, limit=None)
    ids = {made.entity_id: format_id(named.entity_id) for made, named in names.items() if _is_made_here(made)}
    renamed = [(old, new) for old in queue if (new := _with_ids(old, names, ids)) != old]
    before = Before(tables, list(dict.fromkeys(key for old, new in renamed for key in (old.key, new.key))))
    for made, named in names.items():
        tables.save_alias(made, named)
        if _is_made_here(made):
            tables.save_alias(made._replace(entity_type=_ANY_TYPE), named._replace(entity_type=_ANY_TYPE))
    tables.replace_operations([new for _, new in renamed])
    quarantined = tables.quarantined()
    mended = with_known_names(tables, [one.operation for one in quarantined])
    tables.quarantine(
        msgspec.structs.replace(one, operation=operation)
        for one, operation in zip(quarantined, mended, strict=True)
        if operation != one.operation
    )
    redraw(tables, before, before.rows, "remote")
    return True


def _with_ids(operation: Operation, names: Mapping[Key, Key], ids: Mapping[str, WireId]) -> Operation:
    entity_id = names.get(operation.key, operation.key).entity_id
    return msgspec.structs.replace(operation, entity_id=entity_id, fields=replaced(operation.fields, ids))


def _is_made_here(key: Key) -> bool:
    return _MADE_ID.fullmatch(key.entity_id) is not None


def known_ids(tables: Tables, values: Sequence[Any]) -> dict[str, WireId]:
    """What the server calls those of the texts that are ids it replaced."""
    texts = {Key(_ANY_TYPE, text) for text in _texts(values) if _MADE_ID.fullmatch(text)}
    found = tables.aliases(texts) if texts else {}
    return {made.entity_id: format_id(named.entity_id) for made, named in found.items()}


def with_known_names(tables: Tables, operations: Sequence[Operation]) -> Sequence[Operation]:
    names = _known_names(tables, operations)
    ids = known_ids(tables, [one.fields for one in operations])
    return [_with_known_name(one, names, ids) for one in operations] if names or ids else operations


def _known_names(tables: Tables, operations: Sequence[Operation]) -> dict[Key, Key]:
    """What the server calls the entities of operations; an id that was used again for another one means that."""
    keys = {one.key for one in operations} - {
        one.key for one in operations if one.operation_type is OperationType.CREATE
    }
    names = tables.aliases(keys) if keys else {}
    used_again = {*tables.pending(names), *tables.rows(names)} if names else set()
    return {made: named for made, named in names.items() if made not in used_again}


def _with_known_name(operation: Operation, names: Mapping[Key, Key], ids: Mapping[str, WireId]) -> Operation:
    """Also based on what the create made, if it was written on top of that."""
    new = _with_ids(operation, names, ids)
    is_on_create = new.entity_id != operation.entity_id and operation.before_version == 0
    return msgspec.structs.replace(new, before_version=1) if is_on_create else new


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for one in value:
                yield from _texts(one)
        case dict():
            yield from _texts(list(value.values()))


def replaced(value: Any, ids: Mapping[str, WireId]) -> Any:
    match value:
        case str():
            return ids.get(value, value)
        case list():
            return [replaced(one, ids) for one in value]
        case dict():
            return {name: replaced(one, ids) for name, one in value.items()}
        case _:
            return value

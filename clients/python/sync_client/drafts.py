"""What an application sees of an entity: the server's row with the pending operations on top, in their order."""

from collections.abc import Iterable

import msgspec

from sync_client.values import Draft, Json, Key, Operation, OperationType, Row, format_id

_encode = msgspec.json.Encoder().encode


def overlaid(shown: Json | None, operation: Operation) -> Json | None:
    """What is shown once the operation is on top of what was shown; None is nothing.

    >>> operation = Operation(operation_id="1", operation_type=OperationType.UPDATE, entity_type="note",
    ...                       entity_id="a", timestamp="", fields={"title": "new"})
    >>> overlaid({"id": "a", "title": "old", "content": "x"}, operation)
    {'id': 'a', 'title': 'new', 'content': 'x'}
    """
    match operation.operation_type:
        case OperationType.CREATE:
            return {"id": format_id(operation.entity_id), **(operation.fields or {})}
        case OperationType.UPDATE:
            return {**shown, **(operation.fields or {})} if shown is not None else None
        case OperationType.DELETE:
            return None
        case OperationType.RESOLVE:
            if operation.shows_nothing:
                return None
            return (
                {**(shown or {"id": format_id(operation.entity_id)}), **operation.shown} if operation.shown else shown
            )
        case OperationType.READ:
            return shown


def drawn(key: Key, row: Row | None, operations: Iterable[Operation]) -> Draft:
    """The draft of an entity from its row and its pending operations."""
    shown = decoded(row.data) if row is not None else None
    space_id = row.space_id if row is not None else None
    for operation in operations:
        shown = overlaid(shown, operation)
        space_id = operation.space_id or space_id
    return Draft(key, space_id, encoded(shown))


def decoded(text: str | None) -> Json | None:
    if text is None:
        return None
    data: Json = msgspec.json.decode(text)
    return data


def encoded(data: Json | None) -> str | None:
    return _encode(data).decode() if data is not None else None

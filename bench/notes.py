"""The notes that benchmarks write: the same sizes on the wire, in the database and in the raw work."""

import json
from collections.abc import Sequence

from bench.peers import masked

_WORDS = "the quick brown fox jumps over the lazy dog and goes home to write it all down "
CONTENT = (_WORDS * 3)[:200]
"""With the title and the wire's names around it, a change of some 500 bytes."""


def note(number: int) -> dict[str, object]:
    return {"title": f"Note number {number}", "content": CONTENT}


def create(number: int) -> dict[str, object]:
    return {
        "operation_id": f"op_{number}", "operation_type": "create", "entity_type": "note", "data": note(number),
    }  # fmt: skip


def sync_frame(
    client_id: str, operations: Sequence[dict[str, object]], cursor: str | None = None, **request: object
) -> bytes:
    """A request; without a cursor its reply tells a page of everything, as to a client that has nothing."""
    state = {"cursor": cursor} if cursor is not None else {}
    data = {"client_id": client_id, "operations": list(operations), "client_state": state, **request}
    return masked(json.dumps({"type": "sync", "message_id": "m", "data": data}, separators=(",", ":")).encode())


def create_frames(client_id: str, cursor: str, frames: int, *, each: int, first: int = 0) -> list[bytes]:
    """Frames that create `each` notes, every note and operation with a number of its own."""
    return [
        sync_frame(client_id, [create(first + frame * each + index) for index in range(each)], cursor)
        for frame in range(frames)
    ]

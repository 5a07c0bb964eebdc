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


def sync_frame(client_id: str, operations: Sequence[dict[str, object]], **request: object) -> bytes:
    data = {"client_id": client_id, "operations": list(operations), **request}
    return masked(json.dumps({"type": "sync", "message_id": "m", "data": data}, separators=(",", ":")).encode())


def create_frames(client_id: str, frames: int, *, each: int, first: int = 0) -> list[bytes]:
    """Frames that create `each` notes, every note and operation with a number of its own."""
    return [
        sync_frame(client_id, [create(first + frame * each + index) for index in range(each)])
        for frame in range(frames)
    ]

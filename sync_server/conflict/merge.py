"""One field, three sides: what the field's policy makes of two changes of one value."""

from collections.abc import Callable, Hashable
from enum import Enum
from math import isfinite
from typing import Final

from schema.policy import Merge
from sync_server.conflict.alignment import NO_PARTNER, align
from sync_server.conflict.diff3 import hunks
from sync_server.conflict.text import merge_text, merge_text_without_base
from sync_server.conflict.values import ABSENT, equal, fingerprint


class Unsettled(Enum):
    IN_CONFLICT = "in conflict"


IN_CONFLICT: Final = Unsettled.IN_CONFLICT
"""The policy cannot make one value of the two; somebody has to choose."""


def merge_field(policy: Merge, base: object, server: object, client: object) -> object:
    """The value that holds both changes, or IN_CONFLICT. Never raises: a value of a wrong type is in conflict.

    Any side may be ABSENT. A counter adds up even where both sides arrived at the same number: two clients that each
    counted one have counted two.
    """
    if policy is Merge.COUNTER:
        return _counter(base, server, client)
    if equal(client, base) or equal(client, server):
        return server
    merged = _POLICIES.get(policy)
    return IN_CONFLICT if merged is None else merged(base, server, client)


def join_field(policy: Merge, base: object, server: object, client: object) -> object:
    """The value that keeps both sides where `merge_field` cannot, or IN_CONFLICT where one value has no room for both.

    Texts and lists keep both sides of each overlap, the server's first. Without a base (ABSENT) what the two sides
    share is there once.
    """
    if policy is Merge.TEXT and isinstance(server, str) and isinstance(client, str):
        return (
            merge_text(base, server, client).text if isinstance(base, str) else merge_text_without_base(server, client)
        )
    if policy is Merge.ORDERED_LIST and isinstance(server, list) and isinstance(client, list):
        return _joined_list(base if isinstance(base, list) else _shared(server, client), server, client)
    return merge_field(policy, base, server, client) if policy in _JOINABLE else IN_CONFLICT


def _text(base: object, server: object, client: object) -> object:
    base = "" if base is ABSENT else base
    if not (isinstance(base, str) and isinstance(server, str) and isinstance(client, str)):
        return IN_CONFLICT
    merged = merge_text(base, server, client)
    return merged.text if merged.is_clean else IN_CONFLICT


def _set(base: object, server: object, client: object) -> object:
    before, now, wanted = _members(base), _members(server), _members(client)
    if before is None or now is None or wanted is None:
        return IN_CONFLICT
    kept = [value for key, value in now.items() if key in wanted or key not in before]
    return kept + [value for key, value in wanted.items() if key not in before and key not in now]


def _members(value: object) -> dict[Hashable, object] | None:
    if value is ABSENT:
        return {}
    if not isinstance(value, list):
        return None
    members: dict[Hashable, object] = {}
    for item in value:
        members.setdefault(fingerprint(item), item)
    return members


def _counter(base: object, server: object, client: object) -> object:
    before, now, wanted = (_number(side) for side in (base, server, client))
    if before is None or now is None or wanted is None:
        return server if equal(server, client) or equal(client, base) else IN_CONFLICT
    try:
        total = now + (wanted - before)
        return total if _can_be_written(total) else IN_CONFLICT
    except OverflowError:
        return IN_CONFLICT


def _can_be_written(total: float) -> bool:
    """Whether the codecs have a number for it: two clients can count past what either could send."""
    return _LEAST <= total <= _MOST if isinstance(total, int) else isfinite(total)


_LEAST, _MOST = -(2**63), 2**64 - 1


def _number(value: object) -> int | float | None:
    if value is ABSENT:
        return 0
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _max(_base: object, server: object, client: object) -> object:
    if isinstance(server, str) and isinstance(client, str):
        return max(server, client)
    one, other = _number(server), _number(client)
    if server is ABSENT or one is None or other is None:
        return IN_CONFLICT
    return server if one >= other else client


def _ordered_list(base: object, server: object, client: object) -> object:
    base = [] if base is ABSENT else base
    if not (isinstance(base, list) and isinstance(server, list) and isinstance(client, list)):
        return IN_CONFLICT
    merged, is_clean = _merged_list(base, server, client)
    return merged if is_clean else IN_CONFLICT


def _joined_list(base: list[object], server: list[object], client: list[object]) -> list[object]:
    return _merged_list(base, server, client)[0]


def _merged_list(base: list[object], server: list[object], client: list[object]) -> tuple[list[object], bool]:
    keys = [[fingerprint(item) for item in side] for side in (base, server, client)]
    merged: list[object] = []
    is_clean = True
    for hunk in hunks(*keys):
        before, now, wanted = keys[0][hunk.base], keys[1][hunk.server], keys[2][hunk.client]
        is_clients = wanted not in (before, now)
        is_overlap = is_clients and now != before
        is_clean = is_clean and not is_overlap
        merged += server[hunk.server] if is_overlap or not is_clients else []
        merged += client[hunk.client] if is_clients else []
    return merged, is_clean


def _shared(server: list[object], client: list[object]) -> list[object]:
    places = align([fingerprint(item) for item in server], [fingerprint(item) for item in client])
    return [item for item, place in zip(server, places, strict=True) if place != NO_PARTNER]


_POLICIES: dict[Merge, Callable[[object, object, object], object]] = {
    Merge.TEXT: _text,
    Merge.SET: _set,
    Merge.MAX: _max,
    Merge.ORDERED_LIST: _ordered_list,
}
_JOINABLE = frozenset({Merge.SET, Merge.MAX})

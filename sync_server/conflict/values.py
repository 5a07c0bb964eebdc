"""JSON values compared by what they mean: `True` is not 1, 1 is 1.0, the order of an object's members is nothing."""

import json
from collections.abc import Hashable, Sequence
from enum import Enum
from typing import Final


class Absence(Enum):
    ABSENT = "absent"


ABSENT: Final = Absence.ABSENT
"""What a field holds that is not there; `None` is a value."""

_PLAIN = frozenset({str, int, bool, type(None)})


def equal(one: object, other: object) -> bool:
    """Whether two JSON values, or ABSENT, are the same. Never raises, however deep they nest.

    >>> equal(1, 1.0), equal(1, True), equal({"a": 1, "b": [2]}, {"b": [2], "a": 1}), equal(None, ABSENT)
    (True, False, True, False)
    """
    kind = type(one)
    if kind is type(other) and kind in _PLAIN:
        return one == other
    return one is other or fingerprint(one) == fingerprint(other)


def fingerprint(value: object) -> Hashable:
    """A hashable stand-in: two values have the same one exactly when they are `equal`."""
    tokens: list[Hashable] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            names = sorted(item, key=str)
            tokens.append(("object", *names))
            waiting.extend(item[name] for name in names)
        elif isinstance(item, list | tuple):
            tokens.append(("array", len(item)))
            waiting.extend(item)
        else:
            tokens.append(_scalar(item))
    return tuple(tokens)


def _scalar(item: object) -> Hashable:
    if isinstance(item, bool):
        return ("boolean", item)
    if isinstance(item, int | float):
        return ("number", "NaN" if item != item else item)  # noqa: PLR0124  the test for NaN
    if isinstance(item, str):
        return item
    return (type(item).__name__, repr(item))


def canonical_text(value: object) -> str:
    """The JSON text that all `equal` values share; ASCII, members sorted, whole numbers without a fraction.

    >>> canonical_text([1.0, {"b": "ü", "a": None}])
    '[1,{"a":null,"b":"\\\\u00fc"}]'
    """
    return json.dumps(_whole(value), separators=(",", ":"), sort_keys=True)


def _whole(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(member) for name, member in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list | tuple) else value


def unwrapped(slot: Sequence[object]) -> object:
    """The value in a revision's `previous`: `[value]`, or `[]` where the field was absent."""
    return slot[0] if slot else ABSENT

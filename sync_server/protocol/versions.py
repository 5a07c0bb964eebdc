"""The versions of the server, and of the wire that it speaks: one line each in `schema/wire/history.md`."""

import re

PROTOCOL_VERSION = "1.0.0"
SERVER_VERSION = "1.0.0"
SUPPORTED_VERSIONS: tuple[str, ...] = (PROTOCOL_VERSION,)

_VERSION = re.compile(r"([0-9]{1,6})(?:\.[0-9]{1,6}){0,2}")
_MAJORS = frozenset(int(version.partition(".")[0]) for version in SUPPORTED_VERSIONS)


def is_supported(version: object) -> bool:
    """Whether a peer that names this version understands us: the same major, whatever follows it.

    >>> is_supported("1.7.2"), is_supported("2.0.0"), is_supported("one")
    (True, False, False)
    """
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    return match is not None and int(match[1]) in _MAJORS

"""The versions of the wire that this server speaks: one line each in `schema/wire/history.md`."""

import re

from sync_server.protocol.messages import PROTOCOL_VERSION

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

"""What rows add to the checksum of their space, and in which bucket they are compared (docs/rest.md, "Checksums")."""

import hashlib
from collections.abc import Iterable
from functools import reduce
from operator import xor
from zlib import crc32

from sync_client.values import Key

BUCKETS = 256
"""Into how many parts a space is divided to find what differs."""


def fingerprint(key: Key, version: int) -> int:
    """What a live row adds, by XOR, to its space's checksum.

    >>> f"{fingerprint(Key('note', '124'), 3):016x}"
    '19c3ab16e2ea2e3b'
    """
    text = f"{key.entity_type}/{key.entity_id}@{version}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def bucket_of(key: Key) -> int:
    """The row's bucket, whatever its version.

    >>> bucket_of(Key("note", "124"))
    13
    """
    return crc32(f"{key.entity_type}/{key.entity_id}".encode()) % BUCKETS


def xored(checksums: Iterable[int]) -> int:
    """What parts make together."""
    return reduce(xor, checksums, 0)

"""What rows add to the checksum of their space, and in which bucket they are compared (docs/rest.md, "Checksums")."""

import hashlib
from collections.abc import Iterable
from zlib import crc32

BUCKETS = 256
"""Into how many parts a space is divided to find what differs."""


def fingerprint(entity_type: str, entity_id: str, version: int) -> int:
    """What one live entity adds, by XOR, to its space's checksum: BLAKE2b of 64 bits, big-endian.

    >>> f"{fingerprint('note', '124', 3):016x}"
    '19c3ab16e2ea2e3b'
    """
    text = f"{entity_type}/{entity_id}@{version}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def checksum_of(rows: Iterable[tuple[str, str, int]]) -> int:
    """The checksum of these live rows: (entity_type, entity_id, version)."""
    total = 0
    for row in rows:
        total ^= fingerprint(*row)
    return total


def bucket_of(entity_type: str, entity_id: str) -> int:
    """The entity's bucket, whatever its version: the lowest byte of a CRC-32 (ISO 3309).

    >>> bucket_of("note", "124")
    13
    """
    return crc32(f"{entity_type}/{entity_id}".encode()) % BUCKETS


def bucket_checksums(rows: Iterable[tuple[str, str, int]]) -> list[int]:
    """The checksum of each bucket of these live rows."""
    totals = [0] * BUCKETS
    for entity_type, entity_id, version in rows:
        totals[bucket_of(entity_type, entity_id)] ^= fingerprint(entity_type, entity_id, version)
    return totals


def format_checksum(total: int) -> str:
    """16 hexadecimal digits."""
    return f"{total:016x}"

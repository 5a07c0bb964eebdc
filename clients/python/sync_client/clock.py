"""The wall clock and identifiers, for whoever is a shell: the rules are handed both."""

from datetime import UTC, datetime

import uuid_utils


def now_text() -> str:
    """The wall clock as RFC 3339, in milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """A new identifier: UUID version 7 (RFC 9562), which sorts by time."""
    return str(uuid_utils.uuid7())

"""A cursor: one opaque token for how much of the log somebody has seen, and of a scan they are in the middle of."""

import base64
import binascii
import re
from enum import StrEnum
from typing import NamedTuple

from sync_server.errors import CommandError, ErrorCode
from sync_server.types import Seq, SpaceId

_NOTHING = Seq(0)


class ScanKind(StrEnum):
    SNAPSHOT = "s"
    REVOKED = "r"


class Scan(NamedTuple):
    """Rows that come from the entities and not from the log, while the log waits at the cursor's seq.

    A snapshot tells every live entity created in (after, until], of one space or of all of them: what changes
    meanwhile is left to the log after `until`. A revoked scan tells deletes of one lost space.
    """

    kind: ScanKind
    space_id: SpaceId | None
    after: Seq
    until: Seq


class Cursor(NamedTuple):
    """Changes of the log up to `seq` are seen; those up to `own` are told also to the client that made them.

    A reset makes a client drop what it has: with it what it did itself between the reading of a page and its arrival.
    """

    epoch: str
    seq: Seq
    scan: Scan | None = None
    own: Seq = _NOTHING

    def at(self, seq: Seq) -> "Cursor":
        """The cursor further on in the log."""
        return Cursor(self.epoch, seq, None, self.own if self.own > seq else Seq(0))


_PATTERN = re.compile(
    r"(?:1\.(?P<old_epoch>[0-9a-f]{1,32})\.(?P<old_seq>[0-9]{1,18})|"
    r"2\.(?P<epoch>[0-9a-f]{1,32})\.(?P<seq>[0-9]{1,18})\.(?P<own>[0-9]{1,18}))"
    r"(?:\.(?P<kind>[sr])\.(?P<space>[A-Za-z0-9_\-]{0,80})\.(?P<after>[0-9]{1,18})\.(?P<until>[0-9]{1,18}))?"
)


def format_cursor(cursor: Cursor) -> str:
    """The cursor as clients keep it: opaque, URL-safe.

    >>> parse_cursor(format_cursor(Cursor("e1", Seq(7)))) == Cursor("e1", Seq(7))
    True
    """
    text = f"2.{cursor.epoch}.{cursor.seq}.{cursor.own}"
    if cursor.scan is not None:
        scan = cursor.scan
        text += f".{scan.kind}.{scan.space_id or ''}.{scan.after}.{scan.until}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def parse_cursor(text: str) -> Cursor:
    """The cursor that a client sends back.

    Raises:
        CommandError: VALIDATION_ERROR; it is none of ours.
    """
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        plain = ""
    match = _PATTERN.fullmatch(plain)
    if match is None:
        message = "The cursor is not one that this server handed out; leave it out to start from a snapshot."
        raise CommandError(ErrorCode.VALIDATION_ERROR, message, details={"field": "cursor"})
    scan = None
    if match["kind"] is not None:
        space_id = SpaceId(match["space"]) if match["space"] else None
        # scans of the first format went by another order: they begin again
        after = Seq(int(match["after"])) if match["epoch"] is not None else Seq(0)
        scan = Scan(ScanKind(match["kind"]), space_id, after, Seq(int(match["until"])))
    if match["epoch"] is None:
        return Cursor(match["old_epoch"], Seq(int(match["old_seq"])), scan)
    return Cursor(match["epoch"], Seq(int(match["seq"])), scan, Seq(int(match["own"])))

"""P10: what a role does not allow is neither told nor read nor done, from the moment it is taken away."""

from collections.abc import Iterator
from typing import NamedTuple

from sync_server.testing.evidence import Evidence
from sync_server.testing.history import Granted, Opened, Pried, Read


class Ban(NamedTuple):
    """A time in which a user surely has no more than this role."""

    user: str
    space_id: str
    role: str | None
    since: float
    until: float

    def covers(self, at: float) -> bool:
        return self.since <= at < self.until


def forbidden(evidence: Evidence) -> Iterator[str]:
    """P10: of a space that was taken away, or never given, nothing is told or read, and nothing is written to it."""
    for ban in (*bans(evidence), *strangers(evidence)):
        yield from _writes(evidence, ban)
        if ban.role is None:
            yield from _late_pushes(evidence, ban)
            yield from _late_links(evidence, ban)
            yield from _reads(evidence, ban)
            yield from _answers(evidence, ban)


def strangers(evidence: Evidence) -> Iterator[Ban]:
    """Users and the spaces that were never theirs, such as the personal ones of others."""
    truths = evidence.history.truths
    spaces = sorted({space_id for truth in truths.values() for space_id in truth.spaces})
    given = {(one.user, one.space_id) for one in evidence.history.of(Granted)}
    for user, truth in truths.items():
        for space_id in spaces:
            if space_id not in truth.spaces and (user, space_id) not in given:
                yield Ban(user, space_id, None, 0.0, float("inf"))


def bans(evidence: Evidence) -> Iterator[Ban]:
    """Each begins when the server said so, and ends when anything is asked that may undo it, or a backup does."""
    grants = list(evidence.history.of(Granted))
    for taken in grants:
        if not taken.is_sure or taken.role not in {None, "viewer"}:
            continue
        ends = [
            one.asked_at
            for one in grants
            if one is not taken and (one.user, one.space_id) == (taken.user, taken.space_id) and one.at > taken.asked_at
        ]
        ends += [one.at for one in evidence.restores if one.backup_at <= taken.at <= one.at]
        until = min(ends, default=float("inf"))
        if until > taken.at:
            yield Ban(taken.user, taken.space_id, taken.role, taken.at, until)


def _late_pushes(evidence: Evidence, ban: Ban) -> Iterator[str]:
    users = evidence.history.users
    hidden = {
        mark
        for wrote, space_id in evidence.writers_spaces()
        if wrote.at >= ban.since and space_id == ban.space_id and users[wrote.device] != ban.user
        for mark in wrote.marks
    }
    for got, marks in evidence.heard_marks if hidden else ():
        if users[got.device] == ban.user and ban.covers(got.at):
            for mark in sorted(marks & hidden):
                yield f"{got.device} was told {mark} {got.at - ban.since:.3f} s after its user lost the space"


def _late_links(evidence: Evidence, ban: Ban) -> Iterator[str]:
    """What was under way may still arrive; over a link that was opened later, nothing is under way."""
    links = {
        (one.device, one.link)
        for one in evidence.history.of(Opened)
        if evidence.history.users[one.device] == ban.user and ban.covers(one.at)
    }
    for message in evidence.messages:
        for row in message.rows:
            is_late = (message.device, message.link) in links and ban.covers(message.at)
            if is_late and row.space_id == ban.space_id and not row.is_revoked:
                yield f"{message.device} was told {row.key} over a link it opened after its user lost the space"


def _reads(evidence: Evidence, ban: Ban) -> Iterator[str]:
    for read in evidence.history.of(Read):
        is_late = ban.covers(read.asked_at) and ban.covers(read.at)
        is_theirs = evidence.history.users[read.device] == ban.user and evidence.spaces.get(read.key) == ban.space_id
        if is_late and is_theirs and read.version is not None:
            yield f"{read.device} read version {read.version} of {read.key} after its user lost the space"


def _answers(evidence: Evidence, ban: Ban) -> Iterator[str]:
    """To who has no role, nothing in the space exists: the answer is that for what never was (docs/rest.md)."""
    for pried in evidence.history.of(Pried):
        space_id = evidence.spaces.get(pried.key) if pried.key is not None else pried.space_id
        is_theirs = (pried.user, space_id) == (ban.user, ban.space_id)
        if is_theirs and ban.covers(pried.asked_at) and ban.covers(pried.at) and pried.told != pried.refusal:
            yield f"user {pried.user} asked {pried.what} of a space they may not read, and was told {pried.told}"


def _writes(evidence: Evidence, ban: Ban) -> Iterator[str]:
    for verdict in evidence.verdicts:
        asked = evidence.operations[verdict.device].get(verdict.operation_id)
        if asked is None or verdict.key is None or not verdict.has_effect:
            continue
        is_late = ban.covers(asked.at) and ban.covers(verdict.at)
        is_theirs = evidence.history.users[verdict.device] == ban.user
        if is_late and is_theirs and evidence.spaces.get(verdict.key) == ban.space_id:
            yield f"{verdict.device} did {verdict.operation_id} as {ban.role or 'no member'} of its space"

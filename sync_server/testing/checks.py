"""The promises, each looked for in what the devices saw (docs/reliability.md says them in words)."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from sync_client.values import Key

from sync_server.testing.evidence import Evidence, Verdict, text_of
from sync_server.testing.history import History, Read, State, Truth, Wrote
from sync_server.testing.losses import lost_bases, lost_deletes, lost_rivals
from sync_server.testing.rights import forbidden
from sync_server.testing.streams import gaps, wrong_states

MOST_TOLD = 5
"""Violations of one promise that are told; more say the same."""


def violations(history: History) -> list[str]:
    """What is wrong, each beginning with the promise that it breaks. Empty for a run as it should be."""
    evidence = Evidence(history)
    found = [f"P3: {problem}" for problem in history.problems]
    for promise, check in _CHECKS:
        for count, problem in enumerate(check(evidence)):
            if count < MOST_TOLD:
                found.append(f"{promise}: {problem}")
    return found


def lost_acknowledgements(evidence: Evidence) -> Iterator[str]:
    """P1: what was acknowledged is in the history, or was when the log was forgotten.

    Unknown is what was committed between the question for the history and the end of that.
    """
    made = {(one.client_id, one.operation_id, one.key, one.version) for one in evidence.log.values()}
    for verdict in evidence.verdicts:
        if not verdict.has_effect or evidence.is_lost(verdict.at) or evidence.is_forgotten(verdict.seq):
            continue
        client_id = evidence.client_id(verdict.device)
        if (client_id, verdict.operation_id, verdict.key, verdict.version) not in made:
            yield f"{verdict.device} was told that {verdict.operation_id} is done; no version of {verdict.key} is by it"


def repeated_effects(evidence: Evidence) -> Iterator[str]:
    """P2: no operation made two versions, and none is taken for another client's of the same id."""
    for verdict in evidence.verdicts:
        if verdict.is_other_body and not evidence.is_lost(verdict.at):
            yield f"{verdict.operation_id} of {verdict.device} was refused as another operation's id, and it is its own"
    made: dict[tuple[str, str], list[tuple[Key, int]]] = defaultdict(list)
    for one in evidence.log.values():
        made[one.client_id, one.operation_id].append((one.key, one.version))
    for (client_id, operation_id), versions in made.items():
        if len(versions) > 1 and operation_id:
            yield f"{operation_id} of {client_id} took effect {len(versions)} times: {versions}"


def unclear_verdicts(evidence: Evidence) -> Iterator[str]:
    """P3: one verdict for each operation, however often it was sent; nothing is left without."""
    given: dict[tuple[str, str, int], set[tuple[bool, str | None, int | None]]] = defaultdict(set)
    for one in evidence.verdicts:
        if not evidence.is_lost(one.at):
            key = (one.device, one.operation_id, evidence.era(one.at))
            given[key].add((one.success, one.verdict, one.version))
    for (device, operation_id, _), verdicts in given.items():
        if len(verdicts) > 1:
            yield f"{operation_id} of {device} was told different verdicts: {sorted(verdicts, key=str)}"
    for device, end in evidence.history.ends.items():
        if end.pending:
            yield f"{device} still has {len(end.pending)} operations without a verdict ({end.trouble})"
        ended = {one.operation_id for one in evidence.verdicts if one.device == device}
        ended |= {one.operation_id for one in end.pending} | {one.operation_id for one in end.quarantined}
        for operation_id, asked in evidence.operations[device].items():
            if operation_id in ended or asked.operation["operation_type"] == "read":  # a question may go unanswered
                continue
            yield f"{device} sent {operation_id}, never heard its verdict and has forgotten it"


def phantoms(evidence: Evidence) -> Iterator[str]:
    """P6: what was told is what was committed.

    Unknown is what a backup took back, and what was forgotten with the log before anybody asked for it.
    """
    for message in evidence.messages:
        if evidence.is_lost(message.at):
            continue
        for row in message.rows:
            version = evidence.log.get(row.seq)
            if row.is_revoked or evidence.is_forgotten(row.seq):
                continue
            if version is None or (version.key, version.version) != (row.key, row.version):
                yield f"{row.device} was told version {row.version} of {row.key}, which was never committed"
            elif version.data != row.data:
                yield f"{row.device} was told version {row.version} of {row.key} as {row.data}, it is {version.data}"


def stale_reads(evidence: Evidence) -> Iterator[str]:
    """P7: who reads after an acknowledgement sees what was acknowledged."""
    for read in evidence.history.of(Read):
        acked = [one for one in evidence.verdicts if one.has_effect and one.key == read.key and one.at < read.asked_at]
        newest = max((one.version or 0 for one in acked if _counts(evidence, one, read)), default=0)
        is_gone = read.version is None and _was_deleted(evidence, read)
        if newest > (read.version or 0) and not is_gone and _reads(evidence, read):
            yield f"{read.device} read version {read.version} of {read.key} after version {newest} was acknowledged"


def silent_losses(evidence: Evidence) -> Iterator[str]:
    """P8: what a person wrote is in a version, in a conflict, or in the quarantine with a reason.

    Unknown is what became of an operation whose verdict a backup took back, or whose change was forgotten with the log
    before anybody asked for it.
    """
    history = evidence.history
    kept = [one.text for one in evidence.log.values()]
    kept += [text_of(conflict) for truth in history.truths.values() for conflict in truth.conflicts]
    kept += [text_of(one) for end in history.ends.values() for one in (*end.quarantined, *end.pending)]
    everything = "\n".join(kept)
    for wrote in history.of(Wrote):
        for mark in wrote.marks:
            if mark not in everything and not evidence.is_taken_back(wrote.device, _carriers(evidence, wrote, mark)):
                yield f"what {wrote.device} wrote at {wrote.at:.3f} s ({wrote.what} {wrote.key}, {mark}) is nowhere"
    yield from lost_deletes(evidence)
    yield from lost_rivals(evidence)
    yield from lost_bases(evidence)


def different_replicas(evidence: Evidence) -> Iterator[str]:
    """P9 (and, in the end, P5): every device has just what a new device of its user is told."""
    for name, end in evidence.history.ends.items():
        truth = evidence.history.truths[end.user]
        if not end.is_settled:
            yield f"{name} is not live in the end: {end.trouble}"
        elif (difference := _difference(end.rows, truth.rows)) is not None:
            yield f"{name} has {difference}"
        elif (ours := {one.conflict_id for one in end.conflicts}) != (theirs := _open_conflicts(truth)):
            yield f"{name} has the open conflicts {sorted(ours)}, the server {sorted(theirs)}"


_CHECKS: tuple[tuple[str, Callable[[Evidence], Iterator[str]]], ...] = (
    ("P1", lost_acknowledgements),
    ("P2", repeated_effects),
    ("P3", unclear_verdicts),
    ("P4", gaps),
    ("P5", wrong_states),
    ("P6", phantoms),
    ("P7", stale_reads),
    ("P8", silent_losses),
    ("P9", different_replicas),
    ("P10", forbidden),
)


def _carriers(evidence: Evidence, wrote: Wrote, mark: str) -> Iterator[str]:
    """The operations that had a text in them."""
    operations = evidence.operations[wrote.device]
    return (operation_id for operation_id, asked in operations.items() if mark in text_of(asked.operation))


def _counts(evidence: Evidence, verdict: Verdict, read: Read) -> bool:
    return not evidence.is_lost(verdict.at) and evidence.era(verdict.at) == evidence.era(read.asked_at)


def _was_deleted(evidence: Evidence, read: Read) -> bool:
    """Whether it was, or may have been where what was done then is not known."""
    if any(one.operation_type == "delete" for one in evidence.log.values() if one.key == read.key):
        return True
    return bool(evidence.forgotten or evidence.is_lost(read.at)) and evidence.may_be_deleted(read.key)


def _reads(evidence: Evidence, read: Read) -> bool:
    user = evidence.history.users[read.device]
    return evidence.spaces.get(read.key) in evidence.steady_spaces(user)


def _open_conflicts(truth: Truth) -> set[str]:
    return {conflict["conflict_id"] for conflict in truth.conflicts if conflict["status"] == "open"}


def _difference(rows: Mapping[Key, State], truth: Mapping[Key, State]) -> str | None:
    for key in sorted({*rows, *truth}):
        if rows.get(key) != truth.get(key):
            return f"{key} as {rows.get(key)}, the server as {truth.get(key)}"
    return None

"""P8, where the loss leaves no text behind: a delete that never was, and a rival value that was written over."""

from collections.abc import Iterator

from sync_client.values import Key

from sync_server.testing.evidence import Asked, Evidence, text_of
from sync_server.testing.history import Version, Wrote


def lost_deletes(evidence: Evidence) -> Iterator[str]:
    """What a person deleted was deleted by somebody, or a conflict or the quarantine says why not.

    Unknown is what became of a delete whose verdict a backup took back, or that was forgotten with the log.
    """
    deleted = {one.key for one in evidence.log.values() if one.operation_type == "delete"}
    known = {one.key for one in evidence.log.values()}
    disputed = _disputed(evidence)
    for wrote in evidence.history.of(Wrote):
        end = evidence.history.ends.get(wrote.device)
        kept = {one.operation.entity_id for one in end.quarantined} if end is not None else set()
        is_kept = wrote.key in disputed or wrote.key.entity_id in kept
        if wrote.what != "deletes" or wrote.key not in known - deleted or is_kept:
            continue
        if not evidence.is_taken_back(wrote.device, evidence.deletes(wrote.device, wrote.key)):
            yield f"{wrote.device} deleted {wrote.key} at {wrote.at:.3f} s, and it lives without a word about that"


def lost_rivals(evidence: Evidence) -> Iterator[str]:
    """Who writes over a value that they had not seen leaves a conflict that has both.

    Unknown is who had seen what, where versions were forgotten with the log, where their numbers began anew, or where
    the base may be of a history that a backup took back: it is told by its number alone.
    """
    disputed = _disputed(evidence)
    made = _by_operation(evidence)
    for device, operations in evidence.operations.items():
        for operation_id, asked in operations.items():
            written = made.get((evidence.client_id(device), operation_id))
            if written is not None and written.key not in disputed | evidence.reborn:
                yield from _overwritten(evidence, asked, written)


def lost_bases(evidence: Evidence) -> Iterator[str]:
    """Who writes over a value, on a version that a backup took back, leaves a conflict that has both."""
    disputed = _disputed(evidence) | evidence.reborn
    made = _by_operation(evidence)
    for (device, key, number), told in evidence.taken_back.items():
        for operation_id, asked in evidence.operations[device].items():
            written = made.get((evidence.client_id(device), operation_id))
            is_on_it = asked.operation.get("before_version") == number and asked.at > told.at
            if written is None or written.key != key or not is_on_it or key in disputed:
                continue
            for name in _overwrites(evidence, asked, written):
                yield f"{device} wrote {name} of {key} on version {number}, which a backup took back, unsaid"


def _overwrites(evidence: Evidence, asked: Asked, written: Version) -> Iterator[str]:
    """The fields of which it took what was there away."""
    older = [one for (key, number), one in evidence.versions.items() if key == written.key and number < written.version]
    before = max(older, key=lambda one: one.version, default=None)
    for name, value in (asked.operation.get("changes") or {}).items():
        theirs = _value(before, name) if before is not None else None
        if theirs is not None and theirs != value and text_of(theirs).strip('"') not in text_of(_value(written, name)):
            yield name


def _overwritten(evidence: Evidence, asked: Asked, written: Version) -> Iterator[str]:
    changes, seen = asked.operation.get("changes") or {}, asked.operation.get("before_version") or 0
    before = evidence.versions.get((written.key, seen))
    for number in reversed(range(seen + 1, written.version)):
        rival, base = evidence.versions.get((written.key, number)), _live(evidence, written.key, number - 1)
        if rival is None or base is None or before is None:
            return
        if rival.client_id == written.client_id or rival.data is None:
            continue  # of a delete and an update the update wins, and says nothing of a value
        for name, value in changes.items():
            theirs, ours = _value(rival, name), _value(written, name)
            is_rival = theirs != _value(base, name) and theirs != value and value != _value(before, name)
            if is_rival and ours == value and text_of(theirs).strip('"') not in text_of(ours):
                yield f"{asked.device} wrote {name} of {written.key} over {theirs} of version {number}, unseen"


def _live(evidence: Evidence, key: Key, number: int) -> Version | None:
    """The newest version up to a number that was no delete; None where that is not known."""
    version = evidence.versions.get((key, number))
    while version is not None and version.data is None:
        version = evidence.versions.get((key, version.version - 1))
    return version


def _value(version: Version, name: str) -> object:
    return (version.data or {}).get(name)


def _by_operation(evidence: Evidence) -> dict[tuple[str, str], Version]:
    return {(one.client_id, one.operation_id): one for one in evidence.log.values()}


def _disputed(evidence: Evidence) -> set[Key]:
    return {
        Key(conflict["entity_type"], str(conflict["entity_id"]))
        for truth in evidence.history.truths.values()
        for conflict in truth.conflicts
    }

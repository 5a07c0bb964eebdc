"""Reads what explains an operation or a row, all of it within one snapshot."""

from collections.abc import Mapping, Sequence

import orjson

from sync_server.explanations.entities import Facts
from sync_server.explanations.operations import Evidence, base_of, met_version
from sync_server.records import Change, Conflict, Decision, EntityKey, Step
from sync_server.stores.reader import Reader
from sync_server.types import ClientId, OperationType, Seq, SpaceId, UserId, Verdict

MAX_STEPS = 500
"""Versions since the base that are looked at."""


def operation_evidence(reader: Reader, decision: Decision) -> Evidence:
    """What the store has of an operation. Of a rejected one nothing is looked up: it left nothing."""
    body = orjson.loads(decision.body) if decision.body is not None else None
    evidence = Evidence(decision, body=body)
    if decision.verdict is Verdict.REJECTED:
        return evidence
    conflicts = _conflicts(reader, decision)
    change = reader.changes_at((decision.seq,)).get(decision.seq) if decision.seq is not None else None
    stood = _stood(reader, decision, conflicts) if decision.seq is None else None
    evidence = evidence._replace(conflicts=conflicts, space_id=_space(reader, decision, change or stood, conflicts))
    if change is not None:
        evidence = evidence._replace(
            change=change,
            changed=orjson.loads(change.previous) if change.operation_type is not OperationType.DELETE else {},
            submitted=orjson.loads(change.submitted) if change.submitted is not None else {},
            stored=orjson.loads(change.data),
        )
    elif stood is not None:
        evidence = evidence._replace(met=orjson.loads(stood.data))
    return _with_steps(reader, evidence, change.previous_seq if change is not None else stood.seq if stood else None)


def row_facts(reader: Reader, key: EntityKey, user_id: UserId, client_id: ClientId) -> Facts:
    """What the store has of a row and of a user's client."""
    facts = Facts(key, user_id, client_id, reader.head(), reader.has_user(user_id), reader.client(user_id, client_id))
    entity = reader.entities((key,)).get(key)
    if entity is None:
        return facts
    place = reader.membership(entity.space_id, user_id)
    placed = reader.steps(place.seq, above=0, limit=1) if place is not None and place.seq else []
    return facts._replace(
        entity=entity,
        steps=tuple(reader.steps(entity.seq, above=0, limit=MAX_STEPS)),
        place=place,
        placed=placed[0] if placed else None,
    )


def _conflicts(reader: Reader, decision: Decision) -> tuple[Conflict, ...]:
    if decision.conflict_id is None:
        return ()
    first = reader.conflicts((decision.conflict_id,)).get(decision.conflict_id)
    return tuple(reader.conflicts_of(first)) if first is not None else ()


def _stood(reader: Reader, decision: Decision, conflicts: Sequence[Conflict]) -> Change | None:
    """The row of the log with the state that the operation met and left.

    None where the log no longer has it, or where the id is of another entity by now.
    """
    if decision.entity_type is None or decision.entity_id is None or decision.version is None:
        return None
    key = EntityKey(decision.entity_type, decision.entity_id)
    found = reader.history(key, before_version=decision.version + 1, limit=1)
    if not found or found[0].version != decision.version:
        return None
    decided_at = conflicts[0].created_at if conflicts else decision.created_at
    is_later = found[0].modified_at > decided_at and (conflicts or not decision.retry_count)
    return None if is_later else found[0]


def _space(reader: Reader, decision: Decision, change: Change | None, conflicts: Sequence[Conflict]) -> SpaceId | None:
    if change is not None:
        return change.space_id
    if conflicts:
        return conflicts[0].space_id
    if decision.entity_type is None or decision.entity_id is None:
        return None
    key = EntityKey(decision.entity_type, decision.entity_id)
    entity = reader.entities((key,)).get(key)
    return entity.space_id if entity is not None and entity.created_at <= decision.created_at else None


def _with_steps(reader: Reader, evidence: Evidence, seq: Seq | None) -> Evidence:
    base, met = base_of(evidence), met_version(evidence)
    if seq is None or base is None or met is None or met <= base:
        return evidence
    steps = tuple(reader.steps(seq, above=base, limit=MAX_STEPS))
    is_cut = len(steps) == MAX_STEPS and steps[-1].after > base
    evidence = evidence._replace(steps=steps, is_cut=is_cut)
    return evidence._replace(bases=_bases(reader, steps)) if evidence.is_whole else evidence


def _bases(reader: Reader, steps: Sequence[Step]) -> Mapping[str, Sequence[object]]:
    """By field, what the earliest step that touched it had before."""
    first: dict[str, Seq] = {}
    for step in steps:
        first.update((name, step.seq) for name in step.fields)
    changes = reader.changes_at(set(first.values()))
    previous = {seq: orjson.loads(change.previous) for seq, change in changes.items()}
    return {name: previous[seq][name] for name, seq in first.items()}

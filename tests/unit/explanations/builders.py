"""Evidence of an update of note a by user 1's desktop: base version 1, met version 2, stored as version 3."""

from typing import Any

from sync_server.explanations.entities import Facts
from sync_server.explanations.operations import Evidence
from sync_server.records import ClientRecord, EntityKey, Filter, Followed, Head, Membership, Step
from sync_server.types import OperationType, Role, Strategy, StrategySource, Verdict
from tests.contract.builders import change, decision, entity


def step(version: int, *fields: str, **changes: Any) -> Step:
    columns: dict[str, Any] = {
        "version": version, "after": version - 1, "seq": version * 10, "operation_type": OperationType.UPDATE,
        "fields": fields, "rule": "same_version", "modified_at": version * 1_000, "modified_by": "2",
        "client_id": "phone", "operation_id": f"their_{version}",
    }  # fmt: skip
    return Step(**{**columns, **changes})


def update(rule: str = "disjoint_fields", verdict: Verdict = Verdict.MERGED, **changes: Any) -> Any:
    columns: dict[str, Any] = {
        "operation_type": OperationType.UPDATE, "verdict": verdict, "rule": rule, "version": 3, "seq": 30,
        "base_version": 1, "strategy": Strategy.LATEST_WINS, "strategy_source": StrategySource.TYPE, "sent": ("title",),
    }  # fmt: skip
    return decision("mine", **{**columns, **changes})


def evidence(decided: Any = None, **changes: Any) -> Evidence:
    """`stored` is the entity after it, `changed` what its changed fields were, `submitted` what it sent otherwise."""
    known: dict[str, Any] = {
        "change": change(30, "a", version=3), "stored": {"title": "mine"}, "changed": {"title": ["base"]},
        "steps": (step(2, "content"),), "bases": {"content": ["old"]}, "space_id": "team",
    }  # fmt: skip
    return Evidence(decided if decided is not None else update(), **{**known, **changes})


def stood(rule: str, verdict: Verdict = Verdict.SUPERSEDED, **changes: Any) -> Evidence:
    """An update that changed nothing of version 2, which it met."""
    decided = update(rule, verdict, version=2, seq=None)
    known: dict[str, Any] = {"change": None, "stored": {}, "changed": {}, "met": {"title": "theirs"}}
    known |= {"steps": (step(2, "title"),), "bases": {"title": ["base"]}}
    return evidence(decided, **{**known, **changes})


# --- rows ----------------------------------------------------------------------------------------------------------


def cursor(seq: int, epoch: str = "e1", scan: Any = None) -> str:
    from sync_server.cursor import Cursor, format_cursor

    return format_cursor(Cursor(epoch, seq, scan))  # type: ignore[arg-type]


def client(**changes: Any) -> ClientRecord:
    known: dict[str, Any] = {
        "user_id": "1", "client_id": "phone", "device": {}, "cursor": cursor(50), "last_sync_time": 5_000,
        "asked": Filter(), "followed": None,
    }  # fmt: skip
    return ClientRecord(**{**known, **changes})


def left(position: int, *, at: int = 9_000, start: int = 0, is_resumed: bool = True, **filters: Any) -> Followed:
    """The end of a WebSocket."""
    return Followed(Filter(**filters), is_resumed, "e1", start, position, at)  # type: ignore[arg-type]


def facts(**changes: Any) -> Facts:
    """Note a of the space team at version 3, last changed at 30 by another's client; the client was told up to 50."""
    known: dict[str, Any] = {
        "key": EntityKey("note", "a"), "user_id": "1", "client_id": "phone", "head": Head("e1", 60, 0),
        "has_user": True, "client": client(), "entity": entity("a", space_id="team", version=3, seq=30, created_seq=12),
        "steps": (step(3, seq=30), step(2, seq=20), step(1, seq=12)), "place": Membership("team", "1", Role.EDITOR, 5),
    }  # fmt: skip
    return Facts(**{**known, **changes})

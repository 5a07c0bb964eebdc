"""Whatever the order in which clients' queues arrive, the same state comes of them, and nothing is lost on the way."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_server.conflict.decide import decide
from sync_server.conflict.model import Attempt, Outcome, Revision, Rule
from sync_server.conflict.stamps import write_stamp
from sync_server.conflict.values import ABSENT, equal
from sync_server.records import Entity
from sync_server.types import OperationType, Strategy, Verdict
from tests.unit.conflict.builders import ALONE, CARD, NOW

LAW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine breaks no law."""

CLIENTS = ("anna", "bert", "cleo")


START = {
    "title": "t0",
    "color": "c0",
    "likes": 10,
    "best": 10,
    "tags": ["x", "y", "z"],
    "steps": ["one", "two", "three"],
    "body": "one\ntwo\nthree\n",
}


class Replay:
    """The committer, in memory: one entity, its log, and everything that was put on record."""

    def __init__(self, spec: Any = CARD) -> None:
        self.spec = spec
        self.entity = Entity("card", "1", "s", 1, dict(START), False, 1_000, 1_000, "owner", 1, 1)
        previous = {name: [] for name in START}
        self.log = [
            Revision(
                1, OperationType.CREATE, dict(START), previous, {}, 1_000, 1_000, "owner", "desk", Rule.CREATED, after=0
            )
        ]
        self.records: list[str] = []

    def take(self, attempt: Attempt) -> Outcome:
        base = attempt.before_version
        history = [r for r in self.log if base is not None and r.version >= base != self.entity.version]
        outcome = decide(attempt, self.entity, history, self.spec, ALONE, now=NOW)
        if outcome.disputes:
            self._record(attempt.fields, self.entity.data)
        if outcome.data is not None:
            self._append(attempt, outcome, history)
        return outcome

    def _append(self, attempt: Attempt, outcome: Outcome, history: list[Revision]) -> None:
        before, after = self.entity.data, dict(outcome.data)
        names = [n for n in {**before, **after} if not equal(before.get(n, ABSENT), after.get(n, ABSENT))]
        previous = {name: [before[name]] if name in before else [] for name in names}
        version = self.entity.version + 1
        stamp = write_stamp(attempt, self.entity, history, now=NOW)
        kind = OperationType.DELETE if outcome.deleted else attempt.operation_type
        self.log.append(
            Revision(
                version,
                kind,
                after,
                previous,
                outcome.submitted,
                stamp.at,
                NOW,
                attempt.user_id,
                attempt.client_id,
                outcome.rule,
                after=version - 1,
            )
        )
        self._record(after, previous, outcome.submitted)
        self.entity = self.entity._replace(version=version, data=after, deleted=outcome.deleted, updated_at=NOW)

    def _record(self, *values: object) -> None:
        self.records += [json.dumps(value) for value in values]

    @property
    def state(self) -> object:
        if self.entity.deleted:
            return "deleted"
        return {**self.entity.data, "tags": sorted(self.entity.data["tags"])}

    def keeps(self, mark: str) -> bool:
        return any(mark in record for record in self.records)


class Edit(NamedTuple):
    kind: str
    amount: int
    at: int


EDITS = st.builds(
    Edit,
    kind=st.sampled_from(("title", "color", "likes", "best", "tag", "untag", "step", "line", "delete")),
    amount=st.integers(min_value=-3, max_value=3),
    at=st.integers(min_value=1_001, max_value=1_040),
)
STEPS = st.lists(EDITS, min_size=1, max_size=2)
"""What one operation changes together."""
QUEUES = st.fixed_dictionaries({client: st.lists(STEPS, max_size=3) for client in CLIENTS})
SHUFFLES = st.lists(st.sampled_from(CLIENTS), max_size=12)


def queue_of(client: str, plan: list[list[Edit]], strategy: Strategy | None = None) -> list[Attempt]:
    """A client's offline queue: each operation is made on what the client itself sees after the ones before it.

    No two clients write the same value: a write of what is already there leaves no trace in the log, so a later
    write cannot be weighed against it.
    """
    view = dict(START)
    queue = []
    for number, edits in enumerate(plan):
        fields: dict[str, object] = {}
        for edit in edits:
            fields.update(_edited(view | fields, edit, client, f"<{client}-{number}-{edit.kind}>"))
        view |= fields
        kind = OperationType.DELETE if any(edit.kind == "delete" for edit in edits) else OperationType.UPDATE
        queue.append(_attempt(client, number, fields, edits[0].at, kind, strategy))
    return queue


def _edited(view: dict[str, Any], edit: Edit, client: str, mark: str) -> dict[str, object]:
    own = CLIENTS.index(client)
    edited: dict[str, Any] = {
        "title": mark,
        "color": mark,
        "likes": view["likes"] + edit.amount,
        "best": (view["best"] // 3 + abs(edit.amount) + 1) * 3 + own,
        "tag": [*(tag for tag in view["tags"] if tag != mark), mark],
        "untag": [tag for tag in view["tags"] if tag != "xyz"[own]],
        "step": _with_insert(view["steps"], edit.amount, mark),
        "line": "".join(_with_insert(view["body"].splitlines(keepends=True), edit.amount, f"{mark}\n")),
    }
    fields = {"tag": "tags", "untag": "tags", "step": "steps", "line": "body"}
    return {fields.get(edit.kind, edit.kind): edited[edit.kind]} if edit.kind in edited else {}


def _with_insert(items: list[str], amount: int, mark: str) -> list[str]:
    return [*items[: amount + 3], mark, *items[amount + 3 :]]


def _attempt(
    client: str, number: int, fields: dict[str, object], at: int, kind: OperationType, strategy: Strategy | None
) -> Attempt:
    sent = {} if kind is OperationType.DELETE else fields
    return Attempt(f"{client}{number}", kind, "card", "1", "s", sent, 1, strategy, at, f"user-{client}", client)


def arrivals(queues: dict[str, list[Attempt]], shuffle: list[str]) -> Iterator[Attempt]:
    """The operations in one arrival order that keeps the order of each client."""
    waiting = {client: list(queue) for client, queue in queues.items()}
    for client in shuffle:
        yield from waiting[client][:1]
        del waiting[client][:1]
    for queue in waiting.values():
        yield from queue


def without(plans: dict[str, list[list[Edit]]], *kinds: str) -> dict[str, list[list[Edit]]]:
    kept = {c: [[e for e in edits if e.kind not in kinds] for edits in plan] for c, plan in plans.items()}
    return {client: [edits for edits in plan if edits] for client, plan in kept.items()}


def replayed(queues: dict[str, list[Attempt]], shuffle: list[str]) -> Replay:
    replay = Replay()
    for attempt in arrivals(queues, shuffle):
        replay.take(attempt)
    return replay


class TestConvergence:
    @settings(LAW, max_examples=500)
    @given(plans=QUEUES, one=SHUFFLES, other=SHUFFLES)
    def test_holds_for_updates_and_deletes_in_any_arrival_order(self, plans, one, other):
        plans = without(plans, "step", "line")
        queues = {client: queue_of(client, plan) for client, plan in plans.items()}
        assert replayed(queues, one).state == replayed(queues, other).state


class TestCounting:
    @settings(LAW)
    @given(plans=QUEUES, shuffle=SHUFFLES)
    def test_misses_nobody(self, plans, shuffle):
        kinds = {edit.kind for plan in plans.values() for edits in plan for edit in edits}
        plans = without(plans, "delete", *(kinds - {"likes"}))
        queues = {client: queue_of(client, plan) for client, plan in plans.items()}
        counted = [queue[-1].fields["likes"] - START["likes"] for queue in queues.values() if queue]
        assert replayed(queues, shuffle).entity.data["likes"] == START["likes"] + sum(counted)


MARK = re.compile("<[^>]+>")
ANY_STRATEGY = st.sampled_from([None, *Strategy])


class TestLoss:
    @settings(LAW, max_examples=500)
    @given(plans=QUEUES, shuffle=SHUFFLES, strategy=ANY_STRATEGY)
    def test_is_never_silent_under_any_strategy(self, plans, shuffle, strategy):
        queues = {client: queue_of(client, plan, strategy) for client, plan in plans.items()}
        replay = Replay()
        for attempt in arrivals(queues, shuffle):
            outcome = replay.take(attempt)
            assert outcome.verdict is not Verdict.REJECTED
            assert all(replay.keeps(mark) for mark in MARK.findall(json.dumps(attempt.fields)))

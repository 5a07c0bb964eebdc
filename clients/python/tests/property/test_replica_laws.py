"""The laws D1 to D8 of `replica`, on random histories; memory and SQLite do every step side by side and stay equal."""

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sync_client import replica, views
from sync_client.drafts import decoded, drawn
from sync_client.frames import DifferingRows, Update
from sync_client.stores.memory import MemoryTables
from sync_client.stores.port import Query, Tables
from sync_client.stores.sqlite_schema import migrate
from sync_client.stores.sqlite_tables import SqliteTables
from sync_client.values import Key, Operation, OperationType, Problem, Row

from clients.python.tests.builders import (
    AT,
    applied,
    conflict,
    create,
    delete,
    key,
    operation,
    parked,
    refused,
    reply,
    row,
    tombstone,
    update,
)

IDS = ("a", "b", "c", "d")
KEYS = [key(one) for one in IDS]
ids = st.sampled_from(IDS)
versions = st.integers(1, 9)
titles = st.sampled_from(("x", "y", "z"))
Step = Callable[[Tables], Any]


@st.composite
def updates(draw: st.DrawFn) -> Update:
    entity_id, version, space_id = draw(ids), draw(versions), draw(st.sampled_from(("u-1", "s-1")))
    match draw(st.integers(0, 9)):
        case 0:
            return Update(tombstone(entity_id, version)._replace(space_id=space_id))
        case 1:
            return Update(tombstone(entity_id, 0)._replace(space_id=space_id), is_revoked=True)
        case _:
            return Update(row(entity_id, version, space_id=space_id, title=draw(titles)), begins=version == 1)


class ReplicaLaws(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        migrate(self.connection)
        self.memory = MemoryTables()
        self.stores: tuple[Tables, Tables] = (self.memory, SqliteTables(self.connection))
        self.count = 0
        self.written: set[str] = set()
        self.ended: set[str] = set()
        self.refused: set[str] = set()
        self.last: Step = lambda tables: None

    def teardown(self) -> None:
        self.connection.close()

    def do(self, step: Step) -> None:
        for tables in self.stores:
            step(tables)
        self.last = step

    @property
    def queue(self) -> list[Operation]:
        return self.memory.queue(after=0, limit=None)

    def named(self) -> str:
        self.count += 1
        return f"o{self.count}"

    def written_as(self) -> str:
        name = self.named()
        self.written.add(name)
        return name

    def row_of(self, entity_id: str) -> Row | None:
        return self.memory.rows([key(entity_id)]).get(key(entity_id))

    # --- the application -------------------------------------------------------------------------------------------

    @rule(entity_id=ids, title=titles, kind=st.sampled_from((create, update, delete)))
    def write(self, entity_id: str, title: str, kind: Callable[..., Operation]) -> None:
        found = self.row_of(entity_id)
        base = {"before_version": found.version if found is not None else 0} if kind is not create else {}
        fields = {"title": title} if kind is not delete else {}
        self.do(partial(replica.append, operations=[kind(self.written_as(), entity_id, **base, **fields)]))

    @rule(some=st.lists(st.tuples(ids, titles), min_size=2, max_size=4))
    def write_together(self, some: list[tuple[str, str]]) -> None:
        group = self.named()
        operations = [create(self.written_as(), entity_id, group=group, title=title) for entity_id, title in some]
        self.do(partial(replica.append, operations=operations))

    @rule(entity_id=ids, title=st.none() | titles, shows_nothing=st.booleans())
    def settle_a_conflict(self, entity_id: str, title: str | None, *, shows_nothing: bool) -> None:
        found = conflict(f"c{entity_id}", entity_id)
        self.do(partial(replica.conflict_opened, conflict=found))
        shown = {"title": title} if title is not None else None
        resolve = operation(
            self.written_as(), OperationType.RESOLVE, entity_id, conflict_id=found.conflict_id, strategy="merge",
            shown=shown, shows_nothing=shows_nothing,
        )  # fmt: skip
        self.do(partial(replica.append, operations=[resolve]))

    # --- the server ------------------------------------------------------------------------------------------------

    @rule(told=st.lists(updates(), max_size=5), cursor=st.sampled_from(("c1", "c2", None)))
    def take(self, told: list[Update], cursor: str | None) -> None:
        before = self.memory.rows(KEYS)
        self.do(partial(replica.take, updates=told, cursor=cursor))
        self.newest_stays(before, told)
        self.what_is_lost_goes(told)

    def what_is_lost_goes(self, told: list[Update]) -> None:
        """D8."""
        lost = {one.row.space_id for one in told if one.is_revoked}
        left = {key for key, found in self.memory.rows(KEYS).items() if found.space_id in lost}
        assert left <= {one.row.key for one in told}

    def newest_stays(self, before: dict[Key, Row], told: list[Update]) -> None:
        """D3: no row is replaced by an older one, but for one that a reset marked or that began anew."""
        lost = {one.row.space_id for one in told if one.is_revoked}
        exempt = {one.row.key for one in told if one.is_revoked or one.begins} | {
            k for k, r in before.items() if r.stale or r.space_id in lost
        }
        for one, found in before.items():
            after = self.memory.rows([one]).get(one)
            assert one in exempt or (after is not None and after.version >= found.version)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        sent = self.queue[: data.draw(st.integers(1, 4))]
        results, conflicts, bare = [], [], []
        for one in sent:
            found = self.row_of(one.entity_id)
            version = (found.version if found is not None else 0) + data.draw(st.integers(1, 3))
            outcome = data.draw(st.sampled_from(("bare", "applied", "refused", "later", "parked", "gone")))
            is_gone = outcome == "gone" or one.operation_type is OperationType.DELETE
            shown = {"title": data.draw(titles)} if not is_gone else None
            match outcome:
                case "applied" | "gone":
                    results.append(applied(one, version, shown))
                case "bare":
                    results.append(applied(one, version, None, has_data=False))
                    bare.append((one, version))
                case "refused":
                    results.append(refused(one))
                    if one.acknowledged is None:
                        self.refused.add(one.operation_id)
                case "later":
                    results.append(refused(one, "SYNC_ERROR"))
                case "parked":
                    results.append(parked(one, f"c{one.operation_id}", version=version, title="theirs"))
                    conflicts.append(conflict(f"c{one.operation_id}", one.entity_id, operation_id=one.operation_id))
            if outcome != "later":
                self.ended.add(one.operation_id)
        self.do(partial(replica.settle, reply=reply(*results, conflicts=conflicts), is_plain=False, at=AT))
        self.stay_until_the_row_has_it(bare)

    def stay_until_the_row_has_it(self, done: list[tuple[Operation, int]]) -> None:
        """D4"""
        for one, version in done:
            found = self.row_of(one.entity_id)
            has_it = found is not None and found.version >= version
            assert has_it or self.memory.operations([one.operation_id])

    @precondition(lambda self: self.queue)
    @rule()
    def refuse(self) -> None:
        first = self.queue[0]
        if first.acknowledged is None:
            self.ended.add(first.operation_id)
            self.refused.add(first.operation_id)
        problem = Problem(error="too large", error_code="VALIDATION_ERROR")
        self.do(partial(replica.refuse, operation_ids=[first.operation_id], problem=problem, at=AT))

    @rule(entity_id=ids)
    def gone(self, entity_id: str) -> None:
        self.do(partial(replica.gone, key=key(entity_id)))

    @rule(space_id=st.sampled_from(("u-1", "s-1", None)))
    def reset(self, space_id: str | None) -> None:
        """D5: neither an operation nor a row goes, and so nothing that is shown changes."""
        queue, shown = self.queue, self.shown()
        self.do(partial(replica.mark, space_id=space_id))
        assert (self.queue, self.shown()) == (queue, shown)

    @rule(told=st.lists(updates(), max_size=4), gone=st.lists(ids, max_size=2), moved=st.lists(updates(), max_size=2))
    def repair(self, told: list[Update], gone: list[str], moved: list[Update]) -> None:
        """D7: the server was asked, something else was told meanwhile, and then the answer is taken."""
        known = {one: r.version for one, r in self.memory.rows(KEYS).items() if r.space_id == "u-1"}
        self.do(partial(replica.take, updates=moved, cursor=None))
        before, queue = self.memory.rows(KEYS), [one for one in self.queue if one.acknowledged is None]
        answers = {one.row.key: one for one in told if one.row.data is not None and one.row.space_id == "u-1"}
        taken_out = [key(one) for one in gone if key(one) not in answers]
        answer = DifferingRows([*answers.values()], taken_out, has_more=False)
        self.do(partial(replica.repair, space_id="u-1", known=known, told=answer))
        assert [one for one in self.queue if one.acknowledged is None] == queue
        after = self.memory.rows(KEYS)
        for one in KEYS:
            self.is_repaired(
                before.get(one), known.get(one), answers.get(one), after.get(one), is_gone=one in taken_out
            )

    def is_repaired(
        self, before: Row | None, known: int | None, told: Update | None, after: Row | None, *, is_gone: bool
    ) -> None:
        is_ours = before is None or before.space_id == "u-1"
        is_as_named = is_ours and (before.version if before is not None else None) == known
        if told is not None and (is_as_named or not is_ours):
            assert after == told.row
        elif is_gone and is_as_named:
            assert after is None
        elif told is None:
            assert after == before
        elif before is not None and not before.stale and not told.begins:
            assert after == max(before, told.row, key=lambda row: row.version)

    @rule()
    def complete(self) -> None:
        queue = [one for one in self.queue if one.acknowledged is None]
        self.do(partial(replica.complete, cursor="c3"))
        assert [one for one in self.queue if one.acknowledged is None] == queue
        assert self.memory.stale_keys(limit=9) == []

    @rule()
    def repeat(self) -> None:
        """D6: what was done is done. (A reset may be told again, an application writes no operation twice.)"""
        step = self.last
        if isinstance(step, partial) and step.func in {replica.take, replica.settle, replica.refuse, replica.complete}:
            before = (self.queue, self.shown(), self.memory.quarantined(), self.memory.conflicts())
            self.do(step)
            if step.func is not replica.take:
                assert (self.queue, self.shown(), self.memory.quarantined(), self.memory.conflicts()) == before

    # --- laws ------------------------------------------------------------------------------------------------------

    def shown(self) -> dict[Key, Any]:
        return {one: (e.data, e.is_pending) for one, e in views.entities(self.memory, KEYS).items()}

    @invariant()
    def what_is_shown_is_the_row_with_the_queue_on_top(self) -> None:
        """D1"""
        rows, pending, drafts = self.memory.rows(KEYS), self.memory.pending(KEYS), self.memory.drafts(KEYS)
        assert set(drafts) == set(pending)
        for one, operations in pending.items():
            assert decoded(drafts[one].data) == decoded(drawn(one, rows.get(one), operations).data)

    @invariant()
    def every_operation_is_queued_or_ended(self) -> None:
        """D2, D4: nothing without a verdict is gone; an acknowledged one is there until the row has its version."""
        queued = {one.operation_id: one for one in self.queue}
        assert self.written - self.ended <= set(queued)
        for one in queued.values():
            assert (one.acknowledged is not None) == (one.operation_id in self.ended)
            found = self.row_of(one.entity_id)
            assert one.acknowledged is None or found is None or found.version < one.acknowledged

    @invariant()
    def what_was_refused_is_in_the_quarantine(self) -> None:
        """D2"""
        assert {one.operation_id for one in self.memory.quarantined()} == self.refused

    @invariant()
    def both_stores_are_equal(self) -> None:
        states = []
        for tables in self.stores:
            queue = [msgspec.structs.replace(one, position=0) for one in tables.queue(after=0, limit=None)]
            journal = tables.journal(after=0, limit=10_000)
            states.append(
                [
                    tables.rows(KEYS), tables.drafts(KEYS), queue, tables.quarantined(), tables.conflicts(),
                    tables.counts(), tables.value(views.CURSOR), journal,
                    tables.select(Query("note", order_by="title")), set(tables.stale_keys(limit=9)),
                ]
            )  # fmt: skip
        assert states[0] == states[1]


TestReplicaLaws = ReplicaLaws.TestCase
TestReplicaLaws.settings = settings(max_examples=400, stateful_step_count=25, deadline=None)

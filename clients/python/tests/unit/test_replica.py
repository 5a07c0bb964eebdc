"""What each step does to the data, where a name says it better than a law."""

import pytest
from sync_client import replica, views
from sync_client.frames import DifferingRows, Result, Update
from sync_client.stores.memory import MemoryTables
from sync_client.stores.port import Query
from sync_client.values import Conflict, Operation, OperationType, Problem

from clients.python.tests.builders import (
    AT,
    applied,
    conflict,
    create,
    delete,
    key,
    operation,
    refused,
    reply,
    row,
    told,
    tombstone,
    update,
)

LATER = "2026-01-02T04:04:05+00:00"


@pytest.fixture
def tables() -> MemoryTables:
    return MemoryTables()


def settle(tables: MemoryTables, *results: Result, is_plain: bool = False, **members: object) -> None:
    replica.settle(tables, reply(*results, **members), is_plain=is_plain, at=AT)


def resolve(operation_id: str = "o1", **members: object) -> Operation:
    return operation(
        operation_id,
        OperationType.RESOLVE,
        conflict_id="c1",
        strategy="merge",
        **{"shown": {"title": "both"}, **members},
    )


def title(tables: MemoryTables, entity_id: str = "a") -> object:
    found = views.entity(tables, key(entity_id))
    return found["title"] if found is not None else None


def queued(tables: MemoryTables) -> list[tuple[str, int | None]]:
    return [(one.operation_id, one.acknowledged) for one in tables.queue(after=0, limit=None)]


class TestTheCursor:
    def test_is_saved_with_the_rows(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", title="x")], "c1")
        assert (tables.value(views.CURSOR), title(tables)) == ("c1", "x")

    def test_is_kept_where_none_is_told(self, tables: MemoryTables) -> None:
        replica.take(tables, [], "c1")
        replica.take(tables, [told("a")], None)
        replica.sweep(tables, None)
        assert tables.value(views.CURSOR) == "c1"

    def test_is_saved_when_the_snapshot_is_complete(self, tables: MemoryTables) -> None:
        replica.sweep(tables, "c1")
        assert tables.value(views.CURSOR) == "c1"
        replica.complete(tables, "c2")
        assert tables.value(views.CURSOR) == "c2"

    def test_is_forgotten_with_the_time_of_a_plain_server_and_everything_is_marked(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a"), Update(row("b", space_id="s1"))], "c1")
        settle(tables, is_plain=True)
        assert tables.value(views.SYNCED_AT) == AT
        replica.forget_cursor(tables)
        assert (tables.value(views.CURSOR), tables.value(views.SYNCED_AT)) == (None, None)
        assert set(tables.stale_keys(limit=9)) == {key("a"), key("b")}


class TestARow:
    def test_of_the_same_version_changes_nothing(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 2, title="first")], None)
        end = tables.journal_end()
        replica.take(tables, [told("a", 2, title="again")], None)
        assert (title(tables), tables.journal_end()) == ("first", end)

    def test_of_an_older_version_changes_nothing(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 3, title="new"), told("a", 2, title="old")], None)
        assert title(tables) == "new"

    def test_that_begins_is_believed_over_a_tombstone(self, tables: MemoryTables) -> None:
        replica.take(tables, [Update(tombstone("a", 5))], None)
        replica.take(tables, [Update(row("a", 1, title="anew")._replace(modified_at=LATER), begins=True)], None)
        assert title(tables) == "anew"

    @pytest.mark.parametrize("first", [1, 417_000_001])
    def test_of_its_own_that_begins_is_believed_over_a_tombstone(self, tables: MemoryTables, first: int) -> None:
        """The server had forgotten the tombstone: a conflict was settled, and the note began anew."""
        replica.take(tables, [Update(tombstone("a", first + 4))], None)
        settled = create("o1", title="anew")
        replica.append(tables, [settled])
        results = reply(applied(settled, first, {"title": "anew"}), synced_at=LATER)
        replica.settle(tables, results, is_plain=False, at=LATER)
        assert tables.rows([key("a")])[key("a")].version == first

    def test_of_its_own_is_of_the_moment_of_its_commit_however_late_the_reply(self, tables: MemoryTables) -> None:
        """Somebody had read it and deleted it before its author was answered: that it began is older than its end."""
        made = create("o1", title="mine")
        replica.append(tables, [made])
        replica.take(tables, [Update(tombstone("a", 2)._replace(modified_at=LATER))], None)
        result = applied(made, 1, {"title": "mine"})._replace(modified_at=AT)
        replica.settle(tables, reply(result, synced_at="2030-01-01T00:00:00Z"), is_plain=False, at=LATER)
        assert title(tables) is None

    @pytest.mark.parametrize("modified_at", [AT, "2025-12-31T00:00:00Z", None, "yesterday"])
    def test_that_begins_is_not_believed_where_it_is_no_later_than_the_tombstone(
        self, tables: MemoryTables, modified_at: str | None
    ) -> None:
        replica.take(tables, [Update(tombstone("a", 5))], None)
        first = row("a", 1, title="told once more")._replace(modified_at=modified_at)
        replica.take(tables, [Update(first, begins=True)], None)
        assert title(tables) is None

    def test_that_begins_is_not_believed_over_a_newer_one_that_lives(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 5, title="alive")], None)
        replica.take(
            tables, [Update(row("a", 1, title="first version")._replace(modified_at=LATER), begins=True)], None
        )
        assert title(tables) == "alive"

    def test_that_does_not_begin_is_not_believed_over_a_newer_tombstone(self, tables: MemoryTables) -> None:
        replica.take(
            tables, [Update(tombstone("a", 5)), Update(row("a", 4, title="x")._replace(modified_at=LATER))], None
        )
        assert title(tables) is None

    def test_that_is_revoked_leaves_nothing(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 5)], None)
        replica.take(tables, [Update(tombstone("a", 0), is_revoked=True)], None)
        assert tables.rows([key("a")]) == {}

    def test_that_is_revoked_takes_with_it_what_else_is_here_of_its_space(self, tables: MemoryTables) -> None:
        """A row that the server does not know would never be told."""
        here = [Update(row(name, 3, space_id=space)) for name, space in (("a", "s-1"), ("b", "s-1"), ("c", "s-2"))]
        replica.take(tables, here, None)
        replica.append(tables, [update("o1", "b", before_version=3, title="mine")])
        lost = Update(tombstone("a", 0)._replace(space_id="s-1"), is_revoked=True)
        replica.take(tables, [lost, Update(row("d", 1, space_id="s-1"))], None)
        assert sorted(one.entity_id for one in tables.rows([key(name) for name in "abcd"])) == ["c", "d"]
        assert tables.counts().pending == 1

    def test_that_names_no_space_stays_in_its_space(self, tables: MemoryTables) -> None:
        replica.take(tables, [Update(row("a", 1, space_id="s1"))], None)
        replica.take(tables, [Update(row("a", 2, space_id=None))], None)
        assert tables.rows([key("a")])[key("a")].space_id == "s1"

    def test_of_a_plain_server_keeps_the_fields_that_it_does_not_name(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 1, title="old", content="kept")], None, is_plain=True)
        replica.take(tables, [told("a", 2, title="new")], None, is_plain=True)
        found = views.entity(tables, key("a"))
        assert found is not None
        assert found.data == {"title": "new", "content": "kept"}

    def test_of_a_full_server_is_the_whole_entity(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 1, title="old", content="gone")], None)
        replica.take(tables, [told("a", 2, title="new")], None)
        found = views.entity(tables, key("a"))
        assert found is not None
        assert found.data == {"title": "new"}


class TestAReset:
    @pytest.mark.parametrize(("space_id", "marked"), [("s1", {"b"}), (None, {"a", "b"})])
    def test_marks_the_rows_of_its_space(self, tables: MemoryTables, space_id: str | None, marked: set[str]) -> None:
        replica.take(tables, [told("a"), Update(row("b", space_id="s1"))], None)
        replica.mark(tables, space_id)
        assert {one.entity_id for one in tables.stale_keys(limit=9)} == marked

    @pytest.mark.parametrize(("space_id", "marked"), [("s1", {"b"}), (None, {"a", "b"})])
    def test_in_the_reply_of_a_plain_server_marks_too(
        self, tables: MemoryTables, space_id: str | None, marked: set[str]
    ) -> None:
        replica.take(tables, [told("a"), Update(row("b", space_id="s1"))], None)
        settle(tables, is_plain=True, resets=[space_id])
        assert {one.entity_id for one in tables.stale_keys(limit=9)} == marked

    def test_in_a_reply_is_before_its_rows(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 5, title="before")], None)
        settle(tables, is_plain=True, resets=[None], updates=[told("a", 2, title="restored")])
        assert (title(tables), tables.stale_keys(limit=9)) == ("restored", [])

    def test_takes_any_version_of_a_marked_row(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 5, title="before")], None)
        replica.mark(tables, None)
        replica.take(tables, [told("a", 2, title="restored")], None)
        replica.sweep(tables, None)
        assert title(tables) == "restored"


class TestASweep:
    def test_takes_more_than_one_page(self, tables: MemoryTables, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replica, "SWEEP", 2)
        replica.take(tables, [told(f"n{n}") for n in range(5)], None)
        replica.mark(tables, None)
        replica.take(tables, [told("n3", 2)], None)
        replica.sweep(tables, "c2")
        assert [one.id for one in views.select(tables, Query("note"))] == ["n3"]
        assert tables.stale_keys(limit=9) == []

    def test_tells_what_is_gone(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a")], None)
        replica.mark(tables, None)
        end = tables.journal_end()
        replica.sweep(tables, None)
        assert tables.journal(after=end, limit=9).touches == [(key("a"), "deleted", "remote")]

    def test_says_complete_only_when_everything_is_here(self, tables: MemoryTables) -> None:
        replica.sweep(tables, "c1")
        assert tables.value(views.IS_COMPLETE) is None
        replica.complete(tables, "c1")
        assert tables.value(views.IS_COMPLETE) == "yes"


class TestAResultWithoutData:
    """D4: its operation stays, acknowledged and in sight, until the row has what it did."""

    @pytest.mark.parametrize(
        ("done", "shown"),
        [
            (create("o1", title="mine"), "mine"), (update("o1", title="mine"), "mine"), (delete("o1"), None),
            (resolve("o1"), "both"),
        ],
    )  # fmt: skip
    def test_leaves_the_operation_in_sight(self, tables: MemoryTables, done: Operation, shown: object) -> None:
        replica.take(tables, [told("a", 1, title="old")], None)
        replica.append(tables, [done])
        settle(tables, applied(done, 3, None, has_data=False))
        assert (queued(tables), title(tables)) == ([("o1", 3)], shown)
        replica.take(tables, [told("a", 2, title="between")], None)
        assert (queued(tables), title(tables)) == ([("o1", 3)], shown)
        replica.take(tables, [told("a", 3, title="with it")], None)
        assert (queued(tables), title(tables)) == ([], "with it")

    def test_of_a_delete_ends_with_the_tombstone(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 1)], None)
        replica.append(tables, [delete("o1")])
        settle(tables, applied(delete("o1"), 2, None, has_data=False))
        replica.take(tables, [Update(tombstone("a", 2))], None)
        assert (queued(tables), title(tables)) == ([], None)

    def test_of_a_delete_on_a_plain_server_is_the_end_of_both(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 1)], None)
        replica.append(tables, [delete("o1")])
        settle(tables, applied(delete("o1"), 2, None, has_data=False), is_plain=True)
        assert (queued(tables), title(tables)) == ([], None)
        assert tables.rows([key("a")])[key("a")].version == 2

    def test_ends_when_the_server_has_no_such_entity_any_more(self, tables: MemoryTables) -> None:
        pending = update("o2", "b", title="mine")
        replica.append(tables, [create("o1", title="x"), pending])
        settle(tables, applied(create("o1"), 1, None, has_data=False))
        replica.gone(tables, key("a"))
        replica.gone(tables, key("b"))
        assert (queued(tables), title(tables)) == ([("o2", None)], None)

    def test_is_not_refused_for_it_any_more(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", title="x")])
        settle(tables, applied(create("o1"), 1, None, has_data=False))
        replica.refuse(tables, ["o1"], Problem(error="no", error_code="FORBIDDEN"), at=AT)
        settle(tables, refused(create("o1"), "FORBIDDEN"))
        assert tables.quarantined() == []


class TestAResult:
    def test_puts_the_entity_in_place_of_the_operation(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", title="mine")])
        settle(tables, applied(create("o1"), 1, {"title": "as the server has it"}))
        assert (queued(tables), title(tables)) == ([], "as the server has it")

    def test_says_who_wrote_the_row_and_where_it_is(self, tables: MemoryTables) -> None:
        replica.own(tables, "7")
        replica.append(tables, [create("o1", title="x")])
        settle(tables, applied(create("o1"), 1, {"title": "x"}))
        found = views.entity(tables, key("a"))
        assert found is not None
        assert (found.modified_by, found.modified_at, found.space_id) == (7, AT, "u-7")

    def test_of_an_update_leaves_the_row_in_its_space(self, tables: MemoryTables) -> None:
        replica.own(tables, "7")
        replica.take(tables, [Update(row("a", 1, space_id="s1"))], None)
        replica.append(tables, [update("o1", title="x")])
        settle(tables, applied(update("o1"), 2, {"title": "x"}))
        found = views.entity(tables, key("a"))
        assert found is not None
        assert (found.modified_by, found.space_id) == (7, "s1")

    def test_that_may_come_later_leaves_everything(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", title="x")])
        settle(tables, refused(create("o1"), "SYNC_ERROR"))
        assert (queued(tables), title(tables), tables.quarantined()) == ([("o1", None)], "x", [])

    def test_of_a_refusal_is_in_the_quarantine_with_its_reason(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", title="x")])
        settle(tables, refused(create("o1")))
        (one,) = tables.quarantined()
        assert (one.operation_id, one.problem.error_code, one.since) == ("o1", "VALIDATION_ERROR", AT)
        assert (queued(tables), title(tables)) == ([], None)

    @pytest.mark.parametrize(
        ("verdict", "conflict_id", "listed"),
        [("conflict", None, []), ("rejected", "c1", []), (None, None, [conflict("c1")])],
    )
    def test_of_a_conflict_is_not_in_the_quarantine(
        self, tables: MemoryTables, verdict: str | None, conflict_id: str | None, listed: list[Conflict]
    ) -> None:
        done = update("o1", title="mine")
        replica.append(tables, [done])
        result = Result("o1", done.operation_type, False, verdict, done.key, None, False, None, conflict_id, None)
        settle(tables, result, conflicts=listed)
        assert (queued(tables), tables.quarantined(), tables.conflicts()) == ([], [], listed)

    def test_without_a_word_is_a_refusal(self, tables: MemoryTables) -> None:
        done = update("o1", title="mine")
        replica.append(tables, [done])
        settle(tables, Result("o1", done.operation_type, False, None, done.key, None, False, None, None, None))
        assert [one.problem.error_code for one in tables.quarantined()] == ["CONFLICT"]

    def test_of_a_plain_server_raises_the_base_of_what_comes_behind(self, tables: MemoryTables) -> None:
        first, second = update("o1", title="x"), update("o2", title="y")
        replica.take(tables, [told("a", 1)], None)
        replica.append(tables, [first, second])
        settle(tables, applied(first, 2, {"title": "x"}), is_plain=True)
        assert [one.before_version for one in tables.queue(after=0, limit=None)] == [2]

    def test_of_a_plain_server_leaves_the_base_where_another_came_between(self, tables: MemoryTables) -> None:
        first, second = update("o1", title="x"), update("o2", title="y")
        replica.take(tables, [told("a", 1)], None)
        replica.append(tables, [first, second])
        settle(tables, applied(first, 3, {"title": "x"}), is_plain=True)
        assert [one.before_version for one in tables.queue(after=0, limit=None)] == [1]

    def test_of_a_full_server_leaves_the_base_as_it_was_written(self, tables: MemoryTables) -> None:
        first, second = update("o1", title="x"), update("o2", title="y")
        replica.append(tables, [first, second])
        settle(tables, applied(first, 2, {"title": "x"}))
        assert [one.before_version for one in tables.queue(after=0, limit=None)] == [1]


class TestAResolve:
    @pytest.fixture(autouse=True)
    def _queued(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 2, title="theirs")], None)
        tables.save_conflicts([conflict("c1"), conflict("c2", "b")])
        replica.append(tables, [resolve()])

    @pytest.mark.parametrize("has_data", [True, False])
    def test_that_succeeded_removes_its_conflict(self, tables: MemoryTables, *, has_data: bool) -> None:
        settle(tables, applied(resolve(), 3, {"title": "both"} if has_data else None, has_data=has_data))
        assert [one.conflict_id for one in tables.conflicts()] == ["c2"]

    @pytest.mark.parametrize("code", ["CONFLICT", "NOT_FOUND"])
    def test_that_somebody_else_forestalled_removes_its_conflict(self, tables: MemoryTables, code: str) -> None:
        settle(tables, refused(resolve(), code))
        assert [one.conflict_id for one in tables.conflicts()] == ["c2"]
        assert [one.operation_id for one in tables.quarantined()] == ["o1"]

    @pytest.mark.parametrize("code", ["VALIDATION_ERROR", "FORBIDDEN", "SYNC_ERROR"])
    def test_that_failed_otherwise_does_not(self, tables: MemoryTables, code: str) -> None:
        settle(tables, refused(resolve(), code))
        assert [one.conflict_id for one in tables.conflicts()] == ["c1", "c2"]

    def test_of_somebody_else_removes_the_conflict(self, tables: MemoryTables) -> None:
        replica.conflict_closed(tables, "c2")
        assert [one.conflict_id for one in tables.conflicts()] == ["c1"]


class TestConflictsListed:
    def test_are_those_that_are_open_and_those_that_came_meanwhile(self, tables: MemoryTables) -> None:
        replica.conflict_opened(tables, conflict("settled"))
        known = [one.conflict_id for one in tables.conflicts()]
        replica.conflict_opened(tables, conflict("came meanwhile"))
        replica.conflicts_listed(tables, known, [conflict("open")])
        assert [one.conflict_id for one in tables.conflicts()] == ["came meanwhile", "open"]


class TestATransaction:
    def test_is_released_as_a_whole(self, tables: MemoryTables) -> None:
        some = [create("o1", "a", group="g"), create("o2", "b", group="g"), create("o3", "c", group="h")]
        replica.append(tables, some)
        settle(tables, *map(refused, some))
        assert [one.operation_id for one in replica.released(tables, "o2")] == ["o1", "o2"]
        assert [one.operation_id for one in tables.quarantined()] == ["o3"]
        assert replica.released(tables, "o2") == []

    def test_takes_no_operation_without_one_with_it(self, tables: MemoryTables) -> None:
        some = [create("o1", "a"), create("o2", "b")]
        replica.append(tables, some)
        settle(tables, *map(refused, some))
        assert [one.operation_id for one in replica.released(tables, "o1")] == ["o1"]


class TestARepair:
    """The server was asked about some rows; `known` are their versions at that time."""

    def repair(self, tables: MemoryTables, known: dict[str, int], *updates: Update, gone: tuple[str, ...] = ()) -> None:
        told_now = DifferingRows(list(updates), [key(one) for one in gone], has_more=False)
        replica.repair(tables, "u-1", {key(one): version for one, version in known.items()}, told_now)

    def versions(self, tables: MemoryTables) -> dict[str, int]:
        return {one.entity_id: version for _, one, version in tables.versions(["u-1"])}

    def test_puts_what_is_missing_too_old_or_too_new(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("old", 2), told("new", 9), told("same", 4)], None)
        self.repair(tables, {"old": 2, "new": 9}, told("old", 3), told("new", 3), told("missing", 1))
        assert self.versions(tables) == {"old": 3, "new": 3, "missing": 1, "same": 4}

    def test_takes_out_what_is_not_there(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("phantom"), told("kept")], None)
        self.repair(tables, {"phantom": 1}, gone=("phantom", "unknown"))
        assert self.versions(tables) == {"kept": 1}

    def test_brings_back_what_counts_as_deleted(self, tables: MemoryTables) -> None:
        replica.take(tables, [Update(tombstone("a", 7))], None)
        self.repair(tables, {"a": 7}, told("a", 3))
        assert self.versions(tables) == {"a": 3}

    def test_leaves_what_was_told_meanwhile(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 5), Update(tombstone("b", 6)), told("c", 4)], None)
        self.repair(tables, {"a": 3, "b": 5, "c": 3}, told("a", 4), told("b", 5), gone=("c",))
        assert self.versions(tables) == {"a": 5, "c": 4}

    def test_moves_what_counts_to_another_space(self, tables: MemoryTables) -> None:
        replica.take(tables, [Update(row("a", 2, space_id="s1")), Update(row("b", 2, space_id="s1"))], None)
        self.repair(tables, {}, told("a", 2), gone=("b",))
        assert self.versions(tables) == {"a": 2}
        assert [one for _, one, _ in tables.versions(["s1"])] == [key("b")], "that is another space's row"

    def test_leaves_what_a_reset_marked_to_the_reset(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a"), told("phantom")], None)
        replica.mark(tables, "u-1")
        self.repair(tables, {"a": 1, "phantom": 1}, gone=("phantom",))
        assert tables.stale_keys(limit=9) == [key("a")]

    def test_keeps_what_is_pending_on_top(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 9, title="wrong", content="wrong"), told("phantom", 1, title="x")], None)
        replica.append(
            tables, [update("o1", "a", before_version=9, title="mine"), update("o2", "phantom", title="mine")]
        )
        self.repair(tables, {"a": 9, "phantom": 1}, told("a", 3, title="theirs", content="theirs"), gone=("phantom",))
        found = views.entity(tables, key("a"))
        assert found is not None
        assert (found.version, found.is_pending, found.data) == (3, True, {"title": "mine", "content": "theirs"})
        assert queued(tables) == [("o1", None), ("o2", None)]

    def test_is_told_like_any_change(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 9, title="wrong"), told("b", title="x"), told("c", title="x")], None)
        end = tables.journal_end()
        self.repair(tables, {"a": 9, "b": 1}, told("a", 3, title="right"), told("d", title="new"), gone=("b",))
        touches = tables.journal(after=end, limit=9).touches
        assert {(one.key.entity_id, one.kind, one.origin) for one in touches} == {
            ("a", "updated", "remote"), ("b", "deleted", "remote"), ("d", "created", "remote"),
        }  # fmt: skip

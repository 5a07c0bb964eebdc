"""What every store promises. A module subclasses `StoreContract` and gives it a `store` fixture."""

import msgspec
import pytest
from sync_client import replica, views
from sync_client.errors import StoreError
from sync_client.stores.port import JOURNAL_TOUCHES, Query, Store, Tables
from sync_client.values import Draft, Problem, Quarantined, Touch

from clients.python.tests.builders import AT, conflict, create, delete, key, row, tombstone, update


class FakeError(Exception):
    """Something that a step raises."""


class StoreContract:
    """A store runs steps one at a time, each whole or not at all."""

    # --- transactions ----------------------------------------------------------------------------------------------

    async def test_what_a_step_returns_is_the_answer(self, store: Store) -> None:
        assert await store.run(lambda tables: tables.value("cursor")) is None

    async def test_a_step_is_kept(self, store: Store) -> None:
        await store.run(lambda tables: tables.save_value("cursor", "c1"))
        assert await store.run(lambda tables: tables.value("cursor")) == "c1"

    async def test_a_step_that_raises_is_undone_and_tells(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.save_value("cursor", "c1")
            tables.save_rows([row("a")])
            tables.enqueue([create("o1")])
            raise FakeError

        with pytest.raises(FakeError):
            await store.run(step)
        assert await store.run(_everything) == ([], [], None)

    async def test_the_step_after_one_that_raised_is_kept(self, store: Store) -> None:
        with pytest.raises(FakeError):
            await store.run(_raise)
        await store.run(lambda tables: tables.enqueue([create("o1")]))
        (queued,) = await store.run(lambda tables: tables.queue(after=0, limit=None))
        assert queued.operation_id == "o1"

    async def test_a_discarded_step_answers_and_is_undone(self, store: Store) -> None:
        def step(tables: Tables) -> int:
            tables.enqueue([create("o1")])
            return tables.counts().pending

        assert await store.run(step, discard=True) == 1
        assert await store.run(lambda tables: tables.counts().pending) == 0

    async def test_closed_it_says_so(self, store: Store) -> None:
        await store.close()
        await store.close()
        with pytest.raises(StoreError):
            await store.run(lambda tables: tables.value("cursor"))

    # --- values and rows -------------------------------------------------------------------------------------------

    async def test_a_value_is_replaced_and_removed(self, store: Store) -> None:
        def step(tables: Tables) -> list[str | None]:
            seen = []
            for text in ("a", "b", None):
                tables.save_value("x", text)
                seen.append(tables.value("x"))
            return seen

        assert await store.run(step) == ["a", "b", None]

    async def test_rows_are_found_by_type_and_id(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            folder = row("a")._replace(key=key("a", "folder"))
            tables.save_rows([row("a", title="x"), row("b"), folder])
            assert tables.rows([key("a"), key("missing")]) == {key("a"): row("a", title="x")}
            assert set(tables.rows([key("a"), key("a", "folder")])) == {key("a"), key("a", "folder")}

        await store.run(step)

    async def test_a_row_takes_the_place_of_the_older_one(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.save_rows([row("a", 1)])
            tables.save_rows([tombstone("a", 2)])
            assert tables.rows([key("a")]) == {key("a"): tombstone("a", 2)}
            tables.delete_rows([key("a"), key("missing")])
            assert tables.rows([key("a")]) == {}

        await store.run(step)

    async def test_a_space_is_marked_and_the_marked_are_found(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.save_rows([row("a"), row("b", space_id="s1"), row("c", space_id=None)])
            tables.mark_stale("s1")
            assert tables.stale_keys(limit=9) == [key("b")]
            tables.mark_stale(None)
            assert set(tables.stale_keys(limit=9)) == {key("a"), key("b"), key("c")}
            assert len(tables.stale_keys(limit=2)) == 2
            tables.save_rows([row("a", 2)])
            assert key("a") not in tables.stale_keys(limit=9)

        await store.run(step)

    async def test_versions_are_of_the_live_rows_or_the_deleted_ones_of_some_spaces(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.save_rows([row("a", 3), tombstone("b"), row("c", space_id="s1"), row("d", space_id=None)])
            assert list(tables.versions(["u-1", "s2"])) == [("u-1", key("a"), 3)]
            assert sorted(tables.versions(["u-1", "s1"])) == [("s1", key("c"), 1), ("u-1", key("a"), 3)]
            assert list(tables.versions(["u-1"], deleted=True)) == [("u-1", key("b"), 2)]
            assert list(tables.versions([])) == []

        await store.run(step)

    # --- what is shown ---------------------------------------------------------------------------------------------

    async def test_a_draft_is_shown_in_place_of_its_row(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.save_rows([row("a", title="old"), row("b", title="kept")])
            tables.save_drafts([Draft(key("a"), None, '{"id":"a","title":"new"}'), Draft(key("b"), None, None)])
            assert tables.select(Query("note")) == [key("a")]
            assert tables.select(Query("note", (("title", "new"),))) == [key("a")]
            assert tables.select(Query("note", (("title", "old"),))) == []
            tables.delete_drafts([key("a"), key("b")])
            assert tables.select(Query("note", (("title", "old"),))) == [key("a")]

        await store.run(step)

    @pytest.mark.parametrize(
        ("value", "found"),
        [("1", ["text"]), (1, ["int", "real"]), (1.0, ["int", "real"]), (True, ["true"]), (None, ["absent", "null"])],
    )
    async def test_a_field_is_equal_in_its_own_kind(self, store: Store, value: object, found: list[str]) -> None:
        values = {"text": "1", "int": 1, "real": 1.0, "true": True, "null": None, "list": [1], "object": {"x": 1}}

        def step(tables: Tables) -> list[str]:
            tables.save_rows([row(name, field=value) for name, value in values.items()])
            tables.save_rows([row("absent")])
            query = Query("note", (("field", value),))  # type: ignore[arg-type]  every kind of scalar
            return sorted(one.entity_id for one in tables.select(query))

        assert await store.run(step) == found

    async def test_order_is_by_kind_then_value_then_creation(self, store: Store) -> None:
        values = {"n": None, "f": False, "zero": 0, "t": True, "two": 2, "b": "b", "a": "a", "e": "é", "l": [1]}

        def step(tables: Tables) -> None:
            tables.save_rows([row(name, field=value) for name, value in values.items()])
            found = [one.entity_id for one in tables.select(Query("note", order_by="field"))]
            assert found == ["n", "f", "zero", "t", "two", "a", "b", "e", "l"]
            largest = tables.select(Query("note", order_by="field", descending=True, limit=3))
            assert [one.entity_id for one in largest] == ["l", "e", "b"]

        await store.run(step)

    async def test_without_an_order_numbers_come_as_they_were_made(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.save_rows([row("10"), row("9"), row("100")])
            assert [one.entity_id for one in tables.select(Query("note", limit=2))] == ["9", "10"]

        await store.run(step)

    async def test_names_and_values_are_never_taken_for_queries(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.save_rows([row("a", **{"a.b'": "x' OR 1=1 --", "$": 1})])
            assert tables.select(Query("note", (("a.b'", "x' OR 1=1 --"),), order_by="a.b'")) == [key("a")]
            assert tables.select(Query("note", (("$", 1),))) == [key("a")]
            assert tables.select(Query("note", (("b'", "x' OR 1=1 --"),))) == []

        await store.run(step)

    # --- the queue -------------------------------------------------------------------------------------------------

    async def test_the_queue_keeps_order_and_content(self, store: Store) -> None:
        operations = [create("o1", title="ä"), update("o2"), delete("o3", "b")]

        def step(tables: Tables) -> None:
            tables.enqueue(operations)
            queue = tables.queue(after=0, limit=None)
            assert [msgspec.structs.replace(one, position=0) for one in queue] == operations
            assert [one.operation_id for one in tables.queue(after=queue[0].position, limit=1)] == ["o2"]
            assert [one.operation_id for one in tables.pending([key("a")])[key("a")]] == ["o1", "o2"]
            assert set(tables.operations(["o3", "missing"])) == {"o3"}

        await store.run(step)

    async def test_the_queue_keeps_its_order_when_a_step_is_undone(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.dequeue(["o1"])
            tables.replace_operations([create("o2", "renamed")])
            tables.enqueue([create("o4", "d")])
            raise FakeError

        await store.run(lambda tables: tables.enqueue([create("o1"), create("o2", "b"), create("o3", "c")]))
        before = await store.run(lambda tables: tables.queue(after=0, limit=None))
        with pytest.raises(FakeError):
            await store.run(step)
        assert await store.run(lambda tables: tables.queue(after=0, limit=None)) == before

    async def test_positions_are_never_used_again(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.enqueue([create("o1")])
            (first,) = tables.queue(after=0, limit=None)
            tables.dequeue(["o1"])
            tables.enqueue([create("o2")])
            (second,) = tables.queue(after=0, limit=None)
            assert second.position > first.position

        await store.run(step)

    async def test_a_replaced_operation_keeps_its_place(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.enqueue([create("o1"), create("o2", "b")])
            tables.replace_operations([create("o1", "renamed"), create("o9", "never queued")])
            queue = tables.queue(after=0, limit=None)
            assert [(one.operation_id, one.entity_id) for one in queue] == [("o1", "renamed"), ("o2", "b")]
            assert set(tables.pending([key("a"), key("renamed")])) == {key("renamed")}

        await store.run(step)

    # --- what waits for a person -----------------------------------------------------------------------------------

    async def test_the_quarantine_keeps_what_was_refused_and_why(self, store: Store) -> None:
        problem = Problem(error="no", error_code="FORBIDDEN", details={"field": "x"})
        some = [Quarantined(operation=create(f"o{n}"), problem=problem, since=AT) for n in (2, 1)]

        def step(tables: Tables) -> None:
            tables.quarantine(some)
            tables.quarantine(some[:1])
            assert tables.quarantined() == some
            tables.release(["o2", "missing"])
            assert tables.quarantined() == some[1:]

        await store.run(step)

    async def test_conflicts_are_kept_once_in_the_order_in_which_they_came(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.save_conflicts([conflict("c2"), conflict("c1")])
            tables.save_conflicts([conflict("c2", rule="other")])
            assert [(one.conflict_id, one.rule) for one in tables.conflicts()] == [("c2", "other"), ("c1", "manual")]
            tables.delete_conflicts(["c2", "missing"])
            assert [one.conflict_id for one in tables.conflicts()] == ["c1"]

        await store.run(step)

    async def test_counts_are_of_what_waits(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.enqueue([create("o1"), create("o2", "b")])
            tables.save_conflicts([conflict()])
            assert tuple(tables.counts()) == (2, 1, 0)

        await store.run(step)

    async def test_an_alias_leads_to_the_id_of_the_server(self, store: Store) -> None:
        def step(tables: Tables) -> None:
            tables.save_alias(key("made"), key("12"))
            assert tables.aliases([key("made"), key("other")]) == {key("made"): key("12")}
            assert tables.aliases([key("made", "folder")]) == {}

        await store.run(step)

    # --- the journal -----------------------------------------------------------------------------------------------

    async def test_the_journal_is_read_after_a_position(self, store: Store) -> None:
        first, second = Touch(key("a"), "created", "local"), Touch(key("b"), "deleted", "remote")

        def step(tables: Tables) -> None:
            start = tables.journal_end()
            tables.write_journal([first])
            middle = tables.journal_end()
            tables.write_journal([second])
            assert tables.journal(after=start, limit=9) == ([first, second], tables.journal_end(), False)
            assert tables.journal(after=start, limit=1) == ([first], middle, False)
            assert tables.journal(after=tables.journal_end(), limit=9) == ([], tables.journal_end(), False)

        await store.run(step)

    async def test_a_reader_far_behind_is_told_of_the_gap(self, store: Store) -> None:
        touches = [Touch(key("a"), "updated", "remote")] * (JOURNAL_TOUCHES // 2)

        def step(tables: Tables) -> None:
            for _ in range(2):
                tables.write_journal(touches)
            assert tables.journal(after=0, limit=1).has_gap is False
            tables.write_journal(touches)
            page = tables.journal(after=0, limit=9)
            assert page.has_gap
            assert len(page.touches) == JOURNAL_TOUCHES

        await store.run(step)

    # --- steps -----------------------------------------------------------------------------------------------------

    async def test_a_write_and_its_draft_are_one(self, store: Store) -> None:
        await store.run(lambda tables: replica.append(tables, [create("o1", title="x")]), durable=True)
        found = await store.run(lambda tables: views.entity(tables, key("a")))
        assert found is not None
        assert (found["title"], found.is_pending) == ("x", True)


def _raise(tables: Tables) -> None:
    tables.save_value("x", "y")
    raise FakeError


def _everything(tables: Tables) -> tuple[object, ...]:
    return list(tables.rows([key("a")])), tables.queue(after=0, limit=None), tables.value("cursor")

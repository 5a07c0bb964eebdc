"""What the journal tells of a step, and what an entity is made of."""

import pytest
from sync_client import replica, views
from sync_client.frames import Update
from sync_client.stores.memory import MemoryTables
from sync_client.values import Touch

from clients.python.tests.builders import (
    AT,
    applied,
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


@pytest.fixture
def tables() -> MemoryTables:
    return MemoryTables()


def read(tables: MemoryTables, after: int = 0) -> list[tuple[str, str, str]]:
    return [_words(touch) for touch in tables.journal(after=after, limit=99).touches]


def _words(touch: Touch) -> tuple[str, str, str]:
    return touch.key.entity_id, touch.kind, touch.origin


class TestTheJournal:
    def test_calls_local_what_was_written_here(self, tables: MemoryTables) -> None:
        for one in (create("o1"), update("o2", title="x"), delete("o3")):
            replica.append(tables, [one])
        assert read(tables) == [("a", "created", "local"), ("a", "updated", "local"), ("a", "deleted", "local")]

    def test_calls_remote_what_was_told(self, tables: MemoryTables) -> None:
        for one in (told("a", 1, title="x"), told("a", 2, title="y"), Update(tombstone("a", 3))):
            replica.take(tables, [one], None)
        assert read(tables) == [("a", "created", "remote"), ("a", "updated", "remote"), ("a", "deleted", "remote")]

    def test_calls_remote_what_a_refusal_undoes(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1")])
        replica.settle(tables, reply(refused(create("o1"))), is_plain=False, at=AT)
        assert read(tables)[1:] == [("a", "deleted", "remote")]

    def test_does_not_tell_of_a_row_below_what_is_shown(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 1, title="old")], None)
        replica.append(tables, [update("o1", title="mine")])
        end = tables.journal_end()
        replica.take(tables, [told("a", 2, title="theirs")], None)
        assert read(tables, end) == []

    def test_does_not_tell_equal_data_again_whatever_its_json_looks_like(self, tables: MemoryTables) -> None:
        written = ('{"id":"a","x":1,"y":[2]}', '{ "y": [2], "x": 1.0, "id": "a" }')
        first, second = (row("a", n + 1)._replace(data=text) for n, text in enumerate(written))
        replica.take(tables, [Update(first)], None)
        end = tables.journal_end()
        replica.take(tables, [Update(second)], None)
        assert tables.rows([key("a")])[key("a")].version == 2
        assert read(tables, end) == []

    def test_tells_when_only_the_waiting_begins_and_ends(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 1, title="x")], None)
        end = tables.journal_end()
        same = update("o1", title="x")
        replica.append(tables, [same])
        replica.settle(tables, reply(applied(same, 2, {"title": "x"})), is_plain=False, at=AT)
        assert read(tables, end) == [("a", "updated", "local"), ("a", "updated", "remote")]

    def test_is_one_line_for_each_entity_of_a_step(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 1, title="x"), told("b", 1), told("a", 2, title="y")], None)
        assert sorted(read(tables)) == [("a", "created", "remote"), ("b", "created", "remote")]


class TestAnEntity:
    def test_with_a_draft_is_pending_and_has_the_version_of_its_row(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 4, title="old")], None)
        replica.append(tables, [update("o1", title="mine")])
        found = views.entity(tables, key("a"))
        assert found is not None
        assert (found.data, found.version, found.is_pending, found.modified_by) == ({"title": "mine"}, 4, True, 1)

    def test_is_in_the_space_that_its_create_names(self, tables: MemoryTables) -> None:
        replica.append(tables, [operation("o1", create("o").operation_type, fields={}, space_id="s1")])
        replica.append(tables, [update("o2", title="x")])
        found = views.entity(tables, key("a"))
        assert found is not None
        assert (found.space_id, found.version) == ("s1", 0)

    def test_stays_in_the_space_of_its_row_while_a_draft_is_shown(self, tables: MemoryTables) -> None:
        replica.take(tables, [Update(row("a", space_id="s2"))], None)
        replica.append(tables, [update("o1", title="x")])
        found = views.entity(tables, key("a"))
        assert found is not None
        assert found.space_id == "s2"
        replica.take(tables, [Update(row("a", 2, space_id="s2"))], None)
        again = views.entity(tables, key("a"))
        assert again is not None
        assert again.space_id == "s2"

    def test_has_its_id_beside_its_fields(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", title="x"), Update(row("12", title="y"))], None)
        found = views.entities(tables, [key("a"), key("12")])
        assert {one.id: one.data for one in found.values()} == {"a": {"title": "x"}, 12: {"title": "y"}}

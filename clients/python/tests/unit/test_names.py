"""What names an entity by the id that it was made under gets the server's: in the queue, the quarantine, the future."""

import pytest
from sync_client import replica, views
from sync_client.frames import Result
from sync_client.stores.memory import MemoryTables
from sync_client.stores.port import Query
from sync_client.values import Key, Operation

from clients.python.tests.builders import AT, applied, create, delete, key, operation, refused, reply, update

MADE = "01890000-0000-7000-8000-00000000000a"
"""As this package makes ids."""
OTHER = "01890000-0000-7000-8000-00000000000b"


@pytest.fixture
def tables() -> MemoryTables:
    return MemoryTables()


def named(done: Operation, entity_id: str, version: int = 1, **data: object) -> Result:
    """A plain server's result, which names the entity anew."""
    return applied(done, version, data)._replace(key=done.key._replace(entity_id=entity_id))


def settle(tables: MemoryTables, *results: Result) -> None:
    replica.settle(tables, reply(*results), is_plain=True, at=AT)


def queue(tables: MemoryTables) -> list[Operation]:
    return tables.queue(after=0, limit=None)


class TestANameOfTheServer:
    def test_is_in_the_row_and_the_old_one_leads_to_it(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", MADE, title="x")])
        settle(tables, named(create("o1", MADE), "12", title="x"))
        found = views.entity(tables, key(MADE))
        assert found is not None
        assert (found.id, queue(tables)) == (12, [])
        assert [one.id for one in views.select(tables, Query("note"))] == [12]

    def test_is_in_what_waits_behind_as_its_entity_and_in_fields(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", MADE), update("o2", MADE, before_version=0, title="x"), delete("o3", "b")])
        replica.append(tables, [create("o4", "c", of=MADE, deep=[{"to": MADE, "text": f"see {MADE}"}])])
        settle(tables, named(create("o1", MADE), "12"))
        assert [one.entity_id for one in queue(tables)] == ["12", "b", "c"]
        assert queue(tables)[-1].fields == {"of": 12, "deep": [{"to": 12, "text": f"see {MADE}"}]}

    def test_is_in_what_is_shown(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", MADE), update("o2", MADE, title="mine"), create("o3", "c", of=MADE)])
        settle(tables, named(create("o1", MADE), "12", title="theirs"))
        assert {one.id: one.data for one in views.select(tables, Query("note"))} == {
            12: {"title": "mine"}, "c": {"of": 12},
        }  # fmt: skip
        assert tables.drafts([key(MADE)]) == {}

    def test_is_in_the_quarantine(self, tables: MemoryTables) -> None:
        link = create("o2", "c", of=MADE)
        edit = update("o3", MADE, before_version=0, title="x")
        replica.append(tables, [create("o1", MADE), link, edit])
        settle(tables, refused(link), refused(edit))
        settle(tables, named(create("o1", MADE), "12"))
        first, second = (one.operation for one in tables.quarantined())
        assert (first.entity_id, first.fields) == ("c", {"of": 12})
        assert (second.entity_id, second.before_version) == ("12", 1)
        assert [one.problem.error_code for one in tables.quarantined()] == ["VALIDATION_ERROR"] * 2

    def test_is_in_what_is_written_afterwards(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", MADE)])
        settle(tables, named(create("o1", MADE), "12"))
        replica.append(tables, [update("o2", MADE, before_version=0, title="x"), create("o3", "c", of=MADE)])
        edit, link = queue(tables)
        assert (edit.entity_id, edit.before_version, link.fields) == ("12", 1, {"of": 12})

    def test_is_in_what_is_asked_for(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", MADE), create("o2", "c", of=MADE)])
        settle(tables, named(create("o1", MADE), "12"))
        assert [one.id for one in views.select(tables, Query("note", (("of", MADE),)))] == ["c"]

    def test_replaces_only_ids_that_this_package_made_in_later_fields(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", "draft")])
        settle(tables, named(create("o1", "draft"), "12"))
        replica.append(tables, [create("o2", "c", status="draft"), update("o3", "draft", before_version=0, x=1)])
        word, edit = queue(tables)
        assert word.fields == {"status": "draft"}
        assert edit.entity_id == "12"

    def test_replaces_only_ids_that_this_package_made_in_fields_that_wait(self, tables: MemoryTables) -> None:
        some = [create("o1", "draft"), create("o2", "c", status="draft"), update("o3", "draft", before_version=0, x=1)]
        replica.append(tables, some)
        settle(tables, named(create("o1", "draft"), "12"))
        word, edit = queue(tables)
        assert word.fields == {"status": "draft"}
        assert edit.entity_id == "12"

    def test_of_another_type_stays(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", MADE)])
        settle(tables, named(create("o1", MADE), "12"))
        folder = operation("o2", delete("o").operation_type, MADE, entity_type="folder")
        replica.append(tables, [folder])
        assert queue(tables)[0].key == Key("folder", MADE)

    def test_is_not_given_to_a_create_that_uses_the_id_again(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", MADE)])
        settle(tables, named(create("o1", MADE), "12"))
        replica.append(tables, [create("o2", MADE, title="second")])
        assert [one.entity_id for one in queue(tables)] == [MADE]
        found = views.entity(tables, key(MADE))
        assert found is not None
        assert (found.id, found["title"]) == (MADE, "second")

    def test_is_not_given_to_what_changes_the_entity_that_uses_the_id_again(self, tables: MemoryTables) -> None:
        """What was written to the second entity went to the first."""
        replica.append(tables, [create("o1", MADE, title="first")])
        settle(tables, named(create("o1", MADE), "12", title="first"))
        again = [create("o2", MADE, title="second"), update("o3", MADE, before_version=0, title="changed")]
        replica.append(tables, again)
        replica.append(tables, [update("o4", MADE, before_version=0, content="x")])
        assert [(one.entity_id, one.before_version) for one in queue(tables)] == [(MADE, 0)] * 3
        found = views.entities(tables, [key("12"), key(MADE)])
        assert found[key("12")].data == {"title": "first"}
        assert found[key(MADE)].data == {"title": "changed", "content": "x"}

    def test_of_the_newer_of_two_is_what_the_id_leads_to(self, tables: MemoryTables) -> None:
        for n, name in (("o1", "12"), ("o2", "13")):
            replica.append(tables, [create(n, MADE)])
            settle(tables, named(create(n, MADE), name))
        replica.append(tables, [create("o3", OTHER, of=MADE)])
        assert queue(tables)[0].fields == {"of": 13}

    def test_that_is_no_other_changes_nothing(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", MADE), create("o2", OTHER, of=MADE)])
        settle(tables, applied(create("o1", MADE), 1, {}))
        assert queue(tables)[0].fields == {"of": MADE}
        assert tables.aliases([key(MADE)]) == {}

    def test_of_a_refusal_is_not_taken(self, tables: MemoryTables) -> None:
        replica.append(tables, [create("o1", MADE), create("o2", OTHER, of=MADE)])
        settle(tables, refused(create("o1", MADE))._replace(key=key("12")))
        assert queue(tables)[0].fields == {"of": MADE}

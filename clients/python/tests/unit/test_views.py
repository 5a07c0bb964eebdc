"""What the store answers."""

import pytest
from sync_client import replica, views
from sync_client.frames import Update
from sync_client.stores.memory import MemoryTables
from sync_client.stores.port import Query
from sync_client.values import OperationType

from clients.python.tests.builders import conflict, create, operation, row, told, tombstone, update
from sync_server.fingerprints import fingerprint


@pytest.fixture
def tables() -> MemoryTables:
    return MemoryTables()


class TestWaiting:
    def waiting(self, tables: MemoryTables, limit: int, after: int = 0) -> list[str]:
        return [one.operation_id for one in views.waiting(tables, after=after, limit=limit)]

    @pytest.mark.parametrize("limit", [1, 2, 3, 4])
    def test_does_not_cut_a_transaction(self, tables: MemoryTables, limit: int) -> None:
        replica.append(tables, [create(f"o{n}", f"n{n}", group="g") for n in range(5)])
        replica.append(tables, [create("behind", "b")])
        assert self.waiting(tables, limit) == [f"o{n}" for n in range(5)]

    def test_cuts_between_two_transactions(self, tables: MemoryTables) -> None:
        for group in "gh":
            replica.append(tables, [create(f"{group}{n}", f"{group}{n}", group=group) for n in range(3)])
        assert self.waiting(tables, 2) == ["g0", "g1", "g2"]
        assert self.waiting(tables, 4) == ["g0", "g1", "g2", "h0", "h1", "h2"]
        assert self.waiting(tables, 2, after=3) == ["h0", "h1", "h2"]

    def test_is_a_page_of_what_stands_alone(self, tables: MemoryTables) -> None:
        replica.append(tables, [create(f"o{n}", f"n{n}") for n in range(5)])
        assert self.waiting(tables, 2) == ["o0", "o1"]
        assert self.waiting(tables, 2, after=4) == ["o4"]
        assert self.waiting(tables, 2, after=5) == []


class TestOpenConflicts:
    def test_leave_out_what_is_being_settled(self, tables: MemoryTables) -> None:
        tables.save_conflicts([conflict("c1"), conflict("c2"), conflict("c3", "b")])
        replica.append(tables, [operation("o1", OperationType.RESOLVE, conflict_id="c1"), update("o2", title="x")])
        assert [one.conflict_id for one in views.open_conflicts(tables)] == ["c2", "c3"]


class TestTheChecksum:
    def test_is_the_one_that_the_server_computes(self, tables: MemoryTables) -> None:
        folder = row("a", 7)._replace(key=views.Key("folder", "a"))
        rows = [row("12", 3), row("ä", 2**40), folder]
        replica.take(tables, map(Update, rows), None)
        expected = 0
        for one in rows:
            expected ^= fingerprint(*one.key, one.version)
        assert views.checksum(tables, "u-1") == expected

    def test_of_an_empty_space_is_nought(self, tables: MemoryTables) -> None:
        assert views.checksum(tables, "u-1") == 0

    def test_leaves_out_the_deleted_other_spaces_and_what_is_pending(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 3), Update(tombstone("b")), Update(row("c", space_id="s1"))], None)
        replica.append(tables, [update("o1", before_version=3, title="mine"), create("o2", "d")])
        assert views.checksum(tables, "u-1") == fingerprint("note", "a", 3)


class TestAQuery:
    def test_keeps_its_order_over_what_is_pending(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", title="2"), told("b", title="3")], None)
        replica.append(tables, [update("o1", "b", title="1"), create("o2", "c", title="0")])
        found = views.select(tables, Query("note", order_by="title"))
        assert [(one.id, one.is_pending) for one in found] == [("c", True), ("b", True), ("a", False)]

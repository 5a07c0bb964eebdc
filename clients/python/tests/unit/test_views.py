"""What the store answers."""

import msgspec
import pytest
from sync_client import replica, views
from sync_client.frames import Receipt, Update
from sync_client.stores.memory import MemoryTables
from sync_client.stores.port import Query
from sync_client.values import OperationType

from clients.python.tests.builders import conflict, create, operation, row, told, tombstone, update
from sync_server.fingerprints import bucket_checksums, bucket_of, fingerprint


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


class TestTheBuckets:
    def test_are_those_of_the_server(self, tables: MemoryTables) -> None:
        rows = [row("12", 3), row("ä", 2**40), row("019c9f0e-1c2d-7000-8000-000000000001", 7)]
        replica.take(tables, map(Update, rows), None)
        assert views.bucket_checksums(tables, "u-1") == bucket_checksums((*one.key, one.version) for one in rows)

    def test_name_all_their_rows_and_know_the_deleted_ones(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 3), Update(tombstone("b", 4)), Update(row("c", space_id="s1"))], None)
        numbers = [bucket_of("note", one) for one in "abc"]
        named = views.named_rows(tables, "u-1", numbers)
        assert named.live == {numbers[0]: {views.Key("note", "a"): 3}, numbers[1]: {}, numbers[2]: {}}
        assert named.versions == {views.Key("note", "a"): 3, views.Key("note", "b"): 4}


class TestSpacesThatDiffer:
    def test_have_another_checksum(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", 3), Update(row("c", space_id="s1")), Update(row("d", space_id="s2"))], None)
        right = fingerprint("note", "a", 3)
        receipts = [
            Receipt("u-1", 9, right), Receipt("s1", 9, right), Receipt("s2", 9, fingerprint("note", "d", 1)),
            Receipt("empty", 9, 0),
        ]  # fmt: skip
        assert views.differing_spaces(tables, receipts) == ["s1"]


class TestPortions:
    def named(self, *sizes: int, length: int = 36) -> views.Named:
        names = {number: [f"{number}-{i:0{length}}" for i in range(size)] for number, size in enumerate(sizes)}
        live = {number: dict.fromkeys((views.Key("note", one) for one in some), 1) for number, some in names.items()}
        return views.Named(live, {})

    def test_hold_whole_buckets_up_to_what_a_request_may(self) -> None:
        named = self.named(3_000, 1_500, 2_000, 500, 1, length=4)
        parts = views.portions(named)
        assert parts is not None
        assert [list(part.live) for part in parts] == [[0], [1, 2, 3], [4]]
        assert {number: rows for part in parts for number, rows in part.live.items()} == named.live

    def test_keep_to_the_least_that_servers_take_whatever_the_names(self) -> None:
        parts = views.portions(self.named(*[50] * 256, length=60))
        assert parts is not None
        for part in parts:
            rows = {str(n): [[k.entity_type, k.entity_id, 2**53 - 1] for k in some] for n, some in part.live.items()}
            assert len(msgspec.json.encode({"space_id": "s" * 64, "rows": rows})) < 262_144

    def test_cannot_be_made_of_too_much(self) -> None:
        assert views.portions(self.named(views.PORTION_ROWS + 1)) is None
        whole = self.named(*[views.PORTION_ROWS] * views.MOST_PORTIONS, length=2)
        parts = views.portions(whole)
        assert parts is not None
        assert len(parts) == views.MOST_PORTIONS
        assert views.portions(self.named(*[views.PORTION_ROWS] * (views.MOST_PORTIONS + 1), length=2)) is None
        assert views.portions(self.named()) == []


class TestAQuery:
    def test_keeps_its_order_over_what_is_pending(self, tables: MemoryTables) -> None:
        replica.take(tables, [told("a", title="2"), told("b", title="3")], None)
        replica.append(tables, [update("o1", "b", title="1"), create("o2", "c", title="0")])
        found = views.select(tables, Query("note", order_by="title"))
        assert [(one.id, one.is_pending) for one in found] == [("c", True), ("b", True), ("a", False)]

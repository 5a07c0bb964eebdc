"""What an application does becomes operations."""

from itertools import count
from typing import Any

import pytest
from sync_client import replica, views, writing
from sync_client.errors import EntityNotFoundError, NoLongerThereError
from sync_client.frames import Update
from sync_client.stores.memory import MemoryTables
from sync_client.values import Conflict, OperationType, Side
from sync_client.writing import Intent, Stamp

from clients.python.tests.builders import AT, conflict, create, key, refused, reply, told, tombstone, update

NOW = "2026-02-03T04:05:06Z"


@pytest.fixture
def tables() -> MemoryTables:
    return MemoryTables()


@pytest.fixture
def stamp() -> Stamp:
    numbers = count(1)
    return Stamp(lambda: f"new{next(numbers)}", NOW)


def change(entity_id: str = "a", version: int | None = None, **fields: Any) -> Intent:
    return Intent(OperationType.UPDATE, key(entity_id), fields, version=version)


class TestAnOperation:
    def test_is_based_on_the_row_as_the_application_read_it(self, tables: MemoryTables, stamp: Stamp) -> None:
        replica.take(tables, [told("a", 3)], None)
        assert writing.operation_of(tables, change(version=1), stamp).before_version == 1
        assert writing.operation_of(tables, change(version=3), stamp).before_version == 3
        assert writing.operation_of(tables, change(version=9), stamp).before_version == 3
        assert writing.operation_of(tables, change(), stamp).before_version == 3

    def test_on_a_plain_server_is_based_on_the_row(self, tables: MemoryTables, stamp: Stamp) -> None:
        replica.settle(tables, reply(updates=[told("a", 3)]), is_plain=True, at=AT)
        assert writing.operation_of(tables, change(version=1), stamp).before_version == 3

    def test_on_what_is_not_there_is_refused(self, tables: MemoryTables, stamp: Stamp) -> None:
        replica.take(tables, [Update(tombstone("gone"))], None)
        for name in ("gone", "never"):
            with pytest.raises(EntityNotFoundError, match=f"there is no note {name}"):
                writing.operation_of(tables, change(name), stamp)

    def test_is_stamped(self, tables: MemoryTables, stamp: Stamp) -> None:
        intent = Intent(OperationType.CREATE, key("a"), {"title": "x"}, "s1", "merge")
        made = writing.operation_of(tables, intent, stamp)
        assert (made.operation_id, made.timestamp, made.before_version) == ("new1", NOW, 0)
        assert (made.fields, made.space_id, made.on_conflict) == ({"title": "x"}, "s1", "merge")

    def test_that_is_performed_is_shown(self, tables: MemoryTables, stamp: Stamp) -> None:
        replica.take(tables, [told("a", 3, title="old")], None)
        shown = writing.perform(tables, change(title="new"), stamp)
        assert shown is not None
        assert (shown["title"], shown.is_pending, tables.counts().pending) == ("new", True, 1)

    def test_of_a_transaction_sees_those_before_it(self, tables: MemoryTables, stamp: Stamp) -> None:
        made, shown = writing.preview(tables, [create("o1", title="x", content="y")], change(title="z"), stamp)
        assert shown is not None
        assert (made.before_version, shown.data) == (0, {"title": "z", "content": "y"})


class TestATransaction:
    def test_binds_its_operations_together(self) -> None:
        assert {one.group for one in writing.grouped([create("o1"), create("o2", "b")])} == {"o1"}

    def test_of_one_is_none(self) -> None:
        assert [one.group for one in writing.grouped([create("o1")])] == [None]

    def test_that_is_retried_gets_a_new_group_and_new_ids(self, tables: MemoryTables, stamp: Stamp) -> None:
        some = [create("o1", "a", group="o1", title="long"), create("o2", "b", group="o1", title="kept")]
        replica.append(tables, some)
        replica.settle(tables, reply(*map(refused, some)), is_plain=False, at=AT)
        again = writing.retried(tables, "o1", {"title": "short"}, stamp)
        (group,) = {one.group for one in again}
        names = {one.operation_id for one in again}
        assert group is not None
        assert len(names) == 2
        assert {group, *names}.isdisjoint({"o1", "o2"})
        assert [(one.entity_id, one.fields) for one in again] == [("a", {"title": "short"}), ("b", {"title": "kept"})]
        assert tables.quarantined() == []


class TestARetry:
    def test_of_an_operation_alone_has_no_group(self, tables: MemoryTables, stamp: Stamp) -> None:
        done = update("o1", before_version=4, title="x", content="y")
        replica.append(tables, [done])
        replica.settle(tables, reply(refused(done)), is_plain=False, at=AT)
        (again,) = writing.retried(tables, "o1", {"title": "short"}, stamp)
        assert (again.operation_id, again.group, again.before_version) == ("new1", None, 4)
        assert again.fields == {"title": "short", "content": "y"}

    def test_of_what_is_no_more_in_the_quarantine_is_refused(self, tables: MemoryTables, stamp: Stamp) -> None:
        with pytest.raises(NoLongerThereError, match="o1 is not in the quarantine"):
            writing.retried(tables, "o1", {}, stamp)


DELETED = Side(version=1)
MINE = Side(version=1, data={"id": "a", "title": "mine"})
THEIRS = Side(version=2, data={"id": "a", "title": "theirs"})


class TestAResolution:
    def settled(self, tables: MemoryTables, stamp: Stamp, found: Conflict, strategy: str, **fields: Any) -> object:
        """What is shown meanwhile; None is nothing."""
        tables.save_conflicts([found])
        resolution = writing.resolution_of(tables, "c1", strategy, fields or None, stamp)
        assert (resolution.conflict_id, resolution.strategy, resolution.fields) == ("c1", strategy, fields or None)
        assert (resolution.operation_id, resolution.timestamp, resolution.key) == ("new1", NOW, key("a"))
        replica.append(tables, [resolution])
        shown = views.entity(tables, key("a"))
        return shown.data if shown is not None else None

    @pytest.mark.parametrize(
        ("strategy", "fields", "shown"),
        [
            ("client_wins", {}, {"title": "mine", "content": "theirs"}),
            ("server_wins", {}, {"title": "theirs", "content": "theirs"}),
            ("merge", {"title": "both"}, {"title": "both", "content": "theirs"}),
        ],
    )
    def test_shows_its_outcome_over_what_is_there(
        self, tables: MemoryTables, stamp: Stamp, strategy: str, fields: dict[str, str], shown: dict[str, str]
    ) -> None:
        replica.take(tables, [told("a", 2, title="theirs", content="theirs")], None)
        found = conflict(mine=MINE, theirs=THEIRS, whole={"title": "theirs", "content": "as it was at the conflict"})
        assert self.settled(tables, stamp, found, strategy, **fields) == shown

    @pytest.mark.parametrize(
        ("strategy", "fields", "shown"),
        [
            ("client_wins", {}, None),
            ("server_wins", {}, {"title": "theirs"}),
            ("merge", {"title": "b"}, {"title": "b"}),
        ],
    )
    def test_where_mine_deletes_shows_nothing_if_mine_stands(
        self, tables: MemoryTables, stamp: Stamp, strategy: str, fields: dict[str, str], shown: dict[str, str] | None
    ) -> None:
        replica.take(tables, [told("a", 2, title="theirs")], None)
        found = conflict(conflict_type="delete", mine=DELETED, theirs=THEIRS)
        assert self.settled(tables, stamp, found, strategy, **fields) == shown

    @pytest.mark.parametrize(
        ("strategy", "fields", "shown"),
        [
            ("client_wins", {}, {"title": "mine", "content": "before"}), ("server_wins", {}, None),
            ("merge", {"title": "both"}, {"title": "both"}),
        ],
    )  # fmt: skip
    def test_where_theirs_deleted_shows_the_entity_as_it_was_with_mine(
        self, tables: MemoryTables, stamp: Stamp, strategy: str, fields: dict[str, str], shown: dict[str, str] | None
    ) -> None:
        replica.take(tables, [Update(tombstone("a", 2))], None)
        whole = {"id": "a", "title": "before", "content": "before"}
        found = conflict(conflict_type="delete", mine=MINE, theirs=DELETED, whole=whole)
        assert self.settled(tables, stamp, found, strategy, **fields) == shown

    def test_of_a_conflict_that_is_settled_is_refused(self, tables: MemoryTables, stamp: Stamp) -> None:
        tables.save_conflicts([conflict("c1")])
        replica.append(tables, [writing.resolution_of(tables, "c1", "client_wins", None, stamp)])
        for name in ("c1", "never"):
            with pytest.raises(NoLongerThereError, match=f"the conflict {name} is settled already"):
                writing.resolution_of(tables, name, "client_wins", None, stamp)

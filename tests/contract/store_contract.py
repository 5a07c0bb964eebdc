"""What every store must keep: one class that each adapter's test module runs by subclassing it."""

import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from schema.registry import Registry, load_registry
from sync_server.conflict.model import Claim
from sync_server.errors import ErrorCode
from sync_server.records import (
    Change,
    ClientRecord,
    Conflict,
    Decision,
    DecisionKey,
    Entity,
    EntityKey,
    Membership,
    Space,
    SyncKey,
    SyncRecord,
)
from sync_server.stores.log_reader import SpaceScan
from sync_server.stores.reader import OperationFilter
from sync_server.stores.sql import Store
from sync_server.stores.statements import MAX_VARIABLES
from sync_server.stores.writer import Writer, dump
from sync_server.types import ConflictType, OperationType, Role, Strategy, SyncStatus, Verdict

HOME = "u-1"
NOTE = "note"


def entity(entity_id: str, *, space_id: str = HOME, version: int = 1, seq: int = 1, **changes: Any) -> Entity:
    columns: dict[str, Any] = {
        "entity_type": NOTE, "entity_id": entity_id, "space_id": space_id, "version": version,
        "data": {"title": entity_id}, "deleted": False, "created_at": 10, "updated_at": 20, "modified_by": "1",
        "created_seq": seq, "seq": seq,
    }  # fmt: skip
    return Entity(**{**columns, **changes})


def change(seq: int, entity_id: str, *, version: int = 1, **changes: Any) -> Change:
    columns: dict[str, Any] = {
        "seq": seq, "space_id": HOME, "entity_type": NOTE, "entity_id": entity_id, "version": version,
        "operation_type": OperationType.CREATE if version == 1 else OperationType.UPDATE,
        "data": dump({"title": f"{entity_id} v{version}"}), "previous": dump({"title": ["before"]}),
        "submitted": None, "rule": "created", "timestamp": 5, "modified_at": seq * 100, "modified_by": "1",
        "client_id": "desktop", "operation_id": f"op_{seq}", "previous_seq": 0,
    }  # fmt: skip
    return Change(**{**columns, **changes})


def decision(operation_id: str, **changes: Any) -> Decision:
    columns: dict[str, Any] = {
        "user_id": "1", "client_id": "desktop", "operation_id": operation_id, "body_hash": b"hash", "sync_id": "sync",
        "operation_type": OperationType.CREATE, "entity_type": NOTE, "entity_id": "a", "verdict": Verdict.APPLIED,
        "rule": "created", "version": 1, "seq": 1, "conflict_id": None, "error_code": None, "error": None,
        "details": None, "body": None, "retry_count": 0, "created_at": 1_000,
    }  # fmt: skip
    return Decision(**{**columns, **changes})


def rejected(operation_id: str, **changes: Any) -> Decision:
    return decision(
        operation_id, verdict=Verdict.REJECTED, error_code=ErrorCode.VALIDATION_ERROR, error="No.",
        details={"field": "title"}, body='{"title":1}', version=None, seq=None, **changes,
    )  # fmt: skip


def conflict(conflict_id: str, **changes: Any) -> Conflict:
    columns: dict[str, Any] = {
        "conflict_id": conflict_id, "conflict_type": ConflictType.CONTENT, "space_id": HOME, "entity_type": NOTE,
        "entity_id": "a", "operation_id": "op", "operation_type": OperationType.UPDATE, "user_id": "1",
        "client_id": "desktop", "sync_id": "sync", "fields": ("title",), "rule": "manual",
        "suggested_strategy": Strategy.MERGE, "base": {"title": "base"}, "server_version": 2,
        "server_data": {"title": "server"}, "server_modified_at": 3, "server_modified_by": "2", "client_version": 1,
        "client_data": {"title": "client"}, "client_modified_at": 4, "created_at": 5, "is_open": True,
        "strategy": None, "resolved_data": None, "resolved_at": None, "resolved_by": None,
    }  # fmt: skip
    return Conflict(**{**columns, **changes})


def sync_record(sync_id: str, **changes: Any) -> SyncRecord:
    columns: dict[str, Any] = {
        "sync_id": sync_id, "user_id": "1", "client_id": "desktop", "status": SyncStatus.SUCCESS, "started_at": 100,
        "ended_at": 200, "total_operations": 3, "successful_operations": 2, "failed_operations": 1,
        "conflicts_count": 0, "entity_types": ("note", "folder"), "error": None,
    }  # fmt: skip
    return SyncRecord(**{**columns, **changes})


def sync_keys(*sync_ids: str) -> list[SyncKey]:
    return [SyncKey("1", sync_id) for sync_id in sync_ids]


def append(writer: Writer, *changes: Change) -> list[int]:
    """Put changes at the end of the log, with the numbers it gives them; returns those."""
    if not changes:
        return []
    first = writer.take_numbers(len(changes))
    numbered = [change._replace(seq=first + index) for index, change in enumerate(changes)]
    writer.save_changes(numbered)
    return [change.seq for change in numbered]


def save(writer: Writer, *entities: Entity) -> None:
    writer.save_entities(entity._replace(data=dump(entity.data)) for entity in entities)  # type: ignore[arg-type]


def save_decisions(writer: Writer, *decisions: Decision) -> None:
    writer.save_decisions((decision, decision.seq) for decision in decisions)


def commit(writer: Writer, *changes: Change) -> None:
    """Append changes, each after the one before of its entity, and make the entities what the last ones say."""
    last: dict[EntityKey, int] = {}
    for written in changes:
        (last[written.key],) = append(writer, written._replace(previous_seq=last.get(written.key, 0)))
    save(writer, *(entity(key.entity_id, seq=seq, created_seq=1) for key, seq in last.items()))


def break_off(store: Store, *changes: Change) -> None:
    """Write something, then raise."""
    with store.write() as writer:
        save(writer, entity("a"))
        append(writer, *changes)
        raise ZeroDivisionError


class StoreContract:
    """Subclasses provide `store`: an empty, migrated one."""

    registry: ClassVar[Registry] = load_registry(None)

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    @pytest.fixture
    def log(self, store: Store) -> Store:
        """The store with a log begun."""
        with store.write() as writer:
            writer.start_epoch("e1")
        return store

    # --- transactions ----------------------------------------------------------------------------------------------

    def test_keeps_what_a_finished_block_wrote(self, store: Store) -> None:
        with store.write() as writer:
            writer.save_user("1", 10)
        with store.read() as reader:
            assert reader.has_user("1")

    def test_leaves_nothing_of_a_block_that_raised(self, log: Store) -> None:
        with pytest.raises(ZeroDivisionError):
            break_off(log, change(0, "a"))
        with log.read() as reader:
            assert reader.head().head_seq == 0
            assert reader.entities([EntityKey(NOTE, "a")]) == {}
            assert reader.changes_at([1]) == {}

    def test_serves_the_next_block_after_one_that_raised(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError):
            break_off(store)
        with store.write() as writer:
            writer.save_user("1", 10)
        with store.read() as reader:
            assert reader.has_user("1")

    def test_reads_one_moment_in_a_block_whatever_commits_meanwhile(self, log: Store) -> None:
        with log.read() as reader:
            before = reader.head()
            with log.write() as writer:
                append(writer, change(0, "a"))
            assert reader.head() == before
            assert reader.changes_at([1]) == {}
        with log.read() as reader:
            assert reader.head().head_seq == 1

    def test_shows_a_writer_its_own_writes(self, store: Store) -> None:
        with store.write() as writer:
            writer.save_user("1", 10)
            assert writer.has_user("1")

    def test_lets_writers_take_turns(self, log: Store) -> None:
        def write(name: str) -> None:
            for index in range(20):
                with log.write() as writer:
                    append(writer, change(0, f"{name}-{index}"))

        threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with log.read() as reader:
            assert reader.head().head_seq == 60
            assert len(reader.changes_at(range(1, 61))) == 60

    # --- the log ---------------------------------------------------------------------------------------------------

    def test_has_no_log_until_an_epoch_starts(self, store: Store) -> None:
        with store.write() as writer:
            assert not writer.has_log()
            writer.start_epoch("e1")
            assert writer.has_log()
            assert writer.head() == ("e1", 0, 0)

    def test_keeps_its_numbers_when_another_epoch_starts(self, log: Store) -> None:
        with log.write() as writer:
            append(writer, change(0, "a"))
            writer.start_epoch("e2")
            assert writer.head() == ("e2", 1, 0)

    def test_numbers_changes_contiguously_in_the_order_of_commits(self, log: Store) -> None:
        with log.write() as writer:
            first = append(writer, change(0, "a"), change(0, "b"))
        with pytest.raises(ZeroDivisionError):
            break_off(log, change(0, "lost"))
        with log.write() as writer:
            second = append(writer, change(0, "c"))
        assert (first, second) == ([1, 2], [3])

    def test_pages_the_changes_of_some_spaces_in_order(self, log: Store) -> None:
        with log.write() as writer:
            append(
                writer, change(0, "a"), change(0, "b", space_id="s"), change(0, "c", space_id="other"),
                change(0, "d"), change(0, "e", space_id="s"), change(0, "7", space_id="s", entity_type="member"),
            )  # fmt: skip
        scans = [SpaceScan(HOME, 0), SpaceScan("s", 2)]
        with log.read() as reader:
            everything = reader.updates(scans, until=6, entity_types=None, limit=10)
            cut = reader.updates(scans, until=6, entity_types=None, limit=2)
            bounded = reader.updates(scans, until=4, entity_types=None, limit=10)
            typed = reader.updates(scans, until=6, entity_types=["folder"], limit=10)
        assert [update.seq for update in everything] == [1, 4, 5]
        assert [update.seq for update in cut] == [1, 4]
        assert [update.seq for update in bounded] == [1, 4]
        assert typed == []

    def test_tells_a_delete_without_data(self, log: Store) -> None:
        with log.write() as writer:
            append(writer, change(0, "a", version=2, operation_type=OperationType.DELETE))
        with log.read() as reader:
            update = reader.updates([SpaceScan(HOME, 0)], until=1, entity_types=None, limit=1)[0]
        assert (update.operation_type, update.data, update.version) == ("delete", None, 2)

    def test_tells_the_newest_state_of_each_entity_by_its_last_change(self, log: Store) -> None:
        with log.write() as writer:
            append(
                writer, change(0, "old"), change(0, "changed"), change(0, "changed", version=2), change(0, "new"),
                change(0, "gone", version=2, operation_type=OperationType.DELETE), change(0, "else", space_id="other"),
                change(0, "far"), change(0, "book", entity_type="book"),
            )  # fmt: skip
            rows = [
                entity("old", seq=1), entity("changed", seq=3, created_seq=2, version=2), entity("new", seq=4),
                entity("gone", seq=5, created_seq=1, deleted=True), entity("else", space_id="other", seq=6),
                entity("far", seq=7), entity("book", entity_type="book", seq=8),
            ]  # fmt: skip
            save(writer, *rows)
        with log.read() as reader:
            found = reader.newest([SpaceScan(HOME, 2)], until=6, entity_types=None, limit=9)
            cut = reader.newest([SpaceScan(HOME, 0), SpaceScan("other", 5)], until=8, entity_types=None, limit=2)
            typed = reader.newest([SpaceScan(HOME, 0)], until=8, entity_types=["book"], limit=9)
        told = [(u.seq, u.entity_id, u.operation_type) for u in found]
        assert told == [(3, "changed", "update"), (4, "new", "create"), (5, "gone", "delete")]
        assert found[2].data is None
        assert [u.entity_id for u in cut] == ["old", "changed"]
        assert [u.entity_id for u in typed] == ["book"]

    def test_tells_a_snapshot_in_the_order_of_creation(self, log: Store) -> None:
        rows = [
            entity("old", seq=6, created_seq=1, version=3), entity("new", seq=5), entity("gone", seq=7, deleted=True),
            entity("far", seq=9), entity("changed later", seq=10, created_seq=2),
            entity("else", space_id="other", seq=4), entity("book", entity_type="book", seq=3),
        ]  # fmt: skip
        with log.write() as writer:
            save(writer, *rows)
        scans = [SpaceScan(HOME, 0), SpaceScan("other", 0)]
        with log.read() as reader:
            found = reader.snapshot(scans, until=8, entity_types=["note"], limit=9)
            cut = reader.snapshot(scans, until=8, entity_types=["note"], limit=2)
            rest = reader.snapshot([SpaceScan(HOME, 4)], until=8, entity_types=None, limit=9)
        told = [(placed.position, placed.update.entity_id, placed.update.seq) for placed in found]
        assert told == [(1, "old", 6), (4, "else", 4), (5, "new", 5)]
        assert {placed.update.operation_type for placed in found} == {"create"}
        assert cut == found[:2]
        assert [placed.update.entity_id for placed in rest] == ["new"]

    def test_tells_who_lost_a_space_deletes_of_what_they_had_seen(self, log: Store) -> None:
        rows = [
            entity("seen", seq=1), entity("edited since", seq=8, created_seq=2),
            entity("gone before", seq=3, deleted=True), entity("gone since", seq=9, created_seq=4, deleted=True),
            entity("made since", seq=7),
        ]  # fmt: skip
        with log.write() as writer:
            save(writer, *rows)
        with log.read() as reader:
            told = reader.revoked(HOME, after=0, revoked_at=5, limit=10)
            rest = reader.revoked(HOME, after=1, revoked_at=5, limit=1)
        assert [placed.update.entity_id for placed in told] == ["seen", "edited since", "gone before", "gone since"]
        seen = {(update.operation_type, update.data, update.reason) for _, update in told}
        assert seen == {("delete", None, "revoked")}
        assert [(position, update.entity_id) for position, update in rest] == [(2, "edited since")]

    def test_tells_who_lost_a_space_nothing_of_what_came_after(self, log: Store) -> None:
        lost = change(
            0, "2", entity_type="member", operation_type=OperationType.DELETE, modified_at=500, modified_by="9"
        )
        with log.write() as writer:
            save(writer, entity("n", seq=8, created_seq=1, version=7, updated_at=800))
            append(writer, change(0, "n"), lost)
        with log.read() as reader:
            (told,) = reader.revoked(HOME, after=0, revoked_at=2, limit=10)
        assert (told.update.version, told.update.modified_at, told.update.modified_by) == (0, 500, "9")
        assert told.update.seq == 2

    @pytest.mark.parametrize(("moment", "position"), [(0, 0), (100, 0), (101, 1), (250, 2), (300, 2), (10_000, 5)])
    def test_finds_the_position_before_a_moment(self, log: Store, moment: int, position: int) -> None:
        with log.write() as writer:
            append(writer, *(change(0, "a", modified_at=at) for at in (100, 200, 300, 300, 400)))
        with log.read() as reader:
            assert reader.seq_before(moment) == position

    def test_finds_no_position_below_the_horizon(self, log: Store) -> None:
        with log.write() as writer:
            append(writer, *(change(0, "a", modified_at=at) for at in (100, 200, 300)))
            writer.trim_changes(until=2, limit=10)
            assert writer.seq_before(50) == 2

    # --- entities --------------------------------------------------------------------------------------------------

    def test_replaces_an_entity_by_its_newer_state(self, store: Store) -> None:
        newer = entity(
            "a", version=2, seq=4, created_seq=1, data={"title": "ü\u0000€", "tags": [1, None]}, deleted=True
        )
        with store.write() as writer:
            save(writer, entity("a"))
            save(writer, newer)
        with store.read() as reader:
            assert reader.entities([EntityKey(NOTE, "a"), EntityKey(NOTE, "none")]) == {newer.key: newer}

    def test_takes_more_rows_and_keys_than_one_statement_holds(self, log: Store) -> None:
        count = MAX_VARIABLES // 2 + 10
        keys = [EntityKey(NOTE, str(index)) for index in range(count)]
        with log.write() as writer:
            save(writer, *(entity(key.entity_id, seq=1 + index) for index, key in enumerate(keys)))
            append(writer, *(change(0, key.entity_id) for key in keys))
            writer.save_parents([], [("folder", "f", *key, "folder_id") for key in keys])
        with log.read() as reader:
            assert reader.head().head_seq == count
            assert len(reader.entities(keys)) == count
            assert len(reader.changes_at(range(1, count + 1))) == count
        with log.write() as writer:
            writer.save_parents(keys, [])
            assert writer.children([EntityKey("folder", "f")]) == {}

    def test_answers_a_question_about_nothing_without_asking(self, store: Store) -> None:
        with store.write() as writer:
            writer.save_entities([])
            writer.save_changes([])
            writer.save_claims([], [])
            writer.save_parents([], [])
            assert writer.entities([]) == {}
            assert writer.decisions([]) == {}
            assert writer.children([]) == {}
            assert writer.ancestors([], depth=9) == []

    def test_lists_the_live_versions_of_a_space(self, store: Store) -> None:
        rows = [entity("a", version=3), entity("gone", deleted=True), entity("b", space_id="s")]
        with store.write() as writer:
            save(writer, *rows)
            assert writer.live_versions(HOME) == [(NOTE, "a", 3)]

    def test_reads_revisions_from_each_entitys_own_version_on(self, log: Store) -> None:
        with log.write() as writer:
            commit(
                writer, change(0, "a"), change(0, "b"), change(0, "a", version=2), change(0, "b", version=2),
                change(0, "a", version=3, submitted=dump({"title": "sent"})),
            )  # fmt: skip
            found = writer.revisions({EntityKey(NOTE, "a"): 2, EntityKey(NOTE, "b"): 9, EntityKey(NOTE, "none"): 0})
        assert list(found) == [EntityKey(NOTE, "a")]
        assert [revision.version for revision in found[EntityKey(NOTE, "a")]] == [2, 3]
        last = found[EntityKey(NOTE, "a")][-1]
        assert (last.data, last.previous, last.submitted) == (
            {"title": "a v3"}, {"title": ["before"]}, {"title": "sent"},
        )  # fmt: skip

    def test_reads_the_revisions_that_the_log_still_has(self, log: Store) -> None:
        with log.write() as writer:
            commit(writer, *(change(0, "a", version=version) for version in (1, 2, 3, 4)))
            writer.trim_changes(until=2, limit=10)
            found = writer.revisions({EntityKey(NOTE, "a"): 0})
            history = writer.history(EntityKey(NOTE, "a"), before_version=None, limit=9)
        assert [revision.version for revision in found[EntityKey(NOTE, "a")]] == [3, 4]
        assert [written.version for written in history] == [4, 3]

    def test_reads_a_history_newest_first_before_a_version(self, log: Store) -> None:
        with log.write() as writer:
            commit(writer, *(change(0, "a", version=version) for version in (1, 2, 3, 4)), change(0, "b"))
        key = EntityKey(NOTE, "a")
        with log.read() as reader:
            assert [c.version for c in reader.history(key, before_version=None, limit=2)] == [4, 3]
            assert [c.version for c in reader.history(key, before_version=3, limit=9)] == [2, 1]
            assert [c.version for c in reader.history(key, before_version=4, limit=1)] == [3]
            assert [c.version for c in reader.history(key, before_version=9, limit=1)] == [4]
            assert reader.history(key, before_version=None, limit=1)[0].operation_type is OperationType.UPDATE
            assert reader.history(EntityKey(NOTE, "none"), before_version=None, limit=9) == []

    def test_returns_changes_as_they_were_written(self, log: Store) -> None:
        written = change(1, "a", submitted=dump({"title": "sent"}))
        with log.write() as writer:
            append(writer, written)
            assert writer.changes_at([1, 2]) == {1: written}

    # --- references and unique values ------------------------------------------------------------------------------

    def test_knows_the_children_of_an_entity_until_they_move(self, store: Store) -> None:
        child, other = EntityKey(NOTE, "a"), EntityKey("folder", "g")
        folder = EntityKey("folder", "f")
        links = [(*folder, *child, "folder_id"), (*folder, *other, "parent_id")]
        with store.write() as writer:
            writer.save_parents([], links)
            assert writer.children([folder, other]) == {folder: [other, child]}
            writer.save_parents([child], [(*other, *child, "folder_id")])
            assert writer.children([folder, other]) == {folder: [other], other: [child]}

    def test_knows_every_ancestor_within_a_type(self, store: Store) -> None:
        chain = [EntityKey("folder", name) for name in "abcd"]
        with store.write() as writer:
            links = [(*up, *down, "parent_id") for up, down in pairwise(chain)]
            writer.save_parents([], [*links, ("folder", "d", NOTE, "n", "folder_id")])
            assert set(writer.ancestors([chain[3]], depth=9)) == set(chain)
            assert writer.ancestors([EntityKey(NOTE, "n")], depth=9) == [EntityKey(NOTE, "n")]

    def test_ends_at_a_cycle_of_ancestors(self, store: Store) -> None:
        a, b = EntityKey("folder", "a"), EntityKey("folder", "b")
        with store.write() as writer:
            writer.save_parents([], [(*a, *b, "parent_id"), (*b, *a, "parent_id")])
            assert set(writer.ancestors([a], depth=9)) == {a, b}

    def test_climbs_no_further_than_it_is_told(self, store: Store) -> None:
        chain = [EntityKey("folder", str(index)) for index in range(50)]
        with store.write() as writer:
            writer.save_parents([], [(*up, *down, "parent_id") for up, down in pairwise(chain)])
            assert set(writer.ancestors([chain[49]], depth=3)) == set(chain[47:])
            assert set(writer.ancestors([chain[49], chain[20]], depth=3)) == {*chain[47:], *chain[18:21]}

    def test_moves_a_unique_value_to_its_new_holder(self, store: Store) -> None:
        claim = Claim("folder", HOME, "name", '["x"]')
        other = Claim("folder", "s", "name", '["x"]')
        with store.write() as writer:
            writer.save_claims([], [(claim, "1"), (other, "2")])
            assert writer.claims([claim, other]) == {claim: "1", other: "2"}
            writer.save_claims([claim], [])
            assert writer.claims([claim, other]) == {other: "2"}
            writer.save_claims([other], [(other, "3")])
            assert writer.claims([other]) == {other: "3"}

    def test_reserves_blocks_of_ids_that_do_not_overlap(self, store: Store) -> None:
        with store.write() as writer:
            assert [writer.reserve_ids(NOTE, 10), writer.reserve_ids(NOTE, 10), writer.reserve_ids("folder", 5)] == [
                1, 11, 1,
            ]  # fmt: skip
        with store.write() as writer:
            assert writer.reserve_ids(NOTE, 1) == 21

    # --- verdicts, syncs, conflicts --------------------------------------------------------------------------------

    def test_keeps_verdicts_by_user_client_and_operation(self, store: Store) -> None:
        kept = [decision("a"), decision("a", client_id="phone"), decision("a", user_id="2"), rejected("b")]
        with store.write() as writer:
            save_decisions(writer, *kept)
            assert writer.decisions([one.key for one in kept]) == {one.key: one for one in kept}
            assert writer.decisions([DecisionKey("1", "desktop", "c")]) == {}

    def test_replaces_a_verdict_that_a_retry_changed(self, store: Store) -> None:
        with store.write() as writer:
            save_decisions(writer, rejected("a"))
            save_decisions(writer, decision("a", retry_count=1))
            assert writer.decisions([decision("a").key])[decision("a").key].verdict is Verdict.APPLIED

    def test_finds_verdicts_by_name_over_the_users_clients(self, store: Store) -> None:
        with store.write() as writer:
            writer.save_clients([ClientRecord("1", "desktop", {}, None, None), ClientRecord("1", "phone", {}, None, 1)])
            save_decisions(writer, decision("a"), decision("a", client_id="phone"), decision("a", user_id="2"))
            found = writer.decisions_named("1", "a")
        assert {one.client_id for one in found} == {"desktop", "phone"}

    def test_lists_what_did_not_succeed_until_it_is_closed(self, store: Store) -> None:
        with store.write() as writer:
            last = rejected("a failed too", place=1)
            save_decisions(writer, decision("a"), last, rejected("b"), rejected("c", sync_id="other"))
            assert [one.operation_id for one in writer.unsuccessful("1", "sync")] == ["b", "a failed too"]
            writer.close_decisions([rejected("b").key, last.key])
            assert writer.unsuccessful("1", "sync") == []

    def test_pages_and_counts_operations(self, store: Store) -> None:
        with store.write() as writer:
            made = [decision(f"op_{index}", created_at=index) for index in range(5)]
            other = [rejected("no", created_at=9, client_id="phone"), decision("else", user_id="2")]
            save_decisions(writer, *made, *other)
            page = writer.operations_page(OperationFilter("1"), offset=1, limit=2)
            failed = writer.operations_page(OperationFilter("1", verdicts=(Verdict.REJECTED,)), offset=0, limit=9)
            by_client = writer.operation_counts(OperationFilter("1", client_id="desktop", entity_type=NOTE))
        assert [one.operation_id for one in page] == ["op_4", "op_3"]
        assert [one.operation_id for one in failed] == ["no"]
        assert by_client == {Verdict.APPLIED: 5}

    def test_keeps_syncs_and_tells_active_ones_apart(self, store: Store) -> None:
        done, active = sync_record("done"), sync_record("active", ended_at=None, status=SyncStatus.SYNCING)
        with store.write() as writer:
            writer.save_syncs([sync_record("done", total_operations=1), active])
            writer.save_syncs([done])
            assert writer.syncs(sync_keys("done", "active", "none")) == {done.key: done, active.key: active}
            assert writer.syncs_of("1", client_id=None, active=True, limit=9) == [active]
            assert writer.syncs_of("1", client_id="desktop", active=False, limit=9) == [done]
            assert writer.delete_syncs("1", client_id="phone", before=1_000) == 0
            assert writer.delete_syncs("1", client_id=None, before=1_000) == 1
            assert writer.syncs(sync_keys("done", "active")) == {active.key: active}

    def test_keeps_syncs_of_one_name_apart_by_their_user(self, store: Store) -> None:
        own, other = sync_record("s"), sync_record("s", user_id="2", client_id="phone")
        with store.write() as writer:
            writer.save_syncs([own, other])
            writer.save_conflicts([conflict("a", sync_id="s")])
            assert writer.syncs([own.key, other.key]) == {own.key: own, other.key: other}
            assert (writer.has_open_conflicts(own.key), writer.has_open_conflicts(other.key)) == (True, False)

    def test_keeps_conflicts_with_both_sides(self, store: Store) -> None:
        settled = conflict(
            "b", is_open=False, strategy=Strategy.MANUAL, resolved_data={"title": "x"}, resolved_at=9, resolved_by="2"
        )
        with store.write() as writer:
            writer.save_conflicts([conflict("a"), conflict("b"), conflict("c", space_id="s")])
            writer.save_conflicts([settled])
            assert writer.conflicts(["a", "b"]) == {"a": conflict("a"), "b": settled}
            assert writer.settled_count("1", "sync") == 1
            assert writer.conflicts_page([HOME], is_open=True, offset=0, limit=9) == ([conflict("a")], 1)
            everything, total = writer.conflicts_page([HOME, "s"], is_open=None, offset=0, limit=2)
            crowd = [HOME, *(f"s{number}" for number in range(2 * MAX_VARIABLES))]
            assert writer.conflicts_page(crowd, is_open=None, offset=0, limit=9)[1] == 2
        assert (len(everything), total) == (2, 3)

    def test_remembers_clients(self, store: Store) -> None:
        with store.write() as writer:
            assert writer.client("1", "desktop") is None
            writer.save_clients([ClientRecord("1", "desktop", {}, None, None)])
            writer.save_clients([ClientRecord("1", "desktop", {"os_name": "x"}, "cursor", 7)])
            assert writer.client("1", "desktop") == ClientRecord("1", "desktop", {"os_name": "x"}, "cursor", 7)

    # --- users and spaces ------------------------------------------------------------------------------------------

    def test_knows_spaces_members_and_roles(self, store: Store) -> None:
        space = Space("s", "Shared", "1", 5)
        owner, former = Membership("s", "1", Role.OWNER, 0), Membership("s", "2", None, 8)
        with store.write() as writer:
            writer.save_space(space)
            writer.save_membership(owner)
            writer.save_membership(Membership("s", "2", Role.VIEWER, 3))
            writer.save_membership(former)
            assert writer.spaces(["s", "none"]) == {"s": space}
            assert writer.members("s") == [owner]
            assert writer.memberships("2") == [former]
            assert [writer.membership("s", user) for user in "123"] == [owner, former, None]
            assert writer.member_count("s") == 1
            assert (writer.has_other_owner("s", "1"), writer.has_other_owner("s", "2")) == (False, True)
            assert [writer.founded_count(user) for user in "12"] == [1, 0]
            assert writer.roles([("s", "1"), ("s", "2"), ("s", "3")]) == {("s", "1"): Role.OWNER}

    # --- trimming --------------------------------------------------------------------------------------------------

    def test_trims_the_oldest_changes_in_chunks(self, log: Store) -> None:
        with log.write() as writer:
            append(writer, *(change(0, str(index)) for index in range(6)))
            assert writer.trim_changes(until=4, limit=3) == 3
            assert writer.head() == ("e1", 6, 3)
            assert writer.trim_changes(until=4, limit=3) == 1
            assert writer.trim_changes(until=4, limit=3) == 0
            assert writer.head() == ("e1", 6, 4)
            assert sorted(writer.changes_at(range(7))) == [5, 6]

    def test_trims_a_tombstone_with_the_change_that_told_of_it(self, log: Store) -> None:
        gone, back = OperationType.DELETE, OperationType.CREATE
        with log.write() as writer:
            append(
                writer, change(0, "a", operation_type=gone), change(0, "b", operation_type=gone),
                change(0, "b", version=2, operation_type=back), change(0, "c", operation_type=gone),
            )  # fmt: skip
            rows = [
                entity("a", seq=1, deleted=True), entity("b", seq=3, version=2), entity("c", seq=4, deleted=True),
                entity("d", seq=1),
            ]  # fmt: skip
            save(writer, *rows)
            writer.trim_changes(until=3, limit=100)
            keys = [EntityKey(NOTE, name) for name in "abcd"]
            assert [key.entity_id for key in writer.entities(keys)] == ["b", "c", "d"]

    def test_trims_old_verdicts_but_not_parked_ones(self, store: Store) -> None:
        names = [f"op_{index}" for index in range(7)]
        with store.write() as writer:
            save_decisions(writer, *(decision(name, created_at=index) for index, name in enumerate(names)))
            parked = {"verdict": Verdict.CONFLICT, "created_at": 0}
            save_decisions(writer, decision("parked", body="{}", **parked), decision("settled", body=None, **parked))
            key: tuple[str, str, str] | None = ("", "", "")
            steps = 0
            while key is not None:
                key = writer.trim_decisions(before=4, after_key=key, limit=2)
                steps += 1
            left = writer.decisions([DecisionKey("1", "desktop", name) for name in [*names, "parked", "settled"]])
        assert sorted(key.operation_id for key in left) == ["op_4", "op_5", "op_6", "parked"]
        assert steps <= 6

    def test_trims_conflicts_settled_long_ago_and_old_syncs(self, store: Store) -> None:
        settled = [conflict(f"old_{index}", is_open=False, resolved_at=9) for index in range(3)]
        just_settled = conflict("new", is_open=False, created_at=1, resolved_at=99)
        with store.write() as writer:
            writer.save_conflicts([conflict("open", created_at=1), just_settled, *settled])
            abandoned = sync_record("abandoned", started_at=1, ended_at=None)
            active = sync_record("active", started_at=60, ended_at=None)
            writer.save_syncs([sync_record("old", started_at=1), abandoned, active])
            assert writer.trim_records(before=50, limit=2) == 4
            assert writer.trim_records(before=50, limit=2) == 1
            assert writer.trim_records(before=50, limit=2) == 0
            assert sorted(writer.conflicts(["open", "new", "old_0", "old_1", "old_2"])) == ["new", "open"]
            assert list(writer.syncs(sync_keys("old", "abandoned", "active"))) == sync_keys("active")

"""What every store must keep of its transactions and of its log: each adapter's tests subclass it with a `store`."""

import threading
from itertools import pairwise

import pytest

from sync_server.records import (
    VERSION_STRIDE,
    DecisionKey,
    EntityKey,
    Head,
    Step,
)
from sync_server.stores.log_reader import SpaceScan
from sync_server.stores.sql import Store
from sync_server.stores.writer import dump
from sync_server.types import OperationType, Seq, Verdict
from tests.contract.builders import (
    HOME,
    NOTE,
    append,
    break_off,
    change,
    commit,
    conflict,
    decision,
    entity,
    save,
    save_decisions,
    sync_keys,
    sync_record,
)


class LogContract:
    """Subclasses provide `store`: an empty, migrated one."""

    @pytest.fixture
    def log(self, store: Store) -> Store:
        """The store with a log begun."""
        with store.write() as writer:
            writer.start_epoch("e1")
        return store

    # --- transactions ------------------------------------------------------------------------------------------------

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

    # --- the log -----------------------------------------------------------------------------------------------------

    def test_has_no_log_until_an_epoch_starts(self, store: Store) -> None:
        with store.write() as writer:
            assert not writer.has_log()
            writer.start_epoch("e1")
            assert writer.has_log()
            assert writer.head() == Head("e1", Seq(0), Seq(0))

    def test_keeps_its_numbers_when_another_epoch_starts(self, log: Store) -> None:
        with log.write() as writer:
            append(writer, change(0, "a"))
            writer.start_epoch("e2")
            head = writer.head()
        assert (head.epoch, head.head_seq, head.floor_seq) == ("e2", 1, 0)

    def test_begins_each_epoch_far_above_all_versions_there_are(self, log: Store) -> None:
        floors = [0]
        with log.write() as writer:
            for number in range(2, 30):
                save(writer, entity("a", version=floors[-1] + number))
                writer.start_epoch(f"e{number}")
                floors.append(writer.head().version_floor)
                assert floors[-1] % VERSION_STRIDE == 0
                assert floors[-1] - floors[-2] > VERSION_STRIDE
        assert len({after - before for before, after in pairwise(floors)}) > 10, "another one each time"

    def test_begins_each_epoch_above_the_last_one_that_nobody_wrote_in(self, log: Store) -> None:
        floors = []
        with log.write() as writer:
            for number in range(20):
                writer.start_epoch(f"e{number}")
                floors.append(writer.head().version_floor)
        assert floors == sorted(set(floors))

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

    def test_walks_down_the_changes_of_an_entity(self, log: Store) -> None:
        with log.write() as writer:
            sent = {"previous": dump({"title": ["x"], "tags": []}), "submitted": dump({"content": "y"})}
            commit(writer, change(0, "a"), change(0, "b"), *(change(0, "a", version=v, **sent) for v in (2, 3)))
            steps = writer.steps(4, above=0, limit=9)
            assert [(one.version, one.seq) for one in steps] == [(3, 4), (2, 3), (1, 1)]
            assert steps[0]._replace(modified_at=0, operation_id="") == Step(
                3, 2, 4, OperationType.UPDATE, ("title", "tags"), "created", 0, "1", "desktop", "", ("content",)
            )
            assert steps[2].submitted == ()
            assert [one.version for one in writer.steps(4, above=1, limit=9)] == [3, 2]
            assert [one.version for one in writer.steps(4, above=0, limit=2)] == [3, 2]
            assert [one.version for one in writer.steps(3, above=0, limit=9)] == [2, 1]
            writer.trim_changes(until=1, limit=9)
            assert [one.version for one in writer.steps(4, above=0, limit=9)] == [3, 2]

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

    # --- trimming ----------------------------------------------------------------------------------------------------

    def test_trims_the_oldest_changes_in_chunks(self, log: Store) -> None:
        with log.write() as writer:
            append(writer, *(change(0, str(index)) for index in range(6)))
            assert writer.trim_changes(until=4, limit=3) == 3
            assert writer.head() == Head("e1", Seq(6), Seq(3))
            assert writer.trim_changes(until=4, limit=3) == 1
            assert writer.trim_changes(until=4, limit=3) == 0
            assert writer.head() == Head("e1", Seq(6), Seq(4))
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

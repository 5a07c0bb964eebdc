"""What every store must keep of its records: each adapter's tests subclass it with a `store`."""

from itertools import pairwise
from typing import ClassVar

import pytest

from schema.registry import Registry, load_registry
from sync_server.conflict.model import Claim
from sync_server.records import (
    ClientRecord,
    DecisionKey,
    EntityKey,
    Filter,
    Followed,
    Membership,
    Receipt,
    Space,
)
from sync_server.stores.reader import OperationFilter
from sync_server.stores.sql import Store
from sync_server.stores.statements import MAX_VARIABLES
from sync_server.stores.writer import dump
from sync_server.types import OperationType, Role, Strategy, StrategySource, SyncStatus, Verdict
from tests.contract.builders import (
    HOME,
    NOTE,
    append,
    change,
    commit,
    conflict,
    decision,
    entity,
    rejected,
    save,
    save_decisions,
    sync_keys,
    sync_record,
)


class RecordsContract:
    """Subclasses provide `store`: an empty, migrated one."""

    registry: ClassVar[Registry] = load_registry(None)

    @pytest.fixture
    def log(self, store: Store) -> Store:
        """The store with a log begun."""
        with store.write() as writer:
            writer.start_epoch("e1")
        return store

    # --- entities ----------------------------------------------------------------------------------------------------

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
            assert writer.receipts([]) == {}
            assert writer.shift_receipts([]) == []
            assert writer.ancestors([], depth=9) == []

    def test_lists_the_live_versions_of_a_space(self, store: Store) -> None:
        rows = [entity("a", version=3), entity("gone", deleted=True), entity("b", space_id="s")]
        with store.write() as writer:
            save(writer, *rows)
            assert writer.live_versions(HOME) == [(NOTE, "a", 3)]

    def test_shifts_receipts_and_returns_what_they_are_then(self, store: Store) -> None:
        high = 2**64 - 1
        with store.write() as writer:
            for space_id in (HOME, "s"):
                writer.save_space(Space(space_id, "", "1", 10))
            first = writer.shift_receipts([(HOME, high, 2, 5), ("s", 7, 1, 6), ("none", 1, 1, 6)])
            second = writer.shift_receipts([(HOME, 2**63 + 1, -1, 9)])
        assert {one.space_id: one for one in first} == {HOME: Receipt(HOME, 5, high, 2), "s": Receipt("s", 6, 7, 1)}
        assert second == [Receipt(HOME, 9, high ^ (2**63 + 1), 1)]
        with store.read() as reader:
            assert reader.receipts([HOME, "s", "none"]) == {HOME: second[0], "s": Receipt("s", 6, 7, 1)}

    def test_tells_the_live_ones_of_some_entities_as_a_snapshot(self, store: Store) -> None:
        with store.write() as writer:
            save(writer, entity("a", version=3), entity("gone", deleted=True), entity("b"))
            states = writer.states([EntityKey(NOTE, one) for one in ("a", "gone", "none")])
        assert [(one.entity_id, one.version, one.operation_type, one.data) for one in states] == [
            ("a", 3, "create", dump({"title": "a"}))
        ]

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

    def test_reads_a_history_over_the_beginning_of_an_epoch(self, log: Store) -> None:
        with log.write() as writer:
            steps = ((1, 0), (2, None), (5_000_001, 2), (5_000_002, 5_000_001))
            commit(writer, *(change(0, "a", version=version, after_version=after) for version, after in steps))
        key = EntityKey(NOTE, "a")
        with log.read() as reader:
            pages = [reader.history(key, before_version=before, limit=2) for before in (None, 5_000_001, 3, 2)]
            found = reader.revisions({key: 2})[key]
        assert [[c.version for c in page] for page in pages] == [[5_000_002, 5_000_001], [2, 1], [2, 1], [1]]
        assert [(one.version, one.after) for one in found] == [(2, 1), (5_000_001, 2), (5_000_002, 5_000_001)]

    def test_returns_changes_as_they_were_written(self, log: Store) -> None:
        written = change(1, "a", submitted=dump({"title": "sent"}))
        with log.write() as writer:
            append(writer, written)
            assert writer.changes_at([1, 2]) == {1: written}

    # --- references and unique values --------------------------------------------------------------------------------

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

    # --- verdicts, syncs, conflicts ----------------------------------------------------------------------------------

    def test_keeps_verdicts_by_user_client_and_operation(self, store: Store) -> None:
        kept = [decision("a"), decision("a", client_id="phone"), decision("a", user_id="2"), rejected("b")]
        with store.write() as writer:
            save_decisions(writer, *kept)
            assert writer.decisions([one.key for one in kept]) == {one.key: one for one in kept}
            assert writer.decisions([DecisionKey("1", "desktop", "c")]) == {}

    def test_keeps_what_explains_a_verdict(self, store: Store) -> None:
        context = {"strategy": Strategy.MERGE, "strategy_source": StrategySource.REQUEST, "sent": ("title", "tags")}
        kept = [
            decision("plain", base_version=0),
            decision("none", base_version=None),
            decision("met", base_version=1, **context),
            rejected("no", base_version=7, place=3),
            decision("parked", verdict=Verdict.CONFLICT, conflict_id="c", body="{}", base_version=1, **context),
            decision("nothing", base_version=1, **{**context, "sent": ()}),
        ]
        with store.write() as writer:
            save_decisions(writer, *kept)
            assert writer.decisions([one.key for one in kept]) == {one.key: one for one in kept}

    def test_finds_verdicts_by_name_whoever_sent_them(self, store: Store) -> None:
        with store.write() as writer:
            save_decisions(
                writer,
                decision("a", user_id="2", client_id=""),
                decision("a"),
                decision("a", client_id="b"),
                decision("b"),
            )
            found = [
                [(one.user_id, one.client_id) for one in writer.operations_named("a", limit=9, **named)]
                for named in (
                    {"user_id": None, "client_id": None}, {"user_id": "1", "client_id": None},
                    {"user_id": None, "client_id": "b"}, {"user_id": "2", "client_id": "b"},
                )
            ]  # fmt: skip
            assert len(writer.operations_named("a", user_id=None, client_id=None, limit=2)) == 2
        assert found == [[("1", "b"), ("1", "desktop"), ("2", "")], [("1", "b"), ("1", "desktop")], [("1", "b")], []]

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

    def test_finds_all_conflicts_of_an_operation(self, store: Store) -> None:
        kept = [conflict("b"), conflict("a"), conflict("c", operation_id="else"), conflict("d", created_at=6)]
        with store.write() as writer:
            writer.save_conflicts([*kept, conflict("e", client_id="phone"), conflict("f", space_id="s")])
            assert [one.conflict_id for one in writer.conflicts_of(kept[0])] == ["b", "a"]
            assert writer.conflicts_of(kept[1]) == [kept[1], kept[0]]

    def test_remembers_what_a_client_follows(self, store: Store) -> None:
        narrow = Filter(("s", "t"), ("note",))
        kept = [
            ClientRecord("1", "new", {}, "c", 7, Filter(), Followed(Filter(), False)),
            ClientRecord("1", "left", {}, None, None, narrow, Followed(narrow, True, "e1", 3, 9, 11)),
            ClientRecord("2", "left", {}, None, None, Filter((), None)),
        ]
        with store.write() as writer:
            writer.save_clients(kept)
            assert [writer.client(one.user_id, one.client_id) for one in kept] == kept
            assert writer.clients_named("left", limit=9) == kept[1:]
            assert writer.clients_named("left", limit=1) == kept[1:2]

    def test_remembers_clients(self, store: Store) -> None:
        with store.write() as writer:
            assert writer.client("1", "desktop") is None
            writer.save_clients([ClientRecord("1", "desktop", {}, None, None)])
            writer.save_clients([ClientRecord("1", "desktop", {"os_name": "x"}, "cursor", 7)])
            assert writer.client("1", "desktop") == ClientRecord("1", "desktop", {"os_name": "x"}, "cursor", 7)

    # --- users and spaces --------------------------------------------------------------------------------------------

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

from sync_server.conflict.lineage import lineage
from sync_server.conflict.model import Rule
from sync_server.conflict.stamps import Stamp
from sync_server.conflict.values import ABSENT
from sync_server.types import OperationType
from tests.unit.conflict.builders import a_create, a_delete, a_revision, an_entity, an_update, mine


class TestBase:
    def test_is_what_the_earliest_later_revision_replaced(self):
        history = [a_revision(2, {"title": "b"}, {"title": ["a"]}), a_revision(3, {"title": "c"}, {"title": ["b"]})]
        assert lineage(an_update({}, 1), an_entity({"title": "c"}), history).base("title") == "a"

    def test_of_a_field_that_nobody_touched_is_the_current_value(self):
        history = [a_revision(3, {"title": "c"}, {"title": ["b"]})]
        assert lineage(an_update({}, 2), an_entity({"color": "red"}), history).base("color") == "red"

    def test_is_what_the_client_itself_wrote_last(self):
        history = [
            mine(a_revision(2, {"title": "m"}, {"title": ["a"]})),
            a_revision(3, {"title": "r"}, {"title": ["m"]}),
        ]
        line = lineage(an_update({}, 1), an_entity({"title": "r"}), history)
        assert line.base("title") == "m"
        assert line.is_contended("title")

    def test_is_what_the_client_sent_where_that_was_merged(self):
        own = mine(a_revision(3, {"tags": ["r", "m"]}, {"tags": [["r"]]}, submitted={"tags": ["m"]}))
        rival = a_revision(2, {"tags": ["r"]}, {"tags": [[]]})
        line = lineage(an_update({}, 1), an_entity({"tags": ["r", "m"]}), [rival, own])
        assert line.base("tags") == ["m"]
        assert line.is_contended("tags")

    def test_is_what_the_client_sent_even_where_all_of_it_was_lost(self):
        own = mine(a_revision(3, {"title": "r", "color": "m"}, {"color": ["c"]}, submitted={"title": "m"}))
        rival = a_revision(2, {"title": "r", "color": "c"}, {"title": ["a"]})
        line = lineage(an_update({}, 1), an_entity(own.data), [rival, own])
        assert line.base("title") == "m"
        assert line.is_contended("title")

    def test_of_a_field_that_was_absent_is_absent(self):
        assert lineage(an_update({}, 2), an_entity({}), [a_revision(3, {}, {"title": []})]).base("title") is ABSENT


class TestHistory:
    def test_with_a_hole_leaves_the_base_unknown(self):
        line = lineage(an_update({}, 1), an_entity({}), [a_revision(3, {}, {})])
        assert not line.has_base

    def test_that_starts_at_the_base_is_complete(self):
        history = [a_revision(2, {}, {}), a_revision(3, {}, {})]
        assert lineage(an_update({}, 2), an_entity({}), history).is_complete

    def test_may_go_on_with_the_versions_of_another_epoch(self):
        later = [a_revision(7_000_001, {}, {}, after=3), a_revision(7_000_002, {}, {})]
        entity = an_entity({}, version=7_000_002)
        assert lineage(an_update({}, 3), entity, [a_revision(3, {}, {}), *later]).is_complete
        assert lineage(an_update({}, 3), entity, later).is_complete, "the log need not have the base itself"
        assert lineage(an_update({}, 7_000_001), entity, later).is_complete

    def test_that_a_backup_lost_leaves_the_base_unknown(self):
        entity = an_entity({}, version=7_000_001)
        assert not lineage(an_update({}, 4), entity, [a_revision(7_000_001, {}, {}, after=3)]).has_base
        assert not lineage(an_update({}, 2), entity, [a_revision(7_000_001, {}, {}, after=3)]).has_base

    def test_of_what_was_first_made_in_another_epoch_starts_from_nothing(self):
        entity = an_entity({}, version=7_000_001)
        assert lineage(an_update({}, 0), entity, [a_revision(7_000_001, {}, {}, after=0)]).is_complete
        assert not lineage(an_update({}, 1), entity, [a_revision(7_000_001, {}, {}, after=0)]).has_base

    def test_of_a_version_that_never_was_is_unknown(self):
        assert not lineage(an_update({}, 9), an_entity({}), []).has_base

    def test_of_a_create_starts_from_nothing(self):
        line = lineage(a_create({}), an_entity({"title": "t"}), [])
        assert line.has_base
        assert line.base("title") is ABSENT


class TestRivals:
    def test_that_the_client_overwrote_are_none(self):
        history = [a_revision(2, {}, {"title": ["a"]}), mine(a_revision(3, {}, {"title": ["b"]}))]
        line = lineage(a_delete(1), an_entity({}), history)
        assert not line.is_contended("title")
        assert not line.has_rival_edit()

    def test_include_what_the_client_made_in_sight_of_another_one(self):
        """It wrote on version 2, which the attempt on version 1 had not seen: what it kept of that would go."""
        rival = a_revision(2, {}, {"title": ["a"]})
        own = mine(a_revision(3, {}, {"title": ["b"]}))._replace(rule=Rule.SAME_VERSION)
        queued = mine(a_revision(4, {}, {"title": ["c"]}))._replace(rule=Rule.OWN_QUEUE)
        line = lineage(an_update({}, 1), an_entity({}, 4), [rival, own, queued])
        assert (line.own, line.rivals) == ((), (rival, own, queued))
        assert line.base("title") == "a"

    def test_are_weighed_by_their_latest_stamp_not_their_last(self):
        history = [a_revision(2, {}, {"title": ["a"]}), a_revision(3, {}, {"title": ["b"]}, timestamp=0, client_id="")]
        assert lineage(an_update({}, 1), an_entity({}), history).rival_stamp("title") == Stamp(2_000, "tablet")

    def test_that_only_deleted_have_edited_nothing(self):
        history = [a_revision(3, {}, {}, operation_type=OperationType.DELETE)]
        assert not lineage(a_delete(2), an_entity({}), history).has_rival_edit()

    def test_that_brought_it_back_have_edited_it(self):
        history = [a_revision(2, {}, {}, operation_type=OperationType.DELETE), a_revision(3, {}, {})]
        assert lineage(a_delete(1), an_entity({}), history).has_rival_edit()

    def test_are_not_the_repairs_of_the_server(self):
        history = [a_revision(3, {}, {"parent_id": [1]}, client_id="", timestamp=0)]
        assert not lineage(a_delete(2), an_entity({}), history).has_rival_edit()

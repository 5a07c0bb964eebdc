from sync_server.conflict.stamps import Stamp, clamp, revision_stamp, write_stamp
from tests.unit.conflict.builders import NOW, a_revision, an_entity, an_update


class TestClamping:
    def test_holds_back_a_clock_that_runs_ahead(self):
        assert clamp(99_999, base_at=None, now=NOW) == NOW + 2_000

    def test_lifts_a_write_above_what_it_was_based_on(self):
        assert clamp(1, base_at=5_000, now=NOW) == 5_000

    def test_leaves_a_sane_time_alone(self):
        assert clamp(6_000, base_at=5_000, now=NOW) == 6_000


class TestStamp:
    def test_of_a_write_knows_the_time_of_its_base_from_the_history(self):
        attempt = an_update({}, 1, timestamp=0)
        assert write_stamp(attempt, an_entity({}, 2), [a_revision(1, {}, {})], now=NOW) == Stamp(1_000, "phone")

    def test_of_a_write_on_the_newest_version_knows_it_from_the_entity(self):
        assert write_stamp(an_update({}, 3, timestamp=0), an_entity({}), [], now=NOW).at == 5_000

    def test_of_a_logged_write_is_never_far_ahead_of_its_commit(self):
        assert revision_stamp(a_revision(2, {}, {}, timestamp=99_999)).at == 4_000

    def test_ties_go_by_the_client(self):
        assert Stamp(1, "b") > Stamp(1, "a") > Stamp(1, "")

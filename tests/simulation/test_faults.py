"""Courses that the simulator found, or once got wrong itself: no promise is broken in them."""

from sync_server.testing.plan import DevicePlan, Plan, Step
from sync_server.testing.runs import own_setting, play

DEVICE = DevicePlan("device_0", "1", ("websocket",), "json", has_file=False)


class TestAServerThatStops:
    def test_and_is_killed_by_the_commit_that_ends_it_is_down_and_comes_back(self) -> None:
        kill = Step(1.0, "world", "kill_server", 1)
        stop = Step(1.5, "world", "stop_server", 2)
        found = []
        for seed in range(8):
            plan = Plan(seed, (DEVICE,), 0, 10_000, (kill._replace(seed=seed), stop))
            found += play(plan, own_setting()).problems
        assert found == []


class TestAClientThatFollowsPushes:
    def test_leaves_the_reset_of_a_reply_alone_and_so_does_the_checker(self) -> None:
        """A restored backup: the pushes begin anew, and then a reply to an older cursor says so, too."""
        device = DEVICE._replace(codec="msgpack", has_file=True)
        steps = (
            Step(0.55, "plain_0", "update", 2001622056),
            Step(0.925, "device_0", "delete", 147713962),
            Step(1.228, "world", "fall_silent", 688641157),
            Step(4.433, "plain_0", "update", 1933322992),
            Step(6.024, "world", "back_up", 2602645363),
            Step(6.351, "world", "fall_silent", 550808900),
            Step(11.655, "device_0", "create", 3003559788),
        )
        assert play(Plan(1951590428, (device,), 2, 3, steps), own_setting()).problems == []


class TestRights:
    def test_that_nobody_confirmed_may_have_been_given(self) -> None:
        """The server was killed after the commit that gave the role and before it said so."""
        devices = (
            DEVICE._replace(links=("events",), codec="msgpack"),
            DevicePlan("device_1", "3", ("websocket",), "msgpack", has_file=False),
        )
        steps = (
            Step(0.032, "device_0", "create", 1581664990),
            Step(0.391, "world", "change_rights", 1472992821),
            Step(0.548, "world", "change_rights", 1144217762),
            Step(1.743, "device_0", "update", 4018432882),
            Step(1.796, "world", "kill_server", 732757555),
            Step(1.878, "world", "change_rights", 639800296),
        )
        assert play(Plan(1534182118, devices, 0, 10_000, steps), own_setting()).problems == []

    def test_that_are_given_and_taken_at_once_hold_in_no_order_that_anybody_knows(self) -> None:
        """The owner asked for both before either was answered: the later answer need not be of the later right."""
        devices = (
            DEVICE._replace(codec="msgpack"),
            DevicePlan("device_1", "3", ("websocket",), "json", has_file=True),
        )
        steps = (
            Step(0.306, "world", "change_rights", 3957644145),
            Step(0.416, "world", "change_rights", 1581246895),
            Step(5.054, "device_0", "create", 2192771425),
        )
        assert play(Plan(747032553, devices, 1, 0, steps), own_setting()).problems == []


class TestARestoredBackup:
    def test_may_be_noticed_by_rows_before_a_feed_over_http_tells_of_it(self) -> None:
        devices = (
            DEVICE._replace(links=("events",), has_file=True),
            DevicePlan("device_1", "1", ("websocket",), "msgpack", has_file=True),
            DevicePlan("device_2", "2", ("events",), "json", has_file=False),
            DevicePlan("device_3", "2", ("poll",), "msgpack", has_file=False),
        )
        steps = (
            Step(10.556, "world", "back_up", 889124653),
            Step(10.81, "device_3", "create", 3594702737),
            Step(32.717, "device_3", "create", 1583367555),
        )
        assert play(Plan(1256492074, devices, 0, 3, steps), own_setting()).problems == []


class TestASnapshotInPlaceOfALogThatIsGone:
    def test_may_leave_out_what_was_deleted_meanwhile(self) -> None:
        """A slow reader's position is below the horizon: it hears a reset, and nothing of what is gone."""
        steps = (
            Step(6.391, "device_0", "burst", 2547215628),
            Step(24.523, "world", "slow_down", 1329749431),
            Step(25.07, "plain_0", "delete", 743737457),
            Step(26.756, "device_0", "update", 660112084),
            Step(27.89, "world", "trim", 797494429),
            Step(30.73, "device_0", "delete", 3789723636),
        )
        assert play(Plan(1321658222, (DEVICE,), 2, 3, steps), own_setting()).problems == []


class TestAResetOfALiveFeed:
    def test_ends_so_that_what_is_gone_goes(self) -> None:
        """An entity was deleted and the log trimmed: a client that was told no end of the snapshot kept it for good."""
        devices = (
            DEVICE._replace(links=("events",), codec="msgpack"),
            DevicePlan("device_1", "3", ("websocket",), "json", has_file=False),
        )
        steps = (
            Step(11.285, "device_1", "create", 4055051253),
            Step(12.349, "device_1", "create", 178241190),
            Step(12.814, "world", "trim", 2862857841),
            Step(12.819, "device_1", "delete", 3825422402),
        )
        assert play(Plan(2645810059, devices, 1, 0, steps), own_setting()).problems == []

    def test_of_a_slow_reader_ends_as_well(self) -> None:
        """The log was trimmed while it lagged."""
        devices = (DEVICE, DevicePlan("device_1", "2", ("websocket",), "json", has_file=False))
        steps = (
            Step(3.0, "device_1", "burst", 1),
            Step(9.0, "world", "slow_down", 3626764237),
            Step(10.0, "device_1", "burst", 2),
            Step(12.0, "device_1", "delete", 1654615998),
            Step(12.5, "device_1", "delete", 3255389356),
            Step(13.0, "world", "trim", 3),
        )
        assert play(Plan(0, devices, 0, 3, steps), own_setting()).problems == []


class TestAConflict:
    def test_that_was_told_while_nothing_was_read_is_listed_afterwards(self) -> None:
        """Its notice met a full buffer: the device did not know of it before it connected anew."""
        devices = (DEVICE, DevicePlan("device_1", "2", ("websocket",), "json", has_file=True))
        steps = (
            Step(0.682, "device_0", "several", 3671788724),
            Step(3.289, "world", "go_down", 443542784),
            Step(6.803, "device_1", "several", 423968509),
            Step(7.998, "device_0", "update", 3111881715),
            Step(9.203, "device_0", "burst", 638357700),
        )
        assert play(Plan(1836036714, devices, 0, 10_000, steps), own_setting()).problems == []


class TestAnUpdate:
    def test_may_pass_a_delete_that_was_taken_back(self) -> None:
        """Who deleted the note wrote to it again, before the update came that knew of neither: nobody lost anything."""
        devices = (
            DEVICE._replace(links=("events",), codec="msgpack"),
            DevicePlan("device_1", "1", ("websocket",), "msgpack", has_file=False),
            DevicePlan("device_2", "1", ("websocket", "events", "poll"), "json", has_file=False),
        )
        steps = (
            Step(0.21, "device_0", "create", 1307078061),
            Step(0.605, "world", "fill_disk", 1701735739),
            Step(1.114, "device_2", "create", 269690905),
            Step(1.246, "plain_1", "update_late", 1806144682),
            Step(1.316, "device_1", "update", 3104453367),
            Step(1.325, "device_0", "several", 4245156562),
            Step(1.574, "plain_0", "create", 807382531),
            Step(2.238, "plain_0", "settle_conflict", 2247328263),
        )
        assert play(Plan(1782466113, devices, 2, 10_000, steps), own_setting()).problems == []

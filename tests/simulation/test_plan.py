"""A plan is drawn from its seed alone, and cut down to what is needed for a failure."""

import pytest

from sync_server.testing.plan import Choice, DevicePlan, Plan, Step, drawn, shortened

ACTS, FAULTS = (Choice("create", 1), Choice("update", 2)), (Choice("cut", 1),)


def plan(*acts_in: str, devices: int = 2) -> Plan:
    names = [f"device_{index}" for index in range(devices)]
    steps = tuple(Step(float(at), names[at % devices], what, at) for at, what in enumerate(acts_in))
    return Plan(1, tuple(DevicePlan(name, "1", ("poll",), "json", has_file=False) for name in names), 0, 0, steps)


def acts_in(shorter: Plan) -> list[str]:
    return [step.what for step in shorter.steps]


class TestAPlan:
    def test_is_the_same_for_a_seed(self) -> None:
        assert drawn(7, ACTS, FAULTS, size=20, users=3) == drawn(7, ACTS, FAULTS, size=20, users=3)
        assert drawn(7, ACTS, FAULTS, size=20, users=3) != drawn(8, ACTS, FAULTS, size=20, users=3)

    def test_is_in_order_of_time(self) -> None:
        steps = drawn(7, ACTS, FAULTS, size=50, users=3).steps
        assert [step.at for step in steps] == sorted(step.at for step in steps)

    def test_has_no_faults_where_there_are_none(self) -> None:
        plans = [drawn(seed, ACTS, (), size=5, users=1) for seed in range(20)]
        assert {step.what for one in plans for step in one.steps} <= {"create", "update"}


class TestAShorterPlan:
    def test_keeps_just_what_fails(self) -> None:
        long = plan(*"abcdefghijklmnop")
        assert acts_in(shortened(long, lambda one: {"c", "n"} <= set(acts_in(one)), tries=200)) == ["c", "n"]

    def test_leaves_out_devices_with_what_they_do(self) -> None:
        shorter = shortened(plan(*"abcdef", devices=3), lambda one: "a" in acts_in(one), tries=200)
        assert [device.name for device in shorter.devices] == ["device_0"]
        assert acts_in(shorter) == ["a"]

    def test_is_the_plan_where_every_step_is_needed(self) -> None:
        long = plan(*"abcd")
        assert shortened(long, lambda one: len(one.steps) == 4 and len(one.devices) == 2, tries=200) == long

    @pytest.mark.parametrize("tries", [0, 1, 5])
    def test_is_not_looked_for_more_often_than_asked(self, tries: int) -> None:
        tried: list[Plan] = []
        shortened(plan(*"abcdefgh"), lambda one: bool(tried.append(one)), tries=tries)
        assert len(tried) <= tries

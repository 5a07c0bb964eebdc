"""What is going to happen in a run: drawn from a seed, and cut down step by step while it still goes wrong."""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

LONGEST_S = 30.0


class Step(NamedTuple):
    """Something that happens at a moment. `seed` is all the chance it has, so it stays what it is in a shorter plan."""

    at: float
    who: str
    what: str
    seed: int


class DevicePlan(NamedTuple):
    name: str
    user: str
    links: tuple[str, ...]
    codec: str
    has_file: bool


class Plan(NamedTuple):
    """
    Attributes:
        recent: how many changes the server keeps in memory.
        plain: how many clients of the T3 document there are besides.
    """

    seed: int
    devices: tuple[DevicePlan, ...]
    plain: int
    recent: int
    steps: tuple[Step, ...]


class Choice(NamedTuple):
    """Something that a plan may draw, more often the heavier it is."""

    what: str
    weight: int


def drawn(
    seed: int, actions: Sequence[Choice], faults: Sequence[Choice], *, size: int, users: int, plain: int | None = None
) -> Plan:
    """The plan of a seed.

    Args:
        size: about how many things people do in it.
        plain: how many clients of the T3 document there are; None leaves that to chance.
    """
    chance = Random(seed)
    devices = tuple(_device(index, chance, users) for index in range(chance.choice((2, 2, 3, 3, 4))))
    drawn_plain = chance.choice((0, 0, 0, 1, 2))
    plain = plain if plain is not None else drawn_plain
    people = [device.name for device in devices] + [f"plain_{index}" for index in range(plain)]
    length_s = chance.uniform(2.0, LONGEST_S)
    count = chance.randint(max(1, size // 2), size * 3 // 2)
    some = chance.sample(faults, chance.randint(0, min(4, len(faults)))) if faults else []
    steps = [_step(chance, length_s, chance.choice(people), actions) for _ in range(count)]
    if some:
        steps += [_step(chance, length_s, "world", some) for _ in range(chance.randint(1, 2 + count // 3))]
    return Plan(seed, devices, plain, chance.choice((0, 3, 10_000, 10_000)), tuple(sorted(steps)))


def _device(index: int, chance: Random, users: int) -> DevicePlan:
    user = "1" if index == 0 else str(chance.randint(1, users))
    links = chance.choice(
        (("websocket",), ("websocket",), ("websocket",), ("websocket", "events", "poll"), ("events",), ("poll",))
    )
    return DevicePlan(f"device_{index}", user, links, chance.choice(("json", "msgpack")), chance.random() < 0.2)


def _step(chance: Random, length_s: float, who: str, choices: Sequence[Choice]) -> Step:
    what = chance.choices([choice.what for choice in choices], [choice.weight for choice in choices])[0]
    return Step(round(chance.uniform(0, length_s), 3), who, what, chance.getrandbits(32))


def shortened(plan: Plan, fails: Callable[[Plan], bool], *, tries: int) -> Plan:
    """A plan with as few steps as can be found that still fails: what is left out in turn is ever smaller."""
    size = max(1, len(plan.steps) // 2)
    while tries > 0:
        shorter = None
        for candidate in _without(plan, size):
            tries -= 1
            if fails(candidate):
                shorter = candidate
                break
            if tries <= 0:
                break
        if shorter is not None:
            plan = shorter
        elif size == 1:
            break
        else:
            size = max(1, size // 2)
    return plan


def _without(plan: Plan, size: int) -> Iterator[Plan]:
    for start in range(0, len(plan.steps), size):
        yield plan._replace(steps=plan.steps[:start] + plan.steps[start + size :])
    for index, device in enumerate(plan.devices):
        if index > 0 and len(plan.devices) > 1:
            steps = tuple(step for step in plan.steps if step.who != device.name)
            yield plan._replace(devices=plan.devices[:index] + plan.devices[index + 1 :], steps=steps)

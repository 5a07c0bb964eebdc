"""Simulations of entity types of one's own: what people do, what must hold, and a search for what breaks it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar

from sync_client import SyncClient
from sync_client.values import Entity, Key

from schema.entities import ENTITY_TYPES
from schema.entity import EntityModel
from schema.registry import registry
from sync_server.testing.acts import Act
from sync_server.testing.devices import Device
from sync_server.testing.faults import FAULTS
from sync_server.testing.history import Json, State
from sync_server.testing.plan import Choice
from sync_server.testing.runs import Check, Setting
from sync_server.testing.search import Load, outcome, report, shortest
from sync_server.testing.world import OWNER, World

T = TypeVar("T")

PARTITIONS = ("cut", "go_down", "fall_silent", "slow_down", "repeat", "kill_server", "stop_server")
"""What goes wrong unless faults are named: devices lose the server in every way, and keep what is written on them."""


class Person:
    """Somebody at one device.

    Attributes:
        name: of the device.
        shared: a space that everybody in the run may write to.
        ledger: what the test wants to remember of the run; one for all.
    """

    def __init__(self, world: World, device: Device) -> None:
        self.name = device.name
        self.shared = world.shared
        self.ledger = world.ledger
        self._device = device

    async def do(self, act: Callable[[SyncClient], Awaitable[T]]) -> T | None:
        """What an act at the device answers, such as `lambda client: client.create("task", title="paint")`.

        None, and nothing was written, where the device is off.
        """
        return await self._device.do(act)

    async def some(self, entity_type: str, chance: Random) -> Entity | None:
        """One of the entities that this device has, if it has any."""
        found = await self.do(lambda client: client.query(entity_type))
        return chance.choice(found) if found else None


class End(NamedTuple):
    """What there is once nothing is wrong any more and everybody has come to rest.

    Attributes:
        entities: the live ones that the owner of the shared space is told, which every device has as well.
        conflicts: all of them, as `GET /conflicts` tells them.
        refused: how many operations the server did not accept.
    """

    entities: dict[Key, State]
    conflicts: tuple[Json, ...]
    refused: int
    ledger: dict[Any, Any]

    def of(self, entity_type: str) -> list[Json]:
        """The fields of the entities of a type."""
        return [state.data for key, state in self.entities.items() if key.entity_type == entity_type]


PersonsAct = Callable[[Person, Random], Awaitable[None]]


class Failure(NamedTuple):
    """
    Attributes:
        text: what was broken, and the shortest course of events that was found to break it.
    """

    seed: int
    text: str


def first_failure(
    seeds: Iterable[int], *, types: Sequence[type[EntityModel]] = (), acts: Sequence[PersonsAct],
    check: Callable[[End], None], faults: Sequence[str] = PARTITIONS, size: int = 12, users: int = 2,
) -> Failure | None:  # fmt: skip
    """Play the plan of each seed until a promise of the server or the check is broken.

    Args:
        types: entity types besides the contract's.
        acts: what people do, in any order, on any device, at any moment.
        check: raises AssertionError if something does not hold in the end.
        faults: names of `sync_server.testing.faults.FAULTS`.
        size: about how many acts there are in a run.

    Raises:
        ValueError: a fault is not known.
    """
    if unknown := set(faults) - set(FAULTS):
        raise ValueError(f"faults: {sorted(unknown)} are not known; there are {sorted(FAULTS)}")
    setting = Setting(
        registry((*ENTITY_TYPES, *types)), {act.__name__: _act(act) for act in acts}, checks=(_check(check),)
    )
    chosen = tuple(Choice(act.__name__, 1) for act in acts)
    load = Load(chosen, tuple(Choice(name, 1) for name in faults), size=size, users=users, plain=0)
    for seed in seeds:
        if outcome(seed, load, setting).problems:
            return Failure(seed, report(seed, shortest(seed, load, setting)))
    return None


def _act(act: PersonsAct) -> Act:
    async def persons(world: World, device: Device, chance: Random) -> None:
        await act(Person(world, device), chance)

    return persons


def _check(check: Callable[[End], None]) -> Check:
    async def checked(world: World) -> list[str]:
        truth = world.history.truths[OWNER]
        refused = sum(len(end.quarantined) for end in world.history.ends.values())
        try:
            check(End(dict(truth.rows), truth.conflicts, refused, world.ledger))
        except AssertionError as error:
            return [f"check: {error}"]
        return []

    return checked

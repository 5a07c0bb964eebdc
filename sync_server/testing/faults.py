"""What goes wrong in a run."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from sync_server.testing.devices import Device
from sync_server.testing.doors import pry
from sync_server.testing.network import Line
from sync_server.testing.plan import Choice
from sync_server.testing.world import World

Fault = Callable[[World, Random], Awaitable[None]]

DOWN_S = 6.0
SILENT_S = 70.0
"""Longer than two missed heartbeats."""
STEPS = 400
DAY_S = 86_400


async def cut(world: World, chance: Random) -> None:
    name, line = _line(world, chance)
    world.tell(name, "is cut off")
    line.cut(tell_device=chance.random() < 0.9, tell_server=chance.random() < 0.9)


async def go_down(world: World, chance: Random) -> None:
    """No network for a while."""
    name, line = _line(world, chance)
    world.tell(name, "is offline")
    line.is_up = False
    line.cut(tell_server=chance.random() < 0.5)
    await asyncio.sleep(chance.random() * DOWN_S)
    line.is_up = True


async def fall_silent(world: World, chance: Random) -> None:
    """Packets are dropped both ways: only heartbeats can find that out."""
    name, line = _line(world, chance)
    world.tell(name, "is silent")
    line.is_silent = True
    await asyncio.sleep(chance.random() * SILENT_S)
    if line.is_silent:
        line.is_silent = False
        line.cut()


async def slow_down(world: World, chance: Random) -> None:
    name, line = _line(world, chance)
    line.bytes_per_s = chance.choice((500.0, 2_000.0, 20_000.0))
    world.tell(name, f"takes {line.bytes_per_s:.0f} bytes a second")
    await asyncio.sleep(chance.random() * SILENT_S)
    line.bytes_per_s = None


async def repeat(world: World, chance: Random) -> None:
    name, line = _line(world, chance)
    world.tell(name, "sends some messages twice")
    line.repeats = 0.5
    await asyncio.sleep(chance.random() * DOWN_S * 4)
    line.repeats = 0.0


async def kill_server(world: World, chance: Random) -> None:
    """At some await, or around the next commit; somebody starts it again."""
    server = world.server
    if not server.is_up or server.node is None:
        return
    place = chance.choice(("before commit", "after commit", "at once", "some steps later"))
    world.tell("server", f"is killed {place}")
    if place == "at once":
        server.node.kill()
    elif place == "some steps later":
        server.node.dies_in = chance.randrange(STEPS)
    else:
        server.dies = place
    await asyncio.sleep(chance.random() * DOWN_S)
    await _restarted(world)


async def stop_server(world: World, chance: Random) -> None:
    if world.server.is_up:
        world.tell("server", "stops")
        await world.server.stop()
        await asyncio.sleep(chance.random() * DOWN_S)
        await _restarted(world)


async def kill_device(world: World, chance: Random) -> None:
    device = _device(world, chance)
    if not device.is_on or device.node is None:
        return
    world.tell(device.name, "is killed")
    device.node.dies_in = chance.randrange(STEPS)
    await asyncio.sleep(chance.random() * DOWN_S)
    device.node.kill()
    if not device.is_on:
        await device.turn_on()


async def turn_off(world: World, chance: Random) -> None:
    device = _device(world, chance)
    if device.is_on:
        world.tell(device.name, "is closed")
        await device.turn_off()
        await asyncio.sleep(chance.random() * DOWN_S)
        if not device.is_on:
            await device.turn_on()


async def fill_disk(world: World, chance: Random) -> None:
    world.server.full_for = chance.randint(1, 5)
    world.tell("server", f"finds its disk full {world.server.full_for} times")


async def shuffle(world: World, chance: Random) -> None:
    """Commits are published out of order, and some of them twice, as they are where they come over a bus."""
    if (committer := world.server.committer) is not None:
        world.tell("server", "publishes out of order")
        committer.disorder_s = chance.choice((0.1, 2.0))
        await asyncio.sleep(chance.random() * DOWN_S)
        committer.disorder_s = 0.0


async def trim(world: World, chance: Random) -> None:  # noqa: ARG001  every fault is told the same
    if world.server.is_up:
        world.tell("server", "forgets its log")
        await world.trim()


async def change_rights(world: World, chance: Random) -> None:
    user = chance.choice([user for user in world.users if user != "1"] or ["2"])
    role = chance.choice((None, None, "viewer", "editor"))
    world.tell("owner", f"makes user {user} {role or 'no member'}")
    await world.grant(user, role)
    await pry(world, user, chance)
    await asyncio.sleep(chance.random() * DOWN_S * 3)
    await pry(world, user, chance)
    await world.grant(user, chance.choice((None, "editor", "editor")))


async def lie_about_time(world: World, chance: Random) -> None:
    device = _device(world, chance)
    device.clock.ahead_s = chance.choice((-10 * 365, 10 * 365, -1, 1)) * DAY_S * chance.random()
    world.tell(device.name, f"has a clock that is {device.clock.ahead_s:.0f} s ahead")


async def step_server_clock(world: World, chance: Random) -> None:
    world.server.clock.ahead_ms = chance.choice((-120_000, -5_000, 5_000, 120_000))
    world.tell("server", f"has a clock that is {world.server.clock.ahead_ms} ms ahead")


async def back_up(world: World, chance: Random) -> None:
    """Make a backup and, later, go back to it."""
    await world.back_up()
    await asyncio.sleep(chance.random() * DOWN_S * 2)
    if world.server.is_up and world.server.node is not None:
        world.tell("server", "is restored from a backup")
        world.server.node.kill()
        await asyncio.sleep(chance.random())
        if not world.server.is_up:
            world.restored()
            await _restarted(world)


async def corrupt(world: World, chance: Random) -> None:
    """Make some rows of a device wrong, as a bug or a broken disk would: it must find that out and heal."""
    device = _device(world, chance)
    if device.is_on:
        world.tell(device.name, "has wrong rows")
        world.history.is_corrupted = True
        await device.corrupt(chance)


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        cut, go_down, fall_silent, slow_down, repeat, kill_server, stop_server, kill_device, turn_off, fill_disk, trim,
        change_rights, lie_about_time, step_server_clock, back_up, corrupt, shuffle,
    )
}  # fmt: skip
CHOICES = tuple(
    Choice(name, {"cut": 6, "kill_server": 5, "change_rights": 3, "kill_device": 3, "back_up": 1}.get(name, 2))
    for name in FAULTS
)


async def _restarted(world: World) -> None:
    if not world.server.is_up:
        world.tell("server", "is started")
        await world.server.start()


def _device(world: World, chance: Random) -> Device:
    return world.devices[chance.choice(sorted(world.devices))]


def _line(world: World, chance: Random) -> tuple[str, Line]:
    lines = {name: device.line for name, device in world.devices.items()}
    lines |= {name: plain.line for name, plain in world.plain.items()}
    name = chance.choice(sorted(lines))
    return name, lines[name]

"""What people do at their devices in a run of the project's own: notes, written by several at once."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import httpx2 as httpx
from sync_client import SyncClient
from sync_client.errors import InvalidInputError, NoLongerThereError
from sync_client.values import Entity, Key

from sync_server.testing.devices import Device
from sync_server.testing.doors import pry
from sync_server.testing.history import Read
from sync_server.testing.plain import PlainDevice
from sync_server.testing.plan import Choice
from sync_server.testing.world import World

Act = Callable[[World, Device, Random], Awaitable[None]]

T = TypeVar("T")

BURST = 40
NOTE = "note"


async def create(world: World, device: Device, chance: Random) -> None:
    mark, line = world.mark(), world.mark()
    space_id = world.shared if chance.random() < 0.6 else None
    made = await device.do(lambda client: client.create(NOTE, title=mark, content=f"{line}\n", space_id=space_id))
    if made is not None:
        world.wrote(device, "creates", made.key, mark, line)


async def update(world: World, device: Device, chance: Random) -> None:
    note = await _some(device, chance)
    if note is not None:
        await _change(world, device, note if chance.random() < 0.5 else note.key, note, chance)


async def update_late(world: World, device: Device, chance: Random) -> None:
    """Write to a note as it was read long ago."""
    known = world.memory.setdefault(device.name, [])
    if known and chance.random() < 0.7:
        note = known.pop(chance.randrange(len(known)))
        await _change(world, device, note, note, chance)
    else:
        found = await _some(device, chance)
        known += [found] if found is not None else []


async def delete(world: World, device: Device, chance: Random) -> None:
    note = await _some(device, chance)
    if note is None:
        return

    async def act(client: SyncClient) -> Entity:
        await client.delete(note)
        return note

    if await _tried(device, act) is not None:
        world.wrote(device, "deletes", note.key)


async def several(world: World, device: Device, chance: Random) -> None:
    """A transaction: a new note, changed at once, and another one."""
    first, second = world.mark(), world.mark()
    other = await _some(device, chance)
    third = world.mark()

    async def act(client: SyncClient) -> Entity:
        async with client.transaction():
            made = await client.create(NOTE, title=first, space_id=world.shared)
            await client.update(made, title=second)
            if other is not None:
                await client.update(other.key, title=third)
        return made

    made = await _tried(device, act)
    if made is not None:
        world.wrote(device, "creates", made.key, first, second)
        if other is not None:
            world.wrote(device, "updates", other.key, third)


async def burst(world: World, device: Device, chance: Random) -> None:  # noqa: ARG001  every act is told the same
    """Many notes at once: more than a slow reader's buffer holds."""
    for _ in range(BURST):
        mark = world.mark()
        made = await device.do(
            lambda client, mark=mark: client.create(NOTE, title=mark, content="x" * 2_000, space_id=world.shared)  # type: ignore[misc]
        )
        if made is not None:
            world.wrote(device, "creates", made.key, mark)


async def settle_conflict(world: World, device: Device, chance: Random) -> None:
    found = await device.do(lambda client: client.conflicts())
    if not found:
        return
    conflict, way = chance.choice(found), chance.random()
    mark = world.mark()
    if way < 0.4:
        await _tried(device, lambda client: client.keep_mine(conflict))
    elif way < 0.8:
        await _tried(device, lambda client: client.keep_theirs(conflict))
    else:
        await _tried(device, lambda client: client.merge(conflict, title=mark))


async def retry(world: World, device: Device, chance: Random) -> None:  # noqa: ARG001
    found = await device.do(lambda client: client.quarantine())
    if found:
        await _tried(device, lambda client: client.retry(chance.choice(found)))


async def read(world: World, device: Device, chance: Random) -> None:
    """Ask the server itself, over HTTP; also for what is somebody else's."""
    await pry(world, device.user, chance)
    note = await _some(device, chance)
    if note is None:
        return
    asked_at = world.now
    try:
        path = f"/entities/{note.key.entity_type}/{note.key.entity_id}"
        told = await world.ask("GET", path, user=device.user, line=device.line)
        version = told["version"]
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 404:
            return
        version = None
    except httpx.HTTPError:
        return
    world.history.add(Read(asked_at, world.now, device.name, note.key, version))


ACTS: dict[str, Act] = {
    act.__name__: act for act in (create, update, update_late, delete, several, burst, settle_conflict, retry, read)
}
CHOICES = (
    Choice("create", 30), Choice("update", 40), Choice("update_late", 15), Choice("delete", 10), Choice("several", 8),
    Choice("burst", 1), Choice("settle_conflict", 8), Choice("retry", 3), Choice("read", 8),
)  # fmt: skip


async def act_plainly(world: World, device: PlainDevice, chance: Random) -> None:
    """What somebody does at a client of the T3 document."""
    way = chance.random()
    mark = world.mark()
    known = sorted(device.known)
    if way < 0.5 or not known:
        device.put("create", NOTE, data={"title": mark})
    elif way < 0.9:
        key = chance.choice(known)
        device.put("update", NOTE, entity_id=_wire(key), before_version=device.known[key], changes={"title": mark})
    else:
        key = chance.choice(known)
        device.put("delete", NOTE, entity_id=_wire(key), before_version=device.known[key])


def _wire(key: Key) -> int | str:
    return int(key.entity_id) if key.entity_id.isdecimal() else key.entity_id


async def _some(device: Device, chance: Random) -> Entity | None:
    notes = await device.do(lambda client: client.query(NOTE))
    return chance.choice(notes) if notes else None


async def _change(world: World, device: Device, named: Entity | Key, note: Entity, chance: Random) -> None:
    mark = world.mark()
    strategy = chance.choice((None, None, None, "manual", "client_wins"))
    way = chance.random()
    if way < 0.5:
        changes: dict[str, object] = {"title": mark}
    elif way < 0.9:
        lines = str(note.data.get("content", "")).splitlines()
        lines.insert(chance.randint(0, len(lines)), mark)
        changes = {"content": "\n".join(lines) + "\n"}
    else:
        changes = {"title": mark, "is_pinned": chance.random() < 0.5}
    done = await _tried(device, lambda client: client.update(named, changes, on_conflict=strategy))
    if done is not None:
        world.wrote(device, "updates", note.key, mark)


async def _tried(device: Device, act: Callable[[SyncClient], Awaitable[T]]) -> T | None:
    """What an act answers; None where what it is about is there no longer."""
    try:
        return await device.do(act)
    except (NoLongerThereError, LookupError, InvalidInputError):
        return None

"""People who ask over HTTP for what may not be theirs: what they are told, and what of something that never was."""

from random import Random
from typing import NamedTuple

import httpx2 as httpx
from sync_client.values import Key

from sync_server.testing.evidence import disputes, mentioned
from sync_server.testing.history import Json, Pried
from sync_server.testing.world import World

TRIES = 4
_NEVER = "never-was"


class Door(NamedTuple):
    """A request about `{}`."""

    method: str
    path: str
    body: Json | None = None

    def about(self, thing: str) -> tuple[str, str, Json | None]:
        body = self.body
        if body is not None:
            body = {name: thing if value == "{}" else value for name, value in body.items()}
        return self.method, self.path.replace("{}", thing), body


OF_ENTITIES = (
    Door("GET", "/entities/note/{}"),
    Door("GET", "/entities/note/{}/history"),
    Door("POST", "/data-diff", {"entity_type": "note", "entity_id": "{}", "client_version": 1, "client_data": {}}),
)
OF_SPACES = (
    Door("GET", "/spaces/{}"),
    Door("GET", "/spaces/{}/checksum"),
    Door("GET", "/changes?space_ids={}"),
    Door("GET", "/conflicts?space_ids={}"),
    Door("POST", "/verify", {"space_id": "{}", "buckets": ["0" * 16] * 256}),
    Door("POST", "/verify", {"space_id": "{}", "rows": {"0": []}}),
)
OF_CONFLICTS = (Door("GET", "/conflicts/{}"),)


async def pry(world: World, user: str, chance: Random) -> None:
    """Ask as a user for some of what there is, whosever it is."""
    keys, conflicts = sorted(mentioned(world.history)), sorted(disputes(world.history).items())
    for _ in range(TRIES):
        kinds = [OF_SPACES, *([OF_ENTITIES] if keys else []), *([OF_CONFLICTS] if conflicts else [])]
        doors = chance.choice(kinds)
        space_id = chance.choice([world.shared, *(f"u-{one}" for one in world.users)])
        key = chance.choice(keys) if doors is OF_ENTITIES else None
        thing = space_id if key is None else key.entity_id
        if doors is OF_CONFLICTS:
            thing, key = chance.choice(conflicts)
        await _ask(world, user, chance.choice(doors), thing, space_id if key is None else None, key)


async def _ask(world: World, user: str, door: Door, thing: str, space_id: str | None, key: Key | None) -> None:
    asked_at = world.now
    try:
        told = await _answer(world, user, door, thing)
        refusal = await _answer(world, user, door, _NEVER)
    except httpx.HTTPError:
        return
    if max(told[0], refusal[0]) < httpx.codes.INTERNAL_SERVER_ERROR:
        about = f"{door.method} {door.path.replace('{}', thing)}"
        world.history.add(Pried(asked_at, world.now, user, about, space_id, key, told, refusal))


async def _answer(world: World, user: str, door: Door, thing: str) -> tuple[int, str]:
    method, path, body = door.about(thing)
    response = await world.answer(method, path, user=user, json=body)
    return response.status_code, response.text.replace(thing, "{}")

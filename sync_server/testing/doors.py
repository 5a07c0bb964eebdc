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
_HOLES = ("{}", "{type}")


class Door(NamedTuple):
    """A request about `{}`, which may be an entity of `{type}`."""

    method: str
    path: str
    body: Json | None = None

    def about(self, thing: str, key: Key | None) -> tuple[str, Json | None]:
        """Path and body."""
        given = {"{}": thing, "{type}": key.entity_type if key is not None else ""}
        path = self.path.replace("{type}", given["{type}"]).replace("{}", thing)
        if self.body is None:
            return path, None
        return path, {name: given[value] if value in _HOLES else value for name, value in self.body.items()}


OF_ENTITIES = (
    Door("GET", "/entities/{type}/{}"),
    Door("GET", "/entities/{type}/{}/history"),
    Door("POST", "/data-diff", {"entity_type": "{type}", "entity_id": "{}", "client_version": 1, "client_data": {}}),
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
    """A token that is no good, as the server's clock was just put back, says nothing of rights."""
    asked_at = world.now
    try:
        told = await _answer(world, user, door, thing, key)
        refusal = await _answer(world, user, door, _NEVER, key)
    except httpx.HTTPError:
        return
    statuses = {told[0], refusal[0]}
    if max(statuses) < httpx.codes.INTERNAL_SERVER_ERROR and httpx.codes.UNAUTHORIZED not in statuses:
        about = f"{door.method} {door.about(thing, key)[0]}"
        world.history.add(Pried(asked_at, world.now, user, about, space_id, key, told, refusal))


async def _answer(world: World, user: str, door: Door, thing: str, key: Key | None) -> tuple[int, str]:
    path, body = door.about(thing, key)
    response = await world.answer(door.method, path, user=user, json=body)
    return response.status_code, response.text.replace(thing, "{}")

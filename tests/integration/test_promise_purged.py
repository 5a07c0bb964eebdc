"""P3, P10: a conflict that outlives its entity's tombstone can still be settled, and reaches into no other space."""

from sync_server.orders import Committed
from sync_server.stores.writer import Writer
from sync_server.types import Millis
from tests.harness import Client, Message, RunningServer, create, delete, update
from tests.integration.test_promise_delivery import TEAM, in_team


async def parked(server: RunningServer, owner: Client) -> str:
    """The conflict about a note of the team that was deleted, and whose tombstone was trimmed."""
    async with server.client("1", "rival") as rival:
        await owner.do(in_team(create("op_1", entity_id="n", title="base", content="kept")))
        await rival.do(update("op_2", "n", 1, title="theirs"))
        late = {**update("op_3", "n", 1, title="mine"), "resolution_strategy": "manual"}
        conflict_id = str((await owner.do(late))["conflict_id"])
        await rival.do(delete("op_4", "n", 2))

    def trim(writer: Writer, _now: Millis) -> tuple[None, Committed]:
        writer.trim_changes(until=writer.head().head_seq, limit=1_000)
        return None, Committed()

    await server.services.committer.perform(trim)
    return conflict_id


async def settled(client: Client, conflict_id: str, strategy: str) -> Message:
    await client.send(type="conflict", message_id="r", resolution={"conflict_id": conflict_id, "strategy": strategy})
    reply = await client.next("conflict_resolved")
    while reply["message_id"] != "r":  # a notice, which goes to all who may read it
        reply = await client.next("conflict_resolved")
    return reply


READ = {"operation_id": "r", "operation_type": "read", "entity_type": "note", "entity_id": "n"}


class TestAConflictOfAPurgedEntity:
    async def test_makes_it_anew_for_the_client(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner")
        async with server.client("1") as owner:
            reply = await settled(owner, await parked(server, owner), "client_wins")
            read = await owner.do(READ)
        assert (reply["success"], reply["new_version"]) == (True, 1)
        assert read["data"] == {"id": "n", "title": "mine", "content": "kept"}

    async def test_is_closed_for_the_server(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner")
        async with server.client("1") as owner, server.http("1") as http:
            conflict_id = await parked(server, owner)
            reply = await settled(owner, conflict_id, "server_wins")
            kept = (await http.get(f"/api/sync/conflicts/{conflict_id}")).json()["data"]
            read = await owner.do(READ)
        assert (reply["success"], reply["resolved_data"]) == (True, None)
        assert kept["status"] == "resolved"
        assert read["error_code"] == "NOT_FOUND"

    async def test_does_not_reach_who_took_its_id_since(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="owner")
        async with server.client("1") as owner, server.client("2") as stranger:
            conflict_id = await parked(server, owner)
            await stranger.do(create("op_1", entity_id="n", title="secret"))
            refused = await settled(owner, conflict_id, "client_wins")
            closed = await settled(owner, conflict_id, "server_wins")
            read = await stranger.do(READ)
        assert (refused["success"], refused["error_code"]) == (False, "CONFLICT")
        assert (closed["success"], closed["resolved_data"]) == (True, None)
        assert (read["data"]["title"], read["new_version"]) == ("secret", 1)

"""P2: an operation takes effect at most once, however often and on whichever connection it is sent."""

import asyncio
from contextlib import suppress
from pathlib import Path

from websockets.exceptions import ConnectionClosed

from sync_server.handlers.operations import Defaults, order_of
from sync_server.orders import Batch
from sync_server.protocol.client_messages import Operation
from sync_server.types import ClientId, Millis, SpaceId, SyncId, UserId
from tests.harness import Message, RunningServer, create, delete, open_client, running_server, token_for, update

SPACE = "s-team"


def batch(server: RunningServer, *operations: Message, user: str = "1", client_id: str = "desktop") -> Batch:
    orders = tuple(
        order_of(Operation.model_validate(raw), raw, server.services.registry, Defaults(None, Millis(0)))
        for raw in operations
    )
    return Batch(UserId(user), ClientId(client_id), SyncId("sync_1"), orders, SpaceId(f"u-{user}"))


async def log_of(server: RunningServer) -> list[str]:
    """The operation ids in the log, in its order."""
    return await server.services.feed.read(
        lambda reader: [row[0] for row in reader._rows("SELECT operation_id FROM changes ORDER BY seq")]
    )


class TestAResentOperation:
    async def test_gets_its_first_result_again(self, server: RunningServer) -> None:
        operation = create("op_1", title="once")
        async with server.client() as client:
            first, again = await client.do(operation), await client.do(operation)
        assert again == {**first, "duplicate": True}
        assert await log_of(server) == ["op_1"]

    async def test_gets_its_first_result_whatever_became_of_the_entity(self, server: RunningServer) -> None:
        operation = create("op_1", entity_id="n", title="first")
        async with server.client() as client:
            first = await client.do(operation)
            await client.do(update("op_2", "n", 1, title="second"))
            await client.do(delete("op_3", "n", 2))
            again = await client.do(operation)
        assert again == {**first, "duplicate": True}

    async def test_gets_the_same_result_when_it_was_superseded(self, server: RunningServer) -> None:
        late = update("op_3", "n", 1, title="late")
        async with server.client() as client, server.client(client_id="phone") as phone:
            await client.do(create("op_1", entity_id="n", title="first"))
            await phone.do(update("op_2", "n", 1, title="second"))
            first = await client.do(late, default_resolution_strategy="server_wins")
            again = await client.do(late, default_resolution_strategy="server_wins")
        assert first["verdict"] == "superseded"
        assert again == {**first, "duplicate": True}

    async def test_gets_its_first_rejection_again(self, server: RunningServer) -> None:
        operation = update("op_1", "none", 1, title="x")
        async with server.client() as client:
            first = await client.do(operation)
            await client.do(create("op_2", entity_id="none", title="now it is there"))
            again = await client.do(operation)
        assert first["error_code"] == "NOT_FOUND"
        assert again == {**first, "duplicate": True}

    async def test_is_one_operation_when_it_is_twice_in_a_request(self, server: RunningServer) -> None:
        operation = create("op_1", title="once")
        async with server.client() as client:
            first, second = (await client.sync(operation, operation))["operation_results"]
        assert second == {**first, "duplicate": True}
        assert await log_of(server) == ["op_1"]

    async def test_is_recognised_when_only_its_time_differs(self, server: RunningServer) -> None:
        operation = create("op_1", title="once")
        async with server.client() as client:
            await client.do({**operation, "timestamp": "2024-01-10T10:00:00Z"})
            again = await client.do({**operation, "timestamp": "2024-01-11T10:00:00Z"})
        assert again["duplicate"]

    async def test_with_another_body_is_an_error_and_changes_nothing(self, server: RunningServer) -> None:
        async with server.client() as client:
            await client.do(create("op_1", entity_id="n", title="first"))
            other = await client.do(create("op_1", entity_id="n", title="other"))
            read = await client.do(
                {"operation_id": "r", "operation_type": "read", "entity_type": "note", "entity_id": "n"}
            )
        assert (other["verdict"], other["error_code"]) == ("rejected", "VALIDATION_ERROR")
        assert read["data"]["title"] == "first"

    async def test_of_another_client_or_user_is_another_operation(self, server: RunningServer) -> None:
        operation = create("op_1", title="mine")
        async with server.client() as one, server.client(client_id="b") as two, server.client("2") as three:
            results = [await client.do(operation) for client in (one, two, three)]
        assert [result.get("duplicate") for result in results] == [None, None, None]
        assert len({result["entity_id"] for result in results}) == 3

    async def test_of_another_user_may_bear_the_same_sync_id(self, server: RunningServer) -> None:
        async with server.client() as one, server.client("2") as two, server.http("2") as http:
            await one.sync(create("op_1", title="mine"), sync_id="monday", is_last_batch=False)
            theirs = await two.sync(create("op_1", title="theirs"), sync_id="monday")
            status = (await http.get("/api/sync/status", params={"sync_id": "monday"})).json()["data"]
        assert theirs["operation_results"][0]["verdict"] == "applied"
        assert [view["client_id"] for view in status["sync_history"]] == [two.client_id]
        assert status["active_syncs"] == []

    async def test_is_applied_once_when_the_connection_was_replaced_meanwhile(self, server: RunningServer) -> None:
        operation = create("op_1", title="once")
        async with server.client() as old:
            request = {"client_id": old.client_id, "operations": [operation]}
            await old.send(type="sync", message_id="first", data=request)
            async with server.client() as new:
                await new.do(operation)
        assert await log_of(server) == ["op_1"]

    async def test_is_applied_once_over_a_restart(self, tmp_path: Path) -> None:
        operation = create("op_1", title="once")
        async with running_server(tmp_path) as server, server.client() as client:
            first = await client.do(operation)
        async with running_server(tmp_path) as server, server.client() as client:
            again = await client.do(operation)
            assert await log_of(server) == ["op_1"]
        assert again == {**first, "duplicate": True}


class TestParallelResends:
    async def test_in_one_round_take_effect_once(self, server: RunningServer) -> None:
        async with server.client():
            committer = server.services.committer
            operations = create("op_1", title="once"), create("op_2", title="twice")
            results = await asyncio.gather(*(committer.submit(batch(server, *operations)) for _ in range(10)))
        fresh = [decided for result in results for decided in result if not decided.duplicate]
        assert len(fresh) == 2
        assert {decided.seq for result in results for decided in result} == {1, 2}
        assert await log_of(server) == ["op_1", "op_2"]

    async def test_of_different_bodies_have_one_winner(self, server: RunningServer) -> None:
        async with server.client():
            committer = server.services.committer
            batches = [batch(server, create("op_1", title=str(index))) for index in range(5)]
            results = await asyncio.gather(*map(committer.submit, batches))
        verdicts = sorted(decided.decision.verdict for result in results for decided in result)
        assert verdicts == ["applied", *["rejected"] * 4]

    async def test_on_many_connections_take_effect_once(self, server: RunningServer) -> None:
        await server.share(SPACE, _1="editor")
        operations = [create(f"op_{index}", entity_id=f"n{index}", title="x") for index in range(20)]
        operations = [{**one, "space_id": SPACE} for one in operations]

        async def send_all() -> None:
            with suppress(ConnectionClosed):  # by the next one, which takes its place
                async with open_client(server.ws_url, "desktop") as client:
                    await client.greet(token=token_for("1"))
                    request = {"client_id": "desktop", "operations": operations}
                    await client.send(type="sync", message_id="all", data=request)
                    await client.next("sync_response", "error")

        await asyncio.gather(*(send_all() for _ in range(6)))
        async with server.client(client_id="desktop") as last:
            results = (await last.sync(*operations))["operation_results"]
        assert [result["new_version"] for result in results] == [1] * 20
        assert sorted(await log_of(server)) == sorted(["", *(one["operation_id"] for one in operations)])


class TestACancelledCaller:
    async def test_does_not_cancel_the_commit(self, server: RunningServer) -> None:
        async with server.client():
            work = asyncio.create_task(server.services.committer.submit(batch(server, create("op_1", title="once"))))
            await asyncio.sleep(0)
            work.cancel()
            await asyncio.wait({work})
            again = await server.services.committer.submit(batch(server, create("op_1", title="once")))
        assert work.cancelled()
        assert again[0].duplicate
        assert await log_of(server) == ["op_1"]

    async def test_leaves_the_queue_as_if_it_had_stayed(self, server: RunningServer) -> None:
        async with server.client():
            committer = server.services.committer
            works = [
                asyncio.create_task(committer.submit(batch(server, create(f"op_{index}", title="x"))))
                for index in range(20)
            ]
            await asyncio.sleep(0)
            for work in works[::2]:
                work.cancel()
            await asyncio.wait(works)
            await committer.submit(batch(server, create("last", title="x")))
            assert committer.queued(UserId("1")) == []
            assert committer._queued_operations == 0
        assert len(await log_of(server)) == 21

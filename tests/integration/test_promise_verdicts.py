"""P3: every operation ends in exactly one verdict; a bad one blocks neither its neighbours nor the queue."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sync_server.conflict.decide import decide
from sync_server.stores.engine import SQLITE_PRAGMAS
from sync_server.types import UserId
from tests.harness import Message, RunningServer, create, delete, running_server, update
from tests.integration.test_promise_once import batch, log_of

MALFORMED: list[Any] = [
    None,
    7,
    [],
    {},
    {"operation_id": "bad"},
    {"operation_id": "bad", "operation_type": "destroy"},
    {"operation_id": "bad", "operation_type": "create", "entity_type": "nothing", "data": {}},
    {"operation_id": "bad", "operation_type": "create", "entity_type": "note", "data": {"title": 7}},
    {"operation_id": "bad", "operation_type": "create", "entity_type": "note", "data": {"unknown": 7}},
    {"operation_id": "bad", "operation_type": "create", "entity_type": "note", "entity_id": 12, "data": {}},
    {"operation_id": "bad", "operation_type": "create", "entity_type": "note", "data": {}, "timestamp": "soon"},
    {
        "operation_id": "bad", "operation_type": "create", "entity_type": "note", "data": {},
        "timestamp": "9999-12-31T23:59:59-12:00",
    },
    {
        "operation_id": "bad", "operation_type": "create", "entity_type": "note", "data": {},
        "timestamp": "0001-01-01T00:00:00+12:00",
    },
    {"operation_id": "bad", "operation_type": "update", "entity_type": "note", "entity_id": "n", "before_version": -1},
    {"operation_id": "bad", "operation_type": "update", "entity_type": "note", "changes": {"title": "x"}},
    {"operation_id": "bad", "operation_type": "update", "entity_type": "note", "entity_id": "a/b", "changes": {}},
    {"operation_id": "bad", "operation_type": "delete", "entity_type": "note", "entity_id": {"ref": "later"}},
    {"operation_id": "bad", "operation_type": "resolve", "conflict_id": "none", "strategy": "merge"},
    {"operation_id": "bad" * 100, "operation_type": "create", "entity_type": "note", "data": {}},
]  # fmt: skip


def writers(server: RunningServer) -> list[Any]:
    return [server.client(client_id=f"device_{index}") for index in range(8)]


class TestAMalformedOperation:
    @pytest.mark.parametrize("malformed", MALFORMED)
    async def test_is_rejected_alone(self, server: RunningServer, malformed: object) -> None:
        async with server.client() as client:
            first, bad, last = (await client.sync(create("op_1", title="a"), malformed, create("op_2", title="b")))[  # type: ignore[arg-type]
                "operation_results"
            ]
        assert (first["verdict"], last["verdict"]) == ("applied", "applied")
        assert (bad["verdict"], bad["success"]) == ("rejected", False)
        assert bad["error_code"] in {"VALIDATION_ERROR", "NOT_FOUND"}

    async def test_does_not_stay_in_the_way(self, server: RunningServer) -> None:
        async with server.client() as client:
            await client.sync(*MALFORMED)
            assert (await client.do(create("op_1", title="next")))["verdict"] == "applied"


class TestAnAtomicRequest:
    async def test_takes_effect_as_a_whole(self, server: RunningServer) -> None:
        async with server.client() as client:
            response = await client.sync(create("op_1", title="a"), create("op_2", title="b"), atomic=True)
        assert response["status"] == "success"
        assert await log_of(server) == ["op_1", "op_2"]

    @pytest.mark.parametrize("place", [0, 1, 2])
    async def test_leaves_nothing_when_one_operation_fails(self, server: RunningServer, place: int) -> None:
        operations = [create("op_1", "folder", name="a"), create("op_2", title="b")]
        operations.insert(place, update("bad", "none", 1, title="x"))
        async with server.client() as client:
            response = await client.sync(*operations, atomic=True)
        assert [result["verdict"] for result in response["operation_results"]] == ["rejected"] * 3
        assert response["operation_results"][place]["error_code"] == "NOT_FOUND"
        assert response["status"] == "failed"
        assert await log_of(server) == []

    async def test_that_failed_may_be_sent_again_once_it_can_succeed(self, server: RunningServer) -> None:
        operations = [create("op_1", title="b"), update("op_2", "n", 1, title="x")]
        async with server.client() as client:
            await client.sync(*operations, atomic=True)
            await client.do(create("op_0", entity_id="n", title="now it is there"))
            response = await client.sync(*operations, atomic=True)
        assert [result["verdict"] for result in response["operation_results"]] == ["applied", "applied"]

    async def test_does_not_take_back_what_was_done_before(self, server: RunningServer) -> None:
        done = create("op_1", title="done")
        async with server.client() as client:
            first = await client.do(done)
            again, _ = (await client.sync(done, update("bad", "none", 1, title="x"), atomic=True))["operation_results"]
        assert again == {**first, "duplicate": True}

    async def test_that_meets_a_conflict_parks_nothing(self, server: RunningServer) -> None:
        async with server.client() as client, server.client(client_id="phone") as phone:
            await client.do(create("op_1", entity_id="n", title="base"))
            await phone.do(update("op_2", "n", 1, title="theirs"))
            late = {**update("op_3", "n", 1, title="mine"), "resolution_strategy": "manual"}
            response = await client.sync(create("op_4", title="b"), late, atomic=True)
            results = response["operation_results"]
        assert [(result["verdict"], result["error_code"]) for result in results] == [("rejected", "CONFLICT")] * 2
        assert "conflict_id" not in results[1]
        assert response["conflicts"] == []

    async def test_with_a_malformed_operation_is_refused_whole(self, server: RunningServer) -> None:
        async with server.client() as client:
            data = {"client_id": "client_a", "operations": [create("op_1", title="a"), {"operation_id": "bad"}]}
            await client.send(type="sync", message_id="m", data={**data, "atomic": True})
            error = await client.next("error")
        assert (error["message_id"], error["error_code"], error["retryable"]) == ("m", "VALIDATION_ERROR", False)
        assert await log_of(server) == []


class TestAReference:
    async def test_names_what_the_request_creates(self, server: RunningServer) -> None:
        async with server.client() as client:
            folder, note, edit = (
                await client.sync(
                    create("op_1", "folder", name="f"),
                    create("op_2", title="n", folder_id={"ref": "op_1"}),
                    {**update("op_3", {"ref": "op_2"}, 1, content="text")},
                )
            )["operation_results"]
        assert note["data"]["folder_id"] == folder["entity_id"]
        assert (edit["entity_id"], edit["new_version"]) == (note["entity_id"], 2)

    async def test_is_found_again_on_a_resend(self, server: RunningServer) -> None:
        folder = create("op_1", "folder", name="f")
        async with server.client() as client:
            made = await client.do(folder)
            _, note = (await client.sync(folder, create("op_2", title="n", folder_id={"ref": "op_1"})))[
                "operation_results"
            ]
        assert note["data"]["folder_id"] == made["entity_id"]

    async def test_to_a_rejected_or_later_operation_rejects_alone(self, server: RunningServer) -> None:
        async with server.client() as client:
            results = (
                await client.sync(
                    create("op_1", "folder", name=7),
                    create("op_2", title="n", folder_id={"ref": "op_1"}),
                    create("op_3", title="n", folder_id={"ref": "op_4"}),
                    create("op_4", "folder", name="f"),
                )
            )["operation_results"]
        assert [result["verdict"] for result in results] == ["rejected", "rejected", "rejected", "applied"]


class TestAGuiltyBatch:
    async def test_fails_alone_in_its_round(self, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        def stumble(attempt: Any, *args: Any, **options: Any) -> Any:
            if attempt.fields.get("title") == "poison":
                raise ZeroDivisionError
            return decide(attempt, *args, **options)

        monkeypatch.setattr("sync_server.round.decide", stumble)
        async with server.client():
            batches = [
                batch(server, create(f"op_{index}", title="poison" if index == 3 else "fine")) for index in range(8)
            ]
            submitted = (server.services.committer.submit(one) for one in batches)
            results = await asyncio.gather(*submitted, return_exceptions=True)
        assert [index for index, result in enumerate(results) if isinstance(result, Exception)] == [3]
        assert str(results[3]) == "The server could not store this; nothing of it happened. Send it again."
        assert sorted(await log_of(server)) == [f"op_{index}" for index in range(8) if index != 3]


class TestADatabaseFailure:
    @pytest_asyncio.fixture
    async def server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningServer]:
        """A server that waits for the database's lock 100 ms instead of 5 s."""
        pragmas = (*SQLITE_PRAGMAS, "PRAGMA busy_timeout=100")
        monkeypatch.setattr("sync_server.stores.engine.SQLITE_PRAGMAS", pragmas)
        async with running_server(tmp_path) as running:
            yield running

    async def test_is_a_retryable_error_without_ack_or_push(self, server: RunningServer, tmp_path: Path) -> None:
        operation = create("op_1", title="x")
        async with server.client() as writer, server.client(client_id="phone") as phone:
            with closing(sqlite3.connect(tmp_path / "sync.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await writer.send(
                    type="sync", message_id="m", data={"client_id": "client_a", "operations": [operation]}
                )
                error = await writer.next("error")
            await phone.nothing("server_update")
            result = await writer.do(operation)
            pushed = await phone.next("server_update")
        assert (error["message_id"], error["error_code"], error["retryable"]) == ("m", "SYNC_ERROR", True)
        assert error["retry_after_ms"] > 0
        assert "duplicate" not in result
        assert pushed["seq"] == result["seq"] == 1

    async def test_of_a_full_disk_is_a_retryable_error_too(self, server: RunningServer) -> None:
        async with server.client() as client:
            await client.do(create("op_0", title="there is room"))
            await server.services.committer.perform(_limit_pages(2))
            big = {"client_id": "client_a", "operations": [create("op_1", title="x", content="y" * 100_000)]}
            await client.send(type="sync", message_id="m", data=big)
            error = await client.next("error")
            await server.services.committer.perform(_limit_pages(1_000_000))
            result = await client.do(create("op_1", title="x", content="y" * 100_000))
        assert (error["error_code"], error["retryable"]) == ("SYNC_ERROR", True)
        assert "disk" not in error["error"]
        assert result["verdict"] == "applied"
        assert await log_of(server) == ["op_0", "op_1"]

    async def test_that_is_nobodys_fault_is_told_to_all_at_once(self, server: RunningServer, tmp_path: Path) -> None:
        async with server.client():
            began: list[None] = []
            store = server.services.committer._store
            write = store.write
            store.write = lambda: began.append(None) or write()  # type: ignore[func-returns-value,method-assign]
            with closing(sqlite3.connect(tmp_path / "sync.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                batches = [batch(server, create(f"op_{index}", title="x")) for index in range(50)]
                submitted = (server.services.committer.submit(one) for one in batches)
                results = await asyncio.gather(*submitted, return_exceptions=True)
        assert all(isinstance(result, Exception) for result in results)
        assert len(began) <= 4

    async def test_does_not_stop_what_is_written_behind(self, server: RunningServer, tmp_path: Path) -> None:
        async with server.client() as client:
            with closing(sqlite3.connect(tmp_path / "sync.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await client.sync()
                await server.services.clients.flush()
            await server.services.clients.flush()
        record = await server.services.feed.read(lambda reader: reader.client(UserId("1"), "client_a"))
        assert record is not None
        assert record.cursor == client.cursor


def _limit_pages(count: int) -> Any:
    """A task that lets the database grow by so many pages from now on."""
    from sync_server.orders import Committed

    def limit(writer: Any, _now: Any) -> tuple[None, Committed]:
        pages = writer._row("PRAGMA page_count")[0]
        writer._row(f"PRAGMA max_page_count={pages + count}")
        return None, Committed()

    return limit


class TestEveryOperation:
    async def test_of_a_mixed_request_has_one_result_in_its_place(self, server: RunningServer) -> None:
        operations: list[Message] = [
            create("op_1", entity_id="n", title="x"), update("op_2", "n", 1, title="y"), update("op_3", "no", 1),
            delete("op_4", "n", 2), delete("op_5", "n", 2),
            {"operation_id": "op_6", "operation_type": "read", "entity_type": "note", "entity_id": "n"},
            {"operation_id": "op_7", "operation_type": "read", "entity_type": "note"},
        ]  # fmt: skip
        async with server.client() as client:
            results = (await client.sync(*operations))["operation_results"]
        assert [result["operation_id"] for result in results] == [one["operation_id"] for one in operations]
        assert [result["verdict"] for result in results] == [
            "applied", "applied", "rejected", "applied", "applied", "rejected", "applied",
        ]  # fmt: skip

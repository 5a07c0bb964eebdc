"""The contract's ten routes, with its own example bodies."""

import asyncio
from typing import Any

import httpx2 as httpx
import pytest

from sync_server.orders import Committed
from sync_server.types import Seq
from tests.harness import RunningServer, create, update
from tests.integration.rest_client import done, eventually, failed, held, rest_client

Json = dict[str, Any]


@pytest.fixture
async def api(server: RunningServer) -> Any:
    async with rest_client(server) as client:
        yield client


async def sync(api: httpx.AsyncClient, *operations: Json, client_id: str = "client_abc123", **request: Any) -> Json:
    body = {"client_id": client_id, "operations": list(operations), **request}
    answer: Json = done(await api.post("/api/sync/sync", json=body))["data"]
    return answer


async def parked(api: httpx.AsyncClient, name: str = "a") -> tuple[Any, str]:
    """A note with an open conflict: its id and the conflict's."""
    note = (await sync(api, create(f"{name}_1", title="base")))["operation_results"][0]["entity_id"]
    await sync(api, update(f"{name}_2", note, 1, title="theirs"))
    mine = {**update(f"{name}_3", note, 1, title="mine"), "resolution_strategy": "manual"}
    result = (await sync(api, mine, client_id="other"))["operation_results"][0]
    assert result["verdict"] == "conflict"
    return note, result["conflict_id"]


EXAMPLE: Json = {
    "request_id": "sync_req_001",
    "client_id": "client_abc123",
    "client_state": {
        "client_id": "client_abc123",
        "last_sync_time": "2024-01-09T10:00:00Z",
        "server_version": "1.0.0",
        "pending_operations": 2,
    },
    "protocol_version": "1.0.0",
    "operations": [
        {
            "operation_id": "op_001",
            "operation_type": "create",
            "entity_type": "note",
            "data": {"title": "新笔记", "content": "笔记内容"},
            "client_id": "client_abc123",
            "timestamp": "2024-01-10T10:00:00Z",
        }
    ],
    "default_resolution_strategy": "latest_wins",
    "incremental": True,
    "batch_size": 100,
    "batch_index": 0,
    "is_last_batch": True,
}


class TestSync:
    async def test_does_the_operations_of_the_contracts_example(self, api: httpx.AsyncClient) -> None:
        body = done(await api.post("/api/sync/sync", json=EXAMPLE))
        (result,) = body["data"]["operation_results"]
        assert body["data"]["request_id"] == "sync_req_001"
        assert body["data"]["status"] == "success"
        assert result["data"] == {"id": result["entity_id"], "title": "新笔记", "content": "笔记内容"}
        assert {"server_time", "server_updates", "conflicts", "new_client_state"} <= body["data"].keys()

    async def test_answers_a_resend_with_the_same_verdict(self, api: httpx.AsyncClient) -> None:
        first = (await sync(api, create("op_001", title="once")))["operation_results"][0]
        again = (await sync(api, create("op_001", title="once")))["operation_results"][0]
        assert again == {**first, "duplicate": True}

    async def test_is_pushed_to_a_connected_device(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        async with server.client(client_id="phone") as phone:
            await sync(api, create("op_001", title="over REST"))
            pushed = await phone.next("server_update")
        assert pushed["update_data"]["data"]["title"] == "over REST"


class TestSyncData:
    async def test_has_the_members_of_the_contract(self, api: httpx.AsyncClient) -> None:
        await sync(api, create("op_001", title="笔记标题", content="笔记内容"))
        body = done(
            await api.post(
                "/api/sync/sync-data",
                json={
                    "client_id": "client_abc123",
                    "protocol_version": "1.0.0",
                    "entity_types": ["note", "folder", "review"],
                    "since": "2024-01-09T10:00:00Z",
                    "full_sync": False,
                    "batch_size": 100,
                    "batch_index": 0,
                    "is_last_batch": False,
                },
            )
        )["data"]
        (entity,) = body["entities"]
        assert body["entity_type"] == "note"
        assert (body["has_more"], body["next_batch_index"]) == (True, 1)
        assert entity["data"] == {"title": "笔记标题", "content": "笔记内容"}
        assert {"id", "version", "data", "created_at", "updated_at", "space_id"} == entity.keys()

    @pytest.mark.parametrize("by", ["cursor", "batch_index"])
    async def test_walks_through_every_type_once(self, api: httpx.AsyncClient, by: str) -> None:
        notes = [create(f"note_{index}", title=str(index)) for index in range(5)]
        folders = [create(f"folder_{index}", "folder", name=str(index)) for index in range(3)]
        await sync(api, *notes, *folders)
        seen = [entity async for entity in walk(api, by, batch_size=2)]
        assert [kind for kind, _ in seen] == ["note"] * 5 + ["folder"] * 3
        assert len({(kind, entity["id"]) for kind, entity in seen}) == 8

    @pytest.mark.parametrize("by", ["cursor", "batch_index"])
    async def test_misses_nothing_that_changes_meanwhile(self, api: httpx.AsyncClient, by: str) -> None:
        data = await sync(api, *(create(f"note_{index}", title="old") for index in range(6)))
        ids = [result["entity_id"] for result in data["operation_results"]]
        seen: dict[Any, int] = {}
        async for _, entity in walk(api, by, batch_size=2, entity_types=["note"]):
            if not seen:
                await sync(api, update("touch", ids[0], 1, title="new"), update("touch_2", ids[4], 1, title="new"))
            seen[entity["id"]] = max(entity["version"], seen.get(entity["id"], 0))
        assert seen == {note: 2 if note in {ids[0], ids[4]} else 1 for note in ids}

    async def test_tells_deletes_only_since_a_time(self, api: httpx.AsyncClient) -> None:
        result = (await sync(api, create("op_001", title="gone")))["operation_results"][0]
        gone = {"operation_id": "op_002", "operation_type": "delete", "entity_type": "note", "before_version": 1}
        await sync(api, {**gone, "entity_id": result["entity_id"]})
        body = {"client_id": "c", "entity_types": ["note"]}
        everything = done(await api.post("/api/sync/sync-data", json=body))["data"]
        since = done(await api.post("/api/sync/sync-data", json={**body, "since": everything["server_time"]}))["data"]
        assert (everything["entities"], everything["full_sync"]) == ([], True)
        assert [(entity["deleted"], entity["data"]) for entity in since["entities"]] == [(True, None)]
        assert since["full_sync"] is False

    async def test_is_whole_where_the_log_does_not_reach_back(
        self, server: RunningServer, api: httpx.AsyncClient
    ) -> None:
        await sync(api, create("op_001", title="kept"), create("op_002", title="gone"))
        await server.services.committer.perform(lambda writer, _: (writer.trim_changes(until=1, limit=1), Committed()))
        server.services.feed.raise_floor(Seq(1))
        body = {"client_id": "c", "since": "2024-01-10T10:00:00Z", "entity_types": ["note"]}
        reply = done(await api.post("/api/sync/sync-data", json=body))["data"]
        assert (len(reply["entities"]), reply["full_sync"]) == (2, True)

    async def test_begins_again_where_the_log_was_trimmed_since_it_began(
        self, server: RunningServer, api: httpx.AsyncClient
    ) -> None:
        await sync(api, create("op_001", title="a"), create("op_002", title="b"))
        body = {"client_id": "c", "entity_types": ["note"], "batch_size": 1}
        first = done(await api.post("/api/sync/sync-data", json=body))["data"]
        await sync(api, create("op_003", title="c"))
        await server.services.committer.perform(lambda writer, _: (writer.trim_changes(until=3, limit=9), Committed()))
        reply = await api.post("/api/sync/sync-data", json={**body, "cursor": first["cursor"]})
        assert failed(reply, 409, "CONFLICT")["details"] == {"field": "cursor"}

    async def test_refuses_a_batch_it_does_not_know(self, api: httpx.AsyncClient) -> None:
        reply = await api.post("/api/sync/sync-data", json={"client_id": "c", "batch_index": 7})
        assert failed(reply, 409, "CONFLICT")["details"] == {"field": "batch_index"}

    async def test_refuses_a_cursor_of_another_kind(self, api: httpx.AsyncClient) -> None:
        reply = await api.post("/api/sync/sync-data", json={"client_id": "c", "cursor": "nonsense"})
        assert failed(reply, 400, "VALIDATION_ERROR")["details"]["field"] == "cursor"


async def walk(api: httpx.AsyncClient, by: str, **request: Any) -> Any:
    """(entity_type, entity) of every batch, going on by the cursor or by the index."""
    body: Json = {"client_id": "client_abc123", "full_sync": True, **request}
    while True:
        page = done(await api.post("/api/sync/sync-data", json=body))["data"]
        for entity in page["entities"]:
            yield page["entity_type"], entity
        if not page["has_more"]:
            return
        following = page["cursor"] if by == "cursor" else page["next_batch_index"]
        body = {**body, by: following}


class TestStatus:
    async def test_shows_an_unfinished_sync_with_the_members_of_the_contract(self, api: httpx.AsyncClient) -> None:
        await sync(api, create("op_001", title="first batch"), sync_id="sync_abc123", is_last_batch=False)
        body = done(await api.get("/api/sync/status", params={"client_id": "client_abc123"}))["data"]
        (active,) = body["active_syncs"]
        assert active == {
            "sync_id": "sync_abc123", "client_id": "client_abc123", "user_id": 1, "status": "syncing",
            "start_time": active["start_time"], "end_time": None, "total_operations": 1, "completed_operations": 1,
            "successful_operations": 1, "failed_operations": 0, "conflicts_count": 0, "resolved_conflicts": 0,
            "progress": 100, "entity_types": ["note"], "error": None,
        }  # fmt: skip
        assert body["client_state"]["client_id"] == "client_abc123"
        assert body["sync_history"] == []

    async def test_shows_an_ended_sync_in_the_history(self, api: httpx.AsyncClient) -> None:
        sync_id = (await sync(api, create("op_001", title="x")))["new_client_state"]["last_sync_id"]
        body = done(await api.get("/api/sync/status", params={"sync_id": sync_id}))["data"]
        assert [one["sync_id"] for one in body["sync_history"]] == [sync_id]
        assert body["client_state"]["client_id"] == "client_abc123"

    async def test_counts_conflicts_that_were_settled(self, api: httpx.AsyncClient) -> None:
        _, conflict_id = await parked(api)
        await resolve(api, conflict_id)
        (shown,) = done(await api.get("/api/sync/status", params={"client_id": "other"}))["data"]["sync_history"]
        assert (shown["conflicts_count"], shown["resolved_conflicts"]) == (1, 1)

    async def test_shows_nothing_of_another_user(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        await sync(api, create("op_001", title="x"), sync_id="sync_abc123")
        async with rest_client(server, "2") as stranger:
            body = done(await stranger.get("/api/sync/status", params={"sync_id": "sync_abc123"}))["data"]
        assert (body["active_syncs"], body["sync_history"]) == ([], [])


class TestQueue:
    async def test_lists_what_was_rejected_with_what_was_sent(self, api: httpx.AsyncClient) -> None:
        await sync(api, update("op_001", 999, 1, title="nothing there"), create("op_002", title="fine"))
        params = {"queue_type": "failed", "limit": 10}
        body = done(await api.get("/api/sync/queue", params=params))["data"]
        (item,) = body["operations"]
        assert (item["operation_id"], item["status"], item["data"]) == ("op_001", "failed", {"title": "nothing there"})
        assert item["error_code"] == "NOT_FOUND"
        assert body["pagination"] == {"page": 1, "limit": 10, "total_pages": 1}
        assert body["stats"] == {"pending": 0, "processing": 0, "completed": 1, "failed": 1}

    async def test_counts_all_of_them_over_pages(self, api: httpx.AsyncClient) -> None:
        await sync(api, *(create(f"op_{index}", title="x") for index in range(5)))
        pages = [
            done(await api.get("/api/sync/queue", params={"page": page, "limit": 2}))["data"] for page in (1, 2, 3)
        ]
        assert [page["total"] for page in pages] == [5, 5, 5]
        assert len({item["operation_id"] for page in pages for item in page["operations"]}) == 5

    async def test_shows_what_waits(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        with held(server):
            task = asyncio.create_task(sync(api, create("op_001", title="waits"), sync_id="sync_abc123"))
            item = await eventually(lambda: queue_item(api))
            status = done(await api.get("/api/sync/status"))["data"]
            verdict = done(await api.get("/api/sync/operations/op_001"))["data"]
        await task
        assert item["data"] == {"title": "waits"}
        assert item["status"] in {"pending", "processing"}
        assert item["estimated_processing_time"] is not None
        assert [one["sync_id"] for one in status["active_syncs"]] == ["sync_abc123"]
        assert verdict["verdict"] is None


class TestResolveConflict:
    async def test_settles_it_once(self, api: httpx.AsyncClient) -> None:
        _, conflict_id = await parked(api)
        body = done(await resolve(api, conflict_id))["data"]
        assert body == {
            "conflict_id": conflict_id, "success": True, "new_version": 3,
            "resolved_data": {"title": "合并后的标题", "content": "合并后的内容"},
        }  # fmt: skip
        failed(await resolve(api, conflict_id), 409, "CONFLICT")

    async def test_is_told_to_every_device_of_the_user(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        _, conflict_id = await parked(api)
        async with server.client(client_id="client_abc123") as one:
            await resolve(api, conflict_id)
            pushed = await one.next("server_update")
        assert pushed["update_data"]["version"] == 3

    async def test_refuses_two_names_for_one_conflict(self, api: httpx.AsyncClient) -> None:
        body = {"conflict_id": "a", "resolution": {"conflict_id": "b", "strategy": "merge"}}
        problem = failed(await api.post("/api/sync/resolve-conflict", json=body), 400, "VALIDATION_ERROR")
        assert problem["details"]["field"] == "resolution.conflict_id"

    async def test_refuses_an_unknown_one(self, api: httpx.AsyncClient) -> None:
        failed(await resolve(api, "conflict_001"), 404, "NOT_FOUND")


async def resolve(api: httpx.AsyncClient, conflict_id: str) -> httpx.Response:
    resolution = {
        "conflict_id": conflict_id,
        "strategy": "merge",
        "resolved_data": {"title": "合并后的标题", "content": "合并后的内容"},
        "auto_resolve": True,
    }
    body = {"conflict_id": conflict_id, "resolution": resolution}
    return await api.post("/api/sync/resolve-conflict", json=body)


class TestResolveConflicts:
    async def test_answers_each_on_its_own(self, api: httpx.AsyncClient) -> None:
        _, one = await parked(api, "a")
        _, two = await parked(api, "b")
        resolutions = [
            {"conflict_id": key, "resolution": {"conflict_id": key, "strategy": "server_wins", "auto_resolve": True}}
            for key in (one, "conflict_none", two)
        ]
        entries = done(await api.post("/api/sync/resolve-conflicts", json={"resolutions": resolutions}))["data"]
        assert [(entry["conflict_id"], entry["success"]) for entry in entries] == [
            (one, True), ("conflict_none", False), (two, True),
        ]  # fmt: skip
        assert entries[1]["error_code"] == "NOT_FOUND"


class TestDataDiff:
    async def test_compares_two_versions(self, api: httpx.AsyncClient) -> None:
        note = (await sync(api, create("op_001", title="a", content="same")))["operation_results"][0]["entity_id"]
        await sync(api, update("op_002", note, 1, title="b", is_pinned=True))
        body = {
            "client_id": "client_abc123", "entity_type": "note", "entity_id": note, "client_version": 1,
            "server_version": 2,
        }  # fmt: skip
        data = done(await api.post("/api/sync/data-diff", json=body))["data"]
        (diff,) = data["diffs"]
        assert (data["total_diffs"], data["conflicts_count"]) == (1, 1)
        assert diff["field_diffs"] == [
            {"field_name": "title", "client_value": "a", "server_value": "b", "diff_type": "modified"},
            {"field_name": "is_pinned", "client_value": None, "server_value": True, "diff_type": "added"},
        ]
        assert (diff["diff_type"], diff["has_conflict"]) == ("conflict", True)

    async def test_compares_what_the_client_sends(self, api: httpx.AsyncClient) -> None:
        note = (await sync(api, create("op_001", title="a")))["operation_results"][0]["entity_id"]
        body = {"entity_type": "note", "entity_id": note, "client_version": 1, "client_data": {"title": "mine"}}
        (diff,) = done(await api.post("/api/sync/data-diff", json=body))["data"]["diffs"]
        assert (diff["diff_type"], diff["has_conflict"]) == ("modified", False)

    async def test_has_none_where_both_are_the_same(self, api: httpx.AsyncClient) -> None:
        note = (await sync(api, create("op_001", title="a")))["operation_results"][0]["entity_id"]
        body = {"entity_type": "note", "entity_id": note, "client_version": 1}
        assert done(await api.post("/api/sync/data-diff", json=body))["data"]["diffs"] == []

    async def test_refuses_a_version_from_the_future(self, api: httpx.AsyncClient) -> None:
        note = (await sync(api, create("op_001", title="a")))["operation_results"][0]["entity_id"]
        body = {"entity_type": "note", "entity_id": note, "client_version": 9}
        problem = failed(await api.post("/api/sync/data-diff", json=body), 400, "VALIDATION_ERROR")
        assert problem["details"]["field"] == "client_version"

    async def test_says_when_the_history_does_not_reach_back(
        self, server: RunningServer, api: httpx.AsyncClient
    ) -> None:
        note = (await sync(api, create("op_001", title="a")))["operation_results"][0]["entity_id"]
        await sync(api, update("op_002", note, 1, title="b"))
        await server.services.committer.perform(lambda writer, _: (writer.trim_changes(until=1, limit=1), Committed()))
        body = {"entity_type": "note", "entity_id": note, "client_version": 1}
        problem = failed(await api.post("/api/sync/data-diff", json=body), 404, "NOT_FOUND")
        assert problem["details"]["field"] == "client_version"


class TestCancel:
    async def test_ends_an_unfinished_sync_and_refuses_its_later_batches(self, api: httpx.AsyncClient) -> None:
        await sync(api, create("op_001", title="x"), sync_id="sync_abc123", is_last_batch=False)
        body = done(await api.post("/api/sync/cancel", json={"sync_id": "sync_abc123", "reason": "用户取消"}))
        assert body == {"success": True, "sync_id": "sync_abc123", "cancelled_operations": 0}
        later = {"client_id": "client_abc123", "sync_id": "sync_abc123", "operations": [create("op_002", title="y")]}
        failed(await api.post("/api/sync/sync", json=later), 409, "CONFLICT")
        (shown,) = done(await api.get("/api/sync/status"))["data"]["sync_history"]
        assert (shown["status"], shown["error"]) == ("cancelled", "用户取消")

    async def test_drops_what_waits(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        request = {"client_id": "c", "sync_id": "sync_abc123", "operations": [create("op_001", title="never")]}
        with held(server):
            task = asyncio.create_task(api.post("/api/sync/sync", json=request))
            await eventually(lambda: queue_item(api))
            cancelling = asyncio.create_task(api.post("/api/sync/cancel", json={"sync_id": "sync_abc123"}))
            failed(await asyncio.wait_for(task, 5), 409, "CONFLICT")
        assert done(await cancelling)["cancelled_operations"] == 1
        assert done(await api.get("/api/sync/spaces/u-1/checksum"))["data"]["count"] == 0
        failed(await api.post("/api/sync/sync", json=request), 409, "CONFLICT")

    async def test_refuses_one_that_has_ended(self, api: httpx.AsyncClient) -> None:
        await sync(api, create("op_001", title="x"), sync_id="sync_abc123")
        failed(await api.post("/api/sync/cancel", json={"sync_id": "sync_abc123"}), 409, "CONFLICT")

    async def test_does_not_know_another_users(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        await sync(api, create("op_001", title="x"), sync_id="sync_abc123", is_last_batch=False)
        async with rest_client(server, "2") as stranger:
            failed(await stranger.post("/api/sync/cancel", json={"sync_id": "sync_abc123"}), 404, "NOT_FOUND")
            failed(await stranger.post("/api/sync/retry", json={"sync_id": "sync_abc123"}), 404, "NOT_FOUND")


class TestRetry:
    async def test_does_the_rejected_ones_again_as_the_client_that_sent_them(self, api: httpx.AsyncClient) -> None:
        orders = [update("op_001", "later", 1, title="now there is one"), update("op_002", "never", 1, title="x")]
        await sync(api, *orders, sync_id="sync_abc123")
        await sync(api, create("made", entity_id="later", title="made meanwhile"))
        body = done(await api.post("/api/sync/retry", json={"sync_id": "sync_abc123"}))
        assert (body["sync_id"], body["retried_count"]) == ("sync_abc123", 2)
        assert [one["success"] for one in body["operation_results"]] == [True, False]
        entity = done(await api.get("/api/sync/entities/note/later"))["data"]
        assert entity["data"]["title"] == "now there is one"
        verdict = done(await api.get("/api/sync/operations/op_001"))["data"]
        assert (verdict["client_id"], verdict["retry_count"], verdict["verdict"]) == ("client_abc123", 1, "applied")
        status = done(await api.get("/api/sync/status", params={"sync_id": "sync_abc123"}))["data"]
        assert status["sync_history"][0]["successful_operations"] == 1
        assert status["sync_history"][0]["failed_operations"] == 1

    async def test_keeps_their_order(self, api: httpx.AsyncClient) -> None:
        names = ("op_c", "op_a", "op_b")
        await sync(api, *(update(name, "later", 1, title=name) for name in names), sync_id="sync_abc123")
        for _ in range(2):
            body = done(await api.post("/api/sync/retry", json={"sync_id": "sync_abc123"}))
            assert tuple(one["operation_id"] for one in body["operation_results"]) == names

    async def test_keeps_the_strategy_of_their_request(self, api: httpx.AsyncClient) -> None:
        """Retried twice: what refuses it again keeps it as well."""
        order, request = update("op_001", "later", 1, title="mine"), {"sync_id": "sync_abc123"}
        await sync(api, order, default_resolution_strategy="client_wins", **request)
        assert done(await api.get("/api/sync/operations/op_001"))["data"]["strategy"] is None  # it asked none
        await api.post("/api/sync/retry", json=request)
        await sync(api, create("made", entity_id="later", title="a"), client_id="other")
        await sync(api, update("theirs", "later", 1, title="b"), client_id="other")
        assert done(await api.post("/api/sync/retry", json=request))["retried_count"] == 1
        verdict = done(await api.get("/api/sync/operations/op_001"))["data"]
        assert (verdict["rule"], verdict["strategy"]) == ("client_wins", {"name": "client_wins", "source": "request"})

    async def test_says_again_what_is_malformed(self, api: httpx.AsyncClient) -> None:
        await sync(api, {"operation_id": "op_001", "operation_type": "create", "entity_type": "note"}, sync_id="s")
        body = done(await api.post("/api/sync/retry", json={"sync_id": "s"}))
        assert [one["error_code"] for one in body["operation_results"]] == ["VALIDATION_ERROR"]
        assert done(await api.get("/api/sync/operations/op_001"))["data"]["retry_count"] == 1

    async def test_does_only_those_that_are_named(self, api: httpx.AsyncClient) -> None:
        await sync(api, update("op_001", 99, 1, title="x"), update("op_002", 98, 1, title="x"), sync_id="sync_abc123")
        named = {"sync_id": "sync_abc123", "operation_ids": ["op_002", "op_009"]}
        assert done(await api.post("/api/sync/retry", json=named))["retried_count"] == 1

    async def test_leaves_parked_ones_to_their_conflict(self, api: httpx.AsyncClient) -> None:
        await parked(api)
        (item,) = done(await api.get("/api/sync/queue", params={"queue_type": "failed"}))["data"]["operations"]
        assert item["status"] == "conflict"
        assert done(await api.post("/api/sync/retry", json={"sync_id": item["sync_id"]}))["retried_count"] == 0

    async def test_finds_what_its_operations_referred_to(self, api: httpx.AsyncClient) -> None:
        move = update("move", "later", 1, folder_id={"ref": "folder"})
        results = (await sync(api, create("folder", "folder", name="new"), move, sync_id="sync_abc123"))[
            "operation_results"
        ]
        await sync(api, create("made", entity_id="later", title="made meanwhile"))
        assert done(await api.post("/api/sync/retry", json={"sync_id": "sync_abc123"}))["retried_count"] == 1
        moved = done(await api.get("/api/sync/entities/note/later"))["data"]["data"]
        assert (results[1]["success"], moved["folder_id"]) == (False, results[0]["entity_id"])


class TestClearHistory:
    async def test_forgets_ended_syncs_of_the_client(self, api: httpx.AsyncClient) -> None:
        await sync(api, create("op_001", title="x"))
        await sync(api, create("op_001", title="x"), client_id="other")
        recent = done(await api.post("/api/sync/clear-history", json={"client_id": "other", "retain_days": 30}))
        assert recent == {"success": True, "cleared_count": 0}
        await eventually(lambda: cleared(api))
        shown = done(await api.get("/api/sync/status"))["data"]["sync_history"]
        assert [one["client_id"] for one in shown] == ["client_abc123"]


async def cleared(api: httpx.AsyncClient) -> Any:
    body = done(await api.post("/api/sync/clear-history", json={"client_id": "other", "retain_days": 0}))
    return body["cleared_count"] or None


async def queue_item(api: httpx.AsyncClient) -> Any:
    found = done(await api.get("/api/sync/queue"))["data"]["operations"]
    return found[0] if found else None

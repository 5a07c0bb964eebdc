"""What changed, over HTTP: pages that wait, and a stream of events."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from sync_server.clock import now_ms
from sync_server.feed import Page
from sync_server.handlers.feeds import events, viewer_for
from sync_server.types import Millis, UserId
from tests.harness import TIMEOUT_S, RunningServer, create, delete, running_server, update
from tests.integration.rest_client import done, eventually, failed, rest_client

Json = dict[str, Any]


@pytest.fixture
async def api(server: RunningServer) -> AsyncIterator[httpx.AsyncClient]:
    async with rest_client(server) as client:
        yield client


async def sync(api: httpx.AsyncClient, *operations: Json, client_id: str = "writer") -> list[Json]:
    body = {"client_id": client_id, "operations": list(operations)}
    results: list[Json] = done(await api.post("/api/sync/sync", json=body))["data"]["operation_results"]
    return results


async def changes(api: httpx.AsyncClient, **query: Any) -> Json:
    answer: Json = done(await api.get("/api/sync/changes", params=query))["data"]
    return answer


async def waiting(server: RunningServer) -> None:
    """Until somebody waits for a change."""

    async def found() -> bool | None:
        await asyncio.sleep(0)
        return True if server.services.hub._waiters else None

    await eventually(found)


class TestChanges:
    async def test_begin_with_a_snapshot_and_go_on_with_the_log(self, api: httpx.AsyncClient) -> None:
        (note,) = await sync(api, create("op_001", title="first"))
        snapshot = await changes(api)
        await sync(api, update("op_002", note["entity_id"], 1, title="second"), create("op_003", title="other"))
        after = await changes(api, cursor=snapshot["cursor"])
        assert (snapshot["update_type"], [row["version"] for row in snapshot["changes"]]) == ("snapshot", [1])
        assert [(row["operation_type"], row["data"]["title"]) for row in after["changes"]] == [
            ("update", "second"), ("create", "other"),
        ]  # fmt: skip
        assert after["has_more"] is False

    async def test_come_in_pages(self, api: httpx.AsyncClient) -> None:
        start = (await changes(api))["cursor"]
        await sync(api, *(create(f"op_{index}", title=str(index)) for index in range(5)))
        seen, cursor, has_more = [], start, True
        while has_more:
            page = await changes(api, cursor=cursor, limit=2)
            seen += [row["data"]["title"] for row in page["changes"]]
            cursor, has_more = page["cursor"], page["has_more"]
        assert seen == ["0", "1", "2", "3", "4"]

    async def test_leave_out_what_the_client_did_itself(self, api: httpx.AsyncClient) -> None:
        start = (await changes(api))["cursor"]
        await sync(api, create("op_001", title="mine"), client_id="me")
        await sync(api, create("op_001", title="other"), client_id="other")
        told = (await changes(api, cursor=start, client_id="me"))["changes"]
        assert [row["data"]["title"] for row in told] == ["other"]

    async def test_hold_what_was_resolved_over_http(self, api: httpx.AsyncClient) -> None:
        await sync(api, create("op_001", entity_id="n", title="base"), update("op_002", "n", 1, title="theirs"))
        late = {**update("op_003", "n", 1, title="mine"), "resolution_strategy": "manual"}
        (parked,) = await sync(api, late, client_id="other")
        start = (await changes(api))["cursor"]
        resolution = {"conflict_id": parked["conflict_id"], "strategy": "client_wins"}
        body = {"conflict_id": parked["conflict_id"], "resolution": resolution}
        done(await api.post("/api/sync/resolve-conflict", json=body))
        told = (await changes(api, cursor=start))["changes"]
        assert [row["data"]["title"] for row in told] == ["mine"]

    async def test_can_be_of_some_types_only(self, api: httpx.AsyncClient) -> None:
        await sync(api, create("op_001", title="note"), create("op_002", "folder", name="folder"))
        told = (await changes(api, entity_types="folder,review"))["changes"]
        assert [row["entity_type"] for row in told] == ["folder"]

    async def test_of_a_space_of_others_are_not_found(self, api: httpx.AsyncClient) -> None:
        failed(await api.get("/api/sync/changes", params={"space_ids": "u-2"}), 404, "NOT_FOUND")

    async def test_after_no_cursor_of_ours_are_refused(self, api: httpx.AsyncClient) -> None:
        failed(await api.get("/api/sync/changes", params={"cursor": "nonsense"}), 400, "VALIDATION_ERROR")

    async def test_of_a_log_that_began_anew_come_with_a_reset(self, api: httpx.AsyncClient) -> None:
        await sync(api, create("op_001", title="kept"))
        told = await changes(api, cursor="MS5hYmMuNw")
        assert told["resets"] == [{"space_id": None, "reason": "epoch"}]
        assert [row["data"]["title"] for row in told["changes"]] == ["kept"]


class TestLongPoll:
    async def test_wakes_up_for_a_change(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        start = (await changes(api))["cursor"]
        poll = asyncio.create_task(changes(api, cursor=start, wait=25))
        await waiting(server)
        async with rest_client(server) as writer:
            await sync(writer, create("op_001", title="at last"))
        told = await asyncio.wait_for(poll, TIMEOUT_S)
        assert [row["data"]["title"] for row in told["changes"]] == ["at last"]

    async def test_is_not_woken_by_others(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        start = (await changes(api))["cursor"]
        poll = asyncio.create_task(changes(api, cursor=start, wait=0.5))
        await waiting(server)
        async with rest_client(server, "2") as stranger:
            await sync(stranger, create("op_001", title="secret"))
        told = await asyncio.wait_for(poll, TIMEOUT_S)
        assert (told["changes"], told["has_more"]) == ([], False)

    async def test_wakes_up_for_a_grant(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        async with rest_client(server, "2") as owner:
            await sync(owner, create("op_001", title="shared"))
            start = (await changes(api))["cursor"]
            poll = asyncio.create_task(changes(api, cursor=start, wait=25))
            await waiting(server)
            done(await owner.put("/api/sync/spaces/u-2/members/1", json={"role": "viewer"}))
            told = await asyncio.wait_for(poll, TIMEOUT_S)
        assert told["resets"] == [{"space_id": "u-2", "reason": "granted"}]

    async def test_ends_when_the_server_stops(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        start = (await changes(api))["cursor"]
        poll = asyncio.create_task(changes(api, cursor=start, wait=25))
        await waiting(server)
        await server.services.connections.drain(budget_s=1)
        told = await asyncio.wait_for(poll, TIMEOUT_S)
        assert told["changes"] == []

    async def test_ends_with_its_client_and_gives_its_place_up(
        self, server: RunningServer, api: httpx.AsyncClient
    ) -> None:
        start = (await changes(api))["cursor"]
        async with rest_client(server) as hurried:
            poll = asyncio.create_task(changes(hurried, cursor=start, wait=25))
            await waiting(server)
            poll.cancel()
        await eventually(partial(_nobody_is_open, server))
        assert not server.services.hub._waiters

    async def test_is_no_longer_than_allowed(self, api: httpx.AsyncClient) -> None:
        problem = failed(await api.get("/api/sync/changes", params={"wait": 26}), 400, "VALIDATION_ERROR")
        assert problem["details"] == {"field": "wait", "problem": "must be at most 25.0", "in": "query"}


class Stream:
    """Reads server-sent events."""

    def __init__(self, reply: httpx.Response) -> None:
        self.reply = reply
        self._lines = reply.aiter_lines()

    async def next(self) -> tuple[str, str, Json]:
        """(event, id, data) of the next event."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(TIMEOUT_S):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if line and name:
                    fields[name] = value
                elif "data" in fields:
                    return fields["event"], fields["id"], json.loads(fields["data"])
        raise EOFError

    async def until(self, event: str) -> list[tuple[str, str, Json]]:
        """The events up to and with the next of this kind."""
        seen = [await self.next()]
        while seen[-1][0] != event:
            seen.append(await self.next())
        return seen


class TestEvents:
    async def test_are_a_snapshot_and_then_what_happens(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        await sync(api, create("op_001", title="before"))
        async with api.stream("GET", "/api/sync/events") as reply:
            stream = Stream(reply)
            (first, last) = await stream.until("caught_up")
            async with rest_client(server) as writer:
                await sync(writer, create("op_002", title="after"))
            event, _, data = await stream.next()
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert (first[0], first[2]["update_type"]) == ("server_update", "snapshot")
        assert last[1] == last[2]["cursor"]
        assert (event, data["update_data"]["data"]["title"]) == ("server_update", "after")

    async def test_resume_after_the_last_one_that_arrived(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        start = (await changes(api))["cursor"]
        await sync(api, *(create(f"op_{index}", title=str(index)) for index in range(4)))
        async with api.stream("GET", "/api/sync/events", params={"cursor": start}) as reply:
            stream = Stream(reply)
            await stream.next()
            _, last_id, _ = await stream.next()
        headers = {"Last-Event-ID": last_id}
        async with api.stream("GET", "/api/sync/events", headers=headers, params={"cursor": start}) as reply:
            rest = await Stream(reply).until("caught_up")
        titles = [data["update_data"]["data"]["title"] for event, _, data in rest if event == "server_update"]
        assert titles == ["2", "3"]

    async def test_tell_a_revocation_and_nothing_after_it(self, server: RunningServer) -> None:
        async with rest_client(server, "2") as owner, rest_client(server, "1") as member:
            (note,) = await sync(owner, create("op_001", title="shared"))
            done(await owner.put("/api/sync/spaces/u-2/members/1", json={"role": "editor"}))
            async with member.stream("GET", "/api/sync/events") as reply:
                stream = Stream(reply)
                await stream.until("caught_up")
                done(await owner.delete("/api/sync/spaces/u-2/members/1"))
                await sync(owner, update("op_002", note["entity_id"], 1, title="secret"))
                _, _, gone = await stream.next()
                await sync(member, create("op_003", title="own"))
                _, _, own = await stream.next()
        assert (gone["update_data"]["operation_type"], gone["update_data"]["reason"]) == ("delete", "revoked")
        assert own["update_data"]["data"]["title"] == "own"

    async def test_tell_nothing_of_a_page_that_was_read_before_a_revocation(self, server: RunningServer) -> None:
        async with rest_client(server, "2") as owner, rest_client(server, "1"):
            await sync(owner, *(create(f"op_{index}", title="shared") for index in range(5)))
            done(await owner.put("/api/sync/spaces/u-2/members/1", json={"role": "viewer"}))
            viewer = await viewer_for(server.services, UserId("1"), None, None, None)
            stream = events(server.services, viewer, server.services.feed.beginning, until=Millis(2**52))
            first = await anext(stream)
            done(await owner.delete("/api/sync/spaces/u-2/members/1"))
            rest = []
            async for event in stream:
                rest.append(event)
                if event.name == "caught_up":
                    break
            await stream.aclose()
        assert first.data["update_data"]["operation_type"] == "create"
        assert [e for e in rest if e.name == "server_update" and e.data["update_data"]["data"] is not None] == []

    async def test_go_on_at_once_where_something_came_while_a_page_was_read(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is left behind of a wait that ends before it began: warnings are errors here."""
        feed = server.services.feed
        read = feed.page
        async with rest_client(server) as owner:
            viewer = await viewer_for(server.services, UserId("1"), None, None, None)

            async def page_then_commit(*args: Any, **options: Any) -> Page:
                page = await read(*args, **options)
                if not page.updates:
                    await sync(owner, create("op_001", title="meanwhile"))
                return page

            monkeypatch.setattr(feed, "page", page_then_commit)
            stream = events(server.services, viewer, feed.end, until=Millis(2**52))
            told = [(await anext(stream)).name for _ in range(2)]
            await stream.aclose()
            gc.collect()
        assert told == ["caught_up", "server_update"]

    async def test_end_with_their_token(self, server: RunningServer) -> None:
        async with rest_client(server):
            viewer = await viewer_for(server.services, UserId("1"), None, None, None)
        until = Millis(now_ms() + 300)
        async with asyncio.timeout(TIMEOUT_S):
            told = [event async for event in events(server.services, viewer, server.services.feed.end, until=until)]
        assert [event.name for event in told] == ["caught_up"]

    async def test_end_when_the_server_stops(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        async with api.stream("GET", "/api/sync/events") as reply:
            stream = Stream(reply)
            await stream.until("caught_up")
            await server.services.connections.drain(budget_s=1)
            with pytest.raises(EOFError):
                await stream.next()

    async def test_tell_deletes(self, api: httpx.AsyncClient) -> None:
        (note,) = await sync(api, create("op_001", title="x"))
        start = (await changes(api))["cursor"]
        await sync(api, delete("op_002", note["entity_id"], 1))
        async with api.stream("GET", "/api/sync/events", params={"cursor": start}) as reply:
            _, _, data = await Stream(reply).next()
        assert (data["update_data"]["operation_type"], data["update_data"]["data"]) == ("delete", None)

    async def test_need_a_cursor_of_ours(self, api: httpx.AsyncClient) -> None:
        reply = await api.get("/api/sync/events", headers={"Last-Event-ID": "nonsense"})
        failed(reply, 400, "VALIDATION_ERROR")


class TestOpenRequests:
    async def test_count_among_the_users_connections(self, tmp_path: Path) -> None:
        async with running_server(tmp_path, max_connections_per_user=1) as server, rest_client(server) as api:
            start = (await changes(api))["cursor"]
            async with api.stream("GET", "/api/sync/events") as reply:
                events_read = Stream(reply)
                await events_read.until("caught_up")
                poll = await api.get("/api/sync/changes", params={"cursor": start, "wait": 1})
                second = await api.get("/api/sync/events")
                failed(poll, 429, "RATE_LIMIT_EXCEEDED")
                failed(second, 429, "RATE_LIMIT_EXCEEDED")
                assert (await changes(api, cursor=start))["changes"] == []
            await eventually(partial(_nobody_is_open, server))
            assert (await changes(api, cursor=start, wait=0.05))["changes"] == []

    async def test_are_refused_when_the_server_is_full(self, tmp_path: Path) -> None:
        async with (
            running_server(tmp_path, max_connections=1) as server,
            rest_client(server, "2") as api,
            server.client(),
        ):
            reply = await api.get("/api/sync/events")
        failed(reply, 503, "SYNC_ERROR")
        assert int(reply.headers["retry-after"]) > 0

    async def test_are_refused_while_the_server_drains(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        server.services.connections.draining.set()
        failed(await api.get("/api/sync/changes", params={"wait": 1}), 503, "SYNC_ERROR")

    async def test_end_at_once_when_the_server_drains(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        start = (await changes(api))["cursor"]
        poll = asyncio.create_task(changes(api, cursor=start, wait=25))
        await waiting(server)
        server.services.connections.draining.set()
        async with asyncio.timeout(0.3):
            assert (await poll)["changes"] == []


async def _nobody_is_open(server: RunningServer) -> bool | None:
    await asyncio.sleep(0)
    return True if len(server.services.connections) == 0 else None

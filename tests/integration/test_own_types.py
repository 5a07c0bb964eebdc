"""A user's own entity types, from `examples/tasks.py`, over the running server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.harness import Message, RunningServer, create, delete, running_server


@pytest_asyncio.fixture
async def tasks(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path, entity_types="examples.tasks") as server:
        yield server


def change(operation_id: str, entity_id: int, **changes: object) -> Message:
    return {
        "operation_id": operation_id, "operation_type": "update", "entity_type": "task", "entity_id": entity_id,
        "before_version": 1, "changes": changes,
    }  # fmt: skip


class TestMergePolicies:
    async def test_bring_both_sides_together(self, tasks: RunningServer) -> None:
        async with tasks.client(client_id="a") as a, tasks.client(client_id="b") as b:
            made = await a.do(create("1", "task", title="t", labels=["x"], steps=["one", "two"], seconds_spent=10))
            ours = {"labels": ["x", "y"], "steps": ["zero", "one", "two"], "seconds_spent": 15, "done_until_step": 1}
            theirs = {"labels": ["z"], "steps": ["one", "two", "three"], "seconds_spent": 30, "done_until_step": 2}
            await a.do(change("2", made["entity_id"], **ours))
            result = await b.do(change("3", made["entity_id"], **theirs))
        assert result["verdict"] == "merged"
        assert result["data"] == {
            "id": made["entity_id"],
            "title": "t",
            "labels": ["y", "z"],
            "steps": ["zero", "one", "two", "three"],
            "seconds_spent": 35,
            "done_until_step": 2,
        }

    async def test_leave_what_cannot_merge_to_the_strategy_of_the_type(self, tasks: RunningServer) -> None:
        async with tasks.client(client_id="a") as a, tasks.client(client_id="b") as b:
            made = await a.do(create("1", "task", title="t"))
            await a.do(change("2", made["entity_id"], title="ours"))
            result = await b.do(change("3", made["entity_id"], title="theirs"))
        assert (result["success"], result["verdict"], result["rule"]) == (False, "conflict", "manual")


class TestConstraints:
    async def test_park_a_slug_that_is_taken(self, tasks: RunningServer) -> None:
        async with tasks.client() as client:
            await client.do(create("1", "project", slug="home"))
            response = await client.sync(create("2", "project", slug="home"))
        assert response["status"] == "conflict"
        assert [conflict["conflict_type"] for conflict in response["conflicts"]] == ["unique"]

    async def test_park_the_delete_of_a_project_that_has_tasks(self, tasks: RunningServer) -> None:
        async with tasks.client() as client:
            project = await client.do(create("1", "project", slug="home"))
            await client.do(create("2", "task", title="t", project_id=project["entity_id"]))
            result = await client.do(delete("3", project["entity_id"], 1, "project"))
        assert result["verdict"] == "conflict"

"""What a reply may hold, and what stays of an operation that could not be read."""

import pytest

from sync_server.handlers import perform
from tests.harness import RunningServer, create, update


class TestAMalformedOperation:
    async def test_has_a_verdict_that_stays(self, server: RunningServer) -> None:
        broken = {"operation_id": "m1", "operation_type": "update", "entity_type": "note", "entity_id": 1}
        async with server.client() as client:
            first = await client.do(broken)
            again = await client.do(broken)
            other = await client.do(create("m1", title="with the id of the broken one"))
            async with server.http("1") as http:
                kept = (await http.get("/api/sync/operations/m1")).json()["data"]
        assert (first["verdict"], first["details"]["field"]) == ("rejected", "changes")
        assert again == {**first, "duplicate": True}
        assert (other["verdict"], other["details"]["field"]) == ("rejected", "operation_id")
        assert kept["error"] == first["error"]

    async def test_without_an_id_is_answered_and_forgotten(self, server: RunningServer) -> None:
        async with server.client() as client:
            results = await client.sync({"operation_type": "create"}, "no object", {"operation_id": ""})
        assert [result["verdict"] for result in results["operation_results"]] == ["rejected"] * 3
        assert results["status"] == "failed"


class TestAReply:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(perform, "REPLY_CHARACTERS", 1_000)
        monkeypatch.setattr(perform, "PAGE_READS", 1)

    async def test_leaves_out_the_data_that_it_has_no_room_for(self, server: RunningServer) -> None:
        async with server.client() as client:
            note = await client.do(create("1", content="x" * 900))
            changes = [update(f"u{n}", note["entity_id"], None, is_pinned=bool(n % 2)) for n in range(4)]
            results = (await client.sync(*changes))["operation_results"]
        assert [result["new_version"] for result in results] == [2, 3, 4, 5]
        assert ["data" in result for result in results] == [True, True, False, False]

    async def test_refuses_reads_that_it_has_no_room_for(self, server: RunningServer) -> None:
        async with server.client() as client:
            note = await client.do(create("1", content="x" * 900))
            read = {"operation_type": "read", "entity_type": "note", "entity_id": note["entity_id"]}
            results = (await client.sync(*({**read, "operation_id": f"r{n}"} for n in range(3))))["operation_results"]
        assert [result["success"] for result in results] == [True, True, False]
        assert results[2]["error_code"] == "RATE_LIMIT_EXCEEDED"

    async def test_reads_few_pages(self, server: RunningServer) -> None:
        page = {"operation_type": "read", "entity_type": "note"}
        async with server.client() as client:
            results = (await client.sync(*({**page, "operation_id": f"p{n}"} for n in range(2))))["operation_results"]
        assert [result["success"] for result in results] == [True, False]

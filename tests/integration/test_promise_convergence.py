"""P9: every door says what a replica must have, and where it differs it learns which rows, and no others."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import pytest
import pytest_asyncio

from sync_server.feed import Viewer
from sync_server.fingerprints import bucket_checksums, bucket_of, checksum_of, format_checksum
from sync_server.handlers import comparisons
from sync_server.orders import Committed
from sync_server.stores.writer import Writer
from sync_server.types import ClientId, Millis, SpaceId, UserId
from tests.harness import Client, RunningServer, create, delete, running_server, update
from tests.integration.rest_client import done, failed, rest_client
from tests.integration.test_promise_delivery import TEAM, in_team
from tests.integration.test_rest_feeds import Stream

Json = dict[str, Any]
Row = tuple[str, str, int]


def rows_of(client: Client, space_id: str) -> list[Row]:
    """What the client's replica has of the space."""
    rows = client.replica.rows.items()
    return [(kind, str(one), version) for (kind, one), (s, version, data) in rows if data is not None and s == space_id]


def receipt_of(rows: list[Row], space_id: str) -> Json:
    return {"space_id": space_id, "checksum": format_checksum(checksum_of(rows)), "count": len(rows)}


def without_seq(receipts: list[Json]) -> list[Json]:
    return [{name: value for name, value in one.items() if name != "seq"} for one in receipts]


@pytest_asyncio.fixture
async def api(server: RunningServer) -> AsyncIterator[httpx.AsyncClient]:
    async with rest_client(server) as api:
        yield api


@pytest_asyncio.fixture
async def notes(server: RunningServer) -> list[Row]:
    """Thirty notes in the user's own space, some changed and one deleted: the rows that are there."""
    async with server.client("1", "writer") as writer:
        await writer.sync(*(create(f"c{number}", entity_id=f"n{number}", title="x") for number in range(31)))
        await writer.sync(*(update(f"u{number}", f"n{number}", 1, title="y") for number in range(0, 30, 3)))
        await writer.sync(delete("d", "n30", 1))
    return [("note", f"n{number}", 1 + (number % 3 == 0)) for number in range(30)]


class TestCaughtUp:
    async def test_says_what_whoever_caught_up_has(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="editor", _2="owner")
        async with server.client("2", "writer") as writer:
            await writer.sync(*(in_team(create(f"op_{number}", title="x")) for number in range(3)))
            async with server.client("1", "phone", subscriptions={"incremental": False}) as phone:
                told = await phone.next("caught_up")
                await writer.do(in_team(create("op_3", title="late")))
                await phone.next("server_update")
                await phone.send(type="subscribe", message_id="s", cursor=phone.replica.cursor)
                again = await phone.next("caught_up")
        assert without_seq(told["receipts"]) == [receipt_of(rows_of(phone, TEAM)[:3], TEAM), receipt_of([], "u-1")]
        assert without_seq(again["receipts"]) == [receipt_of(rows_of(phone, TEAM), TEAM), receipt_of([], "u-1")]
        assert again["receipts"][0]["seq"] > told["receipts"][0]["seq"]

    async def test_says_nothing_of_spaces_that_were_lost_or_are_not_followed(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="editor", _2="owner")
        wanted = {"incremental": False, "spaces": ["u-1"]}
        async with server.client("1", "phone", subscriptions=wanted) as phone:
            one = await phone.next("caught_up")
            await server.share(TEAM, _1=None)
            await phone.send(type="subscribe", message_id="s", incremental=False)
            other = await phone.next("caught_up")
        for told in (one, other):
            assert [receipt["space_id"] for receipt in told["receipts"]] == ["u-1"]

    async def test_says_nothing_of_a_space_that_was_granted_after_its_cursor(self, server: RunningServer) -> None:
        async with rest_client(server):
            feed, viewer = server.services.feed, Viewer(UserId("1"), ClientId(""))
            before = feed.end
            await server.share(TEAM, _1="editor")
            await feed.prepare_receipts(viewer)
            for cursor, expected in ((before, ["u-1"]), (feed.end, [TEAM, "u-1"])):
                assert [one.space_id for one in feed.receipts(viewer, cursor) or ()] == expected

    async def test_has_no_receipts_where_types_are_left_out(self, server: RunningServer) -> None:
        wanted = {"incremental": False, "entity_types": ["folder"]}
        async with server.client("1", "phone", subscriptions=wanted) as phone:
            assert "receipts" not in await phone.next("caught_up")

    async def test_knows_the_spaces_of_a_server_that_was_started_again(self, tmp_path: Any) -> None:
        async with running_server(tmp_path) as server, server.client("1") as writer:
            await writer.do(create("op_1", title="x"))
        async with running_server(tmp_path) as server:
            async with server.client("1", "phone", subscriptions={"incremental": False}) as phone:
                told = await phone.next("caught_up")
            assert without_seq(told["receipts"]) == [receipt_of(rows_of(phone, "u-1"), "u-1")]

    async def test_says_it_over_http_too(self, api: httpx.AsyncClient, notes: list[Row]) -> None:
        async with api.stream("GET", "/api/sync/events") as reply:
            *_, (_, _, event) = await Stream(reply).until("caught_up")
        page = done(await api.get("/api/sync/changes", params={"limit": 20}))["data"]
        last = done(await api.get("/api/sync/changes", params={"cursor": page["cursor"], "limit": 20}))["data"]
        narrowed = done(await api.get("/api/sync/changes", params={"entity_types": "note"}))["data"]
        assert without_seq(event["receipts"]) == [receipt_of(notes, "u-1")]
        assert last["receipts"] == event["receipts"]
        assert page["has_more"]
        assert "receipts" not in page
        assert "receipts" not in narrowed


class TestAnAcknowledgement:
    async def test_has_receipts_of_the_spaces_that_it_changed(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="editor")
        async with server.client("1") as client:
            both = await client.sync(in_team(create("op_1", entity_id="a")), create("op_2", entity_id="b"))
            again = await client.sync(in_team(create("op_1", entity_id="a")))
            one = await client.sync(delete("op_3", "b", 1))
        (team, own) = both["new_client_state"]["receipts"]
        assert without_seq([team, own]) == [receipt_of([("note", "a", 1)], TEAM), receipt_of([("note", "b", 1)], "u-1")]
        assert {team["seq"], own["seq"]} == {result["seq"] for result in both["operation_results"]}
        assert "receipts" not in again["new_client_state"], "a resend changes nothing"
        assert without_seq(one["new_client_state"]["receipts"]) == [receipt_of([], "u-1")]

    async def test_has_none_of_a_space_that_was_lost_meanwhile(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="editor")
        async with server.client("1") as client:
            await client.do(in_team(create("op_1")))
            feed = server.services.feed
            assert len(feed.newest_receipts(UserId("1"), [SpaceId(TEAM)])) == 1
            await server.share(TEAM, _1=None)
            await feed.memberships.of(UserId("1"))
            assert feed.newest_receipts(UserId("1"), [SpaceId(TEAM)]) == []


class TestTheBuckets:
    async def test_of_a_replica_that_agrees_do_not_differ(self, api: httpx.AsyncClient, notes: list[Row]) -> None:
        answer = await ask(api, notes)
        assert answer["differing"] == []
        assert (answer["count"], answer["checksum"]) == (30, format_checksum(checksum_of(notes)))
        stored = done(await api.get("/api/sync/spaces/u-1/checksum"))["data"]
        assert stored == {name: answer[name] for name in stored}

    async def test_that_differ_are_named(self, api: httpx.AsyncClient, notes: list[Row]) -> None:
        kept = [*notes[2:], ("note", "n0", 9), ("note", "phantom", 1)]
        answer = await ask(api, kept)
        assert answer["differing"] == sorted({bucket_of("note", one) for one in ("n0", "n1", "phantom")})

    async def test_settle_it_where_the_stored_checksum_is_wrong_and_put_that_right(
        self, server: RunningServer, api: httpx.AsyncClient, notes: list[Row], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def spoil(writer: Writer, _now: Millis) -> tuple[None, Committed]:
            told = writer.shift_receipts([(SpaceId("u-1"), 1, 2, writer.head().head_seq)])
            server.services.feed._receipts.forget(SpaceId("u-1"))
            server.services.feed._receipts.take(told)
            return None, Committed()

        await server.services.committer.perform(spoil)
        answer = await ask(api, notes)
        assert (answer["differing"], answer["checksum"]) == ([], format_checksum(checksum_of(notes)))
        assert "checksum_differs" in "".join(capsys.readouterr())
        async with server.client("1", "phone", subscriptions={"incremental": False}) as phone:
            told = await phone.next("caught_up")
        assert without_seq(told["receipts"]) == [receipt_of(notes, "u-1")]
        assert (await ask(api, notes[1:]))["count"] == len(notes)
        assert "checksum_differs" not in "".join(capsys.readouterr())


class TestAComparison:
    async def test_counts_as_more_requests_in_a_large_space(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(comparisons, "ROWS_PER_UNIT", 1)
        async with running_server(tmp_path, requests_per_minute=40) as server:
            async with server.client("1", "writer") as writer:
                await writer.sync(*(create(f"c{number}", title="x") for number in range(30)))
            async with rest_client(server) as api:
                await ask(api, [])
                for _ in range(2):
                    refused = await api.post("/api/sync/verify", json={"space_id": "u-1", "rows": {"0": []}})
        assert failed(refused, 429, "RATE_LIMIT_EXCEEDED")["error"]

    async def test_can_be_paid_in_a_space_of_any_size(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(comparisons, "ROWS_PER_UNIT", 1)
        async with running_server(tmp_path, requests_per_minute=10) as server:
            async with server.client("1", "writer") as writer:
                await writer.sync(*(create(f"c{number}", title="x") for number in range(30)))
            async with rest_client(server) as api:
                assert len((await ask(api, []))["differing"]) > 0


class TestTheRows:
    async def test_that_differ_are_told_and_no_others(self, api: httpx.AsyncClient, notes: list[Row]) -> None:
        kept = [*notes[2:], ("note", "n0", 9), ("note", "phantom", 1), ("note", "n30", 1)]
        named = by_bucket(kept, (await ask(api, kept))["differing"])
        answer = done(await api.post("/api/sync/verify", json={"space_id": "u-1", "rows": named}))["data"]
        assert [(one["entity_id"], one["version"]) for one in answer["updates"]] == [("n0", 2), ("n1", 1)]
        assert answer["updates"][0]["data"] == {"id": "n0", "title": "y"}
        assert answer["gone"] == [["note", "n30"], ["note", "phantom"]]
        assert not answer["has_more"]

    async def test_come_in_pages_until_there_are_no_more(
        self, api: httpx.AsyncClient, notes: list[Row], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(comparisons, "PAGE", 12)
        kept: list[Row] = []
        sizes, has_more = [], True
        while has_more:
            named = by_bucket(kept, sorted({bucket_of(kind, one) for kind, one, _ in notes}))
            answer = done(await api.post("/api/sync/verify", json={"space_id": "u-1", "rows": named}))["data"]
            kept += [(one["entity_type"], one["entity_id"], one["version"]) for one in answer["updates"]]
            sizes.append(len(answer["updates"]))
            has_more = answer["has_more"]
        assert (sizes, sorted(kept)) == ([12, 12, 6], sorted(notes))

    async def test_of_another_space_are_not_told(self, server: RunningServer, api: httpx.AsyncClient) -> None:
        await server.share(TEAM, _2="owner")
        async with server.client("2", "writer") as writer:
            await writer.do(in_team(create("op_1", entity_id="secret", title="x")))
        (number,) = by_bucket([("note", "secret", 1)], [bucket_of("note", "secret")])
        body = {"space_id": "u-1", "rows": {number: [["note", "secret", 1]]}}
        answer = done(await api.post("/api/sync/verify", json=body))["data"]
        assert (answer["updates"], answer["gone"]) == ([], [["note", "secret"]])
        failed(await api.post("/api/sync/verify", json={**body, "space_id": TEAM}), 404, "NOT_FOUND")


class TestARequest:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "buckets"),
            ({"buckets": ["0" * 16] * 256, "rows": {"0": []}}, "buckets"),
            ({"buckets": ["0" * 16] * 255}, "buckets"),
            ({"buckets": ["0" * 15 + "G"] * 256}, "buckets.0"),
            ({"rows": {}}, "rows"),
            ({"rows": {"256": []}}, "rows.256"),
            ({"rows": {"-1": []}}, "rows.-1"),
            ({"rows": {"13": [["note", 124]]}}, "rows.13.0.2"),
            ({"rows": {"13": [["note", 124, "1"]]}}, "rows.13.0.2"),
            ({"rows": {"13": [["note", 124, 1, 1]]}}, "rows.13.0"),
            ({"rows": {"12": [["note", 124, 1]]}}, "rows.12.0"),
            ({"rows": {"13": [["note", 124, 1]] * 5_001}}, "rows"),
        ],
        ids=str,
    )
    async def test_that_is_wrong_is_refused_by_the_name_of_its_field(
        self, api: httpx.AsyncClient, body: Json, field: str
    ) -> None:
        problem = failed(await api.post("/api/sync/verify", json={"space_id": "u-1", **body}), 400, "VALIDATION_ERROR")
        assert problem["details"]["field"].startswith(field)


async def ask(api: httpx.AsyncClient, rows: list[Row]) -> Json:
    """The answer to the first step."""
    buckets = [format_checksum(one) for one in bucket_checksums(rows)]
    answer: Json = done(await api.post("/api/sync/verify", json={"space_id": "u-1", "buckets": buckets}))["data"]
    return answer


def by_bucket(rows: list[Row], buckets: list[int]) -> dict[str, list[Row]]:
    return {str(number): [row for row in rows if bucket_of(row[0], row[1]) == number] for number in buckets}

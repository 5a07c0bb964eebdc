"""Spaces, roles, single entities and conflicts."""

from typing import Any

import httpx2 as httpx
import pytest

from sync_server.fingerprints import fingerprint
from sync_server.handlers import spaces
from tests.harness import RunningServer, create, update
from tests.integration.rest_client import done, failed, rest_client

Json = dict[str, Any]


async def sync(api: httpx.AsyncClient, *operations: Json, client_id: str = "writer") -> list[Json]:
    body = {"client_id": client_id, "operations": list(operations)}
    results: list[Json] = done(await api.post("/api/sync/sync", json=body))["data"]["operation_results"]
    return results


async def found(api: httpx.AsyncClient, **members: str) -> str:
    """A new space of the client's user, with these members (`_3="editor"`)."""
    space_id: str = done(await api.post("/api/sync/spaces", json={"name": "Family"}))["data"]["space_id"]
    for name, role in members.items():
        done(await api.put(f"/api/sync/spaces/{space_id}/members/{name.strip('_')}", json={"role": role}))
    return space_id


class TestASpace:
    async def test_is_made_by_its_owner(self, server: RunningServer) -> None:
        async with rest_client(server) as api:
            reply = await api.post("/api/sync/spaces", json={"name": "Family"})
            listed = done(await api.get("/api/sync/spaces"))["data"]["spaces"]
        space = done(reply)["data"]
        assert reply.status_code == 201
        assert (space["name"], space["role"], space["is_personal"], space["owner"]) == ("Family", "owner", False, 1)
        assert [(one["space_id"], one["is_personal"]) for one in listed] == [("u-1", True), (space["space_id"], False)]

    async def test_names_its_members_to_them(self, server: RunningServer) -> None:
        async with rest_client(server) as owner, rest_client(server, "4") as viewer:
            space_id = await found(owner, _3="editor", _4="viewer")
            seen = done(await viewer.get(f"/api/sync/spaces/{space_id}"))["data"]
        assert seen["role"] == "viewer"
        assert seen["members"] == [
            {"user_id": 1, "role": "owner"}, {"user_id": 3, "role": "editor"}, {"user_id": 4, "role": "viewer"},
        ]  # fmt: skip

    async def test_keeps_an_owner(self, server: RunningServer) -> None:
        async with rest_client(server) as owner:
            space_id = await found(owner, _3="editor")
            mine = f"/api/sync/spaces/{space_id}/members/1"
            failed(await owner.delete(mine), 409, "CONFLICT")
            failed(await owner.put(mine, json={"role": "viewer"}), 409, "CONFLICT")
            done(await owner.put(f"/api/sync/spaces/{space_id}/members/3", json={"role": "owner"}))
            done(await owner.delete(mine))
            failed(await owner.get(f"/api/sync/spaces/{space_id}"), 404, "NOT_FOUND")

    async def test_that_is_personal_may_be_shared_but_not_taken(self, server: RunningServer) -> None:
        async with rest_client(server) as owner, rest_client(server, "2") as other:
            done(await owner.put("/api/sync/spaces/u-1/members/2", json={"role": "owner"}))
            failed(await other.delete("/api/sync/spaces/u-1/members/1"), 409, "CONFLICT")
            failed(await other.put("/api/sync/spaces/u-1/members/1", json={"role": "editor"}), 409, "CONFLICT")
            done(await other.delete("/api/sync/spaces/u-1/members/2"))

    async def test_waits_for_a_user_who_never_connected(self, server: RunningServer) -> None:
        async with rest_client(server) as owner:
            space_id = await found(owner, _newcomer="editor")
        async with rest_client(server, "newcomer") as newcomer:
            spaces = done(await newcomer.get("/api/sync/spaces"))["data"]["spaces"]
        assert [one["space_id"] for one in spaces] == ["u-newcomer", space_id]

    async def test_grants_the_same_role_twice_without_a_change(self, server: RunningServer) -> None:
        async with rest_client(server) as owner:
            space_id = await found(owner, _3="editor")
            before = server.services.feed.head.head_seq
            done(await owner.put(f"/api/sync/spaces/{space_id}/members/3", json={"role": "editor"}))
        assert server.services.feed.head.head_seq == before


ROUTES = (
    ("GET", "/spaces/{space}", None, (200, 200, 200, 404)),
    ("GET", "/spaces/{space}/checksum", None, (200, 200, 200, 404)),
    ("POST", "/verify", {"space_id": "{space}", "rows": {"0": []}}, (200, 200, 200, 404)),
    ("GET", "/entities/note/{note}", None, (200, 200, 200, 404)),
    ("GET", "/entities/note/{note}/history", None, (200, 200, 200, 404)),
    ("GET", "/changes?space_ids={space}", None, (200, 200, 200, 404)),
    ("GET", "/conflicts?space_ids={space}", None, (200, 200, 200, 404)),
    ("GET", "/conflicts/{conflict}", None, (200, 200, 200, 404)),
    ("POST", "/sync-data", {"client_id": "c", "space_ids": ["{space}"]}, (200, 200, 200, 404)),
    ("POST", "/data-diff", {"entity_type": "note", "entity_id": "{note}", "client_version": 1}, (200, 200, 200, 404)),
    (
        "POST",
        "/resolve-conflict",
        {"conflict_id": "{conflict}", "resolution": {"conflict_id": "{conflict}", "strategy": "server_wins"}},
        (200, 200, 403, 404),
    ),
    ("PUT", "/spaces/{space}/members/9", {"role": "viewer"}, (200, 403, 403, 404)),
    ("DELETE", "/spaces/{space}/members/8", None, (200, 403, 403, 404)),
)


def filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled(member, names) for key, member in value.items()}
    if isinstance(value, list):
        return [filled(member, names) for member in value]
    for name, text in names.items():
        value = value.replace(f"{{{name}}}", text) if isinstance(value, str) else value
    return value


class TestRoles:
    @pytest.mark.parametrize(("method", "path", "body", "statuses"), ROUTES, ids=[f"{m} {p}" for m, p, *_ in ROUTES])
    @pytest.mark.parametrize("who", range(4), ids=["owner", "editor", "viewer", "stranger"])
    async def test_allow_what_they_say(
        self, server: RunningServer, method: str, path: str, body: Json | None, statuses: tuple[int, ...], who: int
    ) -> None:
        async with rest_client(server, "1") as owner, rest_client(server, str(who + 1)) as api:
            space_id = await found(owner, _2="editor", _3="viewer", _8="viewer")
            await sync(owner, {**create("op_1", entity_id="shared", title="base"), "space_id": space_id})
            await sync(owner, update("op_2", "shared", 1, title="theirs"))
            (mine,) = await sync(
                owner, {**update("op_3", "shared", 1, title="mine"), "resolution_strategy": "manual"}, client_id="other"
            )
            names = {"space": space_id, "note": "shared", "conflict": mine["conflict_id"]}
            reply = await api.request(method, "/api/sync" + filled(path, names), json=filled(body, names))
        assert reply.status_code == statuses[who], reply.text
        if not reply.is_success:
            failed(reply, statuses[who], "FORBIDDEN" if statuses[who] == 403 else "NOT_FOUND")

    @pytest.mark.parametrize(
        ("who", "code"), [("1", None), ("2", None), ("3", "FORBIDDEN"), ("4", "NOT_FOUND")],
    )  # fmt: skip
    async def test_decide_who_writes(self, server: RunningServer, who: str, code: str | None) -> None:
        async with rest_client(server, "1") as owner, rest_client(server, who) as api:
            space_id = await found(owner, _2="editor", _3="viewer")
            (result,) = await sync(api, {**create("op_1", title="x"), "space_id": space_id})
        assert (result["success"], result.get("error_code")) == (code is None, code)

    async def test_let_everybody_leave(self, server: RunningServer) -> None:
        async with rest_client(server) as owner, rest_client(server, "3") as viewer:
            space_id = await found(owner, _3="viewer")
            done(await viewer.delete(f"/api/sync/spaces/{space_id}/members/3"))
            failed(await viewer.get(f"/api/sync/spaces/{space_id}"), 404, "NOT_FOUND")


class TestLimits:
    async def test_of_spaces_count_those_one_has_made(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spaces, "MAX_SPACES_PER_USER", 3)
        async with rest_client(server) as api, rest_client(server, "2") as other:
            shared = await found(other, _1="owner")
            made = [await found(api), await found(api)]
            problem = failed(await api.post("/api/sync/spaces", json={"name": "x"}), 409, "CONFLICT")
            assert await found(other) not in {shared, *made}
        assert problem["details"] == {"limit": 3}

    async def test_of_members_leave_room_for_changes_of_role(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spaces, "MAX_MEMBERS", 2)
        async with rest_client(server) as api:
            members = f"/api/sync/spaces/{await found(api, _2='viewer')}/members"
            failed(await api.put(f"{members}/3", json={"role": "viewer"}), 409, "CONFLICT")
            done(await api.put(f"{members}/2", json={"role": "editor"}))
            done(await api.delete(f"{members}/2"))
            done(await api.put(f"{members}/3", json={"role": "viewer"}))


class TestGrantAndRevoke:
    async def test_bring_the_rows_to_a_connection_and_take_them_away(self, server: RunningServer) -> None:
        async with rest_client(server) as owner, server.client("2", "phone") as phone:
            space_id = await found(owner)
            await sync(owner, {**create("op_1", entity_id="shared", title="old"), "space_id": space_id})
            members = f"/api/sync/spaces/{space_id}/members/2"
            done(await owner.put(members, json={"role": "viewer"}))
            reset = await phone.next("reset")
            arrived = await phone.next("server_update")
            done(await owner.delete(members))
            left = await phone.next("server_update")
            await sync(owner, update("op_2", "shared", 1, title="secret"))
            await phone.nothing("server_update")
        assert (reset["space_id"], reset["reason"]) == (space_id, "granted")
        assert arrived["update_data"]["data"] == {"id": "shared", "title": "old"}
        assert (left["update_data"]["operation_type"], left["update_data"]["reason"]) == ("delete", "revoked")


class TestAChecksum:
    async def test_is_what_a_client_computes(self, server: RunningServer) -> None:
        async with rest_client(server) as api:
            notes = await sync(api, *(create(f"op_{index}", title="x") for index in range(3)))
            await sync(api, update("op_u", notes[0]["entity_id"], 1, title="y"))
            gone = {"operation_id": "op_d", "operation_type": "delete", "entity_type": "note"}
            await sync(api, {**gone, "entity_id": notes[2]["entity_id"], "before_version": 1})
            answer = done(await api.get("/api/sync/spaces/u-1/checksum"))["data"]
            rest = done(await api.get("/api/sync/changes", params={"cursor": answer["cursor"]}))["data"]
        expected = fingerprint("note", str(notes[0]["entity_id"]), 2) ^ fingerprint(
            "note", str(notes[1]["entity_id"]), 1
        )
        assert (answer["count"], answer["checksum"]) == (2, f"{expected:016x}")
        assert rest["changes"] == []


class TestAnEntity:
    async def test_is_gone_once_it_is_deleted_but_its_history_is_not(self, server: RunningServer) -> None:
        async with rest_client(server) as api:
            await sync(api, create("op_1", entity_id="a", title="one"), update("op_2", "a", 1, title="two"))
            shown = done(await api.get("/api/sync/entities/note/a"))["data"]
            gone = {"operation_id": "op_3", "operation_type": "delete", "entity_type": "note", "entity_id": "a"}
            await sync(api, {**gone, "before_version": 2})
            failed(await api.get("/api/sync/entities/note/a"), 404, "NOT_FOUND")
            newest = done(await api.get("/api/sync/entities/note/a/history", params={"limit": 2}))["data"]
            params = {"before": newest["next_before"]}
            oldest = done(await api.get("/api/sync/entities/note/a/history", params=params))["data"]
        assert (shown["version"], shown["data"], shown["space_id"]) == (2, {"id": "a", "title": "two"}, "u-1")
        assert [(one["version"], one["operation_type"]) for one in newest["versions"]] == [(3, "delete"), (2, "update")]
        assert newest["versions"][1]["previous"] == {"title": ["one"]}
        assert (newest["has_more"], newest["next_before"]) == (True, 2)
        assert [one["version"] for one in oldest["versions"]] == [1]
        assert oldest["has_more"] is False


class TestConflicts:
    async def test_are_listed_by_their_state(self, server: RunningServer) -> None:
        async with rest_client(server) as api:
            await sync(api, create("op_1", entity_id="a", title="base"), update("op_2", "a", 1, title="theirs"))
            late = {**update("op_3", "a", 1, title="mine"), "resolution_strategy": "manual"}
            (mine,) = await sync(api, late, client_id="other")
            waiting = done(await api.get("/api/sync/conflicts", params={"status": "open"}))["data"]
            settled = done(await api.get("/api/sync/conflicts", params={"status": "resolved"}))["data"]
            one = done(await api.get(f"/api/sync/conflicts/{mine['conflict_id']}"))["data"]
        assert waiting["conflicts"] == [one]
        assert waiting["pagination"] == {"page": 1, "limit": 20, "total_pages": 1}
        assert (settled["conflicts"], settled["total"]) == ([], 0)
        assert one["client_data"]["data"] == {"title": "mine"}


class TestOperations:
    async def test_tell_their_verdict_and_why(self, server: RunningServer) -> None:
        async with rest_client(server) as api:
            await sync(api, update("op/1", 99, 1, title="x"))
            told = done(await api.get("/api/sync/operations/op%2F1"))["data"]
        assert (told["operation_id"], told["verdict"], told["status"]) == ("op/1", "rejected", "failed")
        assert told["error_code"] == "NOT_FOUND"

    async def test_of_several_clients_need_the_client(self, server: RunningServer) -> None:
        async with rest_client(server) as api:
            await sync(api, create("op_1", title="x"), client_id="one")
            await sync(api, create("op_1", title="x"), client_id="two")
            problem = failed(await api.get("/api/sync/operations/op_1"), 400, "VALIDATION_ERROR")
            told = done(await api.get("/api/sync/operations/op_1", params={"client_id": "two"}))["data"]
        assert problem["details"]["client_ids"] == ["one", "two"]
        assert told["client_id"] == "two"

    async def test_of_others_are_not_found(self, server: RunningServer) -> None:
        async with rest_client(server) as api, rest_client(server, "2") as stranger:
            await sync(api, create("op_1", title="x"))
            failed(await stranger.get("/api/sync/operations/op_1"), 404, "NOT_FOUND")

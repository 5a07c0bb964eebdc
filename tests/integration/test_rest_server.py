"""What every request passes through, and the documents and probes of the server."""

import asyncio
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import structlog
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client.parser import text_string_to_metric_families

from rest.requests import PATH_PARAMETERS
from rest.table import ENDPOINTS
from sync_server.errors import CommandError, ErrorCode
from tests.harness import SECRET, TIMEOUT_S, RunningServer, running_server, server_process, token_for
from tests.integration.rest_client import done, eventually, failed, rest_client

PAGE = "https://app.example.org"


class TestErrors:
    @pytest.mark.parametrize("header", [{}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer"}])
    async def test_ask_for_a_token(self, server: RunningServer, header: dict[str, str]) -> None:
        async with server.http(None) as api:
            reply = await api.get("/api/sync/status", headers=header)
        failed(reply, 401, "UNAUTHORIZED")
        assert reply.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("ttl_s", [-60, 3_600])
    async def test_refuse_a_token_that_is_over_or_wrong(self, server: RunningServer, ttl_s: int) -> None:
        token = token_for("1", ttl_s=ttl_s) + ("" if ttl_s < 0 else "x")
        async with httpx.AsyncClient(base_url=server.http_url) as api:
            reply = await api.get("/api/sync/status", headers={"Authorization": f"Bearer {token}"})
        failed(reply, 401, "UNAUTHORIZED")

    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "/nowhere", 404, "NOT_FOUND"),
            ("GET", "/api/sync/nowhere", 404, "NOT_FOUND"),
            ("GET", "/api/sync/sync", 405, "VALIDATION_ERROR"),
            ("DELETE", "/healthz", 405, "VALIDATION_ERROR"),
        ],
    )
    async def test_of_the_router_have_the_contracts_shape(
        self, server: RunningServer, method: str, path: str, status: int, code: str
    ) -> None:
        async with rest_client(server) as api:
            failed(await api.request(method, path), status, code)

    async def test_of_a_method_name_all_that_the_path_takes(self, server: RunningServer) -> None:
        async with rest_client(server) as api:
            reply = await api.patch("/api/sync/spaces")
        assert set(reply.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"a":' * 100 + b"1" + b"}" * 100, b'{"a": NaN}']
    )
    async def test_name_a_body_that_is_no_json_object(self, server: RunningServer, body: bytes) -> None:
        async with rest_client(server) as api:
            problem = failed(await api.post("/api/sync/cancel", content=body), 400, "VALIDATION_ERROR")
        assert problem["details"]["problem"] == "must be one JSON object, nested at most 64 levels"

    @pytest.mark.parametrize(
        ("path", "body", "field"),
        [
            ("/cancel", {}, "sync_id"),
            ("/cancel", {"sync_id": 7}, "sync_id"),
            ("/sync", {"client_id": "c", "operations": {}}, "operations"),
            (
                "/sync",
                {"client_id": "c", "client_state": {"pending_operations": -1}},
                "client_state.pending_operations",
            ),
            ("/sync-data", {"client_id": "c", "since": "yesterday"}, "since"),
            ("/sync-data", {"client_id": "c", "entity_types": ["nothing"]}, "entity_types.0"),
            ("/sync-data", {"client_id": "c", "protocol_version": "9.0.0"}, "protocol_version"),
            ("/clear-history", {"retain_days": "30"}, "retain_days"),
            ("/spaces", {"name": ""}, "name"),
        ],
    )
    async def test_name_the_field(self, server: RunningServer, path: str, body: Any, field: str) -> None:
        async with rest_client(server) as api:
            problem = failed(await api.post(f"/api/sync{path}", json=body), 400, "VALIDATION_ERROR")
        assert problem["details"]["field"] == field

    @pytest.mark.parametrize(
        ("path", "field"),
        [
            ("/queue?limit=many", "limit"),
            ("/queue?page=0", "page"),
            ("/queue?page=1&page=2", "page"),
            ("/queue?queue_type=lost", "queue_type"),
            ("/changes?wait=nan", "wait"),
            ("/changes?space_ids=a,b%20c", "space_ids.1"),
            ("/entities/note/a%20b", "entity_id"),
        ],
    )
    async def test_name_the_parameter(self, server: RunningServer, path: str, field: str) -> None:
        async with rest_client(server) as api:
            problem = failed(await api.get(f"/api/sync{path}"), 400, "VALIDATION_ERROR")
        assert problem["details"]["field"] == field

    @pytest.mark.parametrize("is_declared", [True, False])
    async def test_stop_a_body_that_is_too_large(self, server: RunningServer, *, is_declared: bool) -> None:
        most = server.services.settings.max_message_bytes
        sent = 0

        async def body() -> Any:
            nonlocal sent
            for _ in range(most // 1_024 + 2):
                sent += 1_024
                yield b" " * 1_024

        async with rest_client(server) as api:
            content = b" " * (most + 1) if is_declared else body()
            problem = failed(await api.post("/api/sync/sync", content=content), 413, "VALIDATION_ERROR")
        assert problem["details"] == {"max_bytes": most}

    async def test_give_up_on_a_body_that_does_not_come(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rest.endpoint.BODY_DEADLINE_S", 0.05)
        request = (
            f"POST /api/sync/cancel HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"
            f"Authorization: Bearer {token_for('1')}\r\n\r\n{{"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request.encode())
        async with asyncio.timeout(TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 504")

    async def test_of_the_server_keep_their_text_and_are_logged_once(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def explode(*_: Any) -> None:
            message = "a secret path /etc/passwd"
            raise ValueError(message)

        monkeypatch.setattr(type(server.services.clients), "record", explode)
        async with rest_client(server) as api:
            lines, reply = await logged(api.get("/api/sync/status", params={"client_id": "c"}))
        failed(reply, 500, "SYNC_ERROR")
        assert "secret" not in reply.text
        assert [line["event"] for line in lines if line["log_level"] == "error"] == ["request_failed"]

    async def test_say_when_to_try_again(self, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        async def busy(*_: Any) -> None:
            raise CommandError(ErrorCode.SYNC_ERROR, "The database could not be read; try again.", retry_after_ms=1_500)

        async with rest_client(server) as api:
            monkeypatch.setattr(type(server.services.feed), "read", busy)
            reply = await api.get("/api/sync/spaces")
        failed(reply, 500, "SYNC_ERROR")
        assert reply.headers["retry-after"] == "2"


class TestRateLimits:
    async def test_are_of_each_user(self, tmp_path: Path) -> None:
        limits = {"requests_per_minute": 8, "trusted_proxies": "127.0.0.1"}
        async with running_server(tmp_path, **limits) as server:
            one, other = server.http("1"), server.http("2")
            async with one, other:
                replies = [
                    await one.get("/api/sync/spaces", headers={"X-Forwarded-For": f"10.0.0.{index}"})
                    for index in range(9)
                ]
                spared = await other.get("/api/sync/spaces", headers={"X-Forwarded-For": "10.0.0.1"})
        assert [reply.status_code for reply in replies] == [200] * 8 + [429]
        failed(replies[-1], 429, "RATE_LIMIT_EXCEEDED")
        assert 1 <= int(replies[-1].headers["retry-after"]) <= 60
        done(spared)

    async def test_are_of_each_address_whatever_the_token(self, tmp_path: Path) -> None:
        async with running_server(tmp_path, requests_per_minute=4) as server, server.http(None) as api:
            replies = [await api.get("/api/sync/spaces") for _ in range(5)]
        assert [reply.status_code for reply in replies] == [401] * 4 + [429]

    async def test_leave_the_probes_alone(self, tmp_path: Path) -> None:
        async with running_server(tmp_path, requests_per_minute=1) as server, server.http(None) as api:
            replies = [await api.get("/healthz") for _ in range(5)]
        assert {reply.status_code for reply in replies} == {200}


class TestRequestIds:
    async def test_are_made_and_told(self, server: RunningServer) -> None:
        async with rest_client(server) as api:
            one, two = await api.get("/api/sync/spaces"), await api.get("/nowhere")
        ids = [reply.headers["x-request-id"] for reply in (one, two)]
        assert all(request_id.startswith("req_") for request_id in ids)
        assert len(set(ids)) == 2

    @pytest.mark.parametrize(("given", "is_taken"), [("abc-1.2_3", True), ("a b", False), ("x" * 65, False)])
    async def test_are_taken_where_they_are_harmless(
        self, server: RunningServer, given: str, *, is_taken: bool
    ) -> None:
        async with rest_client(server) as api:
            reply = await api.get("/healthz", headers={"X-Request-Id": given})
        assert (reply.headers["x-request-id"] == given) is is_taken


class TestTheLog:
    async def test_has_one_line_for_a_request_and_no_query(self, server: RunningServer) -> None:
        async with rest_client(server) as api:
            lines, _ = await logged(api.get("/api/sync/queue", params={"token": "hunter2"}))
        (line,) = [line for line in lines if line["event"] == "request"]
        assert (line["method"], line["route"], line["status"]) == ("GET", "/api/sync/queue", 200)
        assert "hunter2" not in str(lines)

    async def test_bears_the_request_id(self, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[dict[str, Any]] = []

        async def look(*_: Any) -> None:
            seen.append(dict(structlog.contextvars.get_contextvars()))

        async with rest_client(server) as api:
            monkeypatch.setattr(type(server.services.clients), "record", look)
            await api.get("/api/sync/status", params={"client_id": "c"}, headers={"X-Request-Id": "abc"})
        assert seen[0] == {"request_id": "abc"}

    async def test_counts_by_route_and_status(self, server: RunningServer) -> None:
        async with rest_client(server) as api:
            before = await requests_counted(api)
            await api.get("/api/sync/entities/note/1")
            await api.get("/api/sync/entities/note/2")
            after = await requests_counted(api)
        key = ("/api/sync/entities/{entity_type}/{entity_id}", "404")
        assert after[key] - before.get(key, 0) == 2


async def logged(asking: Awaitable[httpx.Response]) -> tuple[list[Any], httpx.Response]:
    """What was logged while this was asked, and the reply. The line of a request may follow its reply."""
    with structlog.testing.capture_logs() as lines:
        reply = await asking

        async def told() -> bool | None:
            await asyncio.sleep(0)
            return True if any(line["event"] == "request" for line in lines) else None

        await eventually(told)
    return list(lines), reply


async def requests_counted(api: httpx.AsyncClient) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families((await api.get("/metrics")).text)
    return {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "sync_http_requests_total"
    }


class TestOrigins:
    async def test_that_are_allowed_may_ask_and_read(self, tmp_path: Path) -> None:
        preflight = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "authorization",
        }
        async with running_server(tmp_path, allowed_origins=PAGE) as server, rest_client(server) as api:
            asked = await api.options("/api/sync/spaces/a/members/b", headers=preflight)
            reply = await api.get("/api/sync/spaces", headers={"Origin": PAGE})
            error = await api.get("/api/sync/nowhere", headers={"Origin": PAGE})
        assert asked.status_code == 200
        assert "PUT" in asked.headers["access-control-allow-methods"]
        assert {one.headers["access-control-allow-origin"] for one in (asked, reply, error)} == {PAGE}

    async def test_that_are_not_allowed_may_not_read(self, tmp_path: Path) -> None:
        async with running_server(tmp_path, allowed_origins=PAGE) as server, rest_client(server) as api:
            reply = await api.get("/api/sync/spaces", headers={"Origin": "https://evil.example.org"})
        assert "access-control-allow-origin" not in reply.headers


class TestProbes:
    async def test_need_no_token(self, server: RunningServer) -> None:
        async with server.http(None) as api:
            health, ready = await api.get("/healthz"), await api.get("/readyz")
        assert health.json()["status"] == "ok"
        assert ready.json() == {"status": "ready", "checks": {"database": "ok", "draining": False}}

    async def test_are_not_ready_while_the_server_stops(self, server: RunningServer) -> None:
        await server.services.connections.drain(budget_s=1)
        async with server.http(None) as api:
            health, ready = await api.get("/healthz"), await api.get("/readyz")
        assert (health.status_code, ready.status_code) == (200, 503)
        assert ready.json()["checks"]["draining"] is True

    async def test_are_not_ready_without_the_database(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(*_: Any) -> None:
            raise CommandError(ErrorCode.SYNC_ERROR, "The database could not be read; try again.")

        monkeypatch.setattr(type(server.services.feed), "read", broken)
        async with server.http(None) as api:
            ready = await api.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "unreachable")

    async def test_measure(self, server: RunningServer) -> None:
        async with server.http(None) as api:
            reply = await api.get("/metrics")
        assert reply.headers["content-type"].startswith("text/plain")
        assert "sync_head_seq" in reply.text


class TestAStop:
    async def test_lets_no_stream_and_no_long_poll_hold_it_up(self, tmp_path: Path) -> None:
        headers = {"Authorization": f"Bearer {token_for('1')}"}
        with server_process(tmp_path, SYNC_DRAIN_S="1") as process:
            url = f"http://127.0.0.1:{process.port}"
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S) as api:
                cursor = (await api.get("/api/sync/changes")).json()["data"]["cursor"]
                params = {"cursor": cursor, "wait": "25"}
                poll = asyncio.create_task(api.get("/api/sync/changes", params=params))
                async with api.stream("GET", "/api/sync/events") as events:
                    lines = events.aiter_lines()
                    await anext(lines)
                    stopping = asyncio.create_task(asyncio.to_thread(process.terminate))
                    polled = await poll
                    async with asyncio.timeout(TIMEOUT_S):
                        rest = [line async for line in lines]
                async with asyncio.timeout(TIMEOUT_S):
                    status = await stopping
        assert polled.json()["data"]["changes"] == []
        assert "event: caught_up" in rest
        assert status == 0


class TestDocuments:
    async def test_of_openapi_are_valid(self, server: RunningServer) -> None:
        async with server.http(None) as api:
            document = (await api.get("/openapi.json")).json()
        OpenAPIV31SpecValidator(document).validate()
        refs = set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", str(document)))
        assert refs <= document["components"]["schemas"].keys()

    async def test_have_the_entity_types(self, server: RunningServer) -> None:
        async with server.http(None) as api:
            schemas = (await api.get("/openapi.json")).json()["components"]["schemas"]
        assert "title" in schemas["Entity.note"]["properties"]

    async def test_of_asyncapi_name_the_host_that_was_asked(self, server: RunningServer) -> None:
        async with server.http(None) as api:
            document = (await api.get("/asyncapi.json")).json()
        assert document["servers"]["this"]["host"] == f"127.0.0.1:{server.port}"

    async def test_name_only_routes_that_answer(self, server: RunningServer) -> None:
        async with rest_client(server) as api:
            document = (await api.get("/openapi.json")).json()
            for template, methods in document["paths"].items():
                for method, operation in methods.items():
                    path = re.sub(r"\{\w+\}", "1", template)
                    content = operation.get("requestBody", {}).get("content", {})
                    body = content.get("application/json", {}).get("example")
                    async with api.stream(method.upper(), path, json=body) as reply:
                        allowed = operation["responses"]
                        assert str(reply.status_code) in allowed, (method, template, reply.status_code)
                        if "event-stream" not in reply.headers["content-type"]:
                            await reply.aread()

    async def test_name_every_parameter_of_a_path(self) -> None:
        names = {name for one in ENDPOINTS for name in re.findall(r"\{(\w+)", one.path)}
        assert names == set(PATH_PARAMETERS)

    async def test_to_be_read_stand_alone(self, server: RunningServer) -> None:
        async with server.http(None, follow_redirects=True) as api:
            page = await api.get("/")
        assert page.url.path == "/docs"
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert page.headers["x-content-type-options"] == "nosniff"
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page.text)
        assert "<script" not in page.text
        assert all(one.template.replace("/api/sync", "") in page.text for one in ENDPOINTS)

    async def test_to_be_read_link_only_to_what_is_there(self, server: RunningServer) -> None:
        async with server.http(None) as api:
            text = (await api.get("/docs")).text
        anchors = re.findall(r'id="([^"]+)"', text)
        assert set(re.findall(r'href="#([^"]+)"', text)) <= set(anchors)
        assert len(anchors) == len(set(anchors))

    async def test_tell_no_secret(self, server: RunningServer) -> None:
        async with server.http(None) as api:
            replies = await asyncio.gather(
                *(api.get(path) for path in ("/docs", "/openapi.json", "/metrics", "/readyz"))
            )
        assert not any(SECRET in reply.text for reply in replies)

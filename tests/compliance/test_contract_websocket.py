"""Every example of the T3 contract's WebSocket part, held with the running server.

A reply is held against its example member by member: all that the example shows must be there with a value of the same
kind, and with the very value unless it is one that every run makes anew (`ANEW`).
"""

from typing import Any

from tests.harness import Client, Message, RunningServer, create, open_client, token_for, update

ANEW = {"server_id", "connection_id", "last_sync_id", "server_time", "last_sync_time", "modified_at", "conflict_id"}
"""Members whose values every run makes anew; of the same kind all the same."""

HANDSHAKE: Message = {
    "type": "handshake",
    "message_id": "msg_123",
    "timestamp": "2024-01-10T10:00:00Z",
    "client_id": "client_abc123",
    "client_info": {"device_type": "desktop", "os_name": "Windows", "os_version": "10", "app_version": "1.0.0"},
    "protocol_version": "1.0.0",
}
CLIENT_STATE: Message = {
    "client_id": "client_abc123",
    "last_sync_time": "2024-01-09T10:00:00Z",
    "server_version": "1.0.0",
    "pending_operations": 2,
}
OPERATIONS: list[Message] = [
    {
        "operation_id": "op_001",
        "operation_type": "create",
        "entity_type": "note",
        "data": {"title": "新笔记", "content": "笔记内容"},
        "client_id": "client_abc123",
        "timestamp": "2024-01-10T10:00:00Z",
    },
    {
        "operation_id": "op_002",
        "operation_type": "update",
        "entity_type": "note",
        "entity_id": 123,
        "changes": {"title": "更新后的标题"},
        "before_version": 1,
        "client_id": "client_abc123",
        "timestamp": "2024-01-10T10:00:01Z",
    },
]


def hold(example: Any, actual: Any, path: str = "") -> None:
    """Fails where `actual` lacks a member of the example, or has another kind of value, or another value."""
    assert type(actual) is type(example), f"{path}: {actual!r} is no {type(example).__name__}"
    if isinstance(example, dict):
        for name, value in example.items():
            assert name in actual, f"{path}.{name} is missing"
            if name in ANEW:
                assert type(actual[name]) is type(value), f"{path}.{name}: {actual[name]!r}"
            else:
                hold(value, actual[name], f"{path}.{name}")
    elif isinstance(example, list):
        assert len(actual) == len(example), path
        for index, value in enumerate(example):
            hold(value, actual[index], f"{path}.{index}")
    elif not path.endswith((".timestamp", ".message_id")):
        assert actual == example, path


async def greeted(client: Client) -> None:
    await client.send(**HANDSHAKE)
    await client.next("handshake")
    await client.send(type="auth", message_id="msg_124", timestamp="2024-01-10T10:00:01Z", token=token_for("1"))
    await client.next("auth")


async def filled(server: RunningServer, count: int) -> None:
    """So many notes of user 1, so that the contract's ids are the next ones."""
    async with server.client(client_id="filler") as filler:
        await filler.sync(*(create(f"filler_{number}", title=f"note {number}") for number in range(1, count + 1)))


async def shared(server: RunningServer) -> None:
    """User 2 may write to the space of user 1."""
    role = {"role": "editor"}
    async with server.http("1") as http:
        reply = await http.put("/api/sync/spaces/u-1/members/2", json=role)
    assert reply.status_code == 200, reply.text


class TestHandshake:
    async def test_is_answered_as_in_the_contract(self, server: RunningServer) -> None:
        async with open_client(server.ws_url, "client_abc123") as client:
            await client.send(**HANDSHAKE)
            reply = await client.next()
        hold(
            {
                "type": "handshake",
                "message_id": "msg_123",
                "timestamp": "2024-01-10T10:00:00Z",
                "success": True,
                "server_id": "server-1",
                "protocol_version": "1.0.0",
                "connection_id": "conn_xyz789",
            },
            reply,
        )
        assert reply["message_id"] == "msg_123"


class TestAuth:
    async def test_is_answered_as_in_the_contract(self, server: RunningServer) -> None:
        async with open_client(server.ws_url, "client_abc123") as client:
            await client.send(**HANDSHAKE)
            await client.next("handshake")
            await client.send(type="auth", message_id="msg_124", timestamp="2024-01-10T10:00:01Z", token=token_for("1"))
            first = await client.next("auth")
            await client.sync()
        async with open_client(server.ws_url, "client_abc123") as client:
            await client.send(**HANDSHAKE)
            await client.next("handshake")
            await client.send(type="auth", message_id="msg_124", timestamp="2024-01-10T10:00:01Z", token=token_for("1"))
            second = await client.next("auth")
        assert first["current_state"]["last_sync_time"] is None
        hold(
            {
                "type": "auth",
                "message_id": "msg_124",
                "timestamp": "2024-01-10T10:00:01Z",
                "success": True,
                "user_id": 1,
                "current_state": {
                    "client_id": "client_abc123",
                    "last_sync_time": "2024-01-09T10:00:00Z",
                    "server_version": "1.0.0",
                    "pending_operations": 0,
                },
            },
            second,
        )


class TestSync:
    async def test_is_answered_as_in_the_contract(self, server: RunningServer) -> None:
        await filled(server, 123)
        async with open_client(server.ws_url, "client_abc123") as client:
            await greeted(client)
            start = (await client.sync(client_state={}, batch_size=1000))["new_client_state"]
            await client.send(
                type="sync",
                message_id="msg_125",
                timestamp="2024-01-10T10:00:02Z",
                data={
                    "request_id": "sync_req_001",
                    "client_id": "client_abc123",
                    "client_state": {**CLIENT_STATE, "cursor": start["cursor"]},
                    "protocol_version": "1.0.0",
                    "operations": OPERATIONS,
                },
            )
            reply = await client.next("sync_response")
        hold(
            {
                "type": "sync_response",
                "message_id": "msg_125",
                "timestamp": "2024-01-10T10:00:02Z",
                "request_id": "sync_req_001",
                "data": {
                    "request_id": "sync_req_001",
                    "server_time": "2024-01-10T10:00:02Z",
                    "protocol_version": "1.0.0",
                    "status": "success",
                    "operation_results": [
                        {
                            "operation_id": "op_001",
                            "operation_type": "create",
                            "entity_type": "note",
                            "success": True,
                            "entity_id": 124,
                            "new_version": 1,
                            "data": {"id": 124, "title": "新笔记", "content": "笔记内容"},
                        },
                        {
                            "operation_id": "op_002",
                            "operation_type": "update",
                            "entity_type": "note",
                            "success": True,
                            "entity_id": 123,
                            "new_version": 2,
                            "data": {"id": 123, "title": "更新后的标题"},
                        },
                    ],
                    "server_updates": [],
                    "conflicts": [],
                    "new_client_state": {
                        "client_id": "client_abc123",
                        "last_sync_time": "2024-01-10T10:00:02Z",
                        "server_version": "1.0.0",
                        "pending_operations": 0,
                        "last_sync_id": "sync_abc123",
                    },
                },
            },
            reply,
        )

    async def test_tells_what_another_user_made(self, server: RunningServer) -> None:
        await shared(server)
        async with open_client(server.ws_url, "client_abc123") as client:
            await greeted(client)
            seen = (await client.sync())["new_client_state"]
        await filled(server, 124)
        async with server.client(user="2", client_id="other") as other:
            await other.do({**create("op_1", title="服务器创建的笔记"), "space_id": "u-1"})
        async with open_client(server.ws_url, "client_abc123") as client:
            await greeted(client)
            state = {key: seen[key] for key in ("client_id", "last_sync_time", "server_version", "pending_operations")}
            updates = (await client.sync(client_state=state, batch_size=1000))["server_updates"]
        hold(
            {
                "entity_type": "note",
                "entity_id": 125,
                "operation_type": "create",
                "version": 1,
                "data": {"id": 125, "title": "服务器创建的笔记"},
                "modified_at": "2024-01-10T09:30:00Z",
                "modified_by": 2,
            },
            updates[-1],
        )


class TestServerUpdate:
    async def test_is_pushed_as_in_the_contract(self, server: RunningServer) -> None:
        await shared(server)
        await filled(server, 123)
        async with (
            server.client(user="1", client_id="client_abc123") as client,
            server.client(user="2", client_id="other") as other,
        ):
            await client.do(update("op_002", 123, 1, title="更新后的标题"))
            await other.do(update("op_1", 123, 2, title="其他用户更新的标题"))
            pushed = await client.next("server_update")
        hold(
            {
                "type": "server_update",
                "message_id": "msg_server_001",
                "timestamp": "2024-01-10T10:05:00Z",
                "update_type": "incremental",
                "entity_type": "note",
                "entity_id": 123,
                "update_data": {
                    "operation_type": "update",
                    "version": 3,
                    "data": {"id": 123, "title": "其他用户更新的标题"},
                    "modified_at": "2024-01-10T10:05:00Z",
                    "modified_by": 2,
                },
            },
            pushed,
        )


class TestConflictNotification:
    async def test_is_pushed_as_in_the_contract(self, server: RunningServer) -> None:
        await shared(server)
        await filled(server, 123)
        async with (
            server.client(user="1", client_id="client_abc123") as client,
            server.client(user="2", client_id="other") as other,
        ):
            await client.do(update("op_002", 123, 1, title="t", content="c"))
            await other.do(update("op_1", 123, 2, title="服务器版本", content="服务器内容"))
            await client.do(update("op_003", 123, 2, title="客户端版本", content="客户端内容"))
            notice = await client.next("conflict")
        hold(
            {
                "type": "conflict",
                "message_id": "msg_conflict_001",
                "timestamp": "2024-01-10T10:10:00Z",
                "conflict": {
                    "conflict_id": "conflict_001",
                    "conflict_type": "content",
                    "entity_type": "note",
                    "entity_id": 123,
                    "operation_id": "op_003",
                    "server_data": {
                        "version": 3,
                        "data": {"title": "服务器版本", "content": "服务器内容"},
                        "modified_at": "2024-01-10T10:05:00Z",
                        "modified_by": 2,
                    },
                    "client_data": {
                        "version": 2,
                        "data": {"title": "客户端版本", "content": "客户端内容"},
                        "modified_at": "2024-01-10T10:10:00Z",
                        "operation_type": "update",
                    },
                    "conflict_fields": ["title", "content"],
                    "suggested_strategy": "latest_wins",
                    "timestamp": "2024-01-10T10:10:00Z",
                },
                "requires_manual_resolution": False,
            },
            notice,
        )


class TestHeartbeat:
    async def test_is_answered_as_in_the_contract(self, server: RunningServer) -> None:
        async with server.client() as client:
            await client.send(type="ping", timestamp="2024-01-10T10:00:30Z")
            assert await client.next() == {"type": "pong", "timestamp": "2024-01-10T10:00:30Z"}

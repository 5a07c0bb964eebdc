"""The application under any ASGI server: without our server's transports, frames go through ASGI."""

from pathlib import Path
from typing import Any

import msgpack
from starlette.testclient import TestClient

from sync_server.app import create_app
from tests.harness import SECRET, create, settings_for, token_for


def greet(socket: Any, client_id: str) -> None:
    socket.send_json({"type": "handshake", "client_id": client_id, "token": token_for("1")})
    assert socket.receive_json()["auth"]["success"]


class TestTheApplication:
    def test_syncs_and_pushes_through_asgi(self, tmp_path: Path) -> None:
        app = create_app(settings_for(tmp_path), SECRET)
        with (
            TestClient(app) as client,
            client.websocket_connect("/api/sync/ws") as desktop,
            client.websocket_connect("/api/sync/ws") as phone,
        ):
            greet(desktop, "desktop")
            greet(phone, "phone")
            note = {"client_id": "desktop", "operations": [create("op_1", title="through ASGI")]}
            desktop.send_json({"type": "sync", "data": note})
            assert desktop.receive_json()["data"]["status"] == "success"
            assert phone.receive_json()["update_data"]["data"]["title"] == "through ASGI"

    def test_closes_with_the_code_of_the_machine(self, tmp_path: Path) -> None:
        app = create_app(settings_for(tmp_path), SECRET)
        with TestClient(app) as client, client.websocket_connect("/api/sync/ws") as socket:
            socket.send_json({"type": "sync", "data": {"client_id": "a"}})
            assert [socket.receive_json()["type"] for _ in range(2)] == ["error", "goodbye"]
            assert socket.receive()["code"] == 4502

    def test_speaks_messagepack_in_binary_frames(self, tmp_path: Path) -> None:
        app = create_app(settings_for(tmp_path), SECRET)
        with (
            TestClient(app) as client,
            client.websocket_connect("/api/sync/ws", subprotocols=["sync.v1.msgpack"]) as socket,
        ):
            socket.send_bytes(msgpack.packb({"type": "handshake", "client_id": "a", "token": token_for("1")}))
            assert msgpack.unpackb(socket.receive_bytes())["auth"]["success"]

"""What is remembered of a client."""

from pathlib import Path

import pytest

from sync_server import clients
from sync_server.types import ClientId, Millis, UserId
from tests.harness import running_server

USER, PHONE = UserId("1"), ClientId("phone")


class TestADevice:
    async def test_outlives_a_restart_that_is_followed_by_a_sync(self, tmp_path: Path) -> None:
        async with running_server(tmp_path) as server, server.client():
            await server.services.clients.introduced(USER, PHONE, {"platform": "ios"})
        async with running_server(tmp_path) as server, server.client():
            await server.services.clients.synced(USER, PHONE, cursor="c", at=Millis(1))
            known = await server.services.clients.record(USER, PHONE)
        assert known is not None
        assert known.device == {"platform": "ios"}

    async def test_of_too_many_is_forgotten_with_its_user(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(clients, "MAX_CLIENTS", 1)
        async with running_server(tmp_path) as server, server.client():
            known = server.services.clients
            await known.introduced(USER, PHONE, {"platform": "ios"})
            assert known.ids_of(USER) == [PHONE]
            await known.introduced(UserId("2"), PHONE, {})
            assert known.ids_of(USER) == []

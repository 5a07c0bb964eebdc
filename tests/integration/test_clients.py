"""What is remembered of a client."""

from pathlib import Path
from typing import Any

import pytest

from sync_server import clients
from sync_server.records import ClientRecord, Filter, Followed
from sync_server.types import ClientId, Millis, Seq, UserId
from tests.harness import running_server

USER, PHONE = UserId("1"), ClientId("phone")


class TestADevice:
    async def test_outlives_a_restart_that_is_followed_by_a_sync(self, tmp_path: Path) -> None:
        async with running_server(tmp_path) as server, server.client():
            await server.services.clients.introduced(USER, PHONE, {"platform": "ios"})
        async with running_server(tmp_path) as server, server.client():
            await server.services.clients.synced(USER, PHONE, cursor="c", at=Millis(1), asked=Filter())
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

    async def test_is_not_taken_for_what_it_was_when_it_was_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its connection and its sync look for it at once; forgotten before it is written, it is not lost either."""
        async with running_server(tmp_path) as server, server.client():
            await server.services.clients.introduced(USER, PHONE, {"platform": "ios"})
        async with running_server(tmp_path) as server, server.client():
            known, read = server.services.clients, server.services.feed.read

            async def slow(query: Any) -> Any:
                found = await read(query)
                monkeypatch.setattr(server.services.feed, "read", read)
                await known.synced(USER, PHONE, cursor="c", at=Millis(1), asked=Filter())
                return found

            monkeypatch.setattr(server.services.feed, "read", slow)
            found = [await known.record(USER, PHONE)]
            known._forget(USER, PHONE)
            found.append(await known.record(USER, PHONE))
        assert [one.cursor if one is not None else None for one in found] == ["c", "c"]

    async def test_that_says_more_makes_no_other_forgotten(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(clients, "MAX_CLIENTS", 2)
        async with running_server(tmp_path) as server, server.client():
            known = server.services.clients
            for name in ("phone", "watch"):
                await known.introduced(USER, ClientId(name), {})
            await known.introduced(USER, ClientId("watch"), {"platform": "ios"})
            assert known.ids_of(USER) == [PHONE, "watch"]


class TestWhatAClientFollows:
    async def test_is_written_when_it_changes_and_when_it_ends(self, tmp_path: Path) -> None:
        wide, narrow = Filter(), Filter(entity_types=("note",))
        async with running_server(tmp_path) as server, server.client():
            known = server.services.clients
            await known.introduced(USER, PHONE, {"platform": "ios"})
            written = []
            for followed in (
                Followed(wide, is_resumed=False),
                Followed(wide, is_resumed=True),
                Followed(narrow, is_resumed=True),
                Followed(narrow, True, "e1", Seq(1), Seq(2), Millis(3)),
                Followed(narrow, is_resumed=True),
            ):
                await known.flush()
                known.follows(USER, PHONE, followed)
                written.append((USER, PHONE) in known._dirty)
            record = await known.record(USER, PHONE)
        assert written == [True, False, True, True, False]
        assert record is not None
        assert (record.device, record.followed) == ({"platform": "ios"}, Followed(narrow, is_resumed=True))

    async def test_is_not_remembered_of_who_was_forgotten(self, tmp_path: Path) -> None:
        async with running_server(tmp_path) as server, server.client():
            server.services.clients.follows(USER, PHONE, Followed(Filter(), is_resumed=False))
            assert await server.services.clients.record(USER, PHONE) is None

    async def test_leaves_the_rest_as_it_is(self, tmp_path: Path) -> None:
        async with running_server(tmp_path) as server, server.client():
            known = server.services.clients
            await known.introduced(USER, PHONE, {"platform": "ios"})
            known.follows(USER, PHONE, Followed(Filter(), is_resumed=True))
            await known.synced(USER, PHONE, cursor="c", at=Millis(1), asked=Filter(("s",)))
            await known.introduced(USER, PHONE, {"platform": "android"})
            record = await known.record(USER, PHONE)
        assert record == ClientRecord(
            USER, PHONE, {"platform": "android"}, "c", Millis(1), Filter(("s",)), Followed(Filter(), is_resumed=True)
        )

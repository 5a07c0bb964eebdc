"""Reading, writing and hearing of changes, over every link and in both codecs, against the real server."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sync_client import EntityNotFoundError, InvalidInputError, LinkState, SyncClient

from clients.python.tests.apps import BOUND_S, client_of, titles, until
from tests.harness import RunningServer

WAYS = [("websocket", "json"), ("websocket", "msgpack"), ("events", "json"), ("poll", "json")]


@pytest.mark.parametrize(("link", "codec"), WAYS)
class TestTwoDevices:
    async def test_meet(self, server: RunningServer, tmp_path: Path, link: str, codec: Any) -> None:
        way: dict[str, Any] = {"links": [link], "codec": codec}
        async with (
            client_of(server.http_url, store=tmp_path / "a.db", **way) as desktop,
            client_of(server.http_url, store=tmp_path / "b.db", **way) as phone,
        ):
            folder = await desktop.create("folder", name="Ä folder")
            note = await desktop.create("note", title="Trip", content="Tents\n", folder_id=folder.id)
            await desktop.update(note, content="Tents\nMaps\n")
            gone = await desktop.create("note", title="gone")
            await desktop.delete(gone)
            status = await desktop.settled(timeout_s=BOUND_S)
            assert (status.state, status.link, status.pending) == (LinkState.LIVE, link, 0)
            seen = await until(phone, lambda: phone.query("note", content="Tents\nMaps\n"))
            assert [one.id for one in seen] == [note.id]
            assert seen[0].data == {"title": "Trip", "content": "Tents\nMaps\n", "folder_id": folder.id}
            await phone.update(seen[0], title="Trip in May")
            await until(desktop, lambda: desktop.query("note", title="Trip in May"))
            await phone.settled(timeout_s=BOUND_S)
            assert await desktop.verify()
            assert await phone.verify()
            assert await desktop.quarantine() == await phone.quarantine() == []

    async def test_are_told_of_each_others_changes(
        self, server: RunningServer, tmp_path: Path, link: str, codec: Any
    ) -> None:
        way: dict[str, Any] = {"links": [link], "codec": codec}
        async with client_of(server.http_url, **way) as desktop, client_of(server.http_url, **way) as phone:
            note = await desktop.create("note", title="one")
            changes = phone.changes("note", existing=True)
            async with asyncio.timeout(BOUND_S):
                first = await anext(changes)
                await desktop.update(note, title="two")
                second = await anext(changes)
                await desktop.delete(note)
                third = await anext(changes)
            await changes.aclose()
        assert [(one.kind, one.origin, one.id) for one in (first, second, third)] == [
            ("created", "remote", note.id), ("updated", "remote", note.id), ("deleted", "remote", note.id),
        ]  # fmt: skip
        assert second.entity is not None
        assert second.entity["title"] == "two"
        assert third.entity is None


class TestWriting:
    async def test_is_seen_at_once_and_again_when_it_has_arrived(self, server: RunningServer) -> None:
        async with client_of(server.http_url) as notes:
            changes = notes.changes()
            waiting = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            note = await notes.create("note", title="x")
            assert (note.is_pending, note.version) == (True, 0)
            assert await notes.get("note", note.id) == note
            async with asyncio.timeout(BOUND_S):
                first = await waiting
                told = first if first.entity is not None and not first.entity.is_pending else await anext(changes)
            assert first.kind == "created"
            assert told.entity is not None
            assert (told.entity.version, told.entity.is_pending, told.entity["title"]) == (1, False, "x")
            await changes.aclose()

    async def test_of_what_is_not_there_is_refused(self, server: RunningServer) -> None:
        async with client_of(server.http_url, connect=False) as notes:
            with pytest.raises(EntityNotFoundError, match="no note 7 in the local store"):
                await notes.update(("note", 7), title="x")
            with pytest.raises(EntityNotFoundError):
                await notes.delete(("note", "missing"))
            assert await notes.get("note", "missing") is None

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"id": "x"}, "id is no field"),
            ({"size": float("nan")}, "size must be a finite number"),
            ({"deep": [{"x": float("inf")}]}, "deep must be a finite number"),
            ({"thing": object()}, "must be JSON"),
            ({"text": "\ud800"}, "must be JSON"),
        ],
    )
    async def test_of_what_is_no_json_names_the_field(
        self, server: RunningServer, fields: dict[str, Any], problem: str
    ) -> None:
        async with client_of(server.http_url, connect=False) as notes:
            with pytest.raises(InvalidInputError, match=problem):
                await notes.create("note", fields)
            assert await notes.query("note") == []

    async def test_all_or_nothing(self, server: RunningServer) -> None:
        async with client_of(server.http_url) as notes:
            async with notes.transaction():
                folder = await notes.create("folder", name="F")
                note = await notes.create("note", title="x", folder_id=folder.id)
                await notes.update(note, title="y")
                assert (await notes.query("note", title="y"))[0].data["folder_id"] == folder.id
            await notes.settled(timeout_s=BOUND_S)
            with pytest.raises(KeyError):  # noqa: PT012  the block is what is tested
                async with notes.transaction():
                    await notes.create("note", title="never")
                    raise KeyError
            assert await titles(notes) == ["y"]
            assert (await notes.query("note"))[0].version == 2

    async def test_after_its_transaction_is_over_is_refused(self, server: RunningServer) -> None:
        async with client_of(server.http_url, connect=False) as notes:
            is_over = asyncio.Event()

            async def late() -> None:
                await is_over.wait()
                await notes.create("note", title="late")

            async with notes.transaction():
                task = asyncio.create_task(late())
                await notes.create("note", title="in time")
            is_over.set()
            with pytest.raises(InvalidInputError, match="transaction is over"):
                await task
            assert await titles(notes) == ["in time"]

    async def test_of_nothing_is_refused(self, server: RunningServer) -> None:
        async with client_of(server.http_url, connect=False) as notes:
            note = await notes.create("note", title="x")
            with pytest.raises(InvalidInputError, match="name a field"):
                await notes.update(note)

    async def test_a_transaction_with_a_bad_part_is_refused_whole(self, server: RunningServer) -> None:
        async with client_of(server.http_url) as notes:
            async with notes.transaction():
                await notes.create("note", title="good")
                await notes.create("note", title="x" * 100_000)
            await notes.settled(timeout_s=BOUND_S)
            refused = await notes.quarantine()
            assert [len(str(one.operation.fields)) > 1000 for one in refused] == [False, True]
            assert refused[1].problem.error_code == "VALIDATION_ERROR"
            assert await titles(notes) == []
            await notes.retry(refused[1], title="short")
            await notes.settled(timeout_s=BOUND_S)
            assert await titles(notes) == ["good", "short"]
            assert await notes.quarantine() == []


class TestAnUnusedClient:
    async def test_says_how_to_use_it(self) -> None:
        notes = SyncClient("ws://localhost:1", token="t")
        with pytest.raises(RuntimeError, match="async with"):
            await notes.query("note")

    def test_keeps_the_token_to_itself(self) -> None:
        assert "secret" not in repr(SyncClient("ws://localhost:1", token="secret"))

    @pytest.mark.parametrize("url", ["localhost:3000", "ftp://x", "ws://user:pass@x", "ws://x?token=t"])
    def test_of_a_bad_url_is_refused(self, url: str) -> None:
        with pytest.raises(InvalidInputError, match="url must"):
            SyncClient(url, token="t")

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("codec", "xml"), ("links", []), ("links", ["ws"]), ("links", "poll"), ("spaces", "u-1"), ("spaces", [""]),
            ("entity_types", "note"), ("on_conflict", "mine"),
        ],
    )  # fmt: skip
    def test_of_a_bad_argument_names_it(self, argument: str, value: Any) -> None:
        with pytest.raises(InvalidInputError, match=f"{argument} must"):
            SyncClient("ws://localhost:1", token="t", **{argument: value})

    async def test_that_waits_in_vain_says_why(self) -> None:
        async with SyncClient("ws://127.0.0.1:1", token="t") as notes:
            with pytest.raises(TimeoutError, match=r"offline, 0 pending after 0\.5 s: the server cannot be reached"):
                await notes.settled(timeout_s=0.5)

    def test_without_a_token_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="token must"):
            SyncClient("ws://localhost:1", token="")

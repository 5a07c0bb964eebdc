"""Writing without a network, and meeting again."""

import asyncio
from pathlib import Path

import pytest
from sync_client import LinkState, NoLongerThereError, StoreError, supervisor

from clients.python.tests.apps import BOUND_S, client_of, status_that, titles, until
from clients.python.tests.proxy import Proxy, running_proxy
from tests.harness import RunningServer, create, token_for, update


class TestOfflineWrites:
    async def test_survive_a_restart_and_go_up_in_order(self, server: RunningServer, tmp_path: Path) -> None:
        store = tmp_path / "notes.db"
        async with client_of(server.http_url, store=store, connect=False) as notes:
            folder = await notes.create("folder", name="Trips")
            note = await notes.create("note", title="one", folder_id=folder.id)
            for title in ("two", "three"):
                await notes.update(note, title=title)
            gone = await notes.create("note", title="gone")
            await notes.delete(gone)
            status = await status_that(notes, lambda status: status.pending == 6)
            assert status.state is LinkState.OFFLINE
        async with client_of(server.http_url, store=store) as notes:
            assert await titles(notes) == ["three"]
            await notes.settled(timeout_s=BOUND_S)
            (found,) = await notes.query("note")
            assert (found.version, found.data) == (3, {"title": "three", "folder_id": folder.id})
            assert await notes.quarantine() == await notes.conflicts() == []
        async with client_of(server.http_url) as fresh:
            await fresh.settled(timeout_s=BOUND_S)
            assert await titles(fresh) == ["three"]

    async def test_of_one_entity_are_no_conflict_with_each_other(self, server: RunningServer, tmp_path: Path) -> None:
        """What somebody else changed between them stays, field by field."""
        async with running_proxy(server.port) as proxy, client_of(proxy.url) as notes:
            note = await notes.create("note", title="t0", content="one\ntwo\n")
            await notes.settled(timeout_s=BOUND_S)
            await self.goes_offline(proxy, notes)
            await notes.update(note, title="t1")
            await notes.update(note, title="t2", content="one\ntwo\nthree\n")
            async with server.client("1", "other") as other:
                await other.do(update("op_1", note.id, 1, content="zero\none\ntwo\n"))
            proxy.target = server.port
            notes.reconnect()
            await notes.settled(timeout_s=BOUND_S)
            (found,) = await notes.query("note")
            assert found.data == {"title": "t2", "content": "zero\none\ntwo\nthree\n"}
            assert await notes.conflicts() == []

    @staticmethod
    async def goes_offline(proxy: Proxy, notes: object) -> None:
        proxy.target = None
        proxy.cut()
        await status_that(notes, lambda status: status.state is LinkState.OFFLINE)  # type: ignore[arg-type]

    async def test_are_shown_on_top_of_what_comes(self, server: RunningServer) -> None:
        """Rebase: the title typed here stays in sight while somebody else changes the content."""
        async with client_of(server.http_url) as notes, server.client("1", "other") as other:
            note = await notes.create("note", title="old", content="old")
            await notes.settled(timeout_s=BOUND_S)
            seen: list[tuple[str, str]] = []
            changes = notes.changes("note")

            async def watch() -> None:
                async for change in changes:
                    assert change.entity is not None
                    seen.append((change.entity["title"], change.entity["content"]))

            watching = asyncio.ensure_future(watch())
            await asyncio.gather(
                notes.update(note, title="mine"), other.do(update("op_1", note.id, 1, content="theirs"))
            )
            await until(notes, lambda: notes.query("note", title="mine", content="theirs"))
            await notes.settled(timeout_s=BOUND_S)
            watching.cancel()
            assert not any(title == "old" and content == "theirs" for title, content in seen[1:])
            titles_seen = [title for title, _ in seen]
            assert titles_seen == sorted(titles_seen, key=["old", "mine"].index), "reads went backwards"


class TestTheStatus:
    async def test_tells_the_whole_story(self, server: RunningServer) -> None:
        async with running_proxy(None) as proxy, client_of(proxy.url) as notes:
            offline = await status_that(notes, lambda status: status.problem)
            assert (offline.state, offline.last_synced_at, offline.link) == (LinkState.OFFLINE, None, None)
            await notes.create("note", title="x")
            await status_that(notes, lambda status: status.pending == 1)
            proxy.target = server.port
            notes.reconnect()
            live = await notes.settled(timeout_s=BOUND_S)
            assert live.last_synced_at is not None
            assert live.problem is None
            proxy.target = None
            proxy.cut()
            again = await status_that(notes, lambda status: status.state is LinkState.OFFLINE)
            assert again.last_synced_at is not None
            assert again.since >= live.since

    async def test_of_a_first_sync_has_its_progress(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(supervisor, "STATUS_S", 0)
        async with server.client("1", "filler") as filler:
            for start in range(0, 5_000, 500):
                await filler.sync(*(create(f"op_{n}", title=f"n{n}") for n in range(start, start + 500)))
        async with client_of(server.http_url) as notes:
            seen = [status async for status in _until_live(notes)]
            assert len(await notes.query("note")) == 5_000
        rows = [status.progress.rows for status in seen if status.progress is not None]
        assert rows == sorted(rows)
        assert rows[-1] > 0
        assert all(status.progress is None for status in seen if status.state is not LinkState.CATCHING_UP)


async def _until_live(notes):  # type: ignore[no-untyped-def]
    async with asyncio.timeout(BOUND_S):
        async for status in notes.statuses():
            yield status
            if status.state is LinkState.LIVE:
                return


class TestWhatIsRefused:
    async def test_waits_with_its_reason_and_can_be_mended_or_dropped(self, server: RunningServer) -> None:
        async with client_of(server.http_url) as notes:
            bad = await notes.create("note", title="x" * 10_000)
            good = await notes.create("note", title="good")
            await notes.settled(timeout_s=BOUND_S)
            (refused,) = await notes.quarantine()
            assert (refused.problem.error_code, refused.problem.details["field"]) == ("VALIDATION_ERROR", "data.title")
            assert notes.status.quarantined == 1
            assert [note.id for note in await notes.query("note")] == [good.id]
            await notes.retry(refused, title="shorter")
            await notes.settled(timeout_s=BOUND_S)
            assert {note.id for note in await notes.query("note")} == {bad.id, good.id}
            await notes.create("nonsense", x=1)
            await notes.settled(timeout_s=BOUND_S)
            (other,) = await notes.quarantine()
            await notes.drop(other)
            assert await notes.quarantine() == []
            with pytest.raises(NoLongerThereError):
                await notes.retry(other)

    async def test_is_what_the_server_would_never_take_and_its_neighbours_go_up(self, server: RunningServer) -> None:
        async with client_of(server.http_url) as notes:
            for number in range(5):
                content = "y" * (400_000 if number == 2 else 10)
                await notes.create("note", title=f"n{number}", content=content)
            await notes.settled(timeout_s=BOUND_S)
            (refused,) = await notes.quarantine()
            assert "larger than the server takes" in refused.problem.error
            assert await titles(notes) == ["n0", "n1", "n3", "n4"]


class TestAnotherUsersToken:
    async def test_does_not_open_the_store(self, server: RunningServer, tmp_path: Path) -> None:
        async with client_of(server.http_url, store=tmp_path / "a.db") as notes:
            await notes.settled(timeout_s=BOUND_S)
        for options in ({}, {"connect": False}, {"token": lambda: token_for("2"), "user_id": 2}):
            with pytest.raises(StoreError, match=r"belongs to user 1.*use another store"):
                await client_of(server.http_url, user="2", store=tmp_path / "a.db", **options).__aenter__()

    async def test_that_a_function_gives_is_refused_before_anything_is_taken(
        self, server: RunningServer, tmp_path: Path
    ) -> None:
        async with client_of(server.http_url, store=tmp_path / "a.db") as notes:
            await notes.create("note", title="of 1")
            await notes.settled(timeout_s=BOUND_S)
        async with client_of(server.http_url, token=lambda: token_for("2"), store=tmp_path / "a.db") as notes:
            status = await status_that(notes, lambda status: status.state is LinkState.STOPPED)
            assert status.problem is not None
            assert "belongs to user 1" in status.problem
            with pytest.raises(StoreError, match="belongs to user 1"):
                await notes.create("note", title="typed by 2")
            with pytest.raises(StoreError, match="belongs to user 1"):
                await notes.query("note")
        async with client_of(server.http_url, user="2") as fresh:
            await fresh.settled(timeout_s=BOUND_S)
            assert await fresh.query("note") == []


class TestATokenThatEnds:
    async def test_is_replaced_by_the_functions_next_one(self, server: RunningServer) -> None:
        tokens = iter([token_for("1", ttl_s=-60), "no token at all", token_for("1")])
        asked = 0

        async def give() -> str:
            nonlocal asked
            asked += 1
            return next(tokens)

        async with client_of(server.http_url, token=give) as notes:
            await notes.create("note", title="x")
            await notes.settled(timeout_s=BOUND_S)
        assert asked == 3

    async def test_over_http_too(self, server: RunningServer) -> None:
        tokens = iter([token_for("1", ttl_s=-60), token_for("1")])
        async with client_of(server.http_url, token=lambda: next(tokens), links=["events"]) as notes:
            await notes.create("note", title="x")
            await notes.settled(timeout_s=BOUND_S)

    async def test_a_function_that_fails_is_told_and_tried_again(self, server: RunningServer) -> None:
        is_away = True

        def give() -> str:
            if is_away:
                raise OSError("the login server is away: secret")
            return token_for("1")

        async with client_of(server.http_url, token=give) as notes:
            status = await status_that(notes, lambda status: status.problem)
            assert status.problem == "no token: the function that gives it failed (OSError)"
            is_away = False
            await notes.settled(timeout_s=BOUND_S)

    async def test_one_that_is_wrong_for_good_stops_it(self, server: RunningServer) -> None:
        async with client_of(server.http_url, token="wrong") as notes:
            await notes.create("note", title="kept")
            status = await status_that(notes, lambda status: status.state is LinkState.STOPPED)
            assert (status.pending, bool(status.problem)) == (1, True)

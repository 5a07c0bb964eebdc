"""A store that was damaged finds out by itself and is mended by the row: over every link, in each store."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sync_client import SyncClient, receipts, repairs, views
from sync_client.frames import DifferingRows
from sync_client.links.api import Api
from sync_client.stores.memory import MemoryStore
from sync_client.stores.port import Store, Tables
from sync_client.stores.sqlite import SqliteStore
from sync_client.values import Key

from clients.python.tests.apps import BOUND_S, client_of, until
from tests.harness import RunningServer, create, update
from tests.integration.rest_client import held

LINKS = ["websocket", "events", "poll"]
NOTES = 40
Damage = Callable[[Tables], object]


class Traffic:
    """What the server was asked about, and what it told."""

    def __init__(self) -> None:
        self.questions = 0
        self.answers: list[DifferingRows] = []

    @property
    def told(self) -> list[str]:
        return sorted(one.row.key.entity_id for answer in self.answers for one in answer.updates)

    @property
    def gone(self) -> list[str]:
        return sorted(one.entity_id for answer in self.answers for one in answer.gone)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traffic]:
    """Seen on the way; and comparisons that follow each other at once."""
    traffic = Traffic()
    ask_buckets, ask_rows = Api.differing_buckets, Api.differing_rows

    async def buckets(self: Api, *question: Any) -> Any:
        traffic.questions += 1
        return await ask_buckets(self, *question)

    async def rows(self: Api, *question: Any) -> Any:
        answer = await ask_rows(self, *question)
        if answer is not None:
            traffic.answers.append(answer)
        return answer

    monkeypatch.setattr(Api, "differing_buckets", buckets)
    monkeypatch.setattr(Api, "differing_rows", rows)
    monkeypatch.setattr(receipts, "REST_S", 0.0)
    monkeypatch.setattr(receipts, "COMPARE_S", 0.0)
    monkeypatch.setattr(repairs, "CHECK_AGAIN_S", 0.0)
    return traffic


def key(name: str) -> Key:
    return Key("note", name)


def lose(tables: Tables) -> None:
    tables.delete_rows([key("n1")])


def invent(tables: Tables) -> None:
    (found,) = tables.rows([key("n1")]).values()
    tables.save_rows([found._replace(key=key("phantom"))])


def change_version(by: int) -> Damage:
    def change(tables: Tables) -> None:
        (found,) = tables.rows([key("n1")]).values()
        tables.save_rows([found._replace(version=found.version + by, data='{"id":"n1","title":"wrong"}')])

    return change


def bury(tables: Tables) -> None:
    (found,) = tables.rows([key("n1")]).values()
    tables.save_rows([found._replace(version=9, data=None)])


def much(tables: Tables) -> None:
    keys = [key(f"n{number}") for number in range(0, NOTES, 2)]
    tables.delete_rows(keys[:10])
    tables.save_rows([row._replace(version=row.version + 5) for row in tables.rows(keys).values()])


DAMAGES: dict[str, tuple[Damage, list[str], list[str]]] = {
    "a row is lost": (lose, ["n1"], []),
    "a row is invented": (invent, [], ["phantom"]),
    "a row is too new": (change_version(+3), ["n1"], []),
    "a row is too old": (change_version(-1), ["n1"], []),
    "a row counts as deleted": (bury, ["n1"], []),
    "many rows": (much, sorted(f"n{number}" for number in range(0, NOTES, 2)), []),
}


async def fill(server: RunningServer) -> None:
    """Notes of which each has two versions."""
    async with server.client("1", "writer") as writer:
        await writer.sync(*(create(f"c{n}", entity_id=f"n{n}", title=f"n{n}") for n in range(NOTES)))
        await writer.sync(*(update(f"u{n}", f"n{n}", 1, content="more") for n in range(NOTES)))


async def damaged(server: RunningServer, store: Store, damage: Damage) -> None:
    """A store that has everything, and then not."""
    async with client_of(server.http_url, store=Kept(store)) as notes:
        await notes.settled(timeout_s=BOUND_S)
    await store.run(damage)


class Kept:
    """A store that outlives its client."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def close(self) -> None:
        """It is closed by who made it."""


async def store_of(kind: str, tmp_path: Path) -> Store:
    return MemoryStore() if kind == "memory" else await SqliteStore.open(tmp_path / "a.db")


async def is_whole(notes: SyncClient) -> bool:
    """The store has what the server has: every note, in its second version, and nothing else."""
    rows = await notes._open.run(
        lambda tables: {one.entity_id: version for _, one, version in tables.versions(["u-1"])}
    )
    shown = await notes.query("note", content="more")
    return rows == {f"n{number}": 2 for number in range(NOTES)} and len(shown) == NOTES


class TestADamagedStore:
    @pytest.mark.parametrize("name", DAMAGES)
    @pytest.mark.parametrize("link", LINKS)
    @pytest.mark.parametrize("kind", ["sqlite", "memory"])
    async def test_is_mended_once_it_caught_up(
        self, server: RunningServer, tmp_path: Path, traffic: Traffic, name: str, link: str, kind: str
    ) -> None:
        damage, told, gone = DAMAGES[name]
        await fill(server)
        store = await store_of(kind, tmp_path)
        await damaged(server, store, damage)
        async with client_of(server.http_url, store=Kept(store), links=[link]) as notes:
            await until(notes, lambda: is_whole(notes))
        await store.close()
        assert (traffic.told, traffic.gone) == (told, gone)

    async def test_is_mended_after_the_queue_came_to_rest(self, server: RunningServer, traffic: Traffic) -> None:
        await fill(server)
        async with client_of(server.http_url) as notes:
            await notes.settled(timeout_s=BOUND_S)
            await notes._open.run(lose)
            assert await notes.get("note", "n1") is None
            mine = await notes.create("note", title="mine")
            await until(notes, lambda: notes.get("note", "n1"))
            await notes.settled(timeout_s=BOUND_S)
            assert await notes.get("note", mine.id) is not None
        assert traffic.told == ["n1"]

    async def test_is_mended_below_what_is_pending(self, server: RunningServer, traffic: Traffic) -> None:
        await fill(server)
        async with client_of(server.http_url) as notes:
            await notes.settled(timeout_s=BOUND_S)
            with held(server):
                await notes.update(("note", "n1"), title="mine")
                await notes.update(("note", "n2"), title="mine too")
                await notes._open.run(lose)
                await notes._open.run(lambda tables: tables.delete_rows([key("n3")]))
                assert not await notes.verify()
                found = await notes.get("note", "n1")
                assert found is not None
                assert (found.is_pending, found.data) == (True, {"title": "mine", "content": "more"})
            await notes.settled(timeout_s=BOUND_S)
            assert await notes.verify()
            (stands,) = await notes.query("note", title="mine")
            assert (stands.id, stands.version, stands["content"]) == ("n1", 3, "more")
            assert await notes.quarantine() == []
        assert traffic.told[:2] == ["n1", "n3"]

    async def test_is_told_to_the_application_like_any_change(self, server: RunningServer, traffic: Traffic) -> None:
        await fill(server)
        async with client_of(server.http_url) as notes:
            await notes.settled(timeout_s=BOUND_S)
            await notes._open.run(lose)
            await notes._open.run(invent_other)
            changes = notes.changes("note", existing=True)
            async with asyncio.timeout(BOUND_S):
                shown = [await anext(changes) for _ in range(NOTES)]
                assert not await notes.verify()
                told = [await anext(changes), await anext(changes)]
            await changes.aclose()
        assert "phantom" in {one.id for one in shown}
        assert {(one.kind, one.id, one.origin) for one in told} == {
            ("created", "n1", "remote"), ("deleted", "phantom", "remote"),
        }  # fmt: skip

    async def test_is_not_asked_about_where_all_is_well(self, server: RunningServer, traffic: Traffic) -> None:
        await fill(server)
        compared: list[list[str]] = []
        look = views.differing_spaces

        def seen(tables: Tables, receipts: Any) -> list[str]:
            compared.append(look(tables, receipts))
            return compared[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(views, "differing_spaces", seen)
            async with client_of(server.http_url) as notes:
                await until(notes, lambda: _said(compared, 1))
                await notes.create("note", title="mine")
                await until(notes, lambda: _said(compared, 2))
        assert (compared[:2], traffic.questions) == ([[], []], 0)


def invent_other(tables: Tables) -> None:
    (found,) = tables.rows([key("n2")]).values()
    tables.save_rows([found._replace(key=key("phantom"))])


async def _said(compared: list[Any], count: int) -> bool:
    return len(compared) >= count


class TestMending:
    async def test_goes_on_while_there_is_more(
        self, server: RunningServer, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sync_server.handlers import comparisons

        monkeypatch.setattr(comparisons, "PAGE", 7)
        await fill(server)
        async with client_of(server.http_url) as notes:
            await notes.settled(timeout_s=BOUND_S)
            await notes._open.run(lambda tables: tables.delete_rows([key(f"n{number}") for number in range(20)]))
            assert not await notes.verify()
            assert await is_whole(notes)
        assert [len(answer.updates) for answer in traffic.answers] == [7, 7, 6]

    async def test_that_does_not_help_takes_everything_anew(
        self, server: RunningServer, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await fill(server)
        async with client_of(server.http_url) as notes:
            await notes.settled(timeout_s=BOUND_S)
            monkeypatch.setattr("sync_client.replica.repair", lambda *_, **__: None)
            await notes._open.run(lose)
            assert not await notes.verify()
            await until(notes, lambda: is_whole(notes))
        assert len(traffic.answers) == repairs.REPAIRS

    async def test_of_what_no_request_holds_takes_everything_anew(
        self, server: RunningServer, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(views, "PORTION_ROWS", 0)
        await fill(server)
        async with client_of(server.http_url) as notes:
            await notes.settled(timeout_s=BOUND_S)
            await notes._open.run(invent_other)
            assert not await notes.verify()
            await until(notes, lambda: is_whole(notes))
        assert traffic.answers == []

    async def test_by_a_server_that_names_no_rows_takes_everything_anew(
        self, server: RunningServer, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As servers were before receipts: the route is unknown."""
        from sync_client.links import api

        ask = api.Api.fetch

        async def fetch(self: Api, method: str, path: str, **options: Any) -> Any:
            return await ask(self, method, path.replace("/verify", "/unknown"), **options)

        monkeypatch.setattr(api.Api, "fetch", fetch)
        await fill(server)
        async with client_of(server.http_url) as notes:
            await notes.settled(timeout_s=BOUND_S)
            assert await notes.verify()
            await notes._open.run(lose)
            assert not await notes.verify()
            await until(notes, lambda: is_whole(notes))

    async def test_of_a_file_that_somebody_else_damaged(
        self, server: RunningServer, tmp_path: Path, traffic: Traffic
    ) -> None:
        await fill(server)
        path = tmp_path / "a.db"
        async with client_of(server.http_url, store=path) as notes:
            await notes.settled(timeout_s=BOUND_S)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("DELETE FROM rows WHERE entity_id IN ('n1', 'n7')")
        async with client_of(server.http_url, store=path) as notes:
            await until(notes, lambda: is_whole(notes))
        assert traffic.told == ["n1", "n7"]

"""The store fails under a running client: it says so, loses nothing and goes on when the store is back."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from sync_client import LinkState, StoreError, replica, supervisor
from sync_client.stores.memory import MemoryStore
from sync_client.stores.port import Tables

from clients.python.tests.apps import BOUND_S, client_of, status_that, titles, until
from tests.harness import RunningServer, create

T = TypeVar("T")


class FailingStore(MemoryStore):
    """A store whose disk is full from time to time."""

    error: Exception | None = None

    async def run(self, job: Callable[[Tables], T], *, durable: bool = False, discard: bool = False) -> T:
        if self.error is not None:
            raise self.error
        return await super().run(job, durable=durable, discard=discard)


class TestAStoreThatFails:
    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(supervisor, "AGAIN_S", 0.05)

    async def test_is_told_and_used_again(self, server: RunningServer) -> None:
        store = FailingStore()
        async with client_of(server.http_url, store=store) as notes, server.client("1", "other") as other:
            await notes.create("note", title="before")
            await notes.settled(timeout_s=BOUND_S)
            store.error = StoreError("the disk is full")
            await other.do(create("op_1", title="meanwhile"))
            status = await status_that(notes, lambda status: status.problem)
            assert (status.state, status.problem) == (LinkState.OFFLINE, "the disk is full")
            with pytest.raises(StoreError, match="disk is full"):
                await notes.create("note", title="not answered")
            store.error = None
            await until(notes, lambda: notes.query("note", title="meanwhile"))
            await notes.settled(timeout_s=BOUND_S)
            assert await titles(notes) == ["before", "meanwhile"]
            assert await notes.verify()


class TestAMistakeOfOurs:
    async def test_is_told_and_what_came_is_not_passed_over(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(supervisor, "AGAIN_S", 0.2)
        async with client_of(server.http_url) as notes, server.client("1", "other") as other:
            await notes.settled(timeout_s=BOUND_S)
            with monkeypatch.context() as broken:
                broken.setattr(replica, "take", _fail)
                await other.do(create("op_1", title="meanwhile"))
                status = await status_that(notes, lambda status: status.problem)
            assert status.problem == "syncing failed (KeyError) and is tried again; the log says more"
            assert "syncing failed" in caplog.text
            await until(notes, lambda: notes.query("note", title="meanwhile"))
            assert await notes.verify()


def _fail(*_: object, **__: object) -> None:
    raise KeyError("a mistake")

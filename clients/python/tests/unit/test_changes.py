"""The stream of what an application sees change."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial

import pytest
from sync_client import changes, replica
from sync_client.frames import Update
from sync_client.signals import Signal
from sync_client.stores import memory
from sync_client.stores.memory import MemoryStore
from sync_client.values import Change, Key, Operation, Row

from clients.python.tests.builders import create, delete, key, row, told, tombstone, update

BOUND_S = 2.0


class Notes:
    """A store, and who follows it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.moved = Signal()

    def follow(self, entity_type: str | None = None, *, existing: bool = False) -> AsyncGenerator[Change]:
        return changes.follow(self.store, self.moved, entity_type, existing=existing)

    async def take(self, *updates: Update) -> None:
        await self.store.run(partial(replica.take, updates=updates, cursor=None))
        self.moved.fire()

    async def write(self, operation: Operation) -> None:
        await self.store.run(partial(replica.append, operations=[operation]))
        self.moved.fire()


async def some(stream: AsyncGenerator[Change], count: int) -> list[Change]:
    async with asyncio.timeout(BOUND_S):
        return [await anext(stream) for _ in range(count)]


def seen(found: list[Change]) -> list[tuple[str, object]]:
    return [(one.kind, one.id) for one in found]


@pytest.fixture
def notes() -> Notes:
    return Notes()


async def begun(notes: Notes, entity_type: str | None = None) -> AsyncGenerator[Change]:
    """A stream that has told of one change and stands behind it."""
    stream = notes.follow(entity_type)
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)  # it has taken its position
    await notes.take(Update(row("first")))
    assert (await first).id == "first"
    return stream


class TestAStream:
    async def test_begins_now(self, notes: Notes) -> None:
        await notes.take(told("before"))
        stream = await begun(notes)
        await notes.take(told("a"))
        assert seen(await some(stream, 1)) == [("created", "a")]

    async def test_tells_a_reader_who_waits(self, notes: Notes) -> None:
        stream = await begun(notes)
        waiting = asyncio.ensure_future(some(stream, 1))
        await asyncio.sleep(0)
        await notes.take(Update(row("12", title="x")))
        (one,) = await waiting
        assert (one.kind, one.type, one.id, one.origin) == ("created", "note", 12, "remote")
        assert one.entity is not None
        assert one.entity["title"] == "x"

    async def test_tells_of_its_type_alone(self, notes: Notes) -> None:
        stream = await begun(notes, "note")
        await notes.take(Update(_folder()), told("a"))
        await notes.take(told("b"))
        assert seen(await some(stream, 2)) == [("created", "a"), ("created", "b")]

    async def test_tells_of_every_type_where_none_is_named(self, notes: Notes) -> None:
        stream = await begun(notes)
        await notes.take(Update(_folder()), told("a"))
        assert {one.type for one in await some(stream, 2)} == {"folder", "note"}

    async def test_tells_a_slow_reader_the_newest_once(self, notes: Notes) -> None:
        stream = await begun(notes)
        await notes.take(told("a", 1, title="x"))
        await notes.take(told("b", 1))
        await notes.write(update("o1", title="newest"))
        found = await some(stream, 2)
        assert seen(found) == [("created", "b"), ("created", "a")]
        assert found[1].entity is not None
        assert (found[1].entity["title"], found[1].origin) == ("newest", "local")
        await notes.take(told("c"))
        assert seen(await some(stream, 1)) == [("created", "c")]

    async def test_tells_what_was_there_and_is_gone_as_deleted(self, notes: Notes) -> None:
        stream = await begun(notes)
        await notes.take(told("a", 1))
        await notes.take(Update(tombstone("a", 2)))
        (one,) = await some(stream, 1)
        assert (one.kind, one.entity) == ("deleted", None)

    async def test_tells_what_was_deleted_and_is_there_again_as_it_is(self, notes: Notes) -> None:
        await notes.take(told("a", 1, title="x"))
        stream = await begun(notes)
        await notes.write(delete("o1"))
        await notes.write(create("o2", title="again"))
        (one,) = await some(stream, 1)
        assert one.kind in {"created", "updated"}
        assert one.entity is not None
        assert one.entity["title"] == "again"

    async def test_that_read_of_the_deletion_late_tells_what_is_there_since(self, notes: Notes) -> None:
        """The page ends with the deletion; that it is there again is on the next."""
        await notes.take(told("a", 1, title="x"))
        stream = await begun(notes)
        await notes.write(delete("o0"))
        for n in range(changes.PAGE - 1):
            await notes.take(told(f"n{n}"))
        await notes.write(create("o1", title="again"))
        found = [one for one in await some(stream, changes.PAGE + 1) if one.id == "a"]
        assert [one.kind for one in found] == ["updated", "created"]
        assert all(one.entity is not None and one.entity["title"] == "again" for one in found)


class TestWhatIsThere:
    async def test_comes_first_and_once(self, notes: Notes) -> None:
        await notes.take(told("a", title="x"), told("b"), Update(_folder()))
        await notes.take(told("a", 2, title="y"))
        stream = notes.follow("note", existing=True)
        assert seen(await some(stream, 2)) == [("created", "a"), ("created", "b")]
        await notes.take(told("c"))
        assert seen(await some(stream, 1)) == [("created", "c")]

    async def test_has_no_gap_to_what_comes(self, notes: Notes) -> None:
        await notes.take(told("a"), told("b"))
        stream = notes.follow("note", existing=True)
        first = await some(stream, 1)
        await notes.take(told("c"))
        assert seen(first + await some(stream, 2)) == [("created", "a"), ("created", "b"), ("created", "c")]


class TestAGap:
    async def test_is_told_as_reload_and_then_goes_on(self, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "JOURNAL_TOUCHES", 2)
        stream = await begun(notes, "note")
        for name in "abcd":
            await notes.take(told(name))
        found = await some(stream, 3)
        assert seen(found) == [("reload", ""), ("created", "c"), ("created", "d")]
        assert (found[0].type, found[0].entity) == ("note", None)
        await notes.take(told("e"))
        assert seen(await some(stream, 1)) == [("created", "e")]

    async def test_is_none_where_the_reader_kept_up(self, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "JOURNAL_TOUCHES", 2)
        stream = await begun(notes)
        for name in "abcdef":
            await notes.take(told(name))
            assert seen(await some(stream, 1)) == [("created", name)]

    async def test_before_the_beginning_is_none(self, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "JOURNAL_TOUCHES", 2)
        for name in "abcd":
            await notes.take(told(name))
        stream = notes.follow("note", existing=True)
        assert seen(await some(stream, 4)) == [("created", name) for name in "abcd"]
        await notes.take(told("e"))
        assert seen(await some(stream, 1)) == [("created", "e")]


def _folder() -> Row:
    return row("f")._replace(key=Key("folder", key("f").entity_id))

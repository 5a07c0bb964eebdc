"""A resend is told its first result again, which may long be past."""

import msgspec
import pytest
from sync_client import replica, views
from sync_client.frames import Update
from sync_client.stores.memory import MemoryStore
from sync_client.stores.port import Tables
from sync_client.wire import CODECS, Codec

from clients.python.tests.builders import AT, applied, create, delete, key, reply, row, told, update


def result(codec: Codec, **members: object):  # type: ignore[no-untyped-def]
    """The frame for a reply with one result."""
    given = {
        "operation_id": "o1", "operation_type": "create", "entity_type": "note", "entity_id": "a", "success": True,
        "verdict": "applied", "new_version": 1, "data": {"id": "a", "title": "x"}, **members,
    }  # fmt: skip
    message = {"type": "sync_response", "message_id": "m", "data": {"operation_results": [given]}}
    return codec.decode(codec.encode(message))


@pytest.mark.parametrize("codec", CODECS.values())
class TestADuplicate:
    async def test_says_nothing_of_the_entity_as_it_is(self, codec: Codec) -> None:
        """The reply was lost, somebody deleted the note meanwhile, and a snapshot did not mention it."""
        store = MemoryStore()
        await store.run(lambda tables: replica.append(tables, [create("o1", title="x")]))
        frame = result(codec, duplicate=True)
        await store.run(lambda tables: replica.settle(tables, frame, is_plain=False, at=AT))

        def look(tables: Tables) -> None:
            assert tables.rows([key("a")]) == {}
            (waiting,) = tables.queue(after=0, limit=None)
            assert waiting.acknowledged == 1
            replica.gone(tables, key("a"))
            assert views.entity(tables, key("a")) is None
            assert tables.counts().pending == 0

        await store.run(look)

    async def test_of_a_delete_is_believed(self, codec: Codec) -> None:
        store = MemoryStore()
        await store.run(lambda tables: tables.save_rows([row("a", 1, title="x")]))
        await store.run(lambda tables: replica.append(tables, [delete("o1")]))
        frame = result(codec, operation_type="delete", new_version=2, data=None, duplicate=True)
        await store.run(lambda tables: replica.settle(tables, frame, is_plain=False, at=AT))
        found = await store.run(lambda tables: tables.rows([key("a")])[key("a")])
        assert (found.version, found.data) == (2, None)


class TestAnEchoOfAnOwnCreate:
    async def test_begins_nothing_anew_that_was_deleted_since(self) -> None:
        """Links over HTTP tell a client its own changes, late: a deleted note came back until the feed told its end."""
        store = MemoryStore()
        done = delete("o1", before_version=1)
        deleted = reply(applied(done, 2, None), synced_at="2026-01-02T03:04:06.500Z")
        echo = told("a", 1, title="x")
        later = Update(echo.row._replace(modified_at="2026-03-02T03:04:05Z"), begins=True)

        def step(tables: Tables) -> None:
            tables.save_rows([row("a", 1, title="x")])
            replica.append(tables, [done])
            replica.settle(tables, deleted, is_plain=False, at=AT)
            replica.take(tables, [echo], None)
            assert views.entity(tables, key("a")) is None
            replica.take(tables, [later], None)
            assert views.entity(tables, key("a")) is not None, "after its tombstone was forgotten it may begin anew"

        await store.run(step)


class TestAResultForAnEntityWithoutARow:
    async def test_that_was_made_here_is_of_the_users_own_space(self) -> None:
        """An update on top of a create whose reply was lost: the create waits to be read, the update brings the row."""
        store = MemoryStore()
        made, changed = create("o1", title="x"), update("o2", before_version=0, title="y")
        results = reply(applied(made, 1, None, has_data=False), applied(changed, 2, {"title": "y"}))

        def step(tables: Tables) -> None:
            replica.own(tables, "1")
            replica.append(tables, [made, changed])
            replica.settle(tables, results, is_plain=False, at=AT)
            assert tables.rows([key("a")])[key("a")].space_id == "u-1"
            assert tables.counts().pending == 0

        await store.run(step)

    async def test_keeps_the_space_in_which_it_was_shown(self) -> None:
        """Else no reset of that space would ever sweep it, and no checksum would have it."""
        store = MemoryStore()
        done = msgspec.structs.replace(create("o1", title="x"), operation_type="update", home="team")

        def step(tables: Tables) -> None:
            tables.enqueue([done])
            replica.settle(tables, reply(applied(done, 3, {"title": "x"})), is_plain=False, at=AT)
            assert tables.rows([key("a")])[key("a")].space_id == "team"

        await store.run(step)

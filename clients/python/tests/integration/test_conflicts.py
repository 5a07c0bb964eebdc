"""Conflicts: listed with base, mine and theirs, settled from here, also without a network."""

import pytest
from sync_client import Conflict, LinkState, NoLongerThereError, SyncClient

from clients.python.tests.apps import BOUND_S, client_of, status_that, until
from clients.python.tests.proxy import running_proxy
from tests.harness import RunningServer, update


async def clash(server: RunningServer, notes: SyncClient) -> Conflict:
    """The same title, changed here and elsewhere."""
    await notes.create("note", title="base", content="untouched")
    await notes.settled(timeout_s=BOUND_S)
    (read,) = await notes.query("note")
    async with server.client("1", "other") as other:
        await other.do(update("theirs", read.id, 1, title="theirs"), default_resolution_strategy="client_wins")
        await until(notes, lambda: notes.query("note", title="theirs"))
    await notes.update(read, title="mine", on_conflict="manual")
    (conflict,) = await until(notes, notes.conflicts)
    return conflict


class TestAConflict:
    async def test_shows_both_sides_and_their_base(self, server: RunningServer) -> None:
        async with client_of(server.http_url) as notes:
            conflict = await clash(server, notes)
            assert (conflict.fields, conflict.conflict_type) == (["title"], "content")
            assert conflict.base is not None
            assert conflict.base["title"] == "base"
            assert (conflict.mine.data or {})["title"] == "mine"
            assert (conflict.theirs.data or {})["title"] == "theirs"
            (note,) = await notes.query("note")
            assert (note["title"], note.is_pending) == ("theirs", False)
            assert (await status_that(notes, lambda status: status.conflicts)).conflicts == 1

    @pytest.mark.parametrize(("way", "title"), [("mine", "mine"), ("theirs", "theirs"), ("merge", "both")])
    async def test_is_settled_offline_and_shown_at_once(self, server: RunningServer, way: str, title: str) -> None:
        async with (
            running_proxy(server.port) as proxy,
            client_of(proxy.url) as notes,
            client_of(server.http_url) as phone,
        ):
            conflict = await clash(server, notes)
            await until(phone, phone.conflicts)
            proxy.target = None
            proxy.cut()
            await status_that(notes, lambda status: status.state is LinkState.OFFLINE)
            match way:
                case "mine":
                    await notes.keep_mine(conflict)
                case "theirs":
                    await notes.keep_theirs(conflict)
                case _:
                    await notes.merge(conflict, title="both")
            (note,) = await notes.query("note")
            assert (note["title"], note["content"], note.is_pending) == (title, "untouched", True)
            assert await notes.conflicts() == []
            with pytest.raises(NoLongerThereError):
                await notes.keep_mine(conflict)
            proxy.target = server.port
            notes.reconnect()
            await notes.settled(timeout_s=BOUND_S)
            assert (await notes.query("note"))[0]["title"] == title
            assert await notes.conflicts() == await notes.quarantine() == []
            await until(phone, lambda: phone.query("note", title=title))
            await until(phone, lambda: _none(phone))

    async def test_that_somebody_else_settled_first_leaves_mine_in_the_quarantine(self, server: RunningServer) -> None:
        async with (
            running_proxy(server.port) as proxy,
            client_of(proxy.url) as notes,
            client_of(server.http_url) as phone,
        ):
            conflict = await clash(server, notes)
            (theirs,) = await until(phone, phone.conflicts)
            proxy.target = None
            proxy.cut()
            await status_that(notes, lambda status: status.state is LinkState.OFFLINE)
            await notes.keep_mine(conflict)
            await phone.merge(theirs, title="settled by the phone")
            await phone.settled(timeout_s=BOUND_S)
            proxy.target = server.port
            notes.reconnect()
            await notes.settled(timeout_s=BOUND_S)
            (refused,) = await notes.quarantine()
            assert refused.problem.error_code == "CONFLICT"
            assert await notes.conflicts() == []
            assert (await notes.query("note"))[0]["title"] == "settled by the phone"

    async def test_that_came_up_while_away_is_listed_and_one_settled_meanwhile_is_not(
        self, server: RunningServer
    ) -> None:
        async with running_proxy(None) as proxy, client_of(proxy.url) as late:
            async with client_of(server.http_url) as notes:
                conflict = await clash(server, notes)
                proxy.target = server.port
                late.reconnect()
                assert [one.conflict_id for one in await until(late, late.conflicts)] == [conflict.conflict_id]
                proxy.target = None
                proxy.cut()
                await notes.keep_theirs(conflict)
                await notes.settled(timeout_s=BOUND_S)
            proxy.target = server.port
            late.reconnect()
            await until(late, lambda: _none(late))


async def _none(notes: SyncClient) -> bool:
    return not await notes.conflicts()

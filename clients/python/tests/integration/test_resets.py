"""The server begins anew, forgets, grants and revokes: rows are replaced, what was written here stays."""

import sqlite3
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner
from sync_client import LinkState

from clients.python.tests.apps import BOUND_S, client_of, status_that, titles, until
from clients.python.tests.proxy import running_proxy
from sync_server.cli import commands
from sync_server.clock import now_ms
from sync_server.trimmer import DAY_MS, Trimmer
from sync_server.types import Millis
from tests.harness import RunningServer, create, delete, running_server, update


async def trim(server: RunningServer) -> None:
    services = server.services
    trimmer = Trimmer(services.feed, services.committer, retention_days=1, verdict_retention_days=1, interval_s=1)
    await trimmer.trim(Millis(now_ms() + 2 * DAY_MS))


class TestAReset:
    async def test_below_the_horizon_replaces_rows_without_a_flicker(self, tmp_path: Path) -> None:
        async with (
            running_server(tmp_path / "server", feed_cache_changes=0) as server,
            running_proxy(server.port) as proxy,
            server.client("1", "other") as other,
            client_of(proxy.url, store=tmp_path / "a.db") as notes,
        ):
            await other.sync(*(create(f"op_{n}", entity_id=f"n{n}", title=f"n{n}") for n in range(5)))
            await until(notes, lambda: notes.get("note", "n4"))
            proxy.target = None
            proxy.cut()
            await status_that(notes, lambda status: status.state is LinkState.OFFLINE)
            await other.sync(delete("op_5", "n0", 1), update("op_6", "n1", 1, title="n1 later"))
            await trim(server)
            mine = await notes.create("note", title="mine")
            await notes.update(("note", "n2"), title="n2 mine")
            changes = notes.changes("note", existing=True)
            for _ in range(6):
                await anext(changes)
            proxy.target = server.port
            notes.reconnect()
            await notes.settled(timeout_s=BOUND_S)
            assert await titles(notes) == ["mine", "n1 later", "n2 mine", "n3", "n4"]
            told = []
            while ("note", "n0") not in {(one.type, one.id) for one in told}:
                told.append(await anext(changes))
            assert [one.id for one in told if one.kind == "deleted"] == ["n0"], "only what is gone was told as deleted"
            assert (await notes.get("note", mine.id)) is not None
            assert await notes.verify()
            await changes.aclose()

    async def test_of_a_restored_backup_keeps_what_was_not_sent(self, tmp_path: Path) -> None:
        data_dir, copy = tmp_path / "server", tmp_path / "backup.db"
        async with running_proxy(None) as proxy, client_of(proxy.url, store=tmp_path / "a.db") as notes:
            async with running_server(data_dir) as server:
                proxy.target = server.port
                notes.reconnect()
                kept = await notes.create("note", title="in the backup")
                await notes.settled(timeout_s=BOUND_S)
                with closing(sqlite3.connect(data_dir / "sync.db")) as database:
                    database.execute("VACUUM INTO ?", (str(copy),))
                await notes.update(kept, title="after the backup")
                await notes.create("note", title="made after the backup")
                await notes.settled(timeout_s=BOUND_S)
                proxy.target = None
                proxy.cut()
            await status_that(notes, lambda status: status.state is LinkState.OFFLINE)
            await notes.create("note", title="written offline")
            for name in ("sync.db", "sync.db-wal", "sync.db-shm"):
                (data_dir / name).unlink(missing_ok=True)
            copy.rename(data_dir / "sync.db")
            assert CliRunner().invoke(commands, ["new-epoch", "--data-dir", str(data_dir)]).exit_code == 0
            async with running_server(data_dir) as server:
                proxy.target = server.port
                notes.reconnect()
                await notes.settled(timeout_s=BOUND_S)
                assert await titles(notes) == ["in the backup", "written offline"]
                assert await notes.verify()
                proxy.target = None
                proxy.cut()


class TestASpace:
    async def test_that_is_granted_comes_and_that_is_revoked_goes(self, server: RunningServer) -> None:
        await server.share("team", _2="owner")
        async with client_of(server.http_url, user="2") as owner, client_of(server.http_url) as member:
            note = await owner.create("note", title="of the team", space_id="team")
            await owner.settled(timeout_s=BOUND_S)
            await member.settled(timeout_s=BOUND_S)
            assert await member.query("note") == []
            await server.share("team", _1="editor")
            (seen,) = await until(member, lambda: member.query("note"))
            assert (seen.id, seen.space_id) == (note.id, "team")
            await member.update(seen, title="by the member")
            await until(owner, lambda: owner.query("note", title="by the member"))
            await server.share("team", _1=None)
            await until(member, lambda: _is_empty(member))
            assert await owner.verify()
            assert await member.verify()

    async def test_that_is_read_only_refuses_writes_and_shows_what_stands(self, server: RunningServer) -> None:
        await server.share("team", _2="owner", _1="viewer")
        async with client_of(server.http_url, user="2") as owner, client_of(server.http_url) as reader:
            await owner.create("note", title="theirs", space_id="team")
            (seen,) = await until(reader, lambda: reader.query("note"))
            await reader.update(seen, title="mine")
            await reader.settled(timeout_s=BOUND_S)
            (refused,) = await reader.quarantine()
            assert refused.problem.error_code == "FORBIDDEN"
            assert await titles(reader) == ["theirs"]


class TestAStoreThatDiffers:
    async def test_is_found_by_its_checksum_and_taken_anew(self, server: RunningServer, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        async with client_of(server.http_url, store=path) as notes:
            for number in range(3):
                await notes.create("note", title=f"n{number}")
            await notes.settled(timeout_s=BOUND_S)
            assert await notes.verify()
            with closing(sqlite3.connect(path)) as database, database:
                database.execute("DELETE FROM rows WHERE data LIKE '%n1%'")
            assert not await notes.verify()
            await until(notes, lambda: _has_three(notes))
            assert await notes.verify()

    async def test_hears_of_less_after_it_was_narrowed_and_of_all_again(
        self, server: RunningServer, tmp_path: Path
    ) -> None:
        path = tmp_path / "a.db"
        async with client_of(server.http_url, store=path) as notes:
            await notes.create("note", title="x")
            await notes.create("folder", name="f")
            await notes.settled(timeout_s=BOUND_S)
        async with client_of(server.http_url, store=path, entity_types=["folder"]) as notes:
            await notes.settled(timeout_s=BOUND_S)
            assert (len(await notes.query("note")), len(await notes.query("folder"))) == (0, 1)
        async with client_of(server.http_url, store=path) as notes:
            await notes.settled(timeout_s=BOUND_S)
            assert (len(await notes.query("note")), len(await notes.query("folder"))) == (1, 1)


async def _is_empty(notes) -> bool:  # type: ignore[no-untyped-def]
    return not await notes.query("note")


async def _has_three(notes) -> bool:  # type: ignore[no-untyped-def]
    return len(await notes.query("note")) == 3

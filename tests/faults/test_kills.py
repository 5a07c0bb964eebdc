"""kill -9 at marked instants, and in the middle of a stream (rows 10 and 15)."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.faults.processes import ALTERED
from tests.harness import Client, Message, ServerProcess, create, open_client, server_process, token_for

MARK = "die here"
INSTANTS = {
    "before the commit": ("sync_server.stores.writer:Writer.save_changes", 0),
    "between the commit and the publish": ("sync_server.committer:Committer._deliver", 1),
    "between the publish and the ack": ("sync_server.committer:Committer._settle", 1),
    "between the publish and the push": ("sync_server.hub:Hub._broadcast", 1),
}
BIG = "y" * 20_000


def dying(at: str, mark: str = MARK) -> tuple[str, str]:
    """The program that dies there."""
    return ALTERED, f"die {at}={mark}"


@asynccontextmanager
async def dying_server(data_dir: Path, at: str) -> AsyncIterator[ServerProcess]:
    """A server that dies there before the block ends."""
    with server_process(data_dir, program=dying(at)) as process:
        yield process
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL


async def ready(client: Client, **greeting: object) -> Client:
    await client.greet(token=token_for("1"), **greeting)
    return client


class TestAKill:
    @pytest.mark.parametrize(("at", "committed"), INSTANTS.values(), ids=INSTANTS)
    async def test_leaves_an_operation_that_a_resend_applies_once_and_all_see(
        self, tmp_path: Path, at: str, committed: int
    ) -> None:
        operation = create("op_1", entity_id="n", title=MARK)
        async with (
            dying_server(tmp_path, at) as process,
            open_client(process.ws_url, "phone") as phone,
            open_client(process.ws_url, "desktop") as desktop,
        ):
            await ready(phone)
            await ready(desktop)
            await desktop.do(create("op_0", title="before"))
            await phone.next("server_update")
            with suppress(ConnectionClosed):
                await desktop.do(operation)
        assert changes(tmp_path, "op_1") == committed
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "phone") as again, open_client(process.ws_url, "desktop") as desktop:
                again.replica = phone.replica
                await ready(again, cursor=phone.replica.cursor)
                await again.next("caught_up")
                await ready(desktop)
                result = await desktop.do(operation)
                while ("note", "n") not in again.replica.rows:
                    await again.next("server_update")
        assert result["success"]
        assert result.get("duplicate", False) == bool(committed)
        assert [seq for seq, *_ in again.replica.told] == [1, 2]
        assert changes(tmp_path, "op_1") == 1

    async def test_in_a_snapshot_lets_the_client_go_on_where_it_stood(self, tmp_path: Path) -> None:
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "desktop") as desktop:
                await ready(desktop)
                for start in range(0, 100, 10):
                    operations = [title(number, MARK if number == 95 else "x") for number in range(start, start + 10)]
                    assert (await desktop.sync(*operations))["status"] == "success"
        async with (
            dying_server(tmp_path, "sync_server.hub:Hub._write_page") as process,
            open_client(process.ws_url, "phone") as phone,
        ):
            with suppress(ConnectionClosed):
                await ready(phone, subscriptions={"incremental": False})
                await phone.next("caught_up")
        assert 0 < len(phone.replica.rows) < 95
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "phone") as again, open_client(process.ws_url, "fresh") as fresh:
                again.replica = phone.replica
                await ready(again, cursor=phone.replica.cursor)
                await again.next("caught_up")
                await ready(fresh, subscriptions={"incremental": False})
                await fresh.next("caught_up")
        assert again.replica.live == fresh.replica.live
        assert len(fresh.replica.live) == 100
        assert len(again.replica.told) == 100

    def test_in_a_migration_leaves_a_database_that_the_next_start_migrates(self, tmp_path: Path) -> None:
        program = dying("alembic.operations:Operations.create_index", "operations")
        process = ServerProcess(tmp_path, program=program)
        with pytest.raises(AssertionError):
            process.start()
        assert process.wait() == -signal.SIGKILL
        with closing(sqlite3.connect(tmp_path / "sync.db")) as database:
            assert database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        with server_process(tmp_path) as process:
            assert process.terminate() == 0


class TestASubscriber:
    async def test_has_no_gap_and_no_duplicate_over_kills_while_others_write(self, tmp_path: Path) -> None:
        told: list[int] = []
        cursor: str | None = None
        queue = [create(f"op_{number}", title="x") for number in range(120)]
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "phone") as phone:
                cursor = (await phone.greet(token=token_for("1")))["auth"]["cursor"]
            for life in range(1, 4):
                writing = asyncio.create_task(write(process, queue))
                async with open_client(process.ws_url, "phone") as phone:
                    await ready(phone, cursor=cursor)
                    while len(told) + len(phone.replica.told) < 30 * life:
                        await phone.next("server_update")
                    await asyncio.to_thread(process.kill)
                    await phone.close_code()
                    told += [seq for seq, *_ in phone.replica.told]
                    cursor = phone.replica.cursor
                await writing
                process.start()
            await write(process, queue)
            async with open_client(process.ws_url, "phone") as phone:
                await ready(phone, cursor=cursor)
                await phone.next("caught_up")
                told += [seq for seq, *_ in phone.replica.told]
        assert told == list(range(1, 121))


async def write(process: ServerProcess, queue: list[Message]) -> None:
    """Send the queue in order until the server is gone; what was answered is taken off it."""
    with suppress(ConnectionClosed):
        async with open_client(process.ws_url, "desktop") as desktop:
            await ready(desktop)
            while queue:
                await desktop.do(queue[0])
                del queue[0]


def title(number: int, text: str) -> Message:
    return create(f"op_{number}", entity_id=f"n{number}", title=text, content=BIG)


def changes(data_dir: Path, operation_id: str) -> int:
    """How often the operation stands in the log, which has no holes."""
    with closing(sqlite3.connect(data_dir / "sync.db")) as database:
        seqs = [seq for (seq,) in database.execute("SELECT seq FROM changes ORDER BY seq")]
        assert seqs == list(range(1, len(seqs) + 1))
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        query = "SELECT count(*) FROM changes WHERE operation_id = ?"
        return int(database.execute(query, (operation_id,)).fetchone()[0])

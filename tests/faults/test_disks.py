"""A database that is locked, a disk that is full, files that may not be written (row 14)."""

import resource
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from os import geteuid
from pathlib import Path

import pytest

from tests.faults.processes import fill, make_read_only, needs_root, prepare, small_disk
from tests.faults.test_starts import refused
from tests.harness import Client, Message, RunningServer, ServerProcess, create, open_client, server_process, token_for

BIG = "y" * 100_000


class TestALockedDatabase:
    async def test_longer_than_the_server_waits_is_a_retryable_error_without_ack_or_push(self, tmp_path: Path) -> None:
        operation = create("op_1", title="x")
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "desktop") as desktop, open_client(process.ws_url, "phone") as phone:
                await desktop.greet(token=token_for("1"))
                await phone.greet(token=token_for("1"))
                with closing(sqlite3.connect(tmp_path / "sync.db", isolation_level=None)) as other:
                    other.execute("BEGIN IMMEDIATE")
                    error = await refusal(desktop, operation)
                    assert (await phone.sync())["status"] == "success"
                await phone.nothing("server_update")
                result = await desktop.do(operation)
                pushed = await phone.next("server_update")
        assert error["retry_after_ms"] > 0
        assert "duplicate" not in result
        assert pushed["seq"] == result["seq"] == 1


class TestAFullDisk:
    @needs_root
    async def test_refuses_what_does_not_fit_and_serves_on_when_there_is_room_again(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", size="4m") as disk:
            ballast = disk / "ballast"
            ballast.write_bytes(b"\0" * 1_000_000)
            await _fill_and_go_on(disk / "data", make_room=lambda _: ballast.unlink())

    async def test_refuses_what_does_not_fit_also_where_only_the_size_of_files_is_limited(self, tmp_path: Path) -> None:
        def limit(process: ServerProcess, most: int = resource.RLIM_INFINITY) -> None:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

        await _fill_and_go_on(tmp_path / "data", begin=lambda process: limit(process, 2_000_000), make_room=limit)

    @needs_root
    async def test_at_the_start_is_one_line_and_loses_nothing(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", size="2m") as disk:
            await prepare(disk / "data", _some_notes)
            ballast = fill(disk)
            assert "cannot be used" in refused(disk / "data")
            ballast.unlink()
            with server_process(disk / "data") as process:
                async with open_client(process.ws_url, "phone") as phone:
                    await phone.greet(token=token_for("1"), subscriptions={"incremental": False})
                    assert (await phone.next("server_update"))["seq"] == 1


async def _some_notes(server: RunningServer) -> None:
    async with server.client() as client:
        await client.do(create("op_0", title="kept"))


async def _fill_and_go_on(
    data_dir: Path,
    *,
    begin: Callable[[ServerProcess], None] = lambda _: None,
    make_room: Callable[[ServerProcess], None],
) -> None:
    """Write until nothing fits, make room, go on; what was acknowledged is there after a kill, and nothing else."""
    acknowledged = []
    with server_process(data_dir) as process:
        begin(process)
        async with open_client(process.ws_url, "desktop") as desktop, open_client(process.ws_url, "phone") as phone:
            await desktop.greet(token=token_for("1"))
            await phone.greet(token=token_for("1"))
            response = await answer(desktop, create("op_0", title="x", content=BIG))
            while response["type"] == "sync_response":
                acknowledged.append(response["data"]["operation_results"][0]["operation_id"])
                operation = create(f"op_{len(acknowledged)}", title="x", content=BIG)
                response = await answer(desktop, operation)
            assert (await phone.sync())["status"] == "success"
            make_room(process)
            assert "duplicate" not in await desktop.do(operation)
            acknowledged.append(operation["operation_id"])
            while len(phone.replica.told) < len(acknowledged):
                await phone.next("server_update")
        process.kill()
        assert not [line for line in process.output if "Traceback" in line]
    assert (response["error_code"], response["retryable"]) == ("SYNC_ERROR", True)
    assert len(acknowledged) > 3
    assert [seq for seq, *_ in phone.replica.told] == list(range(1, len(acknowledged) + 1))
    with closing(sqlite3.connect(data_dir / "sync.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        log = [name for (name,) in database.execute("SELECT operation_id FROM changes ORDER BY seq")]
    assert log == acknowledged


class TestAFileThatMayNotBeWritten:
    @needs_root
    async def test_on_a_read_only_disk_is_one_line_at_the_start(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", size="2m") as disk:
            await prepare(disk / "data", _some_notes)
            make_read_only(disk)
            assert "cannot be used" in refused(disk / "data")

    @pytest.mark.parametrize("name", ["sync.db", "."])
    async def test_is_one_line_at_the_start(self, tmp_path: Path, name: str) -> None:
        data_dir = tmp_path / "data"
        await prepare(data_dir, _some_notes)
        with read_only(data_dir / name):
            assert "cannot be used" in refused(data_dir)
        with server_process(data_dir) as process:
            assert process.terminate() == 0


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """For root, who may write whatever the mode says, the file is made immutable."""
    if geteuid() != 0:
        mode = path.stat().st_mode
        path.chmod(mode & ~0o222)
        yield
        path.chmod(mode)
        return
    if subprocess.run(["chattr", "+i", str(path)], capture_output=True, check=False).returncode != 0:
        pytest.skip("root may write any file here, and chattr +i is not supported")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True)


async def answer(client: Client, operation: Message) -> Message:
    """The answer to a request with one operation, whichever it is."""
    await client.send(
        type="sync", message_id=operation["operation_id"],
        data={"client_id": client.client_id, "operations": [operation], "client_state": {"cursor": client.cursor}},
    )  # fmt: skip
    return await client.next("sync_response", "error", timeout_s=10)


async def refusal(client: Client, operation: Message) -> Message:
    error = await answer(client, operation)
    assert (error["type"], error["error_code"], error["retryable"]) == ("error", "SYNC_ERROR", True), error
    return error

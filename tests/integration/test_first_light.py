"""The first thing that must work: two devices of one user, a note, a kill, a resend."""

import sqlite3
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner

from sync_server.cli import commands
from tests.harness import RunningServer, create, open_client, running_server, server_process, token_for


class TestTwoDevices:
    async def test_see_each_others_notes_as_they_are_made(self, server: RunningServer) -> None:
        async with server.client(client_id="desktop") as desktop, server.client(client_id="phone") as phone:
            result = await desktop.do(create("op_001", title="新笔记", content="笔记内容"))
            pushed = await phone.next("server_update")
        assert result["success"]
        assert pushed["entity_id"] == result["entity_id"]
        assert pushed["update_data"]["data"] == {"id": result["entity_id"], "title": "新笔记", "content": "笔记内容"}

    async def test_survive_a_kill_of_the_server_with_each_operation_applied_once(self, tmp_path: Path) -> None:
        note = create("op_001", title="kept")
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "desktop") as desktop:
                await desktop.greet(token=token_for("1"))
                first = await desktop.do(note)
            process.kill()
            process.start()
            async with open_client(process.ws_url, "desktop") as desktop:
                await desktop.greet(token=token_for("1"))
                resent = await desktop.do(note)
            async with open_client(process.ws_url, "phone") as phone:
                await phone.greet(token=token_for("1"))
                phone.cursor = None
                seen = (await phone.sync())["server_updates"]
        assert resent == {**first, "duplicate": True}
        assert [update["data"]["title"] for update in seen] == ["kept"]


class TestARestoredBackup:
    async def test_makes_clients_start_over_and_keeps_what_they_have_not_sent(self, tmp_path: Path) -> None:
        data_dir = tmp_path / "data"
        async with running_server(data_dir) as server, server.client() as client:
            await client.do(create("op_001", title="in the backup"))
            copy = tmp_path / "backup.db"
            with closing(sqlite3.connect(data_dir / "sync.db")) as database:
                database.execute("VACUUM INTO ?", (str(copy),))
            await client.do(create("op_002", title="after the backup"))
            cursor = client.cursor
        for name in ("sync.db", "sync.db-wal", "sync.db-shm"):
            (data_dir / name).unlink(missing_ok=True)
        copy.rename(data_dir / "sync.db")
        assert CliRunner().invoke(commands, ["new-epoch", "--data-dir", str(data_dir)]).exit_code == 0
        async with running_server(data_dir) as server, server.client() as client:
            client.cursor = cursor
            response = await client.sync(create("op_003", title="written offline"))
        assert response["resets"] == [{"space_id": None, "reason": "epoch"}]
        assert [row["data"]["title"] for row in response["server_updates"]] == ["in the backup", "written offline"]

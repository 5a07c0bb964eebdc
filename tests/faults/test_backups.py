"""A backup is restored behind live clients (row 24): a new epoch, everything told anew, nothing merged in silence."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.harness import Client, create, open_client, server_process, token_for, update

ROOT = Path(__file__).parents[2]


class TestARestoredBackup:
    @pytest.mark.parametrize("names_epoch", [True, False], ids=["with new-epoch", "forgotten"])
    async def test_is_told_anew_to_every_client_and_merges_nothing(self, tmp_path: Path, *, names_epoch: bool) -> None:
        """Without `new-epoch` a client ahead of the log is noticed all the same, as long as the log is shorter."""
        data_dir, backup = tmp_path / "data", tmp_path / "backup.db"
        with server_process(data_dir) as process:
            async with open_client(process.ws_url, "phone") as phone, open_client(process.ws_url, "desktop") as desktop:
                await phone.greet(token=token_for("1"))
                await desktop.greet(token=token_for("1"))
                await desktop.do(create("op_1", entity_id="kept", title="in the backup"))
                with closing(sqlite3.connect(data_dir / "sync.db")) as database:
                    database.execute("VACUUM INTO ?", (str(backup),))
                await desktop.do(create("op_2", entity_id="lost", title="after the backup"))
                await desktop.do(update("op_3", "kept", 1, title="changed after the backup"))
                while len(phone.replica.told) < 3:
                    await phone.next("server_update")
                process.kill()
            _restore(data_dir, backup, names_epoch=names_epoch)
            process.start()
            async with open_client(process.ws_url, "phone") as again:
                again.replica = phone.replica
                await again.greet(token=token_for("1"), cursor=phone.replica.cursor)
                reset = await again.next("reset")
                await again.next("caught_up")
                offline = await again.do(update("op_4", "kept", 2, title="written offline on what was lost"))
                conflict = (await again.next("conflict"))["conflict"]
                live = await _fresh(process.ws_url)
        assert reset["space_id"] is None
        assert phone.replica.live == live.replica.live
        assert ("note", "lost") not in live.replica.live
        assert (offline["conflict_id"], conflict["conflict_type"]) == (conflict["conflict_id"], "version")
        assert conflict["server_data"]["data"] == {"title": "in the backup"}
        assert conflict["client_data"]["data"] == {"title": "written offline on what was lost"}

    async def test_gives_no_version_the_number_of_a_lost_one(self, tmp_path: Path) -> None:
        """Others write on, as often as was written before: an offline write on what was lost is no write on theirs."""
        data_dir, backup = tmp_path / "data", tmp_path / "backup.db"
        with server_process(data_dir) as process:
            async with open_client(process.ws_url, "desktop") as desktop:
                await desktop.greet(token=token_for("1"))
                await desktop.do(create("op_1", entity_id="kept", title="in the backup", content="kept"))
                with closing(sqlite3.connect(data_dir / "sync.db")) as database:
                    database.execute("VACUUM INTO ?", (str(backup),))
                lost = await desktop.do(update("op_2", "kept", 1, title="lost", content="lost"))
                process.kill()
            _restore(data_dir, backup, names_epoch=True)
            process.start()
            async with open_client(process.ws_url, "desktop") as desktop:
                await desktop.greet(token=token_for("1"))
                other = await desktop.do(update("op_3", "kept", 1, title="written anew"))
                await desktop.do(create("op_4", entity_id="new", title="new"))
                own = await desktop.do(update("op_5", "new", 0, title="newer"))
            async with open_client(process.ws_url, "phone") as phone:
                await phone.greet(token=token_for("1"))
                offline = await phone.do(update("op_6", "kept", lost["new_version"], title="written offline"))
                conflict = (await phone.next("conflict"))["conflict"]
        assert other["verdict"] == "applied", "its base is in the backup"
        assert (own["verdict"], "conflict_id" in own) == ("applied", False), "nor has one's own queue a lost base"
        assert other["new_version"] > lost["new_version"]
        assert (offline["conflict_id"], conflict["conflict_type"]) == (conflict["conflict_id"], "version")
        assert conflict["server_data"]["data"] == {"title": "written anew", "content": "kept"}
        assert conflict["client_data"]["data"] == {"title": "written offline"}


def _restore(data_dir: Path, backup: Path, *, names_epoch: bool) -> None:
    for name in ("sync.db", "sync.db-wal", "sync.db-shm"):
        (data_dir / name).unlink(missing_ok=True)
    backup.rename(data_dir / "sync.db")
    if names_epoch:
        command = [sys.executable, "run_server.py", "new-epoch", "--data-dir", str(data_dir)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


async def _fresh(url: str) -> Client:
    async with open_client(url, "fresh") as fresh:
        await fresh.greet(token=token_for("1"), subscriptions={"incremental": False})
        await fresh.next("caught_up")
        return fresh

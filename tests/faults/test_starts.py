"""A server that cannot start says why in one line, and its exit status says so."""

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import SECRET, free_port, server_process

ROOT = Path(__file__).parents[2]


def refused(data_dir: Path, **environment: str) -> str:
    """What the server says that does not start: one line."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("SYNC_")}
    variables |= {"SYNC_DATA_DIR": str(data_dir), "SYNC_PORT": str(free_port()), "SYNC_AUTH_SECRET": SECRET}
    done = subprocess.run(
        [sys.executable, "run_server.py"],
        cwd=ROOT, env={**variables, **environment}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    (line,) = (done.stdout + done.stderr).splitlines()
    return line


class TestAServer:
    @pytest.mark.parametrize(
        "url", ["sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite:///x.db", "postgresql://me:secret@host/db"]
    )
    def test_takes_no_database_but_a_file_of_sqlite(self, tmp_path: Path, url: str) -> None:
        line = refused(tmp_path, SYNC_DATABASE_URL=url)
        assert "SYNC_DATABASE_URL" in line
        assert "secret" not in line

    def test_needs_a_data_directory_that_it_can_use(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "cannot be used" in refused(tmp_path / "file" / "data")

    def test_needs_a_database_that_is_one(self, tmp_path: Path) -> None:
        (tmp_path / "sync.db").write_bytes(b"no database" * 1_000)
        assert "cannot be used" in refused(tmp_path)

    def test_leaves_a_newer_database_alone(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "sync.db") as database:
            database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            database.execute("INSERT INTO alembic_version VALUES ('9999')")
        database.close()
        assert "newer" in refused(tmp_path)

    def test_shares_neither_its_data_directory_nor_its_database(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'shared.db'}"
        with server_process(tmp_path / "one", SYNC_DATABASE_URL=url):
            assert "data directory" in refused(tmp_path / "one")
            assert "another server uses the database" in refused(tmp_path / "two", SYNC_DATABASE_URL=url)

    def test_keeps_what_it_writes_to_itself(self, tmp_path: Path) -> None:
        with server_process(tmp_path):
            modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert modes == {0o600}

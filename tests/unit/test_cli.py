import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sync_server import cli
from sync_server.auth import Authenticator
from sync_server.clock import now_ms
from sync_server.config import Settings, flag_name, variable_name
from sync_server.secret import SECRET_FILE_NAME
from sync_server.stores.opening import opened_store

SECRET = "correct-horse-battery-staple-0123456789"
ROOT = Path(__file__).parents[2]

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [name for name in os.environ if name.upper().startswith("SYNC_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(cli.commands, arguments, env=variables, prog_name="sync-server")

    return invoke


class Server:
    """Stands in for sync_server.server: remembers what it was started with."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.secret: str | None = None
        self.error: OSError | None = None
        self.status = 0

    def serve(self, settings: Settings, secret: str | None, *, on_listening: Callable[[int], None]) -> int:
        self.settings, self.secret = settings, secret
        if self.error is not None:
            raise self.error
        on_listening(settings.port or 54_321)
        return self.status


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    stand_in, module = Server(), ModuleType("sync_server.server")
    module.serve = stand_in.serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sync_server.server", module)
    monkeypatch.setattr(cli, "configure_logging", lambda **_: None)
    return stand_in


class TestHelp:
    @pytest.mark.parametrize(
        "command",
        [
            (), ("serve",), ("token",), ("migrate",), ("config",), ("explain",), ("explain", "op"),
            ("explain", "entity"),
        ],
    )  # fmt: skip
    def test_of_each_command_can_be_asked_for(self, run: Run, command: tuple[str, ...]) -> None:
        result = run(*command, "--help")

        assert result.exit_code == 0
        assert result.stdout.startswith("Usage: sync-server")

    def test_of_serve_tells_each_setting_with_its_variable_and_default(self, run: Run) -> None:
        shown = " ".join(run("serve", "--help").stdout.split())

        for name in Settings.model_fields:
            assert flag_name(name) in shown
            assert f"[{variable_name(name)}" in shown
        assert "TCP port to listen on; 0 lets the system choose one. [SYNC_PORT; default: 3000]" in shown
        assert "--log-format console|json" in shown
        assert "--verdict-retention-days INTEGER" in shown

    def test_is_what_an_empty_command_line_gets(self, run: Run) -> None:
        assert "Commands:" in run().output

    def test_tells_the_version(self, run: Run) -> None:
        assert run("--version").stdout.startswith("sync-server, version ")


class TestToken:
    def test_is_all_that_is_printed(self, run: Run, tmp_path: Path) -> None:
        result = run("token", "--user", "1")

        secret = (tmp_path / "data" / SECRET_FILE_NAME).read_text().strip()
        principal = Authenticator(secret=secret).authenticate(result.stdout.rstrip("\n"), now=now_ms())
        assert (result.exit_code, result.stderr, principal.user_id) == (0, "", "1")
        assert abs(principal.expires_at - now_ms() - 3_600_000) < 60_000

    def test_uses_the_settings_of_the_server(self, run: Run) -> None:
        result = run("token", "--user", "1", "--ttl", "60", SYNC_AUTH_SECRET=SECRET, SYNC_AUTH_AUDIENCE="here")

        principal = Authenticator(secret=SECRET, audience="here").authenticate(result.stdout.strip(), now=now_ms())
        assert abs(principal.expires_at - now_ms() - 60_000) < 10_000

    @pytest.mark.parametrize("arguments", [(), ("--user", "a/b"), ("--user", "1\n"), ("--user", "1", "--ttl", "0")])
    def test_needs_a_user_and_a_life(self, run: Run, arguments: tuple[str, ...]) -> None:
        result = run("token", *arguments)

        assert (result.exit_code, result.stdout) == (2, "")

    def test_is_refused_where_others_issue_them(self, run: Run) -> None:
        result = run("token", "--user", "1", SYNC_AUTH_JWKS="keys.json")

        assert result.exit_code == 2
        assert result.stderr.startswith("Error: SYNC_AUTH_JWKS is set, so tokens are issued elsewhere")


class TestWrongSettings:
    @pytest.mark.parametrize(
        ("arguments", "variables", "named"),
        [
            ((), {"SYNC_PROT": "1"}, "SYNC_PROT"),
            ((), {"SYNC_PORT": "x"}, "SYNC_PORT"),
            (("--port", "x"), {}, "--port"),
            ((), {"SYNC_AUTH_SECRET": "hunter2"}, "SYNC_AUTH_SECRET"),
            ((), {"SYNC_HOST": "0.0.0.0"}, "SYNC_AUTH_SECRET"),
        ],
    )
    def test_stop_the_start_with_one_line(
        self, run: Run, server: Server, arguments: tuple[str, ...], variables: dict[str, str], named: str
    ) -> None:
        result = run("serve", *arguments, **variables)

        assert (result.exit_code, result.stdout, server.settings) == (2, "", None)
        assert result.stderr.startswith(f"Error: {named}")
        assert result.stderr.count("\n") == 1
        assert "hunter2" not in result.stderr


class TestServe:
    def test_is_started_with_settings_and_secret(self, run: Run, server: Server) -> None:
        result = run("serve", "--port", "4000", SYNC_PORT="5000", SYNC_AUTH_SECRET=SECRET)

        assert result.exit_code == 0
        assert server.settings is not None
        assert (server.settings.port, server.secret) == (4_000, SECRET)

    def test_says_where_it_is_and_how_to_get_in(self, run: Run, server: Server, tmp_path: Path) -> None:
        shown = run("serve", "--data-dir", "my data", "--port", "0").stdout

        assert "ws://127.0.0.1:54321/api/sync/ws\n" in shown
        assert "http://127.0.0.1:54321/docs\n" in shown
        assert f"{tmp_path / 'my data'}\n" in shown
        assert "token --user 1 --data-dir 'my data'\n" in shown
        assert server.secret is not None
        assert server.secret not in shown

    @pytest.mark.parametrize(("host", "shown"), [("::1", "[::1]"), ("0.0.0.0", "localhost"), ("::", "localhost")])
    def test_writes_addresses_that_can_be_opened(self, run: Run, server: Server, host: str, shown: str) -> None:
        result = run("serve", "--host", host, SYNC_AUTH_SECRET=SECRET)

        assert f"ws://{shown}:3000/api/sync/ws" in result.stdout

    def test_points_to_the_issuer_where_it_has_no_secret(self, run: Run, server: Server) -> None:
        assert "issuer whose keys SYNC_AUTH_JWKS names" in run("serve", SYNC_AUTH_JWKS="keys.json").stdout

    def test_ends_with_the_servers_status(self, run: Run, server: Server) -> None:
        server.status = 3

        assert run("serve").exit_code == 3

    @pytest.mark.parametrize(
        ("error", "line"),
        [
            (
                OSError(errno.EADDRINUSE, "x"),
                "Error: port 3000 of 127.0.0.1 is in use: stop what listens there, or choose",
            ),
            (OSError(errno.EADDRNOTAVAIL, "x"), "Error: 127.0.0.1 is no address of this machine"),
            (socket.gaierror(socket.EAI_NONAME, "x"), "Error: 127.0.0.1 is no address of this machine"),
            (PermissionError(errno.EACCES, "x"), "Error: port 3000 may not be used by this user"),
        ],
    )
    def test_that_cannot_listen_says_so_in_one_line(self, run: Run, server: Server, error: OSError, line: str) -> None:
        server.error = error

        result = run("serve")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(line)
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        "error", [OSError(errno.ENOSPC, "disk full"), PermissionError(errno.EACCES, "denied", "sync.db")]
    )
    def test_hides_no_other_error(self, run: Run, server: Server, error: OSError) -> None:
        server.error = error

        assert run("serve").exception is server.error


class TestConfig:
    def test_prints_what_takes_effect(self, run: Run) -> None:
        shown = run("config", "--port", "4000", SYNC_RETENTION_DAYS="30", SYNC_AUTH_SECRET=SECRET).stdout.splitlines()

        assert [line.split("=")[0] for line in shown] == [variable_name(name) for name in Settings.model_fields]
        assert {"SYNC_PORT=4000", "SYNC_RETENTION_DAYS=30", "SYNC_VERDICT_RETENTION_DAYS=30"} <= set(shown)
        assert "SYNC_AUTH_SECRET=********" in shown

    def test_masks_the_databases_password(self, run: Run) -> None:
        shown = run("config", SYNC_DATABASE_URL="postgresql://sync:hunter2@db/sync").stdout

        assert "SYNC_DATABASE_URL=postgresql://sync:********@db/sync" in shown


class TestMigrate:
    def test_makes_the_database(self, run: Run, tmp_path: Path) -> None:
        result = run("migrate", "--data-dir", str(tmp_path / "new"))

        assert result.exit_code == 0
        assert result.stdout.startswith("The database is at schema ")
        assert (tmp_path / "new" / "sync.db").exists()

    def test_leaves_a_database_that_a_server_uses_alone(self, run: Run, tmp_path: Path) -> None:
        with opened_store(tmp_path, f"sqlite:///{tmp_path / 'sync.db'}"):
            result = run("migrate", "--data-dir", str(tmp_path))

        assert result.exit_code != 0
        assert "another server uses" in result.stderr


class TestMain:
    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        calls: list[list[str]] = []
        monkeypatch.setattr(cli.commands, "main", lambda arguments, **_: calls.append(arguments))
        return calls

    @pytest.mark.parametrize(
        ("arguments", "meant"),
        [
            ([], ["serve"]),
            (["--port", "4000"], ["serve", "--port", "4000"]),
            (["serve"], ["serve"]),
            (["token", "--user", "1"], ["token", "--user", "1"]),
            (["--help"], ["--help"]),
            (["--version"], ["--version"]),
        ],
    )
    def test_takes_serve_where_no_command_is_named(
        self, started: list[list[str]], arguments: list[str], meant: list[str]
    ) -> None:
        cli.main(arguments, default_command="serve")

        assert started == [meant]

    def test_without_default_leaves_the_command_line_alone(self, started: list[list[str]]) -> None:
        cli.main(["--port", "4000"])

        assert started == [["--port", "4000"]]

    def test_is_what_run_server_runs(self, tmp_path: Path) -> None:
        environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT), "SYNC_AUTH_SECRET": SECRET}
        result = subprocess.run(
            [sys.executable, ROOT / "run_server.py", "token", "--user", "1"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

        assert Authenticator(secret=SECRET).authenticate(result.stdout.strip(), now=now_ms()).user_id == "1"

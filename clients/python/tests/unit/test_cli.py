"""The command line without a server: what it understands, what it prints, how it ends."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from sync_client.cli.commands import commands
from sync_client.cli.fields import parsed
from sync_client.cli.printing import Tables
from sync_client.values import (
    Change,
    Conflict,
    Entity,
    Key,
    LinkState,
    Operation,
    OperationType,
    Problem,
    Quarantined,
    Side,
    Status,
)

Run = Callable[..., Result]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command that never connects, on a store of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, text: str | bytes | None = None, offline: bool = True, **variables: str) -> Result:
        common = ["--offline"] if offline else []
        return CliRunner().invoke(commands, [*common, *arguments], env=variables, input=text, prog_name="sync-client")

    return invoke


def lines(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


class TestHelp:
    @pytest.mark.parametrize(
        "command",
        [(), ("get",), ("put",), ("delete",), ("watch",), ("conflicts", "merge"), ("quarantine", "retry"), ("status",)],
    )
    def test_of_each_command_can_be_asked_for(self, run: Run, command: tuple[str, ...]) -> None:
        result = run(*command, "--help", offline=False)

        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("Usage: sync-client")

    def test_tells_the_exit_statuses_and_the_variables(self, run: Run) -> None:
        shown = run("--help").stdout

        assert "3    the server did not answer in time" in shown
        for name in ("SYNC_CLIENT_URL", "SYNC_CLIENT_TOKEN", "SYNC_CLIENT_STORE"):
            assert name in shown

    def test_of_a_command_leaves_the_common_options_to_the_whole(self, run: Run) -> None:
        shown = run("get", "--help").stdout

        assert "--token-file" not in shown
        assert "`sync-client --help` lists the options that every command takes" in shown

    def test_without_the_extra_is_one_line_that_says_what_to_install(self) -> None:
        code = "import sys; sys.modules['click'] = None; from sync_client.cli import main; main([])"

        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

        assert ended.returncode == 1
        assert ended.stderr == "Error: the command line needs more packages: install 'sync-client[cli]'\n"


class TestFields:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("5", 5), ("true", True), ("null", None), ('"5"', "5"), ("[1, 2]", [1, 2]), ('{"a": 1}', {"a": 1}),
            ("milk, eggs", "milk, eggs"), ("", ""), ("01", "01"), ("NaN", "NaN"), ("1e999", "1e999"),
            ("[" * 9_999, "[" * 9_999),
        ],
    )  # fmt: skip
    def test_are_json_where_they_can_be(self, text: str, value: object) -> None:
        assert parsed(text) == value

    def test_may_hold_the_equals_sign(self, run: Run) -> None:
        assert lines(run("put", "note", "title=a=b"))[0]["data"] == {"title": "a=b"}

    def test_come_as_an_object_too_and_stand_above_it(self, run: Run) -> None:
        [entity] = lines(run("put", "note", "--data", '{"title": "a", "n": 1}', "title=b"))

        assert entity["data"] == {"title": "b", "n": 1}

    def test_come_from_the_standard_input(self, run: Run) -> None:
        [entity] = lines(run("put", "note", "--data", "-", text='{"title": "Käse"}'))

        assert entity["data"] == {"title": "Käse"}


class TestOffline:
    def test_writes_are_in_the_store_and_wait(self, run: Run) -> None:
        [written] = lines(run("put", "note", "--id", "a", "title=Milk", "n=3"))

        assert (written["id"], written["data"], written["is_pending"]) == ("a", {"title": "Milk", "n": 3}, True)
        assert lines(run("get", "note", "a")) == [written]

    def test_put_changes_what_is_there(self, run: Run) -> None:
        run("put", "note", "--id", "a", "title=Milk", "n=3")

        [entity] = lines(run("put", "note", "--id", "a", "title=Eggs"))

        assert entity["data"] == {"title": "Eggs", "n": 3}

    def test_delete_takes_it_away(self, run: Run) -> None:
        run("put", "note", "--id", "a", "title=Milk")

        assert lines(run("delete", "note", "a")) == [
            {"type": "note", "id": "a", "is_deleted": True, "is_pending": True}
        ]
        assert lines(run("get", "note")) == []

    def test_get_asks_by_fields_in_an_order(self, run: Run) -> None:
        for number, is_done in enumerate(["false", "true", "false"]):
            run("put", "todo", "--id", f"t{number}", f"n={number}", f"done={is_done}")

        found = lines(run("get", "todo", "--where", "done=false", "--order-by", "-n", "--limit", "5"))

        assert [one["id"] for one in found] == ["t2", "t0"]

    def test_status_counts_what_waits(self, run: Run) -> None:
        run("put", "note", "title=Milk")

        [status] = lines(run("status"))

        assert (status["state"], status["pending"], status["quarantined"]) == ("offline", 1, 0)
        assert status["problem"] == "--offline was given"
        assert status["url"] == "ws://localhost:3000"

    def test_nothing_waits_for_a_person_at_first(self, run: Run) -> None:
        assert lines(run("conflicts")) == lines(run("conflicts", "list")) == []
        assert lines(run("quarantine")) == lines(run("quarantine", "list")) == []


class TestCommonOptions:
    def test_stand_before_the_command_or_after_it(self, run: Run, tmp_path: Path) -> None:
        run("--store", "one.db", "put", "note", "title=Milk")

        assert len(lines(run("get", "note", "--store", "one.db", "--json"))) == 1
        assert len(lines(run("conflicts", "list", "--store", "one.db"))) == 0
        assert (tmp_path / "one.db").exists()

    def test_win_over_the_variables_the_last_one_first(self, run: Run) -> None:
        def store_of(*arguments: str) -> str:
            return str(lines(run(*arguments, SYNC_CLIENT_STORE="variable.db"))[0]["store"])

        assert store_of("status") == "variable.db"
        assert store_of("--store", "before.db", "status") == "before.db"
        assert store_of("--store", "before.db", "status", "--store", "after.db") == "after.db"

    def test_without_a_store_each_server_has_a_file_of_its_own(self, run: Run) -> None:
        def store_of(url: str) -> str:
            return Path(lines(run("status", "--url", url))[0]["store"]).name

        assert store_of("ws://localhost:3000") == store_of("http://localhost:3000/api/sync") == "localhost_3000.db"
        assert store_of("wss://example.org/team") == "example.org%2Fteam.db"

    def test_need_a_token_to_connect(self, run: Run) -> None:
        result = run("get", "note", offline=False)

        assert result.exit_code == 2
        assert result.stderr.startswith("Error: no token: set SYNC_CLIENT_TOKEN or give --token-file FILE")

    def test_refuse_a_token_file_without_a_token(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text("\n")
        (tmp_path / "binary").write_bytes(b"\xff\xfe")

        empty = run("get", "note", "--token-file", "empty", offline=False)
        binary = run("get", "note", "--token-file", "binary", offline=False)

        assert (empty.exit_code, binary.exit_code) == (2, 2)
        assert empty.stderr == "Error: the token file empty is empty: write the token into it\n"
        assert binary.stderr == "Error: the token file binary cannot be read: name a text file that you may read\n"


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "status", "named"),
        [
            (("put", "note"), 2, "nothing to write: give field=value or --data"),
            (("put", "note", "id=3", "title=x"), 2, "give it with --id"),
            (("put", "note", "title"), 2, "'title' must be written as field=value"),
            (("put", "note", "t\udcff=x"), 2, "must be UTF-8"),
            (("put", "note", "--data", "[1]"), 2, "--data must be a JSON object"),
            (("put", "note", "--data", "{"), 2, "--data must be a JSON object"),
            (("put", "no te", "title=x"), 2, "entity_type must be 1 to 64 letters"),
            (("put", "note", "--id", "77", "title=x"), 1, "there is no note 77"),
            (("get", "note", "a"), 1, "there is no note a"),
            (("get", "note", "a", "--limit", "1"), 2, "leave out --where"),
            (("get", "note", "--where", "tags=[1]"), 2, "must be compared with"),
            (("delete", "note", "a"), 1, "there is no note a"),
            (("watch", "--existing"), 2, "--existing needs a TYPE"),
            (("conflicts", "show", "c"), 1, "there is no open conflict c: see them with `sync-client conflicts`"),
            (("conflicts", "merge", "c"), 2, "Missing argument"),
            (("conflicts", "keep-mine", "c"), 1, "there is no open conflict c"),
            (("quarantine", "retry", "q"), 1, "see them with `sync-client quarantine`"),
            (("quarantine", "drop", "q"), 1, "there is no operation q in the quarantine"),
            (("status", "--url", "ftp://x"), 2, "url must be like ws://localhost:3000"),
            (("status", "--timeout", "0"), 2, "--timeout"),
            (("status", "--store", "/dev/null/x.db"), 1, "cannot be used"),
            (("frobnicate",), 2, "No such command 'frobnicate'; see `sync-client --help`"),
        ],
    )  # fmt: skip
    def test_are_one_line_that_says_what_to_do(
        self, run: Run, arguments: tuple[str, ...], status: int, named: str
    ) -> None:
        result = run(*arguments)

        assert (result.exit_code, result.stdout) == (status, "")
        assert named in result.stderr
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1

    def test_never_tell_the_token(self, run: Run) -> None:
        for arguments in (("status",), ("put", "note"), ("get", "note", "a"), ("--help",)):
            assert "s3cret" not in run(*arguments, SYNC_CLIENT_TOKEN="s3cret").output


class Screen:
    """A terminal of the test's own, wide enough for a line to stay one."""

    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.tables = Tables(Console(file=self.out, width=200), Console(file=self.err, width=200))

    @property
    def lines(self) -> list[str]:
        return [" ".join(line.split()) for line in self.out.getvalue().splitlines()]


@pytest.fixture
def screen() -> Screen:
    return Screen()


class TestTables:
    def test_have_a_column_for_each_field(self, screen: Screen) -> None:
        found = [Entity("note", "a", {"title": "Milk"}, version=2), Entity("note", 7, {"n": 1}, is_pending=True)]

        screen.tables.entities("note", found)

        assert screen.lines == ["id title n version", "a Milk 2", "7 1 0 (not sent yet)"]

    def test_that_would_be_empty_are_a_note(self, screen: Screen) -> None:
        screen.tables.entities("note", [])
        screen.tables.conflicts([])
        screen.tables.quarantine([])

        assert screen.out.getvalue() == ""
        assert screen.err.getvalue().splitlines() == ["no note found", "no conflicts", "nothing in the quarantine"]

    def test_show_text_as_it_is_and_obey_none_of_it(self, screen: Screen) -> None:
        screen.tables.entity(Entity("note", "a", {"title": "[red]x[/red] \x1b[31m", "tags": ["ä"]}))

        assert "title [red]x[/red] \\x1b[31m" in screen.lines
        assert 'tags ["ä"]' in screen.lines

    def test_tell_changes_in_a_line_each(self, screen: Screen) -> None:
        entity = Entity("note", "a", {"title": "Milk"}, is_pending=True)
        screen.tables.change(Change("created", "note", "a", entity, "local"))
        screen.tables.change(Change("deleted", "note", "a", None, "remote"))
        screen.tables.change(Change("reload", "note", "", None, "remote"))

        assert screen.lines == [
            "created note a title=Milk (not sent yet)", "deleted note a", "reload changed a lot: look anew",
        ]  # fmt: skip

    def test_show_both_sides_of_a_conflict(self, screen: Screen) -> None:
        conflict = Conflict(
            conflict_id="c1", conflict_type="content", entity_type="note", entity_id="a", operation_id="o1",
            fields=["title"], mine=Side(data={"title": "Mine"}), theirs=Side(), base={"title": "Both"}, rule="manual",
            since="2026-01-02T03:04:05Z", whole={"title": "Mine"},
        )  # fmt: skip

        screen.tables.conflict(conflict)
        screen.tables.conflicts([conflict])

        assert "field before both mine theirs (deleted)" in screen.lines
        assert "title Both Mine (not there)" in screen.lines
        assert "c1 note a title 2026-01-02T03:04:05Z" in screen.lines
        assert "sync-client conflicts keep-mine c1" in screen.err.getvalue()

    def test_give_the_reason_of_a_refusal(self, screen: Screen) -> None:
        operation = Operation(
            operation_id="o1", operation_type=OperationType.CREATE, entity_type="note", entity_id="a", timestamp="",
            fields={"title": 5},
        )  # fmt: skip
        problem = Problem(error="The title must be a string.", error_code="VALIDATION_ERROR")

        screen.tables.quarantine([Quarantined(operation=operation, problem=problem, since="then")])

        assert screen.lines[1] == "o1 create note a title=5 The title must be a string. (VALIDATION_ERROR) then"

    def test_tell_how_things_stand_and_where_to_look(self, screen: Screen) -> None:
        status = Status(
            LinkState.CATCHING_UP, NOW, pending=2, conflicts=1, link="events", last_synced_at=NOW, client_id="c1"
        )

        screen.tables.status(status, {"url": "ws://x", "store": "a.db", "matches": False})

        assert screen.lines[0] == "state catching up (events)"
        assert "client c1" in screen.lines
        assert "not sent yet 2" in screen.lines
        assert "conflicts 1 (see them: sync-client conflicts)" in screen.lines
        assert "as the server NO: the store differs" in screen.lines

    def test_show_progress_at_a_terminal_alone(self, screen: Screen) -> None:
        with screen.tables.progress() as told:
            told(1_000)
        screen.tables.deleted(Key("note", "a"), is_pending=True)

        assert screen.err.getvalue() == ""
        assert screen.lines == ["deleted note a (not sent yet)"]

"""The command line against a real server, as a shell would run it."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.harness import RunningServer, token_for

CLIENT = Path(__file__).parents[2]
BOUND_S = 30.0
"""The bound of every command: an interpreter starts slowly on a busy machine."""


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        assert self.status == 0, self
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Runs `sync-client` for a user, on a store each."""

    def __init__(self, directory: Path, url: str) -> None:
        self._directory = directory
        self.url = url

    async def __call__(self, *arguments: str, store: str = "a", **variables: str) -> Ended:
        process = await self._started(arguments, store, variables)
        async with asyncio.timeout(BOUND_S):
            out, err = await process.communicate()
        return Ended(process.returncode or 0, out.decode(), err.decode())

    @asynccontextmanager
    async def running(self, *arguments: str, store: str = "a") -> AsyncIterator[Process]:
        process = await self._started(arguments, store, {})
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def _started(self, arguments: tuple[str, ...], store: str, variables: dict[str, str]) -> Process:
        environment = {
            **os.environ, "PYTHONPATH": str(CLIENT), "SYNC_CLIENT_URL": self.url, "SYNC_CLIENT_TOKEN": token_for("1"),
            "SYNC_CLIENT_STORE": str(self._directory / f"{store}.db"), **variables,
        }  # fmt: skip
        code = "from sync_client.cli import main; main()"
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, *arguments, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )


@pytest.fixture
def shell(server: RunningServer, tmp_path: Path) -> Shell:
    return Shell(tmp_path, server.http_url)


@pytest.fixture
def lonely(tmp_path: Path) -> Shell:
    """A shell whose server is not there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Shell(tmp_path, f"ws://127.0.0.1:{free.getsockname()[1]}")


class TestWriting:
    async def test_is_confirmed_by_the_server_and_seen_elsewhere(self, shell: Shell) -> None:
        [written] = (await shell("put", "note", "--id", "a", "title=Milk")).lines
        [found] = (await shell("get", "note", "a", store="b")).lines

        assert (written["version"], written["is_pending"]) == (1, False)
        assert (found["data"], found["version"]) == ({"title": "Milk"}, 1)

    async def test_changes_what_only_the_server_had(self, shell: Shell) -> None:
        await shell("put", "note", "--id", "a", "title=Milk", "content=fresh")

        [changed] = (await shell("put", "note", "--id", "a", "title=Eggs", store="b")).lines

        assert changed["data"] == {"title": "Eggs", "content": "fresh"}

    async def test_deletes_what_only_the_server_had(self, shell: Shell) -> None:
        await shell("put", "note", "--id", "a", "title=Milk")

        [deleted] = (await shell("delete", "note", "a", store="b")).lines
        after = await shell("get", "note", "a", store="c")

        assert deleted == {"type": "note", "id": "a", "is_deleted": True, "is_pending": False}
        assert (after.status, after.err) == (1, "Error: there is no note a\n")

    async def test_that_was_done_offline_goes_up_with_the_next_command(
        self, shell: Shell, server: RunningServer
    ) -> None:
        [offline] = (await shell("--offline", "put", "note", "--id", "a", "title=Milk")).lines
        [status] = (await shell("status", "--verify")).lines
        [found] = (await shell("get", "note", "a", store="b")).lines

        assert offline["is_pending"]
        assert (status["state"], status["pending"], status["matches"]) == ("live", 0, True)
        await server.services.clients.flush()
        assert await server.services.feed.read(lambda reader: reader.clients_named(status["client_id"], limit=1))
        assert found["data"] == {"title": "Milk"}


class TestRefusal:
    async def test_is_shown_with_the_reason_and_mended(self, shell: Shell) -> None:
        refused = await shell("put", "note", "--id", "a", "title=5")
        [waiting] = (await shell("quarantine")).lines
        operation_id = waiting["operation"]["operation_id"]

        assert (refused.status, refused.out, refused.err.count("\n")) == (1, "", 1)
        assert "The field data.title must be a string (VALIDATION_ERROR)" in refused.err
        assert f"`sync-client quarantine retry {operation_id} field=value`" in refused.err

        [mended] = (await shell("quarantine", "retry", operation_id, 'title="5"')).lines

        assert (mended["data"], mended["version"]) == ({"title": "5"}, 1)
        assert (await shell("quarantine")).lines == []

    async def test_of_one_write_is_not_told_of_the_next(self, shell: Shell) -> None:
        await shell("--offline", "put", "note", "--id", "a", "title=Milk")
        await shell("--offline", "put", "note", "--id", "a", "title=5")

        [written] = (await shell("put", "note", "--id", "a", "content=fresh")).lines

        assert written["data"] == {"title": "Milk", "content": "fresh"}
        assert len((await shell("quarantine")).lines) == 1

    async def test_can_be_dropped(self, shell: Shell) -> None:
        await shell("put", "nothing-known", "title=5")
        [waiting] = (await shell("quarantine")).lines

        dropped = await shell("quarantine", "drop", waiting["operation"]["operation_id"])

        assert (dropped.status, dropped.err) == (0, "")
        assert (await shell("quarantine")).lines == []


class TestConflict:
    @pytest.mark.parametrize(
        ("how", "title"),
        [(["keep-mine"], "Mine"), (["keep-theirs"], "Theirs"), (["merge", "title=Both"], "Both")],
    )
    async def test_is_shown_and_settled(self, shell: Shell, how: list[str], title: str) -> None:
        await shell("put", "note", "--id", "a", "title=Base")
        await shell("--offline", "put", "note", "--id", "a", "title=Mine", "--on-conflict", "manual")
        await shell("put", "note", "--id", "a", "title=Theirs", store="b")

        await shell("get", "note")
        [conflict] = (await shell("conflicts")).lines
        [shown] = (await shell("conflicts", "show", conflict["conflict_id"])).lines
        [settled] = (await shell("conflicts", how[0], conflict["conflict_id"], *how[1:])).lines

        assert shown == conflict
        assert (shown["mine"]["data"]["title"], shown["theirs"]["data"]["title"]) == ("Mine", "Theirs")
        assert settled["data"] == {"title": title}
        assert (await shell("conflicts")).lines == []
        assert (await shell("get", "note", "a", store="b")).lines[0]["data"] == {"title": title}

    async def test_is_told_to_who_wrote(self, shell: Shell) -> None:
        await shell("put", "note", "--id", "a", "title=Base")
        await shell("put", "note", "--id", "a", "title=Theirs", store="b")

        told = await shell("put", "note", "--id", "a", "title=Mine", "--on-conflict", "manual")

        assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)
        assert told.err.startswith("Error: someone else changed the same (title): see both sides with `sync-client ")


class TestWithoutServer:
    async def test_a_write_is_kept_and_said_to_be_unsent(self, lonely: Shell) -> None:
        written = await lonely("put", "note", "--id", "a", "title=Milk", "--timeout", "0.5")
        found = await lonely("get", "note", "--timeout", "0.5")
        status = await lonely("status")

        assert (written.status, found.status, status.status) == (3, 3, 3)
        assert json.loads(written.out)["is_pending"]
        assert written.err.startswith("Note: written locally, not sent yet: the server cannot be reached")
        assert json.loads(found.out)["id"] == "a"
        assert found.err.startswith("Note: this is what the local store has, which may be old: the server cannot be")
        assert (json.loads(status.out)["pending"], json.loads(status.out)["state"]) == (1, "offline")

    async def test_a_token_that_is_refused_is_an_error_and_loses_nothing(self, shell: Shell) -> None:
        refused = await shell("put", "note", "--id", "a", "title=Milk", SYNC_CLIENT_TOKEN="no-such-token")
        [status] = (await shell("status")).lines

        assert (refused.status, refused.err.count("\n")) == (1, 1)
        assert refused.err.startswith("Error: written locally, not sent yet: The token is invalid;")
        assert "no-such-token" not in refused.out + refused.err
        assert status["pending"] == 0

    async def test_another_users_token_is_refused(self, shell: Shell) -> None:
        await shell("status")

        other = await shell("get", "note", SYNC_CLIENT_TOKEN=token_for("2"))

        assert other.status == 1
        assert "this store belongs to user 1" in other.err

    async def test_the_token_may_come_from_a_file(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(f"{token_for('1')}\n")

        found = await shell("get", "note", "--token-file", str(tmp_path / "token"), SYNC_CLIENT_TOKEN="no-such-token")

        assert found.lines == []


class TestWatch:
    async def test_tells_what_is_there_and_what_comes_until_it_is_interrupted(self, shell: Shell) -> None:
        await shell("put", "note", "--id", "a", "title=Milk")

        async with shell.running("watch", "note", "--existing", store="b") as watching, asyncio.timeout(BOUND_S):
            assert watching.stdout is not None
            there = json.loads(await watching.stdout.readline())
            await shell("put", "note", "--id", "b", "title=Eggs")
            came = json.loads(await watching.stdout.readline())
            watching.send_signal(signal.SIGINT)
            rest, err = await watching.communicate()

        assert (there["kind"], there["id"], came["kind"], came["id"]) == ("created", "a", "created", "b")
        assert came["entity"]["data"] == {"title": "Eggs"}
        assert (watching.returncode, rest, err) == (130, b"", b"")

    async def test_ends_when_the_server_wants_no_more_of_it(self, shell: Shell) -> None:
        ended = await shell("watch", SYNC_CLIENT_TOKEN="no-such-token")

        assert (ended.status, ended.err) == (1, "Error: The token is invalid\n")

    async def test_lends_its_connection_to_other_commands_on_the_store(self, shell: Shell) -> None:
        await shell("put", "note", "--id", "a", "title=Milk")

        async with shell.running("watch", "note", "--existing") as watching, asyncio.timeout(BOUND_S):
            assert watching.stdout is not None
            await watching.stdout.readline()
            [written] = (await shell("put", "note", "--id", "b", "title=Eggs")).lines
            compared = await shell("status", "--verify")

        assert (written["version"], written["is_pending"]) == (1, False)
        assert compared.err == "Note: another process holds the connection of this store: end it, then compare\n"

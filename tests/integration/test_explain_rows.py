"""Why a device has or lacks a row: each reason, over a real database."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sync_server import cli
from sync_server.clock import new_epoch
from sync_server.orders import Committed
from sync_server.types import ClientId, UserId
from tests.harness import Client, Message, RunningServer, create, delete, running_server, update
from tests.integration.rest_client import eventually
from tests.integration.test_promise_delivery import TEAM, in_team, wait_for_seq

Explain = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    def invoke(*arguments: str) -> Result:
        command = ["explain", "entity", *arguments, "--data-dir", str(tmp_path / "data")]
        return CliRunner().invoke(cli.commands, command)

    return invoke


@pytest.fixture
def explain(server: RunningServer, run: Callable[..., Result]) -> Explain:
    """The explanation of note n for user 1's phone, once what the server remembers of clients is written."""

    async def answer(entity_id: str = "n", *, client_id: str = "phone", user: str = "1") -> Message:
        await server.services.clients.flush()
        result = run("note", entity_id, "--client", client_id, "--user", user, "--json")
        assert result.exit_code == 0, result.output
        view: Message = json.loads(result.stdout)
        return view

    return answer


@asynccontextmanager
async def phone(server: RunningServer, **greeting: Any) -> AsyncIterator[Client]:
    """User 1's phone; after the block its server side is gone as well."""
    async with server.client("1", "phone", **greeting) as client:
        yield client
    await gone(server)


async def gone(server: RunningServer) -> None:
    async def question() -> bool | None:
        await asyncio.sleep(0)
        return None if server.services.connections.is_registered(UserId("1"), ClientId("phone")) else True

    await eventually(question)


async def shared(server: RunningServer, editor: Client) -> None:
    """A team of user 2, an editor, and user 1, a viewer, with a note of version 1."""
    await server.share(TEAM, _1="viewer", _2="editor")
    await editor.do(in_team(create("c", entity_id="n", title="x")))


async def at(server: RunningServer, work: Callable[[Any], Any]) -> None:
    await server.services.committer.perform(lambda writer, _: (work(writer), Committed()))


def ending(view: Message) -> tuple[str, str, str]:
    return view["findings"][-1]["about"], view["findings"][-1]["state"], view["answer"]


class TestADeviceThatWasTold:
    async def test_by_a_sync_has_the_version(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            async with server.http("1") as http:
                await http.post("/api/sync/sync", json={"client_id": "phone"})
            view = await explain()
        assert ending(view) == ("cursor", "ok", "told")
        assert (view["version"], view["user_id"]) == (1, 1)
        assert "its last sync response" in view["findings"][3]["text"]

    async def test_by_a_push_has_the_version_once_it_left(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            async with phone(server) as device:
                open_still = await explain()
                await editor.do(update("u", "n", 1, title="y"))
                await wait_for_seq(device, server.services.feed.head.head_seq)
            view = await explain()
        assert ending(open_still) == ("position", "not known", "not known")
        assert ending(view) == ("cursor", "ok", "told")
        assert view["version"] == 2

    async def test_an_older_version_hears_of_the_rest_later(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            async with phone(server) as device:
                await device.sync(incremental=False)
            await editor.do(update("u1", "n", 1, title="y"))
            await editor.do(update("u2", "n", 2, title="z"))
            view = await explain()
        assert ending(view) == ("cursor", "stops here", "told an older version")
        assert view["version"] == 1
        assert "version 3 comes when it next connects" in view["explanation"]

    async def test_of_its_own_write_has_it(self, server: RunningServer, explain: Explain) -> None:
        async with server.http("1") as http:
            operation = create("c", entity_id="n", title="x")
            await http.post("/api/sync/sync", json={"client_id": "phone", "operations": [operation]})
            await http.post(
                "/api/sync/sync", json={"client_id": "phone", "operations": [update("u", "n", 1, title="y")]}
            )
            view = await explain()
        assert ending(view) == ("cursor", "ok", "told")
        assert "made the last change itself" in view["findings"][-1]["text"]


class TestARowThatIsNotTold:
    async def test_because_there_is_none(self, server: RunningServer, explain: Explain) -> None:
        async with phone(server):
            pass
        assert ending(await explain("nothing")) == ("entity", "stops here", "is not told")

    async def test_because_it_is_deleted(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            await editor.do(delete("d", "n", 1))
            async with phone(server) as device:
                await device.sync(incremental=False)
            view = await explain()
        assert ending(view) == ("cursor", "ok", "is not told")
        assert "is deleted since version 2" in view["findings"][0]["text"]
        assert "by user 2, in space s-team" in view["findings"][0]["text"]

    async def test_because_its_user_never_came(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            assert ending(await explain(user="9")) == ("user", "stops here", "is not told")

    async def test_because_its_user_never_had_a_role(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor, phone(server):
            await editor.do(create("c", entity_id="n", title="x"))
            view = await explain()
        assert ending(view) == ("role", "stops here", "is not told")
        assert view["remedy"] == "An owner grants a role: PUT /api/sync/spaces/u-2/members/1."

    async def test_because_the_role_was_revoked(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            async with phone(server) as device:
                await device.sync(incremental=False)
            await server.share(TEAM, _1=None)
            behind = await explain()
            async with phone(server) as device:
                await device.sync()
            view = await explain()
        assert ending(view) == ending(behind) == ("role", "stops here", "is not told")
        assert "was revoked by user 1 at " in view["findings"][-1]["text"]
        assert "may still show what it had" in behind["explanation"]
        assert "was told to drop" in view["explanation"]

    @pytest.mark.parametrize("narrow", [{"spaces": ["u-1"]}, {"entity_types": ["folder"]}])
    async def test_because_the_handshake_did_not_ask_for_it(
        self, server: RunningServer, explain: Explain, narrow: Message
    ) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            async with phone(server, subscriptions=narrow):
                pass
            view = await explain()
        assert ending(view) == ("filter", "stops here", "is not told")

    async def test_because_its_subscription_was_narrowed_later(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            async with phone(server) as device:
                await device.send(type="subscribe", message_id="s", entity_types=["folder"])
                await device.next("subscribed")
                meanwhile = await explain()
            view = await explain()
        assert ending(view) == ending(meanwhile) == ("filter", "stops here", "is not told")
        assert "entity types alone: folder; note is not one of them" in view["findings"][-1]["text"]

    async def test_because_the_sync_did_not_ask_for_it(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor, server.http("1") as http:
            await shared(server, editor)
            await http.post("/api/sync/sync", json={"client_id": "phone", "entity_types": ["folder"]})
            view = await explain()
        assert ending(view) == ("filter", "stops here", "is not told")


class TestARowThatComes:
    async def test_when_the_client_next_connects(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor, phone(server) as device:
            await server.share(TEAM, _1="viewer", _2="editor")
            await device.next("caught_up")
        async with server.client("2") as editor:
            await editor.do(in_team(create("c", entity_id="n", title="x")))
            view = await explain()
        assert ending(view) == ("cursor", "stops here", "will be told")
        assert "with the changes after its cursor" in view["explanation"]

    async def test_with_the_grant(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor:
            await server.share(TEAM, _2="editor")
            await editor.do(in_team(create("c", entity_id="n", title="x")))
            async with phone(server) as device:
                await device.sync(incremental=False)
            await server.share(TEAM, _1="viewer")
            view = await explain()
        assert ending(view) == ("grant", "stops here", "will be told")

    async def test_with_a_reset_below_the_horizon(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            async with phone(server) as device:
                await device.sync(incremental=False)
            await editor.do(update("u", "n", 1, title="y"))
            await at(server, lambda writer: writer.trim_changes(until=writer.head().head_seq, limit=99))
            view = await explain()
        assert ending(view) == ("log", "stops here", "will be told")
        assert "below the horizon" in view["findings"][-1]["text"]

    async def test_with_a_reset_into_another_epoch(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            async with phone(server) as device:
                await device.sync(incremental=False)
            await at(server, lambda writer: writer.start_epoch(new_epoch()))
            view = await explain()
        assert ending(view) == ("log", "stops here", "will be told")
        assert "another epoch" in view["findings"][-1]["text"]

    async def test_with_the_rest_of_a_snapshot(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor, server.http("1") as http:
            await server.share(TEAM, _1="viewer", _2="editor")
            await editor.sync(*(in_team(create(f"c{index}", entity_id=f"n{index}")) for index in range(3)))
            await http.post("/api/sync/sync", json={"client_id": "phone", "batch_size": 1})
            told, later = await explain("n0"), await explain("n2")
        assert ending(told) == ("cursor", "ok", "told")
        assert ending(later) == ("cursor", "stops here", "will be told")
        assert "rest of the snapshot" in later["explanation"]


class TestWhatIsNotKnown:
    async def test_is_said_of_a_client_that_nobody_knows(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor, server.http("1") as http:
            await shared(server, editor)
            await http.get("/api/sync/changes", params={"client_id": "poller"})
            view = await explain(client_id="poller")
        assert ending(view) == ("client", "not known", "not known")
        assert "leave no trace" in view["findings"][-1]["text"]

    async def test_is_said_of_what_was_before_a_connection_without_a_cursor(
        self, server: RunningServer, explain: Explain
    ) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            async with phone(server):
                pass
            unsure = await explain()
            async with phone(server, subscriptions={"incremental": False}) as device:
                await device.next("caught_up")
            sure = await explain()
        assert ending(unsure) == ("cursor", "not known", "not known")
        assert ending(sure) == ("cursor", "ok", "told")


class TestAConnectionThatResumes:
    @pytest.mark.parametrize("by", ["handshake", "subscribe"])
    async def test_had_what_its_cursor_covers(self, server: RunningServer, explain: Explain, by: str) -> None:
        async with server.client("2") as editor, server.http("1") as http:
            await shared(server, editor)
            cursor = (await http.get("/api/sync/changes")).json()["data"]["cursor"]
            async with phone(server, **({"cursor": cursor} if by == "handshake" else {})) as device:
                if by == "subscribe":
                    await device.send(type="subscribe", message_id="s", cursor=cursor)
                await device.next("caught_up")
            view = await explain()
        assert ending(view) == ("cursor", "ok", "told")


class TestAConnectionThatTookThePlaceOfAnother:
    async def test_is_the_one_that_counts(self, server: RunningServer, explain: Explain) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            async with (
                server.client("1", "phone", subscriptions={"entity_types": ["folder"]}) as older,
                phone(server, subscriptions={"incremental": False}) as newer,
            ):
                assert await older.close_code() == 4505
                await newer.next("caught_up")
                record = await server.services.clients.record(UserId("1"), ClientId("phone"))
                assert record is not None
                assert record.followed is not None
                assert (record.followed.wanted.entity_types, record.followed.closed_at) == (None, None)
            assert ending(await explain()) == ("cursor", "ok", "told")


class TestTheCommand:
    async def test_finds_the_user_of_a_client(self, server: RunningServer, run: Callable[..., Result]) -> None:
        async with server.client("2") as editor:
            await shared(server, editor)
            async with phone(server) as device:
                await device.sync(incremental=False)
        await server.services.clients.flush()
        shown = run("note", "n", "--client", "phone").stdout
        assert shown.startswith("The device was told it, as of version 1.\n\n  ok  note n is at version 1 (seq 3), ")
        assert "GET\n/api/sync/spaces/s-team/checksum" in shown

    async def test_works_without_the_server(self, tmp_path: Path, run: Callable[..., Result]) -> None:
        async with running_server(tmp_path / "data") as server, phone(server) as device:
            await device.do(create("c", entity_id="n", title="x"))
        assert "User 1 is owner of space u-1 since the beginning." in run("note", "n", "--client", "phone").stdout

    async def test_asks_for_the_user_where_several_have_such_a_client(
        self, server: RunningServer, run: Callable[..., Result]
    ) -> None:
        async with server.client("1", "phone"), server.client("2", "phone"):
            await server.services.clients.flush()
        unclear = run("note", "n", "--client", "phone")
        assert (unclear.exit_code, unclear.stdout) == (1, "")
        assert unclear.stderr == "Error: several users have a client 'phone': 1, 2; name one with --user\n"

    async def test_says_in_one_line_that_a_client_is_not_known(
        self, server: RunningServer, run: Callable[..., Result]
    ) -> None:
        unknown = run("note", "n", "--client", "none")
        assert (unknown.exit_code, unknown.stdout) == (1, "")
        assert unknown.stderr.startswith("Error: no client 'none' is known: check the id, or name its user with --user")
        assert unknown.stderr.count("\n") == 1

    def test_needs_a_database(self, run: Callable[..., Result]) -> None:
        missing = run("note", "n", "--client", "phone")
        assert (missing.exit_code, missing.stdout) == (2, "")
        assert missing.stderr.startswith("Error: there is no database ")
        assert missing.stderr.count("\n") == 1

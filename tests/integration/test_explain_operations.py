"""Why an operation ended as it did: over REST for its author, on the command line for who runs the server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sync_server import cli
from sync_server.explanations import operations
from sync_server.orders import Committed
from tests.harness import Client, Message, RunningServer, create, delete, update
from tests.integration.test_promise_delivery import TEAM, in_team


@pytest.fixture
def explain(tmp_path: Path) -> Callable[..., Result]:
    """The command line on the database of the running server."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli.commands, ["explain", *arguments, "--data-dir", str(tmp_path / "data")])

    return invoke


async def told(server: RunningServer, operation_id: str, user: str = "1", **query: str) -> Message:
    async with server.http(user) as http:
        reply = await http.get(f"/api/sync/operations/{operation_id}", params=query)
    body = reply.json()
    assert reply.is_success, body
    data: Message = body["data"]
    return data


def fates(view: Message) -> dict[str, str]:
    return {field["field_name"]: field["fate"] for field in view["fields"]}


async def clash(server: RunningServer, one: Client, two: Client, mine: Message, **request: Any) -> Message:
    """User 2's phone writes title and content on version 1; then mine is sent."""
    await server.share(TEAM, _1="owner", _2="editor")
    await one.do(in_team(create("base", entity_id="n", title="base", content="one\ntwo\n", tags=["a"])))
    await two.do(update("theirs", "n", 1, title="theirs", content="ONE\ntwo\n", tags=["a", "b"]))
    return await one.do(mine, **request)


async def trim(server: RunningServer) -> None:
    def work(writer: Any, _now: Any) -> tuple[None, Committed]:
        writer.trim_changes(until=writer.head().head_seq, limit=1_000)
        return None, Committed()

    await server.services.committer.perform(work)


class TestAnAppliedOperation:
    async def test_on_its_base_says_that_nobody_came_between(self, server: RunningServer) -> None:
        async with server.client() as client:
            await client.do(create("op_1", entity_id="n", title="x", content="text"))
            await client.do(update("op_2", "n", 1, title="y"))
        made, changed = await told(server, "op_1"), await told(server, "op_2")
        assert made["explanation"].endswith("because there was no such entity before.")
        assert made["base"] == {"version": 0, "met_version": 0, "since": [], "more": 0, "trimmed": 0}
        assert changed["explanation"].endswith("because nobody had changed it since its base, version 1.")
        assert changed["base"]["version"] == changed["base"]["met_version"] == 1
        assert changed["strategy"] is None
        assert changed["fields"] == [
            {"field_name": "title", "fate": "taken", "rule": "same_version", "against": None, "base": "x", "met": "x",
             "sent": "y", "stored": "y"},
        ]  # fmt: skip

    async def test_without_a_base_says_so(self, server: RunningServer) -> None:
        async with server.client() as client:
            await client.do(create("op_1", entity_id="n", title="x"))
            await client.do(update("op_2", "n", None, title="y"))
        view = await told(server, "op_2")
        assert view["base"]["version"] is None
        assert "named no base version" in view["explanation"]

    async def test_that_changed_nothing_says_which_fields_were_so_already(self, server: RunningServer) -> None:
        async with server.client() as client:
            await client.do(create("op_1", entity_id="n", title="x"))
            await client.do(update("op_2", "n", 1, title="x"))
        view = await told(server, "op_2")
        assert fates(view) == {"title": "equal"}
        assert view["explanation"] == "The update of note n changed nothing, because what it asks for was so already."

    async def test_that_sent_its_base_does_not_say_that_it_was_so_already(self, server: RunningServer) -> None:
        async with server.client() as one, server.client("2", "phone") as two:
            result = await clash(server, one, two, update("mine", "n", 1, title="base"))
        assert result["verdict"] == "applied"
        view = await told(server, "mine")
        assert fates(view) == {"title": "unknown"}
        assert view["explanation"].endswith("what it sent was there already, or is what its client had before.")

    async def test_that_sends_again_what_its_client_lost_is_not_called_merged(self, server: RunningServer) -> None:
        async with server.client() as one, server.client("2", "phone") as two:
            await clash(server, one, two, update("mine", "n", 1, title="base", is_pinned=True))
            await one.do(update("again", "n", 2, title="base", is_pinned=False))
        assert fates(await told(server, "again")) == {"title": "unknown", "is_pinned": "taken"}

    async def test_of_an_offline_queue_names_its_own_client(self, server: RunningServer) -> None:
        async with server.client() as client:
            await client.do(create("op_1", entity_id="n", title="x"))
            await client.sync(update("op_2", "n", 1, title="y"), update("op_3", "n", 1, title="z"))
        view = await told(server, "op_3")
        (since,) = view["base"]["since"]
        assert (since["operation_id"], since["own"]) == ("op_2", True)
        assert "its own client's writes" in view["explanation"]


class TestAMergedOperation:
    async def test_tells_each_field_and_who_came_between(self, server: RunningServer) -> None:
        mine = update(
            "mine", "n", 1, title="mine", content="one\nTWO\n", tags=["a"], is_pinned=True
        )  # fmt: skip
        async with server.client() as one, server.client("2", "phone") as two:
            result = await clash(server, one, two, mine, default_resolution_strategy="server_wins")
        view = await told(server, "mine")
        assert (view["verdict"], view["rule"], view["version"]) == ("merged", "server_wins", 3)
        assert fates(view) == {"title": "lost", "content": "merged", "tags": "unchanged", "is_pinned": "taken"}
        assert view["strategy"] == {"name": "server_wins", "source": "request"}
        assert (view["base"]["version"], view["base"]["met_version"]) == (1, 2)
        (since,) = view["base"]["since"]
        assert since == {
            "version": 2, "seq": since["seq"], "operation_type": "update", "user_id": 2, "client_id": "phone",
            "operation_id": "theirs", "fields": ["title", "content", "tags"], "rule": "same_version",
            "modified_at": since["modified_at"], "own": False,
        }  # fmt: skip
        lost, merged = view["fields"][0], view["fields"][1]
        assert lost["against"] == since
        assert [lost[name] for name in ("base", "met", "sent", "stored")] == ["base", "theirs", "mine", "theirs"]
        assert [merged[name] for name in ("base", "met", "sent", "stored")] == [
            "one\ntwo\n", "ONE\ntwo\n", "one\nTWO\n", "ONE\nTWO\n",
        ]  # fmt: skip
        assert [one["conflict_id"] for one in view["conflicts"]] == [result["conflict_id"]]
        assert view["explanation"] == (
            "The update of note n was merged as version 3, because user 2 (phone) changed title too since its base, "
            "version 1, and server_wins (named by its request) keeps what was there; its title lost and its content "
            "was merged."
        )

    async def test_of_other_fields_needs_no_strategy_to_be_explained(self, server: RunningServer) -> None:
        async with server.client() as one, server.client("2", "phone") as two:
            await clash(server, one, two, update("mine", "n", 1, is_pinned=True, title="theirs"))
        view = await told(server, "mine")
        assert fates(view) == {"is_pinned": "taken", "title": "equal"}
        assert view["strategy"] == {"name": "latest_wins", "source": "type"}
        assert "user 2 (phone) changed other fields only" in view["explanation"]

    async def test_meets_all_its_conflicts(self, server: RunningServer) -> None:
        async with server.client() as one, server.client("2", "phone") as two:
            await server.share(TEAM, _1="owner", _2="editor")
            await one.do(in_team(create("base", entity_id="n", title="base")))
            await two.do(update("theirs", "n", 1, title="theirs", book_id="their-book"))
            mine = update("mine", "n", 1, title="mine", book_id="my-book")
            await one.do({**mine, "resolution_strategy": "server_wins"})
        view = await told(server, "mine")
        assert sorted(one["rule"] for one in view["conflicts"]) == ["last_writer", "server_wins"]
        assert view["conflicts"][0]["conflict_id"] == view["conflict_id"]

    async def test_with_a_repair_says_which(self, server: RunningServer) -> None:
        async with server.client() as client:
            await client.do(create("op_1", "folder", name="Same"))
            await client.do(create("op_2", "folder", name="Same"))
        view = await told(server, "op_2")
        assert fates(view) == {"name": "repaired"}
        assert "another entity has the value of name already" in view["explanation"]


class TestASupersededOperation:
    async def test_tells_to_whom_it_lost(self, server: RunningServer) -> None:
        mine = {**update("mine", "n", 1, title="mine"), "resolution_strategy": "server_wins"}
        async with server.client() as one, server.client("2", "phone") as two:
            await clash(server, one, two, mine)
        view = await told(server, "mine")
        assert (view["verdict"], fates(view)) == ("superseded", {"title": "lost"})
        assert view["fields"][0]["against"]["operation_id"] == "theirs"
        assert view["strategy"] == {"name": "server_wins", "source": "operation"}

    async def test_that_is_held_in_theirs_already_is_merged(self, server: RunningServer) -> None:
        async with server.client() as one, server.client("2", "phone") as two:
            await server.share(TEAM, _1="owner", _2="editor")
            await one.do(in_team(create("base", entity_id="n", tags=["a"])))
            await two.do(update("theirs", "n", 1, tags=["a", "b", "c"]))
            await one.do(update("mine", "n", 1, tags=["a", "b"]))
        view = await told(server, "mine")
        assert (view["verdict"], fates(view), view["conflicts"]) == ("superseded", {"tags": "merged"}, [])

    async def test_delete_says_whose_edit_won(self, server: RunningServer) -> None:
        async with server.client() as one, server.client("2", "phone") as two:
            await clash(server, one, two, delete("mine", "n", 1))
        view = await told(server, "mine")
        assert view["fields"] == []
        assert "user 2 (phone) had edited title, content and tags since its base" in view["explanation"]


class TestAParkedOperation:
    async def test_says_what_it_waits_for_and_then_who_settled_it(self, server: RunningServer) -> None:
        mine = {**update("mine", "n", 1, title="mine", is_pinned=True), "resolution_strategy": "manual"}
        async with server.client() as one, server.client("2", "phone") as two:
            conflict_id = (await clash(server, one, two, mine))["conflict_id"]
            waiting = await told(server, "mine")
            await two.do({
                "operation_id": "settle", "operation_type": "resolve", "conflict_id": conflict_id,
                "strategy": "client_wins",
            })  # fmt: skip
        settled, resolution = await told(server, "mine"), await told(server, "settle", "2")
        assert fates(waiting) == {"title": "parked", "is_pinned": "parked"}
        assert f"waits whole in conflict {conflict_id} until somebody resolves it" in waiting["explanation"]
        assert f"conflict {conflict_id}, which was settled by user 2 with client_wins" in settled["explanation"]
        assert settled["conflicts"][0]["status"] == "resolved"
        assert resolution["explanation"].startswith("The resolution of note n was applied as version 3")
        assert resolution["strategy"] == {"name": "client_wins", "source": "operation"}
        assert fates(resolution) == {"title": "taken", "is_pinned": "taken"}


class TestARejectedOperation:
    async def test_says_the_error_and_nothing_of_the_entity(
        self, server: RunningServer, explain: Callable[..., Result]
    ) -> None:
        async with server.client() as one, server.client("2", "phone") as two:
            await two.do(create("theirs", entity_id="secret", title="x"))
            await one.do(update("there", "secret", 1, title="y"))
            await one.do(update("nowhere", "none", 1, title="y"))
        there, nowhere = await told(server, "there"), await told(server, "nowhere")
        for view, entity_id in ((there, "secret"), (nowhere, "none")):
            assert view["explanation"] == (
                f"The update of note {entity_id} was rejected, and nothing of it is stored: There is no such entity."
            )
            assert view["base"] == {"version": 1, "met_version": None, "since": [], "more": 0, "trimmed": 0}
            assert (view["fields"], view["conflicts"], view["withheld"]) == ([], [], False)
            assert "u-2" not in explain("op", view["operation_id"]).stdout


class TestAResend:
    async def test_changes_no_explanation(self, server: RunningServer) -> None:
        mine = {**update("mine", "n", 1, title="mine"), "resolution_strategy": "server_wins"}
        async with server.client() as one, server.client("2", "phone") as two:
            await clash(server, one, two, mine)
            first = await told(server, "mine")
            await two.do(update("later", "n", 2, title="later still"))
            assert (await one.do(mine))["duplicate"]
        assert await told(server, "mine") == first


class TestALongHistory:
    async def test_is_told_by_its_newest_versions(self, server: RunningServer) -> None:
        count = operations.MAX_SHOWN + 5
        async with server.client() as one, server.client("2", "phone") as two:
            await server.share(TEAM, _1="owner", _2="editor")
            await one.do(in_team(create("base", entity_id="n", title="base")))
            await two.sync(*(update(f"op_{n}", "n", n, title=str(n)) for n in range(1, count + 1)))
            await one.do(update("mine", "n", 1, is_pinned=True))
        base = (await told(server, "mine"))["base"]
        assert [one["version"] for one in base["since"]] == list(range(count + 1, 6, -1))
        assert (base["more"], base["trimmed"]) == (5, 0)

    async def test_that_is_trimmed_says_so(self, server: RunningServer) -> None:
        async with server.client() as one, server.client("2", "phone") as two:
            await clash(server, one, two, update("mine", "n", 1, is_pinned=True))
            await trim(server)
            await one.do(update("late", "n", 1, title="late"))
        gone, late = await told(server, "mine"), await told(server, "late")
        assert gone["base"] == {"version": 1, "met_version": 2, "since": [], "more": 0, "trimmed": 1}
        assert fates(gone) == {"is_pinned": "unknown"}
        assert late["base"]["trimmed"] == 2


class TestAnIdThatIsTakenAgain:
    async def test_has_another_history(self, server: RunningServer, explain: Callable[..., Result]) -> None:
        mine = {**update("mine", "n", 1, title="mine"), "resolution_strategy": "server_wins"}
        async with server.client() as one, server.client("1", "tablet") as tablet, server.client("2", "phone") as two:
            await one.do(create("base", entity_id="n", title="base"))
            await tablet.do(update("first", "n", 1, title="first"))
            assert (await one.do(mine))["verdict"] == "superseded"
            await one.do(delete("gone", "n", 2))
            await trim(server)
            await two.do(create("anew", entity_id="n", title="secret"))
            await two.do(update("again", "n", 1, title="secret too"))
        view = await told(server, "mine")
        assert (view["base"]["since"], view["base"]["trimmed"]) == ([], 1)
        assert fates(view) == {"title": "lost"}
        assert "secret" not in json.dumps(view)
        assert "secret" not in explain("op", "mine").stdout


class TestWhoLostTheSpace:
    async def test_is_told_nothing_that_others_wrote(self, server: RunningServer) -> None:
        mine = {**update("mine", "n", 1, title="mine"), "resolution_strategy": "server_wins"}
        async with server.client("2", "phone") as two, server.client() as one:
            await clash(server, one, two, mine)
        await server.share(TEAM, _1=None)
        view = await told(server, "mine")
        assert (view["verdict"], view["withheld"]) == ("superseded", True)
        assert (view["base"]["since"], view["fields"], view["conflicts"]) == ([], [], [])
        assert "theirs" not in json.dumps(view)
        assert "user 2" not in json.dumps(view)
        assert "no longer reads the space" in view["explanation"]


class TestTheCommandLine:
    async def test_says_the_same_as_rest(self, server: RunningServer, explain: Callable[..., Result]) -> None:
        mine = {**update("mine", "n", 1, title="mine"), "resolution_strategy": "server_wins"}
        async with server.client() as one, server.client("2", "phone") as two:
            await clash(server, one, two, mine)
        assert json.loads(explain("op", "mine", "--json").stdout) == await told(server, "mine")

    async def test_says_all_of_it_also_to_who_lost_the_space(
        self, server: RunningServer, explain: Callable[..., Result]
    ) -> None:
        async with server.client("2", "phone") as two, server.client() as one:
            await clash(server, one, two, update("mine", "n", 1, title="mine"))
        await server.share(TEAM, _1=None)
        assert "user 2 (phone)" in explain("op", "mine").stdout

    async def test_fits_the_terminal(
        self, server: RunningServer, explain: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "60")
        async with server.client() as one, server.client("2", "phone") as two:
            await clash(server, one, two, update("mine", "n", 1, title="m" * 500, content="x"))
        shown = explain("op", "mine").stdout
        assert max(len(line) for line in shown.splitlines() if "m" * 20 not in line) <= 60
        assert "m" * 100 not in shown
        assert shown.startswith("The update of note n was ")
        assert "\nSince its base, newest first\n  version 2  update of title, content, tags by user 2\n" in shown

    async def test_asks_for_the_client_where_several_used_the_id(
        self, server: RunningServer, explain: Callable[..., Result]
    ) -> None:
        async with server.client() as one, server.client("2", "phone") as two:
            await one.do(create("same", title="x"))
            await two.do(create("same", title="y"))
        unclear = explain("op", "same")
        assert (unclear.exit_code, unclear.stdout) == (1, "")
        assert unclear.stderr == (
            "Error: several clients used the id 'same': user 1 client client_a, user 2 client phone; name one with "
            "--user and --client\n"
        )
        for option in (("--user", "2"), ("--client", "phone")):
            assert "user 2, client phone" in explain("op", "same", *option).stdout

    async def test_says_in_one_line_that_nothing_is_known(
        self, server: RunningServer, explain: Callable[..., Result]
    ) -> None:
        unknown = explain("op", "none", "--client", "x")
        assert (unknown.exit_code, unknown.stdout) == (1, "")
        assert unknown.stderr == (
            "Error: no verdict on an operation 'none' of client x is stored: check the id; one that is trimmed, was "
            "never received or still waits has none\n"
        )

"""Presence: who follows a space knows who is there."""

from pathlib import Path

from tests.harness import RunningServer, running_server

HOME = {"space_id": "u-1", "state": {"at": "home"}}


class TestWhoFollows:
    async def test_is_told_who_is_there(self, server: RunningServer) -> None:
        async with server.client(client_id="a") as present:
            await present.send(type="presence", **HOME)
            await present.next("presence_state")
            async with server.client(client_id="b") as newcomer:
                told = await newcomer.next("presence_state")
        assert [entry["client_id"] for entry in told["presences"]] == ["a"]

    async def test_is_told_nothing_of_a_space_where_nobody_is(self, server: RunningServer) -> None:
        async with server.client(client_id="a") as client:
            await client.nothing("presence_state")

    async def test_is_told_after_catching_up_too(self, server: RunningServer) -> None:
        async with server.client(client_id="a") as present:
            await present.send(type="presence", **HOME)
            await present.next("presence_state")
            async with server.client(client_id="b", subscriptions={"incremental": False}) as newcomer:
                told = await newcomer.next("presence_state")
                await newcomer.nothing("presence_state")
        assert told["space_id"] == "u-1"

    async def test_is_told_of_a_space_that_was_granted(self, server: RunningServer) -> None:
        async with server.client("2", client_id="b") as guest, server.client(client_id="a") as owner:
            await owner.send(type="presence", **HOME)
            await owner.next("presence_state")
            await server.share("u-1", _2="viewer")
            assert (await guest.next("presence_state"))["space_id"] == "u-1"


class TestWhoFollowsNoMore:
    async def test_has_left_the_space(self, server: RunningServer) -> None:
        await server.share("team", _1="owner")
        async with server.client(client_id="a") as present, server.client(client_id="b") as other:
            await present.send(type="presence", **HOME)
            await other.next("presence_diff")
            await present.send(type="subscribe", message_id="s", spaces=["team"])
            await present.next("subscribed")
            assert len((await other.next("presence_diff"))["leaves"]) == 1

    async def test_is_not_told_while_nobody_knows_whether_they_may(self, server: RunningServer) -> None:
        """Once that is known, they are told who is there."""
        await server.share("team", _1="owner", _2="viewer")
        async with server.client(client_id="a") as present, server.client("2", client_id="b") as other:
            server.services.feed.memberships.forget_all()
            await present.send(type="presence", space_id="team", state={"at": "work"})
            assert (await other.next("presence_diff", "presence_state"))["type"] == "presence_state"
            server.services.feed.memberships.forget_all()
            await present.send(type="presence", space_id="team", state=None)
            gone = await other.next("presence_diff", "presence_state")
        assert (gone["type"], gone["space_id"], gone["presences"]) == ("presence_state", "team", [])


class TestAState:
    async def test_counts_as_an_operation(self, tmp_path: Path) -> None:
        async with running_server(tmp_path, operations_per_minute=1) as server, server.client() as client:
            for _ in range(2):
                await client.send(type="presence", message_id="p", **HOME)
            assert (await client.next("error"))["error_code"] == "RATE_LIMIT_EXCEEDED"

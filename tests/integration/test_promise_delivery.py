"""P4 and P6: every change of a subscriber's spaces comes once and in order, over whatever happens to the connection."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sync_server.feed import PAGE_CHARACTERS
from sync_server.hub import PUMP_PAGE
from sync_server.orders import Committed
from sync_server.protocol.codec import JsonCodec
from sync_server.records import Update
from sync_server.types import ClientId, EntityId, EntityType, Millis, Seq, SpaceId, UserId
from tests.harness import Client, Message, RunningServer, create, delete, open_client, running_server, token_for, update

TEAM = "s-team"


def in_team(operation: Message) -> Message:
    return {**operation, "space_id": TEAM}


async def write(writer: Client, count: int, *, start: int = 0) -> None:
    for index in range(start, start + count):
        await writer.do(in_team(create(f"op_{index}", entity_id=f"n{index}", title=str(index))))


def seqs(client: Client) -> list[int]:
    return [seq for seq, *_ in client.replica.told]


async def wait_for_seq(client: Client, seq: int) -> None:
    while not client.replica.told or client.replica.told[-1][0] < seq:
        await client.next("server_update", "server_updates")


def note(seq: int, title: str = "x") -> Update:
    """A change by the server itself, in user 1's own space."""
    row = (Seq(seq), SpaceId("u-1"), EntityType("note"), EntityId(f"n{seq}"), 1, "create", f'{{"title":"{title}"}}')
    return Update(*row, Millis(0), UserId("1"), ClientId(""))


async def fresh(server: RunningServer, user: str = "1", **request: Any) -> dict[Any, Any]:
    """What a new client of the user gets from nothing."""
    async with server.client(user, f"fresh_{user}") as client:
        client.cursor = None
        response = await client.sync(incremental=False, **request)
        while response["new_client_state"]["has_more"]:
            response = await client.sync(**request)
        return client.replica.live


class TestASubscriber:
    async def test_gets_each_change_once_over_many_reconnects(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="viewer", _2="editor")
        async with server.client("1", "phone") as phone:
            cursor, told = phone.cursor, []
        async with server.client("2") as writer:
            work = asyncio.create_task(write(writer, 60))
            while len(told) < 60:
                async with open_client(server.ws_url, "phone") as phone:
                    await phone.greet(token=token_for("1"), cursor=cursor)
                    await phone.next("server_update")
                    told += seqs(phone)
                    cursor = phone.replica.cursor
            await work
        assert told == list(range(3, 63))

    async def test_gets_each_change_once_while_it_resumes_and_narrows(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="viewer", _2="editor")
        async with server.client("2") as writer, server.client("1", "phone") as phone:
            work = asyncio.create_task(write(writer, 80))
            for spaces in ([TEAM], None, [TEAM, "u-1"], None, [TEAM]):
                await wait_for_seq(phone, (phone.replica.told[-1][0] if phone.replica.told else 2) + 5)
                await phone.send(type="subscribe", message_id="s", spaces=spaces)
                await phone.next("subscribed")
            await work
            await wait_for_seq(phone, 82)
        assert seqs(phone) == list(range(3, 83))

    async def test_that_syncs_while_others_write_misses_nothing(self, server: RunningServer) -> None:
        await server.share(TEAM, _1="editor", _2="editor")
        async with server.client("2") as writer, server.client("1", "phone") as phone:
            work = asyncio.create_task(write(writer, 60))
            for index in range(20):
                await phone.do(in_team(create(f"own_{index}", entity_id=f"own{index}", title="mine")))
            await work
            await phone.sync()
            expected = await fresh(server)
        assert phone.replica.live == expected
        assert sorted(seqs(phone)) == seqs(phone)
        assert len(seqs(phone)) == 60

    async def test_is_not_pushed_what_its_sync_told_nor_what_it_did(self, server: RunningServer) -> None:
        async with server.client(client_id="desktop") as desktop, server.client(client_id="phone") as phone:
            await desktop.do(create("op_1", title="a"))
            await phone.do(create("op_2", title="b"))
            await desktop.do(create("op_3", title="c"))
            await phone.sync()
            await desktop.sync()
            await phone.send(type="subscribe", message_id="s")
            await phone.next("caught_up")
            await desktop.send(type="subscribe", message_id="s")
            await desktop.next("caught_up")
        assert (seqs(phone), seqs(desktop)) == ([1, 3], [2])

    async def test_starts_from_now_without_a_cursor(self, server: RunningServer) -> None:
        async with server.client(client_id="desktop") as desktop:
            await desktop.do(create("op_1", title="before"))
            async with server.client(client_id="phone") as phone:
                await desktop.do(create("op_2", title="after"))
                assert (await phone.next("server_update"))["seq"] == 2

    async def test_hears_of_the_types_it_named(self, server: RunningServer) -> None:
        async with server.client(client_id="desktop") as desktop, server.client(client_id="phone") as phone:
            await phone.send(type="subscribe", entity_types=["folder"])
            await phone.next("caught_up")
            await desktop.sync(create("op_1", title="a"), create("op_2", "folder", name="f"), create("op_3", title="b"))
            assert (await phone.next("server_update"))["entity_type"] == "folder"
            await phone.nothing("server_update")

    @pytest.mark.parametrize("subprotocol", ["sync.v1.json", "sync.v1.msgpack"])
    @pytest.mark.parametrize("capabilities", [[], ["batch_updates"]])
    async def test_gets_the_same_in_every_encoding(
        self, server: RunningServer, subprotocol: str, capabilities: list[str]
    ) -> None:
        async with (
            server.client(client_id="desktop") as desktop,
            open_client(server.ws_url, "phone", subprotocols=[subprotocol]) as phone,
        ):
            await phone.greet(token=token_for("1"), capabilities=capabilities)
            await desktop.sync(*(create(f"op_{index}", title="新 € 𝄞", tags=["x"]) for index in range(30)))
            await desktop.do(delete("op_x", 1, 1))
            await wait_for_seq(phone, 31)
            expected = await fresh(server)
        assert seqs(phone) == list(range(1, 32))
        assert phone.replica.live == expected

    async def test_gets_what_was_committed_meanwhile_in_one_frame(self, server: RunningServer) -> None:
        async with server.client(capabilities=["batch_updates"]) as client:
            hub, head = server.services.hub, server.services.feed.head.head_seq
            for seq in (head + 1, head + 2, head + 3):
                hub.publish(Committed((note(seq),)))
            message = await client.next("server_updates")
        assert [item["seq"] for item in message["updates"]] == [head + 1, head + 2, head + 3]

    async def test_gets_no_more_in_one_frame_than_a_page(self, server: RunningServer) -> None:
        async with server.client(capabilities=["batch_updates"]) as client:
            hub, head = server.services.hub, server.services.feed.head.head_seq
            for seq in range(head + 1, head + PUMP_PAGE + 2):
                hub.publish(Committed((note(seq),)))
            counts = [len((await client.next("server_updates"))["updates"]) for _ in range(2)]
        assert counts == [PUMP_PAGE, 1]

    async def test_gets_no_more_in_one_frame_than_a_page_may_weigh(self, server: RunningServer) -> None:
        async with server.client(capabilities=["batch_updates"]) as client:
            hub, head = server.services.hub, server.services.feed.head.head_seq
            for seq in (head + 1, head + 2):
                hub.publish(Committed((note(seq, "x" * (PAGE_CHARACTERS // 2)),)))
            told = [(await client.next("server_updates"))["updates"] for _ in range(2)]
        assert [len(updates) for updates in told] == [1, 1]

    async def test_that_reads_slowly_lags_and_then_has_the_newest_state(self, tmp_path: Path) -> None:
        async with running_server(tmp_path, send_buffer_bytes=16_384) as server:
            await server.share(TEAM, _1="viewer", _2="editor")
            async with open_client(server.ws_url, "slow", max_queue=1) as slow, server.client("2") as writer:
                await slow.greet(token=token_for("1"))
                await writer.do(in_team(create("first", entity_id="n", title="0")))
                await _congest(server, writer, "slow")
                for index in range(50):
                    await writer.do(in_team(update(f"late_{index}", "n", None, title=str(index))))
                last = await writer.do(in_team(create("last", entity_id="end", title="end")))
                await wait_for_seq(slow, last["seq"])
                expected = await fresh(server)
        assert slow.replica.live == expected
        assert sorted(set(seqs(slow))) == seqs(slow)
        assert len(seqs(slow)) < last["seq"] - 2

    async def test_is_fed_again_when_a_broadcast_to_it_failed(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encode = JsonCodec.encode
        failures = [ValueError]

        def stumble(codec: JsonCodec, message: Any) -> bytes:
            if message["type"] == "server_update" and failures:
                raise failures.pop()
            return encode(codec, message)

        monkeypatch.setattr(JsonCodec, "encode", stumble)
        async with server.client(client_id="desktop") as desktop, server.client(client_id="phone") as phone:
            await desktop.do(create("op_1", title="a"))
            await desktop.do(create("op_2", title="b"))
            await wait_for_seq(phone, 2)
        assert seqs(phone) == [1, 2]

    async def test_that_cannot_be_fed_is_sent_away_and_not_left_in_silence(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encode = JsonCodec.encode

        def stumble(codec: JsonCodec, message: Any) -> bytes:
            if message["type"] == "server_update":
                raise ValueError
            return encode(codec, message)

        monkeypatch.setattr(JsonCodec, "encode", stumble)
        async with server.client(client_id="desktop") as desktop, server.client(client_id="phone") as phone:
            await desktop.do(create("op_1", title="a"))
            assert await phone.close_code() == 4103


async def _congest(server: RunningServer, writer: Client, client_id: str) -> None:
    """Write until the connection takes no more."""
    hub = server.services.hub
    subscriber = next(s for s in hub._subscribers.values() if s.viewer.client_id == client_id)
    index = 0
    while not subscriber.socket.congested or subscriber.is_live:
        index += 1
        await writer.do(in_team(create(f"fill_{index}", title="x", content="y" * 100_000)))


class TestNothing:
    async def test_is_pushed_that_did_not_commit(self, server: RunningServer) -> None:
        async with server.client(client_id="desktop") as desktop, server.client(client_id="phone") as phone:
            await desktop.sync(create("op_1", title="a"), update("bad", "none", 1), atomic=True)
            await desktop.do(update("op_2", "none", 1, title="x"))
            last = await desktop.do(create("op_3", title="b"))
            pushed = await phone.next("server_update")
        assert pushed["seq"] == last["seq"] == 1

    async def test_that_committed_is_kept_back_when_the_author_is_gone(self, server: RunningServer) -> None:
        async with server.client(client_id="phone") as phone:
            async with server.client(client_id="desktop") as desktop:
                request = {"client_id": "desktop", "operations": [create("op_1", title="a")]}
                await desktop.send(type="sync", message_id="m", data=request)
                desktop.ws.transport.abort()
            await desktop.close_code()
            again = await _resent(server)
            if not again.get("duplicate"):
                pytest.fail("the operation had not arrived")
            assert (await phone.next("server_update"))["seq"] == again["seq"]


async def _resent(server: RunningServer) -> Message:
    async with server.client(client_id="desktop") as desktop:
        return await desktop.do(create("op_1", title="a"))

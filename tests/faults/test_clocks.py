"""Clients whose clocks are wrong, and requests that come again or in another order (rows 18 and 19)."""

from pathlib import Path

import pytest

from sync_server.clock import now_ms
from sync_server.types import Millis, format_time
from tests.harness import Client, Message, create, open_client, server_process, token_for, update

HOUR_MS = 3_600_000
YEAR_MS = 8_766 * HOUR_MS
WRONG_BY_MS = {
    "an hour ahead": HOUR_MS, "an hour behind": -HOUR_MS, "ten years ahead": 10 * YEAR_MS,
    "ten years behind": -10 * YEAR_MS, "right": 0,
}  # fmt: skip


def stamped(operation: Message, wrong_by_ms: int) -> Message:
    return {**operation, "timestamp": format_time(Millis(now_ms() + wrong_by_ms))}


async def ready(client: Client) -> Client:
    await client.greet(token=token_for("1"))
    return client


class TestAWrongClock:
    async def test_changes_nothing_about_who_was_last(self, tmp_path: Path) -> None:
        """Each writes upon what it has seen, so that the last to write is the last, whatever its clock says."""
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "device") as device, open_client(process.ws_url, "witness") as other:
                await ready(device)
                await ready(other)
                version = (await device.do(stamped(create("op", entity_id="n", title="first"), 0)))["new_version"]
                for name, wrong_by_ms in WRONG_BY_MS.items():
                    result = await device.do(stamped(update(f"op {name}", "n", version, title=name), wrong_by_ms))
                    assert result["verdict"] == "applied"
                    version = result["new_version"]
                while len(other.replica.told) <= len(WRONG_BY_MS):
                    await other.next("server_update")
        assert other.replica.live["note", "n"] == (version, {"id": "n", "title": "right"})
        assert [seq for seq, *_ in other.replica.told] == list(range(1, len(WRONG_BY_MS) + 2))

    @pytest.mark.parametrize("wrong_by_ms", [10 * YEAR_MS, HOUR_MS])
    async def test_ahead_wins_no_later_conflict(self, tmp_path: Path, wrong_by_ms: int) -> None:
        """What a clock that runs ahead wrote counts as written when it came: a later write of a right clock wins."""
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "device") as device:
                await ready(device)
                await device.do(create("op_0", entity_id="n", title="base"))
                await device.do(stamped(update("op_1", "n", 1, title="from the future"), wrong_by_ms))
                later = stamped(update("op_2", "n", 1, title="later"), 3_000)
                result = await device.do(later, conflict_strategy="latest_wins")
        assert result["data"]["title"] == "later"

    async def test_that_steps_back_between_two_writes_keeps_their_order(self, tmp_path: Path) -> None:
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "device") as device, open_client(process.ws_url, "witness") as other:
                await ready(device)
                await ready(other)
                first = stamped(create("op_1", entity_id="n", title="first"), 0)
                second = stamped(update("op_2", "n", None, title="second"), -10 * YEAR_MS)
                results = (await device.sync(first, second))["operation_results"]
                while len(other.replica.told) < 2:
                    await other.next("server_update")
        assert [result["seq"] for result in results] == [1, 2]
        assert other.replica.live["note", "n"] == (2, {"id": "n", "title": "second"})


class TestResends:
    async def test_in_another_order_after_a_kill_take_effect_once(self, tmp_path: Path) -> None:
        operations = [create(f"op_{number}", entity_id=f"n{number}", title="x") for number in range(20)]
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "device") as device:
                await ready(device)
                first = (await device.sync(*operations))["operation_results"]
            process.kill()
            process.start()
            async with open_client(process.ws_url, "device") as device:
                await ready(device)
                again = [await device.do(operation) for operation in reversed(operations)]
                changed = await device.do(create("op_3", entity_id="n3", title="another body"))
        assert again == [{**result, "duplicate": True} for result in reversed(first)]
        assert changed["error_code"] == "VALIDATION_ERROR"

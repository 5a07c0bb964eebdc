"""P1: an acknowledged operation is durable; it survives kill -9 of the server at any instant."""

import asyncio
import random
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.harness import Message, ServerProcess, create, open_client, server_process, token_for, update

CLIENTS = [f"device_{index}" for index in range(4)]
OPERATIONS = 150
KILLS = 3


class Device:
    """Sends its queue in order, a few operations a request, and forgets an operation once it has a result."""

    def __init__(self, client_id: str, rng: random.Random) -> None:
        self.client_id = client_id
        self.results: dict[str, Message] = {}
        self.queue = [self._operation(number, rng) for number in range(OPERATIONS)]
        self._rng = rng

    async def work(self, process: ServerProcess, answered: asyncio.Semaphore) -> None:
        """Until the queue is empty or the server is gone."""
        try:
            async with open_client(process.ws_url, self.client_id) as client:
                await client.greet(token=token_for("1"))
                while self.queue:
                    batch = self.queue[: self._rng.randint(1, 8)]
                    for result in (await client.sync(*batch))["operation_results"]:
                        self.results[result["operation_id"]] = result
                        answered.release()
                    self.queue = [one for one in self.queue if one["operation_id"] not in self.results]
        except (ConnectionClosed, InvalidHandshake, OSError):
            return

    def _operation(self, number: int, rng: random.Random) -> Message:
        name = f"{self.client_id}-{number}"
        if number < 5 or rng.random() < 0.5:
            return create(name, entity_id=f"n-{name}", title=name)
        return update(name, f"n-{self.client_id}-{rng.randrange(5)}", None, content=name)


class TestAnAcknowledgedOperation:
    async def test_survives_kills_at_random_instants_and_is_applied_once(self, tmp_path: Path) -> None:
        rng = random.Random(20_240_110)
        devices = [Device(client_id, rng) for client_id in CLIENTS]
        with server_process(tmp_path) as process:
            for _ in range(KILLS):
                await _work_until_killed(process, devices, rng.randrange(40, 120))
                process.start()
            answered = asyncio.Semaphore(0)
            await asyncio.gather(*(device.work(process, answered) for device in devices))
            process.kill()
        results = [result for device in devices for result in device.results.values()]
        assert len(results) == len(CLIENTS) * OPERATIONS
        assert all(result["success"] for result in results)
        _check_log(tmp_path / "sync.db", results)

    async def test_survives_a_kill_right_after_its_ack(self, tmp_path: Path) -> None:
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "desktop") as desktop:
                await desktop.greet(token=token_for("1"))
                result = await desktop.do(create("op_1", title="kept"))
                process.kill()
        _check_log(tmp_path / "sync.db", [result])

    async def test_is_told_to_everybody_after_the_restart(self, tmp_path: Path) -> None:
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "phone") as phone, open_client(process.ws_url, "desktop") as desktop:
                await phone.greet(token=token_for("1"))
                await desktop.greet(token=token_for("1"))
                before = phone.cursor
                await desktop.sync(*(create(f"op_{index}", title=str(index)) for index in range(20)))
                process.kill()
            process.start()
            async with open_client(process.ws_url, "phone") as phone:
                await phone.greet(token=token_for("1"), cursor=before)
                await phone.next("caught_up")
        assert sorted(int(data["title"]) for _, data in phone.replica.live.values()) == list(range(20))


async def _work_until_killed(process: ServerProcess, devices: list[Device], count: int) -> None:
    """Let all devices work; kill the server once it has answered so many operations, whatever it does just then."""
    answered = asyncio.Semaphore(0)
    work = [asyncio.create_task(device.work(process, answered)) for device in devices]
    for _ in range(count):
        await answered.acquire()
    await asyncio.to_thread(process.kill)
    await asyncio.gather(*work)


def _check_log(path: Path, results: list[Message]) -> None:
    """The log has no hole, no operation twice, and every result as it was acknowledged."""
    with closing(sqlite3.connect(path)) as connection:
        head, integrity = connection.execute(
            "SELECT head_seq, (SELECT * FROM pragma_integrity_check) FROM log"
        ).fetchone()
        changes: dict[str, Any] = {
            operation_id: (seq, version)
            for seq, version, operation_id in connection.execute("SELECT seq, version, operation_id FROM changes")
        }
        seqs = [seq for (seq,) in connection.execute("SELECT seq FROM changes ORDER BY seq")]
        versions = connection.execute("SELECT entity_id, version FROM changes ORDER BY entity_id, version").fetchall()
        verdicts = connection.execute("SELECT count(*) FROM operations").fetchone()[0]
    assert integrity == "ok"
    assert seqs == list(range(1, head + 1))
    assert len(changes) == len(seqs)
    assert verdicts == len(results)
    for result in results:
        assert changes[result["operation_id"]] == (result["seq"], result["new_version"])
    for (entity, version), (next_entity, next_version) in pairwise(versions):
        assert next_version == (version + 1 if next_entity == entity else 1)

"""File descriptors run out (row 23): 503, not a crash, and all is well once there are some again."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.faults.peers import RawPeer, raw_peer
from tests.faults.processes import MANY, descriptors, until_async
from tests.harness import ServerProcess, create, open_client, server_process, token_for

LIMIT = 160
ROOM = LIMIT - 64


class TestDescriptors:
    async def test_that_run_out_are_a_503_and_hinder_nobody_who_is_there(self, tmp_path: Path) -> None:
        with server_process(tmp_path, **MANY) as process:
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
            async with open_client(process.ws_url, "desktop") as desktop:
                await desktop.greet(token=token_for("1"))
                async with _crowd(process, ROOM - 1) as crowd:
                    assert [await peer.upgrade() for peer in crowd] == [101] * (ROOM - 1)
                    async with raw_peer(process) as peer:
                        assert await peer.upgrade() == 503
                    assert (await desktop.do(create("op_1", title="x")))["success"]
                await until_async(lambda: _lets_in(process), within_s=8)
                assert (await desktop.do(create("op_2", title="x")))["success"]

    async def test_that_a_burst_takes_all_are_given_back(self, tmp_path: Path) -> None:
        with server_process(tmp_path, **MANY) as process:
            async with open_client(process.ws_url, "desktop") as desktop:
                await desktop.greet(token=token_for("1"))
                before = descriptors(process.pid)
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
                async with _crowd(process, 3 * LIMIT):
                    assert (await desktop.do(create("op_1", title="x")))["success"]
                await until_async(lambda: _lets_in(process), within_s=8)
                assert (await desktop.do(create("op_2", title="x")))["success"]
                await until_async(lambda: _has(process, before + 8), within_s=8)
            assert not [line for line in process.output if "Traceback" in line]

    def test_are_as_many_as_the_system_allows(self, tmp_path: Path) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1_000, hard), hard))
        try:
            with server_process(tmp_path, SYNC_MAX_CONNECTIONS=str(hard)) as process:
                given, _ = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
                assert process.terminate() == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert given == hard
        assert [line for line in process.output if "few_descriptors" in line]


@asynccontextmanager
async def _crowd(process: ServerProcess, count: int) -> AsyncIterator[list[RawPeer]]:
    """So many TCP connections at once."""
    async with AsyncExitStack() as stack:
        entering = (stack.enter_async_context(raw_peer(process)) for _ in range(count))
        yield list(await asyncio.gather(*entering))


async def _lets_in(process: ServerProcess) -> bool:
    async with raw_peer(process) as peer:
        return await peer.upgrade() == 101


async def _has(process: ServerProcess, count: int) -> bool:
    return descriptors(process.pid) <= count

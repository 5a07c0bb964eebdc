"""Peers that fall silent without a word, a server that does, and a proxy that bears no silence (rows 2, 21 and 23)."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.faults.processes import (
    MANY,
    descriptors,
    metric,
    needs_root,
    pause,
    sizes,
    stopped,
    until_async,
)  # fmt: skip
from tests.harness import Client, ServerProcess, create, open_client, server_process, token_for

ROOT = Path(__file__).parents[2]
SERVER_ADDRESS, CLIENT_ADDRESS = "10.213.77.1", "10.213.77.2"
CLOSED_WITHIN_HEARTBEATS = 2.25
"""45 s at the default of 20 s."""
TICK_S = 1.0


@pytest.fixture(params=[1.0, pytest.param(20.0, marks=pytest.mark.soak)])
def heartbeat_s(request: pytest.FixtureRequest) -> float:
    return float(request.param)


class TestAPeer:
    @pytest.mark.parametrize("vanishes", ["stopped", pytest.param("unplugged", marks=needs_root)])
    async def test_that_is_half_open_is_closed_and_leaves_nothing(
        self, tmp_path: Path, heartbeat_s: float, vanishes: str, tell: Callable[[str], None]
    ) -> None:
        settings = {**MANY, "SYNC_HEARTBEAT_INTERVAL_S": str(heartbeat_s), "SYNC_HOST": "0.0.0.0"}
        with ExitStack() as stack:
            process = stack.enter_context(server_process(tmp_path, **settings))
            before = descriptors(process.pid)
            clients = stack.enter_context(idle_clients(process, 20, is_elsewhere=vanishes == "unplugged"))
            assert await metric(process, "sync_connections") == 20
            if vanishes == "unplugged":
                in_its_network(clients.pid, "ip", "address", "flush", "dev", "far")
            stack.enter_context(stopped(clients.pid))
            took_s = await until_async(lambda: _is_empty(process), within_s=heartbeat_s * 4 + 4)
            await until_async(lambda: _has(process, before + 10), within_s=8)
            closed = await metric(process, 'sync_closes_total{code="4002"')
            # unplugged while a last byte is on its way, the kernel gives up first (TCP_USER_TIMEOUT)
            assert closed == 20 if vanishes == "stopped" else closed <= 20
        tell(f"{vanishes}, heartbeat {heartbeat_s:.0f} s: 20 half-open peers gone after {took_s:.1f} s")
        assert took_s < CLOSED_WITHIN_HEARTBEATS * heartbeat_s + 3 * TICK_S


@contextmanager
def idle_clients(process: ServerProcess, count: int, *, is_elsewhere: bool) -> Iterator[subprocess.Popen[str]]:
    """A process of READY clients, in a network of its own or on this machine."""
    host = SERVER_ADDRESS if is_elsewhere else "127.0.0.1"
    program = [sys.executable, "-m", "tests.faults.idle_client", host, str(process.port), token_for("1"), str(count)]
    apart = ["unshare", "--net"] if is_elsewhere else []
    clients = subprocess.Popen([*apart, *program], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert clients.stdin is not None
    assert clients.stdout is not None
    try:
        if is_elsewhere:
            connect_network(clients.pid)
        clients.stdin.write("connect\n")
        clients.stdin.flush()
        assert clients.stdout.readline() == "ready\n"
        yield clients
    finally:
        clients.kill()
        clients.wait()
        clients.stdin.close()
        clients.stdout.close()
        if is_elsewhere:
            subprocess.run(["ip", "link", "delete", "near"], check=False, capture_output=True)


def connect_network(pid: int) -> None:
    """A cable between this network and that of the process."""
    wait_for_network(pid)
    command("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(pid))
    command("ip", "address", "add", f"{SERVER_ADDRESS}/30", "dev", "near")
    command("ip", "link", "set", "near", "up")
    in_its_network(pid, "ip", "address", "add", f"{CLIENT_ADDRESS}/30", "dev", "far")
    in_its_network(pid, "ip", "link", "set", "far", "up")


def wait_for_network(pid: int) -> None:
    """The process has left our network: `unshare` has become what it runs."""
    until = time.monotonic() + 10
    ours = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{pid}/ns/net").readlink() == ours:
        assert time.monotonic() < until


def in_its_network(pid: int, *words: str) -> None:
    command("nsenter", "--net", "--target", str(pid), *words)


def command(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no network of its own can be made here: {done.stderr.strip()}")


class TestAServer:
    @sizes(20, 2_000)
    async def test_that_was_blocked_for_five_seconds_loses_nobody_and_says_so(
        self, tmp_path: Path, count: int, tell: Callable[[str], None]
    ) -> None:
        settings = {**MANY, "SYNC_HEARTBEAT_INTERVAL_S": "1", "SYNC_AUTH_DEADLINE_S": "30"}
        with server_process(tmp_path, **settings) as process:
            async with asyncio.TaskGroup() as work, AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(polite(process, work, number)) for number in range(count)]
                with stopped(process.pid):
                    await pause(5)
                async with open_client(process.ws_url, "writer") as writer:
                    await writer.greet(token=token_for("1"))
                    started = time.monotonic()
                    await writer.do(create("op_1", title="after the pause"))
                    took_ms = (time.monotonic() - started) * 1_000
                    await asyncio.gather(*(client.told.wait() for client in clients))
                await pause(3)
                assert await metric(process, "sync_connections") == count
                assert await metric(process, "sync_loop_blocked_seconds_total") > 3
            assert [line for line in process.output if "event_loop_blocked" in line]
        tell(f"{count} clients, none lost in a block of 5 s; the first ack after it took {took_ms:.0f} ms")


class Polite:
    """A client that answers pings.

    Attributes:
        told: set once it was pushed something.
    """

    def __init__(self, client: Client) -> None:
        self.told = asyncio.Event()
        self._client = client

    async def run(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                message = await self._client.next(timeout_s=60)
                if message["type"] == "ping":
                    await self._client.send(type="pong")
                elif message["type"] == "server_update":
                    self.told.set()


@asynccontextmanager
async def polite(process: ServerProcess, work: asyncio.TaskGroup, number: int) -> AsyncIterator[Polite]:
    async with open_client(process.ws_url, f"client_{number}") as client:
        await client.greet(token=token_for("1"))
        one = Polite(client)
        work.create_task(one.run())
        yield one


class TestAProxy:
    """Cuts what has been idle for a while, in both directions, as most do."""

    @pytest.mark.parametrize(
        ("heartbeat_s", "idle_s", "for_s"), [(1, 3.0, 7.0), pytest.param(20, 30.0, 95.0, marks=pytest.mark.soak)]
    )
    async def test_does_not_cut_an_idle_client(
        self, tmp_path: Path, heartbeat_s: int, idle_s: float, for_s: float
    ) -> None:
        with server_process(tmp_path, SYNC_HEARTBEAT_INTERVAL_S=str(heartbeat_s)) as process:
            async with (
                impatient_proxy(process.port, idle_s=idle_s) as port,
                open_client(f"ws://127.0.0.1:{port}/api/sync/ws", "phone") as phone,
            ):
                await phone.greet(token=token_for("1"))
                with suppress(TimeoutError):
                    async with asyncio.timeout(for_s):
                        while True:
                            await phone.next("ping", timeout_s=for_s)
                            await phone.send(type="pong")
                assert (await phone.sync())["status"] == "success"


@asynccontextmanager
async def impatient_proxy(to_port: int, *, idle_s: float) -> AsyncIterator[int]:
    """A TCP proxy that ends a connection on which one side said nothing for so long; its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", to_port)
        for source, target in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(_pass_on(source, target, (writer, there_writer), idle_s))
            tasks.add(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_on(
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    idle_s: float,
) -> None:
    with suppress(TimeoutError, ConnectionError):
        while data := await asyncio.wait_for(source.read(65_536), idle_s):
            target.write(data)
    for writer in both:
        writer.close()


async def _is_empty(process: ServerProcess) -> bool:
    return await metric(process, "sync_connections") == 0


async def _has(process: ServerProcess, count: int) -> bool:
    return descriptors(process.pid) <= count

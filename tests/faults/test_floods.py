"""A process that floods the server while another client asks (row 5)."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.flooder import KINDS
from tests.faults.processes import MANY, metric, round_trips_ms, spread, until_async
from tests.harness import ServerProcess, open_client, server_process, token_for

ROOT = Path(__file__).parents[2]
DEFAULTS = {name: MANY[name] for name in ("SYNC_CONNECTS_PER_MINUTE",)}
"""The budget of frames is the default one."""


class TestAFlood:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("pings", [50, pytest.param(500, marks=pytest.mark.soak)])
    async def test_is_closed_again_and_again_while_others_are_served(
        self, tmp_path: Path, kind: str, pings: int, tell: Callable[[str], None]
    ) -> None:
        with server_process(tmp_path, SYNC_LOG_LEVEL="warning", **DEFAULTS) as process:
            async with open_client(process.ws_url, "victim") as victim:
                await victim.greet(token=token_for("1"))
                alone_ms = await round_trips_ms(victim, pings)
                with flood(process, kind):
                    beside_ms = await round_trips_ms(victim, pings)
                    if kind != "single bytes":  # a slow way to send a message that is allowed
                        await until_async(lambda: _was_closed(process), within_s=8)
        tell(f"{kind}: victim alone {spread(alone_ms)}; beside the flood {spread(beside_ms)}")
        if pings >= 500:
            assert sorted(beside_ms)[round(pings * 0.99) - 1] < 100


@contextmanager
def flood(process: ServerProcess, kind: str) -> Iterator[None]:
    program = [sys.executable, "-m", "tests.faults.flooder", str(process.port), token_for("2"), kind]
    flooding = subprocess.Popen(program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert flooding.stdin is not None
    assert flooding.stdout is not None
    try:
        yield
    finally:
        flooding.kill()
        flooding.wait()
        flooding.stdin.close()
        flooding.stdout.close()


async def _was_closed(process: ServerProcess) -> bool:
    return await metric(process, 'sync_closes_total{code="4101"') > 0

"""Fixtures that many tests share."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from hypothesis import HealthCheck, settings

from tests.harness import RunningServer, running_server

# shared machines pause: a slow example is no wrong one
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("steady")

for name in [name for name in os.environ if name.startswith("SYNC_")]:
    del os.environ[name]


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data") as running:
        yield running

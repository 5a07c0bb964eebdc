"""Fixtures that many tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.harness import RunningServer, running_server


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data") as running:
        yield running

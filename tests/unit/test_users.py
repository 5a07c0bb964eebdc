"""Who is known is remembered, but not without bound."""

from typing import Any

import pytest

from sync_server import users
from sync_server.users import Users


class Committer:
    def __init__(self) -> None:
        self.works = 0

    async def perform(self, _work: Any) -> None:
        self.works += 1


class TestUsers:
    async def test_are_made_once(self) -> None:
        committer = Committer()
        known = Users(committer)  # type: ignore[arg-type]
        await known.ensure("1")  # type: ignore[arg-type]
        await known.ensure("1")  # type: ignore[arg-type]
        assert committer.works == 1

    async def test_beyond_the_bound_are_forgotten_oldest_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(users, "MAX_KNOWN", 2)
        committer = Committer()
        known = Users(committer)  # type: ignore[arg-type]
        for user in "1233":
            await known.ensure(user)  # type: ignore[arg-type]
        assert committer.works == 3
        await known.ensure("2")  # type: ignore[arg-type]
        assert committer.works == 3
        await known.ensure("1")  # type: ignore[arg-type]
        assert committer.works == 4

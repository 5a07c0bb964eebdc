"""Who belongs to which space, read while it changes."""

import asyncio

from sync_server.memberships import Memberships
from sync_server.records import Membership
from sync_server.types import Role, Seq, SpaceId, UserId
from tests.harness import TIMEOUT_S

USER, SPACE = UserId("1"), SpaceId("shared")


class TestPlaces:
    async def test_that_were_read_before_a_revocation_are_not_given_out_after_it(self) -> None:
        asked, answered = asyncio.Event(), asyncio.Event()
        roles = [Role.EDITOR, None]

        async def load(user_id: UserId) -> list[Membership]:
            role = roles.pop(0)
            if role is not None:  # the first to ask is answered last
                asked.set()
                await answered.wait()
            return [Membership(SPACE, user_id, role, Seq(1))]

        memberships = Memberships(load)
        async with asyncio.timeout(TIMEOUT_S):
            slow = asyncio.ensure_future(memberships.of(USER))
            await asked.wait()
            memberships.forget(USER)
            fresh = await memberships.of(USER)
            answered.set()
            assert [places[SPACE].role for places in (fresh, await slow)] == [None, None]

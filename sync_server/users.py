"""Users and spaces: a user and their personal space exist from their first valid token on."""

from sync_server.committer import Committer
from sync_server.feed import MEMBER
from sync_server.orders import Committed
from sync_server.records import Change, Membership, Space, Update, update_of
from sync_server.stores.writer import Writer, dump
from sync_server.types import (
    ClientId,
    EntityId,
    EntityType,
    Millis,
    OperationId,
    OperationType,
    Role,
    Seq,
    SpaceId,
    UserId,
)

MAX_KNOWN = 100_000
"""Users remembered as known; one who is forgotten costs a look at the database."""
MAX_SPACES_PER_USER = 1_000
MAX_MEMBERS = 10_000


def home_of(user_id: UserId) -> SpaceId:
    """The user's personal space."""
    return SpaceId(f"u-{user_id}")


class Users:
    """Makes users known to the database, once."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._known: dict[UserId, None] = {}

    async def ensure(self, user_id: UserId) -> None:
        """After this the user and their personal space exist."""
        if user_id in self._known:
            return

        def create(writer: Writer, now: Millis) -> tuple[None, Committed]:
            _create_user(writer, user_id, now)
            return None, Committed()

        await self._committer.perform(create)
        while len(self._known) >= MAX_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[user_id] = None


def _create_user(writer: Writer, user_id: UserId, now: Millis) -> None:
    if writer.has_user(user_id):
        return
    writer.save_user(user_id, now)
    home = home_of(user_id)
    writer.save_space(Space(home, "", user_id, now))
    # position 0: a personal space is its owner's from the beginning, there is nothing to be told of it
    writer.save_membership(Membership(home, user_id, Role.OWNER, Seq(0)))


def save_member(
    writer: Writer, space_id: SpaceId, user_id: UserId, role: Role | None, *, by: UserId, now: Millis
) -> Update:
    """Grant a role or, with None, revoke; returns what tells it in the log.

    A change from one role to another keeps the position of the grant: its member has the rows already.
    """
    before = writer.membership(space_id, user_id)
    seq = writer.take_numbers(1)
    is_kept = before is not None and before.role is not None and role is not None
    granted_at = before.seq if before is not None and is_kept else seq
    writer.save_membership(Membership(space_id, user_id, role, granted_at))
    kind = OperationType.UPDATE if role is not None else OperationType.DELETE
    data = dump({"role": role} if role is not None else {})
    change = Change(
        seq, space_id, EntityType(MEMBER), EntityId(user_id), 1, kind, data, "{}", None, "membership", now, now, by,
        ClientId(""), OperationId(""), None, Seq(0),
    )  # fmt: skip
    writer.save_changes([change])
    return update_of(change)

"""Who may see and manage what: the one place where doors that read ask (writes are checked where they are decided)."""

from collections.abc import Iterable

from sync_server.errors import CommandError, ErrorCode
from sync_server.memberships import Places, followed
from sync_server.services import Services
from sync_server.types import Role, SpaceId, UserId


def require_reader(role: Role | None, what: str = "space") -> Role:
    """Any role reads; to who has none, the thing does not exist.

    Raises:
        CommandError: NOT_FOUND.
    """
    if role is None:
        raise CommandError(ErrorCode.NOT_FOUND, f"There is no such {what}.")
    return role


def require_manager(role: Role | None) -> None:
    """Owners alone manage members.

    Raises:
        CommandError: NOT_FOUND to who has no role, FORBIDDEN to who has another.
    """
    if not require_reader(role).can_manage:
        raise CommandError(ErrorCode.FORBIDDEN, "Only an owner of this space may do that.")


async def role_in(services: Services, user_id: UserId, space_id: SpaceId, what: str = "space") -> Role:
    """The user's role in the space that something is in.

    Raises:
        CommandError: NOT_FOUND, for lack of one.
    """
    return require_reader(await services.feed.memberships.role(user_id, space_id), what)


async def readable_spaces(
    services: Services, user_id: UserId, wanted: Iterable[str] | None = None
) -> frozenset[SpaceId]:
    """The spaces that the user reads, or those of them that are wanted.

    Raises:
        CommandError: NOT_FOUND, one of the wanted spaces is not theirs to read.
    """
    return narrowed(await services.feed.memberships.of(user_id), wanted)


def narrowed(places: Places, wanted: Iterable[str] | None) -> frozenset[SpaceId]:
    """See `readable_spaces`."""
    roles = followed(places)
    if wanted is None:
        return frozenset(roles)
    spaces = frozenset(map(SpaceId, wanted))
    for space_id in sorted(spaces):
        if space_id not in roles:
            details = {"field": "space_ids", "space_id": space_id}
            raise CommandError(ErrorCode.NOT_FOUND, "There is no such space.", details=details)
    return spaces

"""Who may see and manage what: the one place where doors that read ask (writes are checked where they are decided)."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from sync_server.errors import CommandError, ErrorCode
from sync_server.memberships import Places, followed
from sync_server.services import Services
from sync_server.stores.reader import Reader
from sync_server.types import Role, SpaceId, UserId

T = TypeVar("T")


async def read_as(services: Services, user_id: UserId, query: Callable[[Reader, Places], T]) -> T:
    """The answer to a query that decides by the user's places what they may see.

    Asked again where those changed meanwhile: nothing that was read is told to who may not see it any more.

    Raises:
        CommandError: raised by the query, or SYNC_ERROR when the database could not answer.
    """
    while True:
        places = await services.feed.memberships.of(user_id)
        answer = await services.feed.read(_bound(query, places))
        if services.feed.memberships.cached(user_id) is places:
            return answer


def role_in(places: Places, space_id: SpaceId, what: str = "space") -> Role:
    """The role in the space that something is in. Any role reads; to who has none, the thing does not exist.

    Raises:
        CommandError: NOT_FOUND.
    """
    place = places.get(space_id)
    return require_reader(place.role if place is not None else None, what)


def require_reader(role: Role | None, what: str = "space") -> Role:
    """See `role_in`."""
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


def readable_spaces(places: Places, wanted: Iterable[str] | None = None) -> frozenset[SpaceId]:
    """The spaces that may be read, or those of them that are wanted.

    Raises:
        CommandError: NOT_FOUND, one of the wanted spaces may not be read.
    """
    roles = followed(places)
    if wanted is None:
        return frozenset(roles)
    spaces = frozenset(map(SpaceId, wanted))
    for space_id in sorted(spaces):
        if space_id not in roles:
            details = {"field": "space_ids", "space_id": space_id}
            raise CommandError(ErrorCode.NOT_FOUND, "There is no such space.", details=details)
    return spaces


def _bound(query: Callable[[Reader, Places], T], places: Places) -> Callable[[Reader], T]:
    return lambda reader: query(reader, places)

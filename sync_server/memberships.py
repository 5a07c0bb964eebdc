"""Who belongs to which space, cached for the users of this process and dropped the moment it changes."""

from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property

from sync_server.records import Membership
from sync_server.types import Role, Seq, SpaceId, UserId

MAX_USERS = 100_000


class Places(dict[SpaceId, Membership]):
    """A user's places by space, the revoked ones too. It stays as it was made."""

    @cached_property
    def newest_seq(self) -> Seq:
        """The last change of any of them."""
        return max((place.seq for place in self.values()), default=Seq(0))

    def is_read(self, space_id: SpaceId) -> bool:
        """Whether the user may read the space now; `followed` has all that they may, at the price of looking at all."""
        place = self.get(space_id)
        return place is not None and place.role is not None


class Memberships:
    """The places of users. `forget` a user when the log says that one of them changed."""

    def __init__(self, load: Callable[[UserId], Awaitable[list[Membership]]]) -> None:
        self._load = load
        self._known: dict[UserId, Places] = {}
        self._loading: dict[UserId, object] = {}

    async def of(self, user_id: UserId) -> Places:
        while (known := self._known.get(user_id)) is None:
            load = self._loading.setdefault(user_id, object())
            found = Places((membership.space_id, membership) for membership in await self._load(user_id))
            if self._loading.get(user_id) is load:  # else a right of theirs changed while this was read
                del self._loading[user_id]
                self._remember(user_id, found)
        return known

    def cached(self, user_id: UserId) -> Places | None:
        return self._known.get(user_id)

    def forget(self, user_id: UserId) -> None:
        self._loading.pop(user_id, None)
        self._known.pop(user_id, None)

    def forget_all(self) -> None:
        self._loading.clear()
        self._known.clear()

    def _remember(self, user_id: UserId, places: Places) -> None:
        if len(self._known) >= MAX_USERS:
            self._known.pop(next(iter(self._known)))
        self._known[user_id] = places


def followed(places: Mapping[SpaceId, Membership]) -> dict[SpaceId, Role]:
    """The spaces that a user may read now, with their role."""
    return {space_id: place.role for space_id, place in places.items() if place.role is not None}

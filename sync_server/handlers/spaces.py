"""Spaces and who belongs to them. A grant makes the old rows arrive, a revocation makes them leave (promise P10)."""

from functools import partial
from typing import NotRequired

from typing_extensions import TypedDict

from sync_server.clock import new_id, now_ms
from sync_server.cursor import Cursor, format_cursor
from sync_server.errors import CommandError, ErrorCode
from sync_server.handlers.access import read_as, require_manager, require_reader, role_in
from sync_server.memberships import Places, followed
from sync_server.orders import Committed
from sync_server.protocol.server_messages import OutId, ReceiptView
from sync_server.records import Space
from sync_server.services import Services
from sync_server.stores.reader import Reader
from sync_server.stores.writer import Writer
from sync_server.types import Millis, Role, SpaceId, UserId, format_id, format_time
from sync_server.users import MAX_MEMBERS, MAX_SPACES_PER_USER, home_of, save_member
from sync_server.views import receipt_view


class MemberView(TypedDict):
    user_id: OutId
    role: Role


class SpaceView(TypedDict):
    space_id: str
    name: str
    role: Role
    is_personal: bool
    owner: OutId
    created_at: str
    members: NotRequired[list[MemberView]]


class SpaceList(TypedDict):
    spaces: list[SpaceView]


class MemberChange(TypedDict):
    """`role` is null once the member is gone."""

    space_id: str
    user_id: OutId
    role: Role | None


class Checksum(ReceiptView):
    """It holds at `cursor` and since the space's last change, `seq`."""

    cursor: str


async def found_space(services: Services, user_id: UserId, name: str) -> SpaceView:
    """Make a space that the user owns.

    Raises:
        CommandError: CONFLICT for who has made as many as one user may.
    """
    space_id = SpaceId(new_id("space"))

    def save(writer: Writer, now: Millis) -> tuple[Space, Committed]:
        if writer.founded_count(user_id) >= MAX_SPACES_PER_USER:
            message = "You have made as many spaces as one user may."
            raise CommandError(ErrorCode.CONFLICT, message, details={"limit": MAX_SPACES_PER_USER})
        space = Space(space_id, name, user_id, now)
        writer.save_space(space)
        return space, Committed((save_member(writer, space_id, user_id, Role.OWNER, by=user_id, now=now),))

    return _view(await services.committer.perform(save), Role.OWNER)


async def spaces_of(services: Services, user_id: UserId) -> SpaceList:
    """The spaces that the user reads, their own first."""

    def query(reader: Reader, places: Places) -> list[SpaceView]:
        roles = followed(places)
        return [_view(space, roles[space_id]) for space_id, space in reader.spaces(roles).items()]

    views = await read_as(services, user_id, query)
    return {"spaces": sorted(views, key=lambda view: (view["space_id"] != home_of(user_id), view["created_at"]))}


async def space(services: Services, user_id: UserId, space_id: SpaceId) -> SpaceView:
    """One space with its members.

    Raises:
        CommandError: NOT_FOUND.
    """

    def query(reader: Reader, places: Places) -> SpaceView:
        role = role_in(places, space_id)
        view = _view(reader.spaces((space_id,))[space_id], role)
        view["members"] = [
            {"user_id": format_id(member.user_id), "role": member.role}
            for member in reader.members(space_id)
            if member.role is not None
        ]
        return view

    return await read_as(services, user_id, query)


async def grant(services: Services, by: UserId, space_id: SpaceId, user_id: UserId, role: Role) -> MemberChange:
    """Give somebody a role in a space; one who never connected finds it at their first token.

    Raises:
        CommandError: NOT_FOUND, FORBIDDEN, or CONFLICT where the space would be left without its owner or is full.
    """
    # before a stranger can make the server know anybody
    require_manager(role_in(await services.feed.memberships.of(by), space_id))
    await services.users.ensure(user_id)
    return await services.committer.perform(partial(_change_member, space_id, user_id, role, by))


async def revoke(services: Services, by: UserId, space_id: SpaceId, user_id: UserId) -> MemberChange:
    """Take somebody's role away; anybody may give up their own.

    Raises:
        CommandError: NOT_FOUND, FORBIDDEN, or CONFLICT where the space would be left without its owner.
    """
    change = await services.committer.perform(partial(_change_member, space_id, user_id, None, by))
    for subscriber in services.hub.connections_of(user_id):
        services.presence.leave(subscriber, space_id, now=now_ms())
    return change


async def checksum(services: Services, user_id: UserId, space_id: SpaceId) -> Checksum:
    """What every replica of the space at this cursor computes from its live entities (promise P9).

    Raises:
        CommandError: NOT_FOUND.
    """

    def query(reader: Reader, places: Places) -> Checksum:
        role_in(places, space_id)
        return checksum_at(reader, space_id)

    return await read_as(services, user_id, query)


def checksum_at(reader: Reader, space_id: SpaceId) -> Checksum:
    """What is stored of the space in the reader's snapshot."""
    head, stored = reader.head(), reader.receipts((space_id,))[space_id]
    return {**receipt_view(stored), "cursor": format_cursor(Cursor(head.epoch, head.head_seq))}


def _change_member(
    space_id: SpaceId, user_id: UserId, role: Role | None, by: UserId, writer: Writer, now: Millis
) -> tuple[MemberChange, Committed]:
    roles = writer.roles({(space_id, by), (space_id, user_id)})
    own, before = roles.get((space_id, by)), roles.get((space_id, user_id))
    if by == user_id and role is None:
        require_reader(own)
    else:
        require_manager(own)
    if role is None and before is None:
        raise CommandError(ErrorCode.NOT_FOUND, "This user is no member of the space.", details={"user_id": user_id})
    answer: MemberChange = {"space_id": space_id, "user_id": format_id(user_id), "role": role}
    if before is role:
        return answer, Committed()
    if before is None:
        _require_room(writer, space_id)
    if before is Role.OWNER:
        _require_an_owner(writer, space_id, user_id)
    return answer, Committed((save_member(writer, space_id, user_id, role, by=by, now=now),))


def _require_room(writer: Writer, space_id: SpaceId) -> None:
    if writer.member_count(space_id) >= MAX_MEMBERS:
        message = "The space has as many members as a space may."
        raise CommandError(ErrorCode.CONFLICT, message, details={"space_id": space_id, "limit": MAX_MEMBERS})


def _require_an_owner(writer: Writer, space_id: SpaceId, leaving: UserId) -> None:
    """A space keeps an owner, and a personal space the one whose it is."""
    if space_id == home_of(leaving):
        message = "A personal space stays with its owner."
        raise CommandError(ErrorCode.CONFLICT, message, details={"space_id": space_id})
    if not writer.has_other_owner(space_id, leaving):
        message = "A space needs an owner; make somebody else an owner first."
        raise CommandError(ErrorCode.CONFLICT, message, details={"space_id": space_id})


def _view(space: Space, role: Role) -> SpaceView:
    return {
        "space_id": space.space_id,
        "name": space.name,
        "role": role,
        "is_personal": space.space_id == home_of(space.owner),
        "owner": format_id(space.owner),
        "created_at": format_time(space.created_at),
    }

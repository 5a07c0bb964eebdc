"""The list of conflicts, and settling several at once."""

import asyncio
from collections.abc import Sequence
from typing import NotRequired

from typing_extensions import TypedDict

from sync_server.errors import CommandError, ErrorCode
from sync_server.handlers.access import read_as, readable_spaces, role_in
from sync_server.handlers.conflict import resolve
from sync_server.memberships import Places
from sync_server.protocol.client_messages import Resolution
from sync_server.protocol.server_messages import ConflictView, Spliced
from sync_server.records import Conflict
from sync_server.services import Services
from sync_server.stores.reader import Reader
from sync_server.types import ClientId, ConflictId, Json, UserId
from sync_server.views import conflict_view


class Pagination(TypedDict):
    page: int
    limit: int
    total_pages: int


class ConflictList(TypedDict):
    conflicts: list[ConflictView]
    total: int
    pagination: Pagination


class ConflictSettled(TypedDict):
    """Of several, one that failed has `success: false` with `error`, `error_code` and `details`."""

    conflict_id: str
    success: bool
    resolved_data: NotRequired[Spliced]
    new_version: NotRequired[int | None]
    error: NotRequired[str]
    error_code: NotRequired[ErrorCode]
    details: NotRequired[Json]


def pagination(*, page: int, limit: int, total: int) -> Pagination:
    """
    >>> pagination(page=1, limit=10, total=21)
    {'page': 1, 'limit': 10, 'total_pages': 3}
    """
    return {"page": page, "limit": limit, "total_pages": -(-total // limit)}


async def conflicts(
    services: Services, user_id: UserId, *, space_ids: Sequence[str] | None, is_open: bool | None, page: int, limit: int
) -> ConflictList:
    """The newest conflicts of the spaces that the user reads.

    Raises:
        CommandError: NOT_FOUND, a named space is not theirs to read.
    """

    def query(reader: Reader, places: Places) -> tuple[list[Conflict], int]:
        spaces = sorted(readable_spaces(places, space_ids))
        return reader.conflicts_page(spaces, is_open=is_open, offset=(page - 1) * limit, limit=limit)

    found, total = await read_as(services, user_id, query)
    return {
        "conflicts": [conflict_view(conflict) for conflict in found],
        "total": total,
        "pagination": pagination(page=page, limit=limit, total=total),
    }


async def conflict(services: Services, user_id: UserId, conflict_id: ConflictId) -> ConflictView:
    """One conflict, open or settled.

    Raises:
        CommandError: NOT_FOUND.
    """

    def query(reader: Reader, places: Places) -> Conflict:
        found = reader.conflicts((conflict_id,)).get(conflict_id)
        if found is None:
            raise CommandError(ErrorCode.NOT_FOUND, "There is no such conflict.")
        role_in(places, found.space_id, "conflict")
        return found

    return conflict_view(await read_as(services, user_id, query))


async def resolve_each(
    services: Services, user_id: UserId, client_id: ClientId, resolutions: Sequence[Resolution]
) -> list[Json]:
    """Settle conflicts in their order; one that cannot be settled does not stop the others."""
    return await asyncio.gather(*(_resolve_one(services, user_id, client_id, one) for one in resolutions))


async def _resolve_one(services: Services, user_id: UserId, client_id: ClientId, resolution: Resolution) -> Json:
    try:
        return await resolve(services, user_id, client_id, resolution)
    except CommandError as error:
        return {
            "conflict_id": resolution.conflict_id,
            "success": False,
            "error": error.message,
            "error_code": error.code,
            "details": error.details,
        }

"""Spaces and their members."""

from rest.endpoint import Call, Endpoint, NoBody
from rest.requests import NewRole, NewSpace, Query, VerifyRequest
from sync_server.errors import ErrorCode
from sync_server.handlers import comparisons, spaces
from sync_server.protocol.validation import validation_error
from sync_server.types import SpaceId, UserId, parse_id


async def _found(call: Call[Query, NewSpace]) -> spaces.SpaceView:
    return await spaces.found_space(call.services, call.user_id, call.body.name)


async def _list(call: Call[Query, NoBody]) -> spaces.SpaceList:
    return await spaces.spaces_of(call.services, call.user_id)


async def _one(call: Call[Query, NoBody]) -> spaces.SpaceView:
    return await spaces.space(call.services, call.user_id, SpaceId(call.path("space_id")))


async def _grant(call: Call[Query, NewRole]) -> spaces.MemberChange:
    space_id, user_id = SpaceId(call.path("space_id")), UserId(call.path("user_id"))
    return await spaces.grant(call.services, call.user_id, space_id, user_id, call.body.role)


async def _revoke(call: Call[Query, NoBody]) -> spaces.MemberChange:
    space_id, user_id = SpaceId(call.path("space_id")), UserId(call.path("user_id"))
    return await spaces.revoke(call.services, call.user_id, space_id, user_id)


async def _checksum(call: Call[Query, NoBody]) -> spaces.Checksum:
    return await spaces.checksum(call.services, call.user_id, SpaceId(call.path("space_id")))


async def _verify(call: Call[Query, VerifyRequest]) -> comparisons.Comparison:
    body = call.body
    space_id = SpaceId(body.space_id)
    if (body.buckets is None) is (body.rows is None):
        raise validation_error("buckets", "or else rows must be sent, one of the two")
    if body.rows is not None:
        rows = {name: [(kind, parse_id(one), number) for kind, one, number in some] for name, some in body.rows.items()}
        buckets = comparisons.versions_by_bucket(rows)
        return await comparisons.differing_rows(call.services, call.user_id, space_id, buckets)
    checksums = [int(text, 16) for text in body.buckets or ()]
    return await comparisons.differing_buckets(call.services, call.user_id, space_id, checksums)


_MANAGED = (ErrorCode.CONFLICT, ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND)

ENDPOINTS = (
    Endpoint(
        method="POST", path="/spaces", tag="Spaces", summary="Make a space",
        handle=_found, query=Query, body=NewSpace, reply=spaces.SpaceView, status=201, example={"name": "Family"},
    ),
    Endpoint(
        method="GET", path="/spaces", tag="Spaces", summary="Your spaces, with your role in each",
        handle=_list, query=Query, body=NoBody, reply=spaces.SpaceList,
    ),
    Endpoint(
        method="GET", path="/spaces/{space_id}", tag="Spaces", summary="A space with its members",
        handle=_one, query=Query, body=NoBody, reply=spaces.SpaceView, errors=(ErrorCode.NOT_FOUND,),
    ),
    Endpoint(
        method="GET", path="/spaces/{space_id}/checksum", tag="Spaces", summary="What a complete replica computes",
        description="The XOR of the 64-bit BLAKE2b of `type/id@version` of each live entity, as 16 hexadecimal digits.",
        handle=_checksum, query=Query, body=NoBody, reply=spaces.Checksum, errors=(ErrorCode.NOT_FOUND,),
    ),
    Endpoint(
        method="POST", path="/verify", tag="Spaces", summary="In which rows a replica differs",
        description=(
            "Two steps. `buckets`: the checksums of your 256 buckets, answered by which of them differ. `rows`: every "
            "live row of some of those, answered by the rows that you lack, have otherwise, or should not have."
        ),
        handle=_verify, query=Query, body=VerifyRequest, reply=comparisons.Comparison, errors=(ErrorCode.NOT_FOUND,),
        example={"space_id": "u-1", "rows": {"13": [["note", 124, 3]]}},
    ),
    Endpoint(
        method="PUT", path="/spaces/{space_id}/members/{user_id}", tag="Spaces", summary="Give somebody a role",
        description="Owners do this. What the space holds then arrives at the member's clients.",
        handle=_grant, query=Query, body=NewRole, reply=spaces.MemberChange, errors=_MANAGED,
        example={"role": "editor"},
    ),
    Endpoint(
        method="DELETE", path="/spaces/{space_id}/members/{user_id}", tag="Spaces",
        summary="Take somebody's role away, or leave",
        description="Owners do this, and everybody for themselves. What the space holds leaves the member's clients.",
        handle=_revoke, query=Query, body=NoBody, reply=spaces.MemberChange, errors=_MANAGED,
    ),
)  # fmt: skip

"""What requests carry: bodies as in the T3 contract, "REST API接口", and queries. Unknown members are ignored."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sync_server.fingerprints import BUCKETS
from sync_server.protocol.client_messages import (
    DEFAULT_PAGE,
    MAX_OPERATIONS,
    PRINTABLE_PATTERN,
    Count,
    CursorText,
    Identifier,
    Inbound,
    Name,
    Resolution,
    SpaceIdentifier,
    Timestamp,
    WireId,
)
from sync_server.protocol.versions import PROTOCOL_VERSION
from sync_server.types import Json, Role

MAX_PAGE_NUMBER = 1_000_000
MAX_WAIT_S = 25
MAX_DIGITS = 18


def _number(text: object) -> object:
    """A decimal of a query as an integer; anything else stays, to be refused by its type."""
    is_number = isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    return int(str(text)) if is_number else text


def _seconds(text: object) -> object:
    try:
        return float(text) if isinstance(text, str) and len(text) <= MAX_DIGITS else text
    except ValueError:
        return text


def _listed(value: object) -> object:
    """`a,b` or a name that is repeated; an empty text is an empty list."""
    texts = value if isinstance(value, list) else [value]
    return [part for text in texts if text != "" for part in (text.split(",") if isinstance(text, str) else [text])]


Number = BeforeValidator(_number)
Page = Annotated[int, Field(ge=1, le=MAX_PAGE_NUMBER), Number]
PageSize = Annotated[int, Field(ge=1, le=MAX_OPERATIONS), Number]
Version = Annotated[int, Field(ge=1, le=2**53 - 1), Number]
Spaces = Annotated[list[SpaceIdentifier], Field(max_length=1_000), BeforeValidator(_listed)]
Types = Annotated[list[Identifier], Field(max_length=100), BeforeValidator(_listed)]
Seconds = Annotated[float, Field(ge=0, le=MAX_WAIT_S), BeforeValidator(_seconds)]


class Query(BaseModel):
    """Base of what stands in the URL after the question mark."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True
    )


class StatusQuery(Query):
    client_id: Name | None = None
    """Only this client's syncs, and its state."""
    sync_id: Name | None = None
    """Only this sync."""


class QueueQuery(Query):
    client_id: Name | None = None
    """Only this client's operations."""
    queue_type: Literal["pending", "processing", "failed", "all"] = "all"
    """Waiting, being decided, rejected or parked, or all, also those that were done."""
    entity_type: Identifier | None = None
    """Only operations on this type."""
    page: Page = 1
    limit: PageSize = 20


class ChangesQuery(Query):
    cursor: CursorText | None = None
    """Go on after this cursor; without one, begin with a snapshot of everything."""
    space_ids: Spaces | None = None
    """Only these spaces, separated by commas."""
    entity_types: Types | None = None
    """Only these types, separated by commas."""
    client_id: Name | None = None
    """Leave out what this client of yours did itself."""
    limit: PageSize = DEFAULT_PAGE
    """Rows in a page."""
    wait: Seconds = 0
    """Seconds to wait for something new, where there is nothing yet."""


class EventsQuery(Query):
    cursor: CursorText | None = None
    """Go on after this cursor; the header Last-Event-ID goes before it. Without either, begin with a snapshot."""
    space_ids: Spaces | None = None
    """Only these spaces, separated by commas."""
    entity_types: Types | None = None
    """Only these types, separated by commas."""
    client_id: Name | None = None
    """Leave out what this client of yours did itself."""


class HistoryQuery(Query):
    before: Version | None = None
    """Only versions before this one."""
    limit: PageSize = 50
    """Versions in a page."""


class ConflictsQuery(Query):
    status: Literal["open", "resolved"] | None = None
    """Only those that wait, or only those that are settled."""
    space_ids: Spaces | None = None
    """Only these spaces, separated by commas."""
    page: Page = 1
    limit: PageSize = 20


class OperationQuery(Query):
    client_id: Name | None = None
    """The client that sent it; needed where several of yours used the same id."""


class SyncDataRequest(Inbound):
    """REST 2. `cursor` goes on where the last reply ended, whatever was written meanwhile."""

    client_id: Name
    protocol_version: Annotated[str, Field(max_length=32)] = PROTOCOL_VERSION
    entity_types: Annotated[list[Identifier], Field(min_length=1, max_length=100)] | None = None
    space_ids: Annotated[list[SpaceIdentifier], Field(max_length=1_000)] | None = None
    since: Timestamp | None = None
    full_sync: bool = False
    batch_size: Annotated[int, Field(ge=1, le=MAX_OPERATIONS)] = DEFAULT_PAGE
    batch_index: Count = 0
    is_last_batch: bool = False
    cursor: CursorText | None = None


class ResolveRequest(Inbound):
    """REST 5. With `client_id` the change counts as this client's own and is not told to it."""

    conflict_id: Name
    resolution: Resolution
    client_id: Name | None = None


class ResolveAllRequest(Inbound):
    """REST 6."""

    resolutions: Annotated[list[ResolveRequest], Field(max_length=MAX_OPERATIONS)]
    client_id: Name | None = None


class DataDiffRequest(Inbound):
    """REST 7. `client_data` is compared where it is sent, else the history's data of `client_version`."""

    client_id: Name | None = None
    entity_type: Identifier
    entity_id: WireId
    client_version: Count
    server_version: Count | None = None
    client_data: Json | None = None


class CancelRequest(Inbound):
    """REST 8."""

    sync_id: Name
    reason: Annotated[str, Field(max_length=1_000, pattern=PRINTABLE_PATTERN)] = "cancelled by the client"


class RetryRequest(Inbound):
    """REST 9. Without `operation_ids`, everything of the sync that was rejected."""

    sync_id: Name
    operation_ids: Annotated[list[Name], Field(max_length=MAX_OPERATIONS)] | None = None


class ClearHistoryRequest(Inbound):
    """REST 10. Without `client_id`, of all your clients."""

    client_id: Name | None = None
    retain_days: Annotated[int, Field(ge=0, le=36_500)] = 30


Checksum = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
BucketNumber = Annotated[str, Field(pattern=r"^([1-9]?[0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])$")]
VersionOfRow = Annotated[tuple[Identifier, WireId, Count], Field(strict=False)]


class VerifyRequest(Inbound):
    """Either `buckets`, the checksum of each of the 256 buckets of your live rows of the space; or `rows`, of some
    buckets every live row, as `[entity_type, entity_id, version]`."""

    space_id: SpaceIdentifier
    buckets: Annotated[list[Checksum], Field(min_length=BUCKETS, max_length=BUCKETS)] | None = None
    rows: (
        Annotated[
            dict[BucketNumber, list[VersionOfRow]],
            Field(min_length=1, json_schema_extra={"additionalProperties": False}),
        ]
        | None
    ) = None


class NewSpace(Inbound):
    name: Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE_PATTERN)]


class NewRole(Inbound):
    role: Annotated[Role, Field(strict=False)]


PATH_PARAMETERS: dict[str, tuple[Any, str]] = {
    "space_id": (SpaceIdentifier, "The space."),
    "user_id": (Identifier, "The user, as their token's `sub` names them."),
    "entity_type": (Identifier, "The entity's type."),
    "entity_id": (Identifier, "The entity."),
    "conflict_id": (Name, "The conflict."),
    "operation_id": (Name, "The operation."),
}
"""What may stand in a path, each with its type."""

"""Every message of the wire, both ways (T3 contract, "WebSocket接口", and docs/protocol.md).

What a client sends is a frozen model: validated once, unknown fields ignored. What the server sends is a `TypedDict`:
built without a copy, checked by mypy, and the source of the documents. `Spliced` members may hold a
`codec.JsonText`, stored JSON that goes into the frame as it is.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, get_args

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict

from sync_server.errors import ErrorCode
from sync_server.types import (
    IDENTIFIER_PATTERN,
    SPACE_ID_PATTERN,
    ConflictId,
    EntityType,
    Json,
    OperationId,
    OperationType,
    SpaceId,
    Strategy,
    SyncStatus,
    Verdict,
)

PROTOCOL_VERSION = "1.0.0"
SERVER_VERSION = "1.0.0"

PRINTABLE_PATTERN = r"^[^\x00-\x1f\x7f]*$"
"""Names are stored and logged: no control characters, above all no NUL, which PostgreSQL cannot hold."""

MAX_MESSAGE_ID = 128
MessageId = Annotated[str, Field(max_length=MAX_MESSAGE_ID)]
_NAME = Field(min_length=1, max_length=128, pattern=PRINTABLE_PATTERN)
Name = Annotated[str, _NAME]
OperationName = Annotated[OperationId, _NAME]
ConflictName = Annotated[ConflictId, _NAME]
Identifier = Annotated[str, Field(pattern=IDENTIFIER_PATTERN)]
TypeName = Annotated[EntityType, Field(pattern=IDENTIFIER_PATTERN)]
SpaceIdentifier = Annotated[SpaceId, Field(pattern=SPACE_ID_PATTERN)]
WireId = Annotated[int, Field(ge=0, le=2**53 - 1)] | Identifier
Timestamp = Annotated[str, Field(max_length=64)]
CursorText = Annotated[str, Field(max_length=512)]
Token = Annotated[str, Field(max_length=8_192)]
LooseStrategy = Annotated[Strategy, Field(strict=False)]
LooseOperationType = Annotated[OperationType, Field(strict=False)]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]

MAX_OPERATIONS = 1_000
"""Operations in one request, and changes in one page."""
DEFAULT_PAGE = 100


class Inbound(BaseModel):
    """Base of what a client sends."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class ClientMessage(Inbound):
    message_id: MessageId | None = None
    timestamp: Timestamp | None = None


class ClientInfo(Inbound):
    """What a client tells of itself, shown to the person who runs the server."""

    device_type: Annotated[str, Field(max_length=128)] | None = None
    os_name: Annotated[str, Field(max_length=128)] | None = None
    os_version: Annotated[str, Field(max_length=128)] | None = None
    app_version: Annotated[str, Field(max_length=128)] | None = None


class Subscription(Inbound):
    """What to be pushed: by default every change of every space of the user, from now on.

    `cursor` resumes after it; `incremental: false` starts with a snapshot instead.
    """

    spaces: Annotated[list[SpaceIdentifier], Field(max_length=1_000)] | None = None
    entity_types: Annotated[list[Identifier], Field(max_length=100)] | None = None
    cursor: CursorText | None = None
    incremental: bool = True


class Handshake(ClientMessage):
    """Contract 1. With `token`, the whole way to READY in one round trip."""

    type: Literal["handshake"]
    client_id: Name
    client_info: ClientInfo = ClientInfo()
    protocol_version: Annotated[str, Field(max_length=32)] = PROTOCOL_VERSION
    capabilities: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=64)] = []
    token: Token | None = Field(default=None, repr=False)
    cursor: CursorText | None = None
    subscriptions: Subscription | None = None


class Auth(ClientMessage):
    """Contract 2. In READY it refreshes the token of the same user."""

    type: Literal["auth"]
    token: Token = Field(repr=False)


class ClientState(Inbound):
    client_id: Name | None = None
    last_sync_time: Timestamp | None = None
    server_version: Annotated[str, Field(max_length=32)] | None = None
    pending_operations: Count = 0
    last_sync_id: Name | None = None
    cursor: CursorText | None = None


class Ref(Inbound):
    """Names the entity that an earlier operation of the same request creates."""

    ref: OperationName


class Operation(Inbound):
    """One operation of a request; validated alone, so that a malformed one never stops its neighbours."""

    operation_id: OperationName
    operation_type: LooseOperationType
    entity_type: TypeName | None = None
    entity_id: WireId | Ref | None = None
    data: Json | None = None
    changes: Json | None = None
    before_version: Count | None = None
    client_id: Name | None = None
    timestamp: Timestamp | None = None
    space_id: SpaceIdentifier | None = None
    resolution_strategy: LooseStrategy | None = None
    conflict_id: ConflictName | None = None
    strategy: LooseStrategy | None = None
    resolved_data: Json | None = None
    cursor: CursorText | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_OPERATIONS)] = DEFAULT_PAGE


class SyncRequest(Inbound):
    """Contract 3 and REST 1. `operations` are raw here: see `Operation`."""

    request_id: Name | None = None
    client_id: Name
    client_state: ClientState = ClientState()
    protocol_version: Annotated[str, Field(max_length=32)] = PROTOCOL_VERSION
    operations: Annotated[list[Any], Field(max_length=MAX_OPERATIONS)] = []
    default_resolution_strategy: LooseStrategy | None = None
    incremental: bool = True
    batch_size: Annotated[int, Field(ge=1, le=MAX_OPERATIONS)] = DEFAULT_PAGE
    batch_index: Count = 0
    is_last_batch: bool = True
    sync_id: Name | None = None
    atomic: bool = False
    entity_types: Annotated[list[Identifier], Field(max_length=100)] | None = None
    space_ids: Annotated[list[SpaceIdentifier], Field(max_length=1_000)] | None = None


class Sync(ClientMessage):
    type: Literal["sync"]
    data: SyncRequest


class Resolution(Inbound):
    conflict_id: Name
    strategy: LooseStrategy
    resolved_data: Json | None = None
    auto_resolve: bool = False


class ResolveConflict(ClientMessage):
    """Settles a conflict from any device of somebody who may write to its space, once."""

    type: Literal["conflict"]
    resolution: Resolution


class Subscribe(ClientMessage, Subscription):
    """Narrows what is pushed, or resumes after a cursor."""

    type: Literal["subscribe"]


class Presence(ClientMessage):
    """Tells the space's other connections something that is never stored; `state: null` leaves."""

    type: Literal["presence"]
    space_id: SpaceIdentifier
    state: Json | None


class Ping(ClientMessage):
    type: Literal["ping"]


class Pong(ClientMessage):
    type: Literal["pong"]


AnyClientMessage = Annotated[
    Handshake | Auth | Sync | ResolveConflict | Subscribe | Presence | Ping | Pong, Field(discriminator="type")
]

CLIENT_MESSAGES: Mapping[str, type[ClientMessage]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(AnyClientMessage)[0])
}
"""Type on the wire -> model, for everything a client may send."""

# --- what the server sends ---------------------------------------------------------------------------------------

Spliced = Annotated[Any, WithJsonSchema({"type": ["object", "null"]})]
"""An object, or stored JSON text of one."""
OutId = Annotated[int | str, Field()]


class Limits(TypedDict):
    max_message_bytes: int
    max_operations: int
    max_page: int
    default_page: int
    frames_per_second: int


class CurrentState(TypedDict):
    client_id: str
    last_sync_time: str | None
    server_version: str
    pending_operations: int


class NewClientState(CurrentState):
    last_sync_id: NotRequired[str | None]
    cursor: str
    has_more: bool


class AuthResult(TypedDict):
    success: bool
    user_id: NotRequired[OutId]
    current_state: NotRequired[CurrentState]
    cursor: NotRequired[str]
    expires_at: NotRequired[str]
    error: NotRequired[str]
    error_code: NotRequired[ErrorCode]


class HandshakeReply(TypedDict):
    """Contract 1; a refusal has `error`, `error_code` and `supported_versions` in place of the ids."""

    type: Literal["handshake"]
    message_id: str | None
    timestamp: str
    success: bool
    protocol_version: str
    server_id: NotRequired[str]
    connection_id: NotRequired[str]
    heartbeat_interval_ms: NotRequired[int]
    limits: NotRequired[Limits]
    capabilities: NotRequired[list[str]]
    server_time: NotRequired[str]
    session_ttl_s: NotRequired[int]
    auth: NotRequired[AuthResult]
    error: NotRequired[str]
    error_code: NotRequired[ErrorCode]
    supported_versions: NotRequired[list[str]]


class AuthReply(AuthResult):
    type: Literal["auth"]
    message_id: str | None
    timestamp: str


class AuthExpiring(TypedDict):
    type: Literal["auth_expiring"]
    timestamp: str
    expires_at: str


class OperationResult(TypedDict):
    operation_id: str | None
    operation_type: str | None
    entity_type: str | None
    success: bool
    verdict: Verdict
    entity_id: NotRequired[OutId | None]
    new_version: NotRequired[int | None]
    data: NotRequired[Spliced]
    rule: NotRequired[str]
    duplicate: NotRequired[bool]
    seq: NotRequired[int]
    conflict_id: NotRequired[str]
    error: NotRequired[str]
    error_code: NotRequired[ErrorCode]
    details: NotRequired[Json]
    entities: NotRequired[list[Any]]
    cursor: NotRequired[str]
    has_more: NotRequired[bool]


class UpdateData(TypedDict):
    operation_type: str
    version: int
    data: Spliced
    modified_at: str
    modified_by: OutId
    reason: NotRequired[str]


class UpdateItem(UpdateData):
    """A change as it stands in `server_updates` of a sync response and in batched pushes."""

    entity_type: str
    entity_id: OutId
    space_id: str
    seq: int


ResetReason = Literal["granted", "horizon", "epoch", "snapshot"]


class Reset(TypedDict):
    """Everything the client has of this space (`null`: of all spaces) is replaced by the rows that follow."""

    space_id: str | None
    reason: ResetReason


class ConflictSide(TypedDict):
    version: int
    data: Spliced
    modified_at: str
    modified_by: NotRequired[OutId]
    operation_type: NotRequired[str]


class ConflictView(TypedDict):
    conflict_id: str
    conflict_type: str
    entity_type: str
    entity_id: OutId
    operation_id: str
    server_data: ConflictSide
    client_data: ConflictSide
    conflict_fields: list[str]
    suggested_strategy: Strategy
    timestamp: str
    space_id: str
    base_data: Spliced
    rule: str
    status: Literal["open", "resolved"]
    resolution: NotRequired[Json]


class SyncResponseData(TypedDict):
    request_id: str | None
    server_time: str
    protocol_version: str
    status: SyncStatus
    operation_results: list[OperationResult]
    server_updates: list[UpdateItem]
    conflicts: list[ConflictView]
    conflicts_omitted: NotRequired[int]
    new_client_state: NewClientState
    resets: NotRequired[list[Reset]]


class SyncResponse(TypedDict):
    type: Literal["sync_response"]
    message_id: str | None
    timestamp: str
    request_id: str | None
    data: SyncResponseData


class ServerUpdate(TypedDict):
    type: Literal["server_update"]
    message_id: str
    timestamp: str
    update_type: Literal["incremental", "snapshot"]
    entity_type: str
    entity_id: OutId
    space_id: str
    seq: int
    cursor: str
    update_data: UpdateData


class ServerUpdates(TypedDict):
    """Several changes in one frame, for clients with the capability `batch_updates`."""

    type: Literal["server_updates"]
    message_id: str
    timestamp: str
    update_type: Literal["incremental", "snapshot"]
    cursor: str
    updates: list[UpdateItem]


class ResetNotice(Reset):
    type: Literal["reset"]
    timestamp: str


class Subscribed(TypedDict):
    type: Literal["subscribed"]
    message_id: str | None
    timestamp: str
    spaces: list[str]
    entity_types: list[str] | None


class CaughtUp(TypedDict):
    type: Literal["caught_up"]
    timestamp: str
    cursor: str


class ConflictNotice(TypedDict):
    type: Literal["conflict"]
    message_id: str
    timestamp: str
    conflict: ConflictView
    requires_manual_resolution: bool
    resolution: NotRequired[Json]


class ConflictResolved(TypedDict):
    type: Literal["conflict_resolved"]
    message_id: str | None
    timestamp: str
    success: bool
    conflict_id: str
    resolved_data: NotRequired[Spliced]
    new_version: NotRequired[int | None]
    error: NotRequired[str]
    error_code: NotRequired[ErrorCode]
    details: NotRequired[Json]


class PresenceEntry(TypedDict):
    connection_id: str
    client_id: str
    user_id: OutId
    state: Json


class PresenceState(TypedDict):
    type: Literal["presence_state"]
    timestamp: str
    space_id: str
    presences: list[PresenceEntry]


class PresenceDiff(TypedDict):
    type: Literal["presence_diff"]
    timestamp: str
    space_id: str
    joins: list[PresenceEntry]
    leaves: list[str]


class ServerPing(TypedDict):
    type: Literal["ping"]
    timestamp: str


class ServerPong(TypedDict):
    type: Literal["pong"]
    timestamp: str
    message_id: NotRequired[str]


class ErrorMessage(TypedDict):
    type: Literal["error"]
    message_id: NotRequired[str]
    timestamp: str
    error: str
    error_code: ErrorCode
    details: Json
    retryable: bool
    retry_after_ms: NotRequired[int]


class Goodbye(TypedDict):
    type: Literal["goodbye"]
    timestamp: str
    code: int
    reason: str
    reconnect: bool
    retry_after_ms: int


ServerMessage = (
    HandshakeReply
    | AuthReply
    | AuthExpiring
    | SyncResponse
    | ServerUpdate
    | ServerUpdates
    | ResetNotice
    | Subscribed
    | CaughtUp
    | ConflictNotice
    | ConflictResolved
    | PresenceState
    | PresenceDiff
    | ServerPing
    | ServerPong
    | ErrorMessage
    | Goodbye
)

SERVER_MESSAGES: Mapping[str, Any] = {
    get_args(shape.__annotations__["type"])[0]: shape for shape in get_args(ServerMessage)
}
"""Type on the wire -> shape, for everything the server may send."""

"""What the server sends (T3 contract, "WebSocket接口"; docs/protocol.md): typed dicts, the source of the documents."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, get_args

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from sync_server.errors import ErrorCode
from sync_server.types import Json, Strategy, SyncStatus, Verdict

Spliced = Annotated[Any, WithJsonSchema({"type": ["object", "null"]})]
"""An object, or a `codec.JsonText`: stored JSON of one, which goes into the frame as it is, without a copy."""
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


class ReceiptView(TypedDict):
    """The live entities of a space as of its last change `seq`: how many, and the XOR of their fingerprints in hex.

    It holds for every cursor from there to the space's next change.
    """

    space_id: str
    seq: int
    checksum: str
    count: int


class NewClientState(CurrentState):
    last_sync_id: NotRequired[str | None]
    cursor: str
    has_more: bool
    receipts: NotRequired[list[ReceiptView]]


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
    modified_at: NotRequired[str]
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
    """`receipts` hold at `cursor`; there are none where `entity_types` narrow what is followed."""

    type: Literal["caught_up"]
    timestamp: str
    cursor: str
    receipts: NotRequired[list[ReceiptView]]


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

"""What a server writes, member by member (protocol, section 13). Members that are not read here are ignored."""

from msgspec import UNSET, Raw, Struct, UnsetType, field

from sync_client.frames import Limits
from sync_client.values import Json, WireId


class UpdateData(Struct):
    """A plain server may say nothing of the data of a `delete`."""

    operation_type: str
    version: int
    data: Raw | UnsetType = UNSET
    modified_at: str | None = None
    modified_by: WireId | None = None
    reason: str | None = None


class UpdateItem(Struct):
    operation_type: str
    version: int
    entity_type: str
    entity_id: WireId
    data: Raw | UnsetType = UNSET
    modified_at: str | None = None
    modified_by: WireId | None = None
    space_id: str | None = None
    reason: str | None = None
    seq: int = 0


class ToldReceipt(Struct):
    space_id: str
    seq: int
    checksum: str
    count: int


class OperationResult(Struct):
    operation_id: str | None
    success: bool
    operation_type: str | None = None
    entity_type: str | None = None
    verdict: str | None = None
    entity_id: WireId | None = None
    new_version: int | None = None
    data: Raw | UnsetType = UNSET
    conflict_id: str | None = None
    error: str | None = None
    error_code: str | None = None
    details: Json | None = None
    duplicate: bool = False
    modified_at: str | None = None


class ConflictSide(Struct):
    version: int = 0
    data: Json | None = None
    operation_type: str | None = None
    modified_at: str | None = None
    modified_by: WireId | None = None


class ConflictView(Struct):
    conflict_id: str
    entity_type: str
    entity_id: WireId
    server_data: ConflictSide
    client_data: ConflictSide
    conflict_type: str = "content"
    operation_id: str | None = None
    conflict_fields: list[str] = []
    base_data: Json | None = None
    rule: str | None = None
    status: str = "open"
    timestamp: str = ""
    resolution: Json | None = None
    space_id: str | None = None


class NewClientState(Struct):
    last_sync_time: str | None = None
    has_more: bool = False
    receipts: list[ToldReceipt] = []


class ResetItem(Struct):
    space_id: str | None = None


class SyncData(Struct):
    operation_results: list[OperationResult] = []
    server_updates: list[UpdateItem] = []
    conflicts: list[ConflictView] = []
    conflicts_omitted: int = 0
    new_client_state: NewClientState = field(default_factory=NewClientState)
    resets: list[ResetItem] = []


class Refusal(Struct):
    """The body of a refused HTTP request."""

    error: str
    error_code: str
    details: Json | None = None


class AuthResult(Struct):
    success: bool
    user_id: WireId | None = None
    error: str | None = None
    error_code: str | None = None


class ToldLimits(Struct):
    max_message_bytes: int = Limits().max_message_bytes
    max_operations: int = Limits().max_operations


# --- messages ------------------------------------------------------------------------------------------------------


class Auth(AuthResult, tag_field="type", tag="auth"):
    pass


class Handshake(Struct, tag_field="type", tag="handshake"):
    success: bool
    heartbeat_interval_ms: int | None = None
    limits: ToldLimits = field(default_factory=ToldLimits)
    capabilities: list[str] | None = None
    auth: AuthResult | None = None
    error: str | None = None
    error_code: str | None = None


class AuthExpiring(Struct, tag_field="type", tag="auth_expiring"):
    pass


class SyncResponse(Struct, tag_field="type", tag="sync_response"):
    """Without `data` it may be how a plain server refuses: the T3 document gives errors no message of their own."""

    data: SyncData | None = None
    message_id: str | None = None
    error: str | None = None
    error_code: str | None = None
    details: Json | None = None


class ServerUpdate(Struct, tag_field="type", tag="server_update"):
    entity_type: str
    entity_id: WireId
    update_data: UpdateData
    space_id: str | None = None
    cursor: str | None = None
    seq: int = 0


class ServerUpdates(Struct, tag_field="type", tag="server_updates"):
    updates: list[UpdateItem]
    cursor: str | None = None


class ToldReset(Struct, tag_field="type", tag="reset"):
    space_id: str | None = None


class ToldCaughtUp(Struct, tag_field="type", tag="caught_up"):
    cursor: str | None = None
    receipts: list[ToldReceipt] | None = None


class ConflictNotice(Struct, tag_field="type", tag="conflict"):
    conflict: ConflictView
    requires_manual_resolution: bool = True


class ConflictResolved(Struct, tag_field="type", tag="conflict_resolved"):
    success: bool
    conflict_id: str


class ToldPing(Struct, tag_field="type", tag="ping"):
    message_id: str | None = None
    timestamp: str | None = None


class Error(Struct, tag_field="type", tag="error"):
    error: str
    error_code: str
    message_id: str | None = None
    details: Json | None = None
    retryable: bool | None = None
    retry_after_ms: float | None = None


class ToldGoodbye(Struct, tag_field="type", tag="goodbye"):
    reason: str = ""
    retry_after_ms: float | None = None


Told = (
    Handshake
    | Auth
    | AuthExpiring
    | SyncResponse
    | ServerUpdate
    | ServerUpdates
    | ToldReset
    | ToldCaughtUp
    | ConflictNotice
    | ConflictResolved
    | ToldPing
    | Error
    | ToldGoodbye
)
TYPES = frozenset(
    {
        "handshake", "auth", "auth_expiring", "sync_response", "server_update", "server_updates", "reset", "caught_up",
        "conflict", "conflict_resolved", "ping", "error", "goodbye",
    }
)  # fmt: skip
"""The types of message that mean something to this client; any other is a sign of life."""

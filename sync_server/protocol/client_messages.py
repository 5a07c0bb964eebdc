"""What a client sends (T3 contract, "WebSocket接口"; docs/protocol.md): models checked once, unknown fields dropped."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from sync_server.protocol.versions import PROTOCOL_VERSION
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
)

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

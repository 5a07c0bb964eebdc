"""The tables, as SQLAlchemy Core metadata. Migrations create them; a test holds the two together.

Moments are milliseconds since 1970 (UTC); JSON is text, so that it can be spliced into frames as it is stored.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()


def _key(name: str) -> Column[str]:
    return Column(name, String, primary_key=True)


log = Table(
    "log",
    metadata,
    Column("log_id", Integer, primary_key=True),
    Column("epoch", String, nullable=False),
    Column("head_seq", BigInteger, nullable=False),
    Column("floor_seq", BigInteger, nullable=False),
    Column("version_floor", BigInteger, nullable=False, server_default="0"),
)
"""One row. `epoch` names this incarnation of the log, whose versions are above `version_floor`; rows up to
`floor_seq` are trimmed."""

users = Table("users", metadata, _key("user_id"), Column("created_at", BigInteger, nullable=False))

spaces = Table(
    "spaces",
    metadata,
    _key("space_id"),
    Column("name", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("checksum", BigInteger, nullable=False, server_default="0"),
    Column("live_count", BigInteger, nullable=False, server_default="0"),
    Column("changed_seq", BigInteger, nullable=False, server_default="0"),
)
"""`checksum` is the XOR of the fingerprints of the space's live entities, as a signed number, and `live_count` how many
they are, as of the last change of an entity of the space, `changed_seq` (docs/decisions/0008-receipts.md)."""

members = Table(
    "members",
    metadata,
    _key("space_id"),
    _key("user_id"),
    Column("role", String),
    Column("seq", BigInteger, nullable=False),
    Index("members_by_user", "user_id"),
    sqlite_with_rowid=False,
)
"""`role` is null once revoked; `seq` is the position of the grant or the revocation."""

entities = Table(
    "entities",
    metadata,
    _key("entity_type"),
    _key("entity_id"),
    Column("space_id", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("modified_by", String, nullable=False),
    Column("created_seq", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("entities_by_creation", "space_id", "created_seq"),
    sqlite_with_rowid=False,
)
"""`seq` is the entity's last change, the head of its chain. No index has it: an update would move its entry."""

parents = Table(
    "parents",
    metadata,
    _key("parent_type"),
    _key("parent_id"),
    _key("entity_type"),
    _key("entity_id"),
    _key("field"),
    Index("parents_by_child", "entity_type", "entity_id"),
    sqlite_with_rowid=False,
)
"""Which live entities name which parent, so that a delete finds its children and a move its ancestors."""

changes = Table(
    "changes",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("space_id", String, nullable=False),
    Column("entity_type", String, nullable=False),
    Column("entity_id", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("operation_type", String, nullable=False),
    Column("data", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("submitted", Text),
    Column("rule", String, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("modified_at", BigInteger, nullable=False),
    Column("modified_by", String, nullable=False),
    Column("client_id", String, nullable=False),
    Column("operation_id", String, nullable=False),
    Column("after_version", BigInteger),
    Column("previous_seq", BigInteger, nullable=False, server_default="0"),
    Index("changes_by_space", "space_id", "seq"),
)
"""`previous_seq` is the change before of the same entity, 0 for its first: its history is a chain, and no index by
entity has to be written to at a random place for each change."""

operations = Table(
    "operations",
    metadata,
    _key("user_id"),
    _key("client_id"),
    _key("operation_id"),
    Column("body_hash", LargeBinary, nullable=False),
    Column("sync_id", String, nullable=False),
    Column("operation_type", String, nullable=False),
    Column("entity_type", String),
    Column("entity_id", String),
    Column("verdict", String, nullable=False),
    Column("rule", String, nullable=False),
    Column("version", BigInteger),
    Column("seq", BigInteger),
    Column("conflict_id", String),
    Column("error_code", String),
    Column("error", Text),
    Column("details", Text),
    Column("body", Text),
    Column("retry_count", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("place", Integer, nullable=False, server_default="0"),
    Column("base_version", BigInteger),
    Column("strategy", String),
    Column("strategy_source", String),
    Column("sent", Text),
    sqlite_with_rowid=False,
)
"""The durable verdicts. `body` is kept only where the operation did not succeed, so that it can be tried again; the
strategy and the names of the fields in `sent` only where the log does not tell what they did."""
Index(
    "operations_unsuccessful",
    operations.c.user_id,
    operations.c.created_at,
    sqlite_where=operations.c.body.is_not(None),
    postgresql_where=operations.c.body.is_not(None),
)

syncs = Table(
    "syncs",
    metadata,
    _key("sync_id"),
    _key("user_id"),
    Column("client_id", String, nullable=False),
    Column("status", String, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("total_operations", Integer, nullable=False),
    Column("successful_operations", Integer, nullable=False),
    Column("failed_operations", Integer, nullable=False),
    Column("conflicts_count", Integer, nullable=False),
    Column("entity_types", Text, nullable=False),
    Column("error", Text),
    Index("syncs_by_user", "user_id", "started_at"),
    sqlite_with_rowid=False,
)

clients = Table(
    "clients",
    metadata,
    _key("user_id"),
    _key("client_id"),
    Column("device", Text, nullable=False),
    Column("cursor", String),
    Column("last_sync_time", BigInteger),
    Column("asked", Text),
    Column("followed", Text),
    sqlite_with_rowid=False,
)
"""`asked` is the filter of the last sync, `followed` that of the last WebSocket and how far it was written to."""

conflicts = Table(
    "conflicts",
    metadata,
    _key("conflict_id"),
    Column("conflict_type", String, nullable=False),
    Column("space_id", String, nullable=False),
    Column("entity_type", String, nullable=False),
    Column("entity_id", String, nullable=False),
    Column("operation_id", String, nullable=False),
    Column("operation_type", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("client_id", String, nullable=False),
    Column("sync_id", String, nullable=False),
    Column("fields", Text, nullable=False),
    Column("rule", String, nullable=False),
    Column("suggested_strategy", String, nullable=False),
    Column("base", Text, nullable=False),
    Column("server_version", BigInteger, nullable=False),
    Column("server_data", Text, nullable=False),
    Column("server_modified_at", BigInteger, nullable=False),
    Column("server_modified_by", String, nullable=False),
    Column("client_version", BigInteger, nullable=False),
    Column("client_data", Text, nullable=False),
    Column("client_modified_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("strategy", String),
    Column("resolved_data", Text),
    Column("resolved_at", BigInteger),
    Column("resolved_by", String),
    Index("conflicts_by_space", "space_id", "created_at"),
    Index("conflicts_by_sync", "sync_id"),
)

unique_values = Table(
    "unique_values",
    metadata,
    _key("entity_type"),
    _key("space_id"),
    _key("key"),
    _key("value"),
    Column("entity_id", String, nullable=False),
    sqlite_with_rowid=False,
)
"""Who holds each unique value; `key` names the fields, `value` is their canonical JSON."""

id_blocks = Table("id_blocks", metadata, _key("entity_type"), Column("next_id", BigInteger, nullable=False))
"""Integer ids below `next_id` are taken or reserved."""

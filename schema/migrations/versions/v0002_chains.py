"""Chains of changes, snapshots by creation, the places of operations.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("changes", sa.Column("previous_seq", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE changes SET previous_seq = coalesce((SELECT earlier.seq FROM changes AS earlier "
        "WHERE earlier.entity_type = changes.entity_type AND earlier.entity_id = changes.entity_id "
        "AND earlier.version = changes.version - 1 AND earlier.seq < changes.seq), 0) "
        "WHERE version > 1 AND entity_type != 'member'"
    )
    op.add_column("operations", sa.Column("place", sa.Integer(), nullable=False, server_default="0"))
    op.drop_index("changes_by_entity", table_name="changes")
    op.drop_index("entities_by_seq", table_name="entities")
    op.create_index("entities_by_creation", "entities", ["space_id", "created_seq"], unique=False)

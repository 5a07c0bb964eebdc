"""What explains a verdict, and what a client was told.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("operations", sa.Column("base_version", sa.BigInteger()))
    op.add_column("operations", sa.Column("strategy", sa.String()))
    op.add_column("operations", sa.Column("strategy_source", sa.String()))
    op.add_column("operations", sa.Column("sent", sa.Text()))
    op.add_column("clients", sa.Column("asked", sa.Text()))
    op.add_column("clients", sa.Column("followed", sa.Text()))

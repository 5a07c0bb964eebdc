"""Above which version numbers those of this epoch begin, and of each change the version that it was made on.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("log", sa.Column("version_floor", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("changes", sa.Column("after_version", sa.BigInteger()))

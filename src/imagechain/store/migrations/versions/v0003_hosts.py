"""What hosts run."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of hosts."""
    op.create_table(
        "hosts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("heard_at", sa.Float(53), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )

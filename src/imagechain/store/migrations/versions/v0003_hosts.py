"""What hosts run, and how far fixes have come there."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables of hosts, and of the ways of fixes to them."""
    op.create_table(
        "hosts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("heard_at", sa.Float(53), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "ways",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("moved_at", sa.Float(53), primary_key=True),
        sa.Column("is_done", sa.Boolean, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )

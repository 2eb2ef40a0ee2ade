"""Starts of jobs are numbered, and tell how long the earlier ones lasted together (HTCondor)."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns: of what is stored already, nobody has told."""
    for name in ("start_number", "earlier_seconds"):
        op.add_column("runs", sa.Column(name, sa.Integer))

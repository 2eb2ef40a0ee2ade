"""Jobs of whose end accounting has not told in a week are settled: they count as of unknown outcome."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column: those that are old enough are settled by the daemon, a month back."""
    op.add_column("jobs", sa.Column("settled", sa.Boolean, nullable=False, server_default=sa.false()))

"""A random id tells a history database from all others, so that what waits for one is not stored in another."""

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from history.db.schema import UtcDateTime

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the table, with its one row."""
    table = op.create_table(
        "identity",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity"),
    )
    op.bulk_insert(table, [{"id": secrets.token_hex(8), "made_at": datetime.now(UTC).replace(microsecond=0)}])

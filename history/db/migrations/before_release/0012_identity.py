"""A random id tells a history database from all others, so that what waits for one is not stored in another."""

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table, with its one row."""
    table = op.create_table(
        "identity",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity"),
    )
    now = datetime.now(UTC).replace(microsecond=0)
    made_at = int(now.timestamp()) if op.get_bind().dialect.name == "sqlite" else now
    op.bulk_insert(table, [{"id": secrets.token_hex(8), "made_at": made_at}])

"""Submissions of which not all jobs are made at once."""

import sqlalchemy as sa
from alembic import op

from history.schema import UtcDateTime

revision = "0007"
down_revision = "0006"

WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "late_submissions",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("native_id", WORDS, nullable=False),
        sa.Column("submitted_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("owner", WORDS, nullable=False),
        *(sa.Column(name, WORDS) for name in ("account", "vo", "queue")),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("jobs", "made")),
        sa.Column("requested_cpus", sa.Double),
        sa.Column("requested_memory_bytes", sa.BigInteger),
        sa.Column("requested_gpus", sa.Double),
        sa.PrimaryKeyConstraint("cluster", "native_id", "submitted_at", name="pk_late_submissions"),
    )

"""Submissions of which not all jobs are made at once; why jobs are held and runs failed, in a word; and what a
scheduler's settings keep from BBQ.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Add the table and the columns; what Slurm said of holds is a word already."""
    op.create_table(
        "late_submissions",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("native_id", WORDS, nullable=False),
        sa.Column("submitted_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("owner", WORDS, nullable=False),
        *(sa.Column(name, WORDS) for name in ("account", "vo", "queue")),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("jobs", "made")),
        sa.Column("requested_cpus", sa.Double),
        sa.Column("requested_memory_bytes", sa.BigInteger),
        sa.Column("requested_gpus", sa.Double),
        sa.PrimaryKeyConstraint("cluster", "native_id", "submitted_at", name="pk_late_submissions"),
    )
    op.add_column("clusters", sa.Column("remarks", JSON))
    op.add_column("runs", sa.Column("reason", WORDS))
    op.add_column("job_pauses", sa.Column("code", WORDS))
    op.get_bind().exec_driver_sql(
        "UPDATE job_pauses SET code = reason WHERE kind = 'held' AND reason IS NOT NULL AND position(' ' IN reason) = 0"
        if op.get_bind().dialect.name == "postgresql"
        else "UPDATE job_pauses SET code = reason WHERE kind = 'held' AND reason IS NOT NULL AND instr(reason, ' ') = 0"
    )

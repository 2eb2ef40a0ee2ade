"""The rollup, what was set aside, verifications, and tasks that can be resumed; the rollup of what is there already."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = ("cluster", "queue", "owner", "account", "vo", "outcome")
MEASURES = (
    "jobs", "waits", "wait_seconds", "runs", "wall_seconds", "cpu_seconds", "gpu_seconds", "memory_mib_seconds",
    "measured_cpu_seconds", "used_cpu_seconds",
)  # fmt: skip


def upgrade() -> None:
    """Make the new tables, and fill the rollup."""
    op.add_column("clusters", sa.Column("pruned_before", MOMENT))
    op.create_table(
        "usage_daily",
        sa.Column("day", sa.Date, nullable=False),
        *(sa.Column(name, WORDS, nullable=False) for name in KEY),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in MEASURES),
        sa.PrimaryKeyConstraint("day", *KEY, name="pk_usage_daily"),
    )
    op.create_table(
        "set_aside",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("source", WORDS, nullable=False),
        sa.Column("digest", WORDS, nullable=False),
        sa.Column("kind", WORDS, nullable=False),
        sa.Column("said", sa.Text),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("times", sa.Integer, nullable=False),
        sa.Column("first_seen_at", MOMENT, nullable=False),
        sa.Column("last_seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("cluster", "source", "digest", name="pk_set_aside"),
    )
    op.create_table(
        "verifications",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("checked", "missing", "extra", "different")),
        sa.PrimaryKeyConstraint("cluster", "day", name="pk_verifications"),
    )
    op.create_table(
        "tasks",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("task", WORDS, nullable=False),
        sa.Column("source", WORDS, nullable=False),
        *(sa.Column(name, MOMENT, nullable=False) for name in ("since", "until", "reached", "touched_at")),
        sa.PrimaryKeyConstraint("cluster", "task", "source", name="pk_tasks"),
    )
    _fill_in("usage_daily")


def _fill_in(*rollups: str) -> None:
    """Have rollups filled in from the rows when all steps are done."""
    op.get_bind().info["rollups"].update(rollups)

"""More rollups, counters, and an index of failed runs; filled from the rows and the rollup that are there."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NEW = {
    "arrivals_daily": (("queue", "owner", "account", "vo"), ("submitted", "started")),
    "workers_daily": (
        ("worker", "outcome"),
        ("runs", "untold_runs", "wall_seconds", "cpu_seconds", "gpu_seconds", "memory_mib_seconds"),
    ),
    "durations_daily": (("queue", "kind", "at_most_seconds"), ("jobs", "seconds")),
    "efficiency_daily": (
        ("queue", "owner", "account", "vo"),
        ("runs", "untold_runs", "cpu_seconds", "used_cpu_seconds", "memory_mib_seconds", "used_memory_mib_seconds"),
    ),
    "usage_monthly": (
        ("queue", "owner", "account", "vo", "outcome"),
        ("jobs", "waits", "wait_seconds", "runs", "wall_seconds", "cpu_seconds", "gpu_seconds", "memory_mib_seconds",
         "measured_cpu_seconds", "used_cpu_seconds"),
    ),
}  # fmt: skip
LABELS = ("counter", "queue", "owner", "worker", "outcome", "at_most_seconds")


def upgrade() -> None:
    """Make the new tables, and fill them."""
    for name, (key, measures) in NEW.items():
        op.create_table(
            name,
            sa.Column("day", sa.Date, nullable=False),
            *(_key(column) for column in ("cluster", *key)),
            *(sa.Column(column, sa.BigInteger, nullable=False) for column in measures),
            sa.PrimaryKeyConstraint("day", "cluster", *key, name=f"pk_{name}"),
        )
    op.create_table(
        "counters",
        *(_key(column) for column in ("cluster", *LABELS)),
        *(sa.Column(column, sa.BigInteger, nullable=False) for column in ("value", "highest")),
        *(sa.Column(column, MOMENT, nullable=False) for column in ("first_at", "last_at")),
        sa.PrimaryKeyConstraint("cluster", *LABELS, name="pk_counters"),
    )
    failed = sa.text("outcome NOT IN ('completed', 'cancelled', 'preempted', 'unknown', '')")
    op.create_index("ix_runs_failed", "runs", ["ended_at"], sqlite_where=failed, postgresql_where=failed)
    _fill_in("arrivals_daily", "workers_daily", "durations_daily", "efficiency_daily")


def _key(name: str) -> "sa.Column[object]":
    return sa.Column(name, sa.Integer if name == "at_most_seconds" else WORDS, nullable=False)


def _fill_in(*rollups: str) -> None:
    """Have rollups filled in from the rows when all steps are done."""
    op.get_bind().info["rollups"].update(rollups)

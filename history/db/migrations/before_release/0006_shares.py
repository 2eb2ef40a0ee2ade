"""What runs are at other sites: parts of resized runs, suspensions, GPUs by model and what was used of them, more than
32,767 runs; waste that is never negative; what is in use on each worker now; and a seal on what BBQ has written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")
WASTED = {
    "usage_daily": "measured_cpu_seconds", "usage_monthly": "measured_cpu_seconds", "efficiency_daily": "cpu_seconds",
}  # fmt: skip


def upgrade() -> None:
    """Add the columns and the table, and work out what was wasted as far as there are rows."""
    connection = op.get_bind()
    op.add_column("jobs", sa.Column("seal", sa.Integer))
    for name, kind in (
        ("used_gpu_seconds", sa.Double), ("used_gpu_memory_bytes", sa.BigInteger), ("suspended_seconds", sa.Integer),
        ("run_started_at", MOMENT),
    ):  # fmt: skip
        op.add_column("runs", sa.Column(name, kind))
    op.add_column("runs", sa.Column("resized", sa.Boolean, nullable=False, server_default=sa.false()))
    for name in ("gpu_models", "gpu_parts"):
        op.add_column("run_workers", sa.Column(name, JSON))
    if connection.dialect.name == "postgresql":  # SQLite keeps whole numbers of any size in every column
        for table, column in (("jobs", "run_count"), ("runs", "number"), ("run_workers", "number")):
            op.alter_column(table, column, type_=sa.Integer)
    op.create_table(
        "worker_use",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("worker", WORDS, nullable=False),
        sa.Column("read_at", MOMENT, nullable=False),
        sa.Column("cpus", sa.Double),
        sa.Column("memory_bytes", sa.BigInteger),
        sa.Column("jobs", sa.Integer),
        sa.Column("gpus", JSON),
        sa.Column("gpu_parts", JSON),
        sa.PrimaryKeyConstraint("cluster", "worker", name="pk_worker_use"),
    )
    op.add_column("verifications", sa.Column("not_confirmed", sa.Integer, nullable=False, server_default="0"))
    largest = "max" if connection.dialect.name == "sqlite" else "greatest"
    for table, held in WASTED.items():
        op.add_column(table, sa.Column("wasted_cpu_seconds", sa.BigInteger, nullable=False, server_default="0"))
        # of days whose rows are pruned nobody knows better; of the others the rows tell, run by run
        connection.exec_driver_sql(f"UPDATE {table} SET wasted_cpu_seconds = {largest}(0, {held} - used_cpu_seconds)")
    _fill_in("usage_daily", "efficiency_daily")
    connection.exec_driver_sql("DELETE FROM collections WHERE source = 'scheduler'")


def _fill_in(*rollups: str) -> None:
    """Have rollups filled in from the rows when all steps are done."""
    op.get_bind().info["rollups"].update(rollups)

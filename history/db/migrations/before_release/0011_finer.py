"""Lengths of waits and runs by finer bounds; and of jobs that another one took the place of, the runs that they had."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Have the rollups added up anew: that of lengths, and where such runs are, all that have runs in them."""
    bind = op.get_bind()
    ran = bind.exec_driver_sql("SELECT 1 FROM jobs WHERE routed_to IS NOT NULL AND run_count > 0 LIMIT 1").first()
    _fill_in("durations_daily", *(("usage_daily", "workers_daily", "efficiency_daily") if ran else ()))


def _fill_in(*rollups: str) -> None:
    """Have rollups filled in from the rows when all steps are done."""
    op.get_bind().info["rollups"].update(rollups)

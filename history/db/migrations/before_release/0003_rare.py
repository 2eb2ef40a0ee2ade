"""Indexes of what is rare and asked for: exit codes other than 0, and runs that held GPUs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the indexes."""
    failed, held = sa.text("exit_code <> 0"), sa.text("gpus > 0")
    op.create_index(
        "ix_jobs_exit_code", "jobs", ["exit_code", "submitted_at"], sqlite_where=failed, postgresql_where=failed
    )
    op.create_index("ix_runs_gpus", "runs", ["span", "started_at"], sqlite_where=held, postgresql_where=held)

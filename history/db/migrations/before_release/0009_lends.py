"""A cluster says whether it gives the CPUs of suspended jobs to others; its scheduler's name no longer does."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column: of what is stored already, Slurm's clusters do, and the demo's that simulates one."""
    op.add_column("clusters", sa.Column("lends_cpus", sa.Boolean, nullable=False, server_default=sa.false()))
    clusters = sa.table("clusters", sa.column("scheduler"), sa.column("version"), sa.column("lends_cpus"))
    slurm = sa.or_(clusters.c.scheduler == "slurm", clusters.c.version == "simulated Slurm")
    op.execute(clusters.update().where(slurm).values(lends_cpus=sa.true()))

"""Limits, shares, reservations, licences and accounts."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

tables = sa.MetaData()


def _table(name: str, keys: tuple[str, ...], *columns: "sa.Column[Any]") -> None:
    sa.Table(
        name,
        tables,
        sa.Column("cluster", WORDS, nullable=False),
        *(sa.Column(each, WORDS, nullable=False) for each in keys),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        *columns,
        sa.PrimaryKeyConstraint("cluster", *keys, "started_at", name=f"pk_{name}"),
        sa.Index(f"ix_{name}_ended_at", "ended_at"),
    )


_table(
    "limits",
    ("kind", "name", "owner", "account", "queue", "native_limit", "resource"),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("used", sa.Double),
    sa.Column("soft", sa.Boolean, nullable=False),
    sa.Column("newest", DOCUMENT),
)
_table(
    "shares",
    ("account", "owner"),
    sa.Column("parent", WORDS),
    sa.Column("shares", sa.Double),
    sa.Column("entitled", sa.Double),
    sa.Column("used", sa.Double),
    sa.Column("used_seconds", sa.Double),
    sa.Column("factor", sa.Double),
    sa.Column("priority", sa.Double),
    sa.Column("held", sa.Double),
    sa.Column("newest", DOCUMENT),
)
_table(
    "reservations",
    ("reservation",),
    sa.Column("begins_at", MOMENT, nullable=False),
    sa.Column("ends_at", MOMENT),
    sa.Column("active", sa.Boolean),
    sa.Column("queue", WORDS),
    sa.Column("workers", DOCUMENT),
    sa.Column("cpus", sa.Double),
    sa.Column("licences", DOCUMENT),
    sa.Column("owners", DOCUMENT),
    sa.Column("accounts", DOCUMENT),
    sa.Column("unix_groups", DOCUMENT),
    sa.Column("flags", DOCUMENT),
)
_table(
    "licences",
    ("licence",),
    sa.Column("total", sa.Double, nullable=False),
    sa.Column("used", sa.Double),
    sa.Column("reserved", sa.Double),
    sa.Column("newest", DOCUMENT),
)
_table("accounts", ("account",), sa.Column("parent", WORDS))


def upgrade() -> None:
    """Make them."""
    tables.create_all(op.get_bind(), checkfirst=False)

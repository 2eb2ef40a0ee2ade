"""What the columns of the history are made of, the same on SQLite and PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

OPEN_SPAN = 99
"""Span class of a period that has not ended."""

TOP_SPAN = 30
"""Largest class of an ended period (2^31 s is 68 years; longer ones are kept in it as well)."""


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: timestamptz on PostgreSQL, whole seconds since 1970 on SQLite; aware UTC in Python on both."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Integer())
        return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a moment without a time zone reached the database: {value!r}")
        return int(value.timestamp()) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        return datetime.fromtimestamp(value, UTC)


def key_text() -> String:
    """Return the type of text that is compared byte by byte: quicker to index, the same order on both databases."""
    return Text().with_variant(Text(collation="C"), "postgresql")


def json() -> TypeEngine[Any]:
    """Return the type of a document."""
    return JSON().with_variant(postgresql.JSONB(), "postgresql")


SPAN = f"floor(log2(seconds of it)), {OPEN_SPAN} while it goes on: finds what overlaps a time by an index"


def key(name: str) -> Column[Any]:
    """Return a column of words that is never null."""
    return Column(name, key_text(), nullable=False)


def words(name: str, doc: str | None = None) -> Column[Any]:
    """Return a column of words to group and to search by."""
    return Column(name, key_text(), doc=doc)


def moment(name: str, doc: str | None = None, *, nullable: bool = True) -> Column[Any]:
    """Return a column of moments."""
    return Column(name, UtcDateTime, nullable=nullable, doc=doc)


def of_bbq(column: Column[Any]) -> Column[Any]:
    """Return a column that tells of BBQ's own writing, and not of the scheduler's: comparing leaves it out."""
    column.info["of_bbq"] = True
    return column


def is_of_bbq(column: Column[Any]) -> bool:
    """Return whether a column tells of BBQ's own writing."""
    return bool(column.info.get("of_bbq"))


def cluster() -> Column[Any]:
    """Return the column of a cluster's name, as a part of the key."""
    return Column("cluster", key_text(), primary_key=True)


def identity_of_job() -> Iterator[Column[Any]]:
    """Yield the three columns that every key of a big table starts with."""
    yield Column("native_id", key_text(), primary_key=True)
    yield Column("submitted_at", UtcDateTime, primary_key=True)
    yield cluster()


def held() -> Iterator[Column[Any]]:
    """Yield what a run holds, or holds on one worker."""
    yield Column("cpus", Double)
    yield Column("gpus", Double)
    yield Column("memory_bytes", BigInteger)


def span_class(started_at: datetime, ended_at: datetime | None) -> int:
    """Return floor(log2(length in seconds)) of a period, or OPEN_SPAN while it has not ended.

    A period open at T and of class k started after T - 2^(k+1) s: one short index range a class finds it.
    The one place that computes it; whoever writes started_at or ended_at writes this too.
    """
    if ended_at is None:
        return OPEN_SPAN
    seconds = int(ended_at.timestamp()) - int(started_at.timestamp())
    return min(max(seconds, 1).bit_length() - 1, TOP_SPAN)

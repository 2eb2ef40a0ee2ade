"""A pool that says what a test wants, and a BBQ that reads it."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import URL

from history.ingest.store import History
from tests.htcondor_says import Pool, Site


@pytest.fixture
def t() -> int:
    """Return a moment of the day before yesterday: what happens lies behind it."""
    day = (datetime.now(UTC) - timedelta(days=2)).replace(hour=6, minute=0, second=0, microsecond=0)
    return int(day.timestamp())


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def site(pool: Pool, history: History, database: URL) -> Site:
    return Site(pool, history, database)

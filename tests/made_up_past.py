"""A plan of `tests.made_up` all of which has ended, over a midnight, and the window of the past that it is in."""

from datetime import UTC, datetime

from tests.made_up import Plan

SINCE, UNTIL = datetime(2026, 11, 5, 22, tzinfo=UTC), datetime(2026, 11, 6, 2, tzinfo=UTC)
PLAN = Plan(begin=int(SINCE.timestamp()), jobs=1200, rate=0.1)
"""1,200 jobs in three hours and twenty minutes."""

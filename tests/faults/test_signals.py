"""Signals at random moments and in bursts end the daemon; `python -m tests.faults signals` does this a thousand times."""

import random
from pathlib import Path

from sqlalchemy import URL

from tests.faults.signals import Ends, storm

TIMES = 5


def test_signals_at_random_moments_end_it_soon_and_leave_the_history_whole(database: URL, tmp_path: Path) -> None:
    ends = Ends()
    storm(tmp_path, database, TIMES, f"{random.random()}", ends)
    assert ends.wrong == [] and len(ends.seconds) == TIMES

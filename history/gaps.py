"""Times of which something was lost before BBQ could read it, as they are noted of each source."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any


def gap_seconds(gaps: Sequence[Mapping[str, Any]]) -> float:
    """Give how long the times are together; one of which several things were lost (jobs, and runs) counts once."""
    times = sorted((datetime.fromisoformat(gap["since"]), datetime.fromisoformat(gap["until"])) for gap in gaps)
    seconds = 0.0
    reached: datetime | None = None
    for since, until in times:
        begin = since if reached is None else max(since, reached)
        if until > begin:
            seconds += (until - begin).total_seconds()
            reached = until
    return seconds

"""Times of which something was lost before BBQ could read it, as they are noted of each source."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import select, update

from history.batch import Gap
from history.db.schema import collections
from history.ingest.writer import Writer

MAX_GAPS = 100


def gap_seconds(gaps: Sequence[Mapping[str, Any]]) -> float:
    """Return how long the times are together; one of which several things were lost (jobs, and runs) counts once."""
    times = sorted((datetime.fromisoformat(gap["since"]), datetime.fromisoformat(gap["until"])) for gap in gaps)
    seconds = 0.0
    reached: datetime | None = None
    for since, until in times:
        begin = since if reached is None else max(since, reached)
        if until > begin:
            seconds += (until - begin).total_seconds()
            reached = until
    return seconds


def with_gaps(known: Sequence[Any] | None, gaps: Sequence[Gap]) -> list[Any]:
    """Return what is noted of a source with some more gaps, each once."""
    before = known or []
    more = [msgspec.to_builtins(gap) for gap in gaps]
    return [*before, *(gap for gap in more if gap not in before)][-MAX_GAPS:]


def note_lost(writer: Writer, until: datetime, said: str) -> None:
    """Store that readings were lost of each source of a cluster, between what is stored of it and a moment.

    Not of accounting, which can be asked again.
    """
    sources = select(collections.c.source, collections.c.last_success_at, collections.c.gaps).where(
        collections.c.cluster == writer.cluster,
        collections.c.last_success_at < until,
        ~collections.c.source.startswith("accounting"),
    )
    for row in writer.connection.execute(sources).all():
        gaps = with_gaps(row.gaps, [Gap(row.last_success_at, until, said)])
        mine = (collections.c.cluster == writer.cluster) & (collections.c.source == row.source)
        writer.connection.execute(update(collections).where(mine).values(gaps=gaps))

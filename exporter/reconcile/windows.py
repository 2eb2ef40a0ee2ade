"""Going through the past of a cluster's accounting, window by window: to compare, to mend or to fill in.

Nothing here is in a hurry: one question at a time, and after each as much rest as its caller wants.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial

import msgspec

from exporter.readings import AccountingPage, Feed, Kind
from exporter.sources import Source, SourceError, TooMany
from history.batch import JobsBatch
from history.ingest.store import History
from history.reconcile.audit import Audit
from history.reconcile.findings import Finding, Findings, Window

log = logging.getLogger(__name__)

MARGIN = timedelta(hours=1)
"""How much before the first window is looked at, to tell whether accounting remembers that far."""
MAX_LONGER, MAX_SHORTER = 8.0, 0.25
"""How much the next window may differ from the one before."""
SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(days=30)
SETTLED = timedelta(minutes=10)
"""What ended so lately may still be on its way."""


class Part(msgspec.Struct, frozen=True):
    """One window that is done."""

    feed: Feed
    since: datetime
    until: datetime
    findings: Findings
    calls: int
    error: str | None = None
    """Why the rest of this feed's time could not be read; the other feeds go on."""


def accounting_feeds(source: Source, known: Sequence[str]) -> list[Feed]:
    """Return the accounting of a cluster, of each of its schedds. Raises SourceError."""
    return [feed for feed in source.feeds(known) if feed.kind is Kind.ACCOUNTING]


def verify(
    history: History, cluster: str, source: Source, feeds: Sequence[Feed], since: datetime, until: datetime
) -> Iterator[Part]:
    """Compare the history with accounting, and change nothing."""

    def compare(feed: Feed) -> Iterator[Part]:
        for page, window in _windows(cluster, source, feed, since, until):
            findings = Audit(history).compare(window, partial(_again, source, feed))
            yield Part(feed, window.since, window.until, findings, page.calls)

    yield from _each(feeds, compare, since, until)


def _each(
    feeds: Sequence[Feed], work: Callable[[Feed], Iterator[Part]], since: datetime, until: datetime
) -> Iterator[Part]:
    """Go through the feeds; where one cannot be read (a schedd that is away), say so, and go on with the next."""
    for feed in feeds:
        try:
            yield from work(feed)
        except SourceError as error:
            yield Part(feed, since, until, Findings(found=[]), 1, str(error))


def recollect(
    history: History, cluster: str, source: Source, feeds: Sequence[Feed], since: datetime, until: datetime
) -> Iterator[Part]:
    """Make the history what accounting says, going on where an earlier recollection of the same time stopped."""
    audit = Audit(history)

    def mend(feed: Feed) -> Iterator[Part]:
        begin = audit.reached(cluster, "recollect", feed.name, since, until)
        for page, window in _windows(cluster, source, feed, begin, until):
            findings = audit.mend(window, feed.name, page.unreadable, partial(_again, source, feed))
            audit.set_reached(cluster, "recollect", feed.name, since, until, window.until)
            yield Part(feed, window.since, window.until, findings, page.calls)

    yield from _each(feeds, mend, since, until)


def backfill(
    history: History, cluster: str, source: Source, feeds: Sequence[Feed], since: datetime, until: datetime
) -> Iterator[Part]:
    """Store what accounting has of a past from before BBQ was there, going on where an earlier backfill stopped."""
    audit = Audit(history)

    def fill(feed: Feed) -> Iterator[Part]:
        begin = audit.reached(cluster, "backfill", feed.name, since, until)
        for page, window in _windows(cluster, source, feed, begin, until):
            changed = _store(history, cluster, feed, page)
            audit.set_reached(cluster, "backfill", feed.name, since, until, window.until)
            done = Findings(checked=len(page.jobs), changed=changed, found=[])
            yield Part(feed, window.since, window.until, done, page.calls)

    yield from _each(feeds, fill, since, until)


def _store(history: History, cluster: str, feed: Feed, page: AccountingPage) -> int:
    """Store what accounting tells of a time: nothing that is there is taken out. Return how many jobs changed."""
    return history.save(
        JobsBatch(
            cluster=cluster,
            source=feed.name,
            seen_at=datetime.now(UTC).replace(microsecond=0),
            jobs=page.jobs,
            unreadable=page.unreadable,
            collected=False,
        )
    )


def nightly(
    history: History,
    cluster: str,
    source: Source,
    feeds: Sequence[Feed],
    day: date,
    rest: Callable[[float], bool],
    calls: Callable[[Feed, int], None],
) -> tuple[Findings, dict[str, str]] | None:
    """Verify one day with much rest between the questions, store what came late to accounting, and note the result.

    Rows may reach accounting later than any poll looks back (slurmctld cut off from slurmdbd for long).

    Args:
        rest: waits some seconds; tells whether to stop.
        calls: is told of every question put to the scheduler.

    Returns:
        the findings, of what is still so, and the feeds that could not be read; None when it was stopped.
    """
    since = datetime.combine(day, datetime.min.time(), UTC)
    until = since + timedelta(days=1)
    together = Findings(found=[])
    began = datetime.now(UTC)
    away: dict[str, str] = {}

    def compare(feed: Feed) -> Iterator[Part]:
        for page, window in _windows(cluster, source, feed, since, until):
            findings = Audit(history).compare(window, partial(_again, source, feed))
            late = _late(findings)
            if late:
                ids = {each.native_id for each in late}
                jobs = [job for job in page.jobs if job.native_id in ids]
                _store(history, cluster, feed, msgspec.structs.replace(page, jobs=jobs))
                findings = Audit(history).compare(window, partial(_again, source, feed))
                findings.changed = len(late) - len(_late(findings))
            yield Part(feed, window.since, window.until, findings, page.calls)

    for part in _each(feeds, compare, since, until):
        if part.error is not None:
            away[part.feed.name] = part.error
        together.add(part.findings)
        calls(part.feed, part.calls)
        now = datetime.now(UTC)
        if rest(max(1.0, 4 * (now - began).total_seconds())):
            return None
        began = datetime.now(UTC)
    together.usage_days = Audit(history).compare_usage(cluster, [day])
    return together, away


def _late(findings: Findings) -> list[Finding]:
    """Return the jobs of which accounting told, or of a run of which it did, after it had been asked: else a row is
    damaged."""
    return [each for each in findings.found if each.kind == "missing" or not _LATE.isdisjoint(each.columns)]


_LATE = frozenset({"jobs.accounted", "runs.accounted", "runs.*"})


def _again(source: Source, feed: Feed, native_ids: Sequence[str]) -> AccountingPage:
    return source.read_named(feed, native_ids, datetime.now(UTC))


def _windows(
    cluster: str, source: Source, feed: Feed, since: datetime, until: datetime
) -> Iterator[tuple[AccountingPage, Window]]:
    """Read [since, until) in windows of about as many jobs as the source likes, as far as the one before tells."""
    width = timedelta(seconds=source.window_seconds)
    begin, margin = since, MARGIN
    remembered: datetime | None = None
    while begin < until:
        end = min(begin + width, until)
        try:
            page = source.read_window(feed, begin, end, margin)
        except TooMany:
            if width <= SHORTEST:
                raise
            width = max(SHORTEST, timedelta(seconds=int(width.total_seconds()) // 4))
            continue
        if remembered is None:
            remembered = page.remembered_since
        yield (
            page,
            Window(
                cluster=cluster,
                queue=feed.queue,
                since=begin,
                until=end,
                jobs=page.jobs,
                remembered_since=remembered,
                tells_all_runs=page.tells_all_runs,
                forgets_by=page.forgets_by,
                forgets_in_order=page.forgets_in_order,
                cut=bool(page.unreadable),
            ),
        )
        begin, margin = end, timedelta()
        change = min(MAX_LONGER, max(MAX_SHORTER, source.window_jobs / max(1, len(page.jobs))))
        width = max(SHORTEST, min(LONGEST, timedelta(seconds=int(width.total_seconds() * change))))

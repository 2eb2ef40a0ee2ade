"""bbq-exporter --check: every source tried once, as a table."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import click
from sqlalchemy import URL, text
from sqlalchemy.exc import SQLAlchemyError

from exporter.board import Board
from exporter.config import Cluster, Config
from exporter.page import MetricsPage
from exporter.snapshot import Feed, JobsReading, Kind
from exporter.sources import Source, SourceError, open_source
from history.database import HistoryError, explain, open_database, shown
from history.rollup import BOUNDS

_FOR_EVER = 1e9
_A_WHOSE = 5 + 4
"""Counters of an owner in a queue: submitted, started, CPU, GPU, wasted; and ended, of the usual outcomes."""
_A_WORKER = 4
_A_QUEUE = 2 * (len(BOUNDS) + 3)
"""Series of two histograms: buckets, with that of what is longer, sum and count."""
Line = tuple[str, str, bool, float, str]
"""Cluster, what was tried, whether it worked, seconds, what was seen."""


def check_table(config: Config, url: URL) -> int:
    """Try the database and every source, print what came of it, and give the exit code."""
    failed = False
    board = Board(owners=config.limits.owners)
    click.echo(f"{'':2} {'CLUSTER':<16} {'SOURCE':<44} {'SECONDS':>8}  RESULT")
    for cluster, what, worked, seconds, said in (
        *_history(url),
        *(line for each in config.clusters for line in _cluster(each, board)),
        _series(config, board),
    ):
        failed = failed or not worked
        click.echo(f"{'ok' if worked else '!!':2} {cluster:<16} {what:<44} {seconds:>8.2f}  {said}")
    return 1 if failed else 0


def _history(url: URL) -> Iterator[Line]:
    began = time.monotonic()
    try:
        with open_database(url).connect() as connection:
            connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, HistoryError) as error:
        said = explain(error, url) if isinstance(error, SQLAlchemyError) else str(error)
        yield "", "history", False, time.monotonic() - began, said
    else:
        yield "", "history", True, time.monotonic() - began, shown(url)


def _cluster(cluster: Cluster, board: Board) -> Iterator[Line]:
    began = time.monotonic()
    board.add_cluster(cluster.name, cluster.scheduler, _FOR_EVER)
    try:
        source = open_source(cluster)
        version = source.version()
        feeds = source.feeds()
    except SourceError as error:
        yield cluster.name, "version", False, time.monotonic() - began, str(error)
        return
    yield cluster.name, "version", True, time.monotonic() - began, f"{cluster.scheduler} {version}"
    began = time.monotonic()
    try:
        for said in source.remarks():
            yield cluster.name, "settings", True, time.monotonic() - began, f"note: {said}"
    except SourceError as error:
        yield cluster.name, "settings", False, time.monotonic() - began, str(error)
    for feed in feeds:
        began = time.monotonic()
        try:
            said = _try(source, feed, cluster.name, board)
        except SourceError as error:
            yield cluster.name, feed.name, False, time.monotonic() - began, str(error)
        else:
            yield cluster.name, feed.name, True, time.monotonic() - began, said


def _try(source: Source, feed: Feed, cluster: str, board: Board) -> str:
    board.add_feed(cluster, feed, _FOR_EVER)
    if feed.kind is Kind.ACCOUNTING:
        page = source.read_accounting(feed, None, datetime.now(UTC))
        return f"{len(page.jobs):,} jobs ended lately"
    if feed.kind is Kind.JOBS:
        reading: JobsReading = source.read_jobs(feed)
        board.publish(cluster, feed, reading, 0.0)
        return f"{len(reading.jobs):,} jobs"
    if feed.kind is Kind.SCHEDULER:
        health = source.read_scheduler(feed)
        board.publish(cluster, feed, health, 0.0)
        cycles = ", ".join(f"{kind} cycle {seconds:.3g} s" for kind, seconds in health.cycle_seconds.items())
        return cycles or "it tells nothing of its cycles"
    workers = source.read_workers(feed)
    board.publish(cluster, feed, workers, 0.0)
    return f"{len(workers.workers):,} workers, {len(workers.queues):,} queues"


def _series(config: Config, board: Board) -> Line:
    """Tell how many series there are, and how many there will be when the counters of some weeks are among them."""
    began = time.monotonic()
    counters = 0
    for cluster in board.clusters():
        view = board.view(cluster)[1]
        whose = {(owner, queue) for each in view.tallies for owner, _, _, queue, _ in each.jobs}
        workers = 0 if view.workers is None else len(view.workers.workers)
        counters += _A_WHOSE * len(whose) + _A_WORKER * workers + _A_QUEUE * len({queue for _, queue in whose})
    now = MetricsPage(board, None, config.limits.series).series()
    most = config.limits.series
    said = f"{now:,} series now, about {now + counters:,} with the history's counters, of {most:,} allowed"
    return "", "metrics", now + counters <= most, time.monotonic() - began, said

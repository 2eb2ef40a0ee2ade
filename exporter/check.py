"""bbq-exporter --check: every source tried once, as a table."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
from sqlalchemy import URL, text
from sqlalchemy.exc import SQLAlchemyError

from exporter.exposition import MetricsPage
from exporter.latest import Board
from exporter.readings import POLICY, Feed, JobsReading, Kind
from exporter.settings import Cluster, Config
from exporter.sources import Source, SourceError, open_source
from history.db import HistoryError
from history.db.database import explain, open_database, refuse_encoding, shown
from history.db.private_files import refuse_shared
from history.db.upgrade import current, newest, refuse_other_schema
from history.rollups.definitions import BOUNDS
from history.spool.pieces import refuse_another

_FOR_EVER = 1e9
_A_WHOSE = 5 + 4
"""Counters of an owner in a queue: submitted, started, CPU, GPU, wasted; and ended, of the usual outcomes."""
_A_WORKER = 4
_A_QUEUE = 2 * (len(BOUNDS) + 3)
"""Series of two histograms: buckets, with that of what is longer, sum and count."""
Line = tuple[str, str, bool, float, str]
"""Cluster, what was tried, whether it worked, seconds, what was seen."""


def check_table(config: Config, url: URL, spool: Path) -> int:
    """Try the database, the spool and every source, print what came of it, and return the exit code."""
    failed = False
    board = Board(owners=config.limits.owners)
    click.echo(f"{'':2} {'CLUSTER':<16} {'SOURCE':<44} {'SECONDS':>8}  RESULT")
    for cluster, what, worked, seconds, message in (
        _line("history", partial(_history, url)),
        _line("spool", partial(_spool, spool, url)),
        *(line for each in config.clusters for line in _cluster(each, board)),
        _series(config, board),
    ):
        failed = failed or not worked
        click.echo(f"{'ok' if worked else '!!':2} {cluster:<16} {what:<44} {seconds:>8.2f}  {message}")
    return 1 if failed else 0


def _line(what: str, attempt: Callable[[], str], cluster: str = "") -> Line:
    """Try something."""
    began = time.monotonic()
    try:
        message, worked = attempt(), True
    except (HistoryError, SourceError) as error:
        message, worked = str(error), False
    return cluster, what, worked, time.monotonic() - began, message


def _history(url: URL) -> str:
    """Do to the database what the daemon will, and take it back. Raises HistoryError."""
    name = shown(url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return f"{name}: {_can_be_made(Path(url.database or '').absolute(), 'history database')}"
    engine = open_database(url)
    try:
        with engine.connect() as connection:
            refuse_encoding(connection)
            there = current(connection)
            if there is not None and there > newest():
                refuse_other_schema(connection, url)
            connection.execute(text("CREATE TABLE bbq_check (answer integer)"))
            if there is not None:
                connection.execute(text("UPDATE clusters SET cluster = cluster WHERE 1 = 0"))
            connection.rollback()
    except SQLAlchemyError as error:
        raise HistoryError(f"{explain(error, url)}; bbq-exporter makes and writes tables there") from error
    finally:
        engine.dispose()
    if there is None:
        return f"{name}: empty; bbq-exporter makes its tables"
    return name if there == newest() else f"{name}: schema {there}; bbq-exporter makes it {newest()}"


def _spool(folder: Path, url: URL) -> str:
    """Return whether the daemon, as this user, can keep there what waits for the database. Raises HistoryError."""
    if not folder.exists():
        return f"{folder}: {_can_be_made(folder.absolute(), 'spool')}"
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise HistoryError(f"spool {folder}: it is no folder that this user may write; set history.spool to one")
    _refuse_shared(folder, f"spool {folder}")
    waiting = sum(path.stat().st_size for path in folder.glob("*.spool"))
    if not waiting:
        return str(folder)
    _refuse_another(url, folder)
    return f"{folder}: {waiting:,} bytes wait for the database"


def _refuse_another(url: URL, folder: Path) -> None:
    """Refuse a database that what waits is not for. Raises HistoryError."""
    engine = open_database(url, readonly=True)
    try:
        refuse_another(engine, folder)
    except SQLAlchemyError:
        return  # it is away, or has no tables yet: the line before this one says so
    finally:
        engine.dispose()


def _can_be_made(path: Path, what: str) -> str:
    above = next(folder for folder in path.parents if folder.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise HistoryError(f"{what} {path}: not there, and this user may not make it in {above}")
    if path.parent.exists():
        _refuse_shared(path.parent, f"{what} {path}")
    return "not there yet; bbq-exporter makes it"


def _refuse_shared(folder: Path, what: str) -> None:
    try:
        refuse_shared(folder)
    except PermissionError as error:
        raise HistoryError(f"{what}: {error.strerror}") from error


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
    yield _line("permissions", source.permissions, cluster.name)
    began = time.monotonic()
    try:
        for message in source.remarks():
            yield cluster.name, "settings", True, time.monotonic() - began, f"note: {message}"
    except SourceError as error:
        yield cluster.name, "settings", False, time.monotonic() - began, str(error)
    for feed in feeds:
        yield _line(feed.name, partial(_try, source, feed, cluster.name, board), cluster.name)


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
    if feed.kind in POLICY:
        policy = source.read_policy(feed)
        board.publish(cluster, feed, policy, 0.0)
        return f"{len(getattr(policy, feed.kind.value)):,} {feed.kind.value}"
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
    maximum = config.limits.series
    message = f"{now:,} series now, about {now + counters:,} with the history's counters, of {maximum:,} allowed"
    return "", "metrics", now + counters <= maximum, time.monotonic() - began, message

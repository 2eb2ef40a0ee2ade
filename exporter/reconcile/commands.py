"""bbq-exporter verify, recollect and backfill: what needs both the scheduler and the database. Commands."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy.exc import SQLAlchemyError

from exporter.config import configuration, database_url
from exporter.readings import Feed
from exporter.reconcile import windows
from exporter.sources import Source, SourceError, open_source
from history.answer import Answer
from history.commands.options import When
from history.db import HistoryError
from history.db.database import explain, open_database
from history.ingest.store import History
from history.reconcile.audit import Audit
from history.reconcile.findings import Findings
from history.render.table import to_table
from history.settings import ConfigError
from history.timespec import local

_F = TypeVar("_F", bound=Callable[..., Any])
_Work = Callable[[History, str, Source, Sequence[Feed], datetime, datetime], Iterator[windows.Part]]


def _shared(command: _F) -> _F:
    """Add the options that all three commands have."""
    for option in (
        click.option("--format", "output", type=click.Choice(["table", "json"]), default="table"),
        click.option(
            "--cluster", "clusters", multiple=True, metavar="NAME", help="Only this cluster; may be repeated."
        ),
        click.option("--database", help="History database; else as the daemon finds it."),
        click.option("--config.file", "config_file", type=click.Path(path_type=Path), help="Configuration (YAML)."),
    ):
        command = option(command)
    return command


_since = click.option("--since", type=When(), required=True, help="Beginning of the time.")
_until = click.option("--until", type=When(), help="End of the time; ten minutes ago when not said.")


@click.command()
@click.option("--since", type=When(), help="Beginning of the time; yesterday's when not said.")
@_until
@click.option("--limit", type=click.IntRange(0), default=20, help="Name at most so many jobs.")
@_shared
@click.pass_context
def verify(
    context: click.Context, /, since: datetime | None, until: datetime | None, limit: int, **options: Any
) -> None:
    """Compare the history, job by job, with the scheduler's accounting; exit 1 if they differ.

    Nothing is changed. MISSING is what accounting tells of and the history lacks; DIFFERENT what it tells otherwise;
    EXTRA a row that BBQ has not written. NOT CONFIRMED is what was seen, or told by accounting once, and accounting
    does not remember: pruned or rotated away, lost with the scheduler's state, or of an answer that was cut. Nothing is
    wrong with it.

    \b
    Examples:
      bbq-exporter verify
      bbq-exporter --config.file bbq.yaml verify --since 7d
    """
    if since is None:
        today = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        since, until = (today - timedelta(days=1)).astimezone(UTC), until or today.astimezone(UTC)
    results = _work(context, windows.verify, since, until, options)
    wrong = False
    for result in results:
        result.findings.usage_days = result.days
        wrong = wrong or bool(result.findings.found) or bool(result.days) or bool(result.errors)
    _say(results, options["output"], limit)
    sys.exit(1 if wrong else 0)


@click.command()
@_since
@_until
@click.option("--limit", type=click.IntRange(0), default=20, help="Name at most so many jobs.")
@click.option("--dry-run", is_flag=True, help="Change nothing; print, job by job, what would be taken out.")
@_shared
@click.pass_context
def recollect(
    context: click.Context, /, since: datetime, until: datetime | None, limit: int, dry_run: bool, **options: Any
) -> None:
    """Read a time again from the scheduler's accounting, and make the history what it says.

    Nothing that was seen, or told by accounting once, is taken out because accounting does not tell of it any more.
    What is taken out, rows that BBQ has not written and jobs that turn out to be one with another, is kept whole in
    `set_aside`, and `bbq-history put-back` puts it back. The daily rollup of every day that is touched is computed
    anew. Interrupted, the same command goes on.

    \b
    Examples:
      bbq-exporter recollect --since 2026-01-03 --until 2026-01-04 --dry-run
      bbq-exporter recollect --since 2026-01-03 --until 2026-01-04
    """
    results = _work(context, windows.verify if dry_run else windows.recollect, since, until, options)
    _say(results, options["output"], limit)
    if dry_run and options["output"] == "table":
        _say_taken_out(results)
    sys.exit(1 if any(each.errors for each in results) else 0)


@click.command()
@_since
@_until
@_shared
@click.pass_context
def backfill(context: click.Context, /, since: datetime, until: datetime | None, **options: Any) -> None:
    """Fill in a past from before BBQ was there, as far as the scheduler's accounting remembers it.

    Interrupted, the same command goes on where it stopped.

    \b
    Examples:
      bbq-exporter backfill --since 30d
    """
    results = _work(context, windows.backfill, since, until, options)
    if options["output"] == "json":
        click.echo(
            json.dumps(
                [
                    {
                        **_where(each),
                        "read": each.findings.checked,
                        "new": each.findings.changed,
                        "errors": each.errors,
                    }
                    for each in results
                ]
            )
        )
    else:
        for each in results:
            click.echo(
                f"{each.cluster} {each.source}: {each.findings.checked:,} records read, "
                f"{each.findings.changed:,} jobs new or changed"
            )
        _say_errors(results)
    sys.exit(1 if any(each.errors for each in results) else 0)


class _Result:
    """What came of one source."""

    def __init__(self, cluster: str, source: str, since: datetime, until: datetime) -> None:
        self.cluster, self.source, self.since, self.until = cluster, source, since, until
        self.findings = Findings(found=[])
        self.days: list[Any] = []
        self.errors: list[str] = []


def _work(
    context: click.Context, work: _Work, since: datetime, until: datetime | None, options: dict[str, Any]
) -> list[_Result]:
    """Go through the time for every cluster, with a progress bar; errors become one line and exit code 1."""
    parent = context.parent.params if context.parent is not None else {}
    results: dict[tuple[str, str], _Result] = {}
    url = None
    try:
        config = configuration(options["config_file"] or parent.get("config_file"))
        url = database_url(config, options["database"] or parent.get("database"))
        history = History(open_database(url))
        history.prepare()
        names = [cluster.name for cluster in config.clusters]
        for name in options["clusters"]:
            if name not in names:
                raise ConfigError(f"no cluster called {name!r} is configured; there are {', '.join(names)}")
        settled = (datetime.now(UTC) - windows.SETTLED).replace(microsecond=0)
        end = min(until or settled, settled)
        if until is not None and until > settled:
            click.echo(f"what ended after {local(end)} is too fresh to be settled, and is left out", err=True)
        if end <= since:
            raise ConfigError(
                f"the time from {since:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC is empty or too fresh to be settled"
            )
        for cluster in config.clusters:
            if options["clusters"] and cluster.name not in options["clusters"]:
                continue
            source = open_source(cluster)
            history.begin(cluster.name, cluster.scheduler, lends_cpus=source.lends_cpus)
            feeds = windows.accounting_feeds(source, history.known_queues(cluster.name))
            total = int((end - since).total_seconds()) * len(feeds)
            for feed in feeds:
                results[cluster.name, feed.name] = _Result(cluster.name, feed.name, since, end)
            with _bar(total, cluster.name) as moved:
                for part in work(history, cluster.name, source, feeds, since, end):
                    results[cluster.name, part.feed.name].findings.add(part.findings)
                    if part.error is not None:
                        results[cluster.name, part.feed.name].errors.append(part.error)
                    moved(int((part.until - part.since).total_seconds()))
            if work is not windows.backfill and feeds:
                days = [since.date() + timedelta(days=more) for more in range((end.date() - since.date()).days + 1)]
                results[cluster.name, feeds[0].name].days = Audit(history).compare_usage(cluster.name, days)
    except (ConfigError, HistoryError, SourceError) as error:
        raise click.ClickException(str(error)) from error
    except SQLAlchemyError as error:
        raise click.ClickException(explain(error, url) if url is not None else str(error)) from error
    except KeyboardInterrupt:
        click.echo("\ninterrupted; the same command goes on where it stopped", err=True)
        sys.exit(130)
    return list(results.values())


@contextmanager
def _bar(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """Show progress on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield bar.update


_KINDS = ("missing", "different", "extra")


def _say(results: Sequence[_Result], output: str, limit: int) -> None:
    if output == "json":
        click.echo(json.dumps([_as_json(each) for each in results], indent=1))
        return
    rows = [
        (
            each.cluster,
            each.source,
            each.findings.checked,
            *(each.findings.count(kind) for kind in _KINDS),
            len(each.findings.not_confirmed),
        )
        for each in results
    ]
    answer = Answer(("cluster", "source", "checked", *_KINDS, "not_confirmed"), rows)
    click.echo(to_table([answer], width=10_000), nl=False)
    found = [(each, finding) for each in results for finding in each.findings.found]
    for each, finding in found[:limit]:
        what = f": {', '.join(finding.columns)}" if finding.columns else ""
        click.echo(
            f"{finding.kind}  {each.cluster} {finding.native_id}  "
            f"submitted {finding.submitted_at:%Y-%m-%dT%H:%M:%SZ}{what}"
        )
    if len(found) > limit:
        click.echo(f"... and {len(found) - limit:,} more (--limit, --format json)")
    for each in results:
        why = Counter(finding.why or "" for finding in each.findings.not_confirmed)
        if why:
            said = ", ".join(f"{count:,} {word}" for word, count in why.most_common())
            click.echo(f"not confirmed  {each.cluster} {each.source}: {said}")
    for each in results:
        for day in each.days:
            click.echo(f"usage_daily  {each.cluster}: {day} is not the sum of its rows")
    _say_errors(results)


def _say_taken_out(results: Sequence[_Result]) -> None:
    """Name each job that a recollection would take out."""
    jobs = [(each.cluster, job) for each in results for job in each.findings.taken_out]
    click.echo(f"{len(jobs):,} jobs would be taken out, and kept in set_aside")
    for cluster, job in jobs:
        click.echo(
            f"take out  {cluster} {job.native_id}  submitted {job.submitted_at:%Y-%m-%dT%H:%M:%SZ}  owner {job.owner}  "
            f"{job.outcome or job.state}"
        )


def _say_errors(results: Sequence[_Result]) -> None:
    for each in results:
        for error in each.errors:
            click.echo(f"bbq-exporter: {each.cluster} {each.source}: {error}", err=True)


def _where(result: _Result) -> dict[str, Any]:
    return {
        "cluster": result.cluster,
        "source": result.source,
        "since": result.since.isoformat(),
        "until": result.until.isoformat(),
    }


def _as_json(result: _Result) -> dict[str, Any]:
    return {
        **_where(result),
        "checked": result.findings.checked,
        **{kind: result.findings.count(kind) for kind in ("missing", "different", "extra")},
        "not_confirmed": len(result.findings.not_confirmed),
        "not_confirmed_why": dict(Counter(each.why or "" for each in result.findings.not_confirmed)),
        "errors": result.errors,
        "usage_days": [day.isoformat() for day in result.days],
        "taken_out": [
            {"native_id": job.native_id, "submitted_at": job.submitted_at.isoformat(), "owner": job.owner}
            for job in result.findings.taken_out
        ],
        "found": [
            {
                "kind": each.kind,
                "native_id": each.native_id,
                "submitted_at": each.submitted_at.isoformat(),
                "columns": list(each.columns),
            }
            for each in result.findings.found
        ],
    }

"""Everything that the demo has is found: by the question, and on the panel, that grafana/README.md names for it."""

import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import URL, Engine, text

from exporter.exposition import MetricsPage
from exporter.latest import Board
from exporter.readings import Feed, JobsReading, Kind, WorkersReading
from exporter.sources.demo import Settings, Source
from history.batch import JobsBatch, WorkersBatch
from history.db.database import open_database
from history.ingest.store import History
from tests.grafana_asks import Grafana, Table, dashboards, panels
from tests.now import asker
from tests.places import ROOT
from tests.situations import SITUATIONS, Situation, rows

BOARDS = dashboards()
BEGIN = 1_790_000_000.0
HOURS = 3
README = ROOT / "grafana" / "README.md"


def test_the_table_is_that_of_the_situations() -> None:
    """What is printed is to be put there."""
    table = "\n".join(rows())
    assert table in README.read_text(), table


@pytest.mark.postgres
def test_each_situation_is_told_by_its_question_and_shown_on_its_panel(postgres_database: URL) -> None:
    engine = open_database(postgres_database)
    page = _lived(History(engine))
    missing = [found for each in SITUATIONS for found in _looked_for(each, engine, postgres_database, page)]
    engine.dispose()
    assert not missing, "\n".join(missing)


def _lived(history: History) -> str:
    """Store some hours of the demo, and return its metrics page."""
    history.prepare()
    board = Board(owners=200, now=lambda: _at(HOURS))
    for name in ("grid", "local"):
        clock = [BEGIN]
        source = Source(
            Settings(name=name, scheduler="demo", shape=name, scale=0.06), clock=lambda clock=clock: clock[0]
        )
        history.begin_cluster(name, "demo", source.version(), _at(0))
        board.add_cluster(name, "demo", 180)
        for feed in source.feeds():
            board.add_feed(name, feed, 60)
        marks: dict[str, str | None] = {}
        for hour in range(HOURS + 1):
            clock[0] = BEGIN + 3600 * hour
            for feed in source.feeds():
                if feed.kind is Kind.JOBS or feed.kind is Kind.WORKERS:
                    read = source.read_jobs if feed.kind is Kind.JOBS else source.read_workers
                    reading: JobsReading | WorkersReading = read(feed)
                    board.publish(name, feed, reading, 0.1)
                    history.save(_batch(name, feed, reading))
                elif feed.kind is Kind.ACCOUNTING:
                    marks[feed.name] = _save_ended(history, name, source, feed, marks.get(feed.name), _at(hour))
    return MetricsPage(board, None, 50_000).text().decode()


def _batch(cluster: str, feed: Feed, reading: JobsReading | WorkersReading) -> JobsBatch | WorkersBatch:
    if isinstance(reading, JobsReading):
        return JobsBatch(
            cluster=cluster, source=feed.name, seen_at=reading.taken_at, jobs=list(reading.jobs), whole_queue=True,
            queue=feed.queue, unmade=reading.unmade,
        )  # fmt: skip
    return WorkersBatch(
        cluster=cluster, source=feed.name, seen_at=reading.taken_at, workers=list(reading.workers),
        queues=list(reading.queues),
    )  # fmt: skip


def _save_ended(
    history: History, cluster: str, source: Source, feed: Feed, mark: str | None, now: datetime
) -> str | None:
    while True:
        page = source.read_accounting(feed, mark, now)
        mark = page.watermark
        history.save(JobsBatch(cluster=cluster, source=feed.name, seen_at=now, jobs=page.jobs, watermark=mark))
        if page.complete:
            return mark


def _at(hour: int) -> datetime:
    return datetime.fromtimestamp(BEGIN, UTC) + timedelta(hours=hour)


def _looked_for(each: Situation, engine: Engine, database: URL, page: str) -> Iterator[str]:
    """Yield what is not found of a situation."""
    cluster, name = None, ""
    if each.find:
        with engine.connect() as connection:
            found = connection.execute(text(f"{each.find} LIMIT 1")).first()
        if found is None:
            yield f"{each.what}: the demo has none"
            return
        cluster, name = found
    question = each.ask.replace("1d", _at(-1).isoformat())
    words = [name if word in ("JOB", "WORKER") else word for word in shlex.split(question)]
    clusters = [cluster] if cluster is not None else ["grid", "local"]
    said = "".join(json.dumps(asker(database, one)(*words)) for one in clusters)
    if not re.search(each.says, said):
        yield f"{each.what}: bbq {' '.join(words)} does not say {each.says}: {said[:2000]}"
    yield from _shown(each, engine, cluster, name, page)


def _shown(each: Situation, engine: Engine, cluster: str | None, name: str, page: str) -> Iterator[str]:
    board = BOARDS[f"bbq-{each.board}"]
    (panel,) = [panel for panel in panels(board) if panel["title"] == each.panel]
    (target, *_) = panel["targets"]
    if "rawSql" not in target:
        if not re.search(each.shows, page):
            yield f"{each.what}: {each.shows} is not on the metrics page"
        return
    chosen = {each.board: name, "cluster": cluster or "$__all"}
    answer = Grafana(board, None, engine, begin=_at(-48), end=_at(HOURS), chosen=chosen).ask(target)
    assert isinstance(answer, Table)
    lines = [" ".join(_word(value) for value in row) for row in answer.rows]
    if not any(re.search(each.shows, line) for line in lines):
        yield f"{each.what}: {each.panel} of {name} does not show {each.shows}: {lines[:5]}"


def _word(value: object) -> str:
    return "" if value is None else str(value)

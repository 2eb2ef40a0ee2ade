"""Counters and histograms: what is shown of them, and that nothing sets them back or counts them twice."""

import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import URL, func, select

from exporter.exposition import MetricsPage
from exporter.history_counters import TotalsReader, totals
from exporter.latest import Board
from exporter.readings import Feed, JobsReading, Kind
from history.batch import Gap, JobsBatch
from history.db import schema
from history.db.database import open_database
from history.ingest.store import History
from history.rollups.counters import Count
from history.rollups.definitions import DURATIONS, WORKERS
from history.rollups.tables import table_of
from tests.builders import ended, pending
from tests.conftest import Process, missing
from tests.killing import configuration, finish
from tests.made_up import Plan
from tests.pages import NOW, samples

COUNTERS = ("bbq_jobs_", "bbq_worker_runs_", "bbq_cpu_", "bbq_gpu_", "bbq_job_wait_", "bbq_job_run_")


def count(owner: str, value: int, first: datetime, counter: str = "jobs_submitted", last: datetime = NOW) -> Count:
    return Count(counter, "q", owner, "", "", 0, value, first, last)


def test_an_owner_who_comes_later_never_takes_a_place() -> None:
    """Owners keep their series, however much others do: one that changed places would make `(other)` fall."""
    days = [NOW - timedelta(days=day) for day in range(4)]
    counts = [count("new", 1000, days[0]), count("old", 1, days[3]), count("b", 5, days[1]), count("a", 2, days[1])]
    shown = totals(counts, 2, NOW).counters["jobs_submitted"]
    assert shown == {("q", "old"): 1, ("q", "a"): 2, ("q", "(other)"): 1005}


def test_what_has_not_moved_for_long_is_left_out_but_not_of_sums() -> None:
    long_ago = NOW - timedelta(days=31)
    counts = [
        count("old", 3, long_ago, last=long_ago), count("here", 4, long_ago), count("late", 5, NOW - timedelta(1)),
        count("gone", 6, NOW - timedelta(days=40), last=long_ago),
    ]  # fmt: skip
    assert totals(counts, 2, NOW).counters["jobs_submitted"] == {("q", "here"): 4, ("q", "(other)"): 8}
    assert totals(counts, 9, NOW).counters["jobs_submitted"] == {("q", "here"): 4, ("q", "late"): 5}


def test_a_histogram_stays_whole_though_nothing_falls_into_a_bucket_any_more() -> None:
    long_ago = NOW - timedelta(days=31)
    counts = [
        Count("job_wait_seconds", "q", "", "", "", at_most, 5, long_ago, last)
        for at_most, last in ((10, NOW), (60, long_ago))
    ]
    assert totals(counts, 2, NOW).counters["job_wait_seconds"] == {("q", 10): 5, ("q", 60): 5}


def test_a_counter_of_a_newer_release_is_passed_over() -> None:
    assert "teleported" not in totals([count("a", 1, NOW, counter="teleported")], 2, NOW).counters


def page_of(history: History) -> str:
    board = Board(now=lambda: datetime.now(UTC))
    board.add_cluster("local", "slurm", 60)
    board.add_feed("local", Feed(kind=Kind.JOBS), 60)
    page = MetricsPage(board, history, 50_000)
    TotalsReader(history, ["local"], board.count, owners=200, interval_seconds=60).read()
    return page.text().decode()


def test_the_page_counts_what_the_history_has(history: History) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    history.save_jobs("local", "jobs", [pending("1"), ended("2"), ended("3")], seen_at=now)
    page = page_of(history)
    found = samples(page)
    who = (("cluster", "local"), ("owner", "alice"), ("queue", "batch"))
    assert found["bbq_jobs_submitted_total"] == {who: 3}
    assert found["bbq_jobs_started_total"] == {who: 2}
    assert sum(found["bbq_jobs_ended_total"].values()) == 2
    buckets = found["bbq_job_wait_seconds_bucket"]
    assert [dict(labels)["le"] for labels in buckets][-1] == "+Inf" and list(buckets.values()) == sorted(
        buckets.values()
    )
    assert list(found["bbq_job_wait_seconds_count"].values()) == [2]
    if shutil.which("promtool") is None:
        missing("no promtool: apt-get install prometheus")
    said = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_counters_that_are_not_read_any_more_are_not_shown_as_fresh() -> None:
    clock = [NOW]
    board = Board(now=lambda: clock[0])
    board.add_cluster("c", "any", 180)
    feed = Feed(kind=Kind.JOBS)
    board.add_feed("c", feed, 60)
    page = MetricsPage(board, None, 50_000)
    board.publish("c", feed, JobsReading(taken_at=NOW, jobs=[]), 0.1)
    board.count("c", totals([count("a", 1, NOW)], 2, NOW))
    assert "bbq_jobs_submitted_total{" in page.text().decode()
    clock[0] = NOW + timedelta(seconds=181)
    assert "bbq_jobs_submitted_total" not in page.text().decode()


Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def counters(url: str) -> Series:
    """Return every counter of the history on a page."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(requests.get(url, timeout=5).text)
        for sample in family.samples
        if sample.name.startswith(COUNTERS) and family.type in ("counter", "histogram")
    }


@pytest.mark.long
def test_no_restart_and_no_kill_sets_a_counter_back_or_counts_twice(
    database: URL, tmp_path: Path, started: list[Process]
) -> None:
    """Five restarts and five kills under load: no counter ever falls, and in the end each equals a count over rows."""
    chance = random.Random(7)
    plan = Plan(begin=int(time.time()) - 40, jobs=20 * 75, rate=20)
    path, port = configuration(tmp_path, plan, database)
    url = f"http://127.0.0.1:{port}/metrics"
    over = threading.Event()
    highest: Series = {}
    fell: list[str] = []
    asked = [0]

    def scrape() -> None:
        while not over.wait(0.1):
            try:
                found = counters(url)
            except requests.RequestException:
                continue
            asked[0] += bool(found)
            for key, value in found.items():
                if value < highest.get(key, 0):
                    fell.append(f"{key}: {value} after {highest[key]}")
                highest[key] = value

    def start() -> Process:
        started.append(Process(["--config.file", str(path)], tmp_path))
        return started[-1]

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        for turn in range(10):
            process = start()
            time.sleep(chance.uniform(1.5, 4.0))
            process.stop(signal.SIGKILL if turn % 2 else signal.SIGTERM)
        assert finish(start, plan, database) == []
        last = start()
        assert _until(lambda: _settled(url), 60)
        shown = counters(url)
        last.stop(signal.SIGTERM)
    finally:
        over.set()
        scraper.join()
    assert fell == [] and asked[0] > 20
    shown_ = {
        (name, tuple(value for key, value in labels if key not in ("cluster", "le"))): value
        for (name, labels), value in shown.items()
        if not name.endswith(("_bucket", "_sum"))
    }
    counted = by_rows(database)
    waits = [key for key in counted if key[0].endswith("_seconds_count")]
    # a time that accounting corrects over the bound of a bucket is in another one then, and no bucket ever falls
    assert all(0 <= shown_.pop(key) - counted.pop(key) <= 5 for key in waits)
    assert shown_ == counted


def _settled(url: str) -> bool:
    try:
        return bool(counters(url))
    except requests.RequestException:
        return False


def _until(check: object, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if callable(check) and check():
            return True
        time.sleep(0.3)
    return False


def by_rows(database: URL) -> dict[tuple[str, tuple[str, ...]], float]:
    """Count over jobs and runs what the counters count; labels in the order of their names."""
    engine = open_database(database, readonly=True)
    jobs, runs, places = schema.jobs, schema.runs, schema.run_workers
    found: Counter[tuple[str, tuple[str, ...]]] = Counter()
    try:
        with engine.connect() as connection:
            for owner, queue, outcome, end, start, wait in connection.execute(
                select(
                    jobs.c.owner, jobs.c.queue, jobs.c.outcome, jobs.c.ended_at, jobs.c.first_started_at,
                    jobs.c.wait_span,
                )
            ):  # fmt: skip
                assert wait is not None
                found["bbq_jobs_submitted_total", (owner, queue)] += 1
                found["bbq_jobs_started_total", (owner, queue)] += start is not None
                found["bbq_jobs_ended_total", (outcome, owner, queue)] += end is not None
                found["bbq_job_wait_seconds_count", (queue,)] += start is not None
            for run in connection.execute(select(runs)):
                seconds = (run.ended_at - run.started_at).total_seconds()
                found["bbq_cpu_seconds_total", (run.owner, run.queue)] += round((run.cpus or 0) * seconds)
                found["bbq_gpu_seconds_total", (run.owner, run.queue)] += round((run.gpus or 0) * seconds)
                if run.used_cpu_seconds is not None:
                    wasted = round((run.cpus or 0) * seconds) - round(run.used_cpu_seconds)
                    found["bbq_cpu_seconds_wasted_total", (run.owner, run.queue)] += wasted
                found["bbq_job_run_seconds_count", (run.queue,)] += 1
            same = (places.c.native_id == runs.c.native_id) & (places.c.submitted_at == runs.c.submitted_at)
            same &= (places.c.cluster == runs.c.cluster) & (places.c.number == runs.c.number)
            pairs = select(runs.c.outcome, places.c.worker, func.count()).select_from(places.join(runs, same))
            for outcome, worker, number in connection.execute(pairs.group_by(runs.c.outcome, places.c.worker)):
                found["bbq_worker_runs_ended_total", (outcome or "", worker)] += number
            for daily in (WORKERS, DURATIONS):
                assert connection.scalar(select(func.count()).select_from(table_of(daily)))
    finally:
        engine.dispose()
    return {key: value for key, value in found.items() if value}


def test_gaps_are_told_of_each_source_once_the_history_was_looked_at(history: History) -> None:
    board = Board()
    board.add_cluster("c", "htcondor", 180)
    for feed in (
        Feed(kind=Kind.ACCOUNTING, queue="a"),
        Feed(kind=Kind.ACCOUNTING, queue="b"),
        Feed(kind=Kind.SCHEDULER),
    ):
        board.add_feed("c", feed, 60)
    page = MetricsPage(board, history, 50_000)
    assert "\nbbq_history_gaps{" not in page.text().decode()
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    history.begin_cluster("c", "htcondor", None, now)
    gaps = tuple(
        Gap(now - timedelta(seconds=since), now - timedelta(seconds=until), said)
        for since, until, said in ((600, 0, "jobs"), (500, 100, "runs"), (2000, 1900, "jobs"), (50, -50, "runs"))
    )
    history.save(JobsBatch(cluster="c", source="accounting:a", seen_at=now, jobs=[], gaps=gaps))
    TotalsReader(history, ["c"], board.count, owners=10, interval_seconds=60).read()
    found = page.text().decode()
    for source, number, seconds in (("a", "4.0", "750.0"), ("b", "0.0", "0.0")):
        assert f'\nbbq_history_gaps{{cluster="c",source="accounting:{source}"}} {number}\n' in found
        assert f'\nbbq_history_gap_seconds{{cluster="c",source="accounting:{source}"}} {seconds}\n' in found
    assert 'bbq_history_gaps{cluster="c",source="scheduler"}' not in found

"""The rollup: always the sum of the rows, whatever was corrected, requeued, recycled or seen twice."""

import random
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select, text

from history.db import schema
from history.ingest.job_rows import stored_jobs
from history.ingest.store import History
from history.records import Job, Run, RunWorker
from history.rollups.definitions import DAILY, Arrivals, Durations, Efficiency, OnWorkers, Rollup, Usage
from history.rollups.from_jobs import add_job
from history.rollups.from_rows import rebuild
from history.rollups.row_sums import computed
from history.vocabulary import Outcome, State
from tests.exact import T, counters, inexact, named, rollups, said, usage
from tests.lives import some_lives


@pytest.fixture(autouse=True)
def cluster(history: History) -> None:
    history.begin_cluster("local", "slurm", "24.11", T)


def sums(history: History) -> tuple[Rollup, Rollup]:
    """Add the rollups up twice: from the rows by SQL, and from the jobs one by one."""
    with history._engine.connect() as connection:
        by_rows = computed(connection, "local").get("local", Rollup())
        ids = list(connection.scalars(select(schema.jobs.c.native_id)))
        by_jobs = Rollup()
        for jobs in stored_jobs(connection, "local", set(ids)).values():
            for job in jobs:
                add_job(job, by_jobs)
    return said(by_rows), said(by_jobs)


@pytest.mark.parametrize("seed", range(12))
def test_the_rollup_is_the_sum_of_the_rows(history: History, seed: int) -> None:
    chance = random.Random(seed)
    many = [some_lives(chance.randint) for _ in range(chance.randint(1, 8))]
    observed = [job for number, each in enumerate(many) for job in named(each, str(number), chance)]
    observed += chance.sample(observed, len(observed) // 2)  # late, changed, twice
    chance.shuffle(observed)
    shown: dict[Any, tuple[int, int]] = {}
    while observed:
        size = chance.randrange(1, 12)
        page, observed = observed[:size], observed[size:]
        history.save_jobs("local", "accounting", page, seen_at=T)
        by_rows, by_jobs = sums(history)
        assert rollups(history) == by_rows == by_jobs
        with history._engine.connect() as connection:
            now = counters(connection, "local")
            assert inexact(connection, "local") == []
            assert all(now[key][1] == max(top, now[key][0]) for key, (_, top) in shown.items())
            shown = now
    before = rollups(history)
    days = before.days()
    with history._engine.begin() as connection:
        for daily in DAILY:
            connection.execute(text(f"UPDATE {daily.name} SET {daily.columns[0]} = {daily.columns[0]} + 7"))
        rebuild(connection, "local", days)
    assert rollups(history) == before


def ended(start: datetime, end: datetime, **more: Any) -> Job:
    run = Run(
        attempt_at=start, started_at=start, ended_at=end, outcome=Outcome.FAILED, accounted=True,
        **{"cpus": 3.0, "gpus": 0.5, "memory_bytes": 1 << 30, "used_cpu_seconds": 100.0, **more},
    )  # fmt: skip
    return Job(
        native_id="1", submitted_at=start - timedelta(seconds=90), attempt_at=start, owner="alice", queue="q",
        state=State.ENDED, outcome=Outcome.FAILED, ended_at=end, runs=(run,), accounted=True,
    )  # fmt: skip


def use(seconds: int, used: int) -> Usage:
    """Return what a part of that run adds: 3 CPUs, half a GPU and a GiB for so many seconds."""
    return Usage(
        wall_seconds=seconds, cpu_seconds=3 * seconds, gpu_seconds=seconds // 2, memory_mib_seconds=1024 * seconds,
        measured_cpu_seconds=3 * seconds, used_cpu_seconds=used, wasted_cpu_seconds=3 * seconds - used,
    )  # fmt: skip


def test_a_run_over_midnight_counts_on_both_days_and_its_job_on_the_last(history: History) -> None:
    history.save_jobs("local", "accounting", [ended(T, T + timedelta(hours=10))], seen_at=T)
    first, last = (
        (date(2026, 1, 31), "q", "alice", "", "", "failed"),
        (date(2026, 2, 1), "q", "alice", "", "", "failed"),
    )
    four, six = 4 * 3600, 6 * 3600
    assert usage(history) == {
        first: use(four, 40),
        last: replace(use(six, 60), jobs=1, waits=1, wait_seconds=90, runs=1),
    }


def test_what_is_not_said_adds_nothing(history: History) -> None:
    job = ended(T, T + timedelta(hours=1), cpus=None, gpus=None, memory_bytes=None, used_cpu_seconds=None)
    history.save_jobs("local", "accounting", [job], seen_at=T)
    assert list(usage(history).values()) == [Usage(jobs=1, waits=1, wait_seconds=90, runs=1, wall_seconds=3600)]


def test_bookkeeping_for_a_routed_copy_counts_nowhere(history: History) -> None:
    job = replace(ended(T, T + timedelta(hours=1)), routed_to="2", runs=())
    history.save_jobs("local", "accounting", [job], seen_at=T)
    assert rollups(history) == said(Rollup()) == sums(history)[0]


def test_what_a_job_had_run_before_another_took_its_place_is_use(history: History) -> None:
    """A federated job that was requeued and has started on another cluster: slurmdbd counts its first run here."""
    there = (RunWorker(worker="w1", cpus=3.0),)
    job = replace(ended(T, T + timedelta(hours=1), workers=there), routed_to="(federation)")
    history.save_jobs("local", "accounting", [job], seen_at=T)
    day, kept = T.date(), rollups(history)
    assert list(kept.usage_daily.values()) == [replace(use(3600, 100), runs=1)]
    assert kept.arrivals_daily == {} and kept.durations_daily == {(day, "q", "run", 3600): Durations(1, 3600)}
    on_worker = OnWorkers(runs=1, wall_seconds=3600, cpu_seconds=3 * 3600)
    assert kept.workers_daily == {(day, "w1", "failed"): on_worker}
    assert kept == sums(history)[0]


@pytest.mark.parametrize("end", [T + timedelta(hours=4), T, T + timedelta(days=9, seconds=1)])
def test_days_are_computed_anew_to_the_second(history: History, end: datetime) -> None:
    """A run that ends with a day, one of no length, and one over nine days."""
    history.save_jobs("local", "accounting", [ended(T, end)], seen_at=T)
    whole = rollups(history)
    for day in whole.days():
        with history._engine.begin() as connection:
            rebuild(connection, "local", [day])
        assert rollups(history) == whole


def test_absurd_figures_do_not_overflow(history: History) -> None:
    job = ended(T, T + timedelta(days=20), cpus=1e300, memory_bytes=(1 << 63) - 1, used_cpu_seconds=1e300)
    history.save_jobs("local", "accounting", [job], seen_at=T)
    assert rollups(history) == sums(history)[0]


def test_durations_and_workers_are_kept_by_the_day(history: History) -> None:
    """A wait counts on the day of the start, a run on that of its end, on each of its workers, with all its length."""
    there = (RunWorker(worker="w1", cpus=2.5, gpus=0.5, memory_bytes=3 << 20), RunWorker(worker="w2"))
    job = ended(T, T + timedelta(hours=10), workers=there)
    history.save_jobs("local", "accounting", [job], seen_at=T)
    first, last = date(2026, 1, 31), date(2026, 2, 1)
    kept = rollups(history)
    who = ("q", "alice", "", "")
    assert kept.arrivals_daily == {(first, *who): Arrivals(submitted=1, started=1)}
    assert kept.workers_daily == {
        (last, "w1", "failed"): OnWorkers(
            runs=1, wall_seconds=36000, cpu_seconds=90000, gpu_seconds=18000, memory_mib_seconds=108000
        ),
        (last, "w2", "failed"): OnWorkers(runs=1, untold_runs=1, wall_seconds=36000),
    }
    used = Efficiency(runs=1, cpu_seconds=108000, used_cpu_seconds=100, wasted_cpu_seconds=107900)
    assert kept.efficiency_daily == {(last, *who): used}
    assert kept.durations_daily == {
        (first, "q", "wait", 300): Durations(jobs=1, seconds=90), (last, "q", "run", 43200): Durations(jobs=1, seconds=36000),
    }  # fmt: skip


def test_a_counter_stands_still_until_a_correction_is_made_up_for(history: History) -> None:
    """A job that turns out to be of another queue leaves the counter of the first where it was, until there is more."""

    def shown() -> dict[str, tuple[int, int]]:
        with history._engine.connect() as connection:
            return {key[1]: each for key, each in counters(connection, "local").items() if key[0] == "jobs_ended"}

    job = ended(T, T + timedelta(hours=1))
    history.save_jobs("local", "accounting", [job], seen_at=T)
    assert shown() == {"q": (1, 1)}
    history.save_jobs("local", "accounting", [replace(job, queue="other")], seen_at=T)
    assert shown() == {"q": (0, 1), "other": (1, 1)}
    history.save_jobs("local", "accounting", [replace(job, native_id="2")], seen_at=T)
    assert shown() == {"q": (1, 1), "other": (1, 1)}
    history.save_jobs("local", "accounting", [replace(job, native_id="3")], seen_at=T)
    assert shown() == {"q": (2, 2), "other": (1, 1)}


def test_time_of_suspension_is_nobodys(history: History) -> None:
    """As slurmdbd counts: ten hours with one of suspension are nine, of everything."""
    history.save_jobs("local", "accounting", [ended(T, T + timedelta(hours=10), suspended_seconds=3600)], seen_at=T)
    four, six = 4 * 3240, 6 * 3240
    assert [
        (each.wall_seconds, each.cpu_seconds, each.gpu_seconds, each.memory_mib_seconds)
        for each in usage(history).values()
    ] == [(four, 3 * four, four // 2, 1024 * four), (six, 3 * six, six // 2, 1024 * six)]
    ran = rollups(history).durations_daily[(date(2026, 2, 1), "q", "run", 43200)]
    assert ran == Durations(jobs=1, seconds=32400)


def test_suspension_is_taken_off_each_day_to_the_cpu_second(history: History) -> None:
    """Four and six tenths of 32,401 s are 12,960.4 s and 19,440.6 s, with three CPUs each."""
    history.save_jobs("local", "accounting", [ended(T, T + timedelta(hours=10), suspended_seconds=3599)], seen_at=T)
    assert [(each.cpu_seconds, each.gpu_seconds) for each in usage(history).values()] == [(38881, 6480), (58322, 9720)]
    assert sum(each.wall_seconds for each in usage(history).values()) == 32401


def test_a_part_of_a_run_has_its_time_and_is_no_run(history: History) -> None:
    """10 s with 2 CPUs, then 1,190 s with 1: 1,210 CPU seconds of one run that took 1,200 s."""
    change, end = T + timedelta(seconds=10), T + timedelta(seconds=1200)
    first = replace(
        ended(T, change, cpus=2.0, used_cpu_seconds=1.0, resized=True),
        state=State.RUNNING,
        ended_at=None,
        outcome=None,
        native_state="RESIZING",
    )
    last = replace(ended(change, end, cpus=1.0, used_cpu_seconds=2.0), submitted_at=change)
    first = replace(first, submitted_at=T, runs=(replace(first.runs[0], attempt_at=T),), attempt_at=T)
    history.save_jobs("local", "accounting", [first], seen_at=T)
    history.save_jobs("local", "accounting", [last], seen_at=T)
    (used,) = usage(history).values()
    assert (used.jobs, used.runs, used.wall_seconds, used.cpu_seconds) == (1, 1, 1200, 1210)
    assert (used.measured_cpu_seconds, used.used_cpu_seconds, used.wasted_cpu_seconds) == (1210, 3, 1207)
    kept = rollups(history)
    assert kept.durations_daily[(T.date(), "q", "run", 1800)] == Durations(jobs=1, seconds=1200)
    (whole,) = kept.efficiency_daily.values()
    assert (whole.runs, whole.untold_runs) == (1, 0)
    with history._engine.connect() as connection:
        assert inexact(connection, "local") == []


def test_what_one_job_used_too_much_hides_nobodys_waste(history: History) -> None:
    """A job that used more CPU than it held is no negative waste."""
    wasteful = ended(T, T + timedelta(seconds=1000), cpus=1.0, used_cpu_seconds=100.0)
    greedy = replace(ended(T, T + timedelta(seconds=1000), cpus=1.0, used_cpu_seconds=50_000.0), native_id="2")
    history.save_jobs("local", "accounting", [wasteful, greedy], seen_at=T)
    with history._engine.connect() as connection:
        wasted = [value for key, (value, _) in counters(connection, "local").items() if key[0] == "cpu_seconds_wasted"]
        assert wasted == [900] and inexact(connection, "local") == []

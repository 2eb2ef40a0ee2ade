"""The simulated site: the same again for the same seed, however one looks, and with the life of a real one."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from exporter.readings import Feed, JobsReading, Kind, SchedulerReading
from exporter.sources.demo import Settings, Source
from exporter.sources.demo.plan import FILLER, plan
from exporter.sources.demo.site import WATCH, Site
from history.batch import JobsBatch
from history.db import schema
from history.ingest.store import History
from history.records import Job, Run
from history.vocabulary import HOLDING, Outcome, State, WorkerFlag, WorkerState

START = 1_790_000_000.0


def state(site: Site) -> list[object]:
    jobs = sorted(
        (
            job.native_id,
            job.submit,
            len(job.runs),
            [share.worker.name for share in job.runs[-1].shares] if job.runs else [],
        )
        for job in site.jobs.values()
    )
    return [
        jobs,
        [(when, job.native_id, job.outcome) for when, job in site.ended],
        [(worker.free, worker.down, worker.flags) for worker in site.workers],
    ]


@pytest.mark.parametrize("shape", ["grid", "local"])
def test_the_same_seed_gives_the_same_site_however_often_one_looks(shape: str) -> None:
    once, often, other = (Site(plan(shape, 0.01), seed, START) for seed in (1, 1, 2))
    once.advance(START + 3600)
    other.advance(START + 3600)
    for step in range(1, 361):
        often.advance(START + step * 10)
    assert state(once) == state(often)
    assert state(once) != state(other)


def test_life() -> None:
    clock = [START]
    source = Source(Settings(name="local", scheduler="demo", shape="local", scale=0.1), clock=lambda: clock[0])
    source.read_jobs(Feed(kind=Kind.JOBS))
    clock[0] += 6 * 3600
    reading = source.read_jobs(Feed(kind=Kind.JOBS))
    states = Counter(job.state for job in reading.jobs)
    assert states[State.RUNNING] > 10 and states[State.PENDING] > 100
    assert any(job.array_parent for job in reading.jobs)
    ended = []
    watermark = None
    while True:
        page = source.read_accounting(Feed(kind=Kind.ACCOUNTING), watermark, datetime.now(UTC))
        ended += page.jobs
        watermark = page.watermark
        if page.complete:
            break
    outcomes = Counter(job.outcome for job in ended)
    assert outcomes[Outcome.COMPLETED] > outcomes[Outcome.FAILED] > 0 and outcomes[Outcome.TIMEOUT] > 0
    assert any(job.native_state == "REQUEUED" for job in ended)
    workers = source.read_workers(Feed(kind=Kind.WORKERS)).workers
    assert any(WorkerFlag.DRAINING in worker.flags and worker.reason for worker in workers)
    short = Counter(run.workers[0].worker for job in ended for run in job.runs if run.exit_code == 127)
    assert len(short) == 1 and short.most_common(1)[0][1] > 20  # the black hole


def test_the_calls_of_a_day_are_somebodys() -> None:
    clock = [START // 86400 * 86400 + 60]
    source = _demo("local", 0.1, clock)
    before = None
    for _ in range(23):
        reading = source.read_scheduler(Feed(kind=Kind.SCHEDULER))
        assert sum(reading.call_seconds.values()) == pytest.approx(sum(reading.call_seconds_of_users.values()))
        assert reading.calls_of_users.keys() == reading.call_seconds_of_users.keys() > {"root", "user005"}
        for now, then in zip(_counters(reading), _counters(before or reading), strict=True):
            assert now.keys() == then.keys() and all(now[name] >= then[name] for name in now)
        before = reading
        clock[0] += 3600


def _counters(reading: SchedulerReading) -> list[Mapping[str, float]]:
    return [
        reading.calls_answered,
        reading.call_seconds,
        reading.calls_of_users,
        reading.call_seconds_of_users,
        reading.backfilled,
    ]


def test_a_demo_that_is_started_again_goes_on_where_it_was() -> None:
    at = START // WATCH * WATCH
    for shape in ("grid", "local"):
        before, again, later = (Site(plan(shape, 0.01), 1, now) for now in (at + 10, at + 7200, at + WATCH))
        before.advance(at + 7200)
        assert state(before) == state(again)
        assert not set(later.jobs) & set(again.jobs)


def _demo(shape: str, scale: float, clock: list[float]) -> Source:
    return Source(Settings(name=shape, scheduler="demo", shape=shape, scale=scale), clock=lambda: clock[0])


def _page(source: Source, feed: Feed) -> list[Job]:
    found: list[Job] = []
    watermark = None
    while True:
        page = source.read_accounting(feed, watermark, datetime.now(UTC))
        found += page.jobs
        watermark = page.watermark
        if page.complete:
            return found


def _feeds(source: Source, kind: Kind) -> Iterator[Feed]:
    return (feed for feed in source.feeds() if feed.kind is kind)


@pytest.mark.parametrize("shape", ["grid", "local"])
def test_no_worker_ever_holds_more_than_it_has(shape: str) -> None:
    """Over a day, and the past before it; a suspended job still counts with what it gets back."""
    clock = [START]
    source = Source(Settings(name=shape, scheduler="demo", shape=shape, scale=0.05), clock=lambda: clock[0])
    runs: dict[tuple[str, datetime], Run] = {}
    while clock[0] < START + 86400:
        for feed in _feeds(source, Kind.ACCOUNTING):
            for job in _page(source, feed):
                runs.update(((job.native_id, run.started_at), run) for run in job.runs)
        clock[0] += 3600
    for feed in _feeds(source, Kind.JOBS):
        for job in source.read_jobs(feed).jobs:
            runs.update(((job.native_id, run.started_at), run) for run in job.runs)
    changes: dict[str, list[tuple[datetime, int, float, int, dict[str, float]]]] = defaultdict(list)
    for run in runs.values():
        for share in run.workers:
            held = (
                share.cpus or 0.0,
                share.memory_bytes or 0,
                dict(share.gpu_models or {}) | dict(share.gpu_parts or {}),
            )
            changes[share.worker].append((run.started_at, 1, *held))
            if run.ended_at is not None:
                changes[share.worker].append((run.ended_at, -1, *held))
    assert len(runs) > 1000
    for worker in source.read_workers(Feed(kind=Kind.WORKERS)).workers:
        cpus, memory, gpus = 0.0, 0, Counter[str]()
        totals = {each.model: each.total for each in (*worker.gpus, *worker.gpu_parts)}
        for _, sign, some, bytes_, models in sorted(changes[worker.name], key=lambda change: change[:2]):
            cpus += sign * some
            memory += sign * bytes_
            for model, number in models.items():
                gpus[model] += sign * int(number)
            assert cpus <= (worker.cpus or 0) and memory <= (worker.memory_bytes or 0), worker.name
            assert all(0 <= number <= totals[model] for model, number in gpus.items()), worker.name


def test_every_situation_is_there() -> None:
    """Whatever a page, a board or a question can show."""
    seen: Counter[str] = Counter()
    for shape in ("grid", "local"):
        clock = [START]
        source = _demo(shape, 0.1, clock)
        for _ in range(6):
            for feed in _feeds(source, Kind.JOBS):
                reading = source.read_jobs(feed)
                seen["not made yet"] += sum(each.count for each in reading.unmade)
                _count(seen, shape, reading.jobs)
            for feed in _feeds(source, Kind.ACCOUNTING):
                _count(seen, shape, _page(source, feed))
            for worker in source.read_workers(Feed(kind=Kind.WORKERS)).workers:
                seen[f"{shape} {worker.state}"] += worker.state is WorkerState.DOWN and not worker.cpus_allocated
                for flag in worker.flags:
                    seen[f"{shape} {flag}"] += 1
                seen["two models"] += len({gpu.model for gpu in worker.gpus if "g." not in gpu.model}) > 1
                seen["slices"] += any("g." in gpu.model and gpu.allocated for gpu in worker.gpus)
                seen["shards"] += any(part.allocated for part in worker.gpu_parts)
                seen["backfill slots"] += bool((worker.details or {}).get("backfill_cpus_used"))
            clock[0] += 3600
    situations = {
        "not made yet", "two models", "slices", "shards", "backfill slots", "grid two runs", "local two runs",
        "grid held", "local held", "grid held while it ran", "grid suspended", "local suspended", "grid was suspended",
        "local was suspended", "routed", "copy", "dag", "dagman", "procs", "array", "het", "several workers", "resized",
        "two models in a run", "gpu time", "gpu time unknown", "grid draining", "local draining", "local down",
        "local not_responding", "local maintenance", "local powered_down", "a worker failed",
    }  # fmt: skip
    assert [what for what in sorted(situations) if not seen[what]] == []


def _count(seen: Counter[str], shape: str, jobs: list[Job]) -> None:
    for job in jobs:
        seen[f"{shape} held"] += job.state is State.HELD
        seen[f"{shape} held while it ran"] += job.state is State.HELD and bool(job.runs)
        seen[f"{shape} suspended"] += job.state is State.SUSPENDED
        seen[f"{shape} two runs"] += len(job.runs) > 1 or job.requeued
        seen["routed"] += job.routed_to is not None
        seen["copy"] += job.routed_from is not None and bool(job.runs)
        seen["dag"] += job.dag_parent is not None
        seen["dagman"] += bool((job.details or {}).get("universe"))
        seen["procs"] += shape == "grid" and not job.native_id.endswith(".0")
        seen["array"] += job.array_parent is not None
        seen["het"] += job.het_parent is not None and job.state in HOLDING
        for run in job.runs:
            seen["a worker failed"] += run.outcome is Outcome.NODE_FAIL
            seen[f"{shape} was suspended"] += bool(run.suspended_seconds)
            seen["several workers"] += len(run.workers) > 1
            seen["resized"] += run.run_started_at is not None
            seen["two models in a run"] += any(len(share.gpu_models or ()) > 1 for share in run.workers)
            if run.gpus and run.ended_at is not None:
                seen["gpu time" if run.used_gpu_seconds is not None else "gpu time unknown"] += 1


def test_starting_again_on_its_own_history_doubles_nothing(history: History) -> None:
    """In the same watch everything goes on; in a later one, what was open before is closed."""
    for now in (START, START + 600, START + WATCH, START + 2 * WATCH):
        source = _demo("grid", 0.01, [now])
        history.begin_cluster("grid", "demo", "simulated", datetime.fromtimestamp(now, UTC))
        readings: list[tuple[Feed, JobsReading]] = [
            (feed, source.read_jobs(feed)) for feed in _feeds(source, Kind.JOBS)
        ]
        for feed, reading in readings:
            history.save(
                JobsBatch(
                    cluster="grid",
                    source=feed.name,
                    seen_at=reading.taken_at,
                    jobs=reading.jobs,
                    whole_queue=True,
                    queue=feed.queue,
                )
            )
        table = schema.jobs
        with history._engine.connect() as connection:
            open_jobs = connection.execute(
                select(table.c.queue, func.count()).where(table.c.state != "ended").group_by(table.c.queue)
            ).all()
        assert dict(map(tuple, open_jobs)) == {feed.queue: len(reading.jobs) for feed, reading in readings}


def test_what_workers_hold_is_what_jobs_hold() -> None:
    clock = [START]
    source = Source(Settings(name="grid", scheduler="demo", shape="grid", scale=0.02), clock=lambda: clock[0])
    clock[0] += 1800
    held: Counter[str] = Counter()
    for feed in source.feeds():
        if feed.kind is Kind.JOBS:
            for job in source.read_jobs(feed).jobs:
                # what was routed away is told of as its copy is, and has no runs of its own
                if job.state in HOLDING and job.runs and job.runs[-1].workers and job.owner != FILLER[0]:
                    held[job.runs[-1].workers[0].worker] += int(job.runs[-1].cpus or 0)
    workers = source.read_workers(Feed(kind=Kind.WORKERS)).workers
    assert {worker.name: worker.cpus_allocated for worker in workers} == {
        worker.name: held[worker.name] for worker in workers
    }


def test_the_reference_site_at_full_size() -> None:
    grid, local = plan("grid", 1.0), plan("local", 1.0)
    assert (grid.workers, grid.jobs, local.workers, local.jobs) == (765, 50_000, 423, 120_000)
    cpus = [sum(each.cpus[number % len(each.cpus)] for number in range(each.workers)) for each in (grid, local)]
    assert 36_000 < cpus[0] < 38_000 and 22_000 < cpus[1] < 23_500
    assert (
        local.gpu_workers * 4 == 80 and sum(local.kit(number).gpus.get("a100_1g.5gb", 0) for number in range(423)) == 7
    )

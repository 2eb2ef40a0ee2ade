"""The simulated site: the same again for the same seed, however one looks, and with the life of a real one."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from exporter.snapshot import Feed, Kind
from exporter.sources._demo_site import Site
from exporter.sources.demo import Settings, Source, plan
from history.records import Outcome, State, WorkerFlag

START = 1_790_000_000.0


def state(site: Site) -> list[object]:
    jobs = sorted(
        (job.native_id, job.submit, len(job.runs), job.runs[-1].worker if job.runs else "")
        for job in site.jobs.values()
    )
    return [
        jobs,
        [(when, job.native_id, job.outcome) for when, job in site.ended],
        [(worker.free, worker.drained) for worker in site.workers],
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
    source = Source(Settings(name="local", scheduler="demo", shape="local", scale=0.02), clock=lambda: clock[0])
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


def test_what_workers_hold_is_what_jobs_hold() -> None:
    clock = [START]
    source = Source(Settings(name="grid", scheduler="demo", shape="grid", scale=0.02), clock=lambda: clock[0])
    clock[0] += 1800
    held: Counter[str] = Counter()
    for feed in source.feeds():
        if feed.kind is Kind.JOBS:
            for job in source.read_jobs(feed).jobs:
                if job.state is State.RUNNING:
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
    assert local.gpu_workers * 4 == 80

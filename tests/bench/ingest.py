"""How fast ended jobs are stored beside those that are there: jobs, runs, workers and rollup, with their watermark."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from history.ingest.garbage import look_seldom
from history.ingest.store import History
from history.records import Job, Run, RunWorker
from history.vocabulary import Outcome, State


def ended_jobs(count: int, until: datetime, cluster: str) -> Iterator[Job]:
    """Yield jobs of the last day, as accounting tells them, with ids of their own: every twentieth was requeued once.

    Each of 150 owners has three accounts.
    """
    first = int(until.timestamp()) * 100_000
    grid = cluster == "grid"
    for number in range(count):
        submitted = until - timedelta(seconds=86_400 * (count - number) // count + 7200)
        started = submitted + timedelta(seconds=60 + number % 1800)
        end = started + timedelta(seconds=60 + number * 7919 % 5000)
        native_id = (
            f"sched{number % 6 + 1}.example.org#{first + number // 10}.{number % 10}" if grid else f"{first + number}"
        )
        attempts = [(submitted, started, end)]
        if number % 20 == 0:
            attempts = [(submitted, started, end), (end, end + timedelta(seconds=120), end + timedelta(seconds=900))]
        for place, (submit, start, over) in enumerate(attempts):
            last = place == len(attempts) - 1
            run = Run(
                attempt_at=start if grid else submit, started_at=start, ended_at=over,
                outcome=Outcome.COMPLETED if last else Outcome.PREEMPTED, exit_code=0 if last else None, cpus=4.0, gpus=0.0,
                memory_bytes=8 << 30, used_cpu_seconds=1000.5, used_memory_bytes=1 << 30, accounted=True,
                workers=(RunWorker(worker=f"node{number % 423:04}.example.org", cpus=4.0, gpus=0.0, memory_bytes=8 << 30),),
            )  # fmt: skip
            yield Job(
                native_id=native_id, submitted_at=submitted if grid else submit, attempt_at=None if grid else submit,
                owner=f"user{number % 150:03}", account=f"project{(number % 150 * 7 + number // 150 % 3) % 37:02}", queue="batch", name=f"work-{number % 500}",
                state=State.ENDED if last else State.PENDING, native_state="COMPLETED" if last else "REQUEUED",
                outcome=Outcome.COMPLETED if last else None, ended_at=over if last else None, eligible_at=submit,
                requested_cpus=4.0, requested_memory_bytes=8 << 30, requested_gpus=0.0, requested_wall_seconds=86_400,
                used_cpu_seconds=1000.5, used_memory_bytes=1 << 30, exit_code=0 if last else None, accounted=True, runs=(run,),
                details={"qos": "normal", "features": "avx2", "wckey": "default"},
            )  # fmt: skip


def ingest(engine: Engine, count: int, cluster: str) -> float:
    """Store so many ended jobs; give jobs a second."""
    look_seldom()  # as the daemon does
    history = History(engine)
    now = datetime.now(UTC).replace(microsecond=0)
    history.begin(cluster, "slurm")
    jobs = list(ended_jobs(count, now, cluster))
    began = time.monotonic()
    for place in range(0, len(jobs), 10_000):
        history.save_jobs(cluster, "accounting", jobs[place : place + 10_000], seen_at=now, watermark=str(place))
    return count / (time.monotonic() - began)

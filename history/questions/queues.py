"""The queues: what waits and runs in each, its capacity, its state and since when."""

from collections import defaultdict
from datetime import datetime

import msgspec
from sqlalchemy import Connection, case, func, select

from history.answer import Answer
from history.db.schema import queue_settings
from history.questions import Scope, run
from history.questions.moment import in_queue, period_at
from history.questions.unmade import unmade
from history.questions.workers import at_moment
from history.vocabulary import HOLDING

COLUMNS = (
    "cluster", "queue", "state", "jobs", "running", "pending", "held", "owners", "cpus_used", "cpus", "gpus_used",
    "gpus", "workers", "workers_down", "oldest_pending_at", "since_at",
)  # fmt: skip


class _Queued(msgspec.Struct):
    """What waits and runs in a queue."""

    jobs: int = 0
    running: int = 0
    pending: int = 0
    held: int = 0
    owners: set[str] = set()
    cpus: float | None = None
    """What they hold; None where nobody told."""
    gpus: float | None = None
    oldest: datetime | None = None

    def add(
        self,
        owner: str,
        jobs: int,
        running: int,
        pending: int,
        held: int,
        cpus: float | None,
        gpus: float | None,
        oldest: datetime | None,
    ) -> None:
        self.jobs += jobs
        self.running += running
        self.pending += pending
        self.held += held
        self.owners.add(owner)
        self.cpus = _sum(self.cpus, cpus)
        self.gpus = _sum(self.gpus, gpus)
        self.oldest = min((each for each in (self.oldest, oldest) if each is not None), default=None)


def _sum(*told: float | None) -> float | None:
    """Return the sum of what is told; None when nothing is."""
    known = [float(each) for each in told if each is not None]
    return sum(known) if known else None


class _Capacity(msgspec.Struct):
    """What the workers of a queue have, those that are up; and how many there are."""

    cpus: float = 0.0
    gpus: float = 0.0
    workers: int = 0
    down: int = 0


def queues(connection: Connection, scope: Scope) -> Answer:
    """List the queues at the scope's moment; capacity is that of the workers which say that they are in it."""
    capacity, jobs, table = _capacity(connection, scope), _jobs(connection, scope), queue_settings
    settings = {
        (row.cluster, row.queue): row
        for row in run(connection, scope, select(table).where(period_at(scope, table), *scope.among(table)))
    }
    rows = []
    for key in sorted({*settings, *jobs}):
        setting = settings.get(key)
        its = jobs.get(key) or _Queued(cpus=0.0, gpus=0.0)
        room = capacity.get(key)
        rows.append(
            (
                key[0], key[1] or None, None if setting is None else setting.state, its.jobs, its.running,
                its.pending, its.held, len(its.owners), its.cpus, None if room is None else room.cpus,
                its.gpus, None if room is None else room.gpus or None,
                None if room is None else room.workers, None if room is None else room.down, its.oldest,
                None if setting is None else setting.started_at,
            )
        )  # fmt: skip
    return Answer(COLUMNS, rows[: scope.limit], bar="jobs")


def _capacity(connection: Connection, scope: Scope) -> dict[tuple[str, str], _Capacity]:
    """Return what the workers of each queue have, by cluster and queue."""
    capacity: dict[tuple[str, str], _Capacity] = defaultdict(_Capacity)
    for worker in at_moment(connection, scope):
        for name in worker.queues or ():
            room = capacity[worker.cluster, name]
            room.workers += 1
            if worker.state == "up":
                room.cpus += float(worker.cpus or 0)
                room.gpus += sum(float(each["total"] or 0) for each in worker.gpus or ())
            else:
                room.down += 1
    return capacity


def _jobs(connection: Connection, scope: Scope) -> dict[tuple[str, str], _Queued]:
    """Return what waits and runs in each queue, by cluster and queue."""
    queued = in_queue(scope)
    holds = queued.c.state.in_(HOLDING)
    query = select(
        queued.c.cluster,
        queued.c.queue,
        queued.c.owner,
        func.count(),
        func.sum(case((holds, 1), else_=0)),
        func.sum(case((queued.c.state == "pending", 1), else_=0)),
        func.sum(case((queued.c.state == "held", 1), else_=0)),
        func.sum(case((holds, queued.c.cpus), else_=0)),
        func.sum(case((holds, queued.c.gpus), else_=0)),
        func.min(case((queued.c.state == "pending", queued.c.submitted_at))),
    ).group_by(queued.c.cluster, queued.c.queue, queued.c.owner)
    jobs: dict[tuple[str, str], _Queued] = defaultdict(_Queued)
    for cluster, name, *whose in run(connection, scope, query):
        jobs[cluster, name or ""].add(*whose)
    for row in unmade(connection, scope):
        jobs[row.cluster, row.queue or ""].add(row.owner, row.jobs, 0, row.jobs, 0, 0.0, 0.0, row.submitted_at)
    return jobs

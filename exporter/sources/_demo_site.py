"""A simulated site: discrete events in the order of their times, everything drawn from one seeded generator.

The shape is that of a real centre: a grid cluster with few big owners and uniform jobs, a local one with many
owners and very different jobs; arrays, failures, time limits, requeues, drained workers, and one worker on which
every job dies at once. What happens until a moment does not depend on how often one looks.
"""

import heapq
import random
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from history.records import Outcome

GIB = 1 << 30


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The size and habits of one simulated cluster."""

    grid: bool
    workers: int
    cpus: tuple[int, ...]
    """CPUs of the workers, taken in turn."""
    gpu_workers: int = 0
    jobs: int
    """Jobs that are in the queue at any time, running or not."""
    ended_per_second: float
    owners: tuple[tuple[str, str, str | None], ...]
    """(owner, account, vo), the busiest first."""
    queues: tuple[str, ...]


class SimWorker:
    """A worker and what is free on it."""

    __slots__ = (
        "black_hole",
        "cpus",
        "drained",
        "free",
        "free_gpus",
        "free_memory",
        "gpus",
        "memory",
        "model",
        "name",
        "queues",
        "reason",
        "reason_at",
    )

    def __init__(self, name: str, cpus: int, memory: int, gpus: int, model: str, queues: tuple[str, ...]) -> None:
        self.name, self.cpus, self.memory, self.gpus, self.model, self.queues = name, cpus, memory, gpus, model, queues
        self.free, self.free_memory, self.free_gpus = cpus, memory, gpus
        self.black_hole = False
        self.drained = False
        self.reason: str | None = None
        self.reason_at = 0.0


class SimRun:
    """One start of a job."""

    __slots__ = ("attempt", "end", "outcome", "start", "worker")

    def __init__(self, attempt: float, start: float, worker: str) -> None:
        self.attempt, self.start, self.worker = attempt, start, worker
        self.end: float | None = None
        self.outcome: Outcome | None = None


class SimJob:
    """A job, from its submission to its end."""

    __slots__ = (
        "array",
        "attempt",
        "code",
        "cpus",
        "end",
        "gpus",
        "held",
        "memory",
        "name",
        "native_id",
        "outcome",
        "owner",
        "queue",
        "runs",
        "signal",
        "submit",
        "wall",
    )

    def __init__(
        self,
        native_id: str,
        array: str | None,
        submit: float,
        owner: tuple[str, str, str | None],
        queue: str,
        name: str,
    ) -> None:
        self.native_id, self.array, self.submit, self.owner, self.queue, self.name = (
            native_id,
            array,
            submit,
            owner,
            queue,
            name,
        )
        self.attempt = submit
        self.cpus, self.gpus, self.memory, self.wall = 1, 0, 2 * GIB, 86400
        self.held = False
        self.runs: list[SimRun] = []
        self.end: float | None = None
        self.outcome: Outcome | None = None
        self.code: int | None = None
        self.signal: int | None = None


_ENDS = (
    (0.900, Outcome.COMPLETED, 0, None),
    (0.055, Outcome.FAILED, 1, None),
    (0.010, Outcome.FAILED, None, 11),
    (0.015, Outcome.TIMEOUT, None, 15),
    (0.007, Outcome.OUT_OF_MEMORY, None, 9),
    (0.013, Outcome.CANCELLED, None, 15),
)
_REASONS = (
    "disk errors on sda",
    "memory module B4 failed, RMA 4711",
    "kernel upgrade",
    "no contact to storage",
    "GPU fell off the bus",
)
_NAMES = ("analysis", "simulate", "reco", "train", "merge", "fit", "pilot", "blast", "render", "mcmc")


class Site:
    """One simulated cluster; `advance` brings it to a moment."""

    def __init__(self, plan: Plan, seed: int, now: float, past_seconds: float = 7200.0, *, calm: bool = False) -> None:
        """Make a site.

        Args:
            calm: whether nothing goes wrong by itself: no drained workers, no black hole, no held jobs.
        """
        self._calm = calm
        self.plan = plan
        self._random = random.Random(f"{seed} {plan.grid}")  # noqa: S311 - a simulation must be repeatable
        self.now = now
        self._next_id = 1_000_000 if plan.grid else 5_000_000
        self.workers = [self._worker(number) for number in range(plan.workers)]
        self._by_name = {worker.name: worker for worker in self.workers}
        if not calm:
            hole = self.workers[-1 - len(self.workers) // 3]  # a small one, or nothing else would ever run
            hole.black_hole, hole.cpus, hole.free = True, 4, 4
        self.jobs: dict[str, SimJob] = {}
        self._pending: dict[str, deque[SimJob]] = {queue: deque() for queue in plan.queues}
        self._events: list[tuple[float, int, str, str]] = []
        self._sequence = 0
        self.ended: deque[tuple[float, SimJob]] = deque()
        """What ended, in order of time; also attempts that were requeued."""
        self._fill(past_seconds)
        self._at(self._random.expovariate(self._arrivals_per_second()), "arrive", "")
        if not calm:
            self._at(self._random.expovariate(1 / 600), "drain", "")

    def break_down(self, drained: int, black_holes: int, held: int) -> None:
        """Have so many workers drained long ago, so many that fail all they are given, and so many jobs held."""
        for number, worker in enumerate(self.workers):
            drain = number < drained
            if drain != worker.drained:
                worker.drained, worker.reason = drain, "set aside for a test" if drain else None
                worker.reason_at = self.now - 3 * 86400
            hole = drained <= number < drained + black_holes
            if hole and not worker.black_hole:
                worker.black_hole = True
                for job in [job for job in self.jobs.values() if job.runs and job.runs[-1].end is None]:
                    if job.runs[-1].worker == worker.name:
                        self._at(0.1, "end", job.native_id)
            worker.black_hole = hole
        holding = [job for job in self.jobs.values() if job.held]
        for job in holding[held:]:
            job.held = False
            self._pending[job.queue].append(job)
        for job in [job for waiting in self._pending.values() for job in waiting][: max(0, held - len(holding))]:
            job.held = True
            self._pending[job.queue].remove(job)

    def _worker(self, number: int) -> SimWorker:
        plan = self.plan
        cpus = plan.cpus[number % len(plan.cpus)]
        if plan.grid:
            return SimWorker(f"grid{number + 1:04}.example.org", cpus, cpus * 4 * GIB, 0, "", ())
        if number < plan.gpu_workers:
            model = ("a100", "h100", "v100")[number % 3]
            return SimWorker(f"gpu{number + 1:03}", cpus, cpus * 12 * GIB, 4, model, ("gpu",))
        queues = ("htc", "long") if number % 3 else ("hpc",)
        return SimWorker(f"node{number + 1:04}", cpus, cpus * 6 * GIB, 0, "", queues)

    def _at(self, delay: float, what: str, whom: str) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self.now + delay, self._sequence, what, whom))

    def _arrivals_per_second(self) -> float:
        return self.plan.ended_per_second / (1.0 if self.plan.grid else 20.0)  # local submissions average 20 jobs

    def _fill(self, past: float) -> None:
        """Begin in the middle of life: jobs that have ended, that run, that wait."""
        began = self.now
        for number in range(int(past * self.plan.ended_per_second)):
            moment = began - past + number / self.plan.ended_per_second
            job = self._job(moment - self._random.uniform(60, 86400), None)
            worker = self._random.choice(self.workers)
            run = SimRun(
                job.submit if not self.plan.grid else moment, max(job.submit, moment - self._length(job)), worker.name
            )
            if self.plan.grid:
                run.attempt = run.start
            job.runs.append(run)
            self.now = moment
            self._finish(job, run, None)
        self.now = began
        while len(self.jobs) < self.plan.jobs:
            self._submit(began - self._random.uniform(0, 86400))
        for worker in self.workers:
            if not self._calm and self._random.random() < 0.015 and not worker.black_hole:
                self._drain(worker)
        for worker in self.workers:
            self._start_on(worker, spread=True)

    def _owner(self) -> tuple[str, str, str | None]:
        owners = self.plan.owners
        place = int(len(owners) * self._random.random() ** 2.2)  # the first ones are the busiest
        return owners[min(place, len(owners) - 1)]

    def _queue(self) -> str:
        queues = self.plan.queues
        if self.plan.grid:
            return self._random.choice(queues)
        return self._random.choices(queues, (60, 15, 5, 20))[0]

    def _job(self, submit: float, like: SimJob | None, task: int | None = None) -> SimJob:
        """Make a job, or the next task of an array."""
        draw = self._random
        if like is not None and task is not None:
            array = like.array or like.native_id.partition("_")[0]
            job = SimJob(f"{array}_{task}", array, submit, like.owner, like.queue, like.name)
            job.cpus, job.gpus, job.memory, job.wall = like.cpus, like.gpus, like.memory, like.wall
            return job
        self._next_id += 1
        queue, owner = self._queue(), self._owner()
        native_id = f"{queue}#{self._next_id}.0" if self.plan.grid else str(self._next_id)
        job = SimJob(native_id, None, submit, owner, queue, f"{draw.choice(_NAMES)}_{draw.randrange(1000)}")
        if self.plan.grid:
            job.cpus = 8 if draw.random() < 0.12 else 1
            job.memory, job.wall = job.cpus * 3 * GIB, 4 * 86400
        else:
            job.cpus = draw.choice((1, 1, 1, 1, 2, 4, 8)) if queue != "hpc" else draw.choice((16, 32))
            job.memory, job.wall = job.cpus * draw.choice((2, 4, 4, 8)) * GIB, draw.choice((1, 2, 7)) * 86400
            job.gpus = draw.choice((1, 1, 2, 4)) if queue == "gpu" else 0
        job.held = not self._calm and draw.random() < 0.004
        return job

    def _submit(self, submit: float) -> None:
        first = self._job(submit, None)
        batch = [first]
        if not self.plan.grid and self._random.random() < 0.1:
            first.array = first.native_id
            batch = [
                self._job(submit, first, task)
                for task in range(min(self._random.randint(20, 380), max(20, self.plan.jobs // 20)))
            ]
        for job in batch:
            self.jobs[job.native_id] = job
            if not job.held:
                self._pending[job.queue].append(job)

    def _length(self, job: SimJob) -> float:
        """Draw how long a run takes; the mean keeps the cluster as full as its plan says."""
        return min(60.0 + self._random.lognormvariate(8.0, 1.1), float(job.wall))

    def _start_on(self, worker: SimWorker, *, spread: bool = False) -> None:
        """Start on a worker what fits of the first jobs that wait for one of its queues."""
        if worker.drained:
            return
        queues = worker.queues or self.plan.queues
        for queue in self._random.sample(queues, len(queues)):
            waiting = self._pending[queue]
            misses: list[SimJob] = []
            while waiting and worker.free > 0 and len(misses) < 4:
                job = waiting.popleft()
                if job.cpus <= worker.free and job.gpus <= worker.free_gpus and job.memory <= worker.free_memory:
                    self._start(job, worker, spread)
                else:
                    misses.append(job)
            waiting.extendleft(reversed(misses))

    def _start(self, job: SimJob, worker: SimWorker, spread: bool) -> None:
        worker.free -= job.cpus
        worker.free_gpus -= job.gpus
        worker.free_memory -= job.memory
        length = self._length(job)
        if worker.black_hole:
            length = self._random.uniform(1, 2) if self._calm else self._random.uniform(25, 55)
        done = self._random.random() * min(length, self.now - job.submit) if spread else 0.0
        start = self.now - done
        job.runs.append(SimRun(start if self.plan.grid else job.attempt, start, worker.name))
        self._at(max(1.0, length - done), "end", job.native_id)

    def advance(self, to: float) -> None:
        """Let everything happen that happens until a moment (epoch seconds)."""
        while self._events and self._events[0][0] <= to:
            self.now, _, what, whom = heapq.heappop(self._events)
            if what == "end":
                self._end(whom)
            elif what == "arrive":
                if len(self.jobs) < self.plan.jobs * 1.05:
                    self._submit(self.now)
                self._at(self._random.expovariate(self._arrivals_per_second()), "arrive", "")
            else:
                self._change_workers()
                self._at(self._random.expovariate(1 / 600), "drain", "")
        self.now = max(self.now, to)

    def _end(self, native_id: str) -> None:
        job = self.jobs.get(native_id)
        if job is None or not job.runs or job.runs[-1].end is not None:
            return  # it has ended before its time
        run = job.runs[-1]
        worker = self._by_name[run.worker]
        worker.free += job.cpus
        worker.free_gpus += job.gpus
        worker.free_memory += job.memory
        if not worker.black_hole and self._random.random() < 0.01:
            self._requeue(job, run)
        else:
            del self.jobs[native_id]
            self._finish(job, run, worker)
        self._start_on(worker)

    def _requeue(self, job: SimJob, run: SimRun) -> None:
        """Take a job off its worker; it waits for another run."""
        run.end, run.outcome = self.now, Outcome.PREEMPTED
        self.ended.append((self.now, job))
        job.attempt = self.now
        self._pending[job.queue].append(job)

    def _finish(self, job: SimJob, run: SimRun, worker: SimWorker | None) -> None:
        shares = [share for share, *_ in _ENDS]
        _, outcome, code, signal = self._random.choices(_ENDS, shares)[0]
        if worker is not None and worker.black_hole:
            outcome, code, signal = Outcome.FAILED, 127, None
        run.end = job.end = self.now
        run.outcome = job.outcome = outcome
        job.code, job.signal = code, signal
        self.ended.append((self.now, job))

    def _change_workers(self) -> None:
        """Drain a worker, or give one back."""
        drained = [worker for worker in self.workers if worker.drained]
        if drained and self._random.random() < 0.5:
            worker = self._random.choice(drained)
            worker.drained, worker.reason = False, None
            self._start_on(worker)
        else:
            self._drain(self._random.choice([worker for worker in self.workers if not worker.black_hole]))

    def _drain(self, worker: SimWorker) -> None:
        worker.drained, worker.reason, worker.reason_at = True, self._random.choice(_REASONS), self.now

    def ended_since(self, moment: float) -> Iterator[tuple[float, SimJob]]:
        """Give what ended after a moment, oldest first."""
        return ((when, job) for when, job in self.ended if when > moment)


def utc(moment: float) -> datetime:
    """Give a moment of the simulation as the records want it, in whole seconds."""
    return datetime.fromtimestamp(int(moment), UTC)

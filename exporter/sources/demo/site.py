"""A simulated site: discrete events in the order of their times, everything drawn from one seeded generator.

The shape is that of a real centre: a grid cluster with few big owners and uniform jobs, a local one with many
owners and very different jobs; arrays, DAGs, failures, time limits, requeues, workers that are drained, fail or are
off, and one on which every job dies at once. What happens until a moment does not depend on how often one looks, nor,
within a watch of three hours, on when the simulation was started: a demo that is started again goes on where it was.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime

from exporter.sources.demo.plan import FILLER_MEMORY, Plan
from exporter.sources.demo.submissions import Work
from exporter.sources.demo.things import Factory, Share, SimJob, SimRun, SimWorker
from history.vocabulary import Outcome, WorkerFlag

WATCH = 3 * 3600.0
"""The simulation begins at a multiple of this many seconds, and a past before it."""

_ENDS = (
    (0.900, Outcome.COMPLETED, 0, None),
    (0.055, Outcome.FAILED, 1, None),
    (0.010, Outcome.FAILED, None, 11),
    (0.015, Outcome.TIMEOUT, None, 15),
    (0.007, Outcome.OUT_OF_MEMORY, None, 9),
    (0.013, Outcome.CANCELLED, None, 15),
)
_CHANCES = tuple(itertools.accumulate(chance for chance, *_ in _ENDS))
_REASONS = (
    "disk errors on sda",
    "memory module B4 failed, RMA 4711",
    "kernel upgrade",
    "no contact to storage",
    "GPU fell off the bus",
)
_ASIDE = (
    (WorkerFlag.NOT_RESPONDING, True, "mainboard, RMA 4712"),
    (WorkerFlag.MAINTENANCE, False, "firmware, until Monday"),
    (WorkerFlag.POWERED_DOWN, False, None),
)
"""Workers that are out for long: with which flag, whether down, and why."""
BY_USER, NO_INPUT, OUT_OF_RESOURCES = 1, 13, 34
"""Why a job is held, as HTCondor's HoldReasonCode."""


class Site:
    """One simulated cluster; `advance` brings it to a moment."""

    def __init__(self, plan: Plan, seed: int, now: float, past_seconds: float = 3600.0, *, calm: bool = False) -> None:
        """Make a site.

        Args:
            calm: whether nothing goes wrong by itself: no drained workers, no black hole, no held or suspended jobs.
        """
        self._calm = calm
        self.plan = plan
        watch = now // WATCH
        self.now = watch * WATCH - past_seconds
        self._random = random.Random(f"{seed} {plan.grid} {watch}")  # noqa: S311 - a simulation must be repeatable
        # each watch has ids of its own
        self._work = Work(plan, self._random, (1_000_000 if plan.grid else 5_000_000) + int(watch) % 40 * 250_000)
        self.workers = [self._worker(number) for number in range(plan.workers)]
        self._serving: dict[str, list[SimWorker]] = {queue: [] for queue in plan.queues}
        for worker in self.workers:
            for lane in worker.lanes:
                self._serving.setdefault(lane, []).append(worker)
        if not calm:
            serving = self._serving[plan.queues[0]]
            hole = serving[-1 - len(serving) // 3]  # a small one, or nothing else would ever run
            hole.black_hole, hole.cpus, hole.free = True, 2, 2
            self._set_aside()
        self.jobs: dict[str, SimJob] = {}
        self.factories: dict[str, Factory] = {}
        self._pending: dict[str, deque[SimJob]] = {lane: deque() for lane in self._serving}
        self._fillers: deque[SimJob] = deque()
        self._events: list[tuple[float, int, str, str]] = []
        self._sequence = 0
        self.ended: deque[tuple[float, SimJob]] = deque()
        """What ended, in order of time; also attempts that were requeued, and parts of runs."""
        self._fill()
        self._next("arrive")
        if not calm:
            for what in ("drain", "fail", "hold", "suspend", "resize"):
                self._next(what)
        self.advance(now)

    # What happens

    def advance(self, to: float) -> None:
        """Let everything happen that happens until a moment (epoch seconds)."""
        while self._events and self._events[0][0] <= to:
            self.now, _, what, whom = heapq.heappop(self._events)
            if what == "end":
                self._end(whom)
            elif what == "release":
                self._release(whom)
            elif what == "resume":
                self._resume(whom)
            elif what == "repair":
                self._repair(whom)
            else:
                {
                    "arrive": self._arrive,
                    "drain": self._change_workers,
                    "fail": self._fail,
                    "hold": self._hold,
                    "suspend": self._suspend,
                    "resize": self._resize,
                }[what]()
                self._next(what)
        self.now = max(self.now, to)

    def _next(self, what: str) -> None:
        """Draw when something happens next."""
        a_second = {
            "arrive": self.plan.arrivals_per_second(),
            "drain": 1 / 600,
            "fail": 1 / 3600,
            "hold": self.plan.jobs * 0.004 / 5400,  # four of a thousand jobs are held, for an hour and a half
            "suspend": max(self.plan.jobs / 120_000, 0.1) / 60,
            "resize": max(self.plan.jobs / 120_000, 0.3) / 300,
        }[what]
        self._at(self._random.expovariate(a_second), what, "")

    def _at(self, delay: float, what: str, whom: str) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self.now + delay, self._sequence, what, whom))

    def _fill(self) -> None:
        """Begin in the middle of life: jobs that run, that wait, that are held."""
        began = self.now
        while len(self.jobs) < self.plan.jobs:
            self._submit(began - self._random.uniform(0, 86400), 0.0 if self._calm else 0.004)
        if self.plan.grid:
            self._fillers.extend(self._work.filler(began - 3600) for _ in range(max(4, self.plan.workers // 8)))
            self.jobs.update((job.native_id, job) for job in self._fillers)
            if not self._calm:  # they stand in the queue, and nowhere else
                self.jobs.update((job.native_id, job) for job in self._work.never(began - 86400))
        for worker in self.workers:
            if not self._calm and self._random.random() < 0.015 and not worker.black_hole and not worker.closed:
                self._drain(worker)
        for worker in self.workers:
            self._start_on(worker, spread=True)

    # Jobs come

    def _arrive(self) -> None:
        if len(self.jobs) < self.plan.jobs * 1.05:
            self._submit(self.now)
        while len(self.jobs) < self.plan.jobs * 0.95:
            self._submit(self.now)
        for lane, waiting in self._pending.items():
            if waiting and self._serving[lane]:
                worker = self._random.choice(self._serving[lane])
                if worker.free:
                    self._start_on(worker)

    def _submit(self, submit: float, held: float = 0.0) -> None:
        """Let somebody submit; a part of the jobs may be held already."""
        jobs, factory = self._work.submission(submit)
        if factory is not None:
            self.factories[jobs[0].native_id.rpartition(".")[0]] = factory
        for job in jobs:
            self._enter(job, held)

    def _enter(self, job: SimJob, held: float = 0.0) -> None:
        self.jobs[job.native_id] = job
        if job.steers is not None:
            job.runs.append(SimRun(job.submit, job.submit, ()))  # beside the schedd it starts at once
        elif held and not job.het_parts and self._waits(job) and self._random.random() < held:
            self._set_held(job)
        elif self._waits(job):
            if job.array is None and job.lane.startswith("gpu"):
                # a single one would wait for days behind a long array; what wants a whole worker stays the first
                waiting = self._pending[job.lane]
                waiting.insert(int(bool(waiting) and waiting[0].gpus > 2), job)
            else:
                self._pending[job.lane].append(job)

    def _waits(self, job: SimJob) -> bool:
        """Return whether a job is started for itself: not a DAGMan, not with another, not as its copy."""
        return job.steers is None and job.routed_to is None and (job.het is None or bool(job.het_parts))

    # Jobs start

    def _start_on(self, worker: SimWorker, *, spread: bool = False) -> None:
        """Start on a worker what fits of the first jobs that wait for one of its queues."""
        if worker.closed:
            return
        lanes = worker.lanes
        first = self._random.randrange(len(lanes))
        for lane in lanes[first:] + lanes[:first]:
            waiting = self._pending[lane]
            misses: list[SimJob] = []
            patience = 64 if worker.gpus else 4
            while waiting and worker.free > 0 and len(misses) < patience:
                job = waiting.popleft()
                shares = self._place(job, worker)
                if shares is not None:
                    self._start(job, shares, spread)
                    continue
                misses.append(job)
                if job.nodes > 1 or job.het_parts or job.gpus > 2:
                    break  # nothing overtakes it, or it would never find what it wants at one time
            waiting.extendleft(reversed(misses))
        self._fill_up(worker)

    def _place(self, job: SimJob, worker: SimWorker) -> tuple[Share, ...] | None:
        """Return the shares of a job of which one is on this worker; None where it finds no place."""
        parts = job.het_parts or (job,) * (job.nodes - 1)
        first = worker.share(job)
        if first is None or not parts:
            return None if first is None else (first,)
        shares = [first]
        for other in self._serving[job.lane]:
            if len(shares) > len(parts):
                break
            if other is worker or other.closed or other.black_hole:
                continue
            share = other.share(parts[len(shares) - 1])
            if share is not None:
                shares.append(share)
        return tuple(shares) if len(shares) > len(parts) else None

    def _start(self, job: SimJob, shares: tuple[Share, ...], spread: bool) -> None:
        length = self._length(job)
        if shares[0].worker.black_hole:
            length = self._random.uniform(1, 2) if self._calm else self._random.uniform(25, 55)
        done = self._random.random() * min(length, self.now - job.submit) if spread else 0.0
        if job.het_parts:
            for part, share in zip((job, *job.het_parts), shares, strict=True):
                self._begin(part, (share,), done, length)
        else:
            self._begin(job, shares, done, length)
        self._at(job.runs[-1].due - self.now, "end", job.native_id)

    def _begin(self, job: SimJob, shares: tuple[Share, ...], done: float, length: float) -> None:
        start = self.now - done
        run = SimRun(start if self.plan.grid else job.attempt, start, shares)
        run.due = self.now + max(1.0, length - done)
        job.runs.append(run)
        for share in shares:
            share.worker.take(share, job)

    def _length(self, job: SimJob) -> float:
        """Draw how long a run takes; the mean keeps the cluster as full as its plan says."""
        return min(60.0 + self._random.lognormvariate(8.45 if self.plan.grid else 8.0, 1.1), float(job.wall))

    def _fill_up(self, worker: SimWorker) -> None:
        """Let jobs into the backfill slots while there is room, and out again when others want it."""
        while worker.fillers and (self._left(worker) < 0 or worker.closed):
            job = worker.fillers.pop(next(iter(worker.fillers)))
            self._interrupt(job, Outcome.PREEMPTED)
            self._fillers.append(job)
        while self._fillers and self._left(worker) > 0 and not worker.closed and not worker.black_hole:
            job = self._fillers.popleft()
            job.runs.append(SimRun(self.now, self.now, (Share(worker, job, {}),)))
            job.runs[-1].due = self.now + self._length(job)
            worker.fillers[job.native_id] = job
            self._at(job.runs[-1].due - self.now, "end", job.native_id)

    @staticmethod
    def _left(worker: SimWorker) -> int:
        """Return how many more fillers a worker has room for; less than none when others took it."""
        held = len(worker.fillers)
        return min(worker.free - held, worker.free_memory // FILLER_MEMORY - held)

    # Runs are interrupted

    def _interrupt(self, job: SimJob, outcome: Outcome) -> None:
        """End the run of a job that has not ended itself."""
        run = job.runs[-1]
        run.end, run.outcome = self.now, outcome
        self._end_pause(run)
        self.ended.append((self.now, job))
        if not self.plan.grid:
            job.attempt = self.now

    def _hold(self) -> None:
        """Hold a job that runs, or one that waits."""
        worker = self._random.choice(self.workers)
        running = [job for job in worker.running.values() if self._may_stop(job)]
        if running and self.plan.grid and self._random.random() < 0.4:
            job = self._random.choice(running)
            code = self._random.choice((OUT_OF_RESOURCES, NO_INPUT))
            self._take_off(job, Outcome.OUT_OF_MEMORY if code == OUT_OF_RESOURCES else Outcome.FAILED)
            self._set_held(job, code)
            self._start_on(worker)
            return
        waiting = self._pending[self._random.choice(list(self._pending))]
        if waiting and not waiting[-1].het_parts:
            self._set_held(waiting.pop())

    def _set_held(self, job: SimJob, code: int = BY_USER) -> None:
        job.held = code
        self._at(self._random.uniform(600, 10_200), "release", job.native_id)

    def _release(self, native_id: str) -> None:
        job = self.jobs.get(native_id)
        if job is not None and job.held is not None:
            job.held = None
            self._pending[job.lane].append(job)

    def _suspend(self) -> None:
        worker = self._random.choice(self.workers)
        running = [job for job in worker.running.values() if self._may_stop(job)]
        if running:
            job = self._random.choice(running)
            job.runs[-1].paused_at = self.now
            self._at(self._random.uniform(300, 1500), "resume", job.native_id)

    def _resume(self, native_id: str) -> None:
        job = self.jobs.get(native_id)
        run = job.run if job is not None else None
        if run is not None and run.paused_at is not None:
            run.due += self.now - run.paused_at
            self._end_pause(run)
            self._at(max(0.0, run.due - self.now), "end", native_id)

    def _end_pause(self, run: SimRun) -> None:
        if run.paused_at is not None:
            run.paused += self.now - run.paused_at
            run.paused_at = None

    def _may_stop(self, job: SimJob) -> bool:
        run = job.run
        return run is not None and run.paused_at is None and job.het is None and not run.shares[0].worker.black_hole

    def _resize(self) -> None:
        """Let a job on several workers give one of them back."""
        if self.plan.grid:
            return
        for worker in self._serving["hpc"]:
            for job in worker.running.values():
                run = job.runs[-1]
                if job.nodes > 1 and len(run.shares) > 1 and run.paused_at is None and self._random.random() < 0.3:
                    self._shrink(job, run)
                    return

    def _shrink(self, job: SimJob, run: SimRun) -> None:
        run.end, run.resized = self.now, True
        self.ended.append((self.now, job))
        rest = SimRun(self.now, self.now, run.shares[:-1])
        rest.began, rest.due = run.began or run.start, run.due
        job.runs.append(rest)
        given = run.shares[-1]
        given.worker.give_back(given, job)
        self._start_on(given.worker)

    # Jobs end

    def _take_off(self, job: SimJob, outcome: Outcome) -> None:
        """Take a job off its workers before its end."""
        for share in job.runs[-1].shares:
            share.worker.give_back(share, job)
        self._interrupt(job, outcome)

    def _end(self, native_id: str) -> None:
        job = self.jobs.get(native_id)
        run = job.run if job is not None else None
        if job is None or run is None or run.paused_at is not None or self.now < run.due - 0.001:
            return  # it has ended before its time, or was suspended since
        workers = [share.worker for part in (job, *job.het_parts) for share in part.runs[-1].shares]
        if job.filler:
            del workers[0].fillers[native_id]
            self._finish(job)
            self._fillers.append(self._work.filler(self.now))
            self.jobs[self._fillers[-1].native_id] = self._fillers[-1]
        elif not workers[0].black_hole and not job.het_parts and self._random.random() < 0.01:
            self._take_off(job, Outcome.PREEMPTED)
            self._pending[job.lane].append(job)
        else:
            for part in (job, *job.het_parts):
                for share in part.runs[-1].shares:
                    share.worker.give_back(share, part)
            self._finish(job)
        for worker in workers:
            self._start_on(worker)

    def _finish(self, job: SimJob) -> None:
        """Let a job end, and with it whatever hangs on it."""
        _, outcome, code, signal = self._random.choices(_ENDS, cum_weights=_CHANCES)[0]
        if job.runs[-1].shares and job.runs[-1].shares[0].worker.black_hole:
            outcome, code, signal = Outcome.FAILED, 127, None
        for part in (job, *job.het_parts):
            self._close(part, outcome, code, signal)
        if job.routed_from is not None and job.routed_from in self.jobs:
            self._close(self.jobs[job.routed_from], outcome, code, signal)
        factory = self.factories.get(job.factory) if job.factory is not None else None
        if factory is not None:
            made = factory.make()
            if made is None:
                del self.factories[job.factory or ""]
            else:
                self._enter(made)
        manager = self.jobs.get(job.dag) if job.dag is not None else None
        if manager is not None and manager.steers:
            node = manager.steers.pop(0)
            node.submit = node.attempt = self.now
            self._enter(node)
        elif manager is not None and not any(other.dag == job.dag for other in self.jobs.values()):
            self._close(manager, Outcome.COMPLETED, 0, None)

    def _close(self, job: SimJob, outcome: Outcome, code: int | None, signal: int | None) -> None:
        del self.jobs[job.native_id]
        job.end, job.outcome, job.code, job.signal = self.now, outcome, code, signal
        if job.runs:
            job.runs[-1].end, job.runs[-1].outcome = self.now, outcome
        self.ended.append((self.now, job))

    # Workers

    def _worker(self, number: int) -> SimWorker:
        kit = self.plan.kit(number)
        return SimWorker(
            f"{kit.prefix}{number + 1:04}{'.example.org' if self.plan.grid else ''}", kit, self.plan.queues
        )

    def _change_workers(self) -> None:
        """Drain a worker, or give one back."""
        drained = [worker for worker in self.workers if WorkerFlag.DRAINING in worker.flags]
        if self._random.random() < len(drained) / (len(drained) + max(1.0, 0.015 * len(self.workers))):
            worker = self._random.choice(drained)
            worker.open()
            self._start_on(worker)
        else:
            well = [worker for worker in self.workers if not worker.black_hole and not worker.closed]
            if well:
                self._drain(self._random.choice(well))

    def _drain(self, worker: SimWorker) -> None:
        worker.close(WorkerFlag.DRAINING, self._random.choice(_REASONS), self.now)
        self._fill_up(worker)

    def _set_aside(self) -> None:
        """Have workers that are out from the beginning, one of each kind, where enough others are left."""
        well = [worker for worker in self._serving[self.plan.queues[0]] if not worker.black_hole]
        if not self.plan.grid and len(well) > 2 * len(_ASIDE):
            for worker, (flag, down, reason) in zip(self._random.sample(well, len(_ASIDE)), _ASIDE, strict=True):
                worker.close(flag, reason, self.now - 86400, down=down)

    def _fail(self) -> None:
        """Let a worker fail: what ran on it begins anew elsewhere, and it is back after a while."""
        worker = self._random.choice(self.workers)
        failed = list(worker.running.values())
        if self.plan.grid or worker.closed or worker.black_hole or any(job.het is not None for job in failed):
            return
        for job in failed:
            self._take_off(job, Outcome.NODE_FAIL)
            self._pending[job.lane].append(job)
        worker.close(WorkerFlag.NOT_RESPONDING, "Not responding", self.now, down=True)
        self._at(self._random.uniform(600, 2400), "repair", worker.name)

    def _repair(self, name: str) -> None:
        worker = next(worker for worker in self.workers if worker.name == name)
        worker.open()
        self._start_on(worker)

    def break_down(self, drained: int, black_holes: int, held: int) -> None:
        """Have so many workers drained long ago, so many that fail all they are given, and so many jobs held."""
        for number, worker in enumerate(self.workers):
            drain = number < drained
            if drain and not worker.closed:
                worker.close(WorkerFlag.DRAINING, "set aside for a test", self.now - 3 * 86400)
            elif not drain:
                worker.open()
            hole = drained <= number < drained + black_holes
            if hole and not worker.black_hole:
                worker.black_hole = True
                for job in worker.running.values():
                    if job.het is None:
                        job.runs[-1].due = self.now + 0.1
                        self._at(0.1, "end", job.native_id)
            worker.black_hole = hole
        holding = [job for job in self.jobs.values() if job.held is not None]
        for job in holding[held:]:
            job.held = None
            self._pending[job.lane].append(job)
        for job in [job for waiting in self._pending.values() for job in waiting][: max(0, held - len(holding))]:
            job.held = BY_USER
            self._pending[job.lane].remove(job)

    def ended_since(self, moment: float) -> Iterator[tuple[float, SimJob]]:
        """Return what ended after a moment, oldest first."""
        return ((when, job) for when, job in self.ended if when > moment)


def utc(moment: float) -> datetime:
    """Return a moment of the simulation as the records want it, in whole seconds."""
    return datetime.fromtimestamp(int(moment), UTC)

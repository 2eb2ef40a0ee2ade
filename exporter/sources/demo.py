"""A simulated scheduler: no daemon needed, and everything behind the `Source` protocol is the real path."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from exporter.config import Cluster, Config, Duration
from exporter.snapshot import AccountingPage, Feed, JobsReading, Kind, SchedulerReading, WorkersReading
from exporter.sources import AnswerUnreadable, CommandFailed
from exporter.sources._demo_site import Plan, SimJob, SimRun, SimWorker, Site, utc
from history.records import Gpus, Job, Outcome, Queue, Run, RunWorker, State, Waiting, Worker, WorkerFlag, WorkerState

PAGE = 5_000
_VOS = ("atlas", "cms", "lhcb", "alice", "belle", "auger")
_ACCOUNTS = ("astro", "biophys", "chem", "climate", "hep", "lattice", "medical", "theory")


class Settings(Cluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a simulated cluster's configuration may say."""

    shape: str = "local"
    scale: Annotated[float, msgspec.Meta(gt=0)] = 0.1
    seed: int = 1
    faults: Path | None = None
    """A file that says what is to go wrong, read at every poll; without it, a little goes wrong by itself."""

    def __post_init__(self) -> None:
        if self.shape not in ("grid", "local"):
            raise ValueError(f"shape: expected grid or local, read {self.shape!r}")


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong in a simulated cluster."""

    down: bool = False
    """The scheduler does not answer."""
    drained: int = 0
    black_holes: int = 0
    held: int = 0


def configuration(scale: float, seed: int) -> Config:
    """Give the site that `--demo` runs."""
    return Config(
        clusters=(
            Settings(name="grid", scheduler="demo", shape="grid", scale=scale, seed=seed, interval=Duration(15)),
            Settings(name="local", scheduler="demo", shape="local", scale=scale, seed=seed, interval=Duration(15)),
        )
    )


def plan(shape: str, scale: float) -> Plan:
    """Give one of the two clusters of the reference site, made smaller."""
    if shape == "grid":
        owners: tuple[tuple[str, str, str | None], ...] = tuple(
            (f"{vo}{role}", f"group_{vo}.{role}", vo) for role in ("prd", "pilot", "user") for vo in _VOS
        )
        return Plan(
            grid=True,
            workers=max(3, round(765 * scale)),
            cpus=(32, 48, 48, 64),  # 37,000 in all
            jobs=round(50_000 * scale),
            ended_per_second=2.3 * scale,
            owners=owners,
            queues=("sched1.example.org", "sched2.example.org", "sched3.example.org"),
        )
    owners = tuple((f"user{number:03}", _ACCOUNTS[number % len(_ACCOUNTS)], None) for number in range(1, 121))
    return Plan(
        grid=False,
        workers=max(3, round(423 * scale)),
        cpus=(48, 48, 64),  # 22,500 in all
        gpu_workers=max(1, round(20 * scale)),
        jobs=round(120_000 * scale),
        ended_per_second=1.75 * scale,
        owners=owners,
        queues=("htc", "hpc", "gpu", "long"),
    )


class Source:
    """One simulated cluster."""

    window_seconds = 3600.0
    window_jobs = 6_000
    unknown_fields = ()

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._made: Site | None = None
        self._shown: dict[str, tuple[object, Job]] = {}

    def remarks(self) -> Sequence[str]:
        """Return nothing: the demo tells all it knows."""
        return []

    def version(self) -> str | None:
        """Give the kind of cluster that is simulated."""
        return f"simulated {'HTCondor' if self._settings.shape == 'grid' else 'Slurm'}"

    def feeds(self, known: Sequence[str] = ()) -> Sequence[Feed]:
        """Give the same feeds as the scheduler it stands for: one a schedd on the grid."""
        if self._settings.shape != "grid":
            return [Feed(kind=kind) for kind in Kind]
        queues = plan("grid", self._settings.scale).queues
        return [
            Feed(kind=Kind.WORKERS),
            Feed(kind=Kind.SCHEDULER),
            *(Feed(kind=kind, queue=queue) for queue in queues for kind in (Kind.JOBS, Kind.ACCOUNTING)),
        ]

    def _site(self) -> Site:
        now = self._clock()
        if self._made is None:
            size = plan(self._settings.shape, self._settings.scale)
            self._made = Site(size, self._settings.seed, now, calm=self._settings.faults is not None)
        self._made.advance(now)
        if self._settings.faults is not None:
            try:
                faults = msgspec.json.decode(self._settings.faults.read_bytes(), type=Faults)
            except (OSError, msgspec.MsgspecError) as error:
                raise AnswerUnreadable(f"faults of the demo: {self._settings.faults}: {error}") from error
            if faults.down:
                raise CommandFailed(f"simulated scheduler {self._settings.name} is down")
            self._made.break_down(faults.drained, faults.black_holes, faults.held)
        return self._made

    def read_jobs(self, feed: Feed) -> JobsReading:
        """Give every job that has not ended."""
        with self._lock:
            site = self._site()
            jobs = [self._seen(job) for job in site.jobs.values() if feed.queue in (None, job.queue)]
            return JobsReading(taken_at=utc(site.now), jobs=jobs)

    def _seen(self, job: SimJob) -> Job:
        """Give a job's record; the same one again while nothing of it has changed."""
        token = (job.attempt, job.held, len(job.runs), job.runs[-1].end if job.runs else None)
        known = self._shown.get(job.native_id)
        if known is not None and known[0] == token:
            return known[1]
        record = self._live(job)
        self._shown[job.native_id] = token, record
        return record

    def _live(self, job: SimJob) -> Job:
        running = bool(job.runs) and job.runs[-1].end is None
        state = State.HELD if job.held else State.RUNNING if running else State.PENDING
        grid = self._settings.shape == "grid"
        return self._job(
            job,
            state=state,
            native_state=_NATIVE[grid][state],
            reason={
                State.HELD: "via condor_hold (by user)" if grid else "JobHeldUser",
                State.PENDING: None if grid else "Priority",
            }.get(state),
            waiting=(Waiting.UNSTATED if grid else Waiting.PRIORITY) if state is State.PENDING else None,
            runs=tuple(self._run(job, run) for run in (job.runs if grid else job.runs[-1:] if running else ())),
            requeued=not grid and job.attempt != job.submit,
        )

    def read_scheduler(self, feed: Feed) -> SchedulerReading:
        """Give figures of a scheduler that has nothing to complain of."""
        with self._lock:
            self._site()
        now = self._clock()
        wobble = 0.1 * (1 + now // 60 % 7)
        if self._settings.shape == "grid":
            queues = plan("grid", self._settings.scale).queues
            return SchedulerReading(
                taken_at=utc(now),
                cycle_seconds={"negotiation": 4 + wobble},
                cycle_ended={"negotiation": now - 10},
                duty_cycles={"negotiator": 0.2, "collector": 0.1, **dict.fromkeys(queues, 0.3 + wobble / 10)},
                calls=3,
            )
        return SchedulerReading(
            taken_at=utc(now),
            cycle_seconds={"main": wobble / 10, "backfill": 2 + wobble},
            cycle_mean_seconds={"main": 0.03, "backfill": 2.4},
            cycle_ended={"backfill": now - 20},
            queue_lengths={"agent": 0, "dbd_agent": 0},
            threads=3,
        )

    def read_workers(self, feed: Feed) -> WorkersReading:
        """Give every worker and queue."""
        with self._lock:
            site = self._site()
            jobs_on: dict[str, int] = {}
            for job in site.jobs.values():
                if job.runs and job.runs[-1].end is None:
                    jobs_on[job.runs[-1].worker] = jobs_on.get(job.runs[-1].worker, 0) + 1
            queues = [
                Queue(
                    name=name,
                    state="up",
                    settings={} if site.plan.grid else {"max_wall_seconds": 7 * 86400, "priority_tier": 1},
                )
                for name in site.plan.queues
            ]
            workers = [_worker(worker, jobs_on.get(worker.name, 0)) for worker in site.workers]
            return WorkersReading(taken_at=utc(site.now), workers=workers, queues=queues)

    def read_accounting(self, feed: Feed, watermark: str | None, now: datetime) -> AccountingPage:
        """Give what ended since the watermark (epoch seconds), one page."""
        since = float(watermark or 0)
        with self._lock:
            site = self._site()
            jobs: list[Job] = []
            complete, last = True, since
            for when, job in site.ended_since(since):
                if len(jobs) >= PAGE and when != last:
                    complete = False
                    break
                last = when
                if feed.queue in (None, job.queue):
                    jobs.append(self._ended(job, when))
            while site.ended and site.ended[0][0] < site.now - 3 * 7200:
                _, forgotten = site.ended.popleft()
                self._shown.pop(forgotten.native_id, None)
        reached_at = utc(site.now if complete else last)
        return AccountingPage(jobs=jobs, watermark=repr(last), complete=complete, reached_at=reached_at)

    def read_window(self, feed: Feed, since: datetime, until: datetime, margin: timedelta) -> AccountingPage:
        """Read again what ended in [since, until), as far as the simulator remembers."""
        with self._lock:
            site = self._site()
            jobs = [
                self._ended(job, when)
                for when, job in site.ended_since(since.timestamp() - 1)
                if since <= utc(when) < until and feed.queue in (None, job.queue)
            ]
            oldest = utc(site.ended[0][0]) if site.ended else None
        return AccountingPage(
            jobs=jobs, watermark=None, complete=True, remembered_since=oldest, tells_all_runs=False, calls=0
        )

    def read_named(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        """Give what ended of these jobs, as far as the simulator remembers."""
        wanted = set(native_ids)
        with self._lock:
            jobs = [self._ended(job, when) for when, job in self._site().ended_since(0) if job.native_id in wanted]
        return AccountingPage(jobs=jobs, watermark=None, complete=True, calls=0)

    def read_missing(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        """Give nothing: a history file is only appended to, so that no record comes late."""
        return AccountingPage(jobs=[], watermark=None, complete=True, calls=0)

    def _ended(self, job: SimJob, when: float) -> Job:
        """Give accounting's record of a job, or of an attempt of it that was requeued."""
        grid = self._settings.shape == "grid"
        run = next(run for run in reversed(job.runs) if run.end is not None and run.end <= when)
        if job.end == when:
            return self._job(
                job,
                state=State.ENDED,
                native_state=_NATIVE_END[grid].get(job.outcome or Outcome.UNKNOWN, "FAILED"),
                outcome=job.outcome,
                ended_at=utc(when),
                exit_code=job.code,
                exit_signal=job.signal,
                used_cpu_seconds=_used(job, run),
                used_memory_bytes=job.memory // 2,
                accounted=True,
                runs=tuple(self._run(job, each) for each in job.runs) if grid else (self._run(job, run),),
            )
        record = self._run(job, run)
        if grid:
            return self._job(job, state=State.UNKNOWN, native_state=None, runs=(record,))
        return self._job(
            job,
            attempt=run.attempt,
            state=State.PENDING,
            native_state="REQUEUED",
            waiting=Waiting.UNSTATED,
            accounted=True,
            runs=(record,),
        )

    def _job(self, job: SimJob, *, attempt: float | None = None, **fields: object) -> Job:
        owner, account, vo = job.owner
        grid = self._settings.shape == "grid"
        at = utc(job.attempt if attempt is None else attempt)
        return Job(
            native_id=job.native_id,
            submitted_at=utc(job.submit) if grid else at,
            attempt_at=None if grid else at,
            owner=owner,
            account=account,
            vo=vo,
            queue=job.queue,
            name=job.name,
            eligible_at=utc(job.submit),
            requested_cpus=float(job.cpus),
            requested_memory_bytes=job.memory,
            requested_gpus=float(job.gpus),
            requested_wall_seconds=job.wall,
            array_parent=job.array,
            **fields,  # type: ignore[arg-type]  # the callers' keywords are Job's own
        )

    def _run(self, job: SimJob, run: SimRun) -> Run:
        ended = run.end is not None
        grid = self._settings.shape == "grid"
        return Run(
            attempt_at=utc(run.start if grid else run.attempt),
            started_at=utc(run.start),
            ended_at=utc(run.end) if run.end is not None else None,
            outcome=run.outcome,
            exit_code=job.code if ended and run.end == job.end else None,
            exit_signal=job.signal if ended and run.end == job.end else None,
            cpus=float(job.cpus),
            gpus=float(job.gpus),
            memory_bytes=job.memory,
            used_cpu_seconds=_used(job, run) if ended else None,
            used_memory_bytes=job.memory // 2 if ended else None,
            workers=(
                RunWorker(worker=run.worker, cpus=float(job.cpus), gpus=float(job.gpus), memory_bytes=job.memory),
            ),
            accounted=ended,
        )


_NATIVE = {
    True: {State.HELD: "HELD", State.RUNNING: "RUNNING", State.PENDING: "IDLE"},
    False: {State.HELD: "PENDING", State.RUNNING: "RUNNING", State.PENDING: "PENDING"},
}
_NATIVE_END = {
    True: {Outcome.CANCELLED: "REMOVED", Outcome.COMPLETED: "COMPLETED"},
    False: {outcome: outcome.value.upper() for outcome in Outcome},
}


def _used(job: SimJob, run: SimRun) -> float:
    share = 0.55 + (len(job.name) % 5) / 10
    return round(job.cpus * ((run.end or run.start) - run.start) * share, 3)


def _worker(worker: SimWorker, jobs: int) -> Worker:
    busy = worker.cpus - worker.free
    state = WorkerState.IDLE if busy == 0 else WorkerState.FULL if worker.free == 0 else WorkerState.PARTIAL
    gpus = (
        (Gpus(model=worker.model, total=float(worker.gpus), allocated=float(worker.gpus - worker.free_gpus)),)
        if worker.gpus
        else ()
    )
    return Worker(
        name=worker.name,
        state=state,
        flags=(WorkerFlag.DRAINING,) if worker.drained else (),
        native_state=state.value,
        state_since=utc(worker.reason_at) if worker.drained else None,
        reason=worker.reason,
        cpus=float(worker.cpus),
        cpus_allocated=float(busy),
        memory_bytes=worker.memory,
        memory_allocated_bytes=worker.memory - worker.free_memory,
        gpus=gpus,
        jobs=jobs,
        queues=worker.queues,
    )

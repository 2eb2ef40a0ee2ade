"""A simulated scheduler: no daemon needed, and everything behind the `Source` protocol is the real path."""

import threading
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from exporter.readings import (
    POLICY,
    AccountingPage,
    Feed,
    JobsReading,
    Kind,
    PolicyReading,
    SchedulerReading,
    WorkersReading,
)
from exporter.settings import Cluster, Config
from exporter.sources import AnswerUnreadable, CommandFailed, policy_feeds
from exporter.sources.demo import policy, scheduler
from exporter.sources.demo.plan import GIB, plan
from exporter.sources.demo.reasons import why
from exporter.sources.demo.site import BY_USER, NO_INPUT, OUT_OF_RESOURCES, Site, utc
from exporter.sources.demo.things import Factory, Share, SimJob, SimRun, SimWorker
from history.records import Gpus, Job, Queue, Run, RunWorker, Unmade, Worker
from history.settings import Duration
from history.vocabulary import Outcome, State, Waiting, WorkerState

PAGE = 5_000


class Settings(Cluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a simulated cluster's configuration may say."""

    shape: str = "local"
    scale: Annotated[float, msgspec.Meta(gt=0)] = 0.1
    seed: int = 1
    faults: Path | None = None
    """A file that says what is to go wrong, read at every poll; without it, a little goes wrong by itself."""
    moving: bool = True
    """Whether time goes on in it; else it is always the moment at which it was first looked at."""

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
    """Return the site that `--demo` runs."""
    return Config(
        clusters=(
            Settings(name="grid", scheduler="demo", shape="grid", scale=scale, seed=seed, interval=Duration(15)),
            Settings(name="local", scheduler="demo", shape="local", scale=scale, seed=seed, interval=Duration(15)),
        )
    )


class Source:
    """One simulated cluster."""

    window_seconds = 3600.0
    window_jobs = 6_000
    lends_cpus = False
    unknown_fields = ()

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self.lends_cpus = settings.shape == "local"
        self._clock = clock
        self._lock = threading.Lock()
        self._made: Site | None = None
        self._shown: dict[str, tuple[object, Job]] = {}

    def remarks(self) -> Sequence[str]:
        """Return nothing: the demo tells all it knows."""
        return []

    def permissions(self) -> str:
        """Say that nothing is hidden."""
        return "a simulation hides nothing"

    def version(self) -> str | None:
        """Return the kind of cluster that is simulated."""
        return f"simulated {'HTCondor' if self._settings.shape == 'grid' else 'Slurm'}"

    def feeds(self, known: Sequence[str] = ()) -> Sequence[Feed]:
        """Return the same feeds as the scheduler it stands for: one a schedd on the grid."""
        if self._settings.shape != "grid":
            own = [Feed(kind=kind) for kind in Kind if kind not in POLICY]
            return [*own, *policy_feeds(self._settings.policy, POLICY)]
        queues = plan("grid", self._settings.scale).queues
        return [
            Feed(kind=Kind.WORKERS),
            Feed(kind=Kind.SCHEDULER),
            *policy_feeds(self._settings.policy, (Kind.LIMITS, Kind.SHARES)),
            *(Feed(kind=kind, queue=queue) for queue in queues for kind in (Kind.JOBS, Kind.ACCOUNTING)),
        ]

    def _site(self) -> Site:
        now = self._clock()
        if self._made is None:
            size = plan(self._settings.shape, self._settings.scale)
            self._made = Site(size, self._settings.seed, now, calm=self._settings.faults is not None)
        if self._settings.moving:
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
        """Return every job that has not ended."""
        with self._lock:
            site = self._site()
            jobs = [self._seen(site, job) for job in site.jobs.values() if feed.queue in (None, job.queue)]
            unmade = [_unmade(each) for each in site.factories.values() if feed.queue in (None, each.template.queue)]
            return JobsReading(taken_at=utc(site.now), jobs=jobs, unmade=tuple(each for each in unmade if each.count))

    def _seen(self, site: Site, job: SimJob) -> Job:
        """Return a job's record; the same one again while nothing of it has changed."""
        state = _state(job)
        if job.routed_to is not None and job.routed_to in site.jobs:
            state = _state(site.jobs[job.routed_to])
        token = (job.attempt, state, len(job.runs))
        known = self._shown.get(job.native_id)
        if known is not None and known[0] == token:
            return known[1]
        record = self._live(job, state)
        self._shown[job.native_id] = token, record
        return record

    def _live(self, job: SimJob, state: State) -> Job:
        grid = self._settings.shape == "grid"
        runs = job.runs if grid else [job.run] if job.run is not None else []
        said = why(job, plan("grid", self._settings.scale)) if grid and state is State.PENDING else None
        return self._job(
            job,
            attempt=runs[-1].attempt if runs and not grid else None,
            state=state,
            native_state=_NATIVE[grid].get(state, state.value.upper()),
            reason=_why_held(job, grid) if state is State.HELD else said.reason if said else _REASON.get(state),
            waiting=(said.waiting if said else Waiting.PRIORITY) if state is State.PENDING else None,
            matching=said.matching if said else None,
            runs=tuple(self._run(job, run) for run in runs),
            requeued=not grid and job.attempt != job.submit,
            lends_cpus=self.lends_cpus and state is State.SUSPENDED,
        )

    def read_scheduler(self, feed: Feed) -> SchedulerReading:
        """Return figures of a scheduler that has nothing to complain of."""
        with self._lock:
            self._site()
        told = scheduler.htcondor if self._settings.shape == "grid" else scheduler.slurmctld
        return told(plan(self._settings.shape, self._settings.scale), self._clock())

    def read_workers(self, feed: Feed) -> WorkersReading:
        """Return every worker and queue."""
        with self._lock:
            site = self._site()
            queues = [
                Queue(
                    name=name,
                    state="up",
                    settings={} if site.plan.grid else {"max_wall_seconds": 7 * 86400, "priority_tier": 1},
                )
                for name in site.plan.queues
            ]
            workers = [_worker(worker, lends=not site.plan.grid) for worker in site.workers]
            return WorkersReading(taken_at=utc(site.now), workers=workers, queues=queues)

    def read_policy(self, feed: Feed) -> PolicyReading:
        """Return a part of the site's policy."""
        with self._lock:
            return policy.reading(self._site(), feed)

    def read_accounting(self, feed: Feed, watermark: str | None, now: datetime) -> AccountingPage:
        """Return what ended since the watermark (epoch seconds), one page."""
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
        """Return what ended of these jobs, as far as the simulator remembers."""
        wanted = set(native_ids)
        with self._lock:
            jobs = [self._ended(job, when) for when, job in self._site().ended_since(0) if job.native_id in wanted]
        return AccountingPage(jobs=jobs, watermark=None, complete=True, calls=0)

    def read_missing(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        """Return nothing: a history file is only appended to, so that no record comes late."""
        return AccountingPage(jobs=[], watermark=None, complete=True, calls=0)

    def _ended(self, job: SimJob, when: float) -> Job:
        """Return accounting's record of a job, of an attempt of it that was requeued, or of a part of a run."""
        grid = self._settings.shape == "grid"
        run = next((run for run in reversed(job.runs) if run.end is not None and run.end <= when), None)
        told = job.runs if grid or run is None else [run]
        if job.end == when:
            return self._job(
                job,
                attempt=run.attempt if run is not None and not grid else None,
                resized=run is not None and run.began is not None,
                state=State.ENDED,
                native_state=_NATIVE_END[grid].get(job.outcome or Outcome.UNKNOWN, "FAILED"),
                outcome=job.outcome,
                ended_at=utc(when),
                exit_code=job.code,
                exit_signal=job.signal,
                used_cpu_seconds=_used(job, run) if run is not None and run.shares else None,
                used_memory_bytes=job.memory // 2 if run is not None and run.shares else None,
                accounted=True,
                runs=tuple(self._run(job, each) for each in told),
            )
        assert run is not None  # nothing else ends before its job
        record = self._run(job, run)
        if grid:
            return self._job(job, state=State.UNKNOWN, native_state=None, runs=(record,))
        return self._job(
            job,
            attempt=run.attempt,
            resized=run.began is not None,
            state=State.RUNNING if run.resized else State.PENDING,
            native_state="RESIZING" if run.resized else "REQUEUED",
            waiting=None if run.resized else Waiting.UNSTATED,
            accounted=True,
            runs=(record,),
        )

    def _job(
        self,
        job: SimJob,
        *,
        attempt: float | None = None,
        resized: bool = False,
        matching: int | None = None,
        **fields: object,
    ) -> Job:
        """Return a job.

        Args:
            attempt: Slurm's Submit of the newest attempt, or when the job was resized.
            matching: how many of HTCondor's machines could hold it.
            resized: whether accounting tells of a later part of a run, whose Submit is when it began.
        """
        owner, account, vo = job.owner
        grid = self._settings.shape == "grid"
        at = job.attempt if attempt is None else attempt
        details = {
            "universe": 7 if job.steers is not None else None,
            "hold_code": job.held if grid else None,
            "hold_reason": _HOLD_CODES.get(job.held or 0) if grid else None,
            "machines_matching": matching,
        }
        return Job(
            native_id=job.native_id,
            submitted_at=utc(job.submit if grid else at if resized else min(job.attempt, at)),
            attempt_at=None if grid else utc(at),
            owner=owner,
            account=account,
            vo=vo,
            queue=job.queue,
            name=job.name,
            eligible_at=utc(job.submit),
            requested_cpus=float(job.cpus * job.nodes),
            requested_memory_bytes=job.memory * job.nodes,
            requested_gpus=float(job.gpus * job.nodes),
            requested_wall_seconds=job.wall,
            array_parent=job.array,
            het_parent=job.het,
            dag_parent=job.dag,
            routed_from=job.routed_from,
            routed_to=job.routed_to,
            details={key: value for key, value in details.items() if value is not None} or None,
            **fields,  # type: ignore[arg-type]  # the callers' keywords are Job's own
        )

    def _run(self, job: SimJob, run: SimRun) -> Run:
        grid = self._settings.shape == "grid"
        over = run.end is not None
        last = over and run.end == job.end
        shares = run.shares
        gpus = sum(share.gpus for share in shares)
        return Run(
            attempt_at=utc(run.start if grid else run.attempt),
            started_at=utc(run.start),
            run_started_at=utc(run.began) if run.began is not None else None,
            ended_at=utc(run.end) if run.end is not None else None,
            outcome=None if run.resized else run.outcome,
            exit_code=job.code if last else None,
            exit_signal=job.signal if last else None,
            cpus=float(sum(share.cpus for share in shares)),
            gpus=float(gpus),
            memory_bytes=sum(share.memory for share in shares),
            used_cpu_seconds=_used(job, run) if over and shares else None,
            used_memory_bytes=job.memory // 2 if over and shares else None,
            used_gpu_seconds=_used_gpus(job, run, gpus) if over and gpus else None,
            used_gpu_memory_bytes=gpus * (len(job.name) % 4 + 1) * 8 * GIB if over and gpus else None,
            suspended_seconds=int(run.paused) or None if over else None,
            resized=run.resized,
            workers=tuple(_share(share) for share in shares),
            accounted=over,
        )


def _state(job: SimJob) -> State:
    if job.held is not None:
        return State.HELD
    if job.run is None:
        return State.PENDING
    return State.RUNNING if job.run.paused_at is None else State.SUSPENDED


def _unmade(factory: Factory) -> Unmade:
    template = factory.template
    owner, account, vo = template.owner
    return Unmade(
        native_id=template.native_id.rpartition(".")[0],
        submitted_at=utc(template.submit),
        owner=owner,
        account=account,
        vo=vo,
        queue=template.queue,
        jobs=factory.total,
        made=factory.made,
        requested_cpus=float(template.cpus),
        requested_memory_bytes=template.memory,
        requested_gpus=0.0,
    )


def _share(share: Share) -> RunWorker:
    return RunWorker(
        worker=share.worker.name,
        cpus=float(share.cpus),
        memory_bytes=share.memory,
        gpus=float(share.gpus),
        gpu_models={model: float(number) for model, number in share.models.items()} or None,
        gpu_parts={"shard": float(share.shards)} if share.shards else None,
    )


_REASON = {State.PENDING: "Priority"}
_HOLD_CODES = {BY_USER: "UserRequest", NO_INPUT: "TransferInputError", OUT_OF_RESOURCES: "JobOutOfResources"}


def _why_held(job: SimJob, grid: bool) -> str:
    """Return the reason as the scheduler would write it."""
    if not grid:
        return "JobHeldUser"
    return {
        BY_USER: f"via condor_hold (by user {job.owner[0]})",
        NO_INPUT: "Transfer input files failure at execution point while receiving files: No such file or directory",
        OUT_OF_RESOURCES: f"Job has gone over cgroup memory limit of {job.memory >> 20} megabytes",
    }[job.held or BY_USER]


_NATIVE = {
    True: {State.PENDING: "IDLE"},
    False: {State.HELD: "PENDING"},
}
_NATIVE_END = {
    True: {Outcome.CANCELLED: "REMOVED", Outcome.COMPLETED: "COMPLETED"},
    False: {outcome: outcome.value.upper() for outcome in Outcome},
}


def _used(job: SimJob, run: SimRun) -> float:
    """Return the CPU time of a run: some of what it held, the same however often one asks."""
    part = 0.55 + (len(job.name) % 5) / 10
    held = sum(share.cpus for share in run.shares)
    return round(held * max(0.0, (run.end or run.start) - run.start - run.paused) * part, 3)


def _used_gpus(job: SimJob, run: SimRun, gpus: int) -> float | None:
    """Return the time for which its GPUs were busy; of one job in seven nobody measured it."""
    if zlib.crc32(job.native_id.encode()) % 7 == 0:
        return None
    return round(gpus * max(0.0, (run.end or run.start) - run.start - run.paused) * (len(job.name) % 6) / 6, 3)


def _worker(worker: SimWorker, *, lends: bool) -> Worker:
    """Return a worker's record.

    Args:
        lends: whether a suspended job's CPUs are free for others, as slurmctld says.
    """
    busy = worker.cpus - worker.free
    if lends:
        for job in worker.running.values():
            if job.runs[-1].paused_at is not None:
                busy -= sum(share.cpus for share in job.runs[-1].shares if share.worker is worker)
    state = WorkerState.IDLE if busy == 0 else WorkerState.FULL if busy == worker.cpus else WorkerState.PARTIAL
    state = WorkerState.DOWN if worker.down else state
    shards = Gpus(model="shard", total=float(worker.shards), allocated=float(worker.shards - worker.free_shards))
    return Worker(
        name=worker.name,
        state=state,
        flags=worker.flags,
        native_state=state.value,
        state_since=utc(worker.reason_at) if worker.closed else None,
        reason=worker.reason,
        cpus=float(worker.cpus),
        cpus_allocated=float(busy),
        memory_bytes=worker.memory,
        memory_allocated_bytes=worker.memory - worker.free_memory,
        gpus=tuple(
            Gpus(model=model, total=float(total), allocated=float(total - worker.free_gpus[model]))
            for model, total in sorted(worker.gpus.items())
        ),
        gpu_parts=(shards,) if worker.shards else (),
        jobs=len(worker.running) + len(worker.fillers),
        queues=worker.queues,
        details={"backfill_cpus_used": float(len(worker.fillers))} if worker.fillers else None,
    )

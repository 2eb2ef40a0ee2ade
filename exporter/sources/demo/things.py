"""The workers, jobs and runs of the simulated site, and what one takes of the other."""

from exporter.sources.demo.plan import GIB, Kit, Owner
from history.vocabulary import Outcome, WorkerFlag


class SimWorker:
    """A worker and what is free on it."""

    __slots__ = (
        "black_hole", "cpus", "down", "fillers", "flags", "free", "free_gpus", "free_memory", "free_shards", "gpus",
        "lanes", "memory", "name", "queues", "reason", "reason_at", "running", "shards",
    )  # fmt: skip

    def __init__(self, name: str, kit: Kit, queues: tuple[str, ...]) -> None:
        self.name, self.queues = name, kit.queues
        slices = any("g." in model for model in kit.gpus)
        self.lanes = tuple(
            f"{queue}{kind}"
            for queue in kit.queues or queues
            for kind, has in (("", True), (" slices", slices), (" shards", bool(kit.shards)))
            if has
        )
        """Where the jobs wait that it could start: a lane for each kind of thing that it has."""
        self.cpus = self.free = kit.cpus
        self.memory = self.free_memory = kit.memory
        self.gpus, self.free_gpus = kit.gpus, dict(kit.gpus)
        self.shards = self.free_shards = kit.shards
        self.running: dict[str, SimJob] = {}
        self.fillers: dict[str, SimJob] = {}
        """Jobs in backfill slots: they hold nothing that others might want."""
        self.black_hole = False
        self.down = False
        self.flags: tuple[WorkerFlag, ...] = ()
        self.reason: str | None = None
        self.reason_at = 0.0

    @property
    def closed(self) -> bool:
        """Return whether it takes no jobs."""
        return self.down or bool(self.flags)

    def close(self, flag: WorkerFlag, reason: str | None, at: float, *, down: bool = False) -> None:
        """Let it take no more jobs."""
        self.flags, self.down, self.reason, self.reason_at = (flag,), down, reason, at

    def open(self) -> None:
        """Let it take jobs again."""
        self.flags, self.down, self.reason = (), False, None

    def share(self, job: "SimJob") -> "Share | None":
        """Return what a job would have here; None where it does not fit."""
        if job.cpus > self.free or job.memory > self.free_memory or job.shards > self.free_shards:
            return None
        models: dict[str, int] = {}
        wanted = job.gpus
        # all of one model if it can be, else of several
        for model in sorted(self.free_gpus, key=lambda each: self.free_gpus[each] < job.gpus):
            if wanted and self.free_gpus[model] and ("g." in model) == job.slices:
                models[model] = min(wanted, self.free_gpus[model])
                wanted -= models[model]
        return None if wanted else Share(self, job, models)

    def take(self, share: "Share", job: "SimJob") -> None:
        """Return a job its share."""
        self._change(share, -1)
        self.running[job.native_id] = job

    def give_back(self, share: "Share", job: "SimJob") -> None:
        """Take a job's share from it."""
        self._change(share, 1)
        del self.running[job.native_id]

    def _change(self, share: "Share", sign: int) -> None:
        self.free += sign * share.cpus
        self.free_memory += sign * share.memory
        self.free_shards += sign * share.shards
        for model, number in share.models.items():
            self.free_gpus[model] += sign * number


class Share:
    """What a run has on one worker."""

    __slots__ = ("cpus", "memory", "models", "shards", "worker")

    def __init__(self, worker: SimWorker, job: "SimJob", models: dict[str, int]) -> None:
        self.worker, self.models = worker, models
        self.cpus, self.memory, self.shards = job.cpus, job.memory, job.shards

    @property
    def gpus(self) -> int:
        """Return how many GPUs it has, of any model."""
        return sum(self.models.values())


class SimRun:
    """One start of a job, or what follows when a running job gave workers back."""

    __slots__ = (
        "attempt", "began", "due", "end", "outcome", "paused", "paused_at", "resized", "shares", "start",
    )  # fmt: skip

    def __init__(self, attempt: float, start: float, shares: tuple[Share, ...]) -> None:
        self.attempt, self.start, self.shares = attempt, start, shares
        self.began: float | None = None
        """When the run's first part started, of a later part."""
        self.due = start
        """When it will end by itself."""
        self.end: float | None = None
        self.outcome: Outcome | None = None
        self.resized = False
        self.paused = 0.0
        self.paused_at: float | None = None


class SimJob:
    """A job, from its submission to its end; what it wants is of each of its workers."""

    __slots__ = (
        "array", "attempt", "code", "cpus", "dag", "end", "factory", "filler", "gpus", "held", "het", "het_parts",
        "memory", "name", "native_id", "nodes", "outcome", "owner", "queue", "routed_from", "routed_to", "runs",
        "shards", "signal", "slices", "steers", "submit", "wall",
    )  # fmt: skip

    def __init__(self, native_id: str, submit: float, owner: Owner, queue: str, name: str) -> None:
        self.native_id, self.submit, self.owner, self.queue, self.name = native_id, submit, owner, queue, name
        self.attempt = submit
        self.nodes, self.cpus, self.gpus, self.shards, self.memory, self.wall = 1, 1, 0, 0, 2 * GIB, 86400
        self.slices = False
        """Whether its GPUs are slices of one."""
        self.array: str | None = None
        self.het: str | None = None
        self.het_parts: tuple[SimJob, ...] = ()
        """Of the first part of a heterogeneous job: the others, which start and end with it."""
        self.dag: str | None = None
        self.steers: list[SimJob] | None = None
        """Of a DAGMan, which runs beside the schedd: the nodes that it has not submitted yet."""
        self.factory: str | None = None
        self.filler = False
        self.routed_from: str | None = None
        self.routed_to: str | None = None
        self.held: int | None = None
        """Why it is held, as HTCondor's HoldReasonCode."""
        self.runs: list[SimRun] = []
        self.end: float | None = None
        self.outcome: Outcome | None = None
        self.code: int | None = None
        self.signal: int | None = None

    @property
    def lane(self) -> str:
        """Return where it waits: nobody waits behind a job that wants something else."""
        return f"{self.queue}{' slices' if self.slices else ' shards' if self.shards else ''}"

    @property
    def run(self) -> SimRun | None:
        """Return the run that has not ended."""
        return self.runs[-1] if self.runs and self.runs[-1].end is None else None

    def like(self, native_id: str, submit: float) -> "SimJob":
        """Return another job that wants the same."""
        job = SimJob(native_id, submit, self.owner, self.queue, self.name)
        for name in ("nodes", "cpus", "gpus", "shards", "memory", "wall", "slices"):
            setattr(job, name, getattr(self, name))
        return job


class Factory:
    """A submission of many procs, of which only a few are made at a time (HTCondor's late materialization)."""

    __slots__ = ("made", "template", "total")

    def __init__(self, template: SimJob, total: int) -> None:
        self.template, self.total, self.made = template, total, 0

    def make(self) -> SimJob | None:
        """Return the next proc; None when all are made."""
        if self.made >= self.total:
            return None
        cluster = self.template.native_id.rpartition(".")[0]
        job = self.template.like(f"{cluster}.{self.made}", self.template.submit)
        job.factory = cluster
        self.made += 1
        return job

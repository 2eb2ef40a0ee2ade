"""`/metrics/slurm`: gauges under the names of the widely used older Slurm exporter, for dashboards that stand on them.

Off by default (`web: {slurm_names: older}`, or true). The numbers are BBQ's own; what is not known (fair shares where
the cluster's `fair_shares` is off, figures that this sdiag does not print) is left out, not 0. Units are that one's:
MB, microseconds. Ended jobs that linger in squeue are those of the history that ended in the last five minutes.
Where BBQ reads several Slurm clusters, each series has a `cluster` label.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily

from exporter.latest import Board, ClusterView
from exporter.readings import SchedulerReading
from history.records import Worker
from history.vocabulary import HOLDING, Outcome, State, Waiting, WorkerFlag, WorkerState

_MB = 1 << 20
_MICRO = 1e6
Labels = tuple[tuple[str, str], ...]
"""(name, value) of each label."""


class Figures:
    """Values by metric and labels."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))

    def add(self, name: str, labels: Labels, value: float) -> None:
        """Add to a value, which begins at 0."""
        self._values[name][labels] += value

    def sum(self, name: str) -> float:
        """Return the sum over all labels."""
        return sum(self._values[name].values())

    def sorted(self) -> Iterator[tuple[str, list[tuple[Labels, float]]]]:
        """Return each metric with its values."""
        return ((name, sorted(values.items())) for name, values in sorted(self._values.items()) if values)


_JOBS = {State.PENDING: "jobs_pending", State.HELD: "jobs_pending", State.SUSPENDED: "jobs_suspended"}
QUEUE = {
    State.PENDING: "pending",
    State.HELD: "pending",
    State.RUNNING: "running",
    State.SUSPENDED: "suspended",
    State.FINISHING: "completing",
}
_ENDED = (
    Outcome.COMPLETED,
    Outcome.CANCELLED,
    Outcome.FAILED,
    Outcome.TIMEOUT,
    Outcome.PREEMPTED,
    Outcome.NODE_FAIL,
)
_GPUS = ("alloc", "idle", "total")
_CYCLES = {"main": "", "backfill": "backfill_"}


def families(board: Board) -> Iterator[GaugeMetricFamily]:
    """Return the page's metrics from what is fresh now."""
    return gather(board, _figures, "As the older Slurm exporter had it.")


def slurm_clusters(board: Board) -> list[str]:
    """Return the clusters that are Slurm's."""
    return [
        name for name, (scheduler, version) in board.clusters().items() if "slurm" in f"{scheduler}{version}".lower()
    ]


def gather(
    board: Board, figures: Callable[[ClusterView], Figures], about: str, more: Figures | None = None
) -> Iterator[GaugeMetricFamily]:
    """Yield the metrics of all Slurm clusters.

    Args:
        figures: what gives those of one.
        about: the help text.
        more: what is of no cluster.
    """
    slurm = slurm_clusters(board)
    found: dict[str, GaugeMetricFamily] = {}
    views: list[tuple[Labels, Figures]] = [
        ((("cluster", cluster),) if len(slurm) > 1 else (), figures(board.view(cluster)[1])) for cluster in slurm
    ]
    for place, its in (*views, ((), more or Figures())):
        for name, values in its.sorted():
            for labels, value in values:
                names, texts = zip(*(*place, *labels), strict=True) if place or labels else ((), ())
                found.setdefault(name, GaugeMetricFamily(name, about, labels=names)).add_metric(texts, value)
    yield from (found[name] for name in sorted(found))


def figures_of(
    view: ClusterView,
    jobs: Callable[[ClusterView, Figures], None],
    workers: Callable[[list[Worker], Figures], None],
    ended: str,
) -> Figures:
    """Return the figures of what is fresh of a cluster.

    Args:
        jobs: adds those of a queue that was read whole.
        workers: adds those of the workers.
        ended: what the names of the numbers of ended jobs begin with.
    """
    found = Figures()
    if view.jobs_complete:
        jobs(view, found)
    if view.workers is not None:
        workers(view.workers.workers, found)
    if view.scheduler is not None:
        _scheduler(view.scheduler, found)
    if view.totals is not None and view.totals.ended_lately is not None:
        for outcome in _ENDED:
            found.add(f"{ended}{outcome.value}", (), view.totals.ended_lately.get(outcome.value, 0))
    return found


def _figures(view: ClusterView) -> Figures:
    return figures_of(view, _jobs, _workers, "slurm_queue_")


def _scheduler(health: SchedulerReading, found: Figures) -> None:
    """Add what slurmctld says of itself, under names that both exporters have."""
    for name, value in (
        ("threads", health.threads),
        ("queue_size", health.queue_lengths.get("agent")),
        ("dbd_queue_size", health.queue_lengths.get("dbd_agent")),
        ("cycle_per_minute", health.cycles_per_minute.get("main")),
        ("backfill_depth_mean", health.cycle_depths.get("backfill")),
        ("backfilled_jobs_since_start_total", health.backfilled.get("jobs")),
        ("backfilled_jobs_since_cycle_total", health.backfilled.get("jobs_counted")),
        ("backfilled_heterogeneous_total", health.backfilled.get("het_components")),
        *((f"{prefix}last_cycle", _micro(health.cycle_seconds, kind)) for kind, prefix in _CYCLES.items()),
        *((f"{prefix}mean_cycle", _micro(health.cycle_mean_seconds, kind)) for kind, prefix in _CYCLES.items()),
    ):
        if value is not None:
            found.add(f"slurm_scheduler_{name}", (), value)
    for account, share in health.fair_shares.items():
        found.add("slurm_account_fairshare", (("account", account),), share)


def _micro(seconds: Mapping[str, float], kind: str) -> float | None:
    return round(seconds[kind] * _MICRO) if kind in seconds else None


def _jobs(view: ClusterView, found: Figures) -> None:
    for name in dict.fromkeys(QUEUE.values()):
        found.add(f"slurm_queue_{name}", (), 0)
    found.add("slurm_queue_pending_dependency", (), 0)
    found.add("slurm_queue_configuring", (), 0)
    for tally in view.tallies:
        configuring = tally.native["CONFIGURING"]
        found.add("slurm_queue_configuring", (), configuring)
        found.add("slurm_queue_running", (), -configuring)
        for (owner, account, _, queue, word), amount in tally.jobs.items():
            state = State(word)
            if state in QUEUE:
                found.add(f"slurm_queue_{QUEUE[state]}", (), amount.jobs)
            for kind, name in (("user", owner), ("account", account)):
                labels = ((kind, name),)
                if state in _JOBS:
                    found.add(f"slurm_{kind}_{_JOBS[state]}", labels, amount.jobs)
                elif state in HOLDING:
                    found.add(f"slurm_{kind}_jobs_running", labels, amount.jobs)
                    found.add(f"slurm_{kind}_cpus_running", labels, amount.cpus)
            if state in (State.PENDING, State.HELD):
                found.add("slurm_partition_jobs_pending", (("partition", queue),), amount.jobs)
        for (_, _, reason), count in tally.waiting.items():
            if reason == Waiting.DEPENDENCY.value:
                found.add("slurm_queue_pending_dependency", (), count)


def _workers(workers: list[Worker], found: Figures) -> None:
    states: Counter[str] = Counter(
        dict.fromkeys(("alloc", "comp", "down", "drain", "err", "fail", "idle", "maint", "mix", "resv"), 0)
    )
    for name in _GPUS:
        found.add(f"slurm_gpus_{name}", (), 0)
    for worker in workers:
        states[state_of(worker)] += 1
        cpus = cpus_of(worker)
        status = status_of(worker)
        for name, value in cpus.items():
            found.add(f"slurm_cpus_{name}", (), value)
            found.add(f"slurm_node_cpu_{name}", (("node", worker.name), ("status", status)), value)
        for name, memory in (("alloc", worker.memory_allocated_bytes), ("total", worker.memory_bytes)):
            if memory is not None:
                found.add(f"slurm_node_mem_{name}", (("node", worker.name), ("status", status)), memory // _MB)
        for queue in worker.queues:
            for name, value in cpus.items():
                label = "allocated" if name == "alloc" else name
                found.add(f"slurm_partition_cpus_{label}", (("partition", queue),), value)
        gpus = gpus_of(worker)
        for name in _GPUS:
            found.add(f"slurm_gpus_{name}", (), gpus[name])
    for state, count in states.items():
        found.add(f"slurm_nodes_{state}", (), count)
    add_utilization(workers, found)


def is_out(worker: Worker) -> bool:
    """Return whether nothing more starts on a worker."""
    return worker.state in (WorkerState.DOWN, WorkerState.UNKNOWN) or not _OUT.isdisjoint(worker.flags)


def cpus_of(worker: Worker) -> dict[str, float]:
    """Return a worker's CPUs by what becomes of them: free ones of one that takes no jobs are `other`."""
    total, used = worker.cpus or 0.0, worker.cpus_allocated or 0.0
    out = is_out(worker)
    free = total - used
    return {"alloc": used, "idle": 0.0 if out else free, "other": free if out else 0.0, "total": total}


def gpus_of(worker: Worker) -> dict[str, float]:
    """Return a worker's GPUs by what becomes of them; those whose use nobody tells are `other`."""
    out = is_out(worker)
    found = {"alloc": 0.0, "idle": 0.0, "other": 0.0, "total": 0.0}
    for each in worker.gpus:
        found["total"] += each.total
        free = each.total - (each.allocated or 0.0)
        found["alloc"] += each.allocated or 0.0
        found["other" if out or each.allocated is None else "idle"] += free
    return found


def add_utilization(workers: Iterable[Worker], found: Figures) -> None:
    """Add the part of the GPUs that is in use, where there are any and the use of each is told."""
    gpus = [each for worker in workers for each in worker.gpus]
    used = [each.allocated for each in gpus if each.allocated is not None]
    total = sum(each.total for each in gpus)
    if total and len(used) == len(gpus):
        found.add("slurm_gpus_utilization", (), sum(used) / total)


_OUT = frozenset({WorkerFlag.DRAINING, WorkerFlag.MAINTENANCE, WorkerFlag.NOT_RESPONDING, WorkerFlag.POWERED_DOWN})
_BASE = {WorkerState.FULL: "alloc", WorkerState.PARTIAL: "mix", WorkerState.IDLE: "idle", WorkerState.DOWN: "down"}


def status_of(worker: Worker) -> str:
    """Return Slurm's word for a node's state, without its flags."""
    return (worker.native_state or worker.state.value).partition("+")[0].lower().rstrip("*")


def state_of(worker: Worker) -> str:
    """Return the one of that exporter's ten words for a node; a node of which nothing is known is in error."""
    native = worker.native_state or ""
    if WorkerFlag.MAINTENANCE in worker.flags:
        return "maint"
    if WorkerFlag.DRAINING in worker.flags:
        return "drain"
    if "FAIL" in native:
        return "fail"
    if worker.state is WorkerState.DOWN:
        return "down"
    if "COMPLETING" in native:
        return "comp"
    if WorkerFlag.RESERVED in worker.flags:
        return "resv"
    return _BASE.get(worker.state, "err")

"""`/metrics/slurm`: gauges under the names of the widely used older Slurm exporter, for dashboards that stand on them.

Off by default (`web: {slurm_names: true}`). The numbers are BBQ's own; what is not known (fair shares where the
cluster's `fair_shares` is off, figures that this sdiag does not print) is left out, not 0. Units are that exporter's:
MB, microseconds. Ended jobs that linger in squeue are those of the history that ended in the last five minutes.
Where BBQ reads several Slurm clusters, each series has a `cluster` label.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily

from exporter.board import Board, ClusterView
from history.records import HOLDING, Outcome, State, Waiting, Worker, WorkerFlag, WorkerState

_MB = 1 << 20
_MICRO = 1e6
Figures = dict[str, dict[tuple[tuple[str, str], ...], float]]
"""Values by metric and labels."""

_JOBS = {State.PENDING: "jobs_pending", State.HELD: "jobs_pending", State.SUSPENDED: "jobs_suspended"}
_QUEUE = {
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
_CYCLES = {"main": "", "backfill": "backfill_"}


def families(board: Board) -> Iterator[GaugeMetricFamily]:
    """Give the page's metrics from what is fresh now."""
    slurm = [
        name for name, (scheduler, version) in board.clusters().items() if "slurm" in f"{scheduler}{version}".lower()
    ]
    found: dict[str, GaugeMetricFamily] = {}
    for cluster in slurm:
        more = (("cluster", cluster),) if len(slurm) > 1 else ()
        for name, values in _figures(board.view(cluster)[1]).items():
            for labels, value in sorted(values.items()):
                names, texts = zip(*(*more, *labels), strict=True) if more or labels else ((), ())
                metric = found.setdefault(
                    name, GaugeMetricFamily(name, "As the older Slurm exporter had it.", labels=names)
                )
                metric.add_metric(texts, value)
    yield from (found[name] for name in sorted(found))


def _figures(view: ClusterView) -> Figures:
    found: Figures = defaultdict(lambda: defaultdict(float))
    if view.jobs_complete:
        _jobs(view, found)
    if view.workers is not None:
        _workers(view.workers.workers, found)
    health = view.scheduler
    if health is not None:
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
                found[f"slurm_scheduler_{name}"][()] = value
        for account, share in health.fair_shares.items():
            found["slurm_account_fairshare"][(("account", account),)] = share
    if view.totals is not None and view.totals.ended_lately is not None:
        for outcome in _ENDED:
            found[f"slurm_queue_{outcome.value}"][()] = view.totals.ended_lately.get(outcome.value, 0)
    return found


def _micro(seconds: Mapping[str, float], kind: str) -> float | None:
    return round(seconds[kind] * _MICRO) if kind in seconds else None


def _jobs(view: ClusterView, found: Figures) -> None:
    for name in dict.fromkeys(_QUEUE.values()):
        found[f"slurm_queue_{name}"][()] = 0
    found["slurm_queue_pending_dependency"][()] = 0
    found["slurm_queue_configuring"][()] = 0
    for tally in view.tallies:
        configuring = tally.native["CONFIGURING"]
        found["slurm_queue_configuring"][()] += configuring
        found["slurm_queue_running"][()] -= configuring
        for (owner, account, _, queue, word), amount in tally.jobs.items():
            state = State(word)
            if state in _QUEUE:
                found[f"slurm_queue_{_QUEUE[state]}"][()] += amount.jobs
            for kind, name in (("user", owner), ("account", account)):
                labels = ((kind, name),)
                if state in _JOBS:
                    found[f"slurm_{kind}_{_JOBS[state]}"][labels] += amount.jobs
                elif state in HOLDING:
                    found[f"slurm_{kind}_jobs_running"][labels] += amount.jobs
                    found[f"slurm_{kind}_cpus_running"][labels] += amount.cpus
            if state in (State.PENDING, State.HELD):
                found["slurm_partition_jobs_pending"][(("partition", queue),)] += amount.jobs
        for (_, reason), count in tally.pending.items():
            if reason == Waiting.DEPENDENCY.value:
                found["slurm_queue_pending_dependency"][()] += count


def _workers(workers: list[Worker], found: Figures) -> None:
    states: Counter[str] = Counter(
        dict.fromkeys(("alloc", "comp", "down", "drain", "err", "fail", "idle", "maint", "mix", "resv"), 0)
    )
    gpus = {"alloc": 0.0, "total": 0.0}
    for worker in workers:
        states[_state(worker)] += 1
        cpus = _cpus(worker)
        status = (worker.native_state or worker.state.value).partition("+")[0].lower().rstrip("*")
        for name, value in cpus.items():
            found[f"slurm_cpus_{name}"][()] += value
            found[f"slurm_node_cpu_{name}"][(("node", worker.name), ("status", status))] = value
        for name, memory in (("alloc", worker.memory_allocated_bytes), ("total", worker.memory_bytes)):
            if memory is not None:
                found[f"slurm_node_mem_{name}"][(("node", worker.name), ("status", status))] = memory // _MB
        for queue in worker.queues:
            for name, value in cpus.items():
                label = "allocated" if name == "alloc" else name
                found[f"slurm_partition_cpus_{label}"][(("partition", queue),)] += value
        for each in worker.gpus:
            gpus["total"] += each.total
            gpus["alloc"] += each.allocated or 0.0
    for state, count in states.items():
        found[f"slurm_nodes_{state}"][()] = count
    for name, value in (*gpus.items(), ("idle", gpus["total"] - gpus["alloc"])):
        found[f"slurm_gpus_{name}"][()] = value
    if gpus["total"]:
        found["slurm_gpus_utilization"][()] = gpus["alloc"] / gpus["total"]


def _cpus(worker: Worker) -> dict[str, float]:
    total, used = worker.cpus or 0.0, worker.cpus_allocated or 0.0
    out = worker.state in (WorkerState.DOWN, WorkerState.UNKNOWN) or not _OUT.isdisjoint(worker.flags)
    free = total - used
    return {"alloc": used, "idle": 0.0 if out else free, "other": free if out else 0.0, "total": total}


_OUT = frozenset({WorkerFlag.DRAINING, WorkerFlag.MAINTENANCE, WorkerFlag.NOT_RESPONDING, WorkerFlag.POWERED_DOWN})
_BASE = {WorkerState.FULL: "alloc", WorkerState.PARTIAL: "mix", WorkerState.IDLE: "idle", WorkerState.DOWN: "down"}


def _state(worker: Worker) -> str:
    """Give the one of that exporter's ten words for a node; a node of which nothing is known is in error."""
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

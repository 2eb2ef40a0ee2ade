"""`/metrics/slurm` with `web: {slurm_names: newer}`: the names of the Slurm exporter that came after the older one.

Several of its names are the older one's with more labels (`slurm_queue_pending{user,partition,reason}`), so a page is
either's. The numbers are BBQ's own, in that exporter's units: MB, microseconds. What is not known is left out, not 0:

    slurm_queue_*, slurm_cores_* of ended and configuring jobs   told as sums only: slurm_jobs_*
    the reason of slurm_cores_pending                            empty: BBQ counts the cores by owner and queue
    user fair shares, raw shares and use                         sshare is asked for accounts only
    slurm_reservation_*, slurm_license_*                         BBQ does not read reservations and licences
    slurm_job_*_avg, slurm_job_cpu_hours_allocated               `bbq efficiency` and `bbq usage` tell them of any time
    slurm_exporter_command_*, _cache_*, slurm_sacct_*            that exporter's own works; BBQ's are bbq_*
"""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily

from exporter.latest import Board, ClusterView
from exporter.legacy_slurm_names import (
    QUEUE,
    Figures,
    Labels,
    add_utilization,
    cpus_of,
    figures_of,
    gather,
    gpus_of,
    slurm_clusters,
    state_of,
    status_of,
)
from exporter.readings import SchedulerReading
from history.records import Worker
from history.vocabulary import HOLDING, State

_MB = 1 << 20
_MICRO = 1e6
_STATES = (
    "alloc", "comp", "down", "drain", "err", "fail", "idle", "maint", "mix", "resv",
)  # fmt: skip
_WAITING = (State.PENDING, State.HELD)


def families(board: Board) -> Iterator[GaugeMetricFamily]:
    """Return the page's metrics from what is fresh now."""
    return gather(board, _figures, "As the newer Slurm exporter has it.", _itself(board))


def _itself(board: Board) -> Figures:
    """Return which collectors work, one a feed of each Slurm cluster, and how long they take."""
    found = Figures()
    slurm = slurm_clusters(board)
    place: dict[str, Labels] = {name: (("cluster", name),) if len(slurm) > 1 else () for name in slurm}
    for cluster, status in board.statuses():
        if cluster in slurm and status.polls:
            labels = (*place[cluster], ("collector", status.feed.name))
            found.add("slurm_exporter_collector_success", labels, float(status.up))
            if status.duration_seconds is not None:
                found.add("slurm_exporter_collector_duration_seconds", labels, status.duration_seconds)
    for cluster in slurm:
        version = board.clusters()[cluster][1]
        if version is not None:
            found.add("slurm_info", (*place[cluster], ("type", "general"), ("binary", ""), ("version", version)), 1.0)
    return found


def _figures(view: ClusterView) -> Figures:
    found = figures_of(view, _jobs, _workers, "slurm_jobs_")
    if view.scheduler is not None:
        _calls(view.scheduler, found)
    return found


def _jobs(view: ClusterView, found: Figures) -> None:
    for name in ("pending", "running", "suspended", "completing", "configuring"):
        found.add(f"slurm_jobs_{name}", (), 0)
    found.add("slurm_jobs_cores_pending", (), 0)
    found.add("slurm_jobs_cores_running", (), 0)
    for tally in view.tallies:
        configuring = tally.native["CONFIGURING"]
        found.add("slurm_jobs_configuring", (), configuring)
        found.add("slurm_jobs_running", (), -configuring)
        for (owner, account, _, queue, word), amount in tally.jobs.items():
            state = State(word)
            who: tuple[Labels, ...] = ((("user", owner),), (("account", account),))
            where = (("user", owner), ("partition", queue))
            if state in QUEUE:
                found.add(f"slurm_jobs_{QUEUE[state]}", (), amount.jobs)
            if state in _WAITING:
                found.add("slurm_jobs_cores_pending", (), amount.cpus)
                found.add("slurm_cores_pending", (*where, ("reason", "")), amount.cpus)
                found.add("slurm_partition_jobs_pending", where[1:], amount.jobs)
                for label in who:
                    found.add(f"slurm_{label[0][0]}_jobs_pending", label, amount.jobs)
            elif state in QUEUE:
                found.add(f"slurm_queue_{QUEUE[state]}", where, amount.jobs)
                found.add(f"slurm_cores_{QUEUE[state]}", where, amount.cpus)
            if state is State.SUSPENDED:
                for label in who:
                    found.add(f"slurm_{label[0][0]}_jobs_suspended", label, amount.jobs)
            elif state in HOLDING:
                found.add("slurm_jobs_cores_running", (), amount.cpus)
                found.add("slurm_partition_jobs_running", where[1:], amount.jobs)
                for label in who:
                    found.add(f"slurm_{label[0][0]}_jobs_running", label, amount.jobs)
                    found.add(f"slurm_{label[0][0]}_cpus_running", label, amount.cpus)
                    if amount.gpus:
                        found.add(f"slurm_{label[0][0]}_gpus_running", label, amount.gpus)
            if state is State.HELD:
                found.add("slurm_queue_pending", (*where, ("reason", "held")), amount.jobs)
        for (owner, queue, reason), count in tally.waiting.items():
            found.add("slurm_queue_pending", (("user", owner), ("partition", queue), ("reason", reason)), count)


def _workers(workers: list[Worker], found: Figures) -> None:
    for name in ("alloc", "total", "idle", "other"):
        found.add(f"slurm_gpus_{name}", (), 0)
    found.add("slurm_nodes_total", (), len(workers))
    for worker in workers:
        cpus, status = cpus_of(worker), status_of(worker)
        for name, value in cpus.items():
            found.add(f"slurm_cpus_{name}", (), value)
        gpus = gpus_of(worker)
        for name, value in gpus.items():
            found.add(f"slurm_gpus_{name}", (), value)
        for queue in worker.queues:
            there: Labels = (("partition", queue),)
            for state in _STATES:
                found.add(f"slurm_nodes_{state}", there, float(state == state_of(worker)))
            labels = (("node", worker.name), ("status", status), *there)
            found.add("slurm_node_status", labels, 1)
            for name, value in cpus.items():
                found.add(f"slurm_node_cpu_{name}", labels, value)
                found.add(f"slurm_partition_cpus_{'allocated' if name == 'alloc' else name}", there, value)
            for name, memory in (("alloc", worker.memory_allocated_bytes), ("total", worker.memory_bytes)):
                if memory is not None:
                    found.add(f"slurm_node_mem_{name}", labels, memory // _MB)
            if gpus["total"]:
                found.add("slurm_partition_gpus_allocated", there, gpus["alloc"])
                found.add("slurm_partition_gpus_idle", there, gpus["idle"])
    add_utilization(workers, found)


def _calls(health: SchedulerReading, found: Figures) -> None:
    for prefix, label, counts, seconds in (
        ("slurm_rpc_stats", "operation", health.calls_answered, health.call_seconds),
        ("slurm_user_rpc_stats", "user", health.calls_of_users, health.call_seconds_of_users),
    ):
        for name, count in counts.items():
            labels = ((label, name),)
            found.add(prefix, labels, count)
            taken = seconds.get(name)
            if taken is not None:
                found.add(f"{prefix}_total_time", labels, round(taken * _MICRO))
                if count:
                    found.add(f"{prefix}_avg_time", labels, round(taken / count * _MICRO))
    for name, count in health.jobs_counted.items():
        found.add(f"slurm_scheduler_jobs_{name}", (), count)

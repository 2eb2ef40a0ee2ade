"""Pages of metrics that are made from readings, and what stands on them."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from exporter.exposition import MetricsPage
from exporter.latest import Board
from exporter.readings import POLICY, Feed, JobsReading, Kind, WorkersReading
from exporter.sources import Source
from history.records import Job, Worker
from history.vocabulary import State, Waiting

NOW = datetime(2026, 11, 23, 16, 30, tzinfo=UTC)
OLDER = (
    "slurm_account_jobs_pending", "slurm_account_jobs_running", "slurm_account_cpus_running",
    "slurm_account_jobs_suspended", "slurm_user_jobs_pending", "slurm_user_jobs_running", "slurm_user_cpus_running",
    "slurm_user_jobs_suspended", "slurm_cpus_alloc", "slurm_cpus_idle", "slurm_cpus_other", "slurm_cpus_total",
    "slurm_gpus_alloc", "slurm_gpus_idle", "slurm_gpus_total", "slurm_gpus_utilization", "slurm_node_cpu_alloc",
    "slurm_node_cpu_idle", "slurm_node_cpu_other", "slurm_node_cpu_total", "slurm_node_mem_alloc",
    "slurm_node_mem_total", "slurm_nodes_alloc", "slurm_nodes_comp", "slurm_nodes_down", "slurm_nodes_drain",
    "slurm_nodes_err", "slurm_nodes_fail", "slurm_nodes_idle", "slurm_nodes_maint", "slurm_nodes_mix",
    "slurm_nodes_resv", "slurm_partition_cpus_allocated", "slurm_partition_cpus_idle", "slurm_partition_cpus_other",
    "slurm_partition_cpus_total", "slurm_partition_jobs_pending", "slurm_queue_pending",
    "slurm_queue_pending_dependency", "slurm_queue_running", "slurm_queue_suspended", "slurm_queue_completing",
    "slurm_scheduler_threads", "slurm_scheduler_queue_size", "slurm_scheduler_dbd_queue_size",
    "slurm_scheduler_last_cycle", "slurm_scheduler_mean_cycle", "slurm_queue_configuring", "slurm_queue_completed",
    "slurm_queue_cancelled", "slurm_queue_failed", "slurm_queue_timeout", "slurm_queue_preempted",
    "slurm_queue_node_fail", "slurm_scheduler_backfilled_jobs_since_start_total",
    "slurm_scheduler_backfilled_jobs_since_cycle_total", "slurm_scheduler_backfilled_heterogeneous_total",
)  # fmt: skip
"""Names of the older exporter that a dashboard finds."""
LATER = {
    "slurm_scheduler_cycle_per_minute", "slurm_scheduler_backfill_last_cycle", "slurm_scheduler_backfill_mean_cycle",
    "slurm_scheduler_backfill_depth_mean", "slurm_account_fairshare",
}  # fmt: skip
"""The rest of them: with the first cycle of backfill, with a whole minute, and where fair shares are read."""


def read(board: Board, cluster: str, source: Source) -> None:
    """Publish one reading of every feed."""
    for feed in source.feeds():
        board.add_feed(cluster, feed, 60)
        if feed.kind is Kind.JOBS:
            board.publish(cluster, feed, source.read_jobs(feed), 0.5)
        elif feed.kind is Kind.WORKERS:
            board.publish(cluster, feed, source.read_workers(feed), 0.5)
        elif feed.kind is Kind.SCHEDULER:
            board.publish(cluster, feed, source.read_scheduler(feed), 0.5)
        elif feed.kind in POLICY:
            board.publish(cluster, feed, source.read_policy(feed), 0.5)


def samples(page: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return found


def job(number: int, owner: str = "alice", **more: Any) -> Job:
    usual: dict[str, Any] = {
        "native_id": str(number),
        "submitted_at": NOW - timedelta(minutes=number),
        "owner": owner,
        "queue": "q",
        "state": State.PENDING,
        "waiting": Waiting.PRIORITY,
        "requested_cpus": 2.0,
    }
    return Job(**{**usual, **more})


def board_of(
    *jobs: Job, workers: list[Worker] | None = None, owners: int = 200, **more: Any
) -> tuple[Board, MetricsPage]:
    clock = more.pop("clock", lambda: NOW)
    board = Board(owners=owners, now=clock)
    board.add_cluster("c", "any", 180)
    for feed in (Feed(kind=Kind.JOBS), Feed(kind=Kind.WORKERS)):
        board.add_feed("c", feed, 60)
    board.publish("c", Feed(kind=Kind.JOBS), JobsReading(taken_at=NOW, jobs=list(jobs), **more), 0.1)
    if workers is not None:
        board.publish("c", Feed(kind=Kind.WORKERS), WorkersReading(taken_at=NOW, workers=workers, queues=[]), 0.1)
    return board, MetricsPage(board, None, 50_000)

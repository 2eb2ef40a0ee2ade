"""The page with the names of the newer Slurm exporter: sums that agree with BBQ's own, labels that its boards ask for."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from exporter.exposition import MetricsPage
from exporter.history_counters import totals
from exporter.latest import Board
from exporter.readings import Feed, JobsReading, Kind, SchedulerReading, WorkersReading
from exporter.settings import WebSettings
from exporter.sources.slurm import Settings, Source
from exporter.web.app import Application
from history.records import Gpus, Job, Run, Worker
from history.vocabulary import State, Waiting, WorkerFlag, WorkerState
from history.web.server import Server
from tests.pages import LATER, OLDER, read, samples
from tests.replay import commands

NOW = datetime(2026, 11, 23, 16, 30, tzinfo=UTC)
Samples = Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]

ASKED = (
    "slurm_account_cpus_running", "slurm_account_jobs_running", "slurm_cpus_alloc", "slurm_cpus_idle",
    "slurm_cpus_other", "slurm_cpus_total", "slurm_exporter_collector_duration_seconds",
    "slurm_exporter_collector_success", "slurm_gpus_alloc", "slurm_gpus_idle", "slurm_gpus_other", "slurm_gpus_total",
    "slurm_info", "slurm_jobs_cancelled", "slurm_jobs_completed", "slurm_jobs_completing", "slurm_jobs_configuring",
    "slurm_jobs_cores_pending", "slurm_jobs_cores_running", "slurm_jobs_failed", "slurm_jobs_node_fail",
    "slurm_jobs_pending", "slurm_jobs_preempted", "slurm_jobs_running", "slurm_jobs_suspended", "slurm_jobs_timeout",
    "slurm_node_cpu_alloc", "slurm_node_cpu_total", "slurm_node_mem_alloc", "slurm_node_mem_total",
    "slurm_node_status", "slurm_nodes_alloc", "slurm_nodes_down", "slurm_nodes_drain", "slurm_nodes_err",
    "slurm_nodes_fail", "slurm_nodes_idle", "slurm_nodes_mix", "slurm_nodes_total", "slurm_partition_cpus_allocated",
    "slurm_partition_cpus_idle", "slurm_partition_cpus_total", "slurm_partition_jobs_running", "slurm_queue_running",
    "slurm_rpc_stats", "slurm_rpc_stats_avg_time", "slurm_scheduler_dbd_queue_size",
    "slurm_scheduler_backfilled_heterogeneous_total", "slurm_scheduler_backfilled_jobs_since_cycle_total",
    "slurm_scheduler_backfilled_jobs_since_start_total", "slurm_scheduler_jobs_canceled",
    "slurm_scheduler_jobs_completed", "slurm_scheduler_jobs_failed", "slurm_scheduler_jobs_started",
    "slurm_scheduler_jobs_submitted", "slurm_scheduler_last_cycle", "slurm_scheduler_mean_cycle",
    "slurm_scheduler_queue_size", "slurm_scheduler_threads", "slurm_user_cpus_running", "slurm_user_jobs_running",
    "slurm_user_rpc_stats", "slurm_user_rpc_stats_avg_time",
)  # fmt: skip
"""Names that its boards ask for and a small idle cluster has something to say of."""


def page(board: Board) -> Samples:
    return samples(MetricsPage(board, None, 50_000).slurm_text(newer=True).decode())


def summed(values: Mapping[tuple[tuple[str, str], ...], float], *labels: str) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for key, value in values.items():
        named = dict(key)
        place = tuple(named[label] for label in labels)
        found[place] = found.get(place, 0) + value
    return {place: value for place, value in found.items() if value}


@pytest.mark.parametrize("version", ["22.05", "24.11", "26.05"])
def test_a_captured_cluster(tmp_path: Path, version: str) -> None:
    board = Board()
    board.add_cluster("slurm", "slurm", 1e9)
    read(board, "slurm", Source(Settings(name="slurm", scheduler="slurm", commands=commands(tmp_path, version))))
    board.set_version("slurm", version)
    board.count("slurm", replace(totals([], 200, datetime.now(UTC)), ended_lately={"completed": 3, "failed": 1}))
    found = page(board)
    assert set(ASKED) - set(found) == set()
    assert found["slurm_jobs_completed"][()] == 3 and found["slurm_jobs_timeout"][()] == 0
    assert found["slurm_info"] == {(("binary", ""), ("type", "general"), ("version", version)): 1}
    assert set(found["slurm_exporter_collector_success"].values()) == {1}
    older = samples(MetricsPage(board, None, 50_000).slurm_text().decode())
    same = {"slurm_cpus_", "slurm_scheduler_", "slurm_user_jobs_", "slurm_account_", "slurm_gpus_"}
    for name in (*OLDER, *LATER):
        if name in older and any(name.startswith(begin) for begin in same) and not name.endswith("cpus_running"):
            assert {key: value for key, value in older[name].items() if value} == {
                key: value for key, value in found.get(name, {}).items() if value
            }, name
    assert found["slurm_jobs_running"][()] == older["slurm_queue_running"][()]
    assert found["slurm_jobs_pending"][()] == older["slurm_queue_pending"][()]
    assert found["slurm_jobs_pending"][()] == sum(found.get("slurm_queue_pending", {}).values())


def job(number: int, owner: str, queue: str, state: State, cpus: float, **more: Any) -> Job:
    run = Run(attempt_at=None, started_at=NOW, cpus=cpus, gpus=more.pop("gpus", 0))
    return Job(
        native_id=str(number), submitted_at=NOW, owner=owner, account="phys", queue=queue, state=state,
        requested_cpus=cpus, runs=() if state in (State.PENDING, State.HELD) else (run,), **more,
    )  # fmt: skip


def test_jobs_by_user_and_partition_and_gpus_of_which_not_all_is_told() -> None:
    """Pending: ann 2 and 3 cores in p, 1 held in q. Running: bob 4 in p with 2 GPUs; suspended: bob 8 in q, lent."""
    board = Board(now=lambda: NOW)
    board.add_cluster("slurm", "slurm", 1e9)
    feeds = {kind: Feed(kind=kind) for kind in (Kind.JOBS, Kind.WORKERS, Kind.SCHEDULER)}
    for feed in feeds.values():
        board.add_feed("slurm", feed, 60)
    assert "slurm_jobs_pending" not in page(board)  # nobody has read the queue
    jobs = [
        job(1, "ann", "p", State.PENDING, 2, waiting=Waiting.PRIORITY),
        job(2, "ann", "p", State.PENDING, 3, waiting=Waiting.RESOURCES),
        job(3, "ann", "q", State.HELD, 1),
        job(4, "bob", "p", State.RUNNING, 4, gpus=2),
        job(5, "bob", "q", State.SUSPENDED, 8, lends_cpus=True),
    ]
    board.publish("slurm", feeds[Kind.JOBS], JobsReading(taken_at=NOW, jobs=jobs), 0.1)
    workers = [
        Worker(name="n1", state=WorkerState.PARTIAL, native_state="MIXED", cpus=8.0, cpus_allocated=4.0,
               queues=("p", "q"), gpus=(Gpus(model="a", total=4, allocated=2),), memory_bytes=3 << 30),
        Worker(name="n2", state=WorkerState.DOWN, native_state="DOWN*", cpus=8.0, cpus_allocated=0.0, queues=("p",),
               gpus=(Gpus(model="a", total=4, allocated=0),)),
        Worker(name="n3", state=WorkerState.IDLE, native_state="IDLE+DRAIN", flags=frozenset({WorkerFlag.DRAINING}),
               cpus=8.0, cpus_allocated=0.0, queues=("q",), gpus=(Gpus(model="b", total=1, allocated=None),)),
    ]  # fmt: skip
    board.publish("slurm", feeds[Kind.WORKERS], WorkersReading(taken_at=NOW, workers=workers, queues=[]), 0.1)
    health = SchedulerReading(
        taken_at=NOW, calls_of_users={"ann": 4, "bob": 0}, call_seconds_of_users={"ann": 0.002, "bob": 0},
        jobs_counted={"submitted": 7},
    )  # fmt: skip
    board.publish("slurm", feeds[Kind.SCHEDULER], health, 0.1)
    found = page(board)
    assert summed(found["slurm_queue_pending"], "user", "partition", "reason") == {
        ("ann", "p", "priority"): 1, ("ann", "p", "resources"): 1, ("ann", "q", "held"): 1,
    }  # fmt: skip
    assert summed(found["slurm_cores_pending"], "user", "partition") == {("ann", "p"): 5, ("ann", "q"): 1}
    assert summed(found["slurm_queue_running"], "user", "partition") == {("bob", "p"): 1}
    assert summed(found["slurm_cores_running"], "user", "partition") == {("bob", "p"): 4}
    assert summed(found["slurm_queue_suspended"], "user", "partition") == {("bob", "q"): 1}
    assert summed(found["slurm_cores_suspended"], "user", "partition") == {}
    sums = {name: found[f"slurm_jobs_{name}"][()] for name in ("pending", "running", "suspended", "cores_running")}
    assert sums == {"pending": 3, "running": 1, "suspended": 1, "cores_running": 4}
    assert summed(found["slurm_user_gpus_running"], "user") == {("bob",): 2}
    assert {name: found[f"slurm_gpus_{name}"][()] for name in ("total", "alloc", "idle", "other")} == {
        "total": 9, "alloc": 2, "idle": 2, "other": 5,
    }  # fmt: skip
    assert "slurm_gpus_utilization" not in found  # of n3's nobody tells
    assert {name: summed(found[f"slurm_nodes_{name}"], "partition") for name in ("mix", "down", "drain", "idle")} == {
        "mix": {("p",): 1, ("q",): 1}, "down": {("p",): 1}, "drain": {("q",): 1}, "idle": {},
    }  # fmt: skip
    assert found["slurm_nodes_total"][()] == 3
    assert summed(found["slurm_node_status"], "node", "status") == {
        ("n1", "mixed"): 2, ("n2", "down"): 1, ("n3", "idle"): 1,
    }  # fmt: skip
    assert summed(found["slurm_node_mem_total"], "node", "partition") == {("n1", "p"): 3072, ("n1", "q"): 3072}
    assert summed(found["slurm_partition_gpus_idle"], "partition") == {("p",): 2, ("q",): 2}
    assert found["slurm_user_rpc_stats_avg_time"] == {(("user", "ann"),): 500}
    assert found["slurm_scheduler_jobs_submitted"][()] == 7


def test_the_setting_says_whose_names_there_are() -> None:
    assert WebSettings(slurm_names="newer").slurm_names == "newer"
    with pytest.raises(ValueError, match="slurm_names 'newest': expected older or newer"):
        WebSettings(slurm_names="newest")
    board = Board(now=lambda: NOW + timedelta(seconds=1))
    board.add_cluster("slurm", "slurm", 1e9)
    feed = Feed(kind=Kind.WORKERS)
    board.add_feed("slurm", feed, 60)
    workers = [Worker(name="n1", state=WorkerState.IDLE, native_state="IDLE", cpus=4.0, queues=("p",))]
    board.publish("slurm", feed, WorkersReading(taken_at=NOW, workers=workers, queues=[]), 0.1)
    for names, line in ((True, "slurm_nodes_idle 1.0"), ("newer", 'slurm_nodes_idle{partition="p"} 1.0')):
        server = Server(
            ("127.0.0.1", 0), Application(board, MetricsPage(board, None, 9), "/metrics", "x", slurm_names=names)
        )
        server.start()
        try:
            text = requests.get(f"http://127.0.0.1:{server.port}/metrics/slurm", timeout=5).text
        finally:
            server.stop()
        assert line in text.splitlines()
        assert list(text_string_to_metric_families(text))


def test_two_clusters_of_one_version_are_two() -> None:
    board = Board(now=lambda: NOW)
    for name in ("a", "b"):
        board.add_cluster(name, "slurm", 1e9)
        board.set_version(name, "24.11")
        feed = Feed(kind=Kind.WORKERS)
        board.add_feed(name, feed, 60)
        board.publish(name, feed, WorkersReading(taken_at=NOW, workers=[], queues=[]), 0.1)
    found = page(board)
    for name in ("slurm_info", "slurm_exporter_collector_success"):
        assert summed(found[name], "cluster") == {("a",): 1, ("b",): 1}, name

"""Jobs of other pools: parallel ones, ones beside the schedd, nodes of DAGs, values that no database holds."""

from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import URL

from exporter.latest import Board
from exporter.poller import ClusterPoller
from exporter.readings import Kind
from exporter.recorder import Recorder
from history.cli import command
from history.ingest.store import History
from tests.htcondor_says import SCHEDD, Pool, Site, at, completed, job, running, slot, source, stored_job

GIB = 1 << 30
HOUR = 3600


def test_values_that_no_database_holds_are_not_said(site: Site, pool: Pool, t: int) -> None:
    """Of a machine and of jobs; the others are stored as they are."""
    most = (1 << 62) - 1
    pool.slots = [
        slot("wn1", 8, 7), slot("wn2", 8, 7, TotalSlotMemory=most, NumDynamicSlots=most, ChildCpus="9" * 400),
        slot("w\0n3", 8, 7), slot("wn4", 8, 7, GPUModels='["A100"]', FreeGPUModels="none", TotalSlotGPUs=2, GPUs=1),
    ]  # fmt: skip
    site.poll(t)
    assert {each["worker"]: each["memory_bytes"] for each in site.bbq("workers")} == {
        "wn1": 8 * GIB, "wn2": None, "w\\x00n3": 8 * GIB, "wn4": 8 * GIB,
    }  # fmt: skip
    assert site.gauge("bbq_worker_gpus", worker="wn4") == 2
    pool.queue[SCHEDD] = [
        running(1, t, t), running(2, t, t, JobUniverse=11, MaxHosts=most, RequestMemory=1 << 41),
        job(3, t, JobStatus=7, LastSuspensionTime=t, CumulativeSuspensionTime=most), running(4, t, t),
    ]  # fmt: skip
    site.poll(t, Kind.JOBS)
    pool.queue[SCHEDD][2] |= {"JobStatus": 2, "CumulativeSuspensionTime": 7}
    site.poll(t + 60, Kind.JOBS)
    assert {each["job_id"]: each["memory_bytes"] for each in site.bbq("search", "--limit", "9")} == {
        "s#1.0": GIB, "s#2.0": None, "s#3.0": GIB, "s#4.0": GIB,
    }  # fmt: skip


def test_jobs_beside_the_schedd_hold_nothing_of_a_worker(site: Site, pool: Pool, t: int) -> None:
    """500 DAGMans of an hour are no CPU; a local job with GPUs neither."""
    dagmans = [running(n, t, t + 10, JobUniverse=7, RemoteHost=None, RequestCpus=1) for n in range(1, 501)]
    local = running(501, t, t + 10, JobUniverse=12, RemoteHost=None, RequestGPUs=2)
    pool.queue[SCHEDD] = [*dagmans, local, running(502, t, t + 10)]
    site.poll(t + 60)
    assert (site.gauge("bbq_jobs", state="running"), site.gauge("bbq_jobs_cpus", state="running")) == (502, 1)
    assert not site.gauge("bbq_jobs_gpus", state="running")
    (mine,) = site.bbq("top", "owners")
    assert (mine["running"], mine["cpus"], mine["gpus"], mine["memory_bytes"]) == (502, 1, 0, GIB)
    (queue,) = site.bbq("queues")
    assert (queue["running"], queue["cpus_used"]) == (502, 1)
    pool.queue[SCHEDD] = [local]
    pool.history[SCHEDD] = [
        completed(n, t, t + 10, t + 10 + HOUR, JobUniverse=7, LastRemoteHost=None, RemoteUserCpu=0.0, RemoteSysCpu=0.0)
        for n in range(1, 501)
    ]
    pool.history[SCHEDD].append(completed(502, t, t + 10, t + 10 + HOUR, RemoteUserCpu=3000.0, RemoteSysCpu=60.0))
    site.poll(t + 2 * HOUR)
    assert site.bbq("top", "workers") == []
    (held,) = site.bbq("efficiency", "--since", at(t))
    assert (held["runs"], held["cpu_time_seconds"], held["wasted_cpu_seconds"]) == (501, HOUR, HOUR - 3060)


@pytest.mark.parametrize("named", [{}, {"RemoteHosts": None}])
def test_a_parallel_job_is_on_all_its_machines(site: Site, pool: Pool, t: int, named: dict[str, Any]) -> None:
    """Four nodes of 8 CPUs: two on wn1, one on wn2, one on wn3; it used 20 of its 32 CPUs for 100 s."""
    hosts = "slot1_1@wn1,slot1_2@wn1,slot1_1@wn2,slot1_1@wn3"
    parallel = {
        "JobUniverse": 11, "RequestCpus": 8, "RequestMemory": 2048, "MinHosts": 4, "MaxHosts": 4, "CurrentHosts": 4,
        "RemoteHosts": hosts, "RequestGPUs": 1,
    }  # fmt: skip
    pool.queue[SCHEDD] = [running(1, t, t + 10, **parallel), job(2, t, **parallel | {"RemoteHosts": None})]
    site.poll(t + 60)
    assert [site.gauge("bbq_jobs_cpus", state=state) for state in ("running", "pending")] == [32, 32]
    assert site.gauge("bbq_jobs_gpus", state="running") == 4
    (mine,) = site.bbq("top", "owners")
    assert (mine["cpus"], mine["gpus"], mine["memory_bytes"]) == (32, 4, 8 * GIB)
    on = {each["worker"]: (each["jobs"], each["cpus"], each["gpus"]) for each in site.bbq("top", "workers")}
    assert on == {"wn1": (1, 16, 2), "wn2": (1, 8, 1), "wn3": (1, 8, 1)}
    pool.queue[SCHEDD] = []
    pool.history[SCHEDD] = [
        completed(
            1, t, t + 10, t + 110,
            **parallel | named | {"LastRemoteHost": "slot1_1@wn1", "RemoteUserCpu": 1900.0, "RemoteSysCpu": 100.0},
        )
    ]  # fmt: skip
    site.poll(t + 200)
    (run,) = stored_job(site.history, "s#1.0").runs
    assert (run.cpus, len(run.workers)) == (32, 3)
    (held,) = site.bbq("efficiency", "--since", at(t))
    assert (held["cpu_time_seconds"], held["cpu_efficiency"]) == (3200, 0.625)


def test_a_node_of_a_dag_keeps_its_name(site: Site, pool: Pool, t: int) -> None:
    """DAGNodeName, in the queue and in the history."""
    pool.queue[SCHEDD] = [job(2, t, DAGManJobId=1, DAGNodeName="merge_7")]
    site.poll(t + 60)
    assert _fact(site.bbq("info", "job", "s#2.0"), "dag_node") == "merge_7"
    pool.queue[SCHEDD] = []
    pool.history[SCHEDD] = [completed(2, t, t + 60, t + 90, DAGManJobId=1, DAGNodeName="merge_7")]
    site.poll(t + 120)
    assert _fact(site.bbq("info", "job", "s#2.0"), "dag_node") == "merge_7"
    assert _fact(site.bbq("info", "job", "s#2.0"), "dag_parent") == "s#1.0"


def _fact(answer: Any, name: str) -> Any:
    """Return what `bbq info job` says of a fact."""
    facts = next(part for key, part in answer.items() if key.startswith("job"))
    if isinstance(facts, dict):
        return facts.get(name)
    return {each["what"]: each["value"] for each in facts}.get(name)


def test_schedds_that_keep_no_runs_are_named() -> None:
    """The default of 23.x; one of two is enough, and one that is away says nothing."""
    pool = Pool("a", "b")
    pool.without_epochs = {"b"}
    pool.away = {"a"}
    (said,) = source(pool).remarks()
    assert "JOB_EPOCH_HISTORY" in said and "schedds" in said
    pool.without_epochs = set()
    assert list(source(pool).remarks()) == []


def test_status_says_what_settings_keep_from_bbq(history: History, database: URL, pool: Pool) -> None:
    """So that nobody misses runs without a word; when the setting is there, nothing is said any more."""
    board = Board()
    board.add_cluster("grid", "htcondor", 1e9)
    url = database.render_as_string(hide_password=False)
    for without, times in (({SCHEDD}, 1), ({SCHEDD}, 1), (set(), 0)):
        pool.without_epochs = without
        board.set_version("grid", None)  # as a daemon that starts
        recorder = Recorder(history)
        ClusterPoller(source(pool)._settings, source(pool), board, recorder).poll_once()
        result = CliRunner().invoke(command, ["status", "--database", url])
        assert result.output.count("JOB_EPOCH_HISTORY") == times, result.output

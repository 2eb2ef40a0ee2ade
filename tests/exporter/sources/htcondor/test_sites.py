"""What other sites' HTCondors say: ads and situations that no pool of ours had made by itself.

Each is worked out by hand, and read as the daemon reads: source, snapshot, gauges, history, and the questions of bbq.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import classad2
import pytest
from click.testing import CliRunner
from sqlalchemy import URL, insert, select

from exporter.latest import Board
from exporter.poller import ClusterPoller
from exporter.readings import Kind
from exporter.reconcile import windows
from exporter.recorder import Recorder
from exporter.sources import AnswerUnreadable, htcondor
from exporter.sources.htcondor import reader
from history.admin.prune import prune
from history.cli import command
from history.db import schema
from history.ingest.job_rows import stored_jobs
from history.ingest.store import History
from history.vocabulary import Outcome
from tests.htcondor_says import SCHEDD, Pool, Site, at, completed, epoch, job, running, slot, source

WORKERS, ACCOUNTING = Kind.WORKERS, Kind.ACCOUNTING
GIB = 1 << 30
HOUR = 3600


@pytest.fixture
def t() -> int:
    """Return a moment of the day before yesterday: what happens lies behind it."""
    day = (datetime.now(UTC) - timedelta(days=2)).replace(hour=6, minute=0, second=0, microsecond=0)
    return int(day.timestamp())


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def site(pool: Pool, history: History, database: URL) -> Site:
    return Site(pool, history, database)


def rows(history: History, native_id: str) -> Any:
    """Return the one stored job of an id."""
    with history._engine.connect() as connection:
        (found,) = stored_jobs(connection, "grid", [native_id])[native_id]
    return found


def seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


# what accounting remembers, and who is away


def test_a_late_record_makes_no_true_job_extra(site: Site, pool: Pool, t: int) -> None:
    """A job of -spool enters the history days late, in front of what has been rotated away."""
    pool.history[SCHEDD] = [completed(n, t + n, t + 60 * n, t + 60 * n + 30) for n in range(1, 11)]
    site.poll(t + HOUR)
    late = completed(90, t - 9 * 86_400, t - 8 * 86_400, t + 10)  # ended before all others, written after them
    pool.history[SCHEDD] = [*pool.history[SCHEDD][6:], late]
    site.poll(t + 2 * HOUR)
    feeds = windows.accounting_feeds(site.source, [])
    since, until = (datetime.fromtimestamp(t + hours * HOUR, UTC) for hours in (-1, 2))
    for work in (windows.verify, windows.recollect):
        (part,) = work(site.history, "grid", site.source, feeds, since, until)
        assert part.findings.found == []
        assert sorted(each.native_id for each in part.findings.not_confirmed) == [f"s#{n}.0" for n in range(1, 7)]
    ended = site.bbq("search", "--ended-between", at(t), at(t + HOUR))
    assert sorted(each["job_id"] for each in ended) == sorted([*(f"s#{n}.0" for n in range(1, 11)), "s#90.0"])


def test_one_schedd_that_is_away_keeps_nobody_from_being_verified(history: History, database: URL, t: int) -> None:
    """By hand and nightly."""
    pool = Pool("away", "here")
    site = Site(pool, history, database)
    pool.history["here"] = [completed(1, t, t + 60, t + 90, schedd="here")]
    site.poll(t + HOUR)
    pool.history["here"].append(completed(2, t, t + 60, t + 90, schedd="here"))
    pool.away = {"away"}
    feeds = windows.accounting_feeds(site.source, [])
    since, until = (datetime.fromtimestamp(t + hours * HOUR, UTC) for hours in (-1, 1))
    parts = list(windows.verify(history, "grid", site.source, feeds, since, until))
    assert [(part.feed.queue, part.findings.count("missing"), "away" in (part.error or "")) for part in parts] == [
        ("away", 0, True),
        ("here", 1, False),
    ]
    done = windows.nightly(
        history, "grid", site.source, feeds, since.date(), lambda _: False, lambda _feed, _calls: None
    )
    assert done is not None and list(done[1]) == ["accounting:away"]
    assert done[0].changed == 1 and len(site.bbq("search", "--queue", "here")) == 2  # and what was missing is there


def test_an_id_that_nobody_can_ask_for_keeps_nobody_from_being_verified(
    site: Site, pool: Pool, history: History, t: int
) -> None:
    """ProcId == 0999999 is no number to HTCondor, and would end the whole question."""
    pool.history[SCHEDD] = [completed(18, t, t + 60, t + 90)]
    site.poll(t + HOUR)
    with history._engine.begin() as connection:
        stored = connection.execute(select(schema.jobs)).mappings().one()
        connection.execute(insert(schema.jobs).values({**stored, "native_id": "s#18.0999999"}))
        connection.execute(insert(schema.jobs).values({**stored, "native_id": "s#18.7 || true"}))
    feeds = windows.accounting_feeds(site.source, [])
    since, until = (datetime.fromtimestamp(t + hours * HOUR, UTC) for hours in (-1, 1))
    (part,) = windows.verify(history, "grid", site.source, feeds, since, until)
    assert (part.error, part.findings.checked) == (None, 1)
    assert sorted(each.native_id for each in part.findings.found) == ["s#18.0999999", "s#18.7 || true"]
    named = site.source.read_named(feeds[0], ["s#18.0999999", "s#18.0", "s#18.7 || true"], until)
    assert [each.native_id for each in named.jobs] == ["s#18.0"]
    assert all("0999999" not in each.get("constraint", "") for each in pool.asked)


# what is open


def test_an_id_that_comes_again_ends_the_job_before_it(site: Site, pool: Pool, t: int) -> None:
    """After the spool was lost, cluster 1 begins anew; seen by the daemon that runs, and by one that starts."""
    pool.queue[SCHEDD] = [running(1, t, t + 10), running(2, t, t + 10), job(3, t)]
    site.poll(t + 60)
    assert site.gauge("bbq_jobs") == 3
    pool.queue[SCHEDD] = [running(1, t + 600, t + 610), running(2, t, t + 10), job(3, t)]
    site.poll(t + 660)
    pool.queue[SCHEDD] = [running(1, t + 600, t + 610), job(3, t + 1200)]
    site.restart()
    site.poll(t + 1260)
    (mine,) = site.bbq("top", "owners")
    assert (mine["jobs"], mine["running"], mine["pending"]) == (2, 1, 1)
    assert (site.gauge("bbq_jobs", state="running"), site.gauge("bbq_jobs", state="pending")) == (1, 1)
    open_jobs = site.bbq("search", "--state", "running", "--state", "pending")
    assert sorted((each["job_id"], each["submitted_at"]) for each in open_jobs) == [
        ("s#1.0", at(t + 600)),
        ("s#3.0", at(t + 1200)),
    ]
    (then,) = site.bbq("top", "owners", "--at", at(t + 300))
    assert (then["running"], then["pending"]) == (2, 1)


def test_a_submission_time_that_was_edited_makes_no_other_job(site: Site, pool: Pool, t: int) -> None:
    """`condor_qedit QDate`: the id says when a job was submitted."""
    pool.queue[SCHEDD] = [job(1, t, JobStatus=5, HoldReason="why", HoldReasonCode=1)]
    site.poll(t + 60)
    pool.queue[SCHEDD] = [job(1, t, QDate=t - 86_400)]
    site.poll(t + 120)
    pool.queue[SCHEDD] = []
    pool.history[SCHEDD] = [completed(1, t, t + 130, t + 150, QDate=t - 86_400)]
    site.poll(t + 180)
    (only,) = site.bbq("search")
    assert (only["job_id"], only["state"], only["submitted_at"]) == ("s#1.0", "ended", at(t))
    assert site.bbq("top", "owners") == []


# machines


def test_backfill_slots_are_not_counted_twice(site: Site, pool: Pool, t: int) -> None:
    """16 CPUs and 3 GPUs, of which 4 CPUs and 1 GPU are in use; the backfill slot offers all of it once more."""
    pool.slots = [
        slot("wn1", 16, 12, TotalSlotGPUs=3, GPUs=2, GPUs_DeviceName="A100", NumDynamicSlots=1),
        slot(
            "wn1", 16, 16, Name="backfill2@wn1", BackfillSlot=True, TotalSlotGPUs=3, GPUs=3, GPUs_DeviceName="A100",
            ChildCpus="{ 2,1 }", NumDynamicSlots=2,
        ),
    ]  # fmt: skip
    site.poll(t)
    assert (site.gauge("bbq_worker_cpus"), site.gauge("bbq_worker_cpus_allocated")) == (16, 4)
    assert (site.gauge("bbq_worker_gpus"), site.gauge("bbq_worker_gpus_allocated")) == (3, 1)
    (worker,) = site.bbq("workers")
    assert (worker["cpus"], worker["cpus_used"], worker["state"]) == (16, 4, "partial")
    (gpus,) = site.bbq("gpus")["by model"]
    assert (gpus["model"], gpus["gpus"], gpus["gpus_used"], gpus["gpus_free"]) == ("A100", 3, 1, 2)


def test_two_models_of_gpus_on_one_machine(site: Site, pool: Pool, t: int) -> None:
    """By device; what is left is told by device too."""
    pool.slots = [
        slot(
            "wn1", 16, 16, TotalSlotGPUs=3, GPUs=1, GPUs_DeviceName="A100", GPUModels=json.dumps({"A100": 2, "H100": 1}),
            FreeGPUModels=json.dumps({"A100": 1}),
        ),
    ]  # fmt: skip
    site.poll(t)
    assert [site.gauge("bbq_worker_gpus", model=model) for model in ("A100", "H100")] == [2, 1]
    assert [site.gauge("bbq_worker_gpus_allocated", model=model) for model in ("A100", "H100")] == [1, 1]
    found = {
        each["model"]: (each["gpus"], each["gpus_used"], each["gpus_free"]) for each in site.bbq("gpus")["by model"]
    }
    assert found == {"A100": (2, 1, 1), "H100": (1, 1, 0)}


def test_gpus_of_which_nobody_says_how_many_are_left_are_not_in_use(site: Site, pool: Pool, t: int) -> None:
    """TotalSlotGPUs without GPUs: the gauge of what is in use is not there, and bbq counts what jobs say they hold."""
    pool.slots = [slot("wn1", 16, 16, TotalSlotGPUs=3, GPUs_DeviceName="A100")]
    pool.queue[SCHEDD] = [running(1, t, t + 10, GPUsProvisioned=1)]
    site.poll(t + 60)
    assert (site.gauge("bbq_worker_gpus"), site.gauge("bbq_worker_gpus_allocated")) == (3, None)
    (gpus,) = site.bbq("gpus")["by model"]
    assert (gpus["gpus"], gpus["gpus_used"], gpus["gpus_free"]) == (3, 1, 2)


def test_the_reader_tells_devices_by_the_ads_of_each() -> None:
    """In the process that reads: AssignedGPUs names the devices, each has an ad of its own, some are free."""
    whole = classad2.ClassAd(
        '[ Name = "slot1@wn1"; AssignedGPUs = "GPU-1,GPU-2,GPU-3"; AvailableGPUs = { GPUs_GPU_1, GPUs_GPU_3 };'
        ' GPUs_DeviceName = "A100"; GPUs_GPU_1 = [ DeviceName = "A100" ]; GPUs_GPU_2 = [ DeviceName = "H100" ];'
        " GPUs_GPU_3 = [ DeviceUuid = 3 ] ]"
    )
    told: list[Any] = [classad2.ClassAd({"Name": "slot1@wn1"}), classad2.ClassAd({"Name": "slot1@wn2"})]
    reader._add_models(told, [whole])
    assert json.loads(told[0]["GPUModels"]) == {"A100": 2, "H100": 1}
    assert json.loads(told[0]["FreeGPUModels"]) == {"A100": 2}
    assert "GPUModels" not in told[1]


def test_slots_whose_owner_uses_them_are_no_free_ones(site: Site, pool: Pool, t: int) -> None:
    """START is false there: no job is let in."""
    gpus = {"TotalSlotGPUs": 2, "GPUs": 2, "GPUs_DeviceName": "A100"}
    pool.slots = [slot("wn1", 8, 8, State="Owner", **gpus), slot("wn2", 8, 8, **gpus)]
    site.poll(t)
    assert site.gauge("bbq_worker_flag") == site.gauge("bbq_worker_flag", worker="wn1", flag="reserved") == 1
    workers = {each["worker"]: each["flags"] for each in site.bbq("workers")}
    assert workers == {"wn1": "reserved", "wn2": None}
    (model,) = site.bbq("gpus")["by model"]
    assert (model["gpus"], model["gpus_free"], model["gpus_unusable"]) == (4, 2, 2)


def test_leftovers_below_zero_are_nothing_left(site: Site, pool: Pool, t: int) -> None:
    """A slot of 8 CPUs that says -2 are left has 8 in use, and not 10."""
    pool.slots = [slot("wn1", 8, 0, Cpus=-2, Memory=-512, TotalSlotGPUs=2, GPUs=-1, GPUs_DeviceName="A100")]
    site.poll(t)
    assert (site.gauge("bbq_worker_cpus"), site.gauge("bbq_worker_cpus_allocated")) == (8, 8)
    assert (site.gauge("bbq_worker_memory_bytes"), site.gauge("bbq_worker_memory_allocated_bytes")) == (
        8 * GIB,
        8 * GIB,
    )
    assert (site.gauge("bbq_worker_gpus"), site.gauge("bbq_worker_gpus_allocated")) == (2, 2)
    (worker,) = site.bbq("workers")
    assert (worker["state"], worker["cpus_used"]) == ("full", 8)


def test_a_slot_of_no_machine_is_named_and_left_out(site: Site, pool: Pool, t: int) -> None:
    """Machine is an expression that is undefined: no worker is called None."""
    pool.slots = [slot("wn1", 8, 8), slot("x", 4, 4, Machine=None, Name="slot1@nowhere")]
    site.poll(t)
    assert [each["worker"] for each in site.bbq("workers")] == ["wn1"]
    assert site.gauge("bbq_unknown_values_total", field="htcondor_machine") == 1


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


@pytest.mark.parametrize("end", [b'{"end', b'{"end"', b'{"end": 1', b'{"end": "x"}', b'{"end": \xff}', b'{"end": 2}'])
def test_an_answer_that_is_cut_is_none(end: bytes) -> None:
    with pytest.raises(AnswerUnreadable):
        htcondor._split("jobs of s", b"[1]\n" + end, 1)


def test_one_machine_in_two_spellings_is_one(site: Site, pool: Pool, t: int) -> None:
    """Host names are the same however they are written; its jobs say either."""
    pool.slots = [
        slot("WN1.Example.org", 8, 7, Name="slot1@WN1.Example.org"), slot("wn1.example.org", 8, 7, Name="slot2@wn1.example.org"),
    ]  # fmt: skip
    pool.queue[SCHEDD] = [
        running(1, t, t + 10, "WN1.Example.org"), running(2, t, t + 10, "wn1.example.org"),
    ]  # fmt: skip
    site.poll(t + 60)
    (worker,) = site.bbq("workers")
    assert (worker["cpus"], worker["cpus_used"], worker["jobs"]) == (16, 2, 2)
    (top,) = site.bbq("top", "workers")
    assert (top["worker"], top["jobs"]) == (worker["worker"], 2)
    assert site.gauge("bbq_worker_jobs", worker=worker["worker"]) == 2


# jobs and what they hold


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
    (run,) = rows(site.history, "s#1.0").runs
    assert (run.cpus, len(run.workers)) == (32, 3)
    (held,) = site.bbq("efficiency", "--since", at(t))
    assert (held["cpu_time_seconds"], held["cpu_efficiency"]) == (3200, 0.625)


@pytest.mark.parametrize("first", ["history", "epochs"])
def test_a_run_ends_when_the_jobs_own_record_says(site: Site, pool: Pool, t: int, first: str) -> None:
    """On a busy schedd a short run's record is written before it is over: 3 s of 10, whichever is read first."""
    records = {
        "history": completed(1, t, t + 60, t + 70, LastRemoteWallClockTime=10.0),
        "epochs": epoch(1, t, t + 60, t + 63, ExitCode=0, ExitBySignal=False),
    }
    for name in (first, "epochs" if first == "history" else "history"):
        getattr(pool, name)[SCHEDD] = [records[name]]
        site.poll(t + HOUR)
    (run,) = rows(site.history, "s#1.0").runs
    assert (seconds(run.started_at), seconds(run.ended_at), run.outcome) == (t + 60, t + 70, Outcome.COMPLETED)
    (mine,) = site.bbq("top", "owners", "--since", at(t))
    assert (mine["jobs"], mine["wall_time_seconds"]) == (1, 10)


def test_a_record_that_ends_a_second_before_its_start_is_a_run(site: Site, pool: Pool, t: int) -> None:
    """Clocks of whole seconds; it lasted for no time, and is not dropped."""
    pool.epochs[SCHEDD] = [epoch(1, t, t + 60, t + 59, ExitCode=0, ExitBySignal=False)]
    site.poll(t + HOUR, ACCOUNTING)
    pool.history[SCHEDD] = [completed(2, t, t + 60, t + 59, LastRemoteWallClockTime=0.0)]
    site.poll(t + HOUR, ACCOUNTING)
    for native_id in ("s#1.0", "s#2.0"):
        (run,) = rows(site.history, native_id).runs
        assert seconds(run.ended_at) == seconds(run.started_at) == t + 60
    (mine,) = site.bbq("top", "owners", "--since", at(t))
    assert (mine["jobs"], mine["wall_time_seconds"]) == (2, 0)


def test_suspensions_last_as_long_as_they_do(site: Site, pool: Pool, t: int) -> None:
    """EnteredCurrentStatus stays at the start of the run; LastSuspensionTime is when it was suspended."""
    pool.queue[SCHEDD] = [running(1, t, t + 10)]
    site.poll(t + 60)
    pool.queue[SCHEDD] = [running(1, t, t + 10, JobStatus=7, LastSuspensionTime=t + 100)]
    site.poll(t + 120)
    assert site.gauge("bbq_jobs", state="suspended") == 1
    # HTCondor keeps the slot for it
    assert site.gauge("bbq_jobs_cpus", state="suspended") == 1
    pool.queue[SCHEDD] = [running(1, t, t + 10, CumulativeSuspensionTime=50, LastSuspensionTime=0)]
    site.poll(t + 180)
    pool.queue[SCHEDD] = [running(1, t, t + 10, JobStatus=7, CumulativeSuspensionTime=50, LastSuspensionTime=t + 200)]
    site.poll(t + 240)
    pool.queue[SCHEDD] = [running(1, t, t + 10, CumulativeSuspensionTime=80, LastSuspensionTime=0)]
    site.poll(t + 300)
    pauses = [
        (each["pause"], each["started_at"], each["ended_at"]) for each in site.bbq("info", "job", "s#1.0")["pauses"]
    ]
    assert pauses == [("suspended", at(t + 100), at(t + 150)), ("suspended", at(t + 200), at(t + 230))]
    (then,) = site.bbq("top", "owners", "--at", at(t + 110), "--state", "suspended")
    assert (then["jobs"], then["cpus"]) == (1, 1)


@pytest.mark.parametrize("code", [1006, 1034])
def test_a_claim_that_was_gone_is_no_workers_fault(site: Site, pool: Pool, t: int, code: int) -> None:
    """ "ClaimId not found" and the like are the schedd's and the startd's disagreement, not a broken worker."""
    said = {"VacateReason": "ClaimId not found", "VacateReasonCode": code, "ExitBySignal": False}
    for number in range(1, 11):
        pool.epochs[SCHEDD] += [
            epoch(number, t, t + 60 * number, t + 60 * number + 2, "wn1", **said, Owner=("alice", "bob")[number % 2])
        ]
    pool.history[SCHEDD] = [
        completed(n, t, t + 900, t + 900 + HOUR, "wn2", Owner=("alice", "bob")[n % 2]) for n in range(1, 11)
    ]
    site.poll(t + 2 * HOUR)
    found = site.bbq("failures", "--since", at(t))
    assert found["workers"] == [] and found["outcomes"] == []
    assert {run.outcome for n in range(1, 11) for run in rows(site.history, f"s#{n}.0").runs} == {
        Outcome.PREEMPTED,
        Outcome.COMPLETED,
    }


def test_what_a_worker_is_to_blame_for(site: Site, pool: Pool, t: int) -> None:
    """And what is a worker's fault stays one."""
    pool.epochs[SCHEDD] = [
        epoch(1, t, t + 60, t + 62, VacateReason="Starter failed", VacateReasonCode=1007, ExitBySignal=False)
    ]
    site.poll(t + HOUR)
    (found,) = site.bbq("failures", "--since", at(t))["outcomes"]
    assert (found["outcome"], found["runs"]) == ("node_fail", 1)


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


def test_held_jobs_and_failures_by_the_name_of_their_code(site: Site, pool: Pool, t: int) -> None:
    """Each hold has a sentence of its own, with figures of that job; the code says what they have in common."""

    def hold(number: int, code: int, since: int, owner: str = "alice") -> dict[str, Any]:
        said = {
            "HoldReason": f"Error from slot1@wn{number}: {number} MB",
            "HoldReasonCode": code,
            "HoldReasonSubCode": 2,
        }
        return job(number, t, JobStatus=5, EnteredCurrentStatus=since, Owner=owner, **said)

    out = {"VacateReason": "held", "ExitBySignal": False}
    pool.queue[SCHEDD] = [hold(1, 13, t + 70), hold(2, 13, t + 80, "bob"), hold(3, 1, t + 90), hold(4, 34, t + 95)]
    pool.epochs[SCHEDD] = [
        epoch(1, t, t + 10, t + 70, **out, VacateReasonCode=13, HoldReasonCode=13),
        epoch(2, t, t + 10, t + 80, **out, VacateReasonCode=13, HoldReasonCode=13, Owner="bob"),
        epoch(3, t, t + 10, t + 90, **out, VacateReasonCode=1, HoldReasonCode=1),
        epoch(4, t, t + 10, t + 95, **out, VacateReasonCode=34, HoldReasonCode=34),
        epoch(5, t, t + 10, t + 96, VacateReason="Starter failed", VacateReasonCode=1007, ExitBySignal=False),
    ]
    site.poll(t + 100)
    pool.queue[SCHEDD] = [job(1, t, EnteredCurrentStatus=t + 200), *pool.queue[SCHEDD][1:], hold(6, 4711, t + 210)]
    site.poll(t + 220)
    found = site.bbq("failures", "--since", at(t), "--until", at(t + HOUR))
    assert [(each["outcome"], each["reason"], each["runs"], each["owners"]) for each in found["outcomes"]] == [
        ("failed", "TransferInputError", 2, 2),
        ("node_fail", "StarterError", 1, 1),
        ("out_of_memory", "JobOutOfResources", 1, 1),
    ]
    held = {each["reason"]: (each["put_on_hold"], each["still_held"], each["owners"]) for each in found["holds"]}
    assert held == {
        "TransferInputError": (2, 1, 2), "UserRequest": (1, 1, 1), "JobOutOfResources": (1, 1, 1), "4711": (1, 1, 1),
    }  # fmt: skip
    early = site.bbq("failures", "--since", at(t + 85), "--until", at(t + 150))["holds"]
    assert {each["reason"]: (each["put_on_hold"], each["still_held"]) for each in early} == {
        "TransferInputError": (0, 2), "UserRequest": (1, 1), "JobOutOfResources": (1, 1),
    }  # fmt: skip
    waiting = site.bbq("info", "queue", SCHEDD)["waiting"]
    assert {each["reason"]: each["jobs"] for each in waiting if each["waiting"] is None} == {
        "TransferInputError": 1, "UserRequest": 1, "JobOutOfResources": 1, "4711": 1,
    }  # fmt: skip
    assert site.gauge("bbq_jobs", state="held") == 4
    assert _fact(site.bbq("info", "job", "s#2.0"), "hold_subcode") == 2


# jobs that are not made yet


def late(number: int, submitted: int, jobs: int, made: int, **changed: Any) -> list[dict[str, Any]]:
    """Return the ad of a submission of which jobs are made little by little, and those of its last five jobs."""
    its = {"TotalSubmitProcs": jobs, "JobMaterializeNextProcId": made, **changed}
    mine = [proc_of(number, submitted, proc, **its) for proc in range(max(0, made - 5), made)]
    return [job(number, submitted, **{**its, "GlobalJobId": None, "ProcId": None, "JobStatus": None}), *mine]


def proc_of(number: int, submitted: int, proc: int, **changed: Any) -> dict[str, Any]:
    """Return the ad of a job that was made a second after those before it; QDate is the submission's."""
    made_at = submitted + proc
    return {**job(number, made_at, proc, **changed), "QDate": submitted}


def counted(site: Site, *more: str) -> dict[str, float]:
    """Return how many jobs wait, as every question that counts jobs says."""
    found = {
        f"top {thing}": sum(each["pending"] for each in site.bbq("top", thing, *more))
        for thing in ("owners", "accounts", "vos", "queues")
    }
    found["by state"] = sum(each["jobs"] for each in site.bbq("top", "owners", "--state", "pending", *more))
    for question in ("queues", "clusters"):
        found[question] = sum(each["pending"] for each in site.bbq(question, *more))
    found["info"] = sum(
        each["jobs"] for each in site.bbq("info", "queue", SCHEDD, *more)["queued"] if each["state"] == "pending"
    )
    found["by owner"] = sum(each["jobs"] for each in site.bbq("info", "queue", SCHEDD, *more)["by_owner"])
    return found


def test_jobs_that_are_not_made_yet_are_counted_by_all_alike(site: Site, pool: Pool, t: int) -> None:
    """`queue 1000` with max_idle 5, 8 of them made: 1,000 wait, and 3 other jobs; in the gauges, now and then."""
    others = [job(n, t - 60, Owner="bob", RequestCpus=4) for n in (1, 2, 3)]
    asks = {"RequestCpus": 2, "RequestGPUs": 1, "AcctGroup": "physics"}
    pool.queue[SCHEDD] = [*others, *late(7, t, 1000, 5, **asks)]
    site.poll(t + 60)
    assert site.gauge("bbq_jobs", state="pending") == 1003
    assert site.gauge("bbq_pending_jobs", reason="not_made_yet") == 995
    assert set(counted(site).values()) == {1003}
    rows = {each["owner"]: each for each in site.bbq("top", "owners", "--state", "pending")}
    assert (rows["alice"]["pending"], rows["alice"]["cpus"], rows["alice"]["gpus"]) == (1000, 2000, 1000)
    assert site.gauge("bbq_jobs_cpus", owner="alice") == 2000
    waiting = site.bbq("info", "owner", "alice")["waiting"]
    assert (waiting[0]["waiting"], waiting[0]["jobs"], waiting[0]["oldest_submitted_at"]) == (
        "not_made_yet",
        995,
        at(t),
    )
    (gpus,) = site.bbq("gpus")["who waits for them"]
    assert (gpus["jobs"], gpus["gpus"]) == (1000, 1000)
    (waits,) = [each for each in site.bbq("waits", "--since", at(t))["pending"] if each["queue"] == SCHEDD]
    assert waits["pending"] == 1003
    assert {each["source"]: each["open_jobs"] for each in site.bbq("status") if each["open_jobs"]} == {"jobs:s": 1003}
    assert len(site.bbq("search")) == 8  # no list has jobs that nobody has made
    # five more are made, and the first five run; a restart changes nothing, nor does an older reading
    for proc in range(5):
        pool.queue[SCHEDD] = [*others, *late(7, t, 1000, 10, **asks)]
    pool.queue[SCHEDD] += [
        {**proc_of(7, t, proc, **asks, TotalSubmitProcs=1000, JobMaterializeNextProcId=10), "JobStatus": 2,
         "JobCurrentStartDate": t + 90, "RemoteHost": "slot1@wn1"}
        for proc in range(5)
    ]  # fmt: skip
    for _ in range(2):
        site.poll(t + 120)
        site.restart()
    site.poll(t + 180)
    assert set(counted(site).values()) - {1003} == {998} and site.gauge("bbq_jobs", state="pending") == 998
    assert counted(site, "--at", at(t + 30)) | {"by owner": 1003} == dict.fromkeys(counted(site), 1003)
    assert counted(site, "--at", at(t + 100))["clusters"] == 998
    assert counted(site, "--at", at(t - 1))["clusters"] == 3


def test_a_submission_that_is_removed_waits_no_longer(site: Site, pool: Pool, t: int) -> None:
    """It was there until then, with all that it would have had."""
    pool.queue[SCHEDD] = late(7, t, 100, 5)
    site.poll(t + 60)
    pool.queue[SCHEDD] = []
    pool.history[SCHEDD] = [
        {**proc_of(7, t, proc, TotalSubmitProcs=100, JobMaterializeNextProcId=5), "JobStatus": 3,
         "EnteredCurrentStatus": t + 90, "LastJobStatus": 1} for proc in range(5)
    ]  # fmt: skip
    site.poll(t + 120)
    assert site.bbq("top", "owners") == [] and site.gauge("bbq_jobs", state="pending") is None
    (mine,) = site.bbq("top", "owners", "--at", at(t + 70))
    assert mine["pending"] == 100
    assert site.bbq("top", "owners", "--at", at(t + 130)) == []


@pytest.mark.parametrize("restart", [False, True])
def test_jobs_that_were_made_and_ended_between_two_polls_are_counted_once(
    site: Site, pool: Pool, t: int, restart: bool
) -> None:
    """The last 15 of 20 come and go within a poll: then all 20 had waited, and none is left."""
    pool.queue[SCHEDD] = late(7, t, 20, 5)
    site.poll(t + 60)
    pool.queue[SCHEDD] = []
    if restart:
        site.restart()
    site.poll(t + 120, Kind.JOBS)
    pool.history[SCHEDD] = [
        {**completed(7, t + proc, t + 70 + proc, t + 71 + proc, TotalSubmitProcs=20, JobMaterializeNextProcId=20),
         "GlobalJobId": f"s#7.{proc}#{t + proc}", "ProcId": proc, "QDate": t} for proc in range(20)
    ]  # fmt: skip
    site.poll(t + 120, ACCOUNTING)
    assert site.bbq("top", "owners") == []
    (mine,) = site.bbq("top", "owners", "--at", at(t + 65))
    assert (mine["jobs"], mine["pending"]) == (20, 20)
    assert site.bbq("top", "outcomes", "--since", at(t))[0]["jobs"] == 20


def test_what_ended_long_ago_of_late_submissions_is_pruned(site: Site, pool: Pool, t: int) -> None:
    pool.queue[SCHEDD] = late(7, t, 100, 5)
    site.poll(t + 60)
    pool.queue[SCHEDD] = late(8, t + 70, 100, 5)
    site.poll(t + 120)
    list(prune(site.history._engine, datetime.fromtimestamp(t, UTC) + timedelta(days=70)))
    with site.history._engine.connect() as connection:
        assert connection.scalars(select(schema.late_submissions.c.native_id)).all() == ["s#8"]

"""What other sites' Slurms say: values, lines and situations that no cluster of ours had made by itself."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from exporter.job_sums import tally
from exporter.readings import Feed, JobsReading, Kind, UnknownValue
from exporter.reconcile import windows
from exporter.sources import AnswerUnreadable, NotAllowed, TooMany
from exporter.sources.slurm import Settings, Source, accounting, allocations, diag, fair_shares
from exporter.sources.slurm import nodes as slurm_nodes
from exporter.sources.slurm.jobs import Allocation, JobsParser
from history.db import schema
from history.ingest.job_rows import no_rows, rows_of
from history.ingest.merge import merge
from history.ingest.store import History
from history.reconcile.audit import Audit
from history.records import Gpus, Job, Run
from history.vocabulary import Outcome, State, Waiting, WorkerFlag, WorkerState
from tests.fuzz.promises import bounded
from tests.replay import captured
from tests.slurm_says import MARK, NOW, Played, accounted, commands, marked, node, queued, step

JOBS, WORKERS, ACCOUNTING = (Feed(kind=kind) for kind in (Kind.JOBS, Kind.WORKERS, Kind.ACCOUNTING))
NOTHING_PRIVATE = "PrivateData             = none\n"


def source(folder: Path) -> Source:
    return Source(Settings(name="local", scheduler="slurm", commands=folder))


def parse(*rows: list[str]) -> tuple[list[Job], list[UnknownValue]]:
    return JobsParser().parse(marked(rows), MARK)


def ended(*attempt: dict[str, str]) -> tuple[Job, list[UnknownValue]]:
    unknown: list[UnknownValue] = []
    (job,) = accounting.jobs(attempt, unknown)
    return job, unknown


def test_lists_of_tasks_are_asked_for_whole_and_of_this_cluster_alone(tmp_path: Path) -> None:
    """A list is cut at 64 bytes without SLURM_BITSTR_LEN=0; a federation shows every cluster's jobs."""
    tasks = ",".join(str(number) for number in range(1, 80, 2))
    row = accounted(
        JobIDRaw="948", JobID=f"948_[{tasks}]", State="CANCELLED by 0", Start="None", NodeList="None assigned"
    )
    folder = commands(tmp_path / "bin", sacct=marked([list(row.values())]).decode())
    (folder / "sacct").write_text(
        (folder / "sacct").read_text().replace("f=\n", f"f=\necho $SLURM_BITSTR_LEN >> {folder}/length\n", 1)
    )
    page = source(folder).read_accounting(ACCOUNTING, None, NOW)
    assert {job.native_id for job in page.jobs} == {f"948_{number}" for number in range(1, 80, 2)}
    assert {job.outcome for job in page.jobs} == {Outcome.CANCELLED}
    assert set((folder / "length").read_text().split()) == {"0"}
    assert " --local " in (folder / "calls").read_text()
    commands(folder, squeue="", scontrol_config=NOTHING_PRIVATE)
    source(folder).read_jobs(JOBS)
    assert [
        " --local " in line for line in (folder / "calls").read_text().splitlines() if line.startswith("squeue")
    ] == [True]


def test_a_revoked_copy_of_a_federated_job_is_no_job_of_this_cluster() -> None:
    """It is kept as bookkeeping for the one that runs elsewhere, which counts nowhere here."""
    job, unknown = ended(accounted(State="REVOKED", Start="None", NodeList="None assigned"))
    assert job.routed_to == "(federation)" and job.state is State.ENDED and unknown == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0), (1, 0, 1), (0, 0, 1, 1, 0)])
@pytest.mark.parametrize("again", [1795787331, 1795787337])
def test_a_federated_job_that_was_requeued_counts_where_it_ran_last(again: int, order: tuple[int, ...]) -> None:
    """As slurmdbd 24.11 told of both clusters: it ran on the first one, and then for 20 s on the second one.

    Where all of that begins within one second, both attempts have one time of submission.
    """
    nowhere = {"Start": "None", "NodeList": "None assigned"}
    first = (
        accounted(State="REQUEUED", Submit="1795787331", Start="1795787331", End=str(again)),
        accounted(State="REVOKED", Submit=str(again), End=str(again), Restarts="1", **nowhere),
    )
    second = (
        accounted(State="REVOKED", Submit="1795787331", End="1795787331", **nowhere),
        accounted(Submit=str(again), Start="1795787459", End="1795787479", Restarts="1"),
    )
    stored: list[list[Job]] = []
    for rows in (first, second):
        known: list[Job] = []
        for place in order:
            known = merge(known, [ended(rows[place])[0]])
        stored.append(known)
    ((left,), (taken,)) = stored
    assert left.routed_to == "(federation)" and [seconds(run) for run in left.runs] == [again - 1795787331]
    assert (
        taken.routed_to is None and taken.outcome is Outcome.COMPLETED and [seconds(run) for run in taken.runs] == [20]
    )


def seconds(run: Run) -> float:
    assert run.ended_at is not None
    return (run.ended_at - run.started_at).total_seconds()


@pytest.mark.parametrize(
    ("state", "cluster", "origin", "viable", "counts"),
    [
        ("PENDING", "a", "a", "a,b", True),
        ("PENDING", "b", "a", "a,b", False),
        ("PENDING", "b", "a", "b", True),  # --cluster-constraint leaves its origin out
        ("PENDING", "c", "a", "b,c", False),
        ("RUNNING", "b", "a", "a,b", True),
        ("REVOKED", "a", "a", "a,b", False),
        ("PENDING", "b", "NA", "NA", True),  # of no federation, beside those that are
        ("PENDING", "b", "N/A", "N/A", True),
    ],
)
def test_a_federated_job_that_waits_on_several_clusters_waits_on_one(
    tmp_path: Path, state: str, cluster: str, origin: str, viable: str, counts: bool
) -> None:
    """Each cluster that may start it has a copy, PENDING as the job itself is: squeue says of which one it is."""
    told = {"Cluster": cluster, "Origin": origin, "SiblingsViable": viable}
    row = queued(State=state, JobID="67108866", JobArrayID="67108866")
    asked: list[str] = []

    def answer(command: str, *arguments: str) -> bytes:
        if command != "squeue":
            return NOTHING_PRIVATE.encode()
        fields, mark = arguments[-1].split(","), arguments[-1].partition(":")[2].partition(",")[0]
        names = [field.partition(":")[0] for field in fields]
        asked.append(names[-1])
        return marked([[*row[:-1], *(told[name] for name in names if name in told), row[-1]]], mark)

    slurm = Played(Settings(name="local", scheduler="slurm"), answer)
    for calls in (2, 1):
        asked.clear()
        assert len(slurm.read_jobs(JOBS).jobs) == counts
        assert asked == ["Name"] * calls


def test_a_cluster_of_no_federation_is_asked_for_no_origins() -> None:
    parser = JobsParser()
    parser.parse(marked([queued(JobID="67043328")]), MARK)
    assert not parser.lacks_origins


@pytest.mark.parametrize(
    ("state", "code", "batch", "outcome"),
    [
        ("REQUEUED", "0:0", ("COMPLETED", "0:0"), Outcome.COMPLETED),  # a scrontab's run
        ("REQUEUED", "3:0", ("FAILED", "3:0"), Outcome.FAILED),
        ("REQUEUED", "5:0", ("FAILED", "5:0"), Outcome.FAILED),  # RequeueExit=5
        ("REQUEUED", "0:0", ("CANCELLED", "0:15"), Outcome.CANCELLED),  # scontrol requeue of a running job
        ("REQUEUED", "0:0", ("OUT_OF_MEMORY", "0:125"), Outcome.OUT_OF_MEMORY),
        ("REQUEUED", "6:0", None, Outcome.FAILED),
        ("REQUEUED", "0:0", None, Outcome.UNKNOWN),
        ("PREEMPTED", "0:0", ("CANCELLED", "0:15"), Outcome.PREEMPTED),
    ],
)
def test_a_runs_outcome_is_its_own(state: str, code: str, batch: tuple[str, str] | None, outcome: Outcome) -> None:
    """Each run of a scrontab's job, and whatever a person or RequeueExit requeues, ends REQUEUED."""
    row = accounted(State=state, ExitCode=code)
    steps = [] if batch is None else [step(row, State=batch[0], ExitCode=batch[1])]
    job, _ = ended(row, *steps)
    assert job.runs[0].outcome is outcome
    if state == "REQUEUED":
        assert job.state is State.PENDING and job.outcome is None and job.ended_at is None
    if batch is not None and state == "REQUEUED":
        code, _, signal = batch[1].partition(":")
        assert (job.runs[0].exit_code or 0, job.runs[0].exit_signal or 0) == (int(code), int(signal))


def test_a_run_is_used_without_the_time_it_was_suspended() -> None:
    """From sacct: 100 s with 60 s of suspension are 40."""
    job, _ = ended(accounted(Suspended="00:01:00"))
    assert job.runs[0].suspended_seconds == 60
    assert ended(accounted())[0].runs[0].suspended_seconds is None


def test_a_suspended_job_holds_memory_and_gpus_and_no_cpus() -> None:
    """As scontrol show node says of its worker: CPUAlloc=0, AllocMem and GresUsed as before."""
    (job,), _ = parse(queued(State="SUSPENDED", tres_alloc="cpu=2,mem=1G,node=1,gres/gpu=1,gres/gpu:a100=1"))
    (run,) = job.runs
    assert job.lends_cpus and (run.cpus, run.memory_bytes, run.gpus) == (2, 1 << 30, 1)
    counted = tally(JobsReading(taken_at=NOW, jobs=[job]))
    (amount,) = counted.jobs.values()
    assert (amount.jobs, amount.cpus, amount.memory_bytes, amount.gpus) == (1, 0, 1 << 30, 1)


TOO_LARGE = "18446744073709551614"


@pytest.mark.parametrize(
    ("changed", "lost", "kept"),
    [
        ({"tres-alloc": f"cpu=2,mem={TOO_LARGE},node=1"}, ("requested_memory_bytes", None), ("requested_cpus", 2)),
        ({"tres-alloc": "cpu=2,mem=16?,node=1"}, ("requested_memory_bytes", None), ("requested_cpus", 2)),
        ({"tres-alloc": "cpu=nan,mem=1G,node=1", "NumCPUs": "2"}, ("requested_gpus", None), ("requested_cpus", 2)),
        ({"TimeLimit": "1e32000"}, ("requested_wall_seconds", None), ("requested_cpus", 2)),
        ({"EligibleTime": TOO_LARGE}, ("eligible_at", None), ("requested_cpus", 2)),
        ({"StartTime": "17954463301795446"}, ("runs", ()), ("requested_cpus", 2)),
        ({"RestartCnt": "many"}, ("requeued", False), ("requested_cpus", 2)),
        ({"NodeList": "n[1-99999999]"}, ("raw_id", None), ("requested_cpus", 2)),
        ({"NumNodes": "(unlimited)"}, ("raw_id", None), ("requested_cpus", 2)),
        ({"NumNodes": "K"}, ("raw_id", None), ("requested_cpus", 2)),
        ({"NodeList": "n[1-999][1-999][1-999]"}, ("raw_id", None), ("requested_cpus", 2)),
        ({"NodeList": "n[1-99999999999999999999]"}, ("raw_id", None), ("requested_cpus", 2)),
    ],
)
def test_a_value_of_the_queue_that_cannot_be_read_costs_itself(
    changed: dict[str, str], lost: tuple[str, object], kept: tuple[str, object]
) -> None:
    """It is not said, counted, and its row stays, and the other rows."""
    jobs, unknown = parse(queued(**changed), queued(JobID="8"))
    assert [job.native_id for job in jobs] == ["7", "8"]
    assert (getattr(jobs[0], lost[0]), getattr(jobs[0], kept[0])) == (lost[1], kept[1])
    assert [value.field for value in unknown] == ["slurm_value"] and "job 7: " in unknown[0].value


@pytest.mark.parametrize(
    "changed",
    [
        {"AllocTRES": f"cpu=2,mem={TOO_LARGE}"}, {"ReqTRES": "cpu=2,mem=16?"}, {"Eligible": TOO_LARGE},
        {"Start": "x"}, {"Suspended": "never"}, {"Suspended": "99999-00:00:00"}, {"NodeList": "n[1-99999999]"}, {"ExitCode": "x:y"},
    ],
)  # fmt: skip
def test_a_value_of_accounting_that_cannot_be_read_costs_itself(changed: dict[str, str]) -> None:
    job, unknown = ended(accounted(**changed))
    assert job.outcome is Outcome.COMPLETED and job.ended_at is not None and job.owner == "alice"
    assert unknown and {value.field for value in unknown} == {"slurm_value"}


@pytest.mark.parametrize("text", ["\u00b2", "\u0661", "9" * 5000])
def test_what_only_looks_like_a_number_costs_no_row(text: str) -> None:
    """`\u00b2` is a digit to Python, and no number: one in an End, an id or a count of sockets ended the whole reading."""
    odd = queued(JobID="9", Sockets=text, tres_per_socket="gpu:1", tres_per_node=f"gpu:{text}")
    jobs, _ = parse(queued(), queued(JobID=text), odd)
    assert [job.native_id for job in jobs if job.native_id != text] == ["7", "9"]
    job, _ = ended(accounted(TimelimitRaw=text, NNodes=text, State=f"CANCELLED by {text}"))
    assert (job.requested_wall_seconds, job.details) == (None, {"qos": "normal"})
    rows = [[accounted()], [accounted(End=text)]]
    newest = accounting.last_end(rows, NOW)
    assert newest is not None and newest.timestamp() == 1795446430
    partition = "PartitionName={} State=UP TotalCPUs={} MaxTime=UNLIMITED\n"
    told: list[UnknownValue] = []
    queues = slurm_nodes.queues((partition.format("a", text) + partition.format("b", 8)).encode(), told)
    assert [queue.settings.get("cpus") for queue in queues] == [None, 8] and told == []
    figures = captured("slurm", "26.05", "diag").replace(
        b"Agent queue size:     0", f"Agent queue size: {text}".encode()
    )
    reading = diag.reading(figures, NOW)
    assert "agent" not in reading.queue_lengths and reading.threads == 1
    assert diag.jobs_of(figures.replace(b"Jobs pending:   0", f"Jobs pending: {text}".encode())) is None


def test_a_name_that_begins_with_a_line_break_is_a_name() -> None:
    """The mark and a line break end a row: such a name took the queue away, and its own row from accounting."""
    names = ("\nx", "\n", "\n\n7", "x\n")
    jobs, unknown = parse(*(queued(JobID=str(10 + place), Name=name) for place, name in enumerate(names)), queued())
    assert [job.name for job in jobs] == [*names, "job"] and unknown == []
    rows = [list(accounted(JobIDRaw=str(10 + place), JobName=name).values()) for place, name in enumerate(names)]
    attempts, unreadable = accounting.rows(marked(rows), MARK, unknown)
    assert [attempt["JobName"] for (attempt,) in attempts] == list(names) and unreadable == [] and unknown == []


def test_a_time_of_a_resize_that_somebody_wrote_is_none() -> None:
    """A job's name can look like its record's times: 30 digits of a user's ended the reading of everybody's jobs."""
    allocation = Allocation("7", "1795446330", "n[1-2]", "", resized=True)
    record = f"JobId=7 JobName=x ResizeTime={'9' * 30} StartTime=1795446330 \n".encode()
    assert allocations.shares(record, allocation) == allocations.Shares()
    shares = b"JobId=7 Nodes=n[1-99999999999999999999] CPU_IDs=0 Mem=1 GRES= \n"
    assert allocations.shares(shares, allocation) == allocations.Shares()


@pytest.mark.parametrize("long", [" " * 200_000, " [x@" + "@" * 200_000, " A" * 100_000])
def test_long_texts_take_no_longer_than_they_are_long(long: str) -> None:
    with bounded():
        answer = node().replace(b"OS=Linux", b"OS=" + long.encode()).replace(b"\n", f" Reason=x{long}y\n".encode())
        assert [worker.name for worker in slurm_nodes.workers(answer + node("n2"))[0]] == ["n1", "n2"]
        slurm_nodes.queues(f"PartitionName=a{long}State=UP{long}x\n".encode(), [])
        diag.reading(captured("slurm", "26.05", "diag") + long.encode() + b"x\n", NOW)


def test_a_nul_of_slurmctlds_is_visible() -> None:
    """No database keeps one."""
    assert list(fair_shares.fair_shares(b" ph\0ysics|0.5|\n")) == ["ph\\x00ysics"]
    answer = captured("slurm", "26.05", "diag").replace(b"REQUEST_PING", b"REQUEST\0PING")
    assert not any("\0" in name for name in diag.reading(answer, NOW).calls_answered)


def test_a_step_that_cannot_be_read_costs_its_values(tmp_path: Path) -> None:
    row = accounted()
    job, unknown = ended(row, step(row, MaxRSS="16?"), step(row, "0", MaxRSS="100M"))
    assert job.used_memory_bytes == 100 << 20 and len(unknown) == 1


def test_an_end_is_never_before_its_start_or_submission() -> None:
    """A clock that was set back."""
    job, _ = ended(accounted(Submit="1795446324", Start="1795446330", End="1795446300"))
    assert job.ended_at == job.runs[0].ended_at == job.runs[0].started_at


@pytest.mark.parametrize("value", ["1e32000", TOO_LARGE, "16?", "many"])
def test_a_value_of_a_node_that_cannot_be_read_costs_itself(value: str) -> None:
    """RealMemory=1e32000 took all workers down."""
    answer = node().replace(b"RealMemory=16000", f"RealMemory={value}".encode()) + node("n2")
    workers, unknown = slurm_nodes.workers(answer)
    assert [(worker.name, worker.memory_bytes) for worker in workers] == [("n1", None), ("n2", 16000 << 20)]
    assert [each.field for each in unknown] == ["slurm_value"]


def test_one_node_that_is_none_is_left_out_and_told() -> None:
    answer = node("n1") + b"NodeName=n2 Arch=x86_64 State=IDLE\n" + node("n3")
    workers, unknown = slurm_nodes.workers(answer)
    assert [worker.name for worker in workers] == ["n1", "n3"] and [each.field for each in unknown] == ["slurm_node"]
    with pytest.raises(AnswerUnreadable):
        slurm_nodes.workers(b"NodeName=n2 Arch=x86_64 State=IDLE\nNodeName=n3 Arch=x86_64 State=IDLE\n")


STAMP = "[root@1795446328]"


@pytest.mark.parametrize(
    ("texts", "reason", "by"),
    [
        (f"Reason=Kill task failed {STAMP}", "Kill task failed", "root"),
        (f"Reason=prolog instance=i-0123 job=42: down {STAMP}", "prolog instance=i-0123 job=42: down", "root"),
        (f"Reason=being replaced {STAMP} Comment=ticket 12 State=DOWN CPUTot=99 InstanceId=i-1 InstanceType=m5", "being replaced", "root"),
        ('Comment=State=DOWN Partitions=x CPUTot=half Extra={"a":"State=DOWN"} InstanceType=p5', None, None),
        (f"Reason=bad dimm Foo=Bar A1 {STAMP} ReservationName=maint_n5", "bad dimm Foo=Bar A1", "root"),
        (f"Comment=x Reason=late {STAMP}", "late", "root"),
        (f"Reason=line one\nline two {STAMP}", "line one\nline two", "root"),
        ("Reason=no stamp Comment=CPUAlloc=16", "no stamp", None),
        ("Extra=CPUTot=half", None, None),
    ],
)  # fmt: skip
def test_free_texts_of_a_node_change_nothing_else(texts: str, reason: str | None, by: str | None) -> None:
    """What people write into a node is neither a figure nor the end of the reason before it."""
    (worker,), unknown = slurm_nodes.workers(node().rstrip(b"\n") + f" {texts}\n".encode())
    assert (worker.state, worker.cpus, worker.cpus_allocated, worker.queues) == (WorkerState.IDLE, 16, 0, ("batch",))
    assert (worker.reason, (worker.details or {}).get("reason_by")) == (reason, by) and unknown == []
    assert (worker.state_since is not None) == (by is not None)


def test_lines_that_are_of_no_table_are_left_out_counted_and_named(tmp_path: Path) -> None:
    """A site's banner became part of the first job's id."""
    banner = "This cluster will be down on Friday.\n"
    queue = banner + marked([queued(), queued(JobID="8")]).decode() + banner
    rows = [list(accounted(JobIDRaw=each).values()) for each in ("5", "6")]
    nodes = banner + node().decode()
    folder = commands(
        tmp_path / "bin", squeue=queue, sacct=banner + marked(rows).decode(), scontrol_node=nodes,
        scontrol_partition="PartitionName=batch State=UP\n", scontrol_config=banner + NOTHING_PRIVATE,
    )  # fmt: skip
    played = source(folder)
    reading = played.read_jobs(JOBS)
    assert [job.native_id for job in reading.jobs] == ["7", "8"]
    said = UnknownValue("slurm_line", f"squeue: {banner.strip()}")
    assert reading.unknown == (said, said)
    page = played.read_accounting(ACCOUNTING, None, NOW)
    assert [job.native_id for job in page.jobs] == ["5", "6"] and [each.field for each in page.unknown] == [
        "slurm_line"
    ]
    workers = played.read_workers(WORKERS)
    assert [worker.name for worker in workers.workers] == ["n1"]
    assert workers.unknown == (UnknownValue("slurm_line", f"scontrol: {banner.strip()}"),)


def test_a_text_instead_of_jobs_is_no_empty_queue() -> None:
    """Every open job would be closed; a banner that stood beside jobs as well may stand alone."""
    parser = JobsParser()
    with pytest.raises(AnswerUnreadable, match="squeue: no jobs, and a text instead: Try again later"):
        parser.parse(b"Try again later\n", MARK)
    banner = b"This cluster will be down on Friday.\n"
    jobs, _ = parser.parse(banner + marked([queued()]), MARK)
    assert [job.native_id for job in jobs] == ["7"]
    assert parser.parse(banner, MARK)[0] == [] == parser.parse(b"", MARK)[0]
    with pytest.raises(AnswerUnreadable):
        parser.parse(b"Try again later\n", MARK)


def test_what_is_hidden_from_others_is_asked_for_too(tmp_path: Path) -> None:
    """Nodes of hidden partitions vanish without -a."""
    folder = commands(
        tmp_path / "bin", scontrol_node=node().decode(), scontrol_partition="PartitionName=batch State=UP\n"
    )
    source(folder).read_workers(WORKERS)
    assert all(" -a " in line for line in (folder / "calls").read_text().splitlines())


def test_a_limited_view_of_the_queue_is_no_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PrivateData=jobs, squeue shows a user's own jobs and says nothing."""
    monkeypatch.setattr("getpass.getuser", lambda: "monitor")
    queue = marked([queued()]).decode()
    private = "PrivateData             = jobs,usage\n"
    folder = commands(tmp_path / "bin", squeue=queue, scontrol_config=private, sacctmgr_user="None\n")
    with pytest.raises(NotAllowed, match=r"view of user monitor is limited.*PrivateData=jobs.*adminlevel=Operator"):
        source(folder).read_jobs(JOBS)
    commands(
        folder,
        squeue=queue,
        scontrol_config=private,
        sacctmgr_user="Operator\n",
        sdiag="Jobs pending:   0\nJobs running:   1\n",
    )
    assert len(source(folder).read_jobs(JOBS).jobs) == 1
    # an operator by name, whose commands run as somebody else: slurmctld counts more than is seen
    commands(
        folder,
        squeue=queue,
        scontrol_config=private,
        sacctmgr_user="Operator\n",
        sdiag="Jobs pending:   2\nJobs running:   2\n",
    )
    with pytest.raises(NotAllowed, match="limited"):
        source(folder).read_jobs(JOBS)
    commands(folder, squeue=queue, scontrol_config=NOTHING_PRIVATE)
    played = source(folder)
    assert played.read_jobs(JOBS).calls == 2 and played.read_jobs(JOBS).calls == 1  # looked at once an hour


def test_a_limited_view_of_accounting_is_no_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "monitor")
    said = "PrivateData            = none\n\nSlurmDBD configuration:\nPrivateData            = jobs,users\n"
    folder = commands(tmp_path / "bin", sacct="", sacctmgr_configuration=said, sacctmgr_user="None\n")
    with pytest.raises(NotAllowed, match=r"sacct: .*PrivateData=jobs,users of slurmdbd\.conf"):
        source(folder).read_accounting(ACCOUNTING, None, NOW)
    commands(folder, sacct="", sacctmgr_configuration=said, sacctmgr_user="Administrator\n")
    assert source(folder).read_accounting(ACCOUNTING, None, NOW).complete
    denied = '#!/bin/sh\necho "slurm_load_node error: Access/permission denied" >&2\nexit 1\n'
    (folder / "scontrol").write_text(denied)
    with pytest.raises(NotAllowed, match=r"PrivateData of slurm\.conf hides it"):
        source(folder).read_workers(WORKERS)


@pytest.mark.parametrize(
    ("private", "shares", "level", "said"),
    [
        ("none", True, "None", "PrivateData=none of slurm.conf: nothing that BBQ reads is hidden"),
        ("usage,accounts", False, "None", "PrivateData=usage,accounts of slurm.conf: nothing that BBQ reads is hidden"),
        ("nodes,jobs", False, "Operator", "PrivateData=nodes,jobs of slurm.conf: nothing is hidden from user monitor"),
        ("usage", True, "None", "user monitor does not see other people's fair shares; run `sacctmgr modify user"),
        ("nodes,jobs", False, "None", "user monitor does not see other people's jobs, workers; run `sacctmgr modify"),
    ],
)
def test_what_is_hidden_is_told_when_it_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: str, shares: bool, level: str, said: str
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "monitor")
    played = commands(tmp_path, scontrol_config=f"PrivateData = {private}\n", sacctmgr_user=f"{level}\n")
    try:
        found = Source(Settings(name="c", scheduler="slurm", commands=played, fair_shares=shares)).permissions()
    except NotAllowed as error:
        found = str(error)
    assert said in found


def test_a_time_that_slurmdbd_finds_too_long_is_narrowed(tmp_path: Path) -> None:
    """MaxQueryTimeRange."""
    folder = commands(tmp_path / "bin")
    (folder / "sacct").write_text(
        '#!/bin/sh\nfor a in "$@"; do case $a in --starttime=uts*) s=${a#--starttime=uts};; --endtime=uts*) e=${a#--endtime=uts};; esac; done\n'
        f"echo $((e - s)) >> {folder}/asked\n"
        "[ $((e - s)) -le 3600 ] || { echo 'sacct: error: Too wide of a date range in query' >&2; exit 1; }\n"
    )
    page = source(folder).read_accounting(ACCOUNTING, None, NOW)
    asked = [seconds for line in (folder / "asked").read_text().split() if (seconds := int(line)) > 0]
    assert asked[0] > 3600 >= asked[-1] and not page.complete
    with pytest.raises(TooMany):
        source(folder).read_window(ACCOUNTING, NOW.replace(hour=0), NOW, NOW - NOW)


@pytest.mark.parametrize(
    ("reason", "waits"),
    [
        (f"Max{what}PerAccount", Waiting.LIMIT)
        for what in ("Cpu", "Node", "Jobs", "SubmitJobs", "Mem", "GRES", "BB", "Billing", "Energy", "Unknown")
    ] + [("Resources", Waiting.RESOURCES)],
)  # fmt: skip
def test_every_limit_is_a_limit(reason: str, waits: Waiting) -> None:
    (job,), _ = parse(queued(State="PENDING", Reason=reason))
    assert job.waiting is waits


def test_a_cloud_node_that_boots_is_not_down() -> None:
    """S22."""
    (worker,), unknown = slurm_nodes.workers(node(state="MIXED+CLOUD+NOT_RESPONDING+POWERING_UP"))
    assert (worker.state, worker.flags, unknown) == (WorkerState.PARTIAL, (WorkerFlag.POWERING_UP,), [])


def test_other_generic_resources_are_no_gpus() -> None:
    (worker,), _ = slurm_nodes.workers(node(gres="vgpu:8,gpu:a100:2", used="vgpu:3,gpu:a100:1(IDX:0)"))
    assert worker.gpus == (Gpus(model="a100", total=2, allocated=1),)
    (job,), _ = parse(queued(State="PENDING", tres_per_node="gres/vgpu:8"))
    assert job.requested_gpus is None


def test_gpus_in_use_of_a_model_that_is_not_told_are_of_none() -> None:
    """They are neither in use nor free: GresUsed may leave the model out, which says enough where there is one."""
    two = node(gres="gpu:a100:2,gpu:h100:2,shard:a100:8", used="gpu:(null):3,shard:(null):2")
    ((worker,), _), ((none,), _) = (
        slurm_nodes.workers(each) for each in (two, two.replace(b"gpu:(null):3", b"gpu:(null):0"))
    )
    assert worker.gpus == (Gpus(model="a100", total=2), Gpus(model="h100", total=2))
    assert worker.gpu_parts == (Gpus(model="shard:a100", total=8, allocated=2),)
    assert [each.allocated for each in none.gpus] == [0, 0]


def test_shards_and_mps_are_told_apart_from_whole_gpus() -> None:
    """S4."""
    (worker,), _ = slurm_nodes.workers(
        node(
            gres="gpu:a100:2,gpu:h100:4,shard:a100:16,mps:400",
            used="gpu:a100:1(IDX:0),gpu:h100:3,shard:a100:4(4/8,0/8),mps:100",
        )
    )
    assert worker.gpus == (Gpus(model="a100", total=2, allocated=1), Gpus(model="h100", total=4, allocated=3))
    assert worker.gpu_parts == (
        Gpus(model="shard:a100", total=16, allocated=4),
        Gpus(model="mps", total=400, allocated=100),
    )


@pytest.mark.parametrize(
    ("changed", "gpus", "models", "parts"),
    [
        ({"tres-per-task": "gpu:2", "NumCPUs": "3", "tres-alloc": "cpu=3,mem=1G,node=1"}, 6, None, None),
        ({"tres-per-task": "gres/gpu=2", "NumTasks": "3", "tres-alloc": "cpu=6,mem=1G,node=1"}, 6, None, None),
        ({"tres-per-task": "cpu=2,gres/gpu=1", "NumTasks": "3"}, 3, None, None),
        ({"tres-per-task": "gpu:1", "NumTasks": "4294967294", "tres-alloc": "cpu=4,node=1", "cpus-per-task": "2"}, 2, None, None),
        ({"tres-per-socket": "gpu:2"}, 4, None, None),
        ({"tres-per-socket": "gpu:2", "Sockets": "3", "NumNodes": "2"}, 12, None, None),
        ({"tres-per-node": "gres/gpu:a100:1,gres/gpu:h100:2"}, 3, {"a100": 1, "h100": 2}, None),
        ({"tres-per-node": "gres/gpu:a100:2", "NumNodes": "2"}, 4, {"a100": 4}, None),
        ({"tres-per-node": "gres/gpu:2", "tres-per-job": "gres/gpu:4", "NumNodes": "2"}, 4, None, None),
        ({"tres-per-node": "gres/shard:4", "tres-alloc": "cpu=2,mem=1G,node=1,gres/shard=4"}, None, None, {"shard": 4}),
        ({"tres-alloc": "cpu=2,mem=1G,node=1,gres/gpu:a100=1,gres/gpu:h100=2"}, 3, {"a100": 1, "h100": 2}, None),
    ],
)  # fmt: skip
def test_gpus_that_a_job_asks_for_in_any_way(
    changed: dict[str, str], gpus: float | None, models: dict[str, float] | None, parts: dict[str, float] | None
) -> None:
    """Without gres/gpu in AccountingStorageTRES, only the job's own words tell."""
    (job,), unknown = parse(queued(**changed))
    details = job.details or {}
    assert (job.requested_gpus, details.get("gpu_models"), details.get("gpu_parts"), unknown) == (
        gpus,
        models,
        parts,
        [],
    )


def test_a_setting_that_keeps_gpus_from_accounting_is_named(tmp_path: Path) -> None:
    folder = commands(tmp_path / "bin", scontrol_config="GresTypes = gpu,shard\nAccountingStorageTRES = cpu,mem,node\n")
    (said,) = source(folder).remarks()
    assert "AccountingStorageTRES of slurm.conf is without gres/gpu" in said
    commands(folder, scontrol_config="GresTypes = gpu\nAccountingStorageTRES = cpu,mem,gres/gpu\n")
    assert source(folder).remarks() == []


DETAIL = (
    "JobId=7 JobName=x SubmitTime=1795446324 EligibleTime=1795446324 {resized}StartTime=1795446330 EndTime=1795449930 "
    "NodeList=n[1-2] NumNodes=2 NumCPUs=5 Socks/Node=* JOB_GRES=gpu:a100:3   Nodes=n1 CPU_IDs=0-3 Mem=2800 "
    "GRES=gpu:a100:2(IDX:1-2)   Nodes=n2 CPU_IDs=0 Mem=700 GRES=gpu:a100:1(IDX:1) MinCPUsNode=1\n"
)
SPREAD = {"NodeList": "n[1-2]", "NumNodes": "2", "tres-alloc": "cpu=5,mem=3500M,node=2,gres/gpu=3,gres/gpu:a100=3"}


def test_shares_of_a_run_on_several_workers_are_asked_for_once(tmp_path: Path) -> None:
    """S3."""
    answers = {"squeue": marked([queued(**SPREAD)]).decode(), "scontrol_config": NOTHING_PRIVATE}
    folder = commands(tmp_path / "bin", **answers, scontrol_job=DETAIL.format(resized=""))
    played = source(folder)
    first = played.read_jobs(JOBS)
    shares = [
        (each.worker, each.cpus, each.memory_bytes, each.gpus, each.gpu_models)
        for each in first.jobs[0].runs[0].workers
    ]
    assert shares == [("n1", 4, 2800 << 20, 2, {"a100": 2}), ("n2", 1, 700 << 20, 1, {"a100": 1})]
    assert (first.calls, played.read_jobs(JOBS).calls) == (3, 1)
    assert played.read_jobs(JOBS).jobs == first.jobs
    # who wrote a share into the job's name says what contradicts its row: then no share is said
    forged = DETAIL.format(resized="").replace("JobName=x", "JobName=x Nodes=n1 CPU_IDs=0-99 Mem=1 GRES=")
    commands(folder, **answers, scontrol_job=forged)
    assert [each.cpus for each in source(folder).read_jobs(JOBS).jobs[0].runs[0].workers] == [None, None]
    # and where nobody tells
    commands(folder, **answers)
    assert [each.cpus for each in source(folder).read_jobs(JOBS).jobs[0].runs[0].workers] == [None, None]


def test_few_shares_are_asked_for_in_a_poll(tmp_path: Path) -> None:
    rows = [queued(JobID=str(number), **SPREAD) for number in range(20, 32)]
    folder = commands(
        tmp_path / "bin", squeue=marked(rows).decode(), scontrol_config=NOTHING_PRIVATE, scontrol_job=DETAIL.format(resized="")
    )  # fmt: skip
    played = source(folder)
    calls = [played.read_jobs(JOBS).calls for _ in range(4)]
    assert calls == [7, 6, 3, 1]
    assert all(each.cpus for job in played.read_jobs(JOBS).jobs for each in job.runs[0].workers)


def test_a_resized_job_runs_since_it_was_resized(tmp_path: Path) -> None:
    """In the queue: squeue says INVALID for when, scontrol the time, which is the Submit of sacct's next row."""
    row = queued(**SPREAD, ResizeTime="INVALID")
    folder = commands(
        tmp_path / "bin", squeue=marked([row]).decode(), scontrol_config=NOTHING_PRIVATE,
        scontrol_job=DETAIL.format(resized="ResizeTime=1795446400 "),
    )  # fmt: skip
    (job,) = source(folder).read_jobs(JOBS).jobs
    assert job.attempt_at is not None and job.attempt_at.timestamp() == 1795446400
    assert job.submitted_at.timestamp() == 1795446324
    assert job.runs[0].attempt_at == job.runs[0].started_at == job.attempt_at


def test_the_part_of_a_run_before_a_resize_is_a_part(tmp_path: Path) -> None:
    """In accounting."""
    job, unknown = ended(accounted(State="RESIZING", NodeList="n[1-2]", NNodes="2"))
    assert unknown == [] and job.state is State.RUNNING and job.ended_at is None and job.outcome is None
    assert job.runs[0].resized and job.runs[0].ended_at is not None and job.runs[0].accounted


def test_a_job_that_is_resized_in_the_second_it_was_submitted_in_runs(tmp_path: Path) -> None:
    """slurmdbd has two rows with one Submit: the job held nothing any more once the first one was read."""
    second = "1795446324"
    first = accounted(State="RESIZING", Submit=second, Start=second, End=second, NodeList="n[1-2]", NNodes="2")
    assert list(accounting.jobs([first], [])) == []
    last = accounted(State="COMPLETED", Submit=second, Start=second, End="1795446400", NodeList="n1")
    rows = [job for row in (first, last, first) for job in accounting.jobs([row], [])]
    (job,) = merge(merge([], rows[:1]), rows)
    assert (job.state, job.outcome) == (State.ENDED, Outcome.COMPLETED)
    (run,) = job.runs
    assert run.ended_at is not None and (run.ended_at - run.started_at).total_seconds() == 76 and not run.resized
    # one that lasted a second is a part
    whole = accounted(State="RESIZING", Submit=second, Start=second, End="1795446325", NodeList="n[1-2]", NNodes="2")
    assert len(list(accounting.jobs([whole], []))) == 1


def test_gpu_use_that_the_site_gathers(tmp_path: Path) -> None:
    """gres/gpuutil is a percentage of each task's time, added up; 100 s at 150 % are 150 s of GPUs."""
    row = accounted(AllocTRES="cpu=2,gres/gpu=2,gres/gpu:a100=2,mem=1G")
    job, _ = ended(row, step(row, "0", TRESUsageInTot="cpu=00:01:00,gres/gpumem=2048M,gres/gpuutil=150,mem=1G"))
    assert job.runs[0].used_gpu_seconds == 150 and job.runs[0].used_gpu_memory_bytes == 2 << 30
    assert ended(row, step(row))[0].runs[0].used_gpu_seconds is None


def test_what_is_no_id_is_not_asked_for(tmp_path: Path) -> None:
    """H21's brother: one made-up id would end the question for all."""
    folder = commands(tmp_path / "bin", sacct="")
    source(folder).read_named(ACCOUNTING, ["12", "x'; --", "13_4", "14+1"], NOW)
    # accounting has a part that never started by its own id alone
    assert (folder / "calls").read_text().rstrip().endswith("--jobs=12,13_4,14,15")
    assert source(folder).read_named(ACCOUNTING, ["rubbish"], NOW).calls == 0


def test_a_heterogeneous_job_that_never_started_is_found_in_accounting_again(tmp_path: Path, history: History) -> None:
    """From sacct of 22.05 to 26.05: `20` and `21`, of which the queue said `20+0` and `20+1`."""
    held = [
        queued(JobID=raw, HetJobID="20", HetJobOffset=offset, State="PENDING", Reason="JobHeldUser")
        for raw, offset in {"20": "0", "21": "1"}.items()
    ]
    rows = [
        accounted(JobIDRaw=raw, State="CANCELLED by 0", Start="None", NodeList="None assigned", AllocTRES="")
        for raw in ("20", "21")
    ]
    folder = commands(
        tmp_path / "bin", squeue=marked(held).decode(), scontrol_config=NOTHING_PRIVATE,
        sacct=marked([list(row.values()) for row in rows]).decode(),
    )  # fmt: skip
    played = source(folder)
    told = played.read_accounting(ACCOUNTING, None, NOW).jobs
    history.begin_cluster("local", "slurm", None, NOW)
    for jobs in (played.read_jobs(JOBS).jobs, told):
        history.save_jobs("local", "s", jobs, seen_at=NOW)

    def found(work: Callable[..., Iterator[windows.Part]]) -> list[tuple[str, str]]:
        done = work(history, "local", played, [ACCOUNTING], NOW - timedelta(hours=3), NOW)
        return sorted((each.native_id, each.kind) for part in done for each in part.findings.found)

    def stored() -> list[tuple[str, str | None, str]]:
        with history.reading() as connection:
            rows = connection.execute(select(schema.jobs).order_by(schema.jobs.c.native_id)).mappings()
            return [(row["native_id"], row["raw_id"], row["outcome"]) for row in rows]

    assert stored() == [("20+0", "20", "cancelled"), ("20+1", "21", "cancelled")]
    assert found(windows.verify) == []
    assert found(windows.recollect) == [] and len(stored()) == 2
    # what stored them by their own ids as well is mended
    rows_twice = no_rows()
    for job in told:
        rows_of(job, "local", NOW, rows_twice)
    with history.writing("local", NOW) as writer:
        for table, each in rows_twice.items():
            writer.put(table, list(each.values()))
    assert len(stored()) == 4
    assert found(windows.verify) == [("20", "different"), ("21", "different")]
    with history.writing("local", NOW) as writer:
        writer.delete(schema.tasks, [{"cluster": "local", "task": "recollect", "source": ACCOUNTING.name}])
    assert found(windows.recollect) == [("20", "different"), ("21", "different")]
    assert [job_id for job_id, _, _ in stored()] == ["20+0", "20+1"]
    assert found(windows.verify) == [] and Audit(history).compare_usage("local", [NOW.date()]) == []

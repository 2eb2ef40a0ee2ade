"""What other sites' queues say: values, lines and situations that no cluster of ours had made by itself."""

from pathlib import Path

import pytest

from exporter.job_sums import tally
from exporter.readings import Feed, JobsReading, Kind, UnknownValue
from exporter.sources import AnswerUnreadable
from exporter.sources.slurm import Settings, accounting, allocations, diag, fair_shares
from exporter.sources.slurm import nodes as slurm_nodes
from exporter.sources.slurm.jobs import Allocation, JobsParser
from history.ingest.merge import merge
from history.vocabulary import Outcome, State, Waiting
from tests.fuzz.promises import bounded
from tests.replay import captured
from tests.slurm_says import MARK, NOW, Played, accounted, commands, marked, node, parsed, queued, source_of, told

JOBS, WORKERS, ACCOUNTING = (Feed(kind=kind) for kind in (Kind.JOBS, Kind.WORKERS, Kind.ACCOUNTING))
NOTHING_PRIVATE = "PrivateData             = none\n"


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
    page = source_of(folder).read_accounting(ACCOUNTING, None, NOW)
    assert {job.native_id for job in page.jobs} == {f"948_{number}" for number in range(1, 80, 2)}
    assert {job.outcome for job in page.jobs} == {Outcome.CANCELLED}
    assert set((folder / "length").read_text().split()) == {"0"}
    assert " --local " in (folder / "calls").read_text()
    commands(folder, squeue="", scontrol_config=NOTHING_PRIVATE)
    source_of(folder).read_jobs(JOBS)
    assert [
        " --local " in line for line in (folder / "calls").read_text().splitlines() if line.startswith("squeue")
    ] == [True]


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


def test_a_suspended_job_holds_memory_and_gpus_and_no_cpus() -> None:
    """As scontrol show node says of its worker: CPUAlloc=0, AllocMem and GresUsed as before."""
    (job,), _ = parsed(queued(State="SUSPENDED", tres_alloc="cpu=2,mem=1G,node=1,gres/gpu=1,gres/gpu:a100=1"))
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
    jobs, unknown = parsed(queued(**changed), queued(JobID="8"))
    assert [job.native_id for job in jobs] == ["7", "8"]
    assert (getattr(jobs[0], lost[0]), getattr(jobs[0], kept[0])) == (lost[1], kept[1])
    assert [value.field for value in unknown] == ["slurm_value"] and "job 7: " in unknown[0].value


@pytest.mark.parametrize("text", ["\u00b2", "\u0661", "9" * 5000])
def test_what_only_looks_like_a_number_costs_no_row(text: str) -> None:
    """`\u00b2` is a digit to Python, and no number: one in an End, an id or a count of sockets ended the whole reading."""
    odd = queued(JobID="9", Sockets=text, tres_per_socket="gpu:1", tres_per_node=f"gpu:{text}")
    jobs, _ = parsed(queued(), queued(JobID=text), odd)
    assert [job.native_id for job in jobs if job.native_id != text] == ["7", "9"]
    job, _ = told(accounted(TimelimitRaw=text, NNodes=text, State=f"CANCELLED by {text}"))
    assert (job.requested_wall_seconds, job.details) == (None, {"qos": "normal"})
    rows = [[accounted()], [accounted(End=text)]]
    newest = accounting.last_end(rows, NOW)
    assert newest is not None and newest.timestamp() == 1795446430
    partition = "PartitionName={} State=UP TotalCPUs={} MaxTime=UNLIMITED\n"
    odd_values: list[UnknownValue] = []
    queues = slurm_nodes.queues((partition.format("a", text) + partition.format("b", 8)).encode(), odd_values)
    assert [queue.settings.get("cpus") for queue in queues] == [None, 8] and odd_values == []
    figures = captured("slurm", "26.05", "diag").replace(
        b"Agent queue size:     0", f"Agent queue size: {text}".encode()
    )
    reading = diag.reading(figures, NOW)
    assert "agent" not in reading.queue_lengths and reading.threads == 1
    assert diag.jobs_of(figures.replace(b"Jobs pending:   0", f"Jobs pending: {text}".encode())) is None


def test_a_name_that_begins_with_a_line_break_is_a_name() -> None:
    """The mark and a line break end a row: such a name took the queue away, and its own row from accounting."""
    names = ("\nx", "\n", "\n\n7", "x\n")
    jobs, unknown = parsed(*(queued(JobID=str(10 + place), Name=name) for place, name in enumerate(names)), queued())
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
    played = source_of(folder)
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


@pytest.mark.parametrize(
    ("reason", "waits"),
    [
        (f"Max{what}PerAccount", Waiting.LIMIT)
        for what in ("Cpu", "Node", "Jobs", "SubmitJobs", "Mem", "GRES", "BB", "Billing", "Energy", "Unknown")
    ] + [("Resources", Waiting.RESOURCES)],
)  # fmt: skip
def test_every_limit_is_a_limit(reason: str, waits: Waiting) -> None:
    (job,), _ = parsed(queued(State="PENDING", Reason=reason))
    assert job.waiting is waits


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
    (job,), unknown = parsed(queued(**changed))
    details = job.details or {}
    assert (job.requested_gpus, details.get("gpu_models"), details.get("gpu_parts"), unknown) == (
        gpus,
        models,
        parts,
        [],
    )


DETAIL = (
    "JobId=7 JobName=x SubmitTime=1795446324 EligibleTime=1795446324 {resized}StartTime=1795446330 EndTime=1795449930 "
    "NodeList=n[1-2] NumNodes=2 NumCPUs=5 Socks/Node=* JOB_GRES=gpu:a100:3   Nodes=n1 CPU_IDs=0-3 Mem=2800 "
    "GRES=gpu:a100:2(IDX:1-2)   Nodes=n2 CPU_IDs=0 Mem=700 GRES=gpu:a100:1(IDX:1) MinCPUsNode=1\n"
)
SPREAD = {"NodeList": "n[1-2]", "NumNodes": "2", "tres-alloc": "cpu=5,mem=3500M,node=2,gres/gpu=3,gres/gpu:a100=3"}


def test_a_resized_job_runs_since_it_was_resized(tmp_path: Path) -> None:
    """In the queue: squeue says INVALID for when, scontrol the time, which is the Submit of sacct's next row."""
    row = queued(**SPREAD, ResizeTime="INVALID")
    folder = commands(
        tmp_path / "bin", squeue=marked([row]).decode(), scontrol_config=NOTHING_PRIVATE,
        scontrol_job=DETAIL.format(resized="ResizeTime=1795446400 "),
    )  # fmt: skip
    (job,) = source_of(folder).read_jobs(JOBS).jobs
    assert job.attempt_at is not None and job.attempt_at.timestamp() == 1795446400
    assert job.submitted_at.timestamp() == 1795446324
    assert job.runs[0].attempt_at == job.runs[0].started_at == job.attempt_at


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

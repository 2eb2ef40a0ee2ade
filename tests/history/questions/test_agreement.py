"""One number for one thing: what is in use, asked of the questions now and in the past, of the metrics and of the boards.

The sites are small enough for their right values to be worked out by hand, and have what sites have: jobs over several
workers whose shares are told and are not, two GPU models side by side, MIG slices, shards, MPS, suspended jobs, parallel
jobs and backfill slots.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import URL, create_engine

from exporter.exposition import MetricsPage
from exporter.latest import Board
from exporter.readings import Kind
from exporter.sources import Source
from exporter.sources.htcondor import Settings as HTCondor
from exporter.sources.htcondor import Source as HTCondorSource
from exporter.sources.slurm import Settings as Slurm
from exporter.sources.slurm import Source as SlurmSource
from history.cli import command
from history.db.database import open_database
from history.ingest.store import History
from history.records import Gpus, Job, Run, RunWorker, Worker
from history.vocabulary import Outcome, State, WorkerState
from tests.grafana_asks import Grafana, dashboards, panels
from tests.promql import assert_evaluated, named
from tests.slurm_says import commands, marked, queued

SEEN = timedelta(minutes=30)
"""How long ago the reading was: the past is asked about ten minutes after it."""
BOARDS = dashboards()
HOLDING = {"running", "finishing", "suspended"}
Series = dict[str, dict[tuple[tuple[str, str], ...], float]]
"""Values by metric and labels."""


class Site(NamedTuple):
    """A cluster that has been read once."""

    cluster: str
    database: URL
    metrics: Series
    at: datetime
    folder: Path

    def ask(self, *question: str, past: bool = False) -> Any:
        """Ask bbq, of now or of the past."""
        url = self.database.render_as_string(hide_password=False)
        when = ["--at", self.at.isoformat()] if past else []
        done = CliRunner().invoke(command, [*question, *when, "--database", url, "--format", "json"])
        assert done.exit_code == 0, (question, done.output)
        return json.loads(done.stdout)

    def by(self, question: Sequence[str], key: str, *columns: str, past: bool = False) -> dict[str, Any]:
        """Return columns of a question's rows by one of them; those of GPUs are its first table."""
        said = self.ask(*question, past=past)
        said = said["by model"] if question[0] == "gpus" else said
        found = {row[key]: tuple(row[column] for column in columns) for row in said}
        assert len(found) == len(said)
        return found

    def gauge(self, name: str, *by: str, **only: set[str]) -> dict[Any, float]:
        """Add a metric up by labels, of the series that have one of the values."""
        found: dict[Any, float] = defaultdict(float)
        for labels, value in self.metrics[name].items():
            of = dict(labels)
            assert of["cluster"] == self.cluster
            if all(of[label] in values for label, values in only.items()):
                found[of[by[0]] if len(by) == 1 else tuple(of[each] for each in by)] += value
        return dict(found)

    def assert_panels(self, board: str, wanted: Mapping[tuple[str, str], Mapping[Any, float]], **chosen: str) -> None:
        """Have promtool evaluate queries of a board's panels on the metrics, and compare.

        Args:
            wanted: values by the panel's title and the query's letter, by the values of the labels in their order.
        """
        asked = Grafana(BOARDS[board], None, None, chosen=chosen)
        cases = []
        for (title, letter), values in wanted.items():
            (panel,) = [each for each in panels(BOARDS[board]) if each["title"] == title]
            (target,) = [each for each in panel["targets"] if each["refId"] == letter]
            expression = asked.promql(target["expr"])
            by = _labels(expression)
            cases.append((expression, {_with(by, key): value for key, value in values.items()}))
        given = {
            named(dict(labels), name): value
            for name, samples in self.metrics.items()
            for labels, value in samples.items()
        }
        assert_evaluated(self.folder, given, cases)


def _with(by: Sequence[str], key: Any) -> str:
    return named(dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True)))


def _labels(expression: str) -> list[str]:
    """Return the labels that an expression keeps: those of its first `by`, none where it begins with a plain sum."""
    begin = expression.lstrip("(").partition("{")[0]
    return begin.partition("by (")[2].partition(")")[0].replace(" ", "").split(",") if "by (" in begin else []


def _read(cluster: str, scheduler: str, source: Source, history: History, database: URL, folder: Path) -> Site:
    """Read a cluster once; show what it says on a page, and store it."""
    seen = datetime.now(UTC).replace(microsecond=0) - SEEN
    board = Board()
    board.add_cluster(cluster, scheduler, 1e9)
    page = MetricsPage(board, None, 50_000)
    history.begin_cluster(cluster, scheduler, None, seen, lends_cpus=source.lends_cpus)
    for feed in source.feeds():
        board.add_feed(cluster, feed, 60)
        if feed.kind is Kind.JOBS:
            jobs = source.read_jobs(feed)
            assert jobs.unknown == ()
            board.publish(cluster, feed, jobs, 0.5)
            history.save_jobs(cluster, feed.name, jobs.jobs, seen_at=seen)
        elif feed.kind is Kind.WORKERS:
            workers = source.read_workers(feed)
            assert workers.unknown == ()
            board.publish(cluster, feed, workers, 0.5)
            history.save_workers(cluster, feed.name, workers.workers, workers.queues, seen_at=seen)
    metrics: Series = defaultdict(dict)
    for family in text_string_to_metric_families(page.text().decode()):
        for sample in family.samples:
            if sample.name.startswith(("bbq_worker", "bbq_jobs", "bbq_queue")):
                metrics[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return Site(cluster, database, metrics, seen + timedelta(minutes=10), folder)


def _node(
    name: str, partition: str, cpus: tuple[int, int], memory: int = 0, gres: str = "(null)", used: str = ""
) -> str:
    """Write a node's record.

    Args:
        cpus: how many jobs have, of how many.
        memory: what jobs have, in MiB.
    """
    state = "MIXED" if cpus[0] else "IDLE"
    return (
        f"NodeName={name} Arch=x86_64 CoresPerSocket=8 CPUAlloc={cpus[0]} CPUEfctv={cpus[1]} CPUTot={cpus[1]} CPULoad=0.00 "
        f"AvailableFeatures=(null) ActiveFeatures=(null) Gres={gres} GresDrain=N/A GresUsed={used or gres} NodeAddr={name} "
        f"NodeHostName={name} RealMemory=64000 AllocMem={memory} FreeMem=1 Sockets=2 Boards=1 State={state} ThreadsPerCore=1 "
        f"TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A Partitions={partition} BootTime=1795445296 LastBusyTime=1795446267\n"
    )


def _share(job: str, submitted: int, started: int, *there: tuple[str, str, str]) -> str:
    """Write what `scontrol -d show job` says of a job on several workers: name, CPU_IDs and GRES of each."""
    shares = "".join(f"   Nodes={name} CPU_IDs={cpus} Mem=1000 GRES={gres}" for name, cpus, gres in there)
    return (
        f"JobId={job} JobName=x SubmitTime={submitted} EligibleTime={submitted} StartTime={started} "
        f"NodeList=x NumNodes={len(there)} Socks/Node=* JOB_GRES=x{shares} MinCPUsNode=1\n"
    )


@pytest.fixture
def slurm(tmp_path: Path, history: History, database: URL) -> Site:
    """Return a Slurm cluster. What each worker has in use, by hand, and so what its record says:

    n1: 4 CPUs of 1, 2 of 3 (job 2 is suspended: memory, no CPUs). n2: 6 of 3.
    g1: 4 of 4 with 2 h100, 4 of 5 with 2 a100. g2: 2 of 4 with 1 a100, 4 of 5 with 2 a100, and of 10, suspended, 1 a100.
    m1: 2 of 6 with 3 slices. s1: 1 of 7 with 5 shards, 1 of 8 with 1 l40. s2: 1 of 9 with 50 of MPS.
    """
    now = int(datetime.now(UTC).timestamp())
    times = {"SubmitTime": str(now - 7200), "EligibleTime": str(now - 7200), "StartTime": str(now - 3600)}

    def job(number: int, owner: str, partition: str, nodes: str, tres: str, cpus: int, **more: str) -> list[str]:
        count = 2 if "[" in nodes else 1
        return queued(
            JobID=str(number), JobArrayID=str(number), UserName=owner, Partition=partition, NodeList=nodes,
            NumNodes=str(count), tres_alloc=f"cpu={cpus},mem=2G,node={count},billing={cpus}{tres}", NumCPUs=str(cpus),
            **times, **more,
        )  # fmt: skip

    rows = [
        job(1, "alice", "batch", "n1", "", 4),
        job(2, "bob", "batch", "n1", "", 8, State="SUSPENDED"),
        job(3, "carol", "batch", "n[1-2]", "", 8),
        job(4, "dora", "gpu", "g[1-2]", ",gres/gpu=3,gres/gpu:a100=1,gres/gpu:h100=2", 6),
        job(5, "erik", "gpu", "g[1-2]", ",gres/gpu=4,gres/gpu:a100=4", 8),  # of which nobody tells the shares
        job(6, "fred", "gpu", "m1", ",gres/gpu=3,gres/gpu:a100_1g.5gb=3", 2),
        job(7, "gina", "gpu", "s1", ",gres/shard=5,gres/shard:l40=5", 1),
        job(8, "hans", "gpu", "s1", ",gres/gpu=1,gres/gpu:l40=1", 1),
        job(9, "ines", "gpu", "s2", ",gres/mps=50,gres/mps:l40=50", 1),
        job(10, "jack", "gpu", "g2", ",gres/gpu=1,gres/gpu:a100=1", 4, State="SUSPENDED"),
    ]
    nodes = [
        _node("n1", "batch", (6, 16), 4000),
        _node("n2", "batch", (6, 16), 1000),
        _node("g1", "gpu", (8, 32), 2000, "gpu:a100:4(S:0),gpu:h100:4(S:1)", "gpu:a100:2(IDX:0-1),gpu:h100:2(IDX:4-5)"),
        _node("g2", "gpu", (6, 32), 4000, "gpu:a100:4(S:0)", "gpu:a100:4(IDX:0-3)"),
        _node("m1", "gpu", (2, 16), 2000, "gpu:a100_1g.5gb:7(S:0)", "gpu:a100_1g.5gb:3(IDX:0-2)"),
        _node("s1", "gpu", (2, 16), 4000, "gpu:l40:2(S:0),shard:l40:16(S:0)", "gpu:l40:1(IDX:1),shard:l40:5(5/8,0/8)"),
        _node("s2", "gpu", (1, 16), 2000, "gpu:l40:2(S:0),mps:l40:200(S:0)", "gpu:l40:0(IDX:N/A),mps:l40:50(50/100,0/100)"),
    ]  # fmt: skip
    partitions = "".join(f"PartitionName={name} State=UP TotalCPUs=1 TotalNodes=1\n" for name in ("batch", "gpu"))
    folder = commands(
        tmp_path / "bin", squeue=marked(rows).decode(), scontrol_config="PrivateData             = none\n",
        scontrol_node="".join(nodes), scontrol_partition=partitions, sdiag="",
        scontrol_job_3=_share("3", now - 7200, now - 3600, ("n1", "0-1", ""), ("n2", "0-5", "")),
        scontrol_job_4=_share("4", now - 7200, now - 3600, ("g1", "0-3", "gpu:h100:2(IDX:4-5)"), ("g2", "0-1", "gpu:a100:1(IDX:0)")),
    )  # fmt: skip
    source = SlurmSource(Slurm(name="local", scheduler="slurm", commands=folder))
    return _read("local", "slurm", source, history, database, tmp_path)


CPUS = {"n1": (6, 16), "n2": (6, 16), "g1": (8, 32), "g2": (6, 32), "m1": (2, 16), "s1": (2, 16), "s2": (1, 16)}
"""CPUs in use, of how many, by worker: 31 of 144."""
GPUS = {"g1": (4, 8), "g2": (4, 4), "m1": (3, 7), "s1": (1, 2), "s2": (0, 2)}
MODELS = {"a100": (6, 8), "a100_1g.5gb": (3, 7), "h100": (2, 4), "l40": (1, 4)}
"""GPUs in use, of how many, by model: 12 of 23 as Slurm counts; 9 of 16 are whole."""


def test_slurm_says_one_number_everywhere_now(slurm: Site) -> None:
    used = {worker: each for worker, (each, _) in CPUS.items()}
    assert slurm.by(["workers"], "worker", "cpus_used", "cpus") == CPUS
    assert slurm.gauge("bbq_worker_cpus_allocated", "worker") == used
    assert {worker: _fact(slurm, worker, "cpus_used") for worker in CPUS} == used
    assert slurm.by(["top", "workers", "--by", "cpus"], "worker", "cpus") == {
        key: (each,) for key, each in used.items()
    }

    assert slurm.by(["workers"], "worker", "gpus_used", "gpus") == {**dict.fromkeys(CPUS, (None, None)), **GPUS}
    assert slurm.gauge("bbq_worker_gpus_allocated", "worker") == {worker: each for worker, (each, _) in GPUS.items()}
    assert {worker: _fact(slurm, worker, "gpus_used") for worker in GPUS} == {
        key: each for key, (each, _) in GPUS.items()
    }
    assert {
        key: each for key, (each,) in slurm.by(["top", "workers", "--by", "gpus"], "worker", "gpus").items() if each
    } == {worker: each for worker, (each, _) in GPUS.items() if each}

    assert slurm.by(["gpus"], "model", "gpus_used", "gpus") == MODELS
    assert slurm.gauge("bbq_worker_gpus_allocated", "model") == {model: each for model, (each, _) in MODELS.items()}
    assert {key: total - each for key, (each, total) in MODELS.items()} == {
        key: free for key, (free,) in slurm.by(["gpus"], "model", "gpus_free").items()
    }

    assert slurm.by(["clusters"], "cluster", "cpus_used", "cpus", "gpus_used", "gpus") == {"local": (31, 144, 12, 23)}
    assert slurm.gauge("bbq_jobs_cpus", "cluster", state=HOLDING) == {"local": 31}
    assert slurm.gauge("bbq_jobs_gpus", "cluster", state=HOLDING) == {"local": 12}
    queues = {"batch": (12, 32, None, None), "gpu": (19, 112, 12, 23)}
    assert slurm.by(["queues"], "queue", "cpus_used", "cpus", "gpus_used", "gpus") == queues
    assert slurm.gauge("bbq_jobs_cpus", "queue", state=HOLDING) == {"batch": 12, "gpu": 19}
    assert slurm.gauge("bbq_jobs_gpus", "queue", state=HOLDING) == {"gpu": 12}
    assert slurm.gauge("bbq_queue_cpus_allocated", "queue") == {"batch": 12, "gpu": 19}


def test_slurms_parts_of_gpus_are_never_added_to_whole_ones(slurm: Site) -> None:
    parts = {"shard:l40": (5, 16, 11), "mps:l40": (50, 200, 150)}
    said = {row["part"]: (row["used"], row["total"], row["free"]) for row in slurm.ask("gpus")["parts of GPUs"]}
    assert said == parts
    assert slurm.gauge("bbq_worker_gpu_parts_allocated", "part") == {part: each for part, (each, _, _) in parts.items()}
    assert slurm.gauge("bbq_worker_gpu_parts", "part") == {part: total for part, (_, total, _) in parts.items()}
    holders = {row["owner"]: (row["model"], row["gpus"]) for row in slurm.ask("gpus")["who has them"]}
    assert holders["fred"] == ("a100_1g.5gb", 3) and not {"gina", "ines"} & holders.keys()


def test_slurm_says_one_number_everywhere_in_the_past(slurm: Site) -> None:
    """Of the past the runs tell, and of job 5 nobody tells what it has on each of its workers."""
    untold = {"g1": (None, 32), "g2": (None, 32)}
    assert slurm.by(["workers"], "worker", "cpus_used", "cpus", past=True) == {**CPUS, **untold}
    gpus = {**dict.fromkeys(CPUS, (None, None)), **GPUS, "g1": (None, 8), "g2": (None, 4)}
    assert slurm.by(["workers"], "worker", "gpus_used", "gpus", past=True) == gpus
    assert {worker: _fact(slurm, worker, "cpus_used", past=True) for worker in ("n1", "n2", "m1", "g1")} == {
        "n1": 6, "n2": 6, "m1": 2, "g1": None,
    }  # fmt: skip
    assert slurm.by(["clusters"], "cluster", "cpus_used", "gpus_used", past=True) == {"local": (31, 12)}
    queues = {"batch": (12, None), "gpu": (19, 12)}
    assert slurm.by(["queues"], "queue", "cpus_used", "gpus_used", past=True) == queues
    models = slurm.by(["gpus"], "model", "gpus_used", "gpus_free", past=True)
    assert models == {
        "(not said)": (4, None), "a100": (None, None), "a100_1g.5gb": (3, 4), "h100": (None, None), "l40": (1, 3),
    }  # fmt: skip


@pytest.fixture
def pool(tmp_path: Path, history: History, database: URL) -> Site:
    """Return a pool. What each machine has in use, by hand, and so what is left of its slots:

    wn1: 2 CPUs and 2 A100 of 1, 1 and 1 H100 of 2, 4 of 3, which runs in parallel on wn3 with 8 more.
    wn2: 1 and 2 GPUs of 5, of which nobody tells the model, and 1 of 6, which is suspended and keeps it.
    wn3: 8 of 3, and in its backfill slot, which offers the same CPUs once more, 3 of 4.
    """
    now = int(datetime.now(UTC).timestamp())

    def job(number: int, owner: str, host: str, cpus: int, gpus: int = 0, **more: Any) -> dict[str, Any]:
        return {
            "GlobalJobId": f"s1@h#{number}.0#{now - 7200}", "ClusterId": number, "ProcId": 0, "QDate": now - 7200,
            "Owner": owner, "Cmd": "/bin/work", "JobUniverse": 5, "RequestCpus": cpus, "RequestMemory": 1000,
            "RequestGPUs": gpus or None, "JobStatus": 2, "EnteredCurrentStatus": now - 3600,
            "JobCurrentStartDate": now - 3600, "RemoteHost": host, "CpusProvisioned": cpus, "MemoryProvisioned": 1000,
            "GPUsProvisioned": gpus or None, **more,
        }  # fmt: skip

    def slot(machine: str, left: int, dynamic: int, gpus: int | None = None, **more: Any) -> dict[str, Any]:
        return {
            "Machine": machine, "Name": f"slot1@{machine}", "PartitionableSlot": True, "State": "Unclaimed",
            "TotalSlotCpus": 16, "Cpus": left, "TotalSlotMemory": 64000, "Memory": 60000, "NumDynamicSlots": dynamic,
            "TotalSlotGPUs": None if gpus is None else 6, "GPUs": gpus,
            "GPUModels": None if gpus is None else json.dumps({"A100": 4, "H100": 2}), **more,
        }  # fmt: skip

    hosts = "slot1_3@wn1,slot1_1@wn3,slot1_2@wn3"
    jobs = [
        job(1, "alice", "slot1_1@wn1", 2, 2),
        job(2, "bob", "slot1_2@wn1", 1, 1),
        job(3, "carol", "slot1_3@wn1", 4, JobUniverse=11, MaxHosts=3, RemoteHosts=hosts),
        job(4, "dora", "slot2_1@wn3", 3),
        job(5, "erik", "slot1_1@wn2", 1, 2),
        job(6, "fred", "slot1_2@wn2", 1, JobStatus=7, LastSuspensionTime=now - 2400),
    ]
    slots = [
        slot("wn1", 9, 3, 3, FreeGPUModels=json.dumps({"A100": 2, "H100": 1})),
        slot("wn2", 14, 2, 4),
        slot("wn3", 8, 2),
        slot("wn3", 16, 1, BackfillSlot=True, ChildCpus="{ 3 }", Name="slot2@wn3"),
    ]

    def answer(question: Mapping[str, Any]) -> list[bytes]:
        said: dict[str, list[dict[str, Any]]] = {
            "jobs": jobs,
            "machines": slots,
            "schedds": [{"Name": "s1@h", "Machine": "h"}],
        }
        return [
            json.dumps([row.get(name) for name in question["attributes"]]).encode() for row in said[question["what"]]
        ]

    settings = HTCondor(name="grid", scheduler="htcondor", collectors=("127.0.0.1:1",))
    source = HTCondorSource(settings, ask=lambda questions: [answer(question) for question in questions])
    return _read("grid", "htcondor", source, history, database, tmp_path)


def test_htcondor_says_one_number_everywhere_now(pool: Site) -> None:
    used = {"wn1": 7, "wn2": 2, "wn3": 8}
    assert pool.by(["workers"], "worker", "cpus_used", "cpus") == {worker: (each, 16) for worker, each in used.items()}
    assert pool.gauge("bbq_worker_cpus_allocated", "worker") == used
    assert {worker: _fact(pool, worker, "cpus_used") for worker in used} == used
    assert _fact(pool, "wn3", "backfill_cpus_used") == 3
    # jobs hold what workers have in use, and what they have in backfill slots
    assert pool.by(["clusters"], "cluster", "cpus_used", "cpus", "gpus_used", "gpus") == {"grid": (17 + 3, 48, 5, 12)}
    assert pool.by(["queues"], "queue", "cpus_used", "gpus_used") == {"s1@h": (17 + 3, 5)}
    assert pool.gauge("bbq_jobs_cpus", "queue", state=HOLDING) == {"s1@h": 17 + 3}
    assert pool.gauge("bbq_jobs_gpus", "queue", state=HOLDING) == {"s1@h": 5}
    # of wn2 it is known how many GPUs are in use, and not of which model
    assert pool.by(["workers"], "worker", "gpus_used", "gpus") == {"wn1": (3, 6), "wn2": (2, 6), "wn3": (None, None)}
    assert (_fact(pool, "wn1", "gpus_used"), _fact(pool, "wn2", "gpus_used")) == (3, 2)
    models = {"(not said)": (2, 0, None), "A100": (None, 8, None), "H100": (None, 4, None)}
    assert pool.by(["gpus"], "model", "gpus_used", "gpus", "gpus_free") == models
    told = {("wn1", "A100"): 2, ("wn1", "H100"): 1}
    assert pool.gauge("bbq_worker_gpus_allocated", "worker", "model") == told


def test_htcondor_says_one_number_everywhere_in_the_past(pool: Site) -> None:
    """Of the past the runs tell, those in backfill slots too, and none tells of which model its GPUs are."""
    assert pool.by(["workers"], "worker", "cpus_used", "gpus_used", past=True) == {
        "wn1": (7, 3), "wn2": (2, 2), "wn3": (8 + 3, None),
    }  # fmt: skip
    assert (_fact(pool, "wn1", "cpus_used", past=True), _fact(pool, "wn2", "gpus_used", past=True)) == (7, 2)
    assert pool.by(["clusters"], "cluster", "cpus_used", "gpus_used", past=True) == {"grid": (17 + 3, 5)}
    assert pool.by(["queues"], "queue", "cpus_used", "gpus_used", past=True) == {"s1@h": (17 + 3, 5)}
    models = {"(not said)": (5, None), "A100": (None, None), "H100": (None, None)}
    assert pool.by(["gpus"], "model", "gpus_used", "gpus_free", past=True) == models


@pytest.mark.promtool
def test_the_boards_say_what_bbq_says_of_slurm(slurm: Site) -> None:
    """Their queries of the metrics: by model all of Slurm's, in sums over models the whole ones: 9 of 16."""
    models = {("local", model): each for model, each in MODELS.items()}
    used, total = ({key: each[place] for key, each in models.items()} for place in (0, 1))
    slurm.assert_panels(
        "bbq-gpus",
        {
            ("GPUs", "A"): {(): 16}, ("In use", "A"): {(): 9}, ("Free", "A"): {(): 7},
            ("Unusable", "A"): {(): 0}, ("Not told", "A"): {(): 0},
            ("How many of each model?", "A"): total, ("How many of each model?", "B"): used,
            ("How many of each model?", "C"): {key: total[key] - used[key] for key in total},
            ("How many of each model?", "D"): dict.fromkeys(total, 0),
            ("How many of each model?", "E"): {},
            ("How many of each model?", "F"): {key: used[key] / total[key] for key in total},
            ("Parts of GPUs", "A"): {("local", "shard:l40"): 16, ("local", "mps:l40"): 200},
            ("Parts of GPUs", "B"): {("local", "shard:l40"): 5, ("local", "mps:l40"): 50},
            ("In use by model", "A"): {"a100": 6, "h100": 2, "l40": 1}, ("In use by model", "B"): {(): 16},
            ("Slices and parts in use", "A"): {"a100_1g.5gb": 3 / 7},
            ("Slices and parts in use", "B"): {"shard:l40": 5 / 16, "mps:l40": 50 / 200},
        },
    )  # fmt: skip
    slurm.assert_panels(
        "bbq-overview",
        {
            ("What has each cluster, and what is used of it?", "B"): {"local": 31 / 144},
            ("What has each cluster, and what is used of it?", "D"): {"local": 12 / 23},
            ("CPUs in use", "A"): {"local": 31},
        },
    )
    queues = {("local", "batch"): 12 / 32, ("local", "gpu"): 19 / 112}
    slurm.assert_panels("bbq-queues", {("What is in each queue?", "B"): queues})
    slurm.assert_panels(
        "bbq-worker", {("GPUs in use", "A"): {"a100": 2, "h100": 2}, ("CPUs in use", "A"): {(): 8 / 32}}, worker="g1"
    )


@pytest.mark.promtool
def test_the_boards_say_what_bbq_says_of_htcondor(pool: Site) -> None:
    """What wn2 does not tell is neither in use nor free."""
    pool.assert_panels(
        "bbq-gpus",
        {
            ("GPUs", "A"): {(): 12}, ("In use", "A"): {(): 3}, ("Free", "A"): {(): 3}, ("Not told", "A"): {(): 6},
            ("How many of each model?", "A"): {("grid", "A100"): 8, ("grid", "H100"): 4},
            ("How many of each model?", "B"): {}, ("How many of each model?", "C"): {},
            ("How many of each model?", "E"): {("grid", "A100"): 4, ("grid", "H100"): 2},
            ("How many of each model?", "F"): {},
            ("Slices and parts in use", "A"): {},
        },
    )  # fmt: skip
    pool.assert_panels(
        "bbq-overview",
        {
            ("What has each cluster, and what is used of it?", "B"): {"grid": 17 / 48},
            ("What has each cluster, and what is used of it?", "D"): {"grid": 3 / 6},
        },
    )
    pool.assert_panels("bbq-worker", {("GPUs in use", "A"): {}, ("CPUs in use", "A"): {(): 2 / 16}}, worker="wn2")


HOUR = timedelta(hours=1)


class Past(NamedTuple):
    """A history of six hours, and how its boards are asked."""

    url: URL
    begin: datetime

    def rows(self, board: str, title: str, before: timedelta = timedelta(), **chosen: str) -> list[dict[str, Any]]:
        """Return what a panel shows of the six hours, or of more time before them."""
        end = self.begin + 6 * HOUR
        engine = create_engine(self.url)
        asked = Grafana(BOARDS[board], None, engine, begin=self.begin - before, end=end, chosen=chosen)
        (panel,) = [each for each in panels(BOARDS[board]) if each["title"] == title]
        answer = asked.sql(panel["targets"][0]["rawSql"])
        engine.dispose()
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    def ask(self, *question: str, before: timedelta = timedelta()) -> Any:
        times = ["--since", (self.begin - before).isoformat(), "--until", (self.begin + 6 * HOUR).isoformat()]
        url = self.url.render_as_string(hide_password=False)
        asked = [*question, *(() if question[0] == "info" else times), "--database", url, "--format", "json"]
        done = CliRunner().invoke(command, asked)
        assert done.exit_code == 0, (question, done.output)
        return json.loads(done.stdout)


def _lived(history: History) -> datetime:
    """Store six hours, and give when they begin.

    alice: 4 CPUs, an a100 and an h100 on g1 for 4 h, of which 1 h was suspended, as accounting says: 12 CPU h, of which 6 were used.
    bob: 2 CPUs and 1 GPU on g1 since the first hour, suspended in the third: 8 CPU h and 4 GPU h until the sixth is over.
    carol: 8 CPUs since the third hour on g1 and g2, of which nobody tells the shares: 24 CPU h.
    dave: 1 CPU in a pool since the first hour, suspended since the second, which HTCondor gives to nobody else: 5 CPU h.
    """
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 7 * HOUR
    history.begin_cluster("local", "slurm", None, begin, lends_cpus=True)
    history.begin_cluster("grid", "htcondor", None, begin)

    def job(number: str, owner: str, start: int, cpus: float, gpus: float, *workers: RunWorker, **more: Any) -> Job:
        began = begin + start * HOUR
        run = Run(
            attempt_at=began, started_at=began, cpus=cpus, gpus=gpus, memory_bytes=1 << 30, workers=workers,
        )  # fmt: skip
        return Job(
            native_id=number, submitted_at=began, attempt_at=began, owner=owner, queue="gpu", state=State.RUNNING,
            requested_cpus=cpus, requested_gpus=gpus, runs=(run,), **more,
        )  # fmt: skip

    def on(name: str, cpus: float | None = None, gpus: float | None = None) -> RunWorker:
        return RunWorker(worker=name, cpus=cpus, gpus=gpus)

    share = replace(on("g1", 4.0, 2.0), gpu_models={"a100": 1.0, "h100": 1.0})
    alice = job("1", "alice", 0, 4.0, 2.0, share)
    over = begin + 4 * HOUR
    ran = replace(
        alice.runs[0], ended_at=over, outcome=Outcome.COMPLETED, accounted=True, suspended_seconds=3600,
        used_cpu_seconds=6 * 3600.0,
    )  # fmt: skip
    done = replace(alice, state=State.ENDED, ended_at=over, outcome=Outcome.COMPLETED, accounted=True, runs=(ran,))
    bob, carol = job("2", "bob", 1, 2.0, 1.0, on("g1", 2.0, 1.0)), job("3", "carol", 3, 8.0, 0.0, on("g1"), on("g2"))
    dave = job("4", "dave", 1, 1.0, 0.0, on("w1", 1.0, 0.0))
    stopped = {"state": State.SUSPENDED}
    gpus = (Gpus(model="a100", total=4.0), Gpus(model="h100", total=4.0))
    worker = Worker(name="g1", state=WorkerState.PARTIAL, cpus=32.0, gpus=gpus, queues=("gpu",))
    history.save_workers("local", "workers", [worker], [], seen_at=begin)
    history.save_jobs("local", "jobs", [bob], seen_at=begin + HOUR)
    history.save_jobs("grid", "jobs", [dave], seen_at=begin + HOUR)
    history.save_jobs("local", "jobs", [replace(bob, **stopped)], seen_at=begin + 2 * HOUR)
    history.save_jobs("grid", "jobs", [replace(dave, **stopped)], seen_at=begin + 2 * HOUR)
    history.save_jobs("local", "jobs", [bob, carol], seen_at=begin + 3 * HOUR)
    history.save_jobs("local", "accounting", [done], seen_at=begin + 5 * HOUR)
    return begin


HOURS = {"alice": (12, 6), "bob": (8, 4), "carol": (24, 0), "dave": (5, 0)}
"""CPU and GPU hours."""


def test_suspended_time_is_no_use(history: History, database: URL) -> None:
    past = Past(database, _lived(history))
    for before in (timedelta(), 50 * HOUR):  # without whole days, and with some
        said = past.ask("usage", "--by", "owner", before=before)
        assert {row["owner"]: (row["cpu_time_seconds"], row["gpu_time_seconds"]) for row in said} == {
            owner: (cpu * 3600, gpu * 3600) for owner, (cpu, gpu) in HOURS.items()
        }
        assert [row["cpu_efficiency"] for row in said if row["owner"] == "alice"] == [0.5]
        by_model = {(row["owner"], row["model"]): row["gpu_time_seconds"] / 3600 for row in past.ask("usage", "--gpus")}
        assert by_model == {("alice", "a100"): 3, ("alice", "h100"): 3, ("bob", "a100+h100"): 4}
    (run,) = past.ask("info", "job", "1")["runs"]
    assert run["cpu_efficiency"] == 0.5


def test_a_worker_is_idle_where_all_jobs_are_suspended_and_lend_their_cpus(history: History, database: URL) -> None:
    """slurmctld says IDLE of it; HTCondor's slot stays claimed."""
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 7 * HOUR
    for cluster, scheduler, lends in (("local", "slurm", True), ("grid", "htcondor", False)):
        history.begin_cluster(cluster, scheduler, None, begin, lends_cpus=lends)
        run = Run(attempt_at=begin, started_at=begin, cpus=4.0, workers=(RunWorker(worker="w", cpus=4.0, gpus=0.0),))
        job = Job(
            native_id="1", submitted_at=begin, attempt_at=begin, owner="alice", queue="q", state=State.RUNNING,
            requested_cpus=4.0, runs=(run,),
        )  # fmt: skip
        worker = Worker(name="w", state=WorkerState.PARTIAL, cpus=8.0, queues=("q",))
        history.save_workers(cluster, "workers", [worker], [], seen_at=begin)
        history.save_jobs(cluster, "jobs", [job], seen_at=begin)
        history.save_jobs(cluster, "jobs", [replace(job, state=State.SUSPENDED)], seen_at=begin + HOUR)
    past = Past(database, begin)

    def states(*when: str) -> dict[str, str]:
        asked = ["workers", *when, "--database", past.url.render_as_string(hide_password=False), "--format", "json"]
        return {row["cluster"]: row["state"] for row in json.loads(CliRunner().invoke(command, asked).stdout)}

    assert states() == {"local": "idle", "grid": "partial"}
    assert states("--at", (begin + 2 * HOUR).isoformat()) == {"local": "idle", "grid": "partial"}
    assert states("--at", (begin + HOUR / 2).isoformat()) == {"local": "partial", "grid": "partial"}


@pytest.mark.postgres
def test_the_boards_say_what_bbq_says_of_the_past(postgres_database: URL) -> None:
    engine = open_database(postgres_database)
    history = History(engine)
    history.prepare()
    past = Past(postgres_database, _lived(history))
    engine.dispose()
    for before in (timedelta(), 50 * HOUR):
        shown = past.rows("bbq-tops", "Who has used the most?", before, thing="owner", by="cpu_seconds")
        assert {row["owner"]: (row["CPU hours"], row["GPU hours"]) for row in shown} == {
            owner: (pytest.approx(cpu), pytest.approx(gpu)) for owner, (cpu, gpu) in HOURS.items()
        }
        assert [row["CPU efficiency"] for row in shown if row["owner"] == "alice"] == [pytest.approx(0.5)]
        had = past.rows("bbq-gpus", "Who has had them?", before)
        assert {row["owner"]: row["GPU hours"] for row in had} == {"alice": pytest.approx(6), "bob": pytest.approx(4)}
    (ran,) = [row for row in past.rows("bbq-worker", "What ran on it?", worker="g1") if row["owner"] == "alice"]
    assert ran["CPU efficiency"] == pytest.approx(0.5)
    (its,) = past.rows("bbq-job", "Its runs", cluster="local", job="1")
    assert its["CPU efficiency"] == pytest.approx(0.5)
    (did,) = past.rows("bbq-job", "How did it do?", cluster="local", job="1")
    assert did["CPU efficiency"] == pytest.approx(0.5)


@pytest.mark.postgres
def test_a_share_that_nobody_tells_is_a_gap(postgres_database: URL) -> None:
    engine = open_database(postgres_database)
    history = History(engine)
    history.prepare()
    past = Past(postgres_database, _lived(history))
    engine.dispose()
    there: dict[float, dict[str, float | None]] = defaultdict(dict)
    for row in past.rows("bbq-worker", "Who was on it?", worker="g1"):
        there[(row["time"] - past.begin) / HOUR][row["owner"]] = row["Value"]
    assert there[0.5] == {"alice": 4, "bob": 0, "carol": 0}
    assert there[1.5] == {"alice": 4, "bob": 2, "carol": 0}
    assert there[2.5] == {"alice": 4, "bob": 0, "carol": 0}
    assert there[3.5] == {"alice": 4, "bob": 2, "carol": None}
    assert there[5.5] == {"alice": 0, "bob": 2, "carol": None}
    pooled = past.rows("bbq-worker", "Who was on it?", worker="w1")
    assert {row["Value"] for row in pooled if row["time"] > past.begin + HOUR} == {1}  # HTCondor lends nothing


def _fact(site: Site, worker: str, what: str, *, past: bool = False) -> Any:
    """Return one fact of `bbq info worker`."""
    said = {row["what"]: row["value"] for row in site.ask("info", "worker", worker, past=past)["worker"]}
    return said.get(what)

"""What a run holds on each of its workers, where it is on several."""

from pathlib import Path

from exporter.readings import Feed, Kind
from tests.slurm_says import commands, marked, queued, source_of

JOBS, WORKERS, ACCOUNTING = (Feed(kind=kind) for kind in (Kind.JOBS, Kind.WORKERS, Kind.ACCOUNTING))
NOTHING_PRIVATE = "PrivateData             = none\n"


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
    played = source_of(folder)
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
    assert [each.cpus for each in source_of(folder).read_jobs(JOBS).jobs[0].runs[0].workers] == [None, None]
    # and where nobody tells
    commands(folder, **answers)
    assert [each.cpus for each in source_of(folder).read_jobs(JOBS).jobs[0].runs[0].workers] == [None, None]


def test_few_shares_are_asked_for_in_a_poll(tmp_path: Path) -> None:
    rows = [queued(JobID=str(number), **SPREAD) for number in range(20, 32)]
    folder = commands(
        tmp_path / "bin", squeue=marked(rows).decode(), scontrol_config=NOTHING_PRIVATE, scontrol_job=DETAIL.format(resized="")
    )  # fmt: skip
    played = source_of(folder)
    calls = [played.read_jobs(JOBS).calls for _ in range(4)]
    assert calls == [7, 6, 3, 1]
    assert all(each.cpus for job in played.read_jobs(JOBS).jobs for each in job.runs[0].workers)

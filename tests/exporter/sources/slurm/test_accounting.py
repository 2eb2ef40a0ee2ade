"""What other sites' accounting tells: federations, resizes, values that are none, times that are too long."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from exporter.readings import Feed, Kind
from exporter.reconcile import windows
from exporter.sources import TooMany
from history.db import schema
from history.ingest.job_rows import no_rows, rows_of
from history.ingest.merge import merge
from history.ingest.store import History
from history.reconcile.audit import Audit
from history.records import Job, Run
from history.vocabulary import Outcome, State
from tests.slurm_says import NOW, accounted, commands, marked, queued, source_of, step, told

JOBS, WORKERS, ACCOUNTING = (Feed(kind=kind) for kind in (Kind.JOBS, Kind.WORKERS, Kind.ACCOUNTING))
NOTHING_PRIVATE = "PrivateData             = none\n"


def test_a_revoked_copy_of_a_federated_job_is_no_job_of_this_cluster() -> None:
    """It is kept as bookkeeping for the one that runs elsewhere, which counts nowhere here."""
    job, unknown = told(accounted(State="REVOKED", Start="None", NodeList="None assigned"))
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
            known = merge(known, [told(rows[place])[0]])
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
    job, _ = told(row, *steps)
    assert job.runs[0].outcome is outcome
    if state == "REQUEUED":
        assert job.state is State.PENDING and job.outcome is None and job.ended_at is None
    if batch is not None and state == "REQUEUED":
        code, _, signal = batch[1].partition(":")
        assert (job.runs[0].exit_code or 0, job.runs[0].exit_signal or 0) == (int(code), int(signal))


def test_a_run_is_used_without_the_time_it_was_suspended() -> None:
    """From sacct: 100 s with 60 s of suspension are 40."""
    job, _ = told(accounted(Suspended="00:01:00"))
    assert job.runs[0].suspended_seconds == 60
    assert told(accounted())[0].runs[0].suspended_seconds is None


TOO_LARGE = "18446744073709551614"


@pytest.mark.parametrize(
    "changed",
    [
        {"AllocTRES": f"cpu=2,mem={TOO_LARGE}"}, {"ReqTRES": "cpu=2,mem=16?"}, {"Eligible": TOO_LARGE},
        {"Start": "x"}, {"Suspended": "never"}, {"Suspended": "99999-00:00:00"}, {"NodeList": "n[1-99999999]"}, {"ExitCode": "x:y"},
    ],
)  # fmt: skip
def test_a_value_of_accounting_that_cannot_be_read_costs_itself(changed: dict[str, str]) -> None:
    job, unknown = told(accounted(**changed))
    assert job.outcome is Outcome.COMPLETED and job.ended_at is not None and job.owner == "alice"
    assert unknown and {value.field for value in unknown} == {"slurm_value"}


def test_a_step_that_cannot_be_read_costs_its_values(tmp_path: Path) -> None:
    row = accounted()
    job, unknown = told(row, step(row, MaxRSS="16?"), step(row, "0", MaxRSS="100M"))
    assert job.used_memory_bytes == 100 << 20 and len(unknown) == 1


def test_an_end_is_never_before_its_start_or_submission() -> None:
    """A clock that was set back."""
    job, _ = told(accounted(Submit="1795446324", Start="1795446330", End="1795446300"))
    assert job.ended_at == job.runs[0].ended_at == job.runs[0].started_at


def test_a_time_that_slurmdbd_finds_too_long_is_narrowed(tmp_path: Path) -> None:
    """MaxQueryTimeRange."""
    folder = commands(tmp_path / "bin")
    (folder / "sacct").write_text(
        '#!/bin/sh\nfor a in "$@"; do case $a in --starttime=uts*) s=${a#--starttime=uts};; --endtime=uts*) e=${a#--endtime=uts};; esac; done\n'
        f"echo $((e - s)) >> {folder}/asked\n"
        "[ $((e - s)) -le 3600 ] || { echo 'sacct: error: Too wide of a date range in query' >&2; exit 1; }\n"
    )
    page = source_of(folder).read_accounting(ACCOUNTING, None, NOW)
    asked = [seconds for line in (folder / "asked").read_text().split() if (seconds := int(line)) > 0]
    assert asked[0] > 3600 >= asked[-1] and not page.complete
    with pytest.raises(TooMany):
        source_of(folder).read_window(ACCOUNTING, NOW.replace(hour=0), NOW, NOW - NOW)


def test_a_setting_that_keeps_gpus_from_accounting_is_named(tmp_path: Path) -> None:
    folder = commands(tmp_path / "bin", scontrol_config="GresTypes = gpu,shard\nAccountingStorageTRES = cpu,mem,node\n")
    (said,) = source_of(folder).remarks()
    assert "AccountingStorageTRES of slurm.conf is without gres/gpu" in said
    commands(folder, scontrol_config="GresTypes = gpu\nAccountingStorageTRES = cpu,mem,gres/gpu\n")
    assert source_of(folder).remarks() == []


def test_the_part_of_a_run_before_a_resize_is_a_part(tmp_path: Path) -> None:
    """In accounting."""
    job, unknown = told(accounted(State="RESIZING", NodeList="n[1-2]", NNodes="2"))
    assert unknown == [] and job.state is State.RUNNING and job.ended_at is None and job.outcome is None
    assert job.runs[0].resized and job.runs[0].ended_at is not None and job.runs[0].accounted


def test_gpu_use_that_the_site_gathers(tmp_path: Path) -> None:
    """gres/gpuutil is a percentage of each task's time, added up; 100 s at 150 % are 150 s of GPUs."""
    row = accounted(AllocTRES="cpu=2,gres/gpu=2,gres/gpu:a100=2,mem=1G")
    job, _ = told(row, step(row, "0", TRESUsageInTot="cpu=00:01:00,gres/gpumem=2048M,gres/gpuutil=150,mem=1G"))
    assert job.runs[0].used_gpu_seconds == 150 and job.runs[0].used_gpu_memory_bytes == 2 << 30
    assert told(row, step(row))[0].runs[0].used_gpu_seconds is None


def test_what_is_no_id_is_not_asked_for(tmp_path: Path) -> None:
    """H21's brother: one made-up id would end the question for all."""
    folder = commands(tmp_path / "bin", sacct="")
    source_of(folder).read_named(ACCOUNTING, ["12", "x'; --", "13_4", "14+1"], NOW)
    # accounting has a part that never started by its own id alone
    assert (folder / "calls").read_text().rstrip().endswith("--jobs=12,13_4,14,15")
    assert source_of(folder).read_named(ACCOUNTING, ["rubbish"], NOW).calls == 0


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
    played = source_of(folder)
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

"""How runs end at other pools, and who is to blame."""

from datetime import datetime
from typing import Any

import pytest

from exporter.readings import Kind
from history.vocabulary import Outcome
from tests.htcondor_says import SCHEDD, Pool, Site, at, completed, epoch, job, running, stored_job

WORKERS, ACCOUNTING = Kind.WORKERS, Kind.ACCOUNTING
HOUR = 3600


def seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


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
    (run,) = stored_job(site.history, "s#1.0").runs
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
        (run,) = stored_job(site.history, native_id).runs
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
    assert {run.outcome for n in range(1, 11) for run in stored_job(site.history, f"s#{n}.0").runs} == {
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


def _fact(answer: Any, name: str) -> Any:
    """Return what `bbq info job` says of a fact."""
    facts = next(part for key, part in answer.items() if key.startswith("job"))
    if isinstance(facts, dict):
        return facts.get(name)
    return {each["what"]: each["value"] for each in facts}.get(name)


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

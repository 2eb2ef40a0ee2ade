"""Submissions of which not all jobs are made at once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from exporter.readings import Kind
from history.admin.prune import prune
from history.db import schema
from history.questions import Scope
from history.questions.search import Filters, search
from tests.htcondor_says import SCHEDD, Pool, Site, at, completed, job

WORKERS, ACCOUNTING = Kind.WORKERS, Kind.ACCOUNTING


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


def test_a_search_says_how_many_wait_that_have_no_rows(site: Site, pool: Pool, t: int) -> None:
    pool.queue[SCHEDD] = [job(1, t - 60, Owner="bob"), *late(7, t, 1000, 5)]
    site.poll(t + 60)
    told = "more wait that their scheduler has not made yet: they are counted, and have no rows"
    for filters, note in (
        (Filters(state=("pending",)), [f"995 {told}"]),
        (Filters(state=("running", "pending"), owner=("alice",), queue=(SCHEDD,)), [f"995 {told}"]),
        (Filters(state=("pending",), owner=("bob",)), []),
        (Filters(state=("running",), owner=("alice",)), []),
        (Filters(state=("pending",), name="x*"), []),
        (Filters(), []),
    ):
        with site.history._engine.connect() as connection:
            scope = Scope(statements=[], notes=[])
            search(connection, scope, filters)
        assert scope.notes == note, filters


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

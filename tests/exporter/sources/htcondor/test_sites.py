"""Situations of other pools that no pool of ours had made by itself: ids that come again, edited times, late records."""

from datetime import UTC, datetime

from sqlalchemy import URL, insert, select

from exporter.reconcile import windows
from history.db import schema
from history.ingest.store import History
from tests.htcondor_says import SCHEDD, Pool, Site, at, completed, job, running

HOUR = 3600


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

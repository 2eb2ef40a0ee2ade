"""The HTCondor source on captured ads of 23.9 and 25.14."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from exporter.readings import AccountingPage, Feed, Kind
from exporter.sources import AnswerUnreadable, CommandFailed, CommandTimeout
from exporter.sources.htcondor import Settings, Source, ads, machines
from history.ingest.merge import merge
from history.records import Job
from history.settings import Duration
from history.vocabulary import Outcome, State, Waiting, WorkerFlag, WorkerState
from tests.htcondor_says import settings
from tests.replay import HTCONDOR, captured, pool

NOW = datetime(2026, 11, 23, 16, 30, tzinfo=UTC)
SUITES = {"23.9": "trixie", "25.14": "sid"}


@pytest.fixture(params=HTCONDOR)
def version(request: pytest.FixtureRequest) -> str:
    version: str = request.param
    return version


@pytest.fixture
def played(version: str) -> Source:
    return Source(settings(), ask=pool(version))


def feed(kind: Kind, version: str, letter: str = "A") -> Feed:
    return Feed(kind=kind, queue=f"schedd{letter.lower()}@schedd-{SUITES[version]}.pool.test")


def test_feeds_are_one_a_schedd(played: Source, version: str) -> None:
    assert played.version() == version
    names = {each.name for each in played.feeds()}
    assert names == {
        "workers",
        "scheduler",
        "limits",
        "shares",
        *(feed(kind, version, letter).name for kind in (Kind.JOBS, Kind.ACCOUNTING) for letter in "AB"),
    }


def test_schedds_the_collector_has_not_named_for_a_day_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    now = NOW
    monkeypatch.setattr("exporter.sources.htcondor._now", lambda: now)
    named = ["a", "b"]
    source = Source(settings(), ask=lambda questions: [[json.dumps([name]).encode() for name in named]])
    queues = {feed.queue for feed in source.feeds(["past"])}
    assert queues == {None, "a", "b", "past"}
    for number in range(30):
        source._know(["a", f"guest{number}"])
    now += timedelta(hours=23)
    source._know(["a"])
    assert len(source.feeds()) == 4 + 2 * 32
    now += timedelta(hours=2)
    assert {feed.queue for feed in source.feeds()} == {None, "a"}
    source._know(["b"])
    assert {feed.queue for feed in source.feeds()} == {None, "a", "b"}
    chosen = Source(settings(schedds=("x", "y")), ask=lambda questions: [])
    assert {feed.queue for feed in chosen.feeds(["past"])} == {None, "x", "y"}


def test_queue(played: Source, version: str) -> None:
    reading = played.read_jobs(feed(Kind.JOBS, version))
    assert reading.unknown == ()
    states = Counter(job.state for job in reading.jobs)
    assert states[State.RUNNING] >= 9 and states[State.HELD] >= 5 and states[State.SUSPENDED] == 1
    assert {job.queue for job in reading.jobs} == {feed(Kind.JOBS, version).queue}
    running = next(job for job in reading.jobs if job.state is State.RUNNING and job.requested_cpus == 4)
    assert running.owner == "weird-user.x" and running.account == "group_bio"
    assert running.runs[0].workers[0].worker.startswith("wn") and running.runs[0].ended_at is None
    assert running.requested_memory_bytes == 3000 << 20
    waits = {job.waiting for job in reading.jobs if job.state is State.PENDING}
    assert Waiting.RESOURCES in waits
    assert {job.vo for job in reading.jobs} >= {"atlas", None}
    late = {unmade.owner: unmade.count for unmade in reading.unmade}
    assert late == {"carol": 20, "alice": 36}


def test_workers(played: Source) -> None:
    reading = played.read_workers(Feed(kind=Kind.WORKERS))
    workers = {worker.name.partition(".")[0]: worker for worker in reading.workers}
    assert {name: worker.cpus for name, worker in workers.items()} == {"wn1": 16, "wn2": 8, "wn3": 4}
    assert workers["wn1"].gpus[0].model == "Tesla V100-PCIE-16GB" and workers["wn1"].gpus[0].total == 2
    assert workers["wn2"].gpus[0].model == "gpu"
    assert all(0 <= (worker.cpus_allocated or 0) <= (worker.cpus or 0) for worker in workers.values())
    assert reading.unknown == () and len(reading.queues) == 2


def test_draining_workers(version: str) -> None:
    rows = [json.loads(line) for line in captured("htcondor", version, "machines_draining").splitlines()]
    unknown: list[Any] = []
    workers = machines.workers([{name: row.get(name) for name in machines.MACHINES} for row in rows], unknown)
    draining = [worker.name.partition(".")[0] for worker in workers if WorkerFlag.DRAINING in worker.flags]
    assert "wn2" in draining and unknown == []


def pages(source: Source, feed: Feed, watermark: str | None, now: datetime) -> Iterator[AccountingPage]:
    """Read accounting up to now, as a poller does."""
    while True:
        page = source.read_accounting(feed, watermark, now)
        yield page
        watermark = page.watermark
        if page.complete:
            return


def ended(played: Source, version: str, letter: str = "A") -> dict[str, list[Job]]:
    by_id: dict[str, list[Job]] = {}
    for page in pages(played, feed(Kind.ACCOUNTING, version, letter), None, NOW):
        assert page.unreadable == () and page.gaps == ()
        for job in page.jobs:
            by_id.setdefault(job.native_id, []).append(job)
    return {native_id: merge([], jobs) for native_id, jobs in by_id.items()}


def of(jobs: dict[str, list[Job]], cluster: int) -> Job:
    (job,) = next(
        found
        for native_id, found in jobs.items()
        if native_id.startswith("schedda") and native_id.endswith(f"#{cluster}.0")
    )
    return job


def test_history_and_runs(played: Source, version: str) -> None:
    jobs = ended(played, version)
    assert of(jobs, 1).outcome is Outcome.COMPLETED and len(of(jobs, 1).runs) == 1
    assert (of(jobs, 2).outcome, of(jobs, 2).exit_code) == (Outcome.FAILED, 3)
    assert (of(jobs, 3).outcome, of(jobs, 3).exit_code, of(jobs, 3).exit_signal) == (Outcome.FAILED, None, 9)
    never = of(jobs, 5)
    assert (never.outcome, never.runs, never.exit_code) == (Outcome.CANCELLED, (), None)
    removed = of(jobs, 6)
    assert removed.outcome is Outcome.CANCELLED and removed.runs[-1].outcome is Outcome.CANCELLED
    held = of(jobs, 8)
    assert [run.outcome for run in held.runs] == [Outcome.PREEMPTED, Outcome.COMPLETED]
    assert [run.exit_signal for run in held.runs] == [15, None]  # a stale ExitSignal is not read
    assert len(of(jobs, 13).runs) == 3 and of(jobs, 13).outcome is Outcome.CANCELLED
    assert [run.outcome for run in of(jobs, 12).runs] == [Outcome.FAILED] * 3
    twice = of(jobs, 10)  # two identical epochs of one run
    assert len(twice.runs) == 1 and (twice.state, twice.outcome) == (State.ENDED, Outcome.UNKNOWN)
    assert all(
        run.ended_at is not None and run.ended_at >= run.started_at
        for found in jobs.values()
        for job in found
        for run in job.runs
    )


def test_runs_of_the_other_schedd_are_in_this_ones_file(played: Source, version: str) -> None:
    of_a = ended(played, version)
    theirs = [native_id for native_id in of_a if native_id.startswith("scheddb")]
    assert theirs, "schedd B's epochs are written where schedd A's are"
    of_b = ended(played, version, "B")
    both = {native_id: merge(of_a.get(native_id, []), found) for native_id, found in of_b.items()}
    evicted = both[next(native_id for native_id in of_b if native_id.endswith("#6.0"))][0]
    assert len(evicted.runs) == 2 and evicted.outcome is Outcome.COMPLETED


def test_the_same_in_any_order(played: Source, version: str) -> None:
    page = played.read_accounting(feed(Kind.ACCOUNTING, version), None, NOW)
    there: dict[str, list[Job]] = {}
    back: dict[str, list[Job]] = {}
    for job in page.jobs:
        there[job.native_id] = merge(there.get(job.native_id, []), [job])
    for job in reversed(page.jobs):
        back[job.native_id] = merge(back.get(job.native_id, []), [job])
    assert there == back


def test_removed_after_it_had_completed() -> None:
    ad = dict.fromkeys(ads.HISTORY) | {
        "GlobalJobId": "s@h#1.0#100", "QDate": 100, "Owner": "alice", "JobStatus": 3, "CompletionDate": 150,
        "EnteredCurrentStatus": 190, "JobCurrentStartDate": 120, "ExitCode": 0, "ExitBySignal": False, "JobUniverse": 5,
    }  # fmt: skip
    job = ads.ended(ad)
    assert job.outcome is Outcome.COMPLETED and job.ended_at == datetime.fromtimestamp(150, UTC)


def test_a_routed_job_is_kept_and_has_no_runs() -> None:
    ad = dict.fromkeys(ads.QUEUE) | {
        "GlobalJobId": "s@h#1.0#100", "QDate": 100, "Owner": "alice", "JobStatus": 2, "EnteredCurrentStatus": 120,
        "JobCurrentStartDate": 120, "RoutedToJobId": "2.0", "JobUniverse": 5,
    }  # fmt: skip
    job = ads.live(ad, [])
    assert job.routed_to == "2.0" and job.runs == ()


def test_a_status_that_no_release_has_yet() -> None:
    ad = dict.fromkeys(ads.QUEUE) | {
        "GlobalJobId": "s@h#1.0#100",
        "QDate": 100,
        "Owner": "alice",
        "JobStatus": 9,
        "JobUniverse": 5,
    }
    unknown: list[Any] = []
    job = ads.live(ad, unknown)
    assert job.state is State.UNKNOWN and job.native_state == "9"
    assert [(value.field, value.value) for value in unknown] == [("htcondor_job_status", "9")]


def test_a_hibernating_machine_is_down() -> None:
    ad = dict.fromkeys(machines.MACHINES) | {
        "Machine": "w",
        "State": "Unclaimed",
        "PartitionableSlot": True,
        "TotalSlotCpus": 8,
        "Cpus": 8,
        "Offline": True,
    }
    (worker,) = machines.workers([ad], [])
    assert worker.state is WorkerState.DOWN and worker.flags == (WorkerFlag.POWERED_DOWN,)


def test_absurd_numbers_are_not_said_and_an_odd_job_stops_nothing() -> None:
    good = dict.fromkeys(ads.QUEUE) | {
        "GlobalJobId": "s@h#1.0#100",
        "ProcId": 0,
        "QDate": 100,
        "Owner": "alice",
        "JobStatus": 1,
        "JobUniverse": 5,
    }
    absurd = good | {
        "GlobalJobId": "s@h#2.0#100",
        "RequestMemory": 1e19,
        "RequestCpus": 1 << 70,
        "AcctGroup": "x" * 5000,
        "ExitCode": 1 << 40,
    }
    broken = good | {"GlobalJobId": "s@h#3.0#100", "JobStatus": "soon"}
    lines = [
        json.dumps(list(ad.values())).encode()
        for ad in (*({**good, "GlobalJobId": f"s@h#9.{proc}#100"} for proc in range(200)), absurd, broken)
    ]
    reading = Source(settings(), ask=lambda _: [lines]).read_jobs(Feed(kind=Kind.JOBS, queue="s"))
    assert len(reading.jobs) == 201
    (odd,) = [job for job in reading.jobs if job.native_id == "s@h#2.0"]
    assert (odd.requested_memory_bytes, odd.requested_cpus, len(odd.account or "")) == (None, None, 250)
    assert [value.field for value in reading.unknown] == ["htcondor_job"]


def test_a_job_removed_while_it_was_held_did_not_run_until_then() -> None:
    ad = dict.fromkeys(ads.HISTORY) | {
        "GlobalJobId": "s@h#1.0#100", "QDate": 100, "Owner": "alice", "JobStatus": 3, "LastJobStatus": 5, "EnteredCurrentStatus": 90_000,
        "JobCurrentStartDate": 120, "LastRemoteHost": "slot1@w", "LastRemoteWallClockTime": 80.0, "JobUniverse": 5,
    }  # fmt: skip
    (run,) = ads.ended(ad).runs
    assert (run.ended_at, run.outcome) == (datetime.fromtimestamp(200, UTC), Outcome.PREEMPTED)


def test_a_run_lasts_until_its_busy_schedd_knows_of_its_end() -> None:
    """Seen on 23.9: a start that was refused at once, of whose shadow's end the schedd knew ten seconds later."""
    who = {"GlobalJobId": "s@h#3.99#1795711809", "Owner": "alice", "JobUniverse": 5, "ExitBySignal": False}
    first = dict.fromkeys(ads.EPOCHS) | who | {
        "JobCurrentStartDate": 1795711847, "EpochWriteDate": 1795711847, "NumShadowStarts": 1,
        "RemoteWallClockTime": 0.0, "RemoteHost": "slot1_8@wn2", "VacateReasonCode": 1029,
    }  # fmt: skip
    second = dict.fromkeys(ads.EPOCHS) | who | {
        "JobCurrentStartDate": 1795711861, "EpochWriteDate": 1795711863, "NumShadowStarts": 2,
        "RemoteWallClockTime": 10.0, "RemoteHost": "slot1@wn3", "ExitCode": 0,
    }  # fmt: skip
    over = dict.fromkeys(ads.HISTORY) | who | {
        "JobCurrentStartDate": 1795711861, "CompletionDate": 1795711863, "EnteredCurrentStatus": 1795711863,
        "NumShadowStarts": 2, "LastRemoteWallClockTime": 2.0, "LastRemoteHost": "slot1@wn3", "ExitCode": 0,
        "JobStatus": 4, "LastJobStatus": 2,
    }  # fmt: skip
    seen = [ads.epoch(first), ads.epoch(second), ads.ended(over)]
    for order in permutations(seen):
        known: list[Job] = []
        for job in order:
            known = merge(known, [job])
        assert merge(known, seen) == known
        (job,) = known
        # the schedd's RemoteWallClockTime of the whole job is 12.0
        assert [(run.ended_at - run.started_at).total_seconds() for run in job.runs if run.ended_at] == [10, 2]


def test_a_dead_collector_is_told_in_one_line() -> None:
    source = Source(settings(timeout=Duration(20)))
    with pytest.raises(CommandFailed, match=r"no collector answers: 127\.0\.0\.1:1: ") as caught:
        source.feeds()
    assert "\n" not in str(caught.value)


def test_half_an_answer_and_rubbish_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from exporter.sources.htcondor import asking

    for answer in (b"", b"[1]\n[2]\n", b'[1]\n{"end": 2}\n', b'{"end": 0}\n{"end": 0}\n', b"\xff\xfe\x00rubbish"):
        monkeypatch.setattr(asking, "run", lambda *_, _answer=answer, **__: _answer)
        with pytest.raises(AnswerUnreadable):
            Source(settings()).feeds()
    monkeypatch.setattr(asking, "run", lambda *_, **__: b'{"rubbish": 1}\n{"end": 1}\n')
    with pytest.raises(AnswerUnreadable, match="newer than BBQ"):
        Source(settings()).read_jobs(Feed(kind=Kind.JOBS, queue="s"))


def test_a_collector_that_never_answers_is_given_up(tmp_path: Any) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        source = Source(
            Settings(name="grid", scheduler="htcondor", collectors=(f"127.0.0.1:{port}",), timeout=Duration(2))
        )
        with pytest.raises((CommandTimeout, CommandFailed)):
            source.feeds()

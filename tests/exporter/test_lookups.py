"""Who is asked for by name, and when again: each job less often as it grows older, and nobody behind the others."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from exporter.lookups import ROUND_SECONDS, due
from exporter.readings import Feed, Kind
from exporter.recorder import MAX_MISSING, MISSING_AFTER, MISSING_FOR, Recorder
from history.ingest.store import History
from history.records import Job
from history.vocabulary import Outcome, State

T = datetime(2026, 3, 1, 12, tzinfo=UTC)
FEED = Feed(kind=Kind.ACCOUNTING)
ROUND = timedelta(seconds=ROUND_SECONDS)


def gone(native_id: str, ended_at: datetime) -> Job:
    return Job(
        native_id=native_id,
        submitted_at=T - timedelta(days=9),
        attempt_at=T - timedelta(days=9),
        owner="alice",
        state=State.ENDED,
        outcome=Outcome.UNKNOWN,
        ended_at=ended_at,
    )


def test_a_job_has_a_turn_each_time_its_age_has_doubled() -> None:
    """Rounds 1 and 2, then one of 3-4, one of 5-8, one of 9-16, ... one of 513-1024: a week has 1,008."""
    for native_id in ("7", "12_4", "20+1", "8123456"):
        turns = [age for age in range(1, 1025) if due([(native_id, T)], None, T + age * ROUND, 10)]
        bands = Counter(0 if age == 1 else (age - 1).bit_length() for age in turns)
        assert bands == dict.fromkeys(range(11), 1)


def test_rounds_that_were_missed_are_made_up_for() -> None:
    jobs = [(str(number), T) for number in range(200)]
    # T is the first moment of a round, number 0 here: between the rounds 4 and 8 each has one turn
    before = int(T.timestamp()) // ROUND_SECONDS
    assert sorted(due(jobs, before + 4, T + 8 * ROUND, 500)) == sorted(name for name, _ in jobs)
    assert due(jobs, before + 8, T + 8 * ROUND, 500) == []


def test_a_thousand_jobs_that_never_get_an_answer_leave_room_for_others(history: History) -> None:
    history.begin_cluster("local", "slurm", "24.11", T)
    stuck = [gone(str(number), T - timedelta(hours=1)) for number in range(10_000, 11_000)]
    history.save_jobs("local", "accounting", stuck, seen_at=T)
    asked: Counter[str] = Counter()
    for number in range(60):
        now = T + number * ROUND
        recorder = Recorder(history)  # as after a restart in every round
        late = gone(str(number), now - timedelta(minutes=15))
        history.save_jobs("local", "accounting", [late], seen_at=now)
        wanted = recorder.missing("local", FEED, now)
        recorder.asked("local", FEED, now)
        assert str(number) in wanted and len(wanted) <= MAX_MISSING
        assert recorder.missing("local", FEED, now) == []
        asked.update(name for name in wanted if len(name) == 5)
    # they are 6 rounds old at first, and 65 at last: one turn in 6-8 at most, then one of 9-16, of 17-32, of 33-64
    assert len(asked) == 1000 and set(asked.values()) <= {3, 4, 5}


def test_where_too_many_have_their_turn_all_are_asked_for_in_time() -> None:
    jobs = [(str(number), T) for number in range(4_000)]
    asked: Counter[str] = Counter()
    for age in range(1, int(MISSING_FOR / ROUND)):
        wanted = due([*jobs, (f"young {age}", T + age * ROUND - MISSING_AFTER)], None, T + age * ROUND, 500)
        assert len(wanted) <= 500 and f"young {age}" in wanted
        asked.update(wanted)
    assert all(asked[name] for name, _ in jobs)


def test_only_the_jobs_of_a_feeds_own_queue_are_asked_for(history: History) -> None:
    history.begin_cluster("local", "slurm", "24.11", T)
    history.save_jobs("local", "accounting", [gone("7", T - timedelta(minutes=15))], seen_at=T)
    assert Recorder(history).missing("local", Feed(kind=Kind.ACCOUNTING, queue="s1"), T) == []
    assert Recorder(history).missing("local", FEED, T) == ["7"]

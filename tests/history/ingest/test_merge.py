"""Merging: the same truth in whatever order, however often and in whatever pages a job is observed."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from history.ingest.merge import merge
from history.records import Job, Run
from history.vocabulary import Outcome, State
from tests.lives import SHARED, accounted, at, live, some_lives


def test_a_requeue_is_another_run_of_the_same_job() -> None:
    first, second = accounted(0, 10, 20, "REQUEUED", Outcome.PREEMPTED), accounted(20, 140, 150)
    (job,) = merge([], [first, second])
    assert job.submitted_at == at(0) and job.attempt_at == at(20) and job.ended_at == at(150)
    assert [run.outcome for run in job.runs] == [Outcome.PREEMPTED, Outcome.COMPLETED]


def test_a_node_failure_and_a_preemption_are_too() -> None:
    for native_state, outcome in (("NODE_FAIL", Outcome.NODE_FAIL), ("PREEMPTED", Outcome.PREEMPTED)):
        (job,) = merge([], [accounted(0, 10, 20, native_state, outcome), live(20)])
        assert job.state is State.PENDING and len(job.runs) == 1 and job.outcome is None and job.ended_at is None


def test_after_any_other_end_the_id_is_recycled() -> None:
    old, new = merge([], [accounted(0, 10, 20), accounted(500, 510, 520, "FAILED", Outcome.FAILED)])
    assert (old.submitted_at, new.submitted_at) == (at(0), at(500))


def test_an_earlier_attempt_that_comes_late_changes_the_jobs_key() -> None:
    stored = merge([], [live(20, State.RUNNING, 140, requeued=True)])
    assert stored[0].submitted_at == at(20)
    (job,) = merge(stored, [accounted(0, 10, 20, "REQUEUED", Outcome.PREEMPTED)])
    assert job.submitted_at == at(0) and len(job.runs) == 2 and job.state is State.RUNNING


def test_a_queue_read_before_the_end_does_not_reopen_a_job() -> None:
    stored = merge([], [accounted(0, 10, 20)])
    (late,) = merge(stored, [live(0, State.RUNNING, 10)])
    assert late == replace(stored[0], runs=(replace(stored[0].runs[0], workers=SHARED),))  # only shares are news
    assert merge([late], [live(0, State.RUNNING, 10)]) == [late]


def test_a_recycled_id_closes_what_was_never_seen_to_end() -> None:
    old, new = merge([live(0, State.RUNNING, 10)], [live(5000)])
    assert old.state is State.ENDED and old.outcome is Outcome.UNKNOWN and old.runs[0].ended_at is not None
    assert new.state is State.PENDING


def test_the_queues_name_is_kept_when_accounting_cut_it() -> None:
    whole = "N" * 1000
    stored = merge([], [live(0, State.RUNNING, 10, name=whole)])
    cut = accounted(0, 10, 20)
    (job,) = merge(stored, [cut])
    assert job.name == whole
    assert merge([job], [cut]) == [job]


def test_a_placeholder_of_accounting_gives_way_to_its_later_word() -> None:
    import msgspec

    placeholder = msgspec.structs.replace(accounted(0, 10, 20), name="allocation")
    (job,) = merge(merge([], [placeholder]), [accounted(0, 10, 20)])
    assert job.name == "name"


def test_a_run_that_another_run_follows_has_ended_and_so_have_all_of_an_ended_job() -> None:
    def condor(state: State, *starts: int, **more: object) -> Job:
        runs = tuple(Run(attempt_at=at(start), started_at=at(start)) for start in starts)
        return Job(
            native_id="s#1.0", submitted_at=at(0), owner="alice", state=state, native_state="X", runs=runs, **more
        )  # type: ignore[arg-type]  # the keywords are Job's own

    (evicted,) = merge(merge([], [condor(State.RUNNING, 100)]), [condor(State.RUNNING, 160)])
    assert [(run.ended_at, run.outcome) for run in evicted.runs] == [(at(160), Outcome.UNKNOWN), (None, None)]
    (ended,) = merge([evicted], [condor(State.ENDED, ended_at=at(300), outcome=Outcome.COMPLETED, accounted=True)])
    assert ended.runs[1].ended_at == at(300)


def test_a_runs_own_record_says_why_it_ended_whichever_comes_first() -> None:
    """HTCondor: of the last run of a job that was removed while it waited, the job only tells that it was over."""

    def told(state: State, outcome: Outcome, **more: Any) -> Job:
        run = Run(attempt_at=at(10), started_at=at(10), ended_at=at(50), outcome=outcome, accounted=True, **more)
        native_state = None if state is State.UNKNOWN else "REMOVED"
        job = Job(
            native_id="s#1.0", submitted_at=at(0), owner="alice", state=state, native_state=native_state, runs=(run,)
        )
        ended = {"outcome": Outcome.CANCELLED, "ended_at": at(90), "accounted": True} if native_state else {}
        return replace(job, **ended)

    removed = told(State.ENDED, Outcome.PREEMPTED)
    for outcome, more in ((Outcome.NODE_FAIL, {}), (Outcome.FAILED, {"exit_code": 3}), (Outcome.PREEMPTED, {})):
        epoch = told(State.UNKNOWN, outcome, **more)
        (job,), (other,) = (merge(merge([], [first]), [then]) for first, then in ((removed, epoch), (epoch, removed)))
        assert job == other and job.outcome is Outcome.CANCELLED
        assert (job.runs[0].outcome, job.runs[0].exit_code) == (outcome, more.get("exit_code"))


@st.composite
def lives(draw: st.DrawFn) -> list[list[Job]]:
    """Draw every observation of one id."""
    return some_lives(lambda least, most: draw(st.integers(least, most)))


@settings(max_examples=200, deadline=None)
@given(lives(), st.randoms(use_true_random=False))
def test_order_repetition_and_pages_do_not_matter(jobs: list[list[Job]], chance: random.Random) -> None:
    everything = [observation for seen in jobs for observation in seen]
    together = merge([], everything)
    assert len(together) == len(jobs)
    one_by_one: list[Job] = []
    for seen in jobs:  # an id is recycled long after its last job has ended
        mixed = [*seen, *chance.sample(seen, len(seen) // 2)]
        chance.shuffle(mixed)
        for observation in mixed:
            one_by_one = merge(one_by_one, [observation])
    assert one_by_one == together
    assert merge(together, everything) == together

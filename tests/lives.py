"""Lives of jobs as they may be observed: in the queue, in accounting, requeued, late and out of order."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from history.records import Job, Run, RunWorker
from history.vocabulary import Outcome, State

T = datetime(2026, 1, 1, tzinfo=UTC)
WORKERS = (RunWorker(worker="n1"), RunWorker(worker="n2"))
SHARED = tuple(replace(each, cpus=cpus, gpus=0.0) for each, cpus in zip(WORKERS, (1.5, 0.5), strict=True))
"""Two workers as accounting tells them, and with what the queue told of them."""


def at(seconds: int) -> datetime:
    return T + timedelta(seconds=seconds)


def live(
    submit: int, state: State = State.PENDING, start: int | None = None, *, requeued: bool = False, name: str = "name"
) -> Job:
    runs = () if start is None else (Run(attempt_at=at(submit), started_at=at(start), workers=SHARED, cpus=2.0),)
    return Job(
        native_id="7", submitted_at=at(submit), attempt_at=at(submit), owner="alice", queue="q", state=state,
        native_state=state.value.upper(), requeued=requeued, runs=runs, name=name,
    )  # fmt: skip


def accounted(
    submit: int, start: int | None, end: int, native_state: str = "COMPLETED",
    outcome: Outcome | None = Outcome.COMPLETED,
) -> Job:  # fmt: skip
    again = native_state in ("REQUEUED", "RESIZING")
    runs = ()
    if start is not None:
        runs = (
            Run(
                attempt_at=at(submit),
                started_at=at(start),
                ended_at=at(end),
                outcome=outcome,
                workers=WORKERS,
                cpus=2.0,
                resized=native_state == "RESIZING",
                accounted=True,
            ),
        )
    return Job(
        native_id="7", submitted_at=at(submit), attempt_at=at(submit), owner="alice", queue="q", accounted=True,
        state=State.RUNNING if native_state == "RESIZING" else State.PENDING if again else State.ENDED,
        native_state=native_state, outcome=None if again else outcome,
        ended_at=None if again else at(end), runs=runs, name="name",
    )  # fmt: skip


def some_lives(number: Callable[[int, int], int]) -> list[list[Job]]:
    """Make every observation of one id: some jobs one after the other, each with some attempts, queue and accounting."""
    jobs: list[list[Job]] = []
    clock = 0
    for _ in range(number(1, 3)):
        seen: list[Job] = []
        attempts = number(1, 3)
        for attempt in range(attempts):
            submit = clock
            start, end = submit + number(1, 50), submit + number(60, 100)
            again = attempt > 0
            seen.append(live(submit, requeued=again))
            seen.append(live(submit, State.RUNNING, start, requeued=again))
            if number(0, 3) == 0:
                seen.append(replace(live(submit, State.SUSPENDED, start, requeued=again), lends_cpus=True))
            part, began = submit, start
            for change in range(start + 1, end, 17)[: number(0, 2)]:  # it is resized
                seen.append(accounted(part, began, change, "RESIZING", None))
                part = began = change
                resized = live(submit, State.RUNNING, start, requeued=again)
                run = replace(resized.runs[0], attempt_at=at(part), started_at=at(part))
                seen.append(replace(resized, attempt_at=at(part), runs=(run,)))
            ends = [("REQUEUED", Outcome.CANCELLED), ("NODE_FAIL", Outcome.NODE_FAIL)]
            last = attempt == attempts - 1
            how = ("COMPLETED", Outcome.COMPLETED) if last else ends[number(0, 1)]
            ending = accounted(part, began, end, *how)
            if number(0, 2) == 0:
                ending = replace(ending, runs=(replace(ending.runs[0], suspended_seconds=number(1, 9)),))
            seen.append(ending)
            if how[0] == "REQUEUED" and end - 1 > began and number(0, 1):  # it had been called completed at first
                seen.append(accounted(part, began, end - 1))
            clock = end
        clock += 1000
        jobs.append(seen)
    return jobs

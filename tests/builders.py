"""The jobs, runs and workers that tests make: one builder of each."""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from history.records import Job, Run, RunWorker
from history.vocabulary import Outcome, State, Waiting

T = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return T + timedelta(minutes=minutes)


def pending(native_id: str = "7", submit: float = 0, **more: Any) -> Job:
    usual: dict[str, Any] = {
        "native_id": native_id, "submitted_at": at(submit), "attempt_at": at(submit), "owner": "alice", "account": "physics",
        "queue": "batch", "name": "a|b\n\x1b[31m Grüße 日本", "state": State.PENDING, "native_state": "PENDING",
        "reason": "Priority", "waiting": Waiting.PRIORITY, "requested_cpus": 2.0, "requested_memory_bytes": 3 << 40,
        "requested_gpus": 0.5, "details": {"qos": "normal", "partitions": ["a", "b"]},
    }  # fmt: skip
    return Job(**{**usual, **more})


def running(native_id: str = "7", submit: float = 0, start: float = 10) -> Job:
    run = Run(
        attempt_at=at(submit),
        started_at=at(start),
        cpus=2.0,
        workers=(RunWorker(worker="n1", cpus=2.0), RunWorker(worker="n2")),
    )
    return replace(
        pending(native_id, submit), state=State.RUNNING, native_state="RUNNING", reason=None, waiting=None, runs=(run,)
    )


def ended(native_id: str = "7", submit: float = 0, start: float = 10, end: float = 20) -> Job:
    job = running(native_id, submit, start)
    run = replace(
        job.runs[0], ended_at=at(end), outcome=Outcome.COMPLETED, exit_code=0, used_cpu_seconds=1.25, accounted=True
    )
    return replace(
        job,
        state=State.ENDED,
        native_state="COMPLETED",
        outcome=Outcome.COMPLETED,
        ended_at=at(end),
        exit_code=0,
        accounted=True,
        runs=(run,),
    )

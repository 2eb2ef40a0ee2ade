"""How the simulated schedulers themselves do: they have nothing to complain of."""

from collections.abc import Mapping

from exporter.readings import SchedulerReading
from exporter.sources.demo.plan import Plan
from exporter.sources.demo.site import utc

_CALLS: Mapping[str, tuple[float, float]] = {
    "REQUEST_PARTITION_INFO": (0.8, 0.0006),
    "REQUEST_JOB_INFO": (0.4, 0.09),
    "REQUEST_NODE_INFO": (0.3, 0.004),
    "REQUEST_SUBMIT_BATCH_JOB": (0.2, 0.006),
    "MESSAGE_EPILOG_COMPLETE": (0.2, 0.002),
    "MESSAGE_NODE_REGISTRATION_STATUS": (0.05, 0.01),
}
"""Calls a second that slurmctld answers, and seconds that each takes, by message type."""
_DAY = 86_400


def htcondor(plan: Plan, now: float) -> SchedulerReading:
    """Return figures of a pool's negotiator, collector and schedds."""
    wobble = _wobble(now)
    return SchedulerReading(
        taken_at=utc(now),
        cycle_seconds={"negotiation": 4 + wobble},
        cycle_ended={"negotiation": now - 10},
        duty_cycles={"negotiator": 0.2, "collector": 0.1, **dict.fromkeys(plan.queues, 0.3 + wobble / 10)},
        calls=3,
    )


def slurmctld(plan: Plan, now: float) -> SchedulerReading:
    """Return what sdiag would tell; it begins to count anew at midnight UTC, and was started on Thursday."""
    wobble, counted = _wobble(now), now % _DAY
    calls = {kind: counted * often for kind, (often, _) in _CALLS.items()}
    seconds = {kind: calls[kind] * each for kind, (_, each) in _CALLS.items()}
    callers = _callers(plan)
    filled = plan.ended_per_second / 3
    return SchedulerReading(
        taken_at=utc(now),
        cycle_seconds={"main": wobble / 10, "backfill": 2 + wobble},
        cycle_mean_seconds={"main": 0.03, "backfill": 2.4},
        cycle_ended={"backfill": now - 20},
        queue_lengths={"agent": 0, "dbd_agent": 0},
        threads=3,
        calls_answered={kind: number // 1 for kind, number in calls.items()},
        call_seconds=seconds,
        calls_of_users={name: part * sum(calls.values()) // 1 for name, part in callers.items()},
        call_seconds_of_users={name: part * sum(seconds.values()) for name, part in callers.items()},
        backfilled={"jobs": now % (7 * _DAY) * filled // 1, "jobs_counted": counted * filled // 1},
    )


def _wobble(now: float) -> float:
    return 0.1 * (1 + now // 60 % 7)


def _callers(plan: Plan) -> Mapping[str, float]:
    """Return who makes the calls, and which part of them: one user asks for the queue in a loop."""
    busy = [owner for owner, *_ in plan.owners[:6]]
    parts = {"root": 0.3, busy[4]: 0.4, **{name: 0.05 for name in busy if name != busy[4]}}
    return {**parts, "slurm": 1 - sum(parts.values())}

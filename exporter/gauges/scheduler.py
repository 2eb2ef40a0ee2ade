"""The schedulers' own health: cycles, queues of their own, and how busy they are."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from exporter.gauges import Family, Sample
from exporter.latest import ClusterView, Part
from exporter.readings import SchedulerReading

_PARTS = frozenset({Part.SCHEDULER})


def _of(figures: Callable[[SchedulerReading], Mapping[str, float]]) -> Callable[[ClusterView], Iterable[Sample]]:
    def samples(view: ClusterView) -> Iterator[Sample]:
        if view.scheduler is not None:
            for name, value in figures(view.scheduler).items():
                yield (name,), value

    return samples


def _threads(view: ClusterView) -> Iterator[Sample]:
    if view.scheduler is not None and view.scheduler.threads is not None:
        yield (), view.scheduler.threads


def _backfilled(view: ClusterView) -> Iterator[Sample]:
    if view.scheduler is not None and "jobs" in view.scheduler.backfilled:
        yield (), view.scheduler.backfilled["jobs"]


def _family(
    name: str, label: str, figures: Callable[[SchedulerReading], Mapping[str, float]], about: str, kind: str = "gauge"
) -> Family:
    return Family(name=name, help=about, labels=(label,), samples=_of(figures), kind=kind, parts=_PARTS)


FAMILIES = (
    _family(
        "bbq_scheduler_cycle_seconds",
        "cycle",
        lambda reading: reading.cycle_seconds,
        "How long the newest scheduling cycle took: main and backfill (Slurm), negotiation (HTCondor).",
    ),
    _family(
        "bbq_scheduler_cycle_mean_seconds",
        "cycle",
        lambda reading: reading.cycle_mean_seconds,
        "How long a scheduling cycle takes on average since the scheduler began to count (Slurm: at midnight UTC).",
    ),
    _family(
        "bbq_scheduler_cycle_end_timestamp_seconds",
        "cycle",
        lambda reading: reading.cycle_ended,
        "When the newest scheduling cycle ended.",
    ),
    _family(
        "bbq_scheduler_queue_length",
        "queue",
        lambda reading: reading.queue_lengths,
        "Messages that slurmctld has not yet sent: to nodes (agent), to slurmdbd (dbd_agent).",
    ),
    _family(
        "bbq_scheduler_duty_cycle_ratio",
        "daemon",
        lambda reading: reading.duty_cycles,
        "The part of its time that an HTCondor daemon is busy (RecentDaemonCoreDutyCycle): each schedd by its name.",
    ),
    _family(
        "bbq_scheduler_rpcs_total",
        "rpc",
        lambda reading: reading.calls_answered,
        "Calls that slurmctld has answered, by message type; set back at midnight UTC.",
        "counter",
    ),
    _family(
        "bbq_scheduler_rpc_seconds_total",
        "rpc",
        lambda reading: reading.call_seconds,
        "Time that slurmctld has spent on calls, by message type; set back at midnight UTC.",
        "counter",
    ),
    _family(
        "bbq_scheduler_owner_rpcs_total",
        "owner",
        lambda reading: reading.calls_of_users,
        "Calls that slurmctld has answered, by who made them; set back at midnight UTC.",
        "counter",
    ),
    _family(
        "bbq_scheduler_owner_rpc_seconds_total",
        "owner",
        lambda reading: reading.call_seconds_of_users,
        "Time that slurmctld has spent on calls, by who made them; set back at midnight UTC.",
        "counter",
    ),
    _family(
        "bbq_scheduler_cycle_depth_mean",
        "cycle",
        lambda reading: reading.cycle_depths,
        "Jobs that a scheduling cycle looks at, on average since the scheduler began to count.",
    ),
    _family(
        "bbq_scheduler_fair_share_ratio",
        "account",
        lambda reading: reading.fair_shares,
        "Slurm's fair-share factor of an account, where it has one: 1 has used nothing of late, 0.5 just its share.",
    ),
    Family(
        name="bbq_scheduler_backfilled_jobs_total",
        help="Jobs that backfill has started since slurmctld started.",
        labels=(),
        samples=_backfilled,
        kind="counter",
        parts=_PARTS,
    ),
    Family(
        name="bbq_scheduler_threads",
        help="Threads of slurmctld that answer calls.",
        labels=(),
        samples=_threads,
        parts=_PARTS,
    ),
)

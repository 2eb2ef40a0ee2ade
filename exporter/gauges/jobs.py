"""Jobs by owner, account, VO, queue and state, and what they ask for or hold."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from exporter.gauges import Family, Sample
from exporter.history_counters import OTHER_OWNERS
from exporter.job_sums import Amount, JobsKey
from exporter.latest import ClusterView

_LABELS = ("owner", "account", "vo", "queue", "state")


def collapse(jobs: Iterable[tuple[JobsKey, Amount]], owners: int) -> dict[JobsKey, Amount]:
    """Put all but the owners with the most jobs together, so that sums stay right however many owners there are."""
    jobs = list(jobs)
    sizes: Counter[str] = Counter()
    for (owner, *_), amount in jobs:
        sizes[owner] += amount.jobs
    kept = {owner for owner, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:owners]}
    found: dict[JobsKey, Amount] = defaultdict(Amount)
    for (owner, account, vo, queue, state), amount in jobs:
        key = (owner, account, vo, queue, state) if owner in kept else (OTHER_OWNERS, "", "", queue, state)
        total = found[key]
        total.jobs += amount.jobs
        total.cpus += amount.cpus
        total.gpus += amount.gpus
        total.memory_bytes += amount.memory_bytes
    return dict(found)


def _amounts(view: ClusterView) -> dict[JobsKey, Amount]:
    return collapse((item for tally in view.tallies for item in tally.jobs.items()), view.owners)


def _collapsed(view: ClusterView) -> Iterable[Sample]:
    owners = {owner for tally in view.tallies for owner, *_ in tally.jobs}
    return [((), max(0, len(owners) - view.owners))] if view.tallies else []


def _jobs(view: ClusterView) -> Iterable[Sample]:
    return ((key, amount.jobs) for key, amount in view.once(_amounts).items())


def _cpus(view: ClusterView) -> Iterable[Sample]:
    return ((key, amount.cpus) for key, amount in view.once(_amounts).items())


def _gpus(view: ClusterView) -> Iterable[Sample]:
    return ((key, amount.gpus) for key, amount in view.once(_amounts).items() if amount.gpus)


def _memory(view: ClusterView) -> Iterable[Sample]:
    return ((key, amount.memory_bytes) for key, amount in view.once(_amounts).items())


FAMILIES = (
    Family(
        name="bbq_jobs",
        help="Jobs by state (HTCondor JobStatus, Slurm job state), as of the last reading.",
        labels=_LABELS,
        samples=_jobs,
    ),
    Family(
        name="bbq_jobs_cpus",
        help="CPUs that jobs hold (running, suspended, finishing) or ask for (pending, held), as of the last reading.",
        labels=_LABELS,
        samples=_cpus,
    ),
    Family(
        name="bbq_jobs_gpus",
        help="GPUs that jobs hold or ask for, as of the last reading; no series where there are none.",
        labels=_LABELS,
        samples=_gpus,
    ),
    Family(
        name="bbq_jobs_memory_bytes",
        help="Memory that jobs hold or ask for, as of the last reading.",
        labels=_LABELS,
        samples=_memory,
    ),
    Family(
        name="bbq_owners_collapsed",
        help="Owners with jobs in the queues that are put together as (other): the limit is limits.owners.",
        labels=(),
        samples=_collapsed,
    ),
)

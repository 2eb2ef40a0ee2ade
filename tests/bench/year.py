"""A realistic year: owners and workers unevenly busy, arrays, requeues, long tails; the same for the same seed.

Made day by day with NumPy, in the columns of the four tables; times are epoch seconds. What a day adds to the rollup is
added up with it, by the rules of `history.rollups.definitions` (a test compares the two).
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from history.db.schema import OPEN_SPAN, TOP_SPAN

END = datetime(2026, 11, 1, tzinfo=UTC)
"""When the year ends that tests make."""
DAY = 86_400
OUTCOMES = ("completed", "failed", "cancelled", "timeout", "out_of_memory", "node_fail", "preempted")
_SHARES = (0.862, 0.08, 0.03, 0.018, 0.008, 0.002)
_NATIVE = {
    "grid": ("COMPLETED", "COMPLETED", "REMOVED", "COMPLETED", "COMPLETED", "COMPLETED"),
    "local": ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"),
}
_GPUS = 80

Columns = dict[str, list[Any]]


class Chunk(NamedTuple):
    """One day's submissions, by table and column; only the columns that say something."""

    day: int
    """Midnight, epoch seconds."""
    jobs: Columns
    runs: Columns
    run_workers: Columns


class Site(NamedTuple):
    """Who and what there is on one cluster, with how often each is drawn."""

    name: str
    owners: Sequence[tuple[str, str, str]]
    """Owner, account, VO."""
    owner_shares: np.ndarray
    queues: Sequence[str]
    queue_shares: np.ndarray
    workers: Sequence[str]
    worker_shares: np.ndarray


def _zipf(count: int, power: float) -> np.ndarray:
    weights = 1.0 / np.arange(1, count + 1) ** power
    return weights / weights.sum()


def sites() -> tuple[Site, Site]:
    """Return the two clusters of the reference site."""
    vos = ("atlas", "cms", "lhcb", "belle", "ilc", "theory")
    grid_owners = [(f"{vo}{role}", f"group_{vo}.{role}", vo) for vo in vos for role in ("prd", "pil", "user")]
    local_owners = [(f"user{number:03}", f"project{number % 37:02}", "") for number in range(150)]
    rng = np.random.default_rng(7)

    def workers(prefix: str, count: int) -> tuple[list[str], np.ndarray]:
        weights = rng.lognormal(0, 0.8, count)
        return [f"{prefix}{number:04}.example.org" for number in range(count)], weights / weights.sum()

    grid_workers, local_workers = workers("grid", 765), workers("node", 423)
    schedds = [f"sched{number}.example.org" for number in range(1, 7)]
    partitions = ["batch", "short", "long", "gpu", "express", "maint"]
    return (
        Site("grid", grid_owners, _zipf(len(grid_owners), 1.1), schedds, _zipf(6, 0.4), *grid_workers),
        Site("local", local_owners, _zipf(150, 1.1), partitions, _zipf(6, 1.0), *local_workers),
    )


class Year:
    """A year of so many jobs that ends at a moment, at which some still run and some still wait."""

    def __init__(self, jobs: int, end: datetime | None = None, days: int = 365, seed: int = 1) -> None:
        """Plan it; it ends last midnight (UTC) when not said, or at another midnight."""
        end = end or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.end = int(end.timestamp())
        self.begin = self.end - days * DAY
        self._seed = seed
        rng = np.random.default_rng(seed)
        # weeks have ends, and months have deadlines
        weights = (1 + 0.35 * np.sin(np.arange(days) / 29)) * np.where((np.arange(days) + 3) % 7 < 5, 1.0, 0.55)
        weights *= rng.lognormal(0, 0.15, days)
        edges = np.floor(np.cumsum(weights) / weights.sum() * jobs + 0.5).astype(int)
        self.a_day = np.diff(edges, prepend=0)

    def chunks(self) -> Iterator[Chunk]:
        """Yield the days, the oldest first."""
        first = 0
        for number, count in enumerate(self.a_day.tolist()):
            rng = np.random.default_rng((self._seed, number))
            day = self.begin + number * DAY
            parts = []
            for site, share in zip(sites(), (0.6, 0.4), strict=True):
                size = int(count * share) if site.name == "grid" else count - int(count * 0.6)
                parts.append(_day(site, rng, day, size, first, self.end))
            first += count
            yield _together(day, parts)


def _day(site: Site, rng: np.random.Generator, day: int, size: int, first: int, now: int) -> Chunk:
    grid = site.name == "grid"
    if size == 0:
        return Chunk(day, {}, {}, {}, {})
    # an array's tasks, and a submission's procs, come together: same owner, queue, size and moment
    together = rng.integers(1, 40, size) if grid else np.where(rng.random(size) < 0.05, rng.integers(20, 200, size), 1)
    group = np.repeat(np.arange(size), together)[:size]
    task = np.arange(size) - np.searchsorted(group, group)
    groups = int(group[-1]) + 1
    submit = np.sort(_moments(rng, groups))[group] + day
    owner = rng.choice(len(site.owners), groups, p=site.owner_shares)[group]
    queue = rng.choice(len(site.queues), groups, p=site.queue_shares)[group]
    cpus = rng.choice((1, 2, 4, 8, 16, 64), groups, p=(0.55, 0.1, 0.1, 0.2, 0.04, 0.01))[group]
    gpus = np.where((not grid) & (rng.random(groups) < 0.02), rng.choice((1, 2, 4), groups), 0)[group]
    mib = cpus * rng.choice((1000, 2000, 4000, 16000), groups, p=(0.2, 0.6, 0.15, 0.05))[group]
    wait = np.minimum(rng.lognormal(np.log(1800), 1.2, size), 5 * DAY).astype(int)
    length = np.clip(rng.lognormal(np.log(3600), 1.3, size), 60, 7 * DAY).astype(int)
    outcome = rng.choice(len(_SHARES), size, p=_SHARES)
    never = (outcome == 2) & (rng.random(size) < 0.35)
    start = submit + wait
    again = (rng.random(size) < 0.05) & ~never
    # of a requeued job, the first run goes on for a while, then it waits for two minutes
    first_end = start + np.maximum(30, length // 3)
    start_last = np.where(again, first_end + 120, start)
    end = np.where(never, start, start_last + length)
    pending = (start > now) & ~never | never & (start > now)
    running = ~pending & ~never & (start_last <= now) & (end > now)
    waiting_again = ~pending & ~never & again & (start_last > now)
    cut = waiting_again & (first_end > now)
    running |= cut
    again = again & ~cut
    start_last = np.where(cut, start, start_last)
    waiting_again &= ~cut
    over = ~pending & ~running & ~waiting_again
    runs = np.where(pending | never, 0, np.where(again & ~waiting_again, 2, 1))
    efficiency = rng.beta(6, 2, size)
    used = np.round(cpus * length * efficiency, 3)
    peak = (mib * rng.uniform(0.2, 0.95, size)).astype(np.int64) << 20
    ids, parents = _ids(site, group, task, submit, first, queue, together)
    names = [site.owners[each] for each in owner.tolist()]
    queues = [site.queues[each] for each in queue.tolist()]
    bool_list = over.tolist()
    code = np.where(outcome == 1, 1 + submit % 4, 0)

    def only(which: np.ndarray, values: np.ndarray) -> list[Any]:
        return [value if yes else None for yes, value in zip(which.tolist(), values.tolist(), strict=True)]

    last_submit = np.where(again, first_end, submit)
    native = _NATIVE[site.name]
    state = np.where(over, 0, np.where(running, 1, 2)).tolist()
    jobs: Columns = {
        "native_id": ids,
        "submitted_at": submit.tolist(),
        "cluster": [site.name] * size,
        "attempt_at": [None] * size if grid else last_submit.tolist(),
        "owner": [name[0] for name in names],
        "account": [name[1] for name in names],
        "vo": [name[2] or None for name in names],
        "queue": queues,
        "name": [f"work-{each % 500}" for each in group.tolist()],
        "state": [("ended", "running", "pending")[each] for each in state],
        "outcome": [OUTCOMES[each] if yes else None for yes, each in zip(bool_list, outcome.tolist(), strict=True)],
        "native_state": [
            native[each] if yes else ("RUNNING" if which == 1 else "IDLE" if grid else "PENDING")
            for yes, each, which in zip(bool_list, outcome.tolist(), state, strict=True)
        ],
        "reason": [None if which != 2 or grid else "Priority" for which in state],
        "waiting": [None if which != 2 else "unstated" if grid else "priority" for which in state],
        "eligible_at": submit.tolist(),
        "first_started_at": only(runs > 0, start),
        "ended_at": only(over, end),
        "wait_span": np.where((runs > 0) | over, _span(start - submit), OPEN_SPAN).tolist(),
        "run_count": runs.tolist(),
        "requested_cpus": cpus.astype(float).tolist(),
        "requested_memory_bytes": (mib.astype(np.int64) << 20).tolist(),
        "requested_gpus": gpus.astype(float).tolist(),
        "requested_wall_seconds": (DAY * (1 + length // DAY)).tolist(),
        "used_cpu_seconds": only(over & (runs > 0), used),
        "used_memory_bytes": only(over & (runs > 0), peak),
        "exit_code": only(over & (runs > 0), code),
        "array_parent": parents,
        "accounted": bool_list,
        "settled": [False] * size,
        "details": [None] * size if grid else ['{"qos": "normal", "features": "avx2", "wckey": "default"}'] * size,
        "seen_at": [now] * size,
    }
    parts = [
        _runs(site, rng, np.flatnonzero(again), 1, start, first_end, jobs, cpus, gpus, mib, None, 6, grid),
        _runs(
            site, rng, np.flatnonzero((runs > 0) & ~waiting_again), runs, start_last,
            np.where(running, 0, end), jobs, cpus, gpus, mib, (used, peak, code, outcome), None, grid,
        ),
    ]  # fmt: skip
    return Chunk(day, jobs, _joined([each[0] for each in parts]), _joined([each[1] for each in parts]))


def _moments(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw seconds of a day, most of them in working hours."""
    busy = rng.normal(13 * 3600, 4 * 3600, count) % DAY
    return np.where(rng.random(count) < 0.6, busy, rng.random(count) * DAY).astype(int)


def _ids(
    site: Site,
    group: np.ndarray,
    task: np.ndarray,
    submit: np.ndarray,
    first: int,
    queue: np.ndarray,
    together: np.ndarray,
) -> tuple[list[str], list[str | None]]:
    numbers = (first + group + 10_000).tolist()
    tasks = task.tolist()
    if site.name == "grid":
        schedds = [site.queues[each] for each in queue.tolist()]
        return [f"{schedd}#{number}.{each}" for schedd, number, each in zip(schedds, numbers, tasks, strict=True)], [
            None
        ] * len(tasks)
    in_array = (together[group] > 1).tolist()
    ids = [
        f"{number}_{each}" if yes else f"{number}" for number, each, yes in zip(numbers, tasks, in_array, strict=True)
    ]
    return ids, [f"{number}" if yes else None for number, yes in zip(numbers, in_array, strict=True)]


def _span(seconds: np.ndarray) -> np.ndarray:
    return np.minimum(np.floor(np.log2(np.maximum(seconds, 1))).astype(int), TOP_SPAN)


def _runs(
    site: Site, rng: np.random.Generator, which: np.ndarray, number: Any, start: np.ndarray, end: np.ndarray, jobs: Columns,
    cpus: np.ndarray, gpus: np.ndarray, mib: np.ndarray, ended: Any, outcome: int | None, grid: bool,
) -> tuple[Columns, Columns]:  # fmt: skip
    """Return the runs of some jobs, on one worker each or, for a few, on several."""
    places = which.tolist()
    start, end = start[which], end[which]
    is_open = end == 0
    span = np.where(is_open, OPEN_SPAN, _span(end - start)).tolist()
    numbers = [1] * len(places) if isinstance(number, int) else number[which].tolist()
    attempts = (
        start.tolist()
        if grid
        else (
            [jobs["submitted_at"][each] for each in places]
            if ended is None
            else [jobs["attempt_at"][each] for each in places]
        )
    )
    ends = [None if still else value for still, value in zip(is_open.tolist(), end.tolist(), strict=True)]
    if ended is None:
        outcomes: list[Any] = [OUTCOMES[outcome or 0]] * len(places)
        used: list[Any] = [None] * len(places)
        peak, code = used, used
        kinds = np.full(len(places), outcome)
    else:
        kinds = ended[3][which]
        outcomes = [
            None if still else OUTCOMES[each] for still, each in zip(is_open.tolist(), kinds.tolist(), strict=True)
        ]
        used, peak, code = (
            [None if still else value for still, value in zip(is_open.tolist(), values[which].tolist(), strict=True)]
            for values in ended[:3]
        )
    runs: Columns = {
        **{name: [jobs[name][each] for each in places] for name in ("native_id", "submitted_at", "cluster")},
        "number": numbers,
        "attempt_at": attempts,
        "started_at": start.tolist(),
        "ended_at": ends,
        "span": span,
        **{name: [jobs[name][each] for each in places] for name in ("owner", "account", "vo", "queue")},
        "cpus": cpus[which].astype(float).tolist(),
        "gpus": gpus[which].astype(float).tolist(),
        "memory_bytes": (mib[which].astype(np.int64) << 20).tolist(),
        "outcome": outcomes,
        "exit_code": code,
        "used_cpu_seconds": used,
        "used_memory_bytes": peak,
        "accounted": (~is_open).tolist(),
        "resized": [False] * len(places),
    }
    several = np.where((not grid) & (cpus[which] >= 16), rng.integers(1, 6, len(places)), 1)
    index = np.repeat(np.arange(len(places)), several)
    names = rng.choice(len(site.workers), len(index), p=site.worker_shares)
    # the workers of one run differ: they follow the first one
    offset = np.arange(len(index)) - np.searchsorted(index, index)
    names = (names[np.searchsorted(index, index)] + offset) % len(site.workers)
    rows = index.tolist()
    alone = (several[index] == 1).tolist()
    run_workers: Columns = {
        **{name: [runs[name][each] for each in rows] for name in ("native_id", "submitted_at", "cluster", "number")},
        "worker": [site.workers[each] for each in names.tolist()],
        **{name: [runs[name][each] for each in rows] for name in ("started_at", "ended_at", "span")},
        **{
            name: [runs[name][each] if yes else None for each, yes in zip(rows, alone, strict=True)]
            for name in ("cpus", "gpus", "memory_bytes")
        },
    }
    return runs, run_workers


def _joined(parts: Sequence[Columns]) -> Columns:
    names = next((list(each) for each in parts if each), [])
    return {name: [value for each in parts if each for value in each[name]] for name in names}


def _together(day: int, parts: Sequence[Chunk]) -> Chunk:
    return Chunk(
        day,
        _joined([each.jobs for each in parts]),
        _joined([each.runs for each in parts]),
        _joined([each.run_workers for each in parts]),
    )

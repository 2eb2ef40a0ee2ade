"""How large the simulated site is and who works there: the two clusters of the reference site, made smaller."""

import msgspec

GIB = 1 << 30
_VOS = ("atlas", "cms", "lhcb", "alice", "belle", "auger")
_ACCOUNTS = ("astro", "biophys", "chem", "climate", "hep", "lattice", "medical", "theory")

Owner = tuple[str, str, str | None]
"""(owner, account, vo)."""

FILLER: Owner = ("boinc", "group_backfill", None)
"""Whose jobs take what the others leave on a worker, and go when those want it."""
FILLER_MEMORY = GIB // 4


class Kit(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker of some kind has."""

    prefix: str
    cpus: int
    memory: int
    gpus: dict[str, int] = {}
    """Whole GPUs and MIG slices by model."""
    shards: int = 0
    queues: tuple[str, ...] = ()
    """The queues it serves; none is all."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The size and habits of one simulated cluster."""

    grid: bool
    workers: int
    cpus: tuple[int, ...]
    """CPUs of the workers, taken in turn."""
    gpu_workers: int = 0
    jobs: int
    """Jobs that are in the queue at any time, running or not."""
    ended_per_second: float
    owners: tuple[Owner, ...]
    """The busiest first."""
    queues: tuple[str, ...]

    def arrivals_per_second(self) -> float:
        """Return how often somebody submits: one call is many jobs."""
        return self.ended_per_second / (2.2 if self.grid else 20.0)

    def kit(self, number: int) -> Kit:
        """Return what a worker has."""
        cpus = self.cpus[number % len(self.cpus)]
        if self.grid:
            return Kit(prefix="grid", cpus=cpus, memory=cpus * (2 if number % 9 == 4 else 4) * GIB)
        if number < self.gpu_workers:
            gpus, shards = _GPUS[number] if number < len(_GPUS) else ({("a100", "h100", "v100")[number % 3]: 4}, 0)
            return Kit(prefix="gpu", cpus=cpus, memory=cpus * 12 * GIB, gpus=gpus, shards=shards, queues=("gpu",))
        queues = ("htc", "long") if number % 3 else ("hpc",)
        return Kit(prefix="node", cpus=cpus, memory=cpus * 6 * GIB, queues=queues)


_GPUS: tuple[tuple[dict[str, int], int], ...] = (
    ({"a100": 2, "h100": 2}, 0),
    ({"a100": 3, "a100_1g.5gb": 7}, 0),
    ({"l40s": 4}, 16),
)
"""GPUs and shards of the first workers that have some: two models, one GPU cut into slices, GPUs lent in shards."""


def plan(shape: str, scale: float) -> Plan:
    """Return one of the two clusters of the reference site, made smaller."""
    if shape == "grid":
        owners: tuple[Owner, ...] = tuple(
            (f"{vo}{role}", f"group_{vo}.{role}", vo) for role in ("prd", "pilot", "user") for vo in _VOS
        )
        return Plan(
            grid=True,
            workers=max(3, round(765 * scale)),
            cpus=(32, 48, 48, 64),  # 37,000 in all
            jobs=round(50_000 * scale),
            ended_per_second=2.3 * scale,
            owners=owners,
            queues=("sched1.example.org", "sched2.example.org", "sched3.example.org"),
        )
    workers = max(3, round(423 * scale))
    return Plan(
        grid=False,
        workers=workers,
        cpus=(48, 48, 64),  # 22,500 in all
        gpu_workers=min(max(len(_GPUS), round(20 * scale)), max(1, workers // 4)),
        jobs=round(120_000 * scale),
        ended_per_second=1.75 * scale,
        owners=tuple((f"user{number:03}", _ACCOUNTS[number % len(_ACCOUNTS)], None) for number in range(1, 121)),
        queues=("htc", "hpc", "gpu", "long"),
    )

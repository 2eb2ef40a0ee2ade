"""What people submit to the simulated site: jobs, arrays, heterogeneous and parallel jobs, DAGs, factories of procs."""

import random

from exporter.sources.demo.plan import FILLER, FILLER_MEMORY, GIB, Plan
from exporter.sources.demo.reasons import ELSEWHERE, REFUSED
from exporter.sources.demo.things import Factory, SimJob

_NAMES = ("analysis", "simulate", "reco", "train", "merge", "fit", "pilot", "blast", "render", "mcmc")


class Work:
    """Draws submissions; the same ones again for the same generator."""

    def __init__(self, plan: Plan, draw: random.Random, first_id: int) -> None:
        self._plan, self._draw, self._next_id = plan, draw, first_id
        kits = [plan.kit(number) for number in range(plan.workers)]
        self._at_most = max(1, sum(kit.queues == ("hpc",) for kit in kits) // 2)
        self._slices = any("g." in model for kit in kits for model in kit.gpus)
        self._shards = any(kit.shards for kit in kits)

    def submission(self, submit: float) -> tuple[list[SimJob], Factory | None]:
        """Return the jobs of one call of condor_submit or sbatch, and what makes more of them later."""
        first = self._single(submit)
        kind = self._draw.random()
        if self._plan.grid:
            return self._on_grid(first, kind)
        if kind < 0.1:
            first.array = first.native_id
            first.gpus = min(first.gpus, 1)
            tasks = min(self._draw.randint(20, 380), max(20, self._plan.jobs // 20))
            jobs = [first.like(f"{first.array}_{task}", submit) for task in range(tasks)]
            for job in jobs:
                job.array = first.array
            return jobs, None
        if kind < 0.16 and first.queue == "htc":
            return self._het(first), None
        return [first], None

    def never(self, submit: float) -> list[SimJob]:
        """Return jobs that no worker of the grid will ever take, a few of each kind."""
        jobs = []
        for kind, (name, memory) in enumerate((("assemble", 6144 * GIB), (ELSEWHERE, GIB), (REFUSED, GIB))):
            queue = self._plan.queues[kind % len(self._plan.queues)]
            first = SimJob(self._id(queue), submit - 3600 * kind, self._plan.owners[-1 - kind], queue, name)
            first.memory = memory
            cluster = first.native_id.rpartition(".")[0]
            jobs += [first, *(first.like(f"{cluster}.{proc}", first.submit) for proc in range(1, 4))]
        return jobs

    def filler(self, submit: float) -> SimJob:
        """Return a job for the backfill slots."""
        queue = self._plan.queues[-1]
        job = SimJob(self._id(queue), submit, FILLER, queue, "fill")
        job.cpus, job.memory, job.filler = 1, FILLER_MEMORY, True
        return job

    def _on_grid(self, first: SimJob, kind: float) -> tuple[list[SimJob], Factory | None]:
        cluster = first.native_id.rpartition(".")[0]
        if kind < 0.02:
            return self._dag(first), None
        if kind < 0.03:
            factory = Factory(first, self._draw.randint(20, 120))
            return [job for job in (factory.make() for _ in range(8)) if job is not None], factory
        if kind < 0.13:
            return [first.like(f"{cluster}.{proc}", first.submit) for proc in range(self._draw.randint(2, 16))], None
        if kind < 0.15 and len(self._plan.queues) > 1:
            return self._routed(first), None
        return [first], None

    def _dag(self, manager: SimJob) -> list[SimJob]:
        manager.name, manager.cpus, manager.memory, manager.gpus = "dagman", 0, 0, 0
        nodes = [self._single(manager.submit, manager) for _ in range(self._draw.randint(4, 16))]
        for node in nodes:
            node.dag = manager.native_id
        manager.steers = nodes[2:]
        return [manager, *nodes[:2]]

    def _routed(self, original: SimJob) -> list[SimJob]:
        """Return a job and the copy of it that a job router made in another schedd."""
        queue = next(queue for queue in self._plan.queues if queue != original.queue)
        copy = original.like(self._id(queue), original.submit)
        copy.queue = queue
        # bookkeeping names the other by its id in the same schedd, or by the schedd too
        original.routed_to, copy.routed_from = copy.native_id, original.native_id
        return [original, copy]

    def _het(self, first: SimJob) -> list[SimJob]:
        """Return a small and a large part, which start together."""
        whole = first.native_id
        second = first.like(f"{whole}+1", first.submit)
        first.native_id = f"{whole}+0"
        first.cpus, second.cpus, second.memory = 1, 8, 16 * GIB
        first.het = second.het = whole
        first.het_parts = (second,)
        return [first, second]

    def _id(self, queue: str) -> str:
        self._next_id += 1
        return f"{queue}#{self._next_id}.0" if self._plan.grid else str(self._next_id)

    def _single(self, submit: float, like: SimJob | None = None) -> SimJob:
        draw = self._draw
        queue, owner = (like.queue, like.owner) if like else (self._queue(), self._owner())
        job = SimJob(self._id(queue), submit, owner, queue, f"{draw.choice(_NAMES)}_{draw.randrange(1000)}")
        if self._plan.grid:
            job.cpus = 8 if draw.random() < 0.12 else 1
            job.memory, job.wall = job.cpus * 3 * GIB, 4 * 86400
            return job
        job.cpus = draw.choice((1, 1, 1, 1, 2, 4, 8)) if queue != "hpc" else draw.choice((16, 32))
        job.memory, job.wall = job.cpus * draw.choice((2, 4, 4, 8)) * GIB, draw.choice((1, 2, 7)) * 86400
        if queue == "hpc":
            job.memory = job.cpus * draw.choice((2, 4)) * GIB
            job.nodes = min(draw.choice((1, 1, 1, 2, 4)), self._at_most)
        elif queue == "gpu":
            what = draw.random()
            if what < 0.15 and self._shards:
                job.shards = draw.choice((1, 2, 4))
            elif what < 0.4 and self._slices:
                job.gpus, job.slices = draw.choice((1, 1, 2)), True
            else:
                job.gpus = draw.choice((1, 2, 4))
        return job

    def _owner(self) -> tuple[str, str, str | None]:
        owners = self._plan.owners
        index = int(len(owners) * self._draw.random() ** 2.2)  # the first ones are the busiest
        return owners[min(index, len(owners) - 1)]

    def _queue(self) -> str:
        queues = self._plan.queues
        if self._plan.grid:
            return self._draw.choice(queues)
        return self._draw.choices(queues, (56, 15, 10, 19))[0]

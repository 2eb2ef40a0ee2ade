"""The GPUs: how many of each model, who has them, and who waits for them."""

from collections import defaultdict

from sqlalchemy import Connection, func, select

from history.questions import Scope, placed_runs, run
from history.questions.moment import holding, in_queue
from history.questions.workers import at_moment
from history.render import Answer
from history.schema import run_workers, runs

UNTOLD = "(not said)"
"""The model of a GPU on a worker that has several, or that is not known."""
OUT = frozenset({"draining", "maintenance", "not_responding", "powered_down", "reserved"})
"""Flags of a worker whose free GPUs nobody can have."""


def gpus(connection: Connection, scope: Scope) -> list[Answer]:
    """Tell of each model how many there are and are used, then who has them, and who waits."""
    models: dict[tuple[str, str], str] = {}
    out: dict[tuple[str, str], dict[str, float]] = {}
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0])
    for worker in at_moment(connection, scope):
        names = {each["model"] for each in worker.gpus or ()}
        models[worker.cluster, worker.worker] = names.pop() if len(names) == 1 else UNTOLD
        for each in worker.gpus or ():
            sums = totals[worker.cluster, each["model"]]
            sums[0] += float(each["total"] or 0)
            sums[3] += 1
            if worker.state != "up" or not OUT.isdisjoint(worker.flags.split(",")):
                out.setdefault((worker.cluster, worker.worker), {})[each["model"]] = float(each["total"] or 0)
    held = (run_workers.c.cluster, run_workers.c.worker, runs.c.owner, runs.c.account)
    query = (
        select(*held, func.sum(run_workers.c.gpus), func.count())
        .select_from(placed_runs())
        .where(holding(scope), runs.c.gpus > 0, run_workers.c.gpus > 0, *scope.among(runs))
        .group_by(*held)
    )  # fmt: skip
    holders: dict[tuple[str, str, str, str], list[float]] = defaultdict(lambda: [0.0, 0])
    for cluster, worker_name, owner, account, used, count in run(connection, scope, query):
        model = models.get((cluster, worker_name), UNTOLD)
        totals[cluster, model][1] += float(used)
        _take(out.get((cluster, worker_name), {}), float(used))
        sums = holders[cluster, model, owner, account or ""]
        sums[0] += float(used)
        sums[1] += count
    for (cluster, _), left in out.items():
        for model, free in left.items():
            totals[cluster, model][2] += max(0.0, free)
    queued = in_queue(scope)
    who = (queued.c.cluster, queued.c.queue, queued.c.owner)
    waiting = (
        select(*who, func.count(), func.sum(queued.c.gpus), func.min(queued.c.submitted_at))
        .where(queued.c.gpus > 0, queued.c.state == "pending")
        .group_by(*who)
        .order_by(func.sum(queued.c.gpus).desc(), queued.c.owner)
        .limit(scope.limit)
    )  # fmt: skip
    by_model = [
        (cluster, model, used, total, max(0.0, total - used - unusable) if total else None, unusable, int(count))
        for (cluster, model), (total, used, unusable, count) in sorted(totals.items())
    ]
    has = sorted(holders.items(), key=lambda each: (-each[1][0], each[0]))[: scope.limit]
    return [
        Answer(("cluster", "model", "gpus_used", "gpus", "gpus_free", "gpus_unusable", "workers"), by_model,
               title="by model", bar="gpus_used"),
        Answer(("cluster", "model", "owner", "account", "gpus", "runs"),
               [(*key[:3], key[3] or None, *sums) for key, sums in has], title="who has them", bar="gpus"),
        Answer(("cluster", "queue", "owner", "jobs", "gpus", "oldest_submitted_at"), run(connection, scope, waiting),
               title="who waits for them", bar="gpus"),
    ]  # fmt: skip


def _take(free: dict[str, float], used: float) -> None:
    """Take what is used off a worker's models, in turn: of which model it is, where there are several, is not told."""
    for model in sorted(free):
        taken = min(free[model], used)
        free[model] -= taken
        used -= taken

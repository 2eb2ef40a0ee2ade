"""The GPUs: how many of each model, who has them, and who waits for them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from history.answer import Answer
from history.db.schema import late_submissions, run_workers, runs, worker_use
from history.questions import Scope, placed_runs, run
from history.questions.moment import holding, in_queue
from history.questions.unmade import unmade
from history.questions.workers import at_moment, loads_at
from history.vocabulary import UNUSABLE, words

UNTOLD = "(not said)"
"""The model of GPUs of which it is not told which of several they are."""
KEEPING_OUT = frozenset(words(tuple(UNUSABLE)))
"""Flags of a worker whose free GPUs nobody can have."""


class _Model(msgspec.Struct):
    """The GPUs of one model of a cluster."""

    total: float = 0
    used: float = 0
    unusable: float = 0
    workers: int = 0
    untold: bool = False
    """GPUs are in use of which it is not told whether they are of this model."""


_Key = tuple[str, str]
"""Cluster and model, or worker."""


def gpus(connection: Connection, scope: Scope) -> list[Answer]:
    """Return how many of each model there are and are used, then who has them, and who waits."""
    workers = {(each.cluster, each.worker): each for each in at_moment(connection, scope) if each.gpus}
    models_of: dict[_Key, dict[str, float]] = {
        key: {each["model"]: float(each["total"] or 0) for each in worker.gpus} for key, worker in workers.items()
    }
    models = _there(models_of)
    loads = loads_at(connection, scope).items()
    own = {key: load.gpu_models for key, load in loads if load.gpu_models is not None and key in models_of}
    held = _held(connection, scope, models_of)
    taken: dict[_Key, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    """GPUs in use on each worker by model."""
    holders: dict[tuple[str, str, str, str], list[float]] = defaultdict(lambda: [0.0, 0])
    for share in held:
        sums = holders[share.cluster, share.model, share.owner, share.account or ""]
        sums[0] += share.gpus
        sums[1] += share.runs
        if share.worker is not None and (share.cluster, share.worker) not in own:
            taken[share.cluster, share.worker][share.model] += share.gpus
        elif share.worker is None and not all((share.cluster, each) in own for each in share.among):
            if share.model == UNTOLD:
                for each in share.among:
                    for model in models_of.get((share.cluster, each), ()):
                        models[share.cluster, model].untold = True
            models[share.cluster, share.model].used += share.gpus
    taken.update({key: dict(counts) for key, counts in own.items()})
    for (cluster, worker), counts in taken.items():
        for model, number in counts.items():
            models[cluster, model].used += number
            if model == UNTOLD and number:
                for each in models_of.get((cluster, worker), ()):
                    models[cluster, each].untold = True
    for (cluster, worker), its_models in models_of.items():
        row = workers[cluster, worker]
        if row.state != "up" or not KEEPING_OUT.isdisjoint(row.flags.split(",")):
            for model, number in its_models.items():
                models[cluster, model].unusable += max(0.0, number - taken[cluster, worker].get(model, 0.0))
    has = sorted(holders.items(), key=lambda each: (-each[1][0], each[0]))[: scope.limit]
    answers = [
        Answer(("cluster", "model", "gpus_used", "gpus", "gpus_free", "gpus_unusable", "workers"), _model_rows(models),
               title="by model", bar="gpus_used"),
        Answer(("cluster", "model", "owner", "account", "gpus", "runs"),
               [(*key[:3], key[3] or None, *sums) for key, sums in has], title="who has them", bar="gpus"),
        Answer(("cluster", "queue", "owner", "jobs", "gpus", "oldest_submitted_at"), _waiting(connection, scope),
               title="who waits for them", bar="gpus"),
    ]  # fmt: skip
    parts = _parts(connection, scope)
    if parts.rows:
        answers.append(parts)
    return answers


def _there(models_of: Mapping[_Key, Mapping[str, float]]) -> dict[_Key, _Model]:
    """Return how many there are of each model of a cluster, and on how many workers."""
    models: dict[_Key, _Model] = defaultdict(_Model)
    for (cluster, _), its_models in models_of.items():
        for model, number in its_models.items():
            models[cluster, model].total += number
            models[cluster, model].workers += 1
    return models


def _model_rows(models: Mapping[_Key, _Model]) -> list[tuple[Any, ...]]:
    """Return the rows of models that there are: what is in use and free where it is told."""
    return [
        (
            cluster, model, None if each.untold and model != UNTOLD else each.used, each.total,
            None if each.untold or not each.total else max(0.0, each.total - each.used - each.unusable),
            each.unusable, each.workers,
        )
        for (cluster, model), each in sorted(models.items())
        if each.total or each.used
    ]  # fmt: skip


class _Share(msgspec.Struct):
    """GPUs of one model that a run holds on a worker, or on several where its shares are not told."""

    cluster: str
    model: str
    owner: str
    account: str | None
    gpus: float
    worker: str | None
    among: tuple[str, ...] = ()
    runs: int = 1


def _held(connection: Connection, scope: Scope, models_of: Mapping[_Key, Mapping[str, float]]) -> list[_Share]:
    """Return what each run holds: by model where it is told, or where its workers have one model alone."""
    share = run_workers
    columns = (runs.c.cluster, runs.c.native_id, runs.c.submitted_at, runs.c.number, runs.c.owner, runs.c.account)
    query = (
        select(*columns, runs.c.gpus, share.c.worker, share.c.gpus.label("there"), share.c.gpu_models)
        .select_from(placed_runs())
        .where(holding(scope), runs.c.gpus > 0, *scope.among(runs))
        .order_by(*columns[:4], share.c.worker)
    )
    found: list[_Share] = []
    for _, rows in groupby(run(connection, scope, query), key=lambda row: tuple(row[:4])):
        its_rows = list(rows)
        first = its_rows[0]
        who = (first.owner, first.account)
        if all(row.there is not None for row in its_rows):
            for index, row in enumerate(its_rows):
                counted = 1 if index == 0 else 0
                for model, number in _by_model(row, models_of.get((row.cluster, row.worker), {})).items():
                    found.append(_Share(row.cluster, model, *who, number, row.worker, runs=counted))
                    counted = 0
            continue
        among = tuple(row.worker for row in its_rows)
        names = {model for each in among for model in models_of.get((first.cluster, each), {UNTOLD: 0.0})}
        model = names.pop() if len(names) == 1 else UNTOLD
        found.append(_Share(first.cluster, model, *who, float(first.gpus), None, among))
    return found


def _by_model(row: Any, there: Mapping[str, float]) -> dict[str, float]:
    """Return a share's GPUs by model; the scheduler's name of a model may be another than the worker's (HTCondor)."""
    if row.gpu_models and sum(row.gpu_models.values()) == row.there and set(row.gpu_models) <= set(there):
        return {model: float(number) for model, number in row.gpu_models.items()}
    return {next(iter(there)) if len(there) == 1 else UNTOLD: float(row.there)} if row.there else {}


def _waiting(connection: Connection, scope: Scope) -> Sequence[Any]:
    queued = in_queue(scope)
    who = (queued.c.cluster, queued.c.queue, queued.c.owner)
    query = (
        select(*who, func.count(), func.sum(queued.c.gpus), func.min(queued.c.submitted_at))
        .where(queued.c.gpus > 0, queued.c.state == "pending")
        .group_by(*who)
    )
    found = {tuple(row[:3]): row[3:] for row in run(connection, scope, query)}
    for row in unmade(connection, scope, late_submissions.c.requested_gpus > 0):
        key = row.cluster, row.queue, row.owner
        jobs, gpus, oldest = found.get(key, (0, 0.0, row.submitted_at))
        found[key] = jobs + row.jobs, float(gpus) + row.gpus, min(oldest, row.submitted_at)
    rows = [(*key, *sums) for key, sums in found.items()]
    rows.sort(key=lambda row: (-row[4], row[2]))
    return rows[: scope.limit]


def _parts(connection: Connection, scope: Scope) -> Answer:
    """Return shards and MPS, as the workers' own records have them: now, for of the past nobody keeps them."""
    sums: dict[_Key, list[float]] = defaultdict(lambda: [0.0, 0.0, 0])
    if scope.at is None:
        query = select(worker_use).where(worker_use.c.gpu_parts.is_not(None), *scope.among(worker_use))
        for row in run(connection, scope, query):
            for each in row.gpu_parts or ():
                total = sums[row.cluster, each["model"]]
                total[0] += float(each["allocated"] or 0)
                total[1] += float(each["total"] or 0)
                total[2] += 1
    rows = [
        (*key, used, total, max(0.0, total - used), int(count)) for key, (used, total, count) in sorted(sums.items())
    ]
    return Answer(("cluster", "part", "used", "total", "free", "workers"), rows, title="parts of GPUs", bar="used")

"""The GPUs: how many of each model, who has them, who waits for them, and who had them."""

from grafana import variables
from grafana.columns import mappings
from grafana.figures import number, ranking
from grafana.layout import MOMENT, board_of
from grafana.links import label, to
from grafana.look import renamed, step, table
from grafana.notices import of_history, of_prometheus
from grafana.over_time import days, graph
from grafana.prometheus import HOLDING, MAP, OUT, SLICE, STATES, or_none, told, untold, what_it_is
from grafana.queries import CLUSTER, Json, now, now_table, over_time, rows, series
from grafana.sql import NOON, TOUCHED_DAYS, among, used

_C = f'{{{CLUSTER},model=~"$model"}}'
_PAST = "History: in the time range"
_PLANNED = f'bbq_worker_flag{{{CLUSTER},flag=~"maintenance|powered_down|reserved"}}'
_W = f'{{{CLUSTER},model=~"$model",model!~"{SLICE}"}}'
"""Whole GPUs: slices are told by model, and never added to them."""


def _free(which: str) -> str:
    """Return the expression of GPUs that jobs could have: what is not told is not among them."""
    return f"{_left(which)} unless on (cluster, worker) ({OUT}) unless on (cluster, worker) {_PLANNED}"


def _not_free(which: str) -> str:
    """Return the expression of GPUs that no job has, and none can have."""
    return f"{_left(which)} and on (cluster, worker) (({OUT}) or on (cluster, worker) {_PLANNED})"


def _left(which: str) -> str:
    return f"(bbq_worker_gpus{which} - bbq_worker_gpus_allocated{which})"


def _untold(which: str) -> str:
    return untold(f"bbq_worker_gpus{which}", f"bbq_worker_gpus_allocated{which}")


def board() -> Json:
    """Return the board."""
    return board_of(
        "gpus",
        "BBQ GPUs",
        "GPUs by model: how many, in use, free, unusable; who has them and who waits.",
        [
            variables.datasource(),
            variables.history(),
            variables.clusters(),
            variables.several_of_prometheus(
                "model", "Model", "Which models; MIG slices are models of their own.",
                f"label_values(bbq_worker_gpus{{{CLUSTER}}}, model)",
            ),
        ],
        [
            (MOMENT, 4, ((_all(), 4), (_used(), 4), (_is_free(), 4), (_unusable(), 4), (_is_untold(), 4), (_wanted(), 4))),
            (MOMENT, 7, ((_models(), 19), (_idle(), 5))),
            (MOMENT, 8, ((_workers(), 15), (_parts(), 9))),
            (MOMENT, 10, ((_has(), 12), (_waits(), 12))),
            ("Over time", 8, ((_over_time(), 8), (_shares(), 8), (_owners(), 8))),
            (_PAST, 2, ((of_history(), 24),)),
            (_PAST, 10, ((_ranked(), 10), (_days(), 14))),
        ],
        first=((of_prometheus(), 24),),
    )  # fmt: skip


def _all() -> Json:
    return number(
        "GPUs", "All whole GPUs there are; MIG slices, shards and MPS are told below.",
        now(f"sum(bbq_worker_gpus{_W})"), empty="No GPU",
    )  # fmt: skip


def _used() -> Json:
    return number(
        "In use", "Whole GPUs that jobs hold, as far as workers tell it.",
        now(f"sum(bbq_worker_gpus_allocated{_W})"), empty="No GPU, or not told",
    )  # fmt: skip


def _is_free() -> Json:
    return number(
        "Free",
        "Not held by a job, on workers that take jobs.",
        now(f"sum({_free(_W)}) or 0 * sum(bbq_worker_gpus{_W})"),
        empty="No GPU",
    )


def _unusable() -> Json:
    return number(
        "Unusable",
        "Not held by a job, but the worker is down, draining, reserved, in maintenance or powered down.",
        now(f"sum({_not_free(_W)}) or 0 * sum(bbq_worker_gpus{_W})"),
        empty="No GPU",
        levels=((None, "green"), (1, "orange")),
    )


def _is_untold() -> Json:
    return number(
        "Not told",
        "GPUs of which the worker does not tell whether jobs hold them: neither in use nor free here.",
        now(f"sum({_untold(_W)}) or 0 * sum(bbq_worker_gpus{_W})"),
        empty="No GPU",
        levels=((None, "green"), (1, "orange")),
    )


def _wanted() -> Json:
    return number(
        "Wanted",
        "GPUs that pending jobs ask for, of whichever model.",
        now(f'sum(bbq_jobs_gpus{{{CLUSTER},state="pending"}}) or 0 * count(bbq_jobs{{{CLUSTER}}})'),
        empty="Not read",
        leads=("These jobs", to("jobs", state="pending", resource="gpu", when="any")),
    )


def _idle() -> Json:
    return number(
        "Free while jobs wait",
        "Free whole GPUs of clusters in which jobs wait for GPUs: they may want another model, or more CPUs or memory beside it.",
        now(
            f'sum(sum by (cluster) ({_free(_W)}) and on (cluster) (sum by (cluster) (bbq_jobs_gpus{{{CLUSTER},state="pending"}}) > 0))'
            f" or 0 * sum(bbq_worker_gpus{_W})"
        ),
        empty="No GPU",
        levels=((None, "green"), (1, "orange")),
    )


def _models() -> Json:
    by = "by (cluster, model)"
    there = f"sum {by} (bbq_worker_gpus{_C})"
    not_told = f"unless sum {by} {_untold(_C)}"
    asked = {
        "GPUs": there,
        "used": f"sum {by} (bbq_worker_gpus_allocated{_C}) {not_told}",
        "free": f"(sum {by} ({_free(_C)}) or 0 * {there}) {not_told}",
        "unusable": f"sum {by} ({_not_free(_C)}) or 0 * {there}",
        "not told": f"sum {by} {_untold(_C)}",
        "GPUs in use": f"sum {by} (bbq_worker_gpus_allocated{_C}) / {there} {not_told}",
        "workers": f"count {by} (bbq_worker_gpus{_C})",
    }
    names = {f"Value #{chr(ord('A') + place)}": name for place, name in enumerate(asked)}
    return table(
        "How many of each model?",
        "As of the newest reading; a MIG slice is a model of its own. What is used and free of a model is empty where a worker "
        "does not tell it.",
        *(now_table(expression) for expression in asked.values()),
        empty="There are no GPUs",
        columns=("cluster", "model", *asked),
        steps=(step("merge"), renamed({"cluster": "cluster", "model": "model", **names})),
        sort=("GPUs", True),
    )


def _parts() -> Json:
    by = "by (cluster, part)"
    there, taken = f"bbq_worker_gpu_parts{{{CLUSTER}}}", f"bbq_worker_gpu_parts_allocated{{{CLUSTER}}}"
    not_told = f"unless sum {by} {untold(there, taken)}"
    asked = {
        "of": f"sum {by} ({there})",
        "used": f"sum {by} ({taken}) {not_told}",
        "workers": f"count {by} ({there})",
    }
    names = {f"Value #{chr(ord('A') + place)}": name for place, name in enumerate(asked)}
    return table(
        "Parts of GPUs",
        "Shards and MPS, in units of their own: how many make a GPU is the site's affair.",
        *(now_table(expression) for expression in asked.values()),
        empty="There are no shards, and no MPS",
        columns=("cluster", "part", *asked),
        steps=(step("merge"), renamed({"cluster": "cluster", "part": "part", **names})),
        sort=("of", True),
    )


def _has() -> Json:
    most = f"topk(10, sum by (owner) (bbq_jobs_gpus{{{CLUSTER},{HOLDING}}}) > 0)"
    return ranking(
        "Who has them?",
        "Owners by GPUs that their jobs hold, of whichever model.",
        now(f"sort_desc({or_none(most, 'owner', '(nobody)', f'bbq_jobs{{{CLUSTER}}}')})", "{{owner}}"),
        empty="No queue has been read",
        by="owner",
        leads=(
            "Their jobs with GPUs",
            to("jobs", owner=label("owner"), resource="gpu", state=STATES["running"], when="any"),
        ),
    )


def _waits() -> Json:
    most = f'topk(10, sum by (owner) (bbq_jobs_gpus{{{CLUSTER},state="pending"}}) > 0)'
    return ranking(
        "Who waits for them?",
        "Owners by GPUs that their pending jobs ask for.",
        now(f"sort_desc({or_none(most, 'owner', '(nobody)', f'bbq_jobs{{{CLUSTER}}}')})", "{{owner}}"),
        empty="No queue has been read",
        by="owner",
        leads=("Their pending jobs", to("jobs", owner=label("owner"), resource="gpu", state="pending", when="any")),
    )


def _over_time() -> Json:
    return graph(
        "In use by model",
        "Whole GPUs that jobs hold, as far as workers tell it; the line is what there is.",
        over_time(f"sum by (model) (bbq_worker_gpus_allocated{_W})", "{{model}}"),
        over_time(f"sum(bbq_worker_gpus{_W})", "capacity"),
        empty="There were no GPUs",
        stacked=True,
        lines=("capacity",),
        narrow=True,
    )


def _shares() -> Json:
    """Make a picture of what has units of its own."""
    slices = f'{{{CLUSTER},model=~"$model",model=~"{SLICE}"}}'
    there, taken = f"bbq_worker_gpu_parts{{{CLUSTER}}}", f"bbq_worker_gpu_parts_allocated{{{CLUSTER}}}"
    whole, held = f"bbq_worker_gpus{slices}", f"bbq_worker_gpus_allocated{slices}"
    return graph(
        "Slices and parts in use",
        "MIG slices, shards and MPS that jobs hold, each of how many there are, where the workers tell it.",
        over_time(f"sum by (model) ({held}) / sum by (model) {told(whole, held)}", "{{model}}"),
        over_time(f"sum by (part) ({taken}) / sum by (part) {told(there, taken)}", "{{part}}"),
        empty="There were none",
        unit="percentunit",
        narrow=True,
    )


def _owners() -> Json:
    by_owner = f"sum by (owner) (bbq_jobs_gpus{{{CLUSTER},{HOLDING}}}"
    return graph(
        "In use by owner",
        "The ten with the most at the end of the time range.",
        over_time(f"{by_owner}) and on (owner) topk(10, {by_owner} @ end()))", "{{owner}}"),
        empty="Nobody had any",
        stacked=True,
        named=True,
        narrow=True,
        leads=("This owner", to("owner", owner=label("owner"))),
    )


def _workers() -> Json:
    return table(
        "The workers that have GPUs",
        "Each with its models, and what it is.",
        now_table(f"sum by (cluster, worker, model) (bbq_worker_gpus{_C})"),
        now_table(f"sum by (cluster, worker, model) (bbq_worker_gpus_allocated{_C})"),
        now_table(f"sum by (cluster, worker, model) (bbq_worker_gpus{_C} * 0 + on (cluster, worker) group_left () {what_it_is()})"),
        empty="There are no GPUs",
        columns=("cluster", "worker", "model", "GPUs", "used", "is"),
        steps=(
            step("merge"),
            renamed({"cluster": "cluster", "worker": "worker", "model": "model", "Value #A": "GPUs", "Value #B": "used", "Value #C": "is"}),
        ),
        more={"is": {"mappings": mappings(MAP), "custom.displayMode": "color-text", "custom.align": "left"}},
        sort=("worker", False),
    )  # fmt: skip


def _ranked() -> Json:
    return table(
        "Who has had them?",
        "GPU hours in the time range, of runs that have ended and of those that still run.",
        rows(
            used("owner", among("cluster"))
            + """SELECT name AS owner, gpu_seconds / 3600 AS "GPU hours", cpu_seconds / 3600 AS "CPU hours"
FROM used WHERE gpu_seconds > 0 ORDER BY gpu_seconds DESC, 1 LIMIT 100"""
        ),
        empty="Nobody had any in this time",
        columns=("owner", "GPU hours", "CPU hours"),
    )


def _days() -> Json:
    return days(
        "GPU hours day by day",
        "Days of UTC, each as a whole, of what has ended: the ten owners with the most, and everybody else as (other).",
        series(
            f"""WITH daily AS (
  SELECT day, owner, sum(gpu_seconds) / 3600.0 AS hours FROM usage_daily
  WHERE {TOUCHED_DAYS} AND {among("cluster")} AND gpu_seconds > 0
  GROUP BY 1, 2
), first AS (SELECT owner FROM daily GROUP BY 1 ORDER BY sum(hours) DESC, 1 LIMIT 10)
SELECT {NOON} AS time, CASE WHEN owner IN (SELECT owner FROM first) THEN owner ELSE '(other)' END AS owner,
  sum(hours) AS "Value"
FROM daily GROUP BY 1, 2 ORDER BY 1, CASE WHEN owner IN (SELECT owner FROM first) THEN owner ELSE '(other)' END"""
        ),
        empty="Nobody's jobs with GPUs have ended in these days",
        words=("(other)",),
        named=True,
    )

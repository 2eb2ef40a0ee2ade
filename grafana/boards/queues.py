"""The queues: capacity, what of it nobody can use, who waits for how long and why, and settings in the past."""

from itertools import pairwise

from grafana import variables
from grafana.columns import link
from grafana.layout import MOMENT, board_of
from grafana.links import field, label, to
from grafana.look import renamed, step, table
from grafana.notices import of_history, of_prometheus
from grafana.over_time import graph
from grafana.prometheus import HOLDING, STATES, in_state
from grafana.queries import CLUSTER, Json, now_table, over_time, rows, series
from grafana.sql import COUNTED, DAY, FROM, NOW_OR_TO, TO, WHOLE_DAYS, among, first_started
from history.rollups.definitions import BOUNDS, LONGER

_C = f'{{{CLUSTER},queue=~"$queue"}}'
_PAST = "History: in the time range"
_PARTS = (50, 90, 99)
_LONG = f"{TO} - {FROM} > interval '31 days'"
"""Whether the range is so long that the rollups are asked, not the jobs."""


def _factor(least: int) -> str:
    """Return how many times longer than the one before a bound is at the most, from a length on."""
    return f"{max(after / before for before, after in pairwise(BOUNDS) if before >= least):.3g}"


ERROR = (
    f"off by a factor of {_factor(3600)} at the most from an hour on, of {_factor(300)} from five minutes on, of "
    f"{_factor(0)} below, and nothing is longer than 7 days there; the row of the history has them exactly"
)
"""What is to be said of a percentile of a histogram: it lies in the right bucket, and anywhere in it."""
_STATES = ("running", "finishing", "suspended", "pending", "held")


def board() -> Json:
    """Return the board."""
    return board_of(
        "queues",
        "BBQ Queues",
        "Slurm's partitions and HTCondor's schedds: capacity, use, waits, and settings in the past.",
        [
            variables.datasource(),
            variables.history(),
            variables.clusters(),
            variables.several_of_prometheus(
                "queue", "Queue", "Which queues.", f"label_values(bbq_jobs{{{CLUSTER}}}, queue)"
            ),
        ],
        [
            (MOMENT, 9, ((_queues(), 24),)),
            ("Over time", 9, ((_jobs(), 12), (_why(), 12))),
            ("Over time", 9, ((_cpus(), 12), (_owners(), 12))),
            ("Over time", 8, ((_waits(), 12), (_flow(), 12))),
            (_PAST, 2, ((of_history(), 24),)),
            (_PAST, 8, ((_waited(), 24),)),
            (_PAST, 8, ((_waits_of_history(), 24),)),
            (_PAST, 12, ((_settings(), 24),)),
        ],
        first=((of_prometheus(), 24),),
    )  # fmt: skip


def _queues() -> Json:
    by = "by (cluster, queue)"
    hours = f"sum by (cluster, queue, le) (rate(bbq_job_wait_seconds_bucket{_C}[1h]))"
    asked = {
        "CPUs": f"sum {by} (bbq_queue_cpus{_C})",
        "CPUs in use": f"sum {by} (bbq_queue_cpus_allocated{_C}) / sum {by} (bbq_queue_cpus{_C})",
        "unusable": f"sum {by} (bbq_queue_cpus_unusable{_C})",
        **{state: f"sum {by} (bbq_jobs{{{_C[1:-1]},{in_state(state)}}})" for state in STATES},
        "owners": f"count {by} (count by (cluster, queue, owner) (bbq_jobs{_C}))",
        "oldest startable": f"1000 * min {by} (bbq_pending_oldest_submit_timestamp_seconds{_C})",
        "p50": f"histogram_quantile(0.5, {hours}) >= 0",
        "p90": f"histogram_quantile(0.9, {hours}) >= 0",
    }
    names = {f"Value #{chr(ord('A') + place)}": name for place, name in enumerate(asked)}
    leads = {
        state: {"links": [link(f"Jobs that are {state}", to("jobs", clusters=field("cluster"), queue=field("queue"), state=states, when="any"))]}
        for state, states in STATES.items()
    }  # fmt: skip
    return table(
        "What is in each queue?",
        "Owners that are put together as (other) count as one. CPUs are those of the queue's workers (a worker of two queues counts in both; HTCondor's schedds have none of their "
        "own). Unusable: free, but the worker is out, reserved, or its memory is all taken. Oldest startable: of the pending jobs without "
        "dependency, array limit or begin time. p50 and p90: waits of the jobs "
        "that started in the last hour, estimated from a histogram: " + ERROR + ".",
        *(now_table(expression) for expression in asked.values()),
        empty="No queue has been read",
        columns=("cluster", "queue", *asked),
        steps=(step("merge"), renamed({"cluster": "cluster", "queue": "queue", **names})),
        more=leads,
        sort=("pending", True),
    )


def _jobs() -> Json:
    return graph(
        "Jobs by state",
        "Of the chosen queues together.",
        over_time(f"sum by (state) (bbq_jobs{_C})", "{{state}}"),
        empty="No queue was read in this time",
        stacked=True,
        words=_STATES,
        leads=("These jobs", to("jobs", keep=("queue",), state=label("state"), when="any")),
    )


def _why() -> Json:
    return graph(
        "Why do they wait?",
        "Pending jobs by what they wait for, as their scheduler says.",
        over_time(f"sum by (reason) (bbq_pending_jobs{_C}) > 0", "{{reason}}"),
        empty="Nobody waited in this time",
        stacked=True,
    )


def _cpus() -> Json:
    return graph(
        "CPUs: in use, and free but unusable",
        "By why no job can have them; the line is what there is. A worker of two of the chosen queues counts in both.",
        over_time(f"sum(bbq_queue_cpus_allocated{_C})", "in use"),
        over_time(f"sum by (reason) (bbq_queue_cpus_unusable{_C}) > 0", "{{reason}}"),
        over_time(f"sum(bbq_queue_cpus{_C})", "capacity"),
        empty="These queues have no CPUs of their own",
        stacked=True,
        words=("in use", "down", "draining", "maintenance", "powered_down", "reserved", "memory"),
        lines=("capacity",),
    )


def _owners() -> Json:
    by_owner = f"sum by (owner) (bbq_jobs_cpus{{{_C[1:-1]},{HOLDING}}}"
    return graph(
        "Who has them?",
        "CPUs by owner: the ten with the most at the end of the time range.",
        over_time(f"{by_owner}) and on (owner) topk(10, {by_owner} @ end()))", "{{owner}}"),
        empty="Nothing ran in this time",
        stacked=True,
        named=True,
        leads=("This owner", to("owner", owner=label("owner"))),
    )


def _waits() -> Json:
    rate = f"sum by (le) (rate(bbq_job_wait_seconds_bucket{_C}[1h]))"
    return graph(
        "How long had jobs waited that started?",
        f"In the hour before each moment, estimated from a histogram: {ERROR}.",
        *(over_time(f"histogram_quantile({part / 100}, {rate}) >= 0", f"p{part}") for part in _PARTS),
        empty="No job started in this time",
        unit="s",
    )


def _flow() -> Json:
    return graph(
        "Jobs submitted, started and ended per hour",
        "In the hour before each moment (the first of an owner in a queue is not counted). Where more are submitted than end, the queue grows.",
        *(
            over_time(f"sum(increase(bbq_jobs_{what}_total{_C}[1h]))", what)
            for what in ("submitted", "started", "ended")
        ),
        empty="Nothing happened in this time",
    )


def _waited() -> Json:
    percentiles = ", ".join(
        f"percentile_disc({part / 100}) WITHIN GROUP (ORDER BY waited) AS p{part}" for part in _PARTS
    )
    bounds = ", ".join(f"min(at_most) FILTER (WHERE so_far >= {part / 100} * total) AS p{part}" for part in _PARTS)
    return table(
        "Waits until the first start",
        "Of the jobs that started in the time range, exactly (nearest rank). Of more than 31 days: of whole days of UTC, and "
        f"each percentile as the bound below which it lies (from an hour to 7 days at most {_factor(3600)} times as long).",
        rows(
            f"""SELECT cluster, queue, count(*) AS jobs, {percentiles}, avg(waited)::float8 AS "mean wait", max(waited) AS longest
FROM (
  SELECT cluster, queue, greatest(extract(epoch FROM first_started_at - submitted_at)::bigint, 0) AS waited
  FROM jobs WHERE NOT {_LONG} AND {among("cluster")} AND {_queue()} AND {COUNTED} AND {first_started(FROM, NOW_OR_TO)}
) AS started
GROUP BY 1, 2
UNION ALL
SELECT cluster, nullif(queue, ''), max(total), {bounds}, max(seconds / total), NULL
FROM (
  SELECT cluster, queue, nullif(at_most_seconds, {LONGER}) AS at_most,
    sum(sum(jobs)) OVER (PARTITION BY cluster, queue ORDER BY at_most_seconds) AS so_far,
    sum(sum(jobs)) OVER (PARTITION BY cluster, queue)::float8 AS total,
    sum(sum(seconds)) OVER (PARTITION BY cluster, queue)::float8 AS seconds
  FROM durations_daily WHERE {_LONG} AND kind = 'wait' AND {among("cluster")} AND {_queue()} AND {WHOLE_DAYS}
  GROUP BY cluster, queue, at_most_seconds
) AS summed WHERE total > 0
GROUP BY 1, 2
ORDER BY 3 DESC, 1, 2"""
        ),
        empty="No job started in this time",
        columns=("cluster", "queue", "jobs", "p50", "p90", "p99", "mean wait", "longest"),
    )


def _waits_of_history() -> Json:
    exactly = ", ".join(
        f"(percentile_disc({part / 100}) WITHIN GROUP (ORDER BY waited))::float8 AS p{part}" for part in _PARTS
    )
    bounds = ", ".join(
        f"(min(at_most) FILTER (WHERE so_far >= {part / 100} * total))::float8 AS p{part}" for part in _PARTS
    )
    seconds = f"greatest(3600, extract(epoch FROM {TO} - {FROM}) / 100)"
    return graph(
        "Waits, exactly",
        "Of the jobs of the chosen queues together that started in each hundredth of the time range (an hour at least), exactly "
        "(nearest rank), at its beginning. Of more than 31 days: by days of UTC, as the bound below which each percentile lies.",
        series(
            f"""SELECT greatest(to_timestamp(place * {seconds}), {FROM}) AS time, {exactly}
FROM (
  SELECT floor(extract(epoch FROM first_started_at) / {seconds}) AS place,
    greatest(extract(epoch FROM first_started_at - submitted_at)::bigint, 0) AS waited
  FROM jobs WHERE NOT {_LONG} AND {among("cluster")} AND {_queue()} AND {COUNTED} AND {first_started(FROM, NOW_OR_TO)}
) AS started
GROUP BY place
UNION ALL
SELECT {DAY}, {bounds}
FROM (
  SELECT day, nullif(at_most_seconds, {LONGER}) AS at_most,
    sum(sum(jobs)) OVER (PARTITION BY day ORDER BY at_most_seconds) AS so_far,
    sum(sum(jobs)) OVER (PARTITION BY day)::float8 AS total
  FROM durations_daily WHERE {_LONG} AND kind = 'wait' AND {among("cluster")} AND {_queue()} AND {WHOLE_DAYS}
  GROUP BY day, at_most_seconds
) AS summed WHERE total > 0
GROUP BY day
ORDER BY 1"""
        ),
        empty="No job started in this time",
        unit="s",
    )


def _queue() -> str:
    """Return the condition of the chosen queues: the variable is one of Prometheus, where All is a pattern."""
    return "coalesce(queue, '') ~ '^${queue:regex}$'"


def _settings() -> Json:
    return table(
        "Settings, and when they changed",
        "Of the queues' settings, those that changed in the time range, and all as they were at its beginning: the newest first.",
        rows(
            f"""WITH had AS (
  SELECT cluster, queue, started_at, ended_at, coalesce(settings, '{{}}') || jsonb_build_object('state', state) AS settings
  FROM queue_settings
  WHERE {among("cluster")} AND {_queue()} AND started_at < {NOW_OR_TO} AND (ended_at IS NULL OR ended_at > {FROM})
), periods AS (
  SELECT cluster, queue, started_at, ended_at, settings,
    lag(settings) OVER (PARTITION BY cluster, queue ORDER BY started_at) AS before
  FROM had
)
SELECT cluster, queue, date_trunc('second', started_at) AS "from then", date_trunc('second', ended_at) AS "until then",
  key AS setting, settings ->> key AS value, before ->> key AS before
FROM periods CROSS JOIN LATERAL jsonb_object_keys(coalesce(before, '{{}}') || settings) AS key
WHERE before IS NULL OR coalesce(before ->> key, '') <> coalesce(settings ->> key, '')
ORDER BY started_at DESC, cluster, queue, key LIMIT 1000"""
        ),
        empty="These queues were not read in this time",
        filters=True,
        columns=("cluster", "queue", "from then", "until then", "setting", "value", "before"),
    )

"""Who has the most: owners, accounts, VOs or queues, by any measure, at a moment and over the time range."""

from grafana import variables
from grafana.columns import HIDDEN, leads
from grafana.figures import ranking
from grafana.layout import board_of
from grafana.links import field, label, to
from grafana.look import table
from grafana.over_time import days, graph
from grafana.prometheus import STATES, or_none
from grafana.queries import CLUSTER, Json, now, over_time, rows, series
from grafana.sql import NO_FAILURE, NONE, NOON, TOUCHED_DAYS, among, used
from history.vocabulary import FAILURES

_OTHER = '"(other)", "owner", "[(]other[)]"'
_NOW = (
    f'sum by ($thing) (label_replace(label_replace($measure{{{CLUSTER},state=~"$state"}}TIME, "account", {_OTHER}),'
    f' "vo", {_OTHER}))'
)
"""Of owners that are put together the account and VO are not known: they are (other) as well."""
_NAMED = f'label_replace(label_replace({{}}, "name", "$1", "$thing", "(.*)"), "name", "{NONE}", "name", "")'
"""The same with its name as the label `name`, whatever it is, which links can have."""
_THING = ("Jobs of the one that is clicked", to("jobs", keep=("state",), **{"$thing": label("name")}, when="any"))
_STATES = ("running", "pending", "held", "suspended", "finishing")
_HAVE = STATES["running"]
_BY = {
    "cpu_seconds": "CPU hours", "gpu_seconds": "GPU hours", "wall_seconds": "wall hours", "jobs": "jobs ended",
    "failed": "jobs failed", "wait_seconds": "hours waited",
}  # fmt: skip
_WHERE = among("cluster")


def _at(time: str = "") -> str:
    return _NOW.replace("TIME", time)


def board() -> Json:
    """Return the board."""
    return board_of(
        "tops",
        "BBQ Tops",
        "Who has the most: at the end of the time range by the metrics, over it by the history.",
        [
            variables.datasource(),
            variables.history(),
            variables.clusters(),
            variables.choice(
                "thing", "Rank", "What is ranked.",
                [("owners", "owner"), ("accounts", "account"), ("VOs", "vo"), ("queues", "queue")],
            ),
            variables.choice(
                "measure", "At its end by", "By what, of the jobs in the queues at the end of the time range.",
                [("CPUs", "bbq_jobs_cpus"), ("jobs", "bbq_jobs"), ("GPUs", "bbq_jobs_gpus"), ("memory", "bbq_jobs_memory_bytes")],
            ),
            variables.choice(
                "state", "State", "Of the jobs in which states: those that are on workers, unless you choose others.",
                [(each, each) for each in _STATES], some=_HAVE,
            ),
            variables.choice(
                "by", "Over it by", "By what, of what was used in the time range.",
                [(text, value) for value, text in _BY.items()],
            ),
        ],
        [
            ("In the queues: at the end of the time range, and over it", 14, ((_most(), 9), (_lately(), 15))),
            ("History: in the time range", 14, ((_ranked(), 24),)),
            ("History: in the time range", 14, ((_longest(), 9), (_days(), 15))),
        ],
    )  # fmt: skip


def _most() -> Json:
    most = _NAMED.format(f"topk(15, {_at()}) > 0")
    return ranking(
        "Who has the most?",
        "Of the jobs in the queues, in the chosen states, at the end of the time range. Owners beyond limits.owners are (other).",
        now(f"sort_desc({or_none(most, 'name', '(nobody)', f'bbq_jobs{{{CLUSTER}}}')})", "{{name}}"),
        empty="No queue has been read",
        by="name",
        leads=_THING,
    )


def _lately() -> Json:
    return graph(
        "How has that changed?",
        "The ten that have the most at the end of the time range.",
        over_time(
            _NAMED.format(f"{_at()} and on ($thing) topk(10, {_at(' @ end()')})"),
            "{{name}}",
        ),
        empty="Nothing was in these states",
        stacked=True,
        named=True,
        leads=_THING,
    )


def _ranked() -> Json:
    of_thing = {"$thing": field("name")}
    return table(
        "Who has used the most?",
        "What was held in the time range by runs, also by those that still run; jobs, failures and waits are of the jobs "
        "that ended in it. CPU efficiency is of the runs of which it is known what they used.",
        rows(
            used("$thing", _WHERE)
            + """SELECT coalesce(name, '(none)') AS "$thing", coalesce(name, '(none)') AS name, jobs, failed, failed / nullif(jobs, 0) AS "failed share",
  cpu_seconds / 3600 AS "CPU hours", gpu_seconds / 3600 AS "GPU hours", wall_seconds / 3600 AS "wall hours",
  used_cpu_seconds / nullif(measured_cpu_seconds, 0) AS "CPU efficiency", wait_seconds / nullif(waits, 0) AS "mean wait"
FROM used ORDER BY $by DESC, 1 LIMIT 100"""
        ),
        empty="Nothing was used in this time",
        columns=(
            "owner", "account", "vo", "queue", "jobs", "failed", "failed share", "CPU hours", "GPU hours", "wall hours",
            "CPU efficiency", "mean wait", "name",
        ),
        more={
            "jobs": leads("Those that ended", to("jobs", **of_thing, when="ended")),
            "failed": leads("Those that failed", to("jobs", **of_thing, when="ended", outcome=FAILURES)),
            "name": HIDDEN,
        },
    )  # fmt: skip


def _longest() -> Json:
    return ranking(
        "The top fifteen",
        "The same in bars, in hours, or in jobs.",
        rows(
            used("$thing", _WHERE)
            + """SELECT coalesce(name, '(none)') AS name, CASE WHEN '$by' IN ('jobs', 'failed') THEN $by ELSE $by / 3600 END AS "Value"
FROM used WHERE $by > 0 ORDER BY 2 DESC, 1 LIMIT 15"""
        ),
        empty="Nothing was used in this time",
        leads=("Jobs of the one that is clicked", to("jobs", **{"$thing": field("name")}, when="ended")),
    )


def _days() -> Json:
    measure = "CASE WHEN '$by' IN ('jobs', 'failed') THEN sum(measure) ELSE sum(measure) / 3600.0 END"
    return days(
        "Day by day",
        "Days of UTC, each as a whole, what has ended: the ten with the most, and everybody else as (other).",
        series(
            f"""WITH daily AS (
  SELECT day, $thing AS name, sum(CASE '$by' WHEN 'failed' THEN CASE WHEN outcome NOT IN {NO_FAILURE} THEN jobs END
    {" ".join(f"WHEN '{each}' THEN {each}" for each in _BY if each != "failed")} END) AS measure
  FROM usage_daily WHERE {TOUCHED_DAYS} AND {_WHERE}
  GROUP BY 1, 2
), first AS (SELECT name FROM daily GROUP BY 1 ORDER BY sum(measure) DESC NULLS LAST, 1 LIMIT 10)
SELECT {NOON} AS time,
  CASE WHEN name IN (SELECT name FROM first) THEN coalesce(nullif(name, ''), '{NONE}') ELSE '(other)' END AS name,
  {measure} AS "Value"
FROM daily GROUP BY 1, 2 ORDER BY 1, 2"""
        ),
        empty="Nothing has ended in these days",
        words=("(other)",),
        named=True,
    )

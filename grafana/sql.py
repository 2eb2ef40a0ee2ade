"""SQL that several boards share: what was open at a moment or in a time, and what was used in it.

The time range is Grafana's, as `$__timeFrom()` and `$__timeTo()`; everything else is PostgreSQL's own. Like bbq's
questions, these go by span classes (history/db/citus.md), so that they read little however long the history is. Moments
are written out, not selected: only what is constant when a query is planned finds its way into the indexes.

Words, figures, resources and their units are taken from `history`. Twice stand, for bbq knows moments and chosen
names when it writes a statement, and a board's statement is one text for all of them: the conditions of span classes
(`history.db.intervals`), the sums over a period (`history.questions.period`), a run's length and efficiency, and what a
search looks for. `tests/grafana/test_answers.py` compares what both answer.
"""

from history.db.schema import OPEN_SPAN, TOP_SPAN
from history.questions.period import Figures
from history.vocabulary import NOT_FAILED

FROM = "$__timeFrom()::timestamptz"
TO = "$__timeTo()::timestamptz"
NOW_OR_TO = f"least({TO}, now())"
"""The end of the range, which is never later than now."""
UNTIL_NOW = f"{TO} > now() - interval '1 minute'"
"""Whether the range goes on until now: the browser's clock and the database's are never quite the same."""
LATELY = f"greatest({FROM}, {TO} - interval '31 days')"
"""The beginning of the range, or of its last month: for what goes through single runs."""
NO_FAILURE = f"({', '.join(repr(each) for each in NOT_FAILED)})"
"""Outcomes that are no failure, for `NOT IN`."""
LENT = "job_pauses.kind = 'suspended' AND cluster IN (SELECT cluster FROM clusters WHERE lends_cpus)"
"""Of a pause, and what it is joined with by `cluster`: that the job did not hold its CPUs meanwhile."""
COUNTED = "routed_to IS NULL"
"""Of a job: that it is not bookkeeping for its routed copy."""

NONE = "(none)"
"""How an account, VO or queue is called where there is none."""
_NOT_ALWAYS = ("account", "vo", "queue")

_CLASSES = (range(10), (10, 11), (12, 13), (14, 15), (16, 17), (18, 19), (20, 21, 22), range(23, TOP_SPAN + 1))
"""Span classes that are looked for together: those up to a quarter of an hour, and then two at a time."""


def among(*names: str, table: str = "") -> str:
    """Return the condition that columns are among the values chosen of the variables of the same names.

    `'*'` is the value of All, of clusters `.*`, as Prometheus wants it; NONE is that of what is not said.
    """
    dot = f"{table}." if table else ""
    columns = {name: f"coalesce({dot}{name}, '{NONE}')" if name in _NOT_ALWAYS else f"{dot}{name}" for name in names}
    return " AND ".join(
        f"('${{cluster:csv}}' = '.*' OR {column} = ANY (string_to_array('${{cluster:csv}}', ',')))"
        if name == "cluster"
        else f"('*' IN (${name}) OR {column} IN (${name}))"
        for name, column in columns.items()
    )


def open_at(table: str, moment: str) -> str:
    """Return the condition that a period of a table was open at a moment."""
    still = f"{table}.span = {OPEN_SPAN} AND {table}.started_at <= {moment}"
    ended = f"{table}.ended_at > {moment} AND ({_classes(table, moment, f'{table}.started_at <= {moment}')})"
    return f"{table}.submitted_at <= {moment} AND ({still} OR {ended})"


def open_between(table: str, begin: str, end: str, *, ended: bool = False) -> str:
    """Return the condition that a period was open at some time in [begin, end); with `ended`, and is not any more."""
    over = (
        f"({table}.ended_at > {begin} OR {table}.started_at >= {begin})"
        f" AND ({_classes(table, begin, f'{table}.started_at < {end}')})"
    )
    still = f"{table}.span = {OPEN_SPAN} AND {table}.started_at < {end}"
    return f"{table}.submitted_at < {end} AND ({over if ended else f'{still} OR {over}'})"


def _classes(table: str, moment: str, before: str) -> str:
    return "\n  OR ".join(
        f"{table}.span IN ({', '.join(map(str, spans))}) AND {before}{_after(table, moment, max(spans))}"
        for spans in _CLASSES
    )


def _after(table: str, moment: str, span: int) -> str:
    # the longest class holds everything that is longer still
    return "" if span == TOP_SPAN else f" AND {table}.started_at > {moment} - interval '{2 << span} s'"


RAN = (
    "nullif(greatest(extract(epoch FROM runs.ended_at - runs.started_at) - coalesce(runs.suspended_seconds, 0), 0), 0)"
)
"""The seconds of a run that has ended, without those of its suspension; NULL where there are none."""
CPU_EFFICIENCY = f"runs.used_cpu_seconds / nullif(runs.cpus * {RAN}, 0)"


def first_started(begin: str, end: str) -> str:
    """Return the condition that a job first started in [begin, end): by the class of its wait."""
    classes = "\n  OR ".join(
        f"wait_span IN ({', '.join(map(str, spans))})"
        + ("" if max(spans) == TOP_SPAN else f" AND submitted_at > {begin} - interval '{2 << max(spans)} s'")
        for spans in _CLASSES
    )
    return f"first_started_at >= {begin} AND first_started_at < {end} AND submitted_at < {end}\n  AND ({classes})"


_WHOLE_SINCE = f"date_trunc('day', {FROM} AT TIME ZONE 'UTC' + interval '86399.999999 s')"
"""The first midnight of UTC in the range."""
_WHOLE_UNTIL = f"date_trunc('day', {TO} AT TIME ZONE 'UTC')"
"""The last one."""
_BEGIN = f"{_WHOLE_SINCE} AT TIME ZONE 'UTC'"
_END = f"greatest({_WHOLE_SINCE}, {_WHOLE_UNTIL}) AT TIME ZONE 'UTC'"
_EDGES = (
    (FROM, f"least({_BEGIN}, {NOW_OR_TO})"),
    (_END, f"CASE WHEN {UNTIL_NOW} OR {_WHOLE_SINCE} > {_WHOLE_UNTIL} THEN '-infinity' ELSE {TO} END"),
)
"""What whole days leave over: of a range that goes on until now, or within one day, the second is nothing."""
WHOLE_DAYS = f"""day >= {_WHOLE_SINCE}::date
  AND day < CASE WHEN {UNTIL_NOW} THEN (now() AT TIME ZONE 'UTC')::date + 1 ELSE {_WHOLE_UNTIL}::date END"""

TOUCHED_DAYS = f"day BETWEEN ({FROM} AT TIME ZONE 'UTC')::date AND ({NOW_OR_TO} AT TIME ZONE 'UTC')::date"
"""The days of a rollup of which the range holds a part."""
DAY = f"greatest(day::timestamp AT TIME ZONE 'UTC', {FROM})"
"""Where a day stands in a picture over time: the first one at the picture's edge, for it began before."""
NOON = "(day + time '12:00') AT TIME ZONE 'UTC'"
"""What stands for a day of UTC where days have no time: it is of the same date in nearly every zone."""

MEASURES = Figures.__struct_fields__
"""The figures of `bbq usage` and `top`, in their order."""


def used(column: str, where: str) -> str:
    """Return common table expressions that end in `used`: what was used in the range by a column, as bbq counts it.

    Whole days of UTC come from usage_daily, the edges of the range and what still runs from the rows.

    Args:
        column: owner, account, vo, queue, cluster, or a variable that is one of them.
        where: a condition on cluster, owner, account, vo and queue, which all the tables have.

    Returns:
        SQL to put before a SELECT from `used`: `name`, and the columns of MEASURES.
    """
    sums = ", ".join(f"sum({each}) AS {each}" for each in MEASURES[2:])
    return f"""WITH parts AS (
  SELECT {column} AS name, sum(jobs) AS jobs, sum(jobs) FILTER (WHERE outcome NOT IN {NO_FAILURE}) AS failed, {sums}
  FROM usage_daily WHERE {WHOLE_DAYS} AND {where}
  GROUP BY 1{"".join(_ended(column, where, *edge) for edge in _EDGES)}
  UNION ALL
  SELECT name, 0, 0, 0, 0, sum(seconds), sum(seconds * cpus), sum(seconds * gpus),
    sum(seconds * memory_bytes / 1048576), sum(seconds * cpus) FILTER (WHERE used_cpu_seconds IS NOT NULL),
    sum(used_cpu_seconds)
  FROM ({"".join(_ran(column, where, *edge) for edge in _EDGES)}
    SELECT {column}, cpus, gpus, memory_bytes, NULL,
      extract(epoch FROM {NOW_OR_TO} - greatest(started_at, {FROM}))::float8
    FROM runs WHERE span = {OPEN_SPAN} AND started_at < {NOW_OR_TO} AND {where}
    UNION ALL{_suspended(column, where)}
  ) AS held (name, cpus, gpus, memory_bytes, used_cpu_seconds, seconds)
  GROUP BY 1
), used AS (
  SELECT nullif(name, '') AS name, {", ".join(f"coalesce(sum({each}), 0)::float8 AS {each}" for each in MEASURES)}
  FROM parts GROUP BY 1
)
"""


def _ended(column: str, where: str, begin: str, end: str) -> str:
    return f"""
  UNION ALL
  SELECT {column}, count(*), count(*) FILTER (WHERE coalesce(outcome, '') NOT IN {NO_FAILURE}),
    count(first_started_at), extract(epoch FROM sum(first_started_at - submitted_at)), 0, 0, 0, 0, 0, 0
  FROM jobs WHERE ended_at >= {begin} AND ended_at < {end} AND {COUNTED} AND {where}
  GROUP BY 1"""


def _ran(column: str, where: str, begin: str, end: str) -> str:
    """Return what ended runs held in a part of the range.

    How use, and suspension, were spread over a run is not known: evenly.
    """
    return f"""
    SELECT {column}, cpus, gpus, memory_bytes, used_cpu_seconds * passed / nullif(whole, 0),
      passed * CASE WHEN suspended_seconds IS NULL THEN 1
        ELSE greatest(whole - suspended_seconds, 0) / nullif(whole, 0) END
    FROM (
      SELECT {column}, cpus, gpus, memory_bytes, used_cpu_seconds, suspended_seconds,
        extract(epoch FROM least(ended_at, {end}) - greatest(started_at, {begin}))::float8 AS passed,
        extract(epoch FROM ended_at - started_at)::float8 AS whole
      FROM runs WHERE {open_between("runs", begin, end, ended=True)} AND {where}
    ) AS ran
    UNION ALL"""


def _suspended(column: str, where: str) -> str:
    """Return what runs that go on did not hold while they were suspended, as less than nothing."""
    begin = f"greatest(job_pauses.started_at, runs.started_at, {FROM})"
    end = f"least(coalesce(job_pauses.ended_at, {NOW_OR_TO}), {NOW_OR_TO})"
    return f"""
    SELECT {column}, cpus, gpus, memory_bytes, NULL, -extract(epoch FROM {end} - {begin})::float8
    FROM job_pauses JOIN runs USING (native_id, submitted_at, cluster)
    WHERE {LENT} AND {open_between("job_pauses", FROM, NOW_OR_TO)} AND {end} > {begin}
      AND runs.span = {OPEN_SPAN} AND runs.started_at < {NOW_OR_TO} AND {where}"""

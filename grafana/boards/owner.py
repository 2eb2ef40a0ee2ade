"""Everything about one owner: what is in the queues, what was used, how it ended, the jobs."""

from grafana import variables
from grafana.columns import HIDDEN, leads
from grafana.figures import number
from grafana.layout import MOMENT, board_of
from grafana.links import LIFE, field, label, life, to
from grafana.look import table
from grafana.over_time import days, graph
from grafana.prometheus import HOLDING, STATES, in_state
from grafana.queries import CLUSTER, Json, now, over_time, rows, series
from grafana.sql import COUNTED, FROM, LATELY, NO_FAILURE, NOON, NOW_OR_TO, TOUCHED_DAYS, among, used
from history.vocabulary import FAILURES, OUTCOMES

_OWNER = 'owner="$owner"'
_MINE = f"{among('cluster')} AND owner = '$owner'"
_STATES = ("running", "finishing", "suspended", "pending", "held")
_PAST = "History: in the time range"
_NONE = f"0 * count(bbq_jobs{{{CLUSTER}}}) unless on () (sum(bbq_owners_collapsed{{{CLUSTER}}}) > 0)"
"""What an owner without series has: nothing, but where some owners are put together as (other)."""
_NONE_HELD = f'{_NONE} unless on () bbq_family_dropped{{family=~"bbq_jobs_cpus|bbq_jobs_gpus"}}'
_UNTOLD = " Not told: not read, or their jobs are among those of (other)."
_EMPTY = "None, or not told"


def board() -> Json:
    """Return the board."""
    return board_of(
        "owner",
        "BBQ Owner",
        "One owner: jobs in the queues, what was used, how it ended.",
        [
            variables.datasource(),
            variables.history(),
            variables.clusters(),
            variables.one_of_prometheus(
                "owner", "Owner", "Whose jobs; of those that had any in the time range.",
                f"label_values(bbq_jobs{{{CLUSTER}}}, owner)",
            ),
        ],
        [
            (MOMENT, 4, (*((_count(state), 4) for state in STATES), (_cpus(), 4), (_gpus(), 4), (_share(), 4))),
            ("Over time", 8, ((_jobs(), 9), (_cpus_by_queue(), 9), (_calls(), 6))),
            (_PAST, 4, ((_sums(), 24),)),
            (_PAST, 8, ((_days(), 12), (_failures(), 12))),
            (_PAST, 7, ((_queues(), 24),)),
            (_PAST, 7, ((_waiting(), 24),)),
            (_PAST, 10, ((_last(), 24),)),
        ],
    )  # fmt: skip


def _count(state: str) -> Json:
    return number(
        state.capitalize(),
        f"Jobs that are {' or '.join(STATES[state])}.{_UNTOLD}",
        now(f"sum(bbq_jobs{{{CLUSTER},{_OWNER},{in_state(state)}}}) or ({_NONE})"),
        empty=_EMPTY,
        leads=("These jobs", to("jobs", owner="${owner:percentencode}", state=STATES[state], when="any")),
    )


def _cpus() -> Json:
    return number(
        "CPUs",
        f"CPUs that their jobs hold.{_UNTOLD}",
        now(f"sum(bbq_jobs_cpus{{{CLUSTER},{_OWNER},{HOLDING}}}) or ({_NONE_HELD})"),
        empty=_EMPTY,
    )


def _gpus() -> Json:
    return number(
        "GPUs",
        f"GPUs that their jobs hold.{_UNTOLD}",
        now(f"sum(bbq_jobs_gpus{{{CLUSTER},{_OWNER},{HOLDING}}}) or ({_NONE_HELD})"),
        empty=_EMPTY,
    )


def _share() -> Json:
    return number(
        "Of all in use",
        f"The part that they have of all CPUs that jobs of the chosen clusters hold.{_UNTOLD}",
        now(
            f"(sum(bbq_jobs_cpus{{{CLUSTER},{_OWNER},{HOLDING}}}) or ({_NONE_HELD}))"
            f" / sum(bbq_jobs_cpus{{{CLUSTER},{HOLDING}}})"
        ),
        empty=_EMPTY,
        unit="percentunit",
    )


def _jobs() -> Json:
    return graph(
        "Jobs by state",
        "A task of an array is a job.",
        over_time(f"sum by (state) (bbq_jobs{{{CLUSTER},{_OWNER}}})", "{{state}}"),
        empty="No jobs in this time",
        stacked=True,
        narrow=True,
        words=_STATES,
        leads=(
            "These jobs",
            to("jobs", owner="${owner:percentencode}", state=label("state"), when="any"),
        ),
    )


def _cpus_by_queue() -> Json:
    return graph(
        "CPUs by queue",
        "CPUs that their jobs hold.",
        over_time(f"sum by (queue) (bbq_jobs_cpus{{{CLUSTER},{_OWNER},{HOLDING}}})", "{{queue}}"),
        empty="Nothing ran in this time",
        stacked=True,
        narrow=True,
        leads=("This queue", to("queues", queue=label("queue"))),
    )


def _calls() -> Json:
    return graph(
        "Calls to slurmctld, a minute",
        "Those that they made: squeue in a loop is seen here. What they cost is told on BBQ itself.",
        over_time(
            f"60 * sum by (cluster) (rate(bbq_scheduler_owner_rpcs_total{{{CLUSTER},{_OWNER}}}[$__rate_interval]))",
            "{{cluster}}",
        ),
        empty="No slurmctld has told of any",
        narrow=True,
    )


_FACTS = ("jobs", "failed", "failed share", "CPU hours", "GPU hours", "CPU efficiency", "mean wait")


def _sums() -> Json:
    return table(
        "What was used?",
        "Held by runs in the time range, also by those that still run; jobs, failures and waits are of those that ended in "
        "it. CPU efficiency is of the runs of which it is known what they used.",
        rows(
            used("owner", _MINE)
            + """SELECT sum(jobs) AS jobs, sum(failed) AS failed, sum(failed) / nullif(sum(jobs), 0) AS "failed share",
  sum(cpu_seconds) / 3600 AS "CPU hours", sum(gpu_seconds) / 3600 AS "GPU hours",
  sum(used_cpu_seconds) / nullif(sum(measured_cpu_seconds), 0) AS "CPU efficiency",
  sum(wait_seconds) / nullif(sum(waits), 0) AS "mean wait"
FROM used HAVING count(*) > 0"""
        ),
        empty="Nothing in this time",
        columns=_FACTS,
    )


def _days() -> Json:
    return days(
        "CPU hours day by day",
        "Days of UTC, each as a whole, by how the jobs ended.",
        series(
            f"""SELECT {NOON} AS time, coalesce(nullif(outcome, ''), 'not told yet') AS outcome,
  sum(cpu_seconds) / 3600.0 AS "Value"
FROM usage_daily WHERE {TOUCHED_DAYS} AND {_MINE}
GROUP BY 1, 2 ORDER BY 1, 2"""
        ),
        empty="Nothing has ended in these days",
        words=(*OUTCOMES, "not told yet"),
    )


def _queues() -> Json:
    these = {"owner": "${owner:percentencode}", "queue": field("queue")}
    return table(
        "By queue",
        "The same sums, queue by queue.",
        rows(
            used("queue", _MINE)
            + """SELECT name AS queue, jobs, failed, cpu_seconds / 3600 AS "CPU hours", gpu_seconds / 3600 AS "GPU hours",
  used_cpu_seconds / nullif(measured_cpu_seconds, 0) AS "CPU efficiency", wait_seconds / nullif(waits, 0) AS "mean wait"
FROM used ORDER BY cpu_seconds DESC, 1"""
        ),
        empty="Nothing in this time",
        columns=("queue", "jobs", "failed", "CPU hours", "GPU hours", "CPU efficiency", "mean wait"),
        more={
            "jobs": leads("Those that ended", to("jobs", **these, when="ended")),
            "failed": leads("Those that failed", to("jobs", **these, when="ended", outcome=FAILURES)),
        },
    )  # fmt: skip


def _failures() -> Json:
    return table(
        "How did jobs end that failed?",
        "By outcome and exit code, the most frequent first: of those that ended in the time range (in its last 31 days).",
        rows(
            f"""SELECT outcome, exit_code AS "exit code", exit_signal AS "signal", count(*) AS jobs, max(ended_at) AS "newest",
  coalesce(exit_code::text, '-') AS code
FROM jobs
WHERE {_MINE} AND ended_at >= {LATELY} AND ended_at < {NOW_OR_TO} AND {COUNTED}
  AND outcome NOT IN {NO_FAILURE}
GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT 50"""
        ),
        empty="None of their jobs failed in this time",
        columns=("outcome", "exit code", "signal", "jobs", "newest", "code"),
        more={
            "code": HIDDEN,
            "jobs": leads(
                "These jobs",
                to(
                    "jobs", owner="${owner:percentencode}", outcome=field("outcome"), exit_code=field("code"),
                    when="ended",
                ),
            )
        },
    )  # fmt: skip


def _waiting() -> Json:
    return table(
        "Why do they wait now?",
        "Pending and held jobs as they are now, whatever the time range, by what their scheduler says.",
        rows(
            f"""SELECT queue, state, reason, count(*) AS jobs, min(submitted_at) AS "oldest"
FROM jobs WHERE {_MINE} AND ended_at IS NULL AND state IN ('pending', 'held') AND {COUNTED}
GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT 50"""
        ),
        empty="None of their jobs wait",
        columns=("queue", "state", "reason", "jobs", "oldest"),
    )


def _last() -> Json:
    return table(
        "The newest jobs",
        "Those submitted last, in the time range.",
        rows(
            f"""SELECT native_id AS job, state, outcome, submitted_at AS submitted, first_started_at AS started,
  ended_at AS ended, requested_cpus AS "CPUs", requested_memory_bytes AS memory, used_memory_bytes AS "peak memory",
  exit_code AS "exit code", queue, name, cluster,
  {life()}
FROM jobs WHERE {_MINE} AND submitted_at BETWEEN {FROM} AND {NOW_OR_TO}
ORDER BY submitted_at DESC, native_id DESC LIMIT 100"""
        ),
        empty="No job was submitted in this time",
        columns=(
            "job", "state", "outcome", "submitted", "started", "ended", "CPUs", "memory", "peak memory", "exit code",
            "queue", "name", "cluster", *LIFE,
        ),
    )  # fmt: skip

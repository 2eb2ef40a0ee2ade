"""One job: its life as a timeline, what it asked for and used, its runs, pauses and kin."""

from grafana import variables
from grafana.columns import link
from grafana.layout import board_of
from grafana.links import LIFE, field, life, to
from grafana.look import table
from grafana.over_time import timeline
from grafana.queries import Json, rows
from grafana.sql import CPU_EFFICIENCY, FROM, among

_HERE = among("cluster")
_JOB = f"""WITH asked AS MATERIALIZED (
  SELECT coalesce(nullif(translate('$job', '~!', '#+'), ''), (
    SELECT native_id FROM jobs WHERE {_HERE} AND ended_at <= now() AND run_count > 0
    ORDER BY ended_at DESC LIMIT 1)) AS id
), ids AS MATERIALIZED (
  SELECT id FROM asked UNION ALL SELECT id || '.0' FROM asked
  UNION ALL SELECT queue || '#' || id FROM asked CROSS JOIN queues WHERE {_HERE}
  UNION ALL SELECT queue || '#' || id || '.0' FROM asked CROSS JOIN queues WHERE {_HERE}
), job AS MATERIALIZED (
  SELECT native_id, submitted_at, cluster, owner, account, vo, queue, name, state, native_state, outcome, reason, waiting,
    eligible_at, first_started_at, ended_at, exit_code, exit_signal, requested_cpus, requested_gpus,
    requested_memory_bytes, used_memory_bytes, requested_wall_seconds, used_cpu_seconds, array_parent, het_parent,
    dag_parent, routed_from, routed_to, accounted, seen_at, details
  FROM jobs WHERE {_HERE} AND native_id = ANY (ARRAY(SELECT id FROM ids))
    AND ('$submitted' = '' OR extract(epoch FROM submitted_at)::bigint::text = '$submitted')
  ORDER BY submitted_at DESC LIMIT 1
)"""
"""The job, looked for by itself: Citus joins no big table with one that is not spread like it."""
_MINE = "(native_id, submitted_at, cluster) = (SELECT native_id, submitted_at, cluster FROM job)"


_PLACES = f"""places AS MATERIALIZED (
  SELECT number, string_agg(worker, ', ' ORDER BY worker) AS workers, min(worker) AS worker,
    nullif(count(*) - 1, 0) AS "and more"
  FROM run_workers WHERE {_MINE} GROUP BY number
)"""
"""Where each of its runs was. What is of several tables is put together only when each has been read."""

_NONE = "There is no such job"


def board() -> Json:
    """Return the board."""
    return board_of(
        "job",
        "BBQ Job",
        "One job, from its submission to its end.",
        [
            variables.history(),
            variables.clusters_of_history(),
            variables.text("job", "Job", "Its id; the job that ended last when nothing is written."),
            variables.text("submitted", "Submitted", "When it was submitted, in epoch seconds: ids are given again. The newest when nothing is written."),
        ],
        [
            (None, 4, ((_words(), 24),)),
            (None, 4, ((_figures(), 24),)),
            (None, 7, ((_life(), 24),)),
            (None, 6, ((_runs(), 24),)),
            (None, 12, ((_facts(), 12), (_details(), 12))),
            (None, 6, ((_pauses(), 24),)),
            (None, 7, ((_kin(), 24),)),
        ],
        since="now-7d",
    )  # fmt: skip


def _words() -> Json:
    return table(
        "Which job?",
        "What it is and how it is now, whatever the time range.",
        rows(
            f"""{_JOB}
SELECT cluster, native_id AS id, state, outcome, owner, queue, account, name, vo FROM job"""
        ),
        empty="There is no such job in this cluster's history",
        columns=("cluster", "id", "state", "outcome", "owner", "queue", "account", "name", "vo"),
    )


def _figures() -> Json:
    return table(
        "How did it do?",
        "Waited until its first start; ran in all its runs together; of what it asked for, what it used (its newest run); why it "
        "is held or ended so, as its scheduler says.",
        rows(
            f"""{_JOB}, its_runs AS (
  SELECT runs.number, runs.memory_bytes, runs.used_memory_bytes, {CPU_EFFICIENCY} AS cpu_efficiency,
    extract(epoch FROM coalesce(runs.ended_at, now()) - runs.started_at) AS seconds, runs.ended_at
  FROM runs WHERE {_MINE}
)
SELECT
  (SELECT extract(epoch FROM coalesce(first_started_at, ended_at, now()) - submitted_at) FROM job) AS waited,
  (SELECT sum(seconds) FROM its_runs) AS ran,
  (SELECT cpu_efficiency FROM its_runs WHERE ended_at IS NOT NULL
   ORDER BY number DESC LIMIT 1) AS "CPU efficiency",
  (SELECT used_memory_bytes / nullif(memory_bytes::float8, 0) FROM its_runs ORDER BY number DESC LIMIT 1) AS "memory efficiency",
  (SELECT count(*) FROM its_runs) AS runs, reason
FROM job"""
        ),
        empty=_NONE,
        columns=("waited", "ran", "CPU efficiency", "memory efficiency", "runs", "reason"),
    )


def _life() -> Json:
    return timeline(
        "Its life",
        "What it was at each moment of the time range, and where. A job that has ended is nothing any more.",
        rows(
            f"""{_JOB}, mine AS MATERIALIZED (
  SELECT number, started_at, ended_at FROM runs WHERE {_MINE}
), paused AS MATERIALIZED (
  SELECT kind, started_at, ended_at FROM job_pauses WHERE {_MINE}
), {_PLACES}, moments AS MATERIALIZED (
  SELECT submitted_at AS moment FROM job UNION SELECT ended_at FROM job
  UNION SELECT started_at FROM mine UNION SELECT ended_at FROM mine
  UNION SELECT started_at FROM paused UNION SELECT ended_at FROM paused
)
SELECT moment AS time,
  CASE WHEN moment >= job.ended_at THEN NULL
    WHEN mine.number IS NOT NULL THEN CASE WHEN EXISTS ({_paused("suspended")}) THEN 'suspended' ELSE 'running' END
    WHEN EXISTS ({_paused("held")}) THEN 'held' ELSE 'pending' END AS state,
  places.workers AS worker, 'run ' || mine.number AS run
FROM moments CROSS JOIN job
  LEFT JOIN mine ON mine.started_at <= moment AND (mine.ended_at IS NULL OR mine.ended_at > moment)
  LEFT JOIN places ON places.number = mine.number
WHERE moment IS NOT NULL AND moment >= submitted_at
UNION ALL
SELECT {FROM}, '{_NONE}', NULL, NULL WHERE NOT EXISTS (SELECT FROM job)
ORDER BY time"""
        ),
        empty=_NONE,
        remarks=(_NONE,),
    )


def _paused(kind: str) -> str:
    return (
        f"SELECT FROM paused WHERE kind = '{kind}' AND paused.started_at <= moment"
        " AND (paused.ended_at IS NULL OR paused.ended_at > moment)"
    )


def _runs() -> Json:
    return table(
        "Its runs",
        "Each start of it: a requeue, a preemption or a failed worker gives another.",
        rows(
            f"""{_JOB}, {_PLACES}, mine AS MATERIALIZED (
  SELECT number, started_at, ended_at, outcome, exit_code, exit_signal, cpus, gpus, memory_bytes, used_memory_bytes,
    {CPU_EFFICIENCY} AS cpu_efficiency
  FROM runs WHERE {_MINE}
)
SELECT number AS run, started_at AS started, ended_at AS ended,
  extract(epoch FROM coalesce(ended_at, now()) - started_at)::float8 AS ran, outcome, worker, "and more",
  exit_code AS "exit code", exit_signal AS "signal", cpus AS "CPUs", gpus AS "GPUs", memory_bytes AS memory,
  used_memory_bytes AS "peak memory", used_memory_bytes / nullif(memory_bytes::float8, 0) AS "memory efficiency",
  cpu_efficiency AS "CPU efficiency"
FROM mine LEFT JOIN places USING (number)
ORDER BY number"""
        ),
        empty="It has not started",
        columns=(
            "run", "started", "ended", "ran", "outcome", "worker", "and more", "exit code", "signal", "CPUs", "GPUs",
            "memory", "peak memory", "memory efficiency", "CPU efficiency",
        ),
        more={"worker": {"links": [link("This worker", to("worker", worker=field("worker")))]}},
    )  # fmt: skip


def _facts() -> Json:
    names = (
        "owner", "account", "vo", "queue", "name", "state", "native_state", "outcome", "reason", "waiting", "submitted_at",
        "eligible_at", "first_started_at", "ended_at", "exit_code", "exit_signal", "requested_cpus", "requested_gpus",
        "array_parent", "het_parent", "dag_parent", "routed_from", "routed_to", "accounted", "seen_at",
    )  # fmt: skip
    sized = {
        "requested_memory_bytes": "pg_size_pretty(requested_memory_bytes)",
        "used_memory_bytes": "pg_size_pretty(used_memory_bytes)",
        "requested_wall_seconds": "make_interval(secs => requested_wall_seconds)::text",
        "used_cpu_seconds": "make_interval(secs => used_cpu_seconds)::text",
    }
    pairs = [*((name, f"{name}::text") for name in names), *sized.items()]
    values = ",\n  ".join(f"({place}, '{name.replace('_', ' ')}', {text})" for place, (name, text) in enumerate(pairs))
    return table(
        "What is known of it",
        "What its scheduler said; what it did not say is left out.",
        rows(
            f"{_JOB}\nSELECT what, value FROM job CROSS JOIN LATERAL (VALUES\n  {values}\n) AS facts (place, what, value)\n"
            "WHERE value IS NOT NULL ORDER BY place"
        ),
        empty=_NONE,
        columns=("what", "value"),
    )


def _details() -> Json:
    return table(
        "What else its scheduler said",
        "As it was said, in the scheduler's own words.",
        rows(
            f"""{_JOB}
SELECT key AS what, value FROM job CROSS JOIN LATERAL jsonb_each_text(
  CASE jsonb_typeof(details) WHEN 'object' THEN details ELSE '{{}}' END) ORDER BY key"""
        ),
        empty="Nothing",
        columns=("what", "value"),
    )


def _pauses() -> Json:
    return table(
        "Pauses",
        "When it was held or suspended, and when it waited again after a run.",
        rows(
            f"""{_JOB}
SELECT CASE kind WHEN 'requeued' THEN 'waited again' ELSE kind END AS pause, started_at AS started, ended_at AS ended,
  extract(epoch FROM coalesce(ended_at, now()) - started_at)::float8 AS "for", reason
FROM job_pauses WHERE {_MINE} ORDER BY started_at"""
        ),
        empty="None",
        columns=("pause", "started", "ended", "for", "reason"),
    )


def _its(column: str) -> str:
    return f"(SELECT {column} FROM job)"


def _part_of(parent: str) -> str:
    """Return the condition that a job has the same parent, which its id begins with."""
    its = _its(parent)
    return f"{parent} = {its} AND native_id > {its} AND native_id < {its} || '`'"


def _kin() -> Json:
    return table(
        "Related jobs",
        "Other tasks of its array, components of it, its DAG, and jobs that it was routed from or to: at most 200.",
        rows(
            f"""{_JOB}, kin AS MATERIALIZED (
  SELECT dag_parent AS id FROM job UNION ALL SELECT routed_from FROM job UNION ALL SELECT routed_to FROM job
  UNION ALL SELECT queues.queue || '#' || routed_from FROM job JOIN queues USING (cluster)
  UNION ALL SELECT queues.queue || '#' || routed_to FROM job JOIN queues USING (cluster)
)
SELECT cluster, native_id AS job,
  CASE WHEN array_parent = {_its("array_parent")} THEN 'task of the same array'
    WHEN het_parent = {_its("het_parent")} THEN 'component of the same job'
    WHEN native_id = {_its("dag_parent")} THEN 'its DAG' ELSE 'routed from or to' END AS kin,
  state, outcome, {life()}
FROM jobs WHERE cluster = {_its("cluster")} AND native_id <> {_its("native_id")} AND (
  {_part_of("array_parent")}
  OR {_part_of("het_parent")}
  OR native_id = ANY (ARRAY(SELECT id FROM kin WHERE id IS NOT NULL)))
ORDER BY submitted_at DESC, native_id LIMIT 200"""
        ),
        empty="None",
        columns=("cluster", "job", "kin", "state", "outcome", *LIFE),
    )

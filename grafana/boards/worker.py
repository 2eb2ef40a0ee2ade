"""One worker: how it is, who was on it run by run, what failed there, and its states in the past."""

from grafana import variables
from grafana.figures import number
from grafana.layout import MOMENT, board_of
from grafana.links import LIFE, VALUE, label, life, to
from grafana.look import step, table
from grafana.over_time import days, graph, timeline
from grafana.prometheus import MAP, STATES, what_it_is
from grafana.queries import CLUSTER, Json, now, now_table, over_time, rows, series
from grafana.sql import CPU_EFFICIENCY, FROM, LATELY, LENT, NOON, NOW_OR_TO, TO, TOUCHED_DAYS, among, open_between
from history.vocabulary import OUTCOMES

_WORKER = 'worker="$worker"'
_C = f"{{{CLUSTER},{_WORKER}}}"
_PAST = "History: in the time range"
_RUNS = 40
"""How many runs are drawn one by one: each has a line that can be read."""
_NO_RUN, _NOT_KNOWN = "Nothing ran on it in this time", "The history does not know this worker"


def board() -> Json:
    """Return the board."""
    return board_of(
        "worker",
        "BBQ Worker",
        "One worker: how it is and was, who was on it, what failed there.",
        [
            variables.datasource(),
            variables.history(),
            variables.clusters(),
            variables.one_of_prometheus(
                "worker", "Worker", "Which worker.", f"label_values(bbq_worker_state{{{CLUSTER}}}, worker)"
            ),
        ],
        [
            (
                MOMENT,
                4,
                ((_is(), 4), (_since(), 4), (_cpus(), 4), (_memory(), 5), (_gpus(), 4), (_jobs(), 3)),
            ),
            (MOMENT, 4, ((_reason(), 24),)),
            ("Over time", 8, ((_cpus_over_time(), 12), (_memory_over_time(), 12))),
            (_PAST, 9, ((_who(), 24),)),
            (_PAST, 18, ((_run_by_run(), 24),)),
            (_PAST, 11, ((_runs(), 24),)),
            (_PAST, 8, ((_outcomes(), 24),)),
            (_PAST, 8, ((_states(), 24),)),
        ],
    )


def _is() -> Json:
    return number(
        "State",
        "Its state, or what is planned or wrong.",
        now(what_it_is(f",{_WORKER}"), "{{worker}}"),
        empty="Not read",
        unit="none",
        words=MAP,
    )


def _since() -> Json:
    return number(
        "State since",
        "Since when, where the scheduler says so.",
        now(f"1000 * max(bbq_worker_state_since_timestamp_seconds{_C})"),
        empty="Not told",
        unit="dateTimeFromNow",
    )


def _cpus() -> Json:
    return number(
        "CPUs in use",
        "Part of its CPUs that jobs hold.",
        now(f"sum(bbq_worker_cpus_allocated{_C}) / sum(bbq_worker_cpus{_C})"),
        empty="Not told",
        unit="percentunit",
    )


def _memory() -> Json:
    return number(
        "Memory in use",
        "Part of its memory that jobs hold.",
        now(f"sum(bbq_worker_memory_allocated_bytes{_C}) / sum(bbq_worker_memory_bytes{_C})"),
        empty="Not told",
        unit="percentunit",
    )


def _gpus() -> Json:
    return number(
        "GPUs in use",
        "GPUs that jobs hold, by model where it has several; of how many: on the GPUs board.",
        now(f"sum by (model) (bbq_worker_gpus_allocated{_C})", "{{model}}"),
        empty="None, or not told",
        leads=("The GPUs", to("gpus")),
    )


def _jobs() -> Json:
    return number(
        "Jobs",
        "Jobs that hold a part of it.",
        now(f"sum(bbq_worker_jobs{_C})"),
        empty="Not read",
        leads=("These jobs", to("jobs", worker="${worker:percentencode}", state=STATES["running"], when="any")),
    )


def _reason() -> Json:
    return table(
        "Reason",
        "What who drained it, or the scheduler, wrote.",
        now_table(f"max by (cluster, reason) (bbq_worker_reason_info{_C})"),
        empty="No reason is given",
        columns=("reason",),
        steps=(
            step(
                "organize",
                excludeByName={"Time": True, "Value": True, "cluster": True},
                renameByName={},
                indexByName={},
            ),
        ),
    )


def _cpus_over_time() -> Json:
    return graph(
        "CPUs",
        "CPUs that jobs hold, and how many there are.",
        over_time(f"sum(bbq_worker_cpus_allocated{_C})", "in use"),
        over_time(f"sum(bbq_worker_cpus{_C})", "capacity"),
        empty="Not read in this time",
        stacked=True,
        words=("in use",),
        lines=("capacity",),
    )


def _memory_over_time() -> Json:
    return graph(
        "Memory",
        "Memory that jobs hold, and how much there is for them.",
        over_time(f"sum(bbq_worker_memory_allocated_bytes{_C})", "in use"),
        over_time(f"sum(bbq_worker_memory_bytes{_C})", "capacity"),
        empty="Not read in this time",
        unit="bytes",
        stacked=True,
        words=("in use",),
        lines=("capacity",),
    )


_ON_IT = f"""{among("cluster", table="run_workers")} AND run_workers.worker = '$worker'
  AND {open_between("run_workers", LATELY, NOW_OR_TO)}"""
_JOIN = "run_workers JOIN runs USING (native_id, submitted_at, cluster, number)"


def _who() -> Json:
    return graph(
        "Who was on it?",
        "CPUs by owner at 300 moments of the time range (of its last 31 days), without those that suspended jobs gave to others. A gap: "
        "somebody had a run on it of which it is not known what it held on each of its workers.",
        series(
            f"""WITH there AS (
  SELECT runs.owner, run_workers.native_id, run_workers.submitted_at, cluster, run_workers.cpus,
    greatest(run_workers.started_at, {LATELY}) AS begins, run_workers.ended_at AS ends
  FROM {_JOIN}
  WHERE {_ON_IT}
), lent AS (
  SELECT owner, -cpus AS cpus, greatest(job_pauses.started_at, begins) AS begins, least(job_pauses.ended_at, ends) AS ends
  FROM there JOIN job_pauses USING (native_id, submitted_at, cluster)
  WHERE {LENT} AND cpus IS NOT NULL AND job_pauses.started_at < coalesce(ends, {NOW_OR_TO})
    AND coalesce(job_pauses.ended_at, {NOW_OR_TO}) > begins
), had AS (
  SELECT owner, cpus, begins, ends FROM there
  UNION ALL
  SELECT owner, cpus, begins, ends FROM lent
), changes AS (
  SELECT owner, {_place("begins")} AS place, coalesce(cpus, 0) AS cpus, CASE WHEN cpus IS NULL THEN 1 ELSE 0 END AS untold
  FROM had
  UNION ALL
  SELECT owner, {_place("ends")}, -coalesce(cpus, 0), CASE WHEN cpus IS NULL THEN -1 ELSE 0 END
  FROM had WHERE ends IS NOT NULL
)
SELECT {LATELY} + place * ({TO} - {LATELY}) / 300 AS time, owner,
  CASE WHEN sum(coalesce(sum(untold), 0)) OVER so_far = 0 THEN sum(coalesce(sum(cpus), 0)) OVER so_far END AS "Value"
FROM generate_series(0, 300) AS place CROSS JOIN (SELECT DISTINCT owner FROM there) AS owners
  LEFT JOIN changes USING (owner, place)
GROUP BY owner, place HAVING {LATELY} + place * ({TO} - {LATELY}) / 300 <= now()
WINDOW so_far AS (PARTITION BY owner ORDER BY place)
ORDER BY place, owner"""
        ),
        empty="Nobody was on it in this time",
        stacked=True,
        narrow=True,  # many owners may be on one worker
        named=True,
        leads=("This owner", to("owner", owner=label("owner"))),
    )


def _place(moment: str) -> str:
    """Return the first of the 300 moments that is not before one."""
    return f"ceil(extract(epoch FROM {moment} - {LATELY}) * 300 / extract(epoch FROM {TO} - {LATELY}))"


def _run_by_run() -> Json:
    # a row a change, its runs as an object: Grafana makes a column of each, whose value lasts until the next (so NULL
    # ends it, and being left out does not). partitionByValues would do in new Grafanas; 9 keeps the key as a second row
    return timeline(
        "Run by run",
        f"The newest {_RUNS} runs that were on it in the time range (in its last 31 days): whose they were, from start to end.",
        rows(
            f"""WITH there AS (
  SELECT runs.owner, run_workers.native_id, run_workers.number, run_workers.cluster, run_workers.submitted_at,
    greatest(run_workers.started_at, {LATELY}) AS begins, least(run_workers.ended_at, {NOW_OR_TO}) AS ends,
    run_workers.ended_at
  FROM {_JOIN}
  WHERE {_ON_IT}
  ORDER BY run_workers.started_at DESC, run_workers.native_id DESC LIMIT {_RUNS}
), named AS (
  SELECT owner, begins, ends, ended_at,
    native_id || CASE WHEN number > 1 THEN ' run ' || number ELSE '' END || CASE
      WHEN count(*) OVER (PARTITION BY native_id, number) = 1 THEN ''
      WHEN count(*) OVER (PARTITION BY native_id, number, cluster) = 1 THEN ' of ' || cluster
      ELSE ' of ' || cluster || ', submitted ' || to_char(submitted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') END AS run
  FROM there
)
SELECT moment AS time, json_object_agg(run, owner)::text AS runs FROM (
  SELECT begins AS moment, run, owner FROM named WHERE ends IS NULL OR ends > begins
  UNION ALL
  SELECT ends, run, NULL FROM named WHERE ended_at IS NOT NULL AND ends > begins
  UNION ALL
  SELECT {LATELY}, 'no run', CASE WHEN EXISTS (SELECT FROM workers WHERE {among("cluster")} AND worker = '$worker')
    THEN '{_NO_RUN}' ELSE '{_NOT_KNOWN}' END WHERE NOT EXISTS (SELECT FROM named)
) AS changes GROUP BY moment ORDER BY moment"""
        ),
        empty=_NO_RUN,
        steps=(
            step("extractFields", source="runs", format="json", replace=False),
            step("organize", excludeByName={"runs": True}, renameByName={}, indexByName={}),
        ),
        named=True,
        remarks=(_NO_RUN, _NOT_KNOWN),
        leads=("Their jobs on it", to("jobs", worker="${worker:percentencode}", owner=VALUE, when="running")),
    )


def _runs() -> Json:
    return table(
        "What ran on it?",
        "The newest 500 runs that were on it in the time range (in its last 31 days).",
        rows(
            f"""SELECT run_workers.native_id AS job, run_workers.number AS run, runs.owner, runs.outcome,
  run_workers.started_at AS started, run_workers.ended_at AS ended, run_workers.cpus AS "CPUs",
  run_workers.memory_bytes AS memory, runs.used_memory_bytes AS "peak memory", runs.exit_code AS "exit code",
  run_workers.gpus AS "GPUs", {CPU_EFFICIENCY} AS "CPU efficiency", runs.queue, run_workers.cluster,
  {life("run_workers")}
FROM {_JOIN}
WHERE {_ON_IT}
ORDER BY run_workers.started_at DESC, run_workers.native_id DESC LIMIT 500"""
        ),
        filters=True,
        empty="Nothing ran on it in this time",
        columns=(
            "job", "run", "owner", "outcome", "started", "ended", "CPUs", "memory", "peak memory", "exit code", "GPUs",
            "CPU efficiency", "queue", "cluster", *LIFE,
        ),
    )  # fmt: skip


def _outcomes() -> Json:
    return days(
        "How runs ended on it, day by day",
        "Days of UTC, each as a whole; accounting has not told yet of those without an outcome.",
        series(
            f"""SELECT {NOON} AS time, coalesce(nullif(outcome, ''), 'not told yet') AS outcome,
  sum(runs) AS "Value"
FROM workers_daily WHERE {TOUCHED_DAYS} AND {among("cluster")} AND worker = '$worker'
GROUP BY 1, 2 ORDER BY 1, 2"""
        ),
        empty="No run ended on it in these days",
        words=(*OUTCOMES, "not told yet"),
    )


_WORSE = ("maintenance", "powered_down", "down", "not_responding", "unknown", "draining", "reserved", "powering_up")
"""What a worker is called that is up and something else as well, the first: a draining one is not just up."""
_STATE = (
    f"coalesce((ARRAY(SELECT word FROM unnest(ARRAY[{', '.join(map(repr, _WORSE))}]) WITH ORDINALITY AS known (word, place)"
    " WHERE word = ANY (string_to_array(flags || ',' || state, ',')) ORDER BY place))[1], state)"
)


def _states() -> Json:
    return table(
        "How it was",
        "Periods in which nothing of it changed, the newest first: state, flags, reason, and what it had.",
        rows(
            f"""SELECT cluster, date_trunc('second', started_at) AS "from then",
  date_trunc('second', ended_at) AS "until then", {_STATE} AS state, nullif(flags, '') AS flags, reason,
  cpus AS "CPUs", memory_bytes AS memory, native_state AS "scheduler's word"
FROM worker_states
WHERE {among("cluster")} AND worker = '$worker' AND started_at < {NOW_OR_TO}
  AND (ended_at IS NULL OR ended_at > {FROM})
ORDER BY started_at DESC LIMIT 200"""
        ),
        empty="It was not read in this time",
        columns=(
            "cluster",
            "from then",
            "until then",
            "state",
            "flags",
            "reason",
            "CPUs",
            "memory",
            "scheduler's word",
        ),
    )

"""Job search: every filter of `bbq search` as a variable, and the jobs, each a click away."""

from collections.abc import Mapping

from grafana import variables
from grafana.columns import A_JOBS_REASON
from grafana.figures import remark
from grafana.layout import board_of
from grafana.links import LIFE, life
from grafana.look import BLANK, table, words
from grafana.notices import of_history
from grafana.queries import Json, rows
from grafana.sql import FROM, NONE, NOW_OR_TO, TO, among, open_at, open_between
from history.questions.resources import MEASURES, SIZES, TIMES, WORDS
from history.vocabulary import OUTCOMES, STATES

_WHEN = (
    ("submitted in the time range", "submitted"),
    ("ended in the time range", "ended"),
    ("running in the time range (in its last 7 days)", "running"),
    ("running at its end", "running_at"),
    ("at any time", "any"),
)

HELP = """
**When** says what the time range above is about. **Name** takes `*` and `?`. **Resource** is as in `bbq search`: what a job
asked for (`gpu`, `gpu:a100`, `cpus>=8`, `memory>64G`, `gpus>=2`, `wall>1d`, `licence=x`, `feature=x`, `qos=x`,
`reservation=x`) or used (`used-memory<8G`, `used-cpu>1h`, `runs>1`), several with spaces between. **Job** takes ids, with
commas between. A search at any time goes through all of the history: choose something besides.
"""


def board() -> Json:
    """Return the board."""
    return board_of(
        "jobs",
        "BBQ Job search",
        "Every filter combines with every other; the newest jobs first.",
        [
            variables.history(),
            variables.clusters_of_history(),
            variables.choice("when", "When", "What the time range is about.", _WHEN),
            *(
                variables.several_of_history(name, label, about, f"SELECT DISTINCT coalesce(nullif({name}, ''), '{NONE}') FROM arrivals_daily "
                                             f"WHERE day >= ($__timeFrom())::timestamptz::date - 31 ORDER BY 1")
                for name, label, about in (
                    ("owner", "Owner", "Whose jobs."), ("account", "Account", "The account they are charged to."),
                    ("vo", "VO", "Their virtual organisation."), ("queue", "Queue", "Partition or schedd."),
                )
            ),
            variables.several_of_history("worker", "Worker", "A worker that they ran on.", "SELECT DISTINCT worker FROM workers ORDER BY 1"),
            variables.choice("state", "State", "The state they are in.", [(each, each) for each in STATES], several=True),
            variables.choice("outcome", "Outcome", "How they ended.", [(each, each) for each in OUTCOMES], several=True),
            variables.text("name", "Name", "Their name; * and ? stand for anything."),
            variables.text("resource", "Resource", "What they asked for or used: gpu cpus>=8 memory>64G used-memory<8G."),
            variables.text("exit_code", "Exit code", "Their exit code, or a dash for none."),
            variables.text("routed_from", "Routed from", "The job that they were routed from; any: whichever."),
            variables.text("job", "Job", "Ids, with commas between."),
        ],
        [
            (None, 3, ((words(HELP), 24),)),
            (None, 22, ((_found(), 24),)),
        ],
        first=((of_history(), 12), (_misread(), 12)),
    )  # fmt: skip


def _misread() -> Json:
    """Tell which part of Resource means nothing, for which no job is found."""
    return remark(
        rows(
            f"""{_WANTED}
SELECT coalesce('Not understood in Resource: ' || string_agg(each, ' ')
  || ' - write for example gpu, gpus>=2, gpu:a100, memory>64G or wall>1d', '{BLANK}') AS said
FROM wanted WHERE NOT coalesce({_UNDERSTOOD}, false)"""
        )
    )


def _found() -> Json:
    return table(
        "Which jobs?",
        "The newest 500 by submission that fit all of the choices above.",
        rows(f"{_ASKED}, found AS MATERIALIZED (\n{_KEYS}\n), {_SHOWN}\nSELECT {_COLUMNS}\n"
             f"FROM shown LEFT JOIN places USING ({_KEY})\nORDER BY submitted_at DESC, native_id DESC"),
        filters=True,
        more={"reason": A_JOBS_REASON},
        empty="No job fits all of this",
        columns=(
            "job", "owner", "state", "outcome", "submitted", "waited", "CPUs", "memory", "peak memory", "exit code", "queue",
            "worker", "started", "ended", "GPUs", "name", "reason", "and more", "signal", "account", "vo", "cluster", *LIFE,
        ),
    )  # fmt: skip


_KEY = "native_id, submitted_at, cluster"
_SHOWN = f"""shown AS MATERIALIZED (
  SELECT {_KEY}, owner, account, vo, queue, name, state, outcome, reason, first_started_at, ended_at, run_count,
    requested_cpus, requested_gpus, requested_memory_bytes, used_memory_bytes, exit_code, exit_signal
  FROM found JOIN jobs USING ({_KEY}) ORDER BY submitted_at DESC, native_id DESC LIMIT 500
), places AS MATERIALIZED (
  SELECT {_KEY}, min(worker) AS worker, nullif(count(*) - 1, 0) AS "and more"
  FROM shown JOIN run_workers USING ({_KEY}) WHERE run_workers.number = shown.run_count GROUP BY {_KEY}
)"""
"""What is shown of the jobs that are found, and the workers of the newest run: the first, and how many more there are."""

_COLUMNS = f"""native_id AS job, owner, state, outcome, submitted_at AS submitted,
  extract(epoch FROM first_started_at - submitted_at)::bigint AS waited, requested_cpus AS "CPUs",
  requested_memory_bytes AS memory, used_memory_bytes AS "peak memory", exit_code AS "exit code", queue, worker,
  first_started_at AS started, ended_at AS ended, requested_gpus AS "GPUs", name, reason, "and more",
  exit_signal AS "signal", account, vo, cluster,
  {life()}"""


def _names(units: Mapping[str, int]) -> str:
    """Return the measures with these units, as a list of SQL's."""
    return ", ".join(f"'{name}'" for name, measure in MEASURES.items() if measure.units is units)


def _units() -> str:
    """Return what a unit stands for, as SQL: m is a minute of a time, and a mebibyte of a size; no other is of both."""
    sizes, known = _names(SIZES), {unit.upper(): size for unit, size in {**SIZES, **TIMES}.items()}
    each = " ".join(f"WHEN '{unit}' THEN {size}" for unit, size in known.items() if unit != "M")
    return f"CASE upper(unit) {each}\n    WHEN 'M' THEN CASE WHEN name IN ({sizes}) THEN {SIZES['M']} ELSE {TIMES['m']} END END"


_UNITS = _units()


def _these(units: Mapping[str, int]) -> str:
    return ", ".join(f"'{unit.upper()}'" for unit in units)


_WANTED = f"""WITH parsed AS (
  SELECT each, said[1] AS name, said[2] AS sign, said[3] AS text,
    regexp_match(said[3], '^([0-9]+(?:[.][0-9]+)?) *([A-Za-z]*)$') AS number
  FROM regexp_split_to_table(trim('$resource'), '\\s+') AS each,
    regexp_match(each, '^([a-z-]+)(<=|>=|!=|=|<|>|:)?(.*)$') AS said
  WHERE each <> ''
), wanted AS MATERIALIZED (
  SELECT each, name, sign, text, upper(unit) AS unit, amount * {_UNITS} AS value
  FROM (SELECT each, name, sign, text, number[1]::float8 AS amount,
          regexp_replace(number[2], '(?i)(?<=[KMGTP])I?B$', '') AS unit FROM parsed) AS amounts
)"""

_COUNTED = ", ".join(f"'{name}'" for name, measure in MEASURES.items() if len(measure.units) == 1)
_UNDERSTOOD = f"""CASE WHEN name IN ('gpu', 'gpus') AND sign IS NULL THEN text = ''
  WHEN name = 'gpu' THEN sign IN (':', '=') AND text <> ''
  WHEN name IN ({", ".join(f"'{name}'" for name in WORDS)}) THEN sign IN ('=', '!=', ':') AND text <> ''
  WHEN name IN ({_COUNTED}) THEN sign <> ':' AND value IS NOT NULL AND unit = ''
  WHEN name IN ({_names(SIZES)}) THEN sign <> ':' AND value IS NOT NULL AND unit IN ({_these(SIZES)})
  WHEN name IN ({_names(TIMES)}) THEN sign <> ':' AND value IS NOT NULL AND unit IN ({_these(TIMES)})
  END"""
"""What `bbq search --resource` takes too."""

_ASKED = f"""{_WANTED}, asked AS MATERIALIZED (
  SELECT string_agg(CASE WHEN NOT coalesce({_UNDERSTOOD}, false) THEN '1 == 2'
      WHEN name IN ('gpu', 'gpus') AND sign IS NULL THEN '$.gpus > 0'
      WHEN value IS NOT NULL AND name IN ({{MEASURES}})
        THEN '$."' || name || '" ' || CASE sign WHEN '=' THEN '==' ELSE sign END || ' ' || value::numeric::text
      END, ' && ') AS measures,
    string_agg(CASE WHEN NOT coalesce({_UNDERSTOOD}, false) THEN NULL
      WHEN name = 'gpu' AND sign IS NOT NULL THEN '$.gpus > 0 && exists($.models.keyvalue() ? (@.key == ' || to_json(lower(text)) || '))'
      WHEN name IN ({{WORDS}}) THEN CASE sign WHEN '!=' THEN '!' ELSE '' END
        || 'exists($.' || replace(name, 'license', 'licence') || '[*] ? (@ == ' || to_json(lower(text)) || '))'
      END, ' && ') AS words
  FROM wanted
)"""
"""Resource as JSON paths, of what a job has as numbers and of words: Citus refuses to look for each part in each job."""

_ASKED = _ASKED.format(
    MEASURES=", ".join(f"'{each}'" for each in MEASURES), WORDS=", ".join(f"'{each}'" for each in WORDS)
)


def _has(path: str, values: Mapping[str, str]) -> str:
    """Return the condition that a path is not asked for, or is true of these values; what is not known is left out."""
    pairs = ", ".join(f"'{name}', {value}" for name, value in values.items())
    return (
        f"((SELECT {path} FROM asked) IS NULL OR coalesce(jsonb_path_match(\n    jsonb_strip_nulls(jsonb_build_object({pairs})),"
        f" (SELECT {path} FROM asked)::jsonpath, '{{}}', true), false))"
    )


_FITS = "\n  AND ".join((
    _has("measures", {name: f"jobs.{measure.column}" for name, measure in MEASURES.items()}),
    _has("words", {
        "gpus": "jobs.requested_gpus",
        "models": "lower((jobs.details -> 'gpu_models')::text)::jsonb",
        **{
            name: f"to_jsonb(regexp_split_to_array(lower(jobs.details ->> '{key}'), '[,:&|@]'))"
            for name, key in WORDS.items() if name != "license"
        },
    }),
))  # fmt: skip


def _like(column: str, variable: str) -> str:
    """Return the condition that a column fits a pattern with * and ?."""
    return (
        f"('{variable}' = '' OR {column} LIKE replace(replace(replace(replace(replace('{variable}', '\\', '\\\\'),"
        " '%', '\\%'), '_', '\\_'), '*', '%'), '?', '_'))"
    )


_JOB = "('$job' = '' OR native_id = ANY (string_to_array(replace(translate('$job', '~!', '#+'), ' ', ''), ',')))"
_OF_ANY_QUEUE = (
    "ARRAY(SELECT queue || '#$routed_from' FROM queues) || ARRAY(SELECT queue || '#$routed_from.0' FROM queues)"
)
"""A job that is named without its schedd may be of each: an array in parentheses of its own is computed once."""

_FILTERS = "\n  AND ".join((
    among("cluster", "owner", "account", "vo", "queue", "state", "outcome", table="jobs"),
    f"('$when' <> 'submitted' OR jobs.submitted_at >= {FROM} AND jobs.submitted_at < {NOW_OR_TO})",
    f"('$when' <> 'ended' OR jobs.ended_at >= {FROM} AND jobs.ended_at < {NOW_OR_TO})",
    "('*' IN ($state) OR 'ended' IN ($state) OR jobs.ended_at IS NULL)",
    _like("jobs.name", "$name"),
    "('$exit_code' = '' OR jobs.exit_code::text = '$exit_code' OR '$exit_code' = '-' AND jobs.exit_code IS NULL)",
    f"('$routed_from' = '' OR '$routed_from' = 'any' AND jobs.routed_from IS NOT NULL\n"
    f"    OR jobs.routed_from = ANY (ARRAY['$routed_from', '$routed_from.0'] || {_OF_ANY_QUEUE}))",
    _JOB,
    _FITS,
))  # fmt: skip


_WEEK = f"greatest({FROM}, {TO} - interval '7 days')"


def _open(table: str) -> str:
    """Return the condition that a run was open when it has to be."""
    return (
        f"('$when' <> 'running' OR {open_between(table, _WEEK, NOW_OR_TO)})\n"
        f"    AND ('$when' <> 'running_at' OR {open_at(table, NOW_OR_TO)})"
    )


_SUBMITTED = f"('$when' <> 'submitted' OR submitted_at >= {FROM} AND submitted_at < {NOW_OR_TO})"
_ENDED = f"('$when' <> 'ended' OR submitted_at < {NOW_OR_TO})"
"""What can be told of a run of a job that was submitted, or that ended, in the time range."""
_NEWEST = "ORDER BY submitted_at DESC, native_id DESC LIMIT"
_RUNNING = "'$when' IN ('running', 'running_at')"


def _among_jobs(which: str) -> str:
    """Return the newest jobs that fit; none, and at no cost, where `which` is not true of what is chosen."""
    return f"(SELECT native_id, submitted_at, cluster FROM jobs\nWHERE {which}\n  AND {_FILTERS}\n{_NEWEST} 500)"


def _among_runs(which: str, table: str, conditions: str) -> str:
    """Return the newest jobs that fit and have a run that does, looking at runs first: those of a time are few."""
    same = " AND ".join(f"jobs.{name} = {table}.{name}" for name in _KEY.split(", "))
    return f"""(SELECT DISTINCT {_KEY} FROM {table} WHERE {which} AND {conditions}
  AND {_JOB}
  AND (SELECT count(*) FROM jobs WHERE {same}
  AND {_FILTERS}) > 0
{_NEWEST} 500)"""


_KEYS = "\nUNION ALL\n".join((
    _among_jobs(f"'*' IN ($worker) AND NOT {_RUNNING}"),
    _among_runs(
        f"'*' IN ($worker) AND {_RUNNING}", "runs", f"{among('cluster', 'owner', 'account', 'vo', 'queue')} AND {_open('runs')}"
    ),
    _among_runs(
        "NOT '*' IN ($worker)", "run_workers",
        f"{among('cluster', 'worker')} AND {_open('run_workers')} AND {_SUBMITTED} AND {_ENDED}",
    ),
))  # fmt: skip

"""What real sites have and the demo shows: for each situation the question that tells of it, and the panel."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_OF_JOBS = "SELECT cluster, native_id FROM jobs"
_OF_RUNS = "SELECT cluster, native_id FROM run_workers"


class Situation(NamedTuple):
    """One of them, and how it is found."""

    what: str
    ask: str
    """Of `bbq`, with JOB or WORKER in place of a name."""
    says: str
    """What is in the answer: a pattern."""
    board: str
    panel: str
    shows: str
    """What is in the rows of a panel of the history; of one of Prometheus, what is on the metrics page: patterns."""
    find: str = ""
    """The SQL of the cluster and the name of one."""


SITUATIONS = (
    Situation(
        "a job with several runs", "search --resource 'runs>1'", r'"job_id"', "job", "Its runs", r"^2\b",
        f"{_OF_JOBS} WHERE run_count = 2",
    ),
    Situation(
        "a job on several workers", "info job JOB", r'"workers": "\S+,', "job", "Its runs", r"node\d+ 1\b",
        f"{_OF_RUNS} GROUP BY cluster, native_id, submitted_at, number HAVING count(*) = 2",
    ),
    Situation(
        "a job that was routed to another schedd", "search --routed-from any", r'"job_id"', "job", "Related jobs",
        "routed from or to", f"{_OF_JOBS} WHERE routed_from IS NOT NULL",
    ),
    Situation(
        "a job that is held", "search --state held", '"held"', "overview", "Jobs by state",
        r'bbq_jobs\{[^}]*state="held"[^}]*\} [1-9]',
    ),
    Situation(
        "a job that was held and released", "info job JOB", '"pause": "held"', "job", "Pauses", "held",
        "SELECT cluster, native_id FROM job_pauses WHERE kind = 'held' AND ended_at IS NOT NULL",
    ),
    Situation(
        "a job that is suspended", "search --state suspended", '"suspended"', "job", "Its life", "suspended",
        f"{_OF_JOBS} WHERE state = 'suspended'",
    ),
    Situation(
        "tasks of an array", "info job JOB", '"array_parent"', "job", "Related jobs", "task of the same array",
        f"{_OF_JOBS} WHERE array_parent IS NOT NULL",
    ),
    Situation(
        "a heterogeneous job", "info job JOB", '"het_parent"', "job", "Related jobs", "component of the same job",
        f"{_OF_JOBS} WHERE het_parent IS NOT NULL",
    ),
    Situation(
        "a DAG and its nodes", "info job JOB", '"dag_parent"', "job", "Related jobs", "its DAG",
        f"{_OF_JOBS} WHERE dag_parent IS NOT NULL",
    ),
    Situation(
        "GPUs of two models on a worker", "info worker WORKER", r'"model": "a100".*"model": "h100"', "gpus",
        "The workers that have GPUs", r'bbq_worker_gpus\{[^}]*model="h100",worker="gpu0001"\} 2',
        "SELECT cluster, worker FROM workers WHERE worker = 'gpu0001'",
    ),
    Situation(
        "a GPU cut into MIG slices", "gpus", '"a100_1g.5gb"', "gpus", "How many of each model?",
        r'bbq_worker_gpus\{[^}]*model="a100_1g.5gb"[^}]*\} 7',
    ),
    Situation(
        "GPUs lent in shards", "gpus", '"part": "shard"', "gpus", "Parts of GPUs", r"bbq_worker_gpu_parts_allocated\{.*\} [1-9]",
    ),
    Situation(
        "backfill slots", "info worker WORKER", '"what": "backfill_cpus_used"', "worker", "What ran on it?", "boinc",
        "SELECT cluster, worker FROM run_workers JOIN jobs USING (native_id, submitted_at, cluster)"
        " WHERE owner = 'boinc' AND run_workers.ended_at IS NULL",
    ),
    Situation(
        "a worker that drains", "workers --flag draining", '"draining"', "overview", "Which workers are out of service?",
        r'bbq_worker_flag\{[^}]*flag="draining"[^}]*\} 1',
    ),
    Situation(
        "a worker that is down", "workers --state down", '"down"', "overview", "Which workers are out of service?",
        r'bbq_worker_state\{[^}]*state="down"[^}]*\} 1',
    ),
    Situation(
        "a worker that is powered down", "workers --flag powered_down", '"powered_down"', "overview",
        "How many workers are what?", r'bbq_worker_flag\{[^}]*flag="powered_down"[^}]*\} 1',
    ),
    Situation(
        "a worker in maintenance", "workers --flag maintenance", '"maintenance"', "worker", "How it was", "maintenance",
        "SELECT cluster, worker FROM worker_states WHERE CAST(flags AS text) LIKE '%maintenance%'",
    ),
    Situation(
        "a worker that failed under its jobs", "failures --since 1d", '"node_fail"', "worker", "What ran on it?",
        "node_fail", f"{_OF_RUNS.replace('native_id', 'worker')} JOIN runs USING (native_id, submitted_at, cluster, number)"
        " WHERE outcome = 'node_fail'",
    ),
    Situation(
        "a black hole: each job fails there at once", "failures --since 1d", '"black hole"', "worker",
        "How runs ended on it, day by day", "failed",
        "SELECT cluster, worker FROM run_workers JOIN runs USING (native_id, submitted_at, cluster, number)"
        " WHERE exit_code = 127",
    ),
)  # fmt: skip


def rows() -> Iterator[str]:
    """Yield the lines of the table in grafana/README.md."""
    yield "| situation | ask | see |"
    yield "|---|---|---|"
    for each in SITUATIONS:
        ask = re.sub(r"\|", r"\\|", each.ask)
        yield f"| {each.what} | `bbq {ask}` | `bbq-{each.board}`: {each.panel} |"

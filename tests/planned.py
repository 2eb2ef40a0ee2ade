"""Whether a history has what a plan of `tests.made_up` made happen: each job once, with each of its runs."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import URL, inspect, select

from history.db import HistoryError, schema
from history.db.database import open_database
from tests.exact import inexact
from tests.made_up import FIRST_ID, Plan


def wrong(database: URL, plan: Plan, until: float | None = None) -> list[str]:
    """Compare the history with the plan, row by row; give what is missing, doubled, invented or different.

    Args:
        until: when all that was over is to be there; without, all of the plan.
    """
    try:
        engine = open_database(database, readonly=True)  # one state, whatever is written meanwhile
    except HistoryError:
        return ["nothing is stored yet"]
    found: list[str] = []
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("jobs"):
                return ["nothing is stored yet"]
            rows = [connection.execute(select(table)).all() for table in (schema.jobs, schema.runs, schema.run_workers)]
            found += inexact(connection, "local")
    finally:
        engine.dispose()
    over = plan.jobs if until is None else plan.among(int(until) - plan.late, int(until)).start
    told = {str(FIRST_ID + number): plan.attempts(number) for number in range(over)}
    later = {str(FIRST_ID + number) for number in range(over, plan.jobs)}
    jobs, runs, places = ([row for row in its_rows if row.native_id not in later] for its_rows in rows)
    by_id: dict[str, Any] = {}
    for job in jobs:
        if job.native_id in by_id:
            found.append(f"doubled {job.native_id}")
        by_id[job.native_id] = job
    found += [f"missing {native_id}" for native_id in told.keys() - by_id.keys()]
    found += [f"invented {native_id}" for native_id in by_id.keys() - told.keys()]
    expected = {
        (native_id, number, _utc(attempt.start), _utc(attempt.end))
        for native_id, attempts in told.items()
        for number, attempt in enumerate(attempts, 1)
    }
    there = [(run.native_id, run.number, run.started_at, run.ended_at) for run in runs]
    if len(there) != len(set(there)) or len(places) != len(there):
        found.append(f"{len(there)} runs with {len(places)} places")
    found += [f"missing run {run}" for run in expected - set(there)] + [
        f"wrong run {run}" for run in set(there) - expected
    ]
    for native_id, job in by_id.items():
        if native_id in told:
            last = told[native_id][-1]
            was = (job.submitted_at, job.ended_at, job.native_state, job.accounted, job.run_count)
            should = (
                _utc(told[native_id][0].submit),
                _utc(last.end),
                last.state.partition(" ")[0],
                True,
                len(told[native_id]),
            )
            if was != should:
                found.append(f"{native_id}: {was} should be {should}")
    return found


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

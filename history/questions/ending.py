"""When running jobs end at the latest: the start of their run, and the time limit that they asked for."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, and_, exists, func, literal, type_coerce

from history.db import bulk
from history.db.schema import OPEN_SPAN, UtcDateTime, job_pauses, jobs, runs
from history.vocabulary import HOLDING, State

_KEY = ("native_id", "submitted_at", "cluster")


def expected_ends(connection: Connection, found: Sequence[Any], at: datetime | None) -> dict[Any, datetime]:
    """Return when those of the jobs end that run and have a time limit, by identity.

    Of a job that has been suspended nothing is said: that time does not count against the limit, and how long it will
    have been is not known before the run is over.

    Args:
        found: rows with the state that a job is in, or was in at `at`, and `requested_wall_seconds`.
    """
    limits = {
        tuple(row._mapping[name] for name in _KEY): row.requested_wall_seconds
        for row in found
        if row.state in HOLDING and row.state != State.SUSPENDED and row.requested_wall_seconds
    }
    asked = [dict(zip(_KEY, key, strict=True)) for key in limits]
    newest: dict[Any, dict[str, Any]] = {}
    for run in bulk.fetch_jobs(connection, runs, asked):
        key = tuple(run[name] for name in _KEY)
        if (at is None or run["started_at"] <= at) and run["number"] > newest.get(key, {"number": 0})["number"]:
            newest[key] = run
    for pause in bulk.fetch_jobs(connection, job_pauses, asked):
        key = tuple(pause[name] for name in _KEY)
        run = newest.get(key, {})
        if pause["kind"] == State.SUSPENDED and run and pause["started_at"] >= _began(run):
            del newest[key]
    return {key: _began(run) + timedelta(seconds=limits[key]) for key, run in newest.items()}


def _began(run: dict[str, Any]) -> datetime:
    """Return when a run started: a resized one is told in parts."""
    began: datetime = run["run_started_at"] or run["started_at"]
    return began


def ends_before(connection: Connection, moment: datetime) -> ColumnElement[bool]:
    """Return the condition that a job runs, and that its time limit ends before a moment."""
    began = func.coalesce(runs.c.run_started_at, runs.c.started_at)
    if connection.dialect.name == "sqlite":
        left = literal(int(moment.timestamp()), Integer) - type_coerce(began, Integer)
    else:
        left = func.extract("epoch", literal(moment, UtcDateTime) - began)
    same = and_(*(runs.c[name] == jobs.c[name] for name in _KEY))
    return and_(
        jobs.c.state.in_((State.RUNNING.value, State.FINISHING.value)),
        jobs.c.ended_at.is_(None),
        exists().where(same, runs.c.span == OPEN_SPAN, left > jobs.c.requested_wall_seconds),
    )

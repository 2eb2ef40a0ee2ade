"""How long each question takes, the whole command, and whether any of its queries reads a big table as a whole."""

import os
import re
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, Engine, select, text

from history.db import schema

TIMES = 5
_SCAN = re.compile(
    r"Seq Scan on (?P<pg>(?:jobs|runs|run_workers|job_pauses)_[0-9_]+)"
    r"|\bSCAN (?P<lite>jobs|runs|run_workers|job_pauses)(?! USING (?:COVERING )?INDEX)"
)


class Timing(NamedTuple):
    """One question."""

    question: str
    first: float
    """Seconds of the first time: caches may be cold."""
    usual: float
    """Median seconds of the next times."""
    rows: int
    scans: list[str]
    """Parts of the big tables that were read from beginning to end."""


def questions(engine: Engine) -> list[list[str]]:
    """Return what is asked: with names and moments that are there."""
    jobs, places = schema.jobs, schema.run_workers
    with engine.connect() as connection:
        last = connection.scalar(select(jobs.c.submitted_at).order_by(jobs.c.submitted_at.desc()).limit(1))
        assert last is not None
        then = last - timedelta(days=170)
        somewhere = (
            select(places.c.worker).where(places.c.submitted_at.between(then, then + timedelta(days=3))).limit(1)
        )
        worker = connection.scalar(somewhere) or "node0001.example.org"
        one = select(jobs.c.native_id).where(jobs.c.submitted_at.between(then, then + timedelta(days=3)))
        job = connection.scalar(one.where(jobs.c.cluster == "local").limit(1)) or "1"
    moment = f"{then:%Y-%m-%dT%H:%M}Z"
    hour = [moment, f"{then + timedelta(hours=1):%Y-%m-%dT%H:%M}Z"]
    return [
        ["status"],
        ["top", "owners"],
        ["top", "owners", "--by", "cpus", "--state", "running"],
        ["top", "queues"],
        ["top", "workers"],
        ["top", "owners", "--since", "7d"],
        ["top", "owners", "--since", "30d", "--by", "cpu-time"],
        ["top", "owners", "--since", "365d", "--by", "cpu-time"],
        ["top", "accounts", "--since", f"{then:%Y-%m-%dT09:30}Z", "--until", f"{then:%Y-%m-%dT17:00}Z"],
        ["top", "outcomes", "--since", "365d"],
        ["top", "workers", "--since", "1d"],
        ["info", "owner", "user003"],
        ["info", "worker", worker],
        ["info", "job", job],
        ["search"],
        ["search", "--state", "running"],
        ["search", "--state", "pending", "--owner", "user003"],
        ["search", "--owner", "user003"],
        ["search", "--owner", "user149"],
        ["search", "--outcome", "node_fail", "--queue", "gpu"],
        ["search", "--owner", "user003", "--account", "project03", "--queue", "long", "--outcome", "failed"],
        ["search", "--running-at", moment],
        ["search", "--running-at", moment, "--owner", "user003", "--limit", "1000"],
        ["search", "--worker", worker, "--running-at", moment],
        ["search", "--worker", worker, "--limit", "1000"],
        ["search", "--ended-between", *hour, "--outcome", "failed"],
        ["search", "--submitted-between", *hour, "--limit", "10000"],
        ["search", "--exit-code", "77"],
        ["search", "--name", "nothing is called this"],
        ["top", "owners", "--by", "cpus", "--at", moment],
        ["top", "owners", "--at", moment],
        ["top", "workers", "--at", moment],
        ["info", "owner", "user003", "--at", moment],
        ["info", "queue", "long"],
        ["info", "worker", worker, "--at", moment],
        ["workers", "--at", moment],
        ["queues", "--at", moment],
        ["gpus", "--at", moment],
        ["clusters"],
        ["search", "--at", moment, "--state", "pending"],
        ["search", "--running-between", *hour, "--worker", worker],
        ["search", "--vo", "atlas", "--resource", "memory>64G", "--resource", "used-memory<8G"],
        ["usage", "--by", "account", "--interval", "day", "--since", "30d"],
        ["usage", "--by", "owner", "--interval", "month", "--since", "365d"],
        ["usage", "--gpus", "--since", "30d"],
        ["waits", "--since", "2d"],
        ["failures", "--since", "7d"],
        ["efficiency", "--since", "7d"],
    ]  # fmt: skip


def ask(engine: Engine, database: str, times: int = TIMES) -> list[Timing]:
    """Ask every question some times, each in a process of its own as a person would."""
    found = []
    for question in questions(engine):
        seconds, rows, statements = [], 0, ""
        for turn in range(times):
            began = time.monotonic()
            done = subprocess.run(
                [
                    str(Path(sys.executable).parent / "bbq"),
                    *question,
                    "--format",
                    "csv",
                    *(["--sql"] if not turn else []),
                ],
                capture_output=True,
                text=True,
                env={**os.environ, "BBQ_DATABASE": database},
            )
            seconds.append(time.monotonic() - began)
            if done.returncode not in (0, 1) or "Error" in done.stderr:
                raise RuntimeError(f"bbq {' '.join(question)}: {done.stderr[-500:]}")
            rows = max(0, done.stdout.count("\n") - 1)
            statements = done.stderr if not turn else statements
        with engine.connect() as connection:
            scans = sorted({each for one in statements.split(";\n\n") for each in _scans(connection, one)})
        found.append(
            Timing(f"bbq {' '.join(question)}", seconds[0], statistics.median(seconds[1:] or seconds), rows, scans)
        )
    return found


def _scans(connection: Connection, statement: str) -> list[str]:
    if not statement.strip().upper().startswith("SELECT"):
        return []
    explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
    plan = connection.execute(text(explain + statement.replace(":", r"\:"))).all()
    lines = "\n".join(" ".join(str(each) for each in row) for row in plan)
    return [match["pg"] or match["lite"] for match in _SCAN.finditer(lines)]


def table(timings: list[Timing]) -> str:
    """Write the answers as a table for README.md."""
    lines = ["| question | first s | then s | rows | read as a whole |", "|---|---|---|---|---|"]
    for each in timings:
        scans = ", ".join(each.scans) or "-"
        lines.append(f"| `{each.question}` | {each.first:.2f} | {each.usual:.2f} | {each.rows:,} | {scans} |")
    return "\n".join(lines)


def today() -> str:
    """Return the day of a measurement."""
    return f"{datetime.now(UTC):%Y-%m-%d}"

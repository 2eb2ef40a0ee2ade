"""Signals at random moments and in bursts: each daemon ends soon, quietly, and leaves a whole history behind."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine, func, inspect, select, text

from history.db import schema
from history.db.database import open_database, parse_url
from tests.conftest import running_postgres
from tests.exact import inexact

LONGEST_SECONDS = 20.0
EARLY = 0.4
"""How many of the signals come in the first moments of a process."""
EARLY_SECONDS = 1.5
LATEST_SECONDS = 3.0
"""After how long the others come, once it serves: everything has been read and stored by then, and is verified."""
AS_USUAL = ("env", "--default-signal=INT,HUP,TERM")
"""Of a process that a shell has started in the background, SIGINT is ignored, and of those that it starts."""
LOOK_EVERY = 20
"""After how many ends the database is looked at."""
ENDING = (signal.SIGTERM, signal.SIGINT)
STARTING = "starting"
PYTHON = "Python itself starting"
"""Its first twentieth of a second, in which SIGINT has it write a traceback of its own."""
VERIFYING = """
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)  # as exporter.start does
import datetime
from exporter.reconcile import nightly
from history.reconcile.audit import Audit
from history.ingest.store import History
nightly.FIRST_LOOK_SECONDS, nightly.SPREAD_SECONDS = 1.0, 1
nightly.NOT_BEFORE = datetime.time(0)
look = nightly.Verifier.look
nightly.Verifier.look = lambda self, now: look(self, now + datetime.timedelta(days=1))
History.first_seen = lambda *_: datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
Audit.load_verified = lambda *_: None
note = Audit.note_verified
def noted(self, *told):
    print("verified", flush=True)
    note(self, *told)
Audit.note_verified = noted
from exporter.cli import main
main()
"""
"""bbq-exporter that verifies the day that has begun, and again after each start."""


@dataclass
class Ends:
    """What came of the signals."""

    seconds: list[float] = field(default_factory=list)
    how: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, moment: str, code: int, seconds: float) -> None:
        """Count an end."""
        self.seconds.append(seconds)
        self.how[
            f"{moment}: {'exit 0' if code == 0 else signal.Signals(-code).name if code < 0 else f'exit {code}'}"
        ] += 1


def signals(times: int, lanes: int, seed: int = 1) -> tuple[str, list[str]]:
    """End daemons by signals so many times; give the figures as text, and what went wrong."""
    ends = Ends()
    with tempfile.TemporaryDirectory() as folder, running_postgres("signals") as server:
        threads = []
        for lane in range(lanes):
            home = Path(folder) / str(lane)
            home.mkdir()
            database = _created(server, f"lane_{lane}") if lane % 2 else parse_url(f"sqlite:///{home}/history.db")
            turns = times // lanes + (lane < times % lanes)
            threads.append(threading.Thread(target=storm, args=(home, database, turns, f"{seed} {lane}", ends)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    longest = max(ends.seconds, default=0.0)
    lines = [f"{len(ends.seconds):,} ends, the longest after {longest:.1f} s; {len(ends.wrong)} went wrong"]
    return "\n".join([*lines, *(f"{count:6,}  {how}" for how, count in sorted(ends.how.items()))]), ends.wrong


def storm(folder: Path, database: URL, times: int, seed: str, ends: Ends) -> None:
    """Start a daemon and end it by signals, again and again, on one database; note what came of it."""
    chance = random.Random(seed)
    for number in range(1, times + 1):
        _one(folder, database, chance, ends)
        if number % LOOK_EVERY == 0 or number == times:
            ends.wrong += [f"{database.get_backend_name()}: {said}" for said in damage(database)]


def _one(folder: Path, database: URL, chance: random.Random, ends: Ends) -> None:
    log = folder / "log"
    command = [str(Path(sys.executable).parent / "bbq-exporter")]
    if chance.random() < 0.5:
        command = [sys.executable, "-c", VERIFYING]
    arguments = ["--demo", "--demo-scale", "0.005", "--web.listen-address", "127.0.0.1:0"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*AS_USUAL, *command, *arguments, "--database", database.render_as_string(hide_password=False)],
            env={**os.environ, "XDG_STATE_HOME": str(folder), "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=file,
        )
        if chance.random() < EARLY:
            time.sleep(chance.uniform(0.0, EARLY_SECONDS))
        else:
            _until_it_serves(process, log)
            time.sleep(chance.uniform(0.0, LATEST_SECONDS))
        moment = _moment(log.read_text())
        began = time.monotonic()
        for each in _burst(chance):
            process.send_signal(each)
            time.sleep(chance.choice((0.0, 0.0, 0.001, 0.05)))
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    taken = time.monotonic() - began
    said = log.read_text()
    if "KeyboardInterrupt" in said and not _ours(said):
        moment = PYTHON
    ends.note(moment, code, taken)
    if taken > LONGEST_SECONDS or code not in _allowed(moment) or (moment != PYTHON and _broken(said)):
        ends.wrong.append(f"{moment}, exit code {code}, {taken:.1f} s: {said[-3000:]}")


def _until_it_serves(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while "msg=serving" not in log.read_text() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def _burst(chance: random.Random) -> list[signal.Signals]:
    """Return one signal, or ten mixed ones; some of them end a daemon."""
    if chance.random() < 0.5:
        return [chance.choice(ENDING)]
    mixed = [chance.choice((*ENDING, signal.SIGHUP)) for _ in range(9)]
    return [*mixed, signal.SIGTERM]


def _moment(said: str) -> str:
    """Tell from its log what a daemon was doing."""
    for mark, moment in (("verified", "verified"), ("Metrics:", "read"), ("msg=serving", "reading")):
        if mark in said:
            return moment
    return STARTING


def _allowed(moment: str) -> set[int]:
    """Return the exit codes that are right: before it listens to signals, the first one ends it as it ends anything."""
    killed = {-each for each in (*ENDING, signal.SIGHUP)}
    return {STARTING: {0, *killed}, PYTHON: {1, *killed}}.get(moment, {0})


def _broken(said: str) -> bool:
    return "Traceback" in said or "Fatal" in said


def _ours(said: str) -> bool:
    """Return whether BBQ had begun when a traceback was written."""
    return any(f"/{package}/" in said for package in ("exporter", "history"))


def damage(database: URL) -> list[str]:
    """Return what is broken, doubled or not the sum of its rows in a history that nobody writes."""
    engine = open_database(database)
    try:
        with engine.connect() as connection:
            return list(_damage(connection))
    finally:
        engine.dispose()


def _damage(connection: Connection) -> Iterator[str]:
    if connection.dialect.name == "sqlite":
        yield from (said for (said,) in connection.execute(text("PRAGMA integrity_check")) if said != "ok")
    if not inspect(connection).has_table("jobs"):
        return
    for cluster in ("grid", "local"):
        yield from inexact(connection, cluster)
    ids = (schema.jobs.c.cluster, schema.jobs.c.native_id)
    doubled = select(*ids, func.count()).group_by(*ids).having(func.count() > 1)
    yield from (f"doubled {row}" for row in connection.execute(doubled))


def _created(server: URL, name: str) -> URL:
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return server.set(database=name)

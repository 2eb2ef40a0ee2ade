"""Kill it anywhere, take its database away: afterwards every job is there exactly once, and the rollup is exact.

BBQ_TEST_KILLS, BBQ_TEST_COMMITS and BBQ_TEST_OUTAGE_SECONDS make these longer than CI has time for.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import URL, text

from history.db.database import open_database
from tests.conftest import Process
from tests.killing import configuration, finish
from tests.made_up import Plan
from tests.planned import wrong
from tests.servers import Server

KILLS = int(os.environ.get("BBQ_TEST_KILLS", "6"))
COMMITS = int(os.environ.get("BBQ_TEST_COMMITS", "22"))
OUTAGE_SECONDS = float(os.environ.get("BBQ_TEST_OUTAGE_SECONDS", "8"))

_ARMED = """
import os, signal, sys
from sqlalchemy.engine.default import DefaultDialect
from history.spool import Spool
left = [int(sys.argv.pop(1))]
def armed(method):
    def before_and_after(*arguments):
        for turn in range(2):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            if turn == 0:
                result = method(*arguments)
        return result
    return before_and_after
DefaultDialect.do_commit = armed(DefaultDialect.do_commit)
for name in ("append", "take_off", "remember"):
    setattr(Spool, name, armed(getattr(Spool, name)))
from exporter.cli import main
main()
"""
"""bbq-exporter that kills itself before or after its n-th commit, or write to the spool."""


def test_killed_at_every_commit(database: URL, tmp_path: Path, started: list[Process]) -> None:
    """Before and after each of the first commits of a run, while jobs come and go."""
    plan = Plan(begin=int(time.time()) - 40, jobs=15 * (40 + int(1.3 * COMMITS)), rate=15)
    path, _ = configuration(tmp_path, plan, database)
    killed = 0
    for number in range(1, COMMITS + 1):
        done = subprocess.run(
            [
                "timeout", "--kill-after=1", "30", sys.executable, "-c", _ARMED, str(number),
                "--config.file", str(path),
            ],
            capture_output=True,
            text=True,
        )  # fmt: skip
        if done.returncode in (124, 0):
            break  # it lived for some polls: every commit of a poll has had its turn
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
        killed += 1
    assert killed >= min(20, COMMITS)
    assert finish(lambda: _start(started, path, tmp_path), plan, database) == []


def _start(started: list[Process], path: Path, folder: Path) -> Process:
    started.append(Process(["--config.file", str(path)], folder))
    return started[-1]


def test_killed_at_random_instants_under_load(database: URL, tmp_path: Path, started: list[Process]) -> None:
    chance = random.Random(4)
    plan = Plan(begin=int(time.time()) - 40, jobs=40 * (40 + 3 * KILLS), rate=40)
    path, _ = configuration(tmp_path, plan, database)
    for _ in range(KILLS):
        process = _start(started, path, tmp_path)
        # from the first import to the third poll or so
        time.sleep(chance.uniform(0.3, 3.5))
        assert process.stop(signal.SIGKILL) == -signal.SIGKILL
    assert finish(lambda: _start(started, path, tmp_path), plan, database) == []


@pytest.mark.postgres
@pytest.mark.parametrize("killed", [False, True])
def test_postgresql_is_stopped_under_load(
    own_postgres: URL, tmp_path: Path, started: list[Process], killed: bool
) -> None:
    """The gauges go on, what ended waits on disk, also over a kill; all of it is there afterwards, once."""
    server = Server(own_postgres)
    plan = Plan(begin=int(time.time()) - 5, jobs=int(40 * (OUTAGE_SECONDS + 25)), rate=40)
    path, port = configuration(tmp_path, plan, own_postgres)
    process = _start(started, path, tmp_path)
    url = f"http://127.0.0.1:{port}/metrics"
    _until(
        lambda: (
            _value(url, "bbq_history_up") == 1
            and _value(url, 'bbq_source_up{cluster="local",source="accounting"}') == 1
        )
    )
    failures: list[str] = []
    asked = [0]
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(0.05):
            asked[0] += 1
            try:
                answer = requests.get(url, timeout=5)
                if answer.status_code != 200 or "bbq_source_up{" not in answer.text:
                    failures.append(f"{answer.status_code} {answer.text[:100]}")
            except requests.RequestException as error:
                failures.append(str(error))

    scraper = threading.Thread(target=scrape)
    if not killed:
        scraper.start()
    server.stop()
    try:
        time.sleep(OUTAGE_SECONDS / 2)
        _until(lambda: _value(url, "bbq_history_up") == 0 and _value(url, "bbq_history_spooled_rows") > 0)
        assert _value(url, 'bbq_source_up{cluster="local",source="accounting"}') == 1
        if killed:
            process.stop(signal.SIGKILL)
            process = _start(started, path, tmp_path)
        time.sleep(OUTAGE_SECONDS / 2)
    finally:
        server.start()
    _until(lambda: _value(url, "bbq_history_spooled_rows") == 0 and _value(url, "bbq_history_up") == 1)
    _until(lambda: not wrong(own_postgres, plan), plan.over() - time.time() + 60)
    over.set()
    if not killed:
        scraper.join()
        assert asked[0] > OUTAGE_SECONDS and failures == []
    process.stop()


def _until(check: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def _value(url: str, series: str) -> float:
    try:
        page = requests.get(url, timeout=5).text
    except requests.RequestException:
        return -1
    return next((float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(series + " ")), -1)


@pytest.fixture
def own_postgres(fresh_postgres: URL) -> URL:
    """Return a database on a server that nobody else uses."""
    engine = open_database(fresh_postgres)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()
    return fresh_postgres

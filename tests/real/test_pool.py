"""HTCondor's own traps on a real pool: each thing that a schedd may do, or that may happen to it.

Every test starts a schedd of its own beside the pool's, which others use too, and compares what BBQ has of it with
condor_q, condor_history and the schedd's own files. BBQ_TEST_SHORT_JOBS makes the busy schedd busier than CI has time
for.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import URL, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from exporter.config import load
from exporter.readings import Feed, Kind
from exporter.reconcile import windows
from exporter.sources import open_source
from exporter.sources.htcondor import Settings, Source, machines
from history.cli import command
from history.db import HistoryError
from history.db.database import open_database
from history.db.schema import job_pauses, jobs, run_workers, runs, workers
from history.ingest.store import History
from history.reconcile.audit import Audit
from history.reconcile.findings import Findings
from tests.clusters import workloads
from tests.clusters.chroot import wait_for
from tests.clusters.htcondor import HTCondor
from tests.clusters.own_schedd import OwnSchedd
from tests.conftest import Process, free_port
from tests.now import differences_from_condor_q

pytestmark = pytest.mark.htcondor

SHORT_JOBS = int(os.environ.get("BBQ_TEST_SHORT_JOBS", "200"))


@pytest.mark.parametrize("only", ["true", "(TotalSlotGPUs ?: 0) == 0"], ids=["all machines", "no machine with GPUs"])
def test_a_collector_that_hangs_costs_one_short_try(
    pool: HTCondor | None, only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pool is None:  # this suite's Debian has none
        return
    monkeypatch.setattr(machines, "MACHINES_CONSTRAINT", f"({machines.MACHINES_CONSTRAINT}) && ({only})")
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def accept() -> None:
            while True:
                try:
                    asked.append(silent.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        source = Source(Settings(name="grid", scheduler="htcondor", collectors=(host, pool.collector)))
        for _ in range(3):
            assert source.read_workers(Feed(kind=Kind.WORKERS)).workers
        silent.shutdown(socket.SHUT_RDWR)
    for connection, _ in asked:
        connection.close()
    assert len(asked) == 1


class Watch:
    """A bbq-exporter that reads schedds of a pool, and what BBQ has of them in its database."""

    def __init__(self, folder: Path, database: URL, pool: HTCondor, schedds: str) -> None:
        """Write a configuration; `schedds` as it is to be written there."""
        self.database = database
        self.configuration = folder / "bbq.yaml"
        self._folder = folder
        url = database.set(drivername=database.get_backend_name()).render_as_string(hide_password=False)
        self.configuration.write_text(
            f"history: {{database: '{url}', spool: {folder}/spool}}\n"
            f"web: {{listen_address: '127.0.0.1:{free_port()}'}}\n"
            f"clusters: [{{name: grid, scheduler: htcondor, collectors: ['{pool.collector}'], schedds: {schedds}, "
            "interval: 2s, timeout: 60s}]\n"
        )
        self._process: Process | None = None

    def start(self) -> None:
        """Start the exporter, and wait until it has stored something of machines."""
        self._process = Process(["--config.file", str(self.configuration)], self._folder)
        assert wait_for(self._stored, 60, 0.5), self.log()

    def _stored(self) -> bool:
        try:
            return bool(self.rows(select(workers)))
        except (SQLAlchemyError, HistoryError):
            return False  # the tables are not there yet

    def stop(self) -> None:
        """Stop it, if it runs, and see that it had no trouble of its own."""
        if self._process is not None:
            assert self._process.stop() == 0
            self._process = None
        assert "Traceback" not in self.log()

    def kill(self) -> None:
        """End what is left of it."""
        if self._process is not None:
            self._process.stop(signal.SIGKILL)

    def log(self) -> str:
        """Return all that it has logged."""
        path = self._folder / "exporter.log"
        return path.read_text() if path.exists() else ""

    def rows(self, statement: Any) -> list[Any]:
        """Ask the database."""
        engine = open_database(self.database, readonly=True)
        try:
            with engine.connect() as connection:
                return list(connection.execute(statement).mappings())
        finally:
            engine.dispose()

    def audit(self, work: Callable[..., Iterator[windows.Part]], since: datetime) -> tuple[Findings, list[str]]:
        """Verify or recollect all since a moment; give the findings, and what could not be read."""
        history = History(open_database(self.database))
        (cluster,) = load(self.configuration).clusters
        source = open_source(cluster)
        together, errors = Findings(found=[]), []
        until = datetime.now(UTC).replace(microsecond=0)
        try:
            feeds = windows.accounting_feeds(source, history.known_queues(cluster.name))
            for part in work(history, cluster.name, source, feeds, since, until):
                together.add(part.findings)
                errors += [part.error] if part.error else []
            together.usage_days = Audit(history).compare_usage(cluster.name, [since.date(), until.date()])
        finally:
            history._engine.dispose()
        return together, errors


@pytest.fixture
def watching(tmp_path: Path, pool: HTCondor | None, postgres_database: URL) -> Iterator[Callable[[str], Watch]]:
    """Return a way to have an exporter read schedds; it ends with the test."""
    made: list[Watch] = []

    def make(schedds: str) -> Watch:
        assert pool is not None
        made.append(Watch(tmp_path, postgres_database, pool, schedds))
        return made[-1]

    yield make
    for each in made:
        each.kill()


@pytest.fixture
def schedd(pool: HTCondor | None) -> Iterator[Callable[..., OwnSchedd]]:
    """Return a way to start a schedd of the test's own; it ends with the test."""
    made: list[OwnSchedd] = []

    def make(name: str, **settings: str) -> OwnSchedd:
        assert pool is not None
        made.append(OwnSchedd(pool, name, **settings))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.remove()


def _settled(check: Callable[[], list[str]], seconds: float = 60) -> list[str]:
    """Return the differences that are left when all had its time to be read."""
    found: list[str] = []

    def agrees() -> bool:
        found[:] = check()
        return not found

    wait_for(agrees, seconds, 1.0)
    return found


def _number(record: dict[str, str], name: str) -> int:
    """Return a number of a record; 0 where it says nothing."""
    try:
        return int(float(record.get(name, "0")))
    except ValueError:
        return 0


def _differences(watch: Watch, schedd: OwnSchedd) -> list[str]:
    """Compare what is stored of every job that left the queue with its record: outcome, end, runs and their times."""
    said: list[str] = []
    records = schedd.records()
    mine = jobs.c.queue == schedd.name, jobs.c.cluster == "grid"
    stored = defaultdict(list)
    for row in watch.rows(select(jobs).where(*mine)):
        stored[f"{row['native_id']}#{int(row['submitted_at'].timestamp())}"].append(row)
    told = defaultdict(list)
    for row in watch.rows(select(runs).where(runs.c.cluster == "grid").order_by(runs.c.number)):
        told[row["native_id"], row["submitted_at"]].append(row)
    places = defaultdict(set)
    for row in watch.rows(select(run_workers).where(run_workers.c.cluster == "grid")):
        places[row["native_id"], row["submitted_at"], row["number"]].add(row["worker"])
    ended = {key for key, rows in stored.items() if any(row["ended_at"] is not None for row in rows)}
    known = {_identity(record): record for record in records.values()}
    left = {f"{job}#{made}" for job, made in (each[0].rsplit("#", 1) for each in schedd.queue("GlobalJobId"))}
    said += [f"missing {key}" for key in known.keys() - ended]
    said += [f"extra {key}" for key in ended - known.keys() - left]
    for key in known.keys() & ended:
        record, (job, *more) = known[key], stored[key]
        completed = _number(record, "CompletionDate")
        signal_ = _number(record, "ExitSignal") if record.get("ExitBySignal") == "true" else None
        wanted = {
            "times": 1,
            "outcome": "cancelled"
            if record["JobStatus"] == "3" and not completed
            else "failed"
            if signal_ or _number(record, "ExitCode")
            else "completed",
            "end": completed or _number(record, "EnteredCurrentStatus"),
            "signal": signal_,
        }
        found = {
            "times": 1 + len(more),
            "outcome": job["outcome"],
            "end": int(job["ended_at"].timestamp()),
            "signal": job["exit_signal"],
        }
        said += [
            f"{key}: {name} {found[name]!r}, the schedd {wanted[name]!r}"
            for name in wanted
            if found[name] != wanted[name]
        ]
        its = told[job["native_id"], job["submitted_at"]]
        beside = record["JobUniverse"] in ("7", "12")
        starts = 1 if beside else _number(record, "NumShadowStarts") - _number(record, "NumJobReconnects")
        if len(its) != starts:
            said.append(f"{key}: {len(its)} runs, the schedd {starts}")
            continue
        wall = sum((run["ended_at"] - run["started_at"]).total_seconds() for run in its if run["ended_at"])
        if abs(wall - float(record["RemoteWallClockTime"])) > len(its):
            said.append(f"{key}: ran for {wall} s, the schedd {record['RemoteWallClockTime']}")
        if its and not beside:
            hosts = record.get("RemoteHosts") or record.get("LastRemoteHost", "")
            there = {host.strip().rpartition("@")[2] for host in hosts.split(",")}
            last = its[-1]
            if places[job["native_id"], job["submitted_at"], last["number"]] != there:
                said.append(
                    f"{key}: on {places[job['native_id'], job['submitted_at'], last['number']]}, the schedd {there}"
                )
            cpus = float(record.get("CpusProvisioned", "1")) * (
                _number(record, "MaxHosts") if record["JobUniverse"] == "11" else 1
            )
            if last["cpus"] != cpus:
                said.append(f"{key}: {last['cpus']} CPUs, the schedd {cpus}")
    return said


def _identity(record: dict[str, str]) -> str:
    """Return what tells a job from all others: a proc that is made late has the moment of its making in its id."""
    if "JobMaterializeNextProcId" not in record:
        return record["GlobalJobId"]
    return f"{record['GlobalJobId'].rpartition('#')[0]}#{record['QDate']}"


def _reasons(found: Findings) -> Counter[str]:
    return Counter(str(each.why) for each in found.not_confirmed)


def _count(watch: Watch) -> list[int]:
    return [
        watch.rows(select(func.count().label("n")).select_from(table))[0]["n"] for table in (jobs, runs, run_workers)
    ]


def _unsettled(watch: Watch, since: datetime) -> list[str]:
    """Return what is wrong while records may still be on their way: a shadow outlives its schedd for some seconds."""
    found, errors = watch.audit(windows.verify, since)
    return [f"{each.kind} {each.native_id} {each.columns}" for each in found.found] + errors


def _assert_confirmed(watch: Watch, since: datetime, reasons: dict[str, set[str]]) -> None:
    """Verify, and recollect, everything: nothing is wrong, what is not confirmed is so rightly, nothing is deleted.

    Args:
        reasons: the jobs that nobody can confirm, by the reason why.
    """
    before = _count(watch)
    for work in (windows.verify, windows.recollect, windows.verify):
        found, errors = watch.audit(work, since)
        assert errors == []
        assert found.found == [] and found.taken_out == [] and found.usage_days == []
        said = defaultdict(set)
        for each in found.not_confirmed:
            said[str(each.why)].add(f"{each.native_id}#{int(each.submitted_at.timestamp())}")
        assert said == reasons
    assert _count(watch) == before


def _damage_and_mend(watch: Watch, since: datetime, remembered: list[str]) -> None:
    """Delete some of the jobs that the schedd remembers, change some and invent one: just that is found and mended."""
    clean, _ = watch.audit(windows.verify, since)
    assert clean.found == []
    gone, changed, copied = remembered[:3], remembered[3:6], remembered[6]
    expected = dict.fromkeys(gone, "missing") | dict.fromkeys(changed, "different")
    engine = open_database(watch.database)
    with engine.begin() as connection:
        for table in (jobs, runs, run_workers):
            connection.execute(delete(table).where(table.c.native_id.in_(gone)))
            for row in connection.execute(select(table).where(table.c.native_id == copied)).mappings().all():
                connection.execute(insert(table).values({**row, "native_id": f"{copied}999"}))
                expected[f"{copied}999"] = "extra"
        connection.execute(update(jobs).where(jobs.c.native_id.in_(changed)).values(owner="mallory"))
    engine.dispose()
    for work in (windows.verify, windows.recollect):
        found, _ = watch.audit(work, since)
        assert {each.native_id: each.kind for each in found.found} == expected
    after, _ = watch.audit(windows.verify, since)
    assert after.found == [] and after.usage_days == [] and after.checked == clean.checked
    assert _reasons(after) == _reasons(clean)


def test_a_busy_schedd_whose_history_rotates_and_gets_a_record_late(
    pool: HTCondor | None, schedd: Callable[..., OwnSchedd], watching: Callable[[str], Watch]
) -> None:
    if pool is None:  # this suite's Debian has none
        return
    since = datetime.now(UTC).replace(microsecond=0)
    # half of the records, and of the runs, is kept, and no more than an eighth comes before BBQ has read on: a busy
    # machine has some start twice
    kept = SHORT_JOBS * 4000 // 6
    # a run's record is longer, and 25.x keeps some of starts beside them
    own = schedd("busy", MAX_HISTORY_LOG=str(kept), MAX_EPOCH_HISTORY_LOG=str(2 * kept))
    late = workloads.htcondor_late(own)
    watch = watching(f"[{own.name}]")
    watch.start()
    for _ in range(8):
        workloads.htcondor_short(own, SHORT_JOBS // 8)
        assert wait_for(lambda: len(own.queue("ClusterId")) == 2, 60 + SHORT_JOBS, 1.0), own.queue("ClusterId")
        assert _settled(lambda: _differences(watch, own)) == []
    workloads.htcondor_fetch(own, *late)
    workloads.htcondor_short(own, 4)
    assert wait_for(lambda: not own.queue("ClusterId"), 60, 1.0)
    records = own.records()
    assert len(records) == SHORT_JOBS + 6
    assert _settled(lambda: _differences(watch, own)) == []
    watch.stop()
    assert "a gap" not in watch.log()
    remembered = {name for (name,) in own.past("GlobalJobId")}
    assert 6 < len(remembered) < SHORT_JOBS
    assert {f"{own.name}#{job}.0" for job in late} <= {name.rpartition("#")[0] for name in remembered}
    # a job is told of as long as its own record or one of a run is left: the two files rotate each in its own time
    told = remembered | {name for (name,) in own.past("GlobalJobId", epochs=True)}
    assert records.keys() - told
    _assert_confirmed(watch, since, {"rotated": records.keys() - told})
    _damage_and_mend(watch, since, sorted(name.rpartition("#")[0] for name in remembered))
    assert _open_differences(watch, own) == []


@pytest.mark.parametrize("history", [False, True], ids=["the queue is lost", "all is lost"])
def test_ids_that_come_again(
    pool: HTCondor | None, schedd: Callable[..., OwnSchedd], watching: Callable[[str], Watch], history: bool
) -> None:
    if pool is None:
        return
    since = datetime.now(UTC).replace(microsecond=0)
    own = schedd("lost_all" if history else "lost_queue")
    watch = watching(f"[{own.name}]")
    watch.start()
    workloads.htcondor_each_state(own)
    assert wait_for(lambda: len(own.queue("ClusterId")) == 3, 60, 0.5)
    assert _settled(lambda: differences_from_condor_q(pool, watch.database, [own.name])) == []
    assert _settled(lambda: _differences(watch, own)) == []
    before = {name for (name,) in own.queue("GlobalJobId")}
    ended = set(own.records())
    own.kill()
    own.lose_spool(history=history)
    own.start()
    workloads.htcondor_each_state(own)
    assert wait_for(lambda: len(own.queue("ClusterId")) == 3, 60, 0.5)
    after = {name for (name,) in own.queue("GlobalJobId")}
    assert {each.rpartition("#")[0] for each in before} == {each.rpartition("#")[0] for each in after}
    assert _settled(lambda: differences_from_condor_q(pool, watch.database, [own.name])) == []
    assert _settled(lambda: _unsettled(watch, since)) == []
    watch.stop()
    lost = {"state lost": before}
    if history:
        lost["rotated"] = ended
    _assert_confirmed(watch, since, lost)


def _open_differences(watch: Watch, own: OwnSchedd) -> list[str]:
    """Compare the open jobs with condor_q, by their whole identities and states, whatever their schedd's name was."""
    words = {"1": "pending", "2": "running", "5": "held", "7": "suspended"}
    theirs = {(name, words[status]) for name, status in own.queue("GlobalJobId", "JobStatus") if status in words}
    stored = watch.rows(select(jobs).where(jobs.c.queue == own.name, jobs.c.ended_at.is_(None)))
    ours = {(f"{row['native_id']}#{int(row['submitted_at'].timestamp())}", row["state"]) for row in stored}
    return [f"{each} is not in both" for each in sorted(ours ^ theirs)]


def test_a_renamed_schedd(
    pool: HTCondor | None, schedd: Callable[..., OwnSchedd], watching: Callable[[str], Watch]
) -> None:
    if pool is None:
        return
    own = schedd("before")
    watch = watching("all")
    watch.start()
    workloads.htcondor_each_state(own)
    assert _settled(lambda: _open_differences(watch, own)) == []
    own.stop()
    old = own.name
    own.rename("after")
    own.start()
    workloads.htcondor_each_state(own)
    assert _settled(lambda: _open_differences(watch, own)) == []
    # one that went on to its end while there was no schedd is told by accounting alone, which is read more seldom
    left = select(jobs.c.native_id).where(jobs.c.queue == old, jobs.c.ended_at.is_(None))
    assert _settled(lambda: [str(row) for row in watch.rows(left)]) == []
    watch.stop()


def test_what_holds_machines_in_unusual_ways(
    pool: HTCondor | None, schedd: Callable[..., OwnSchedd], watching: Callable[[str], Watch]
) -> None:
    if pool is None:
        return
    since = datetime.now(UTC).replace(microsecond=0)
    own = schedd("parallel")
    watch = watching(f"[{own.name}]")
    watch.start()
    paused = workloads.htcondor_unusual(own)
    assert wait_for(lambda: ["4"] in own.queue("JobStatus"), 60, 0.5)
    assert _settled(lambda: differences_from_condor_q(pool, watch.database, [own.name])) == []
    pool.run("condor_continue", "-name", own.name, paused)
    assert wait_for(lambda: ["7"] not in own.queue("JobStatus"), 30, 0.5)
    assert _settled(lambda: differences_from_condor_q(pool, watch.database, [own.name])) == []
    pool.run("condor_rm", "-name", own.name, "-all")
    assert wait_for(lambda: len(own.queue("ClusterId")) == 1, 60, 0.5)  # the one that is to stay
    pool.run("condor_rm", "-forcex", "-name", own.name, "-all")
    assert wait_for(lambda: not own.queue("ClusterId"), 60, 0.5), own.queue("ClusterId", "JobStatus")
    assert _settled(lambda: _differences(watch, own)) == []
    assert _settled(lambda: _unsettled(watch, since)) == []
    watch.stop()
    _assert_confirmed(watch, since, {})
    assert len(watch.rows(select(job_pauses).where(job_pauses.c.kind == "suspended"))) == 1


def test_runs_that_a_schedd_does_not_record_are_named_once(
    pool: HTCondor | None, schedd: Callable[..., OwnSchedd], watching: Callable[[str], Watch]
) -> None:
    if pool is None:
        return
    own = schedd("forgetful", JOB_EPOCH_HISTORY="")
    watch = watching(f"[{own.name}]")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "bbq-exporter"), "--config.file", str(watch.configuration), "--check"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("JOB_EPOCH_HISTORY") == 1
    watch.start()
    workloads.htcondor_short(own, 2)
    assert wait_for(lambda: len(own.records()) == 2, 60, 0.5)
    assert _settled(lambda: _differences(watch, own)) == []
    watch.stop()
    assert watch.log().count("JOB_EPOCH_HISTORY") == 1
    url = watch.database.render_as_string(hide_password=False)
    told = CliRunner().invoke(command, ["status", "--database", url])
    assert told.output.count("JOB_EPOCH_HISTORY") == 1

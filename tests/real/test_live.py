"""BBQ against real Slurm and real HTCondor: whatever they know, it shows and remembers, exactly once."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import URL, delete, insert, select, update

from exporter.config import load
from exporter.readings import AccountingPage, Feed, Kind
from exporter.reconcile import windows
from exporter.settings import Cluster
from exporter.sources import NotAllowed, open_source
from exporter.sources.slurm import Settings
from exporter.sources.slurm import Source as SlurmSource
from history.db.database import open_database
from history.db.schema import OPEN_SPAN, jobs, run_workers, runs
from history.ingest.store import History
from history.reconcile.audit import Audit
from history.reconcile.findings import Findings
from tests import slurmdbd
from tests.accounted import condor_history, differences_from_condor, differences_from_sacct, query, sacct
from tests.clusters import workloads
from tests.clusters.chroot import wait_for
from tests.clusters.htcondor import HTCondor
from tests.clusters.slurm import NODES, Slurm
from tests.conftest import Process, free_port, missing
from tests.grafana_asks import MAY_BE_EMPTY, Grafana, dashboards, wrong_shapes
from tests.now import asker, differences_from_condor_q, differences_from_squeue

pytestmark = [pytest.mark.slurm, pytest.mark.htcondor]

PORT = free_port()
PAGE = f"http://127.0.0.1:{PORT}"
STALE_SECONDS = 20
"""Ten polls: on a busy machine one of HTCondor may take some seconds."""


@pytest.fixture
def configuration(tmp_path: Path, slurm: Slurm, pool: HTCondor | None, database: URL) -> Path:
    text = f"""
history:
  database: "{database.set(drivername=database.get_backend_name()).render_as_string(hide_password=False)}"
web: {{listen_address: "127.0.0.1:{PORT}"}}
clusters:
  - name: local
    scheduler: slurm
    commands: {slurm.commands}
    interval: 2s
    stale_after: {STALE_SECONDS}s
    timeout: 30s
"""
    if pool is not None:
        text += f"""
  - name: grid
    scheduler: htcondor
    collectors: ["{pool.collector}"]
    interval: 2s
    stale_after: {STALE_SECONDS}s
    timeout: 10s
"""
    path = tmp_path / "bbq.yaml"
    path.write_text(text)
    return path


def _metrics() -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    answer = requests.get(f"{PAGE}/metrics", timeout=5)
    answer.raise_for_status()
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return found


def _jobs_by_owner_and_state(cluster: str) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for labels, value in _metrics()["bbq_jobs"]:
        if labels["cluster"] == cluster:
            found[labels["owner"], labels["state"]] += int(value)
    return found


def _up(source: str, cluster: str) -> float | None:
    for labels, value in _metrics()["bbq_source_up"]:
        if labels["cluster"] == cluster and labels["source"] == source:
            return value
    return None


def _squeue(slurm: Slurm) -> Counter[tuple[str, str]]:
    """Count what squeue says, in BBQ's words but not by BBQ's parser."""
    found: Counter[tuple[str, str]] = Counter()
    for line in slurm.run("squeue", "-h", "-a", "-r", "-o", "%u|%T|%r").stdout.decode().splitlines():
        owner, state, reason = line.split("|")
        word = {"COMPLETING": "finishing", "CONFIGURING": "running"}.get(state, state.lower())
        if state == "PENDING" and "held" in reason.lower():
            word = "held"
        found[owner, word] += 1
    return found


def _condor_q(pool: HTCondor) -> Counter[tuple[str, str]]:
    words = {"1": "pending", "2": "running", "5": "held", "7": "suspended"}
    found: Counter[tuple[str, str]] = Counter()
    for name in pool.schedds.values():
        answer = pool.run(
            "condor_q", "-allusers", "-name", name, "-af", "Owner", "JobStatus", "RoutedToJobId"
        ).stdout.decode()
        for owner, state, routed in (line.split() for line in answer.splitlines()):
            if state in words and routed == "undefined":
                found[owner, words[state]] += 1
    return found


def _agree(read: Callable[[], Counter[tuple[str, str]]], cluster: str) -> bool:
    """Return whether the page says what the scheduler says, at a moment in which that did not change."""
    before = read()
    shown = _jobs_by_owner_and_state(cluster)
    return before == shown and read() == before and bool(before)


def _settled(check: Callable[[], list[str]], seconds: float = 180) -> list[str]:
    """Return the differences that are left when records that come late had their time."""
    wait_for(lambda: not check(), seconds, 1.0)
    return check()


def _both(*steps: Callable[[], None]) -> None:
    """Do things at the same time, and fail if one of them does."""
    errors: list[BaseException] = []

    def guarded(step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


def _start(exporter: Callable[..., Process], configuration: Path) -> Process:
    process = exporter("--config.file", str(configuration))

    def ready() -> bool:
        try:
            return requests.get(f"{PAGE}/-/ready", timeout=1).status_code == 200
        except requests.RequestException:
            return False

    assert wait_for(ready, 60, 0.3), process.text()
    return process


def _on_slurm(
    pool: HTCondor | None, step: Callable[[], None], other: Callable[[HTCondor], None]
) -> list[Callable[[], None]]:
    return [step] if pool is None else [step, lambda: other(pool)]


def _slurm_queue_empty(slurm: Slurm) -> bool:
    return not slurm.run("squeue", "-h", "-a").stdout.strip()


def _condor_queue_empty(pool: HTCondor) -> bool:
    return not _condor_q(pool)


def test_every_job_that_the_schedulers_know_is_there_exactly_once(
    slurm: Slurm, pool: HTCondor | None, configuration: Path, database: URL, exporter: Callable[..., Process]
) -> None:
    since = int(time.time())
    process = _start(exporter, configuration)
    _both(*_on_slurm(pool, lambda: workloads.slurm_ending(slurm), workloads.htcondor_ending))
    assert wait_for(lambda: _slurm_queue_empty(slurm), 240, 1.0), slurm.run("squeue", "-a").stdout.decode()
    if pool is not None:
        assert wait_for(lambda: _condor_queue_empty(pool), 120, 1.0), pool.run(
            "condor_q", "-allusers", "-nobatch"
        ).stdout.decode()
        assert len(condor_history(pool, since)) > 40
        assert _settled(lambda: differences_from_condor(pool, database, since)) == []
    assert len(sacct(slurm, since)) == workloads.ENDING + slurm.has_scrontab
    assert _settled(lambda: differences_from_sacct(slurm, database, since)) == []
    assert "Traceback" not in process.text()
    assert process.stop() == 0
    _sums_are_slurmdbds(slurm, database, since)
    _verify_damage_and_mend(configuration, database, since)


def _sums_are_slurmdbds(slurm: Slurm, database: URL, since: int) -> None:
    """Compare jobs by how they ended, and what people used, with slurmdbd's tables and with sreport."""
    ended = select(jobs.c.outcome).where(
        jobs.c.cluster == "local", jobs.c.state == "ended", jobs.c.submitted_at >= datetime.fromtimestamp(since, UTC)
    )
    assert Counter(row["outcome"] for row in query(database, ended)) == slurmdbd.outcomes(slurm, since)
    until = int(time.time())
    used = slurmdbd.used(slurm, since)
    assert slurmdbd.sreport(slurm, since, until) == used and len(used) >= 4
    ask = asker(database, "local")
    for place, by in enumerate(("owner", "account")):
        theirs: dict[str, slurmdbd.Used] = {}
        for who, figures in used.items():
            theirs[who[place]] = figures + theirs.get(who[place], slurmdbd.Used())
        rows = ask("usage", "--by", by, "--since", f"{datetime.fromtimestamp(since, UTC):%FT%TZ}")
        mine = {row[by]: slurmdbd.Used(row["cpu_time_seconds"], row["gpu_time_seconds"]) for row in rows}
        assert {name: each for name, each in mine.items() if each != slurmdbd.Used()} == theirs


def _verify_damage_and_mend(configuration: Path, database: URL, since: int) -> None:
    """Verify what is stored; delete, change and add some; find exactly those, and mend exactly those."""
    history = History(open_database(database))
    begin = datetime.fromtimestamp(since, UTC)
    end = datetime.now(UTC).replace(microsecond=0)

    def found(work: Callable[..., Iterator[windows.Part]], cluster: Cluster) -> tuple[int, dict[str, str]]:
        together = Findings(found=[])
        source = open_source(cluster)
        feeds = windows.accounting_feeds(source, history.known_queues(cluster.name))
        for part in work(history, cluster.name, source, feeds, begin, end):
            together.add(part.findings)
        return together.checked, {finding.native_id: finding.kind for finding in together.found}

    for cluster in load(configuration).clusters:
        # Slurm changes a few records minutes after their job's end (its CPU time, its exit code): the daemon would
        # have read them again, but it has been stopped
        changed = found(windows.recollect, cluster)[1]
        assert set(changed.values()) <= {"different"} and len(changed) < 5, changed
        checked, wrong = found(windows.verify, cluster)
        assert wrong == {} and checked >= 30
        ended = select(jobs.c.native_id).where(jobs.c.cluster == cluster.name, jobs.c.ended_at >= begin).distinct()
        ids = [row["native_id"] for row in query(database, ended.order_by(jobs.c.native_id))]
        expected = dict.fromkeys(ids[:4], "missing") | dict.fromkeys(ids[4:8], "different")
        with history._engine.begin() as connection:
            for table in (jobs, runs, run_workers):
                mine = table.c.cluster == cluster.name
                connection.execute(delete(table).where(mine, table.c.native_id.in_(ids[:4])))
                if table is jobs:
                    connection.execute(
                        update(table).where(mine, table.c.native_id.in_(ids[4:8])).values(owner="mallory")
                    )
                for row in connection.execute(select(table).where(mine, table.c.native_id == ids[9])).mappings().all():
                    connection.execute(insert(table).values({**row, "native_id": f"{ids[9]}999999"}))
                    expected[f"{ids[9]}999999"] = "extra"
        assert found(windows.verify, cluster)[1] == expected
        assert found(windows.recollect, cluster)[1] == expected
        assert found(windows.verify, cluster) == (checked, {})
        assert Audit(history).compare_usage(cluster.name, [begin.date(), end.date()]) == []
    history._engine.dispose()


MAY_NOT_HAVE_BEEN = {"How long had jobs waited that started?", "GPU hours day by day"}
"""Panels of what may not have happened yet: whichever test comes first."""


def _wrong_on_dashboards(folder: Path, database: URL) -> list[str]:
    """Ask for every panel of every dashboard of what real schedulers tell, and give what is wrong with the answers."""
    program = shutil.which("prometheus")
    if program is None:
        missing("no prometheus: apt-get install prometheus")
    port = free_port()
    (folder / "prometheus.yml").write_text(
        "scrape_configs: [{job_name: bbq, honor_labels: true, scrape_interval: 1s, "
        f"static_configs: [{{targets: ['127.0.0.1:{PORT}']}}]}}]\n"
    )
    command = [
        str(program), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/series",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    engine = open_database(database)
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            time.sleep(15)
            with engine.connect() as connection:
                owner, place = (
                    connection.execute(select(column).where(table.c.span == OPEN_SPAN).limit(1)).scalar_one()
                    for table, column in ((runs, runs.c.owner), (run_workers, run_workers.c.worker))
                )
                job = connection.execute(select(runs.c.cluster, runs.c.native_id).limit(1)).one()
            chosen = {
                "bbq-owner": {"owner": owner},
                "bbq-worker": {"worker": place},
                "bbq-job": {"cluster": job.cluster, "job": job.native_id},
            }
            found = []
            for uid, board in dashboards().items():
                grafana = Grafana(
                    board, f"http://127.0.0.1:{port}", engine, begin=datetime.now(UTC) - timedelta(hours=1),
                    scrape_seconds=1, chosen=chosen.get(uid, {}),
                )  # fmt: skip
                found += wrong_shapes(board, grafana, {*MAY_BE_EMPTY, *MAY_NOT_HAVE_BEEN})
            return found
        finally:
            process.terminate()
            engine.dispose()


def test_gauges_count_what_the_schedulers_count(
    slurm: Slurm,
    pool: HTCondor | None,
    configuration: Path,
    exporter: Callable[..., Process],
    database: URL,
    tmp_path: Path,
) -> None:
    try:
        _both(*_on_slurm(pool, lambda: workloads.slurm_staying(slurm), workloads.htcondor_staying))
        process = _start(exporter, configuration)
        assert wait_for(lambda: _agree(lambda: _squeue(slurm), "local"), 60, 1.0), (
            _squeue(slurm),
            _jobs_by_owner_and_state("local"),
        )
        if pool is not None:
            assert wait_for(lambda: _agree(lambda: _condor_q(pool), "grid"), 60, 1.0), (
                _condor_q(pool),
                _jobs_by_owner_and_state("grid"),
            )
        # the history shows the same queue
        open_jobs = select(jobs.c.owner, jobs.c.state).where(jobs.c.cluster == "local", jobs.c.ended_at.is_(None))

        def stored() -> Counter[tuple[str, str]]:
            return Counter((row["owner"], row["state"]) for row in query(database, open_jobs))

        assert wait_for(lambda: stored() == _squeue(slurm), 30, 1.0), (stored(), _squeue(slurm))
        # and so does bbq, with the schedulers' reasons
        assert _settled(lambda: differences_from_squeue(slurm, database)) == []
        if pool is not None:
            assert _settled(lambda: differences_from_condor_q(pool, database)) == []
        if database.get_backend_name() == "postgresql":
            assert _wrong_on_dashboards(tmp_path, database) == []
        assert "Traceback" not in process.text()
    finally:
        _both(*_on_slurm(pool, lambda: workloads.slurm_clear(slurm), workloads.htcondor_clear))


def test_what_a_user_may_not_see_is_said_to_be_hidden(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = {kind: Feed(kind=kind) for kind in (Kind.JOBS, Kind.WORKERS, Kind.ACCOUNTING)}
    now = datetime.now(UTC)  # what is read first reaches back from here: every user is shown the same time

    def source(user: str) -> SlurmSource:
        monkeypatch.setattr("getpass.getuser", lambda: user)
        return SlurmSource(Settings(name="local", scheduler="slurm", commands=slurm.commands_of(user)))

    def read_accounting(user: str) -> AccountingPage:
        return source(user).read_accounting(feeds[Kind.ACCOUNTING], None, now)

    try:
        for user in ("alice", "bob", "bob"):
            slurm.submit(user, "true", "--hold")
        assert len(source("alice").read_jobs(feeds[Kind.JOBS]).jobs) == 3
        workers = source("alice").read_workers(feeds[Kind.WORKERS]).workers
        assert [each.name for each in workers] == list(NODES)  # n7 is in a hidden partition alone
        assert workers[-1].queues == ("hidden",)
        ended = len(read_accounting("alice").jobs)
        slurm.hide("jobs")
        own = ("--userspec=alice:alice", str(slurm.chroot.path), "squeue", "-h", "-a")
        assert wait_for(lambda: len(subprocess.check_output(["chroot", *own]).splitlines()) == 1, 30, 0.3)
        with pytest.raises(NotAllowed, match=r"view of user alice is limited, for PrivateData=jobs of slurm\.conf"):
            source("alice").read_jobs(feeds[Kind.JOBS])
        with pytest.raises(NotAllowed, match=r"view of user alice is limited, for PrivateData=jobs of slurmdbd\.conf"):
            read_accounting("alice")
        assert len(source("monitor").read_jobs(feeds[Kind.JOBS]).jobs) == 3  # an operator
        assert len(read_accounting("monitor").jobs) >= ended
    finally:
        slurm.hide("none")
        workloads.slurm_clear(slurm)


def test_nothing_is_lost_while_the_exporter_is_down(
    slurm: Slurm, pool: HTCondor | None, configuration: Path, database: URL, exporter: Callable[..., Process]
) -> None:
    since = int(time.time())
    first = _start(exporter, configuration)
    slurm.submit("alice", "sleep 4", "-J", "across", "--array=0-9")
    time.sleep(3)
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    slurm.submit("alice", "true", "-J", "unseen", "--array=0-49")
    if pool is not None:
        pool.submit(
            "alice",
            "A",
            {"executable": "/bin/true", "transfer_executable": "false", "request_memory": "32", "request_disk": "100"},
            "queue 25",
        )
        pool.submit(
            "bob",
            "B",
            {"executable": "/bin/true", "transfer_executable": "false", "request_memory": "32", "request_disk": "100"},
            "queue 25",
        )
    assert wait_for(lambda: _slurm_queue_empty(slurm), 120, 1.0)
    if pool is not None:
        assert wait_for(lambda: _condor_queue_empty(pool), 120, 1.0)
    process = _start(exporter, configuration)
    assert _settled(lambda: differences_from_sacct(slurm, database, since)) == []
    assert len(sacct(slurm, since)) >= 60
    if pool is not None:
        assert _settled(lambda: differences_from_condor(pool, database, since)) == []
        assert len(condor_history(pool, since)) >= 50
    assert "Traceback" not in process.text()


def _series(name: str, cluster: str, **labels: str) -> int:
    return sum(
        1
        for found, _ in _metrics()[name]
        if found["cluster"] == cluster and all(found.get(key) == value for key, value in labels.items())
    )


def test_what_goes_and_what_stays_when_a_part_is_away(
    slurm: Slurm, pool: HTCondor | None, configuration: Path, database: URL, exporter: Callable[..., Process]
) -> None:
    since = int(time.time())
    slurm.submit("alice", "sleep 600", "-J", "stays")
    if pool is not None:
        for schedd in "AB":
            pool.submit(
                "alice",
                schedd,
                {
                    "executable": "/bin/sleep",
                    "transfer_executable": "false",
                    "arguments": "600",
                    "request_memory": "32",
                    "request_disk": "100",
                },
            )
    process = _start(exporter, configuration)
    for cluster in ("local", "grid") if pool is not None else ("local",):
        assert wait_for(lambda cluster=cluster: _series("bbq_jobs", cluster) > 0, 60), cluster
    try:
        # slurmctld away: its series go after stale_after, everything else stays
        slurm.stop_slurmctld()
        assert wait_for(lambda: _up("jobs", "local") == 0, 90, 0.3), process.text()
        assert wait_for(lambda: _series("bbq_jobs", "local") == 0 and _series("bbq_worker_cpus", "local") == 0, 90, 0.3)
        assert _up("accounting", "local") == 1
        if pool is not None:
            assert _series("bbq_jobs", "grid") > 0
        slurm.start_slurmctld()
        assert wait_for(lambda: _up("jobs", "local") == 1 and _series("bbq_jobs", "local") > 0, 60, 0.3), process.text()

        # slurmdbd away: gauges stay; what ends meanwhile is there when it is back
        slurm.stop_slurmdbd()
        assert wait_for(lambda: _up("accounting", "local") == 0, 90, 0.3)
        slurm.submit("bob", "true", "-J", "ends_meanwhile", "--array=0-4")
        assert wait_for(lambda: len(slurm.run("squeue", "-h", "-a", "-r").stdout.splitlines()) == 1, 60, 0.5)
        assert _series("bbq_jobs", "local") > 0
        slurm.start_slurmdbd()
        assert wait_for(lambda: _up("accounting", "local") == 1, 60, 0.3)
        assert wait_for(lambda: len(sacct(slurm, since)) == 5, 60, 0.5)  # slurmctld had kept them
        assert _settled(lambda: differences_from_sacct(slurm, database, since)) == []

        if pool is not None:
            _one_schedd_hangs(pool)
            _one_schedd_stops(pool)
    finally:
        slurm.start_slurmdbd()
        slurm.start_slurmctld()
        _both(*_on_slurm(pool, lambda: workloads.slurm_clear(slurm), workloads.htcondor_clear))
    assert "Traceback" not in process.text()


def _one_schedd_hangs(pool: HTCondor) -> None:
    """Stop schedd B in its tracks: it is down, and schedd A neither late nor blank."""
    a, b = pool.schedds["A"], pool.schedds["B"]
    pid = pool.schedd_pid("B")
    os.kill(pid, signal.SIGSTOP)
    try:
        assert wait_for(lambda: _up(f"jobs:{b}", "grid") == 0, 60, 0.3)
        assert wait_for(lambda: _series("bbq_jobs", "grid", queue=b) == 0, 90, 0.3)
        ages = []
        for _ in range(10):
            last = next(
                value
                for labels, value in _metrics()["bbq_source_last_success_timestamp_seconds"]
                if labels["source"] == f"jobs:{a}"
            )
            ages.append(time.time() - last)
            time.sleep(0.5)
        assert max(ages) < STALE_SECONDS, ages
        assert _series("bbq_jobs", "grid", queue=a) > 0
    finally:
        os.kill(pid, signal.SIGCONT)
    assert wait_for(lambda: _up(f"jobs:{b}", "grid") == 1 and _series("bbq_jobs", "grid", queue=b) > 0, 90, 0.5)


def _one_schedd_stops(pool: HTCondor) -> None:
    """Turn schedd B off: it is down, not forgotten; and its jobs are not taken for ended."""
    b = pool.schedds["B"]
    pool.run("condor_off", "-name", f"schedd-{pool.suite}.pool.test", "-subsystem", "SCHEDDB", check=False)
    assert wait_for(lambda: _up(f"jobs:{b}", "grid") == 0, 60, 0.3)
    pool.run("condor_on", "-name", f"schedd-{pool.suite}.pool.test", "-subsystem", "SCHEDDB", check=False)
    assert wait_for(lambda: _up(f"jobs:{b}", "grid") == 1 and _series("bbq_jobs", "grid", queue=b) > 0, 90, 0.5)

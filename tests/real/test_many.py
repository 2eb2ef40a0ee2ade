"""A long past on real Slurm and real HTCondor: filled in from nothing, verified, damaged and mended.

BBQ_TEST_MANY says how many jobs of each; what is printed (pytest -s) are the rates.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import URL, Connection, Table, delete, insert, select, update

from exporter.config import load
from exporter.reconcile import windows
from exporter.settings import Cluster
from exporter.sources import Source, open_source
from exporter.sources.hostlist import hosts
from history.cli import command
from history.db import schema
from history.db.database import open_database
from history.ingest.store import History
from history.reconcile.audit import Audit
from history.reconcile.findings import Findings
from tests.clusters.htcondor import HTCondor
from tests.clusters.many import htcondor_forget, htcondor_many, slurm_forget, slurm_many
from tests.clusters.slurm import Slurm
from tests.exact import contents

pytestmark = [pytest.mark.slurm, pytest.mark.htcondor]

MANY = int(os.environ.get("BBQ_TEST_MANY", "3000"))
DAMAGED = min(1000, MANY // 10)
DAYS = 30

_BIG = (schema.jobs, schema.runs, schema.run_workers)
_DAMAGES: list[tuple[Table, str, Callable[[Any], Any]]] = [
    (schema.jobs, "owner", lambda _: "mallory"),
    (schema.jobs, "outcome", lambda old: "failed" if old == "completed" else "completed"),
    (schema.jobs, "exit_code", lambda _: 77),
    (schema.jobs, "requested_cpus", lambda _: 99.0),
    (schema.jobs, "used_cpu_seconds", lambda old: (old or 0) + 1234.5),
    (schema.jobs, "ended_at", lambda old: old - timedelta(seconds=7)),
    (schema.jobs, "ended_at", lambda old: old - timedelta(days=2)),
    (schema.jobs, "first_started_at", lambda old: (old or datetime(2026, 1, 1, tzinfo=UTC)) - timedelta(seconds=5)),
    (schema.runs, "started_at", lambda old: old - timedelta(seconds=40)),
    (schema.runs, "cpus", lambda _: 99.0),
    (schema.runs, "outcome", lambda old: "failed" if old == "completed" else "completed"),
    (schema.runs, "span", lambda _: 20),
    (schema.run_workers, "worker", lambda _: "nowhere"),
    (schema.run_workers, "cpus", lambda _: 77.0),
]


@pytest.fixture(scope="module")
def past() -> tuple[datetime, datetime]:
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(days=200)  # where no job of another test is
    return end - timedelta(days=DAYS), end


@pytest.fixture(scope="module")
def slurm_past(slurm: Slurm, past: tuple[datetime, datetime]) -> Iterator[tuple[str, int]]:
    attempts = slurm_many(slurm, MANY, *(int(each.timestamp()) for each in past))
    yield f"clusters: [{{name: local, scheduler: slurm, commands: {slurm.commands}}}]", attempts
    slurm_forget(slurm)


@pytest.fixture(scope="module")
def htcondor_past(pool: HTCondor | None, past: tuple[datetime, datetime]) -> Iterator[tuple[str, int]]:
    assert pool is not None
    attempts = htcondor_many(pool, MANY, *(int(each.timestamp()) for each in past))
    where = f'collectors: ["{pool.collector}"], schedds: ["{pool.schedds["A"]}"]'
    yield f"clusters: [{{name: grid, scheduler: htcondor, timeout: 120s, {where}}}]", attempts
    htcondor_forget(pool)


@pytest.mark.parametrize("scheduler", ["slurm", "htcondor"])
def test_a_long_past_is_filled_in_verified_damaged_and_mended(
    scheduler: str, past: tuple[datetime, datetime], database: URL, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    text, attempts = request.getfixturevalue(f"{scheduler}_past")
    history, cluster, source = _begun(text, database, tmp_path)
    since, until = past[0] - timedelta(days=1), past[1] + timedelta(seconds=1)

    def go(work: Callable[..., Iterator[windows.Part]]) -> Findings:
        together = Findings(found=[])
        feeds = windows.accounting_feeds(source, history.known_queues(cluster.name))
        began = time.monotonic()
        for part in work(history, cluster.name, source, feeds, since, until):
            together.add(part.findings)
        seconds = time.monotonic() - began
        print(
            f"{scheduler} {database.get_backend_name()} {work.__name__}: {together.checked} records in {seconds:.1f} s, "
            f"{together.checked / seconds:,.0f}/s, {dict(Counter(each.kind for each in together.found))}"
        )
        return together

    go(windows.backfill)
    with history.reading() as connection:
        before = contents(connection)
        counts = [len(before[table.name]) for table in _BIG[:2]]
    idle = MANY // 100 if scheduler == "slurm" else 0  # an attempt that never started is no run
    assert counts == [MANY, attempts - idle]
    nothing_wrong = go(windows.verify)
    assert nothing_wrong.found == [] and nothing_wrong.not_confirmed == []
    # on HTCondor a run that ended in an earlier window than its job counts again
    assert nothing_wrong.checked == attempts if scheduler == "slurm" else MANY <= nothing_wrong.checked <= attempts
    with history._engine.begin() as connection:
        expected = _damage(connection, cluster.name)
    assert len(expected) == DAMAGED
    assert _kinds(go(windows.verify)) == expected
    assert _kinds(go(windows.recollect)) == expected
    with history.reading() as connection:
        assert contents(connection) == before
    assert go(windows.verify).found == []
    days = [since.date() + timedelta(days=day) for day in range(DAYS + 3)]
    assert Audit(history).compare_usage(cluster.name, days) == []
    history._engine.dispose()


def _kinds(findings: Findings) -> dict[str, str]:
    assert len(findings.found) == len({each.native_id for each in findings.found})
    return {finding.native_id: finding.kind for finding in findings.found}


def _damage(connection: Connection, cluster: str) -> dict[str, str]:
    """Delete a third, change a third, and add a third that never was; give what should be found."""
    ids = list(
        connection.scalars(
            select(schema.jobs.c.native_id).where(schema.jobs.c.cluster == cluster).order_by(schema.jobs.c.native_id)
        )
    )
    chosen = ids[5 :: len(ids) // DAMAGED][:DAMAGED]
    expected: dict[str, str] = {}
    for place, native_id in enumerate(chosen):
        rows = {
            table: list(connection.execute(select(table).where(table.c.native_id == native_id)).mappings())
            for table in _BIG
        }
        if place % 3 == 0:
            for table in _BIG:
                connection.execute(delete(table).where(table.c.native_id == native_id))
            expected[native_id] = "missing"
        elif place % 3 == 1:
            table, column, change = _DAMAGES[place // 3 % len(_DAMAGES)]
            if not rows[table]:
                table, column, change = _DAMAGES[0]  # it never ran
            row = rows[table][-1]
            key = [each == row[each.name] for each in table.primary_key.columns]
            changed = connection.execute(update(table).where(*key).values({column: change(row[column])}))
            assert changed.rowcount == 1
            expected[native_id] = "different"
        else:
            invented = native_id.replace("#1", "#7") if "#" in native_id else f"7{native_id}"
            for table in _BIG:
                for row in rows[table]:
                    connection.execute(insert(table).values({**row, "native_id": invented}))
            expected[invented] = "extra"
    return expected


def _asker(database: URL) -> Callable[..., list[dict[str, Any]]]:
    url = database.render_as_string(hide_password=False)

    def ask(*question: str) -> list[dict[str, Any]]:
        done = CliRunner().invoke(command, [*question, "--limit", "1000000", "--format", "json", "--database", url])
        assert done.exit_code == 0, done.output
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    return ask


def _begun(text: str, database: URL, folder: Path) -> tuple[History, Cluster, Source]:
    """Return a history that knows the cluster of a configuration, and nothing of it yet."""
    (folder / "bbq.yaml").write_text(text)
    cluster = load(folder / "bbq.yaml").clusters[0]
    history = History(open_database(database))
    history.prepare()
    history.begin(cluster.name, cluster.scheduler)
    return history, cluster, open_source(cluster)


def _filled(text: str, past: tuple[datetime, datetime], database: URL, folder: Path) -> None:
    history, cluster, source = _begun(text, database, folder)
    feeds = windows.accounting_feeds(source, [])
    until = past[1] + timedelta(seconds=1)
    for _ in windows.backfill(history, cluster.name, source, feeds, past[0] - timedelta(days=1), until):
        pass
    history._engine.dispose()


def test_questions_about_slurms_past_equal_its_own_words(
    slurm: Slurm, slurm_past: tuple[str, int], past: tuple[datetime, datetime], database: URL, tmp_path: Path
) -> None:
    _filled(slurm_past[0], past, database, tmp_path)
    ask = _asker(database)
    day = (past[0] + timedelta(days=10)).replace(hour=0, minute=0, second=0)
    begin, end = (f"{each:%Y-%m-%dT%H:%M:%S}" for each in (day, day + timedelta(days=1)))

    # CPU time by user: sreport, whose figures slurmdbd has first to add up
    slurm.run("sacctmgr", "-i", "rollup", begin, end)
    report = slurm.run(
        "sreport", "-n", "-P", "-t", "Seconds", "cluster", "AccountUtilizationByUser",
        f"Start={begin}", f"End={end}", "format=Login,Used",
    ).stdout.decode()  # fmt: skip
    theirs: Counter[str] = Counter()
    for line in report.splitlines():
        login, used = line.split("|")
        if login:
            theirs[login] += int(used)
    mine = {row["owner"]: row["cpu_time_seconds"] for row in ask("usage", "--since", f"{begin}Z", "--until", f"{end}Z")}
    assert theirs and mine == dict(theirs)

    # who had how many CPUs at a moment, and what was on a worker between two
    moment = day + timedelta(hours=14)
    at, later = f"{moment:%Y-%m-%dT%H:%M:%S}", f"{moment + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}"

    def sacct(*arguments: str) -> list[list[str]]:
        answer = slurm.run("sacct", "-a", "-X", "-D", "-n", "-P", *arguments).stdout.decode()
        return [line.split("|") for line in answer.splitlines()]

    running = sacct("-s", "R", "-S", at, "-E", at, "-o", "User,AllocCPUS")
    cpus: Counter[str] = Counter()
    for user, count in running:
        cpus[user] += int(count)
    found = {row["owner"]: row["cpus"] for row in ask("top", "owners", "--by", "cpus", "--at", f"{at}Z") if row["cpus"]}
    assert cpus and found == dict(cpus)
    on_worker = {row[0] for row in sacct("-s", "R", "-N", "n2", "-S", at, "-E", later, "-o", "JobID")}
    searched = ask("search", "--worker", "n2", "--running-between", f"{at}Z", f"{later}Z")
    assert on_worker and {row["job_id"] for row in searched} == on_worker

    # which workers killed most
    bad: Counter[str] = Counter()
    for nodes, ended in sacct("-s", "F,TO,OOM,NF", "-S", begin, "-E", end, "-o", "NodeList,End"):
        if day.timestamp() <= int(ended) < (day + timedelta(days=1)).timestamp():
            for node in hosts(nodes):
                bad[node] += 1
    url = database.render_as_string(hide_password=False)
    question = ["failures", "--since", f"{begin}Z", "--until", f"{end}Z", "--format", "json", "--database", url]
    failed = json.loads(CliRunner().invoke(command, question).stdout)["workers"]
    assert bad and {row["worker"]: row["failed"] for row in failed} == dict(bad)


def test_questions_about_htcondors_past_equal_its_own_words(
    pool: HTCondor, htcondor_past: tuple[str, int], past: tuple[datetime, datetime], database: URL, tmp_path: Path
) -> None:
    _filled(htcondor_past[0], past, database, tmp_path)
    ask = _asker(database)
    moment = (past[0] + timedelta(days=10)).replace(hour=14, minute=0, second=0)
    at = int(moment.timestamp())

    def condor_history(constraint: str, *more: str) -> list[list[str]]:
        answer = pool.run(
            "condor_history", "-name", pool.schedds["A"], *more, "-scanlimit", "1000000", "-constraint", constraint,
            "-af", "Owner", "CpusProvisioned", "GlobalJobId",
        )  # fmt: skip
        return [line.split() for line in answer.stdout.decode().splitlines()]

    cpus: Counter[str] = Counter()
    for owner, count, _ in condor_history(f"JobCurrentStartDate <= {at} && EpochWriteDate > {at}", "-epochs"):
        cpus[owner] += int(count)
    question = ["top", "owners", "--by", "cpus", "--at", f"{moment:%Y-%m-%dT%H:%M:%SZ}"]
    assert cpus and {row["owner"]: row["cpus"] for row in ask(*question) if row["cpus"]} == dict(cpus)
    little = condor_history("RequestMemory > 2000 && MemoryUsage < 300")
    found = ask("search", "--resource", "memory>2000M", "--resource", "used-memory<300M")
    assert little and len(found) == len(little)
    failed = condor_history("JobStatus == 4 && (ExitBySignal || ExitCode =!= 0)")
    assert failed and len(ask("search", "--outcome", "failed")) == len(failed)

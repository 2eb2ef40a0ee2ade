"""bbq on a history of both kinds of database: right, pleasant, and unable to write."""

import csv
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from sqlalchemy import URL, func, literal, literal_column, select, text, update

from history.answer import Answer
from history.cli import command
from history.db import schema
from history.db.database import open_database
from history.ingest.store import History
from history.questions import Scope, TookTooLong, reading, run
from history.records import Job, Queue, Run, RunWorker, Worker
from history.render.human import human_bytes, human_seconds, printable
from history.render.machine import to_csv, to_json
from history.render.table import to_table
from history.vocabulary import Outcome, State, Waiting, WorkerFlag, WorkerState
from tests.asking import answer

NOW = datetime.min
"""When the test that runs began."""
Ask = Callable[..., Result]


@pytest.fixture(autouse=True)
def _now() -> None:
    """Have every test begin now: a suite may run for hours, and what still runs has run on since."""
    global NOW
    NOW = datetime.now(UTC).replace(microsecond=0)


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def job(native_id: str, owner: str = "alice", **more: Any) -> Job:
    usual: dict[str, Any] = {
        "native_id": native_id, "submitted_at": ago(10), "attempt_at": ago(10), "owner": owner, "account": "physics", "queue": "batch",
        "name": "analysis", "state": State.PENDING, "native_state": "PENDING", "reason": "Priority", "waiting": Waiting.PRIORITY,
        "requested_cpus": 4.0, "requested_memory_bytes": 8 << 30, "requested_gpus": 0.0,
    }  # fmt: skip
    return Job(**{**usual, **more})


def running(native_id: str, owner: str = "alice", worker: str = "n1", start: float = 5, **more: Any) -> Job:
    run = Run(
        attempt_at=ago(10),
        started_at=ago(start),
        cpus=4.0,
        gpus=1.0,
        memory_bytes=8 << 30,
        workers=(RunWorker(worker=worker, cpus=4.0, gpus=1.0),),
    )
    return job(
        native_id, owner, state=State.RUNNING, native_state="RUNNING", reason=None, waiting=None, runs=(run,), **more
    )


def ended(
    native_id: str,
    owner: str = "alice",
    outcome: Outcome = Outcome.COMPLETED,
    start: float = 5,
    end: float = 2,
    **more: Any,
) -> Job:
    job = running(native_id, owner, start=start)
    run = replace(
        job.runs[0],
        ended_at=ago(end),
        outcome=outcome,
        exit_code=0 if outcome is Outcome.COMPLETED else 1,
        accounted=True,
    )
    return replace(
        job,
        state=State.ENDED,
        outcome=outcome,
        ended_at=ago(end),
        exit_code=run.exit_code,
        used_cpu_seconds=3600.0,
        accounted=True,
        runs=(run,),
        **more,
    )


@pytest.fixture
def ask(history: History, database: URL) -> Iterator[Ask]:
    history.begin_cluster("local", "slurm", "24.11", NOW)
    history.begin_cluster("grid", "htcondor", "25.14", NOW)
    array = [job(f"50_{task}", "bob", array_parent="50") for task in range(5)]
    history.save_jobs(
        "local",
        "jobs",
        [
            running("1"), running("2", worker="n2"), job("3", state=State.HELD, reason="JobHeldUser", waiting=None), *array,
            ended("4"), ended("5", "bob", Outcome.FAILED), ended("6", "bob", Outcome.TIMEOUT, start=9, end=8, submitted_at=ago(50), attempt_at=ago(50)),
            job("7", "carol", name="x\n999|root|\x1b[31m", requested_cpus=100.0), job("8", "dave", routed_to="9"),
        ],
        seen_at=NOW,
        interval_seconds=60,
    )  # fmt: skip
    history.save_jobs(
        "grid",
        "jobs:s1@h",
        [replace(running("s1@h#1.0", "atlas", vo="atlas"), attempt_at=None, queue="s1@h")],
        seen_at=NOW,
        interval_seconds=60,
    )
    workers = [
        Worker(
            name="n1",
            state=WorkerState.PARTIAL,
            flags=(WorkerFlag.DRAINING,),
            reason="disk",
            cpus=16.0,
            memory_bytes=1 << 36,
        )
    ]
    history.save_workers(
        "local", "workers", workers, [Queue(name="batch", state="up")], seen_at=NOW, interval_seconds=60
    )
    history.save_workers("grid", "workers", [], [Queue(name="s1@h")], seen_at=NOW, interval_seconds=60)
    url = database.render_as_string(hide_password=False)
    runner = CliRunner()
    yield lambda *arguments: runner.invoke(command, [*arguments[:1], *arguments[1:], "--database", url])


def test_top_owners(ask: Ask) -> None:
    rows = answer(ask("top", "owners", "--format", "json"))
    assert [(row["owner"], row["jobs"], row["running"], row["pending"], row["held"], row["cpus"], row["gpus"]) for row in rows] == [
        ("bob", 5, 0, 5, 0, 0, 0), ("alice", 3, 2, 0, 1, 8, 2), ("atlas", 1, 1, 0, 0, 4, 1), ("carol", 1, 0, 1, 0, 0, 0),
    ]  # fmt: skip
    rows = answer(ask("top", "owners", "--format", "json", "--by", "cpus", "--limit", "1"))
    assert [row["owner"] for row in rows] == ["alice"]  # carol asks for 100, and holds none
    rows = answer(ask("top", "owners", "--format", "json", "--by", "cpus", "--state", "pending", "--limit", "1"))
    assert [(row["owner"], row["cpus"]) for row in rows] == [("carol", 100)]
    rows = answer(ask("top", "owners", "--format", "json", "--state", "running", "--by", "cpus"))
    assert [row["owner"] for row in rows] == ["alice", "atlas"]


def test_top_of_other_things(ask: Ask) -> None:
    assert [row["queue"] for row in answer(ask("top", "queues", "--format", "json"))] == ["batch", "s1@h"]
    assert [row["vo"] for row in answer(ask("top", "vos", "--format", "json", "--cluster", "grid"))] == ["atlas"]
    workers = answer(ask("top", "workers", "--format", "json"))
    assert [(row["cluster"], row["worker"], row["jobs"]) for row in workers] == [
        ("grid", "n1", 1),
        ("local", "n1", 1),
        ("local", "n2", 1),
    ]


def test_top_over_a_period(ask: Ask) -> None:
    rows = answer(ask("top", "owners", "--since", "24h", "--format", "json", "--by", "wall-time"))
    # alice has one job that ended, and two that still run; atlas one that still runs
    assert [(row["owner"], row["jobs"], row["failed"]) for row in rows] == [
        ("alice", 1, 0), ("atlas", 0, 0), ("bob", 2, 2),
    ]  # fmt: skip
    alice, _, bob = (row["wall_time_seconds"] for row in rows)
    assert alice == pytest.approx((3 + 2 * 5) * 3600, abs=60) and bob == 14400
    found = {
        row["owner"]: row for row in answer(ask("top", "owners", "--since", "24h", "--format", "json", "--by", "cpus"))
    }
    # averages are over the time since the day on which the history begins, if that is less
    begin = max(ago(24), ago(9).replace(hour=0, minute=0, second=0))
    length = (datetime.now(UTC) - begin).total_seconds() / 3600
    assert [found[name]["cpus"] for name in ("alice", "bob")] == [
        pytest.approx(4 * hours / length, rel=0.002) for hours in (13, 4)
    ]
    rows = answer(ask("top", "owners", "--since", "24h", "--until", "3h", "--format", "json", "--by", "cpu-time"))
    assert rows[0]["cpu_time_seconds"] == pytest.approx(3 * 4 * 2 * 3600, abs=200)
    rows = answer(ask("top", "outcomes", "--since", "7d", "--format", "json"))
    assert {row["outcome"]: row["jobs"] for row in rows} == {"completed": 1, "failed": 1, "timeout": 1}
    refused = ask("top", "owners", "--by", "cpu-time")
    assert refused.exit_code == 2 and "say since when, for instance --since 7d" in refused.stderr


def test_top_workers_over_a_period_counts_runs_each_by_its_own_end(ask: Ask, history: History) -> None:
    bad = Run(
        attempt_at=ago(4),
        started_at=ago(4),
        ended_at=ago(3.5),
        outcome=Outcome.NODE_FAIL,
        cpus=2.0,
        workers=(RunWorker(worker="bad", cpus=2.0),),
        accounted=True,
    )
    good = Run(
        attempt_at=ago(3),
        started_at=ago(3),
        ended_at=ago(1),
        outcome=Outcome.COMPLETED,
        cpus=20.0,
        workers=tuple(RunWorker(worker=f"g{number}") for number in range(10)),
        accounted=True,
    )
    twice = job(
        "90",
        state=State.ENDED,
        outcome=Outcome.COMPLETED,
        ended_at=ago(1),
        attempt_at=ago(3),
        accounted=True,
        runs=(bad, good),
    )
    history.save_jobs("local", "accounting", [twice], seen_at=NOW)
    rows = answer(ask("top", "workers", "--since", "5h", "--by", "wall-time", "--limit", "100", "--format", "json"))
    found = {row["worker"]: (row["runs"], row["failed"], row["wall_time_seconds"]) for row in rows}
    assert found["bad"] == (1, 1, 1800) and found["g0"] == (1, 0, 7200) and len(found) == 12
    told = {row["worker"]: (row["cpu_time_seconds"], row["runs_not_counted"]) for row in rows}
    assert told["bad"] == (3600, 0) and told["g0"] == (None, 1)
    assert ask("top", "workers", "--since", "5h", "--by", "wait").exit_code == 2
    assert "leave it out" in ask("top", "owners", "--state", "running", "--since", "5h").stderr


def test_search(ask: Ask) -> None:
    def ids(*arguments: str) -> list[str]:
        return [row["job_id"] for row in answer(ask("search", *arguments, "--format", "json"))]

    assert sorted(ids("--state", "running")) == ["1", "2", "s1@h#1.0"]
    assert ids("--owner", "bob", "--outcome", "failed") == ["5"]
    assert sorted(ids("--worker", "n1", "--cluster", "local")) == ["1", "4", "5", "6"]
    assert ids("--worker", "n1", "--running-at", "8.5h") == ["6"]
    assert ids("--running-at", "8.5h") == ["6"]
    assert ids("--running-at", "3h", "--outcome", "completed") == ["4"]
    assert ids("--name", "x*root*") == ["7"]
    assert ids("--exit-code", "1", "--ended-between", "3h", "now") == ["5"]
    assert ids("--submitted-between", "9h", "now") == []
    assert len(ids("--owner", "bob", "--limit", "3")) == 3


def test_names_cannot_steer_the_terminal(ask: Ask) -> None:
    shown = ask("search", "--owner", "carol").stdout
    assert "\x1b" not in shown and "x\\n999|root|\\x1b[31m" in shown
    assert answer(ask("search", "--owner", "carol", "--format", "json"))[0]["name"] == "x\n999|root|\x1b[31m"


def test_info_job(ask: Ask) -> None:
    shown = ask("info", "job", "1", "--cluster", "local").stdout
    assert "job 1 of local" in shown and "n1" in shown and "alice" in shown
    assert re.search(r"requested memory +8\.0G", shown)
    facts = {
        row["what"]: row["value"]
        for row in answer(ask("info", "job", "1", "--cluster", "local", "--format", "json"))["job"]
    }
    assert facts["requested_memory_bytes"] == 8 << 30 and facts["submitted_at"] == ago(10).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    assert "atlas" in ask("info", "job", "1.0").stdout  # a proc of whichever schedd
    parts = answer(ask("info", "job", "50", "--format", "json"))["parts"]
    assert [(row["state"], row["jobs"]) for row in parts] == [("pending", 5)]
    refused = ask("info", "job", "12345")
    assert refused.exit_code == 1 and "no job '12345' is in the history; `bbq search` finds" in refused.stderr


def test_info_owner_and_worker(ask: Ask) -> None:
    found = answer(ask("info", "owner", "bob", "--format", "json"))
    assert [(row["queue"], row["state"], row["jobs"]) for row in found["queued"]] == [("batch", "pending", 5)]
    assert [(row["outcome"], row["jobs"]) for row in found["ended"]] == [
        ("failed", 1),
        ("timeout", 1),
    ]
    assert [(row["waiting"], row["jobs"]) for row in found["waiting"]] == [("priority", 5)]
    found = answer(ask("info", "worker", "n1", "--cluster", "local", "--format", "json"))
    assert [(row["state"], row["flags"], row["reason"]) for row in found["states"]] == [("up", "draining", "disk")]
    assert [row["job_id"] for row in found["on_it"]] == ["1"]
    assert {row["job_id"] for row in found["newest"]} == {"4", "5", "6"}
    assert sum(row["runs"] for row in found["ended"]) == 3
    assert "did you mean alice" in ask("info", "owner", "alise").stderr
    assert "no worker called 'nn1' is in the history; did you mean n1?" in ask("info", "worker", "nn1").stderr


def test_the_status_of_a_schedd_that_is_gone_for_good(database: URL) -> None:
    history = History(open_database(database))
    history.prepare()
    now = datetime.now(UTC).replace(microsecond=0)
    history.begin_cluster("pool", "htcondor", "25.0", now)
    for days, names in ((3, ("a", "gone", "asked")), (0, ("a",))):
        at = now - timedelta(days=days)
        history.save_workers("pool", "workers", [], [Queue(name=name) for name in names], seen_at=at)
        for name in names:
            history.save_jobs("pool", f"jobs:{name}", [], seen_at=at, interval_seconds=60)
    url = database.render_as_string(hide_password=False)
    question = ["status", "--cluster", "pool", "--format", "json", "--database", url]
    result = CliRunner().invoke(command, question)
    states = {row["source"]: row["state"] for row in json.loads(result.stdout)}
    assert states == {"workers": "fresh", "jobs:a": "fresh", "jobs:gone": "retired", "jobs:asked": "retired"}
    assert result.exit_code == 0
    history.failed("pool", "jobs:asked", "no answer", at=now)  # it is in the configuration
    result = CliRunner().invoke(command, question)
    assert result.exit_code == 1 and "stale: pool jobs:asked\n" in result.stderr
    history._engine.dispose()


def test_status(ask: Ask, history: History) -> None:
    assert {row["state"] for row in answer(ask("status", "--format", "json"))} == {"fresh"}
    history.failed("local", "accounting", "sacct: no answer", at=NOW)
    stale = ask("status")
    assert stale.exit_code == 1
    assert "bbq: stale: local accounting" in stale.stderr and "sacct: no answer" in stale.stdout


def test_formats(ask: Ask) -> None:
    rows = list(csv.DictReader(io.StringIO(ask("search", "--owner", "carol", "--format", "csv").stdout)))
    assert rows[0]["name"] == "x\n999|root|\x1b[31m" and rows[0]["submitted_at"] == ago(10).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    assert rows[0]["memory_bytes"] == str(8 << 30)
    only = ask("top", "owners", "--columns", "jobs,owner", "--no-headers", "--format", "csv").stdout
    assert only.splitlines()[0] == "5,bob"
    wrong = ask("top", "owners", "--columns", "nonsense")
    assert wrong.exit_code == 2 and "there are owner, jobs, running" in wrong.stderr
    assert "SELECT" in ask("top", "owners", "--sql").stderr


def test_a_table_of_jobs_shows_what_fits_and_the_other_formats_everything(ask: Ask) -> None:
    assert ask("search", "--owner", "carol").stdout.split("\n")[0].split("  ")[0] == "CLUSTER"
    assert (
        "ACCOUNT" not in ask("search", "--owner", "carol").stdout
        and "account" in ask("search", "--format", "csv").stdout
    )


def test_options_may_stand_before_the_question(ask: Ask, database: URL) -> None:
    url = database.render_as_string(hide_password=False)
    before = CliRunner().invoke(command, ["--database", url, "--cluster", "grid", "--format", "json", "top", "owners"])
    assert [row["owner"] for row in answer(before)] == ["atlas"]
    both = CliRunner().invoke(
        command, ["--database", "nowhere.db", "--format", "json", "top", "owners", "--database", url]
    )
    assert len(answer(both)) == 4


def test_empty_answers_are_answers(ask: Ask) -> None:
    empty = ask("search", "--owner", "nobody")
    assert (
        empty.exit_code == 0 and empty.stdout.startswith("CLUSTER") and "bbq: no job fits all of this" in empty.stderr
    )
    assert answer(ask("search", "--owner", "nobody", "--format", "json")) == []


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("top", "owners", "--cluster", "lokal"), 1, "no cluster called 'lokal' is in the history; did you mean local?; there are"),
        (("top", "nothing"), 2, "is not one of"),
        (("search", "--running-at", "whenever"), 2, "'whenever' names no moment; write 2026-01-03"),
        (("search", "--limit", "0"), 2, "not in the range"),
    ],
)  # fmt: skip
def test_mistakes(ask: Ask, arguments: tuple[str, ...], code: int, error: str) -> None:
    result = ask(*arguments)
    assert result.exit_code == code and error in result.stderr


def test_no_database(tmp_path: Any) -> None:
    runner = CliRunner()
    result = runner.invoke(command, ["top", "owners"])
    assert result.exit_code == 1 and "history.db: no such file; start bbq-exporter first" in result.stderr
    result = runner.invoke(command, ["top", "owners", "--database", "postgresql://bbq:secret@127.0.0.1:1/x"])
    assert result.exit_code == 1 and "refused" in result.stderr and "secret" not in result.stderr
    (tmp_path / "rubbish.db").write_bytes(b"this is no database" * 100)
    result = runner.invoke(command, ["top", "owners", "--database", str(tmp_path / "rubbish.db")])
    assert result.exit_code == 1 and "not a database" in result.stderr


def test_an_empty_database_says_so(database: URL) -> None:
    engine = open_database(database)
    engine.connect().close()
    engine.dispose()
    result = CliRunner().invoke(command, ["status", "--database", database.render_as_string(hide_password=False)])
    assert result.exit_code == 1 and "nothing in it yet; start bbq-exporter on it first" in result.stderr


def test_human_units() -> None:
    assert [human_bytes(value) for value in (0, 1023, 1024, 3 << 30, 200 << 40)] == [
        "0",
        "1023",
        "1.0K",
        "3.0G",
        "200T",
    ]
    assert [human_seconds(value) for value in (0, 59.4, 200, 14700, 183600)] == ["0s", "59s", "3m20s", "4h05m", "2d03h"]
    assert printable("a\tb\x1b[0m 日本") == "a\\tb\\x1b[0m 日本"


def test_parts_of_a_whole_are_percent_for_people_only() -> None:
    shown = Answer(("owner", "cpu_efficiency", "failed_share"), [("a", 0.8213, 1)])
    assert "82.1%" in to_table([shown], width=80) and "100.0%" in to_table([shown], width=80)
    assert '"cpu_efficiency": 0.8213' in to_json([shown])


def test_tables_fit_the_terminal() -> None:
    wide = Answer(("name", "jobs"), [("日本語" * 20, 5), ("x" * 100, 12345)], bar="jobs")
    for width in (40, 80):
        for line in to_table([wide], width=width, pictures=True).splitlines():
            assert sum(2 if ord(char) > 0x2E80 else 1 for char in line) <= width
    assert "12,345" in to_table([wide], width=40)
    assert json.loads(to_json([wide]))[1] == {"name": "x" * 100, "jobs": 12345}
    assert to_csv([Answer(("a",), [('x"y\n',)])]) == 'a\n"x""y\n"\n'


def test_sparklines_are_for_terminals() -> None:
    rows = [("d1", "a", 8), ("d1", "b", 1), ("d2", "a", 4), ("d3", "a", 0), ("d3", "b", 8)]
    usage = Answer(("day", "owner", "cpu_time_seconds"), rows, trend=("day", "owner", "cpu_time_seconds"))
    assert to_table([usage], width=80, pictures=True).splitlines()[-3:] == ["CPU TIME from d1 to d3", "a  █▄", "b  ▁ █"]
    assert "█" not in to_table([usage], width=80)
    assert "from" not in to_table([Answer(usage.columns, rows[:2], trend=usage.trend)], width=80, pictures=True)


def test_states_have_colours_only_where_asked() -> None:
    jobs = Answer(("job_id", "state"), [("1", "running"), ("2", "failed"), ("3", "x\x1b[31m")])
    shown = to_table([jobs], width=80, colours=True)
    assert "\x1b[32mrunning" in shown and "\x1b[31mfailed" in shown and "\x1b[31m" not in to_table([jobs], width=80)
    assert shown.count("\x1b[31m") == 1


def test_a_search_that_takes_too_long_says_how_far_it_looked(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("history.questions.search.SECONDS", 0.0)
    done = ask("search", "--name", "nothing is called this")
    assert done.exit_code == 0 and done.stdout.count("\n") == 1
    assert "looked for 0 s, back to submissions of 20" in done.stderr and "and not further" in done.stderr


def test_a_query_is_given_up_by_the_database_itself(ask: Ask, database: URL) -> None:
    numbers = select(func.count()).select_from(
        select(literal(1).label("n"))
        .cte("a", recursive=True)
        .union_all(select(literal_column("n + 1")).select_from(text("a")).where(literal_column("n < 100000000")))
    )
    with reading(database.render_as_string(hide_password=False)) as connection:
        began = time.monotonic()
        with pytest.raises(TookTooLong):
            run(connection, Scope(), numbers, seconds=0.3)
        if database.get_backend_name() == "sqlite":  # PostgreSQL ends by itself what takes a minute
            with pytest.raises(TookTooLong):
                run(connection, Scope(patience=0.3), numbers)
        assert time.monotonic() - began < 5
        assert run(connection, Scope(), select(func.count()).select_from(schema.jobs))[0][0] > 0


def test_a_search_goes_back_in_steps_and_finds_the_same(ask: Ask, history: History) -> None:
    old = [
        replace(each, submitted_at=at, attempt_at=at)
        for number in range(40)
        for at in [NOW - timedelta(days=number * 9, hours=1)]
        for each in [job(f"9{number:03}", "zoe")]
    ]
    history.save_jobs("local", "jobs", old, seen_at=NOW)
    for more in ([], ["--state", "pending"], ["--submitted-between", "200d", "20d"]):
        rows = answer(ask("search", "--owner", "zoe", "--limit", "1000", "--format", "json", *more))
        expected = [
            each for each in old if not more or more[0] == "--state" or 20 <= (NOW - each.submitted_at).days < 200
        ]
        assert [row["job_id"] for row in rows] == [each.native_id for each in expected]
    rows = answer(ask("search", "--owner", "zoe", "--limit", "7", "--format", "json"))
    assert [row["job_id"] for row in rows] == [each.native_id for each in old[:7]]


def test_what_does_not_fit_is_left_out_and_ids_stay_whole() -> None:
    row = ("grid", "sched2.example.org#123456.0", "2026-11-24T01:00", "x" * 50, "y" * 50, "z" * 50)
    wide = Answer(("cluster", "job_id", "submitted_at", "name", "reason", "workers"), [row], bar=None)
    lines = to_table([wide], width=80).splitlines()
    assert all(len(line) <= 80 for line in lines) and "sched2.example.org#123456.0" in lines[1]
    assert lines[2] == "(reason, workers: with --columns, or in a wider terminal)"


def test_columns_may_be_named_by_their_headings(ask: Ask) -> None:
    found = ask("search", "--owner", "carol", "--columns", "JOB ID,memory", "--format", "csv")
    assert found.stdout.splitlines()[0] == "job_id,memory_bytes"


def test_a_time_that_ends_before_it_begins_is_refused(ask: Ask) -> None:
    for question in (("top", "owners"), ("usage",), ("usage", "--gpus"), ("waits",), ("failures",), ("efficiency",)):
        refused = ask(*question, "--since", "1h", "--until", "2h")
        assert refused.exit_code == 2 and "nothing lies between them" in refused.stderr, question


def test_an_answer_that_was_cut_says_so(ask: Ask) -> None:
    for options in (("--format", "csv"), ()):
        cut = ask("top", "owners", *options)
        assert "there may be more" not in cut.stderr
    assert "there may be more" not in ask("search", "--limit", "1").stderr  # as was asked for


def test_names_that_nobody_has_are_told(ask: Ask) -> None:
    for options in ((), ("--format", "csv")):
        found = ask("search", "--owner", "alise", *options)
        assert found.exit_code == 0 and "no owner called 'alise' is in the history; did you mean alice" in found.stderr
    assert "ALICE is taken for alice" in ask("info", "owner", "ALICE").stderr


def test_now_that_is_some_time_ago_says_so(ask: Ask, history: History) -> None:
    assert "what is told of now" not in ask("top", "owners").stderr
    with history._engine.begin() as connection:
        connection.execute(update(schema.collections).values(last_success_at=ago(1)))
    assert "last read at" in ask("top", "owners").stderr and "last read at" not in ask("usage").stderr


def test_workers_that_take_no_jobs(ask: Ask) -> None:
    found = answer(ask("workers", "--unavailable", "--format", "json"))
    assert found and all(row["state"] in ("down", "unknown") or row["flags"] for row in found)


def test_every_way_to_fail(ask: Ask) -> None:
    found = {row["outcome"] for row in answer(ask("search", "--failed", "--format", "json"))}
    assert found == {"failed", "timeout"}

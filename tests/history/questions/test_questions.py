"""Every question of bbq on a small site with a past whose answers can be worked out by hand."""

import csv
import io
import json
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from sqlalchemy import URL

from history.cli import QUESTIONS, command
from history.ingest.store import History
from history.questions import AskError, WrongQuestion
from history.questions.resources import parse
from history.questions.waits import percentiles
from history.records import Gpus, Job, Queue, Run, RunWorker, Worker
from history.vocabulary import Outcome, State, Waiting, WorkerFlag, WorkerState
from tests.asking import answer
from tests.fuzz.promises import bounded
from tests.places import ROOT
from tests.reference import pages

NOON = datetime.min
"""Of the day before yesterday: what is asked about lies around it."""
Ask = Callable[..., Result]


@pytest.fixture(autouse=True)
def _noon() -> None:
    """Have every test begin today: the suite may have been collected yesterday."""
    global NOON
    NOON = (datetime.now(UTC) - timedelta(days=2)).replace(hour=12, minute=0, second=0, microsecond=0)


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


def moment(hours: float) -> str:
    return f"{at(hours):%Y-%m-%dT%H:%M:%SZ}"


def waiting(native_id: str, owner: str, submitted: float, **more: Any) -> Job:
    usual: dict[str, Any] = {
        "native_id": native_id, "submitted_at": at(submitted), "attempt_at": at(submitted), "owner": owner,
        "account": f"{owner}s", "queue": "batch", "name": "work", "state": State.PENDING, "native_state": "PENDING",
        "waiting": Waiting.PRIORITY, "reason": "Priority", "requested_cpus": 4.0, "requested_memory_bytes": 8 << 30,
        "requested_gpus": 0.0,
    }  # fmt: skip
    return Job(**{**usual, **more})


def ended(
    native_id: str, owner: str, submitted: float, start: float, end: float, outcome: Outcome = Outcome.COMPLETED,
    worker: str = "n1", gpus: float = 0.0, cpus: float = 4.0, used: float | None = 0.5, **more: Any,
) -> Job:  # fmt: skip
    run = Run(
        attempt_at=at(submitted), started_at=at(start), ended_at=at(end), outcome=outcome, cpus=cpus, gpus=gpus,
        memory_bytes=8 << 30, used_memory_bytes=2 << 30, accounted=True, exit_code=0 if outcome == "completed" else 1,
        used_cpu_seconds=None if used is None else used * cpus * (end - start) * 3600,
        workers=(RunWorker(worker=worker, cpus=cpus, gpus=gpus, memory_bytes=8 << 30),),
    )  # fmt: skip
    job = waiting(native_id, owner, submitted, requested_gpus=gpus, requested_cpus=cpus, **more)
    return replace(
        job, state=State.ENDED, waiting=None, reason=None, outcome=outcome, ended_at=at(end), accounted=True, runs=(run,),
        used_cpu_seconds=run.used_cpu_seconds, used_memory_bytes=2 << 30, exit_code=run.exit_code, native_state="ENDED",
    )  # fmt: skip


WORKERS = [
    Worker(name="n1", state=WorkerState.IDLE, cpus=16.0, memory_bytes=64 << 30, queues=("batch",)),
    Worker(name="n2", state=WorkerState.IDLE, cpus=16.0, memory_bytes=64 << 30, queues=("batch",)),
    Worker(
        name="g1", state=WorkerState.IDLE, cpus=32.0, memory_bytes=128 << 30, queues=("gpu",),
        gpus=(Gpus(model="a100", total=4),),
    ),
]  # fmt: skip


@pytest.fixture
def ask(history: History, database: URL) -> Iterator[Ask]:
    history.begin_cluster("local", "slurm", "24.11", at(-100))
    queues = [Queue(name="batch", state="up", settings={"max_time": "1d"}), Queue(name="gpu", state="up")]
    history.save_workers("local", "workers", WORKERS, queues, seen_at=at(-50))
    down = replace(WORKERS[1], state=WorkerState.DOWN, native_state="DOWN", reason="disk", flags=(WorkerFlag.DRAINING,))
    history.save_workers("local", "workers", [WORKERS[0], down, WORKERS[2]], queues, seen_at=at(1))
    closed = [Queue(name="batch", state="down", settings={"max_time": "2d"}), queues[1]]
    history.save_workers("local", "workers", WORKERS, closed, seen_at=at(5))
    draining = replace(WORKERS[2], flags=(WorkerFlag.DRAINING,))
    history.save_workers("local", "workers", [*WORKERS[:2], draining], closed, seen_at=at(5.5))
    history.save_workers("local", "workers", WORKERS, closed, seen_at=at(5.9))
    history.save_jobs(
        "local", "accounting",
        [
            ended("1", "alice", -6, -4, 2),  # runs at noon on n1
            ended("2", "bob", -5, -1, 1, worker="n2", cpus=8.0),  # runs at noon on n2
            ended("3", "carol", -3, 3, 4),  # waits at noon
            ended("4", "dora", -3, -2, 6, worker="g1", gpus=2.0, queue="gpu", details={"gpu_models": {"a100": 2}}),
            *(
                ended(f"9{n}", owner, 2 + n / 10, 2.5 + n / 10, 2.55 + n / 10, Outcome.FAILED, worker="n2")
                for n, owner in enumerate(("alice", "bob", "carol") * 3)
            ),
            *(ended(f"8{n}", "alice", 6, 7, 9, worker="n1", used=None) for n in range(4)),
        ],
        seen_at=at(12),
    )  # fmt: skip
    held = waiting("10", "erik", -2, state=State.HELD, waiting=None, reason="JobHeldUser", state_since=at(-1))
    history.save_jobs("local", "jobs", [held], seen_at=at(-1))
    history.save_jobs("local", "jobs", [waiting("10", "erik", -2)], seen_at=at(3))
    url = database.render_as_string(hide_password=False)
    runner = CliRunner()
    yield lambda *arguments: runner.invoke(command, [*arguments, "--database", url])


def rows(result: Result, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in answer(result)]


def test_top_at_a_moment(ask: Ask) -> None:
    found = ask("top", "owners", "--by", "cpus", "--at", moment(0), "--format", "json")
    assert rows(found, "owner", "running", "pending", "held", "cpus", "gpus") == [
        ("bob", 1, 0, 0, 8, 0), ("alice", 1, 0, 0, 4, 0), ("dora", 1, 0, 0, 4, 2), ("carol", 0, 1, 0, 0, 0),
        ("erik", 0, 0, 1, 0, 0),
    ]  # fmt: skip
    found = ask("top", "workers", "--at", moment(1.5), "--format", "json")
    assert rows(found, "worker", "jobs", "cpus") == [("g1", 1, 4), ("n1", 1, 4)]
    assert rows(ask("top", "owners", "--format", "json"), "owner", "pending") == [("erik", 1)]


def test_search_at_a_moment_tells_the_state_then(ask: Ask) -> None:
    found = ask("search", "--at", moment(0), "--format", "json")
    assert rows(found, "job_id", "state", "workers") == [
        ("10", "held", None), ("4", "running", "g1"), ("3", "pending", None), ("2", "running", "n2"),
        ("1", "running", "n1"),
    ]  # fmt: skip
    assert rows(ask("search", "--at", moment(0), "--state", "pending", "--format", "json"), "job_id") == [("3",)]
    assert rows(ask("search", "--at", moment(0), "--worker", "n2", "--format", "json"), "job_id") == [("2",)]
    assert rows(ask("search", "--at", moment(0), "--owner", "erik", "--format", "json"), "job_id") == [("10",)]
    assert "two moments" in ask("search", "--at", moment(0), "--running-at", moment(1)).stderr


def test_running_between(ask: Ask) -> None:
    between = ("--running-between", moment(1.5), moment(3.5))
    found = ask("search", *between, "--outcome", "completed", "--format", "json")
    assert rows(found, "job_id") == [("4",), ("3",), ("1",)]
    assert len(answer(ask("search", *between, "--worker", "n2", "--format", "json"))) == 9
    wrong = ask("search", "--running-between", moment(3), moment(1))
    assert wrong.exit_code == 2 and "is before the first moment" in wrong.stderr


def test_a_long_resource_takes_no_longer_than_it_is_long() -> None:
    with bounded():
        (found,) = parse([f"licence={' ' * 200_000}x{' ' * 200_000}"])
        assert found.value == "x"
        with pytest.raises(WrongQuestion):
            parse([f"cpus>{' ' * 200_000}x\n"])


def test_resources_in_a_search(ask: Ask) -> None:
    def found(*expressions: str) -> set[str]:
        each = [word for expression in expressions for word in ("--resource", expression)]
        return {row["job_id"] for row in answer(ask("search", *each, "--format", "json"))}

    assert found("gpu") == found("gpu:A100") == found("gpus>=2") == {"4"} and found("gpu:h100") == set()
    assert found("cpus>=8") == {"2"} and found("cpus>=4", "used-memory<3G", "wall>1d") == set()
    assert found("memory>=8G", "used-cpu>2h", "gpus=0") == {"1", "2"}
    assert found("memory>8G") == set() and "10" in found("memory>=8192M")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("memroy>64G", "--resource: no resource of that name; did you mean memory?"),
        ("memory>64X", "  memory>64X\n           ^"),
        ("memory>", "  memory>\n        ^"),
        ("memory", "compare it with something, as in memory>64G\n  memory\n        ^"),
        ("cpus=>8", "a number follows, as in cpus>=8\n  cpus=>8\n       ^"),
        ("cpus>=8G", "no unit of that name; units here: none"),
        ("gpu>2", "a number: gpus>=2\n  gpu>2\n     ^"),
        ("licence", "a word follows, as in licence=x or licence!=x"),
        ("8<cpus", "write a name, a sign and a value, as in memory>64G\n  8<cpus\n  ^"),
    ],
)
def test_a_wrong_expression_shows_where_it_is_wrong(text: str, shown: str) -> None:
    with pytest.raises(AskError) as refused:
        parse([text])
    assert shown in str(refused.value)


def test_words_of_licences_and_features(ask: Ask, history: History) -> None:
    jobs = [
        waiting("21", "zoe", 1, details={"licences": "matlab:2,ansys@server:1"}),
        waiting("22", "zoe", 1, details={"licences": "mat_lab:2", "features": "avx2&ib"}),
    ]
    history.save_jobs("local", "jobs", jobs, seen_at=at(13))

    def found(expression: str) -> set[str]:
        return {
            row["job_id"]
            for row in answer(ask("search", "--owner", "zoe", "--resource", expression, "--format", "json"))
        }

    assert found("licence=matlab") == {"21"} and found("license=ANSYS") == {"21"} and found("licence=mat_lab") == {"22"}
    assert found("licence!=matlab") == {"22"} and found("feature=ib") == {"22"} and found("licence=mat") == set()


def test_workers_at_a_moment(ask: Ask) -> None:
    columns = ("worker", "state", "flags", "jobs", "cpus_used", "cpus", "gpus_used", "gpus")
    assert rows(ask("workers", "--at", moment(0), "--format", "json"), *columns) == [
        ("g1", "partial", None, 1, 4, 32, 2, 4), ("n1", "partial", None, 1, 4, 16, None, None),
        ("n2", "partial", None, 1, 8, 16, None, None),
    ]  # fmt: skip
    found = ask("workers", "--at", moment(2), "--state", "down", "--format", "json")
    assert rows(found, "worker", "flags", "reason", "since_at") == [("n2", "draining", "disk", moment(1))]
    assert rows(ask("workers", "--format", "json"), "worker", "state") == [
        ("g1", "idle"),
        ("n1", "idle"),
        ("n2", "idle"),
    ]
    assert rows(ask("workers", "--queue", "gpu", "--format", "json"), "worker") == [("g1",)]
    assert answer(ask("workers", "--at", moment(-60), "--format", "json")) == []


def test_queues_at_a_moment(ask: Ask) -> None:
    columns = ("queue", "state", "jobs", "running", "pending", "held", "cpus_used", "cpus", "gpus_used", "workers_down")
    assert rows(ask("queues", "--at", moment(1.5), "--format", "json"), *columns) == [
        ("batch", "up", 3, 1, 1, 1, 4, 16, 0, 1), ("gpu", "up", 1, 1, 0, 0, 4, 32, 2, 0),
    ]  # fmt: skip
    assert rows(ask("queues", "--format", "json"), "queue", "state", "jobs") == [("batch", "down", 1), ("gpu", "up", 0)]
    settings = answer(ask("info", "queue", "batch", "--at", moment(0), "--format", "json"))
    assert {"what": "max_time", "value": "1d"} in next(iter(settings.values()))


def test_gpus_at_a_moment(ask: Ask) -> None:
    found = answer(ask("gpus", "--at", moment(0), "--format", "json"))
    assert [tuple(row.values()) for row in found["by model"]] == [("local", "a100", 2, 4, 2, 0, 1)]
    assert [tuple(row.values()) for row in found["who has them"]] == [("local", "a100", "dora", "doras", 2, 1)]
    # of a draining worker's four, two are in use, and nobody can have the other two
    found = answer(ask("gpus", "--at", moment(5.6), "--format", "json"))
    assert [tuple(row.values()) for row in found["by model"]] == [("local", "a100", 2, 4, 0, 2, 1)]
    found = answer(ask("gpus", "--format", "json"))
    assert [row["gpus_used"] for row in found["by model"]] == [0]


def test_clusters(ask: Ask) -> None:
    columns = (
        "cluster",
        "workers",
        "workers_down",
        "cpus",
        "gpus",
        "cpus_used",
        "running",
        "pending",
        "held",
        "owners",
    )
    assert rows(ask("clusters", "--at", moment(1.5), "--format", "json"), *columns) == [
        ("local", 3, 1, 64, 4, 8, 2, 1, 1, 4)
    ]


def test_usage(ask: Ask) -> None:
    found = ask("usage", "--since", moment(-12), "--until", moment(12), "--format", "json")
    failed = 3 * 4 * 0.05 * 3600  # of each of three owners, in 3 runs of 3 minutes
    assert rows(found, "owner", "jobs", "failed", "cpu_time_seconds", "gpu_time_seconds") == [
        ("alice", 8, 3, round((6 * 4 + 4 * 2 * 4) * 3600 + failed), 0), ("dora", 1, 0, 8 * 4 * 3600, 8 * 2 * 3600),
        ("bob", 4, 3, round(2 * 8 * 3600 + failed), 0), ("carol", 4, 3, round(4 * 3600 + failed), 0),
    ]  # fmt: skip
    assert {row["owner"]: row["cpu_efficiency"] for row in answer(found)}["alice"] == pytest.approx(0.5, abs=0.01)
    by_hour = ask(
        "usage", "--interval", "hour", "--since", moment(0), "--until", moment(3), "--format", "json", "--by", "queue"
    )
    hours = {(row["hour"], row["queue"]): row["cpu_time_seconds"] for row in answer(by_hour)}
    assert hours[f"{at(0):%Y-%m-%dT%H:00Z}", "batch"] == (4 + 8) * 3600
    assert hours[f"{at(1):%Y-%m-%dT%H:00Z}", "gpu"] == 4 * 3600
    whole = sum(row["cpu_time_seconds"] for row in answer(found))
    for interval in ("day", "week", "month"):
        parts = answer(
            ask("usage", "--interval", interval, "--since", moment(-12), "--until", moment(12), "--format", "json")
        )
        assert sum(row["cpu_time_seconds"] for row in parts) == whole, interval
    gpus = ask("usage", "--gpus", "--since", moment(0), "--until", moment(3), "--format", "json")
    assert rows(gpus, "model", "owner", "gpu_time_seconds", "runs_not_counted") == [("a100", "dora", 3 * 2 * 3600, 0)]
    assert "at most 7 days" in ask("usage", "--interval", "hour", "--since", "30d").stderr
    assert ask("usage", "--interval", "hour", "--since", "7d").exit_code == 0  # though it begins within an hour
    assert "nothing lies between" in ask("usage", "--since", "1d", "--until", "2d").stderr
    assert ask("usage", "--at", "1d").exit_code == 2


def test_waits(ask: Ask) -> None:
    found = answer(ask("waits", "--since", moment(-12), "--until", moment(2), "--format", "json"))
    assert set(found) == {"started"}  # of a time that is over, nobody still waits
    started = found["started"]
    still = answer(ask("waits", "--since", moment(-12), "--format", "json"))["pending"]
    assert [(row["queue"], row["started"], row["p50_seconds"], row["longest_seconds"]) for row in started] == [
        ("batch", 2, 7200, 4 * 3600), ("gpu", 1, 3600, 3600),
    ]  # fmt: skip
    assert [(row["queue"], row["pending"]) for row in still] == [("batch", 1)]


def test_percentiles_are_waits_that_somebody_had() -> None:
    from collections import Counter

    assert percentiles(Counter(range(1, 101))) == [50, 90, 95, 99]
    assert percentiles(Counter([7])) == [7, 7, 7, 7]
    assert percentiles(Counter([1] * 99 + [1000])) == [1, 1, 1, 1]


def test_failures_put_the_black_hole_first(ask: Ask) -> None:
    found = answer(ask("failures", "--since", moment(-12), "--until", moment(12), "--format", "json"))
    workers, outcomes, owners, holds = found.values()
    assert [(row["worker"], row["suspicion"], row["failed"], row["runs"], row["owners_failed"]) for row in workers] == [
        ("n2", "black hole", 9, 10, 3)
    ]
    assert workers[0]["mean_failed_run_seconds"] == 180 and workers[0]["failed_share_elsewhere"] == 0
    assert [(row["outcome"], row["exit_code"], row["runs"], row["owners"]) for row in outcomes] == [("failed", 1, 9, 3)]
    assert [(row["owner"], row["failed"]) for row in owners] == [("alice", 3), ("bob", 3), ("carol", 3)]
    assert [(row["reason"], row["put_on_hold"], row["still_held"], row["owners"]) for row in holds] == [
        ("JobHeldUser", 1, 0, 1)
    ]
    while_held = answer(ask("failures", "--since", moment(0), "--until", moment(2), "--format", "json"))["holds"]
    assert [(row["reason"], row["put_on_hold"], row["still_held"]) for row in while_held] == [("JobHeldUser", 0, 1)]


def test_one_owners_failures_are_no_black_hole(ask: Ask, history: History) -> None:
    jobs = [ended(f"7{n}", "mallory", 13, 13.1, 13.2, Outcome.FAILED, worker="n1") for n in range(20)]
    history.save_jobs("local", "accounting", jobs, seen_at=at(14))
    found = answer(ask("failures", "--since", moment(13), "--until", moment(14), "--format", "json"))
    (worker,) = found["workers"]
    assert worker["suspicion"] is None and worker["failed"] == 20


@pytest.mark.parametrize("hours", [(12, 36), (13, 17)], ids=["a whole day", "a part of one"])
def test_a_resized_and_suspended_run_counts_once_and_without_its_suspension(
    ask: Ask, history: History, hours: tuple[int, int]
) -> None:
    """4 CPUs for an hour, then for another with half an hour of suspension: one run of 1.5 h, and one failure."""
    job = ended("60", "eve", 13, 14, 16, Outcome.FAILED, worker="g1", used=None)
    (run,) = job.runs
    first = replace(run, ended_at=at(15), resized=True)
    last = replace(run, attempt_at=at(15), started_at=at(15), run_started_at=at(14), suspended_seconds=1800)
    history.save_jobs("local", "accounting", [replace(job, runs=(first, last))], seen_at=at(17))
    period = ("--since", moment(hours[0]), "--until", moment(hours[1]), "--format", "json")
    found = answer(ask("failures", *period))
    assert [(row["worker"], row["failed"], row["runs"]) for row in found["workers"]] == [("g1", 1, 1)]
    assert [(row["outcome"], row["runs"]) for row in found["outcomes"]] == [("failed", 1)]
    assert [(row["owner"], row["failed"], row["runs"]) for row in found["owners"]] == [("eve", 1, 1)]
    top = ask("top", "workers", *period)
    columns = ("worker", "runs", "failed", "wall_time_seconds", "cpu_time_seconds")
    assert rows(top, *columns) == [("g1", 1, 1, 5400, 4 * 5400)]


def test_efficiency(ask: Ask) -> None:
    found = ask("efficiency", "--since", moment(-12), "--until", moment(2.2), "--format", "json")
    assert rows(found, "owner", "runs", "cpu_efficiency", "wasted_cpu_seconds", "memory_efficiency") == [
        ("alice", 1, 0.5, 12 * 3600, 0.25), ("bob", 1, 0.5, 8 * 3600, 0.25),
    ]  # fmt: skip
    found = ask("efficiency", "--since", moment(8), "--until", moment(10), "--by", "queue", "--format", "json")
    assert rows(found, "queue", "runs", "runs_not_counted", "cpu_efficiency") == [("batch", 4, 4, None)]
    assert rows(ask("efficiency", "--by", "name", "--since", moment(-12), "--format", "json"), "name") == [("work",)]


def test_gpu_efficiency(ask: Ask, history: History) -> None:
    """Of 45 GPU hours 25 are told; a run that was busier than it could be hides nobody's waste."""

    def had(native_id: str, owner: str, hours: float, gpus: float, used: float | None, **more: Any) -> Job:
        job = ended(native_id, owner, -3, 0, hours, worker="g1", gpus=gpus, queue="gpu")
        use = {"used_gpu_seconds": None if used is None else used * 3600, **more}
        return replace(job, runs=(replace(job.runs[0], **use),))

    history.save_jobs(
        "local", "accounting",
        [
            had("71", "gus", 5, 4.0, 2.0, used_gpu_memory_bytes=32 << 30),  # 20 h, 2 h used, 8 GiB a GPU
            had("72", "gus", 4, 2.0, 4.0, suspended_seconds=7200, used_gpu_memory_bytes=4 << 30),  # 2 x 2 h, all used
            had("73", "hal", 1, 1.0, 3.0),  # 1 h, and said to be busy for 3
            had("74", "gus", 2, 4.0, None),  # 8 h of which nobody tells
            had("75", "ida", 6, 2.0, None),  # 12 h of which nobody tells
        ],
        seen_at=at(12),
    )  # fmt: skip
    question = ("efficiency", "--gpus", "--since", moment(0.5), "--until", moment(6.5), "--format")
    columns = ("owner", "runs", "gpu_time_seconds", "measured_share", "measured_gpu_seconds", "used_gpu_seconds",
               "gpu_efficiency", "wasted_gpu_seconds", "runs_not_counted")  # fmt: skip
    found = ask(*question, "json")
    assert rows(found, *columns) == [
        ("gus", 3, 32 * 3600, 0.75, 24 * 3600, 6 * 3600, 0.25, 18 * 3600, 1),
        ("hal", 1, 3600, 1.0, 3600, 3 * 3600, 3.0, 0, 0),
        ("dora", 1, 16 * 3600, 0.0, 0, None, None, None, 1),
        ("ida", 1, 12 * 3600, 0.0, 0, None, None, None, 1),
    ]
    # 32 GiB for 5 h and 4 GiB for 2 h, over 24 GPU hours
    memory = [row["used_gpu_memory_bytes"] for row in answer(found)]
    assert memory == [7 << 30, None, None, None]
    said = list(csv.DictReader(io.StringIO(ask(*question, "csv").stdout)))
    assert [(row["owner"], row["gpu_efficiency"], row["used_gpu_seconds"]) for row in said][::3] == [
        ("gus", "0.25", "21600"), ("ida", "", ""),
    ]  # fmt: skip
    assert "18.0 h" in ask(*question, "table").stdout
    by_queue = rows(ask(*question, "json", "--by", "queue"), "queue", "runs", "gpu_efficiency", "wasted_gpu_seconds")
    assert by_queue == [("gpu", 6, 0.36, 18 * 3600)]
    assert rows(ask(*question, "json", "--by", "name"), "name", "runs") == [("work", 6)]
    long = ask("efficiency", "--gpus", "--since", moment(-24 * 200))
    assert long.exit_code == 2 and "at most 92 days" in long.output


def test_info_of_things(ask: Ask) -> None:
    for kind, name in (("owner", "alice"), ("account", "alices")):
        found = answer(ask("info", kind, name, "--at", moment(0), "--format", "json"))
        assert found["queued"][0]["jobs"] == 1
        share = found["shares"]
        assert [(row["queue"], row["cpus"], row["share"]) for row in share] == [("batch", 4, round(4 / 12, 4))]
    days = answer(ask("info", "owner", "alice", "--format", "json"))["days"]
    assert sum(row["jobs"] for row in days) == 8 and sum(row["failed"] for row in days) == 3
    refused = ask("info", "account", "alicess")
    assert refused.exit_code == 1 and "no job of an account called 'alicess'" in refused.stderr
    assert "did you mean alices" in refused.stderr
    assert "no job of a VO called 'cms' is in the history" in ask("info", "vo", "cms").stderr
    found = answer(ask("info", "worker", "n2", "--at", moment(2), "--format", "json"))
    facts = {row["what"]: row["value"] for row in found["worker"]}
    assert (facts["state"], facts["reason"], facts["flags"]) == ("down", "disk", "draining")


def facts_of(ask: Ask, native_id: str, *more: str) -> dict[str, Any]:
    parts = answer(ask("info", "job", native_id, *more, "--format", "json"))
    return {row["what"]: row["value"] for row in next(iter(parts.values()))}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "other jobs come before it: theirs is the higher priority (Priority)"),
        ({"requested_cpus": 64.0}, "no worker of queue batch could ever hold it: it asks for 64 CPUs, and the largest has 16 CPUs"),
        ({"requested_memory_bytes": 100 << 30}, "it asks for 100G of memory, and the largest has 64.0G of memory"),
        ({"requested_gpus": 1.0}, "no worker of queue batch could ever hold it: it asks for 1 GPUs, and the largest has 0 GPUs"),
        ({"queue": "gpu", "requested_gpus": 2.0, "details": {"gpu_models": {"h100": 2}}}, "it asks for 2 GPUs of model h100"),
        ({"requested_cpus": 64.0, "details": {"workers_requested": 4}}, "other jobs come before it"),
        ({"waiting": Waiting.DEPENDENCY, "reason": "Dependency", "details": {"dependency": "afterok:7"}}, "it waits for other jobs (afterok:7, Dependency)"),
        ({"waiting": Waiting.DEPENDENCY, "reason": "DependencyNeverSatisfied"}, "it can never start"),
        ({"waiting": Waiting.LIMIT, "reason": "AssocGrpCpuLimit"}, "a limit of its owner, account, QOS or queue is reached (AssocGrpCpuLimit)"),
        ({"state": State.HELD, "waiting": None, "reason": "JobHeldAdmin"}, "held by an administrator (JobHeldAdmin)"),
        ({"state": State.HELD, "waiting": None, "reason": "Transfer input files failure"}, "held: Transfer input files failure"),
    ],
)  # fmt: skip
def test_why_a_job_waits_in_plain_words(ask: Ask, history: History, more: dict[str, Any], said: str) -> None:
    history.save_jobs("local", "jobs", [waiting("30", "frida", 10, **more)], seen_at=at(14))
    words = " | ".join(str(value) for name, value in facts_of(ask, "30").items() if name.startswith("why it waits"))
    assert said in words, words
    assert ("could ever hold" in words) == ("could ever hold" in said or "it asks for" in said)


def test_a_jobs_life(ask: Ask, history: History) -> None:
    history.save_jobs(
        "local", "jobs", [waiting(f"40_{n}", "gus", 9, array_parent="40") for n in range(3)], seen_at=at(14)
    )
    parts = answer(ask("info", "job", "40_1", "--format", "json"))
    assert [(row["kin"], row["state"], row["jobs"]) for row in parts["kin"]] == [("tasks of array 40", "pending", 2)]
    parts = answer(ask("info", "job", "1", "--format", "json"))
    (run,) = parts["runs"]
    assert (run["ran_seconds"], run["cpu_efficiency"], run["memory_efficiency"], run["workers"]) == (
        21600,
        0.5,
        0.25,
        "n1",
    )
    assert facts_of(ask, "1")["waited_seconds"] == 7200
    assert facts_of(ask, "1", "--at", moment(0))[f"state at {at(0):%Y-%m-%d %H:%M} UTC"] == "running (run 1)"
    assert facts_of(ask, "10", "--at", moment(0))[f"state at {at(0):%Y-%m-%d %H:%M} UTC"] == "held"


def test_rows_are_written_as_they_are_found(ask: Ask, history: History) -> None:
    many = [waiting(str(100_000 + n), "many", 20 + n / 1e5) for n in range(3_500)]
    history.save_jobs("local", "jobs", many, seen_at=at(30))
    text = ask("search", "--owner", "many", "--limit", "10000", "--format", "csv").stdout
    found = list(csv.DictReader(io.StringIO(text)))
    assert len({row["job_id"] for row in found}) == len(found) == 3_500
    found = json.loads(
        ask("search", "--owner", "many", "--limit", "3000", "--format", "json", "--columns", "job_id").stdout
    )
    assert len(found) == 3_000 and set(found[0]) == {"job_id"}
    assert json.loads(ask("search", "--owner", "nobody", "--format", "json").stdout) == []


def test_moments_that_the_history_cannot_know(ask: Ask) -> None:
    assert "is still to come" in ask("top", "owners", "--at", "2999-01-01").stderr
    assert "BBQ began to look at" in ask("workers", "--at", moment(-200)).stderr


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_explains_itself(question: str) -> None:
    shown = CliRunner().invoke(command, [question, "--help"])
    assert shown.exit_code == 0 and "Examples:" in shown.output and f"bbq {question}" in shown.output


def test_a_question_that_is_misspelled() -> None:
    shown = CliRunner().invoke(command, ["serach"])
    assert shown.exit_code == 2 and "No such command 'serach'; did you mean search?" in shown.output


@pytest.mark.parametrize(
    ("words", "beginning", "offered"),
    [
        ("bbq info owner", "a", ["alice"]), ("bbq search --worker", "n", ["n1", "n2"]),
        ("bbq search --queue", "", ["batch", "gpu"]), ("bbq search --account", "bo", ["bobs"]),
        ("bbq top owners --cluster", "l", ["local"]), ("bbq search --owner", "eri", ["erik"]),
    ],
)  # fmt: skip
def test_names_complete(ask: Ask, database: URL, words: str, beginning: str, offered: list[str]) -> None:
    environment = {
        "_BBQ_COMPLETE": "bash_complete", "COMP_WORDS": f"{words} {beginning}", "COMP_CWORD": str(len(words.split())),
        "BBQ_DATABASE": database.render_as_string(hide_password=False),
    }  # fmt: skip
    shown = CliRunner().invoke(command, [], env=environment, prog_name="bbq")
    assert [line.partition(",")[2] for line in shown.output.splitlines()] == offered


COOKBOOK = (ROOT / "docs/cookbook.md").read_text()
RECIPES = [line.strip() for line in COOKBOOK.splitlines() if line.startswith("    bbq ")]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_cookbook(ask: Ask, recipe: str) -> None:
    done = ask(*shlex.split(recipe)[1:])
    # the site of this test is not read any more, which `bbq status` says
    assert done.exit_code == (1 if recipe == "bbq status" else 0), done.output
    assert done.stdout.strip() and "Traceback" not in done.output


def test_the_cookbook_answers_more_than_twenty_questions() -> None:
    assert len(RECIPES) == len(set(RECIPES)) == COOKBOOK.count("?**") == 21


def test_the_reference_is_what_the_commands_say() -> None:
    folder = ROOT / "docs/reference"
    there = {path.name: path.read_text() for path in folder.glob("*.md")}
    assert there == dict(pages()), "python -m tests.reference writes it anew"

"""What an HTCondor pool answers, made by hand: ads with what matters changed, a pool that is made of them, and a site
that reads it as the daemon does: source, snapshot, gauges, history, and the questions of bbq.
"""

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from click.testing import CliRunner
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import URL

from exporter.exposition import MetricsPage
from exporter.latest import Board
from exporter.readings import Feed, Kind
from exporter.recorder import Recorder
from exporter.sources import CommandFailed
from exporter.sources.htcondor import Settings, Source
from exporter.sources.htcondor.matching.__main__ import judge_all
from exporter.sources.htcondor.matching.quotas import quotas
from exporter.sources.htcondor.matching.verdicts import Group
from history.cli import command
from history.ingest.job_rows import stored_jobs
from history.ingest.store import History
from history.records import Job
from tests.replay import history_answer

Ad = dict[str, Any]
SCHEDD = "s"


def job(number: int, submitted: int, proc: int = 0, schedd: str = SCHEDD, **changed: Any) -> Ad:
    """Return the ad of a job that waits; times are epoch seconds."""
    usual = {
        "GlobalJobId": f"{schedd}#{number}.{proc}#{submitted}", "ClusterId": number, "ProcId": proc, "QDate": submitted,
        "Owner": "alice", "JobStatus": 1, "EnteredCurrentStatus": submitted, "JobUniverse": 5, "RequestCpus": 1,
        "RequestMemory": 1024, "Cmd": "/bin/work",
    }  # fmt: skip
    return {**usual, **changed}


def running(number: int, submitted: int, started: int, worker: str = "wn1", **changed: Any) -> Ad:
    """Return the ad of a job that runs on one slot."""
    return job(
        number, submitted,
        **{
            "JobStatus": 2, "EnteredCurrentStatus": started, "JobCurrentStartDate": started,
            "RemoteHost": f"slot1_1@{worker}", **changed,
        },
    )  # fmt: skip


def completed(number: int, submitted: int, started: int, over: int, worker: str = "wn1", **changed: Any) -> Ad:
    """Return a record of the history: a job that ran once, to its end."""
    return job(
        number, submitted,
        **{
            "JobStatus": 4, "LastJobStatus": 2, "EnteredCurrentStatus": over, "CompletionDate": over, "ExitCode": 0,
            "ExitBySignal": False, "JobCurrentStartDate": started, "LastRemoteHost": f"slot1_1@{worker}",
            "LastRemoteWallClockTime": float(over - started), "NumShadowStarts": 1, **changed,
        },
    )  # fmt: skip


def epoch(number: int, submitted: int, started: int, written: int, worker: str = "wn1", **changed: Any) -> Ad:
    """Return a record of a run."""
    return running(number, submitted, started, worker, **{"EpochWriteDate": written, **changed})


def slot(machine: str, cpus: int, left: int, **changed: Any) -> Ad:
    """Return a partitionable slot: what it has, and what is left of it."""
    usual = {
        "Machine": machine, "Name": f"slot1@{machine}", "State": "Unclaimed", "PartitionableSlot": True,
        "TotalSlotCpus": cpus, "Cpus": left, "TotalSlotMemory": 1024 * cpus, "Memory": 1024 * left,
        "NumDynamicSlots": cpus - left,
    }  # fmt: skip
    return {**usual, **changed}


class Pool:
    """A pool's ads, by schedd; what is asked of a schedd in `away` fails."""

    def __init__(self, *schedds: str) -> None:
        self.schedds = schedds or (SCHEDD,)
        self.slots: list[Ad] = []
        self.accounting: list[Ad] = []
        self.queue: dict[str, list[Ad]] = {name: [] for name in self.schedds}
        self.history: dict[str, list[Ad]] = {name: [] for name in self.schedds}
        self.epochs: dict[str, list[Ad]] = {name: [] for name in self.schedds}
        self.away: set[str] = set()
        self.without_epochs: set[str] = set()
        self.groups: dict[str, list[Ad]] = {}
        self.accounting: list[Ad] = []
        self.machines: list[Any] = []
        """Machines' ads in whole, for what is judged."""
        self.asked: list[dict[str, Any]] = []

    def ask(self, questions: list[dict[str, Any]]) -> list[list[bytes]]:
        """Answer as the reader process does."""
        self.asked += questions
        return [self._answer(each) for each in questions]

    def _answer(self, question: dict[str, Any]) -> list[bytes]:
        what, schedd = question["what"], question.get("schedd")
        if schedd in self.away:
            raise CommandFailed(f"{what} of {schedd}: schedd {schedd} is not in the collector")
        if what == "epochs_set":
            if schedd in self.without_epochs:
                raise CommandFailed(f"{what} of {schedd}: JOB_EPOCH_HISTORY is not configured")
            return []
        if what in ("history", "epochs"):
            return history_answer((self.history if what == "history" else self.epochs)[str(schedd)], question)
        if what == "matching":
            groups = msgspec.convert(question["groups"], list[Group])
            found = judge_all(groups, list(self.machines), time.monotonic() + 60)
            return [msgspec.json.encode(each) for each in (quotas(self.accounting), *found)]
        ads: Sequence[Ad] = {
            "groups": self.groups.get(str(schedd), []),
            "jobs": self.queue.get(str(schedd), []),
            "machines": self.slots,
            "accounting": self.accounting,
            "schedds": [{"Name": name, "Machine": name} for name in self.schedds],
            "collectors": [{"CondorVersion": "$CondorVersion: 25.14.1 2026-07-12 $"}],
        }.get(what, [])
        return [json.dumps([ad.get(name) for name in question["attributes"]]).encode() for ad in ads]


def source(pool: Pool, **settings: Any) -> Source:
    """Return a source that asks the pool."""
    return Source(Settings(name="grid", scheduler="htcondor", collectors=("cm",), **settings), ask=pool.ask)


class Site:
    """A daemon and its history, polled at moments that the test names, in epoch seconds."""

    def __init__(self, pool: Pool, history: History, database: URL) -> None:
        self.pool = pool
        self.history = history
        self._url = database.render_as_string(hide_password=False)
        self.restart()

    def restart(self) -> None:
        """Begin as a daemon does that has just started: all it knows is in the history."""
        self.source = source(self.pool)
        self.recorder = Recorder(self.history)
        self.recorder.begin_cluster("grid", "htcondor", "25.14.1")
        self.board = Board()
        self.board.add_cluster("grid", "htcondor", 1e9)

    def poll(self, seconds: int, *kinds: Kind) -> None:
        """Read and store every feed, or those of some kinds."""
        moment = datetime.fromtimestamp(seconds, UTC)
        for feed in self.source.feeds(self.recorder.known_queues("grid")):
            self.board.add_feed("grid", feed, 60)
            if feed.kind is Kind.SCHEDULER or (kinds and feed.kind not in kinds):
                continue
            if feed.kind is Kind.ACCOUNTING:
                self._account(feed, moment)
                continue
            read: Callable[[Feed], Any] = {
                Kind.JOBS: self.source.read_jobs,
                Kind.WORKERS: self.source.read_workers,
            }.get(feed.kind, self.source.read_policy)
            reading = replace(read(feed), taken_at=moment)
            self.board.publish("grid", feed, reading, 0.1)
            self.recorder.offer("grid", feed, reading, 60)
            self.recorder.drain()

    def _account(self, feed: Feed, moment: datetime) -> None:
        complete = False
        while not complete:
            page = self.source.read_accounting(feed, self.recorder.watermark("grid", feed), moment)
            assert page.unreadable == (), page.unreadable
            self.recorder.save_ended("grid", feed, page, moment, 60)
            complete = page.complete

    def gauge(self, name: str, **labels: str) -> float | None:
        """Return the sum of a metric over the series with these labels; None where there are none."""
        page = MetricsPage(self.board, None, 50_000).text().decode()
        found = [
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items())
        ]
        return sum(found) if found else None

    def bbq(self, *arguments: str) -> Any:
        """Return what bbq answers, as JSON."""
        result = CliRunner().invoke(command, [*arguments, "--format", "json", "--database", self._url])
        # what is read at made-up moments of the past is stale
        assert result.exit_code == 0 or arguments[0] == "status", result.output
        return json.loads(result.stdout)


def at(seconds: int) -> str:
    """Return a moment as bbq's options take it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def settings(**more: Any) -> Settings:
    return Settings(name="grid", scheduler="htcondor", collectors=("127.0.0.1:1",), **more)


def stored_job(history: History, native_id: str) -> Job:
    """Return the one stored job of an id."""
    with history._engine.connect() as connection:
        (found,) = stored_jobs(connection, "grid", [native_id])[native_id]
    return found

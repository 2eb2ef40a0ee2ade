"""An HTCondor pool, read through its bindings (23 to 25), each question by a process that can be killed.

Calls: one query of the collector for machines and one for schedds a workers poll; for each schedd, one query of
its queue a jobs poll, and two of its history (jobs, and runs) an accounting poll, a third, little one after these took
longer than `timeout`: it tells whether the schedd hangs or its history is long; every five minutes, one query of the
collector each for limits and for shares, and (`analysis`) one of each schedd for its groups of jobs that are alike, and
one of the collector for its machines in whole (`matching/`). Each schedd is asked by itself and on its own timer, so
that one that is dead or hangs neither delays nor blanks the others. The queue is read first and the history second: a
job that leaves in between is in both, and never in neither.
"""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from exporter.readings import (
    AccountingPage,
    Feed,
    JobsReading,
    Kind,
    PolicyReading,
    SchedulerReading,
    UnknownValue,
    WorkersReading,
)
from exporter.settings import Cluster, Every
from exporter.sources import (
    AnswerUnreadable,
    CommandTimeout,
    NotAllowed,
    SourceError,
    policy_feeds,
    refuse_rubbish,
)
from exporter.sources.htcondor import ads, daemons, machines, shares
from exporter.sources.htcondor.asking import AnsweredInPart, Ask, Reader, little
from exporter.sources.htcondor.history_files import job_identity, jobs_of, records, run_identity
from exporter.sources.htcondor.matching.idle import IdleJobs, Read
from exporter.sources.htcondor.owners import Vo
from exporter.sources.htcondor.past import Past
from exporter.sources.htcondor.tail import Step, Tail, TailReader
from exporter.sources.htcondor.values import Ad, ad_of, as_code, as_text, row_of, version
from history.records import RETIRED_AFTER, Unmade


class Settings(Cluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an HTCondor pool's configuration may say."""

    collectors: tuple[str, ...] = ()
    """host[:port]; the first that answers. None: what HTCondor's own configuration names."""
    schedds: str | tuple[str, ...] = "all"
    token_directory: Path | None = None
    vo: Vo = Vo()
    analysis: Every = Every(300)
    """How often it is worked out why idle jobs wait."""

    def __post_init__(self) -> None:
        named = self.schedds
        if not named or (
            not isinstance(named, str) and ("all" in named or "" in named or len(set(named)) < len(named))
        ):
            raise ValueError(f"schedds: expected `all`, or a list of different schedds' names, read {named!r}")
        if self.token_directory is not None and not self.token_directory.is_dir():
            raise ValueError(f"token_directory {self.token_directory}: no such folder; it holds the pool's tokens")


class Watermark(msgspec.Struct, frozen=True):
    """How far one schedd's history, and its file of runs, have been read."""

    jobs: Tail = Tail()
    runs: Tail = Tail()


class Source:
    """One pool."""

    window_seconds = 86_400.0
    """How much of the past is read at first: every such question goes through the whole history."""
    window_jobs = 6_000
    """As many as fit under what one answer may hold, for the same reason."""
    lends_cpus = False
    unknown_fields = ("htcondor_job", "htcondor_job_status", "htcondor_machine", "htcondor_slot_state")

    def __init__(self, settings: Settings, ask: Ask | None = None) -> None:
        """Make a source; `ask` is a reader process when not given."""
        self._settings = settings
        self._vos = settings.vo.vos()
        self._ask_lines = ask or Reader(settings, settings.collectors, settings.token_directory).ask
        self._past = Past(self._ask_lines, self._vos)
        self._idle = IdleJobs(self._ask_lines, settings.analysis) if settings.analysis else None
        self._lock = threading.Lock()
        self._schedds: dict[str, datetime] = {}
        """When the collector last named each."""
        self._asked = False
        self._memory: dict[str, dict[bytes, tuple[Read | Unmade | None, list[UnknownValue]]]] = {}
        self._tails: dict[str, tuple[TailReader, TailReader]] = {}

    def remarks(self) -> Sequence[str]:
        """Say of schedds that keep no record of their runs that they don't."""
        if not self._ask_epochs_set():
            return [
                "a schedd has no JOB_EPOCH_HISTORY (the default of 23.x): of jobs that ran more than once, only the "
                "last run is known; set it on the schedds"
            ]
        return []

    def permissions(self) -> str:
        """Say where READ is granted; NotAllowed says where it is not. A schedd that is away refuses nothing."""
        schedds = self._named_schedds()
        refused = []
        for name in schedds:
            try:
                self._ask_lines([little(name)])
            except NotAllowed as error:
                refused.append(str(error))
            except SourceError:
                continue
        if refused:
            raise NotAllowed("; ".join(refused))
        return f"READ at the collector and at {len(schedds):,} schedds"

    def _named_schedds(self) -> Sequence[str]:
        names = self._settings.schedds
        return self._schedd_names() if isinstance(names, str) else names

    def _ask_epochs_set(self) -> bool:
        for name in self._named_schedds():
            try:
                self._ask_lines([{"what": "epochs_set", "schedd": name, "attributes": []}])
            except NotAllowed:
                continue
            except SourceError as error:
                if "JOB_EPOCH_HISTORY" in str(error):
                    return False
        return True

    def version(self) -> str | None:
        """Return the collector's version."""
        found = self._ask([{"what": "collectors", "attributes": ["CondorVersion"]}])[0]
        return version({"CondorVersion": found[0][0]}) if found else None

    def feeds(self, known: Sequence[str] = ()) -> Sequence[Feed]:
        """Return the workers, and jobs and accounting of every schedd that the collector has named in the last day."""
        names = self._settings.schedds
        if names == "all":
            # every workers poll tells which schedds there are; only the first time it must be asked for itself
            everyone = list(dict.fromkeys((*self._know(() if self._asked else self._schedd_names()), *known)))
        else:
            everyone = [names] if isinstance(names, str) else list(names)
        each = [Feed(kind=kind, queue=name) for name in everyone for kind in (Kind.JOBS, Kind.ACCOUNTING)]
        policy = policy_feeds(self._settings.policy, (Kind.LIMITS, Kind.SHARES))
        return [Feed(kind=Kind.WORKERS), Feed(kind=Kind.SCHEDULER), *policy, *each]

    def read_jobs(self, feed: Feed) -> JobsReading:
        """Read one schedd's queue."""
        taken_at = _now()
        question = {"what": "jobs", "schedd": feed.queue, "attributes": ads.QUEUE, "constraint": ads.QUEUE_CONSTRAINT}
        (lines,) = self._ask_lines([question])
        before, now = self._memory.get(feed.name, {}), {}
        for line in lines:
            known = before.get(line)
            now[line] = known if known is not None else self._read_ad(line, feed.queue)
        self._memory[feed.name] = now
        reads: list[Read] = []
        unmade: list[Unmade] = []
        for read, _ in now.values():
            if isinstance(read, Read):
                reads.append(read)
            elif read is not None:
                unmade.append(read)
        unknown = tuple(value for _, values in now.values() for value in values)
        refuse_rubbish(
            f"queue of {feed.queue}", len(lines), [value for value in unknown if value.field == "htcondor_job"]
        )
        calls = 2 + (self._idle.explain(feed.queue or "", reads) if self._idle is not None else 0)
        return JobsReading(
            taken_at=taken_at,
            jobs=[read.job for read in reads],
            unmade=tuple(unmade),
            unknown=unknown,
            calls=calls,
        )

    def _read_ad(self, line: bytes, schedd: str | None) -> tuple[Read | Unmade | None, list[UnknownValue]]:
        """Read one ad of the queue; one that cannot be understood is left out, and told as an unknown value."""
        unknown: list[UnknownValue] = []
        try:
            ad = ad_of(ads.QUEUE, row_of(line))
            if ad["ProcId"] is None:
                return ads.unmade(ad, schedd, self._vos), unknown
            job = ads.live(ad, unknown, schedd, self._vos)
            return Read(job, as_code(ad["AutoClusterId"]), as_text(ad["LastRejMatchReason"])), unknown
        except (KeyError, ValueError, TypeError, OverflowError, OSError) as error:
            return None, [UnknownValue("htcondor_job", f"{error!r}: {line[:300]!r}")]

    def read_workers(self, feed: Feed) -> WorkersReading:
        """Read every machine and schedd of the pool."""
        taken_at = _now()
        asked = {"what": "machines", "attributes": machines.MACHINES, "constraint": machines.MACHINES_CONSTRAINT}
        slots, schedds = self._ask([asked, {"what": "schedds", "attributes": machines.SCHEDDS}])
        unknown: list[UnknownValue] = []
        try:
            workers = machines.workers([_with_models(ad_of(machines.MACHINES, row)) for row in slots], unknown)
            queues = [machines.queue(ad_of(machines.SCHEDDS, row)) for row in schedds]
        except (KeyError, ValueError, TypeError) as error:
            raise AnswerUnreadable(
                f"machines of pool {self._settings.name}: {error!r}; is this HTCondor newer than BBQ?"
            ) from error
        if self._settings.schedds == "all":
            self._know([queue.name for queue in queues])
        return WorkersReading(taken_at=taken_at, workers=workers, queues=queues, unknown=tuple(unknown), calls=3)

    def read_scheduler(self, feed: Feed) -> SchedulerReading:
        """Read what negotiator, schedds and collector say of themselves: three questions to the collector."""
        taken_at = _now()
        answers = self._ask([{"what": what, "attributes": daemons.DAEMONS} for what in daemons.KINDS])
        found = {
            what: [ad_of(daemons.DAEMONS, row) for row in rows]
            for what, rows in zip(daemons.KINDS, answers, strict=True)
        }
        return daemons.reading(found, taken_at)

    def read_policy(self, feed: Feed) -> PolicyReading:
        """Read limits, or shares, from what the negotiator tells the collector: one question."""
        taken_at = _now()
        (answer,) = self._ask([{"what": "accounting", "attributes": shares.ACCOUNTING}])
        found = [ad_of(shares.ACCOUNTING, row) for row in answer]
        if feed.kind is Kind.LIMITS:
            return PolicyReading(taken_at=taken_at, accounts=shares.accounts(found), limits=shares.limits(found))
        return PolicyReading(taken_at=taken_at, shares=shares.shares(found))

    def read_accounting(self, feed: Feed, watermark: str | None, now: datetime) -> AccountingPage:
        """Read one schedd's ended jobs and runs since the watermark."""
        mark = msgspec.json.decode(watermark, type=Watermark) if watermark else Watermark()
        jobs_reader, runs_reader = self._tail_readers(feed.queue or "")
        answers, late = self._ask_tails((jobs_reader, runs_reader), mark)
        ended, more_calls = self._take(jobs_reader, mark.jobs, answers[0], now)
        if late is None:
            epochs, and_more = self._take(runs_reader, mark.runs, answers[1], now)
        elif ended.records or (ended.tail.goal is not None and ended.tail != mark.jobs):
            epochs, and_more = Step(mark.runs), 0
        else:
            raise late
        jobs, unreadable = jobs_of(ended.records, epochs.records, feed.queue, self._vos)
        reached = Watermark(jobs=ended.tail, runs=epochs.tail)
        # a page that is not complete has everything up to its window's end
        upto = min((tail.upto for tail in (ended.tail, epochs.tail) if tail.upto is not None), default=None)
        return AccountingPage(
            jobs=jobs,
            watermark=msgspec.json.encode(reached).decode(),
            complete=ended.complete and epochs.complete,
            unreadable=tuple(unreadable),
            reached_at=now if ended.complete and epochs.complete else _moment(upto),
            gaps=tuple(step.gap for step in (ended, epochs) if step.gap is not None),
            calls=3 + more_calls + and_more,
        )

    def _ask_tails(
        self, readers: tuple[TailReader, TailReader], mark: Watermark
    ) -> tuple[list[list[bytes]], CommandTimeout | None]:
        """Ask what comes next in both files; give also why the second answer is not among them.

        Raises:
            SourceError: there is no answer at all.
        """
        questions = [reader.question(tail) for reader, tail in zip(readers, (mark.jobs, mark.runs), strict=True)]
        probe = [little(questions[0]["schedd"])] if any(reader.slow for reader in readers) else []
        try:
            return self._ask_lines([*probe, *questions])[len(probe) :], None
        except CommandTimeout as error:
            answers = error.answers if isinstance(error, AnsweredInPart) else []
            found = answers[len(probe) :]
            readers[len(found)].timed_out(bool(answers) if probe or found else None)
            if not found:
                raise
            return found, error

    def _take(self, reader: TailReader, tail: Tail, lines: list[bytes], now: datetime) -> tuple[Step, int]:
        """Ask until there is something to say; give that, and the number of calls it took."""
        step, calls = reader.take(tail, records(reader.attributes, lines), now), 0
        while step.again:
            calls += 2
            try:
                (lines,) = self._ask_lines([reader.question(step.tail)])
            except CommandTimeout:
                reader.timed_out(answered=True)
                return Step(step.tail), calls  # the next page goes on from here
            step = reader.take(step.tail, records(reader.attributes, lines), now)
        return step, calls

    def _tail_readers(self, schedd: str) -> tuple[TailReader, TailReader]:
        with self._lock:
            if schedd not in self._tails:
                self._tails[schedd] = (
                    TailReader("history", schedd, ads.HISTORY, "EnteredCurrentStatus", job_identity),
                    TailReader("epochs", schedd, ads.EPOCHS, "EpochWriteDate", run_identity),
                )
            return self._tails[schedd]

    def read_window(self, feed: Feed, since: datetime, until: datetime, margin: timedelta) -> AccountingPage:
        """Read again what one schedd has of the jobs and runs that ended in [since, until)."""
        return self._past.window(feed.queue or "", since, until, margin)

    def read_named(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        """Ask one schedd's history for jobs by id; it goes through all of it."""
        return self._past.named(feed.queue or "", native_ids, self._settings.name)

    def read_missing(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        """Return nothing: a history file is only appended to, so that no record comes late."""
        return AccountingPage(jobs=[], watermark=None, complete=True, calls=0)

    def _schedd_names(self) -> tuple[str, ...]:
        names = tuple(row[0] for row in self._ask([{"what": "schedds", "attributes": ["Name"]}])[0])
        self._asked = True
        return names

    def _know(self, names: Sequence[str]) -> list[str]:
        """Note that schedds were named, and give all of the last day: one that is gone is down, not forgotten."""
        now = _now()
        with self._lock:
            self._schedds.update(dict.fromkeys(names, now))
            for name in [name for name, named_at in self._schedds.items() if now - named_at > RETIRED_AFTER]:
                del self._schedds[name]
                self._tails.pop(name, None)
                self._past.forget(name)
                if self._idle is not None:
                    self._idle.forget(name)
                self._memory.pop(Feed(kind=Kind.JOBS, queue=name).name, None)
            return list(self._schedds)

    def _ask(self, questions: list[dict[str, Any]]) -> list[list[list[Any]]]:
        return [[row_of(line) for line in lines] for lines in self._ask_lines(questions)]


def _with_models(ad: Ad) -> Ad:
    """Return a slot's ad with its GPUs by model, which the reader has worked out, as mappings."""
    return {**ad, **{name: _models(ad.get(name)) for name in ("GPUModels", "FreeGPUModels")}}


def _models(said: Any) -> dict[str, int] | None:
    """Read how many GPUs there are of each model; a machine may have an attribute of that name which is none."""
    try:
        return msgspec.json.decode(said, type=dict[str, int]) if isinstance(said, str) else None
    except (ValueError, msgspec.DecodeError):
        return None


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)

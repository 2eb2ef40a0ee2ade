"""A Slurm cluster, read through its own commands (squeue, scontrol, sacct of 22.05 to 26.05).

Calls: one squeue a jobs poll; two short scontrol a workers poll; one sacct an accounting poll; one sdiag a scheduler
poll, and one sshare where fair shares are wanted.
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from exporter.config import Cluster, Duration
from exporter.snapshot import AccountingPage, Feed, JobsReading, Kind, SchedulerReading, UnknownValue, WorkersReading
from exporter.sources import (
    AnswerUnreadable,
    CommandFailed,
    NotAllowed,
    SourceError,
    _slurm_accounting,
    _slurm_diag,
    _slurm_jobs,
    _slurm_nodes,
    _slurm_shares,
)
from exporter.sources._command import find, run
from history.records import Job

OVERLAP_SECONDS = 120
"""What every accounting poll reads again: rows come some seconds after the end they tell of."""
WIDE_EVERY_SECONDS = 900
"""How often the whole look-back is read again, for rows that slurmctld had to keep while slurmdbd was away."""
MISSING_SECONDS = 30 * 86400
"""How far back a job is looked for by its id."""
FIRST_SECOND = 946_684_800
"""The earliest moment to ask sacct for (2000): it refuses `uts` with small numbers, and there was no Slurm before."""
MANY_ROWS = 50_000
"""Rows above which the next window is made shorter."""


class Accounting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How accounting is read."""

    interval: Duration | None = None
    lookback: Duration = Duration(7200)


class Vo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a VO is told from what Slurm knows."""

    map: dict[str, str] = {}
    from_: str = msgspec.field(default="account", name="from")


class Settings(Cluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a Slurm cluster's configuration may say."""

    commands: Path | None = None
    accounting: Accounting = Accounting()
    vo: Vo = Vo()
    fair_shares: bool = False
    """Whether the accounts' fair-share factors are read (one sshare a poll)."""


class Source:
    """One slurmctld and its slurmdbd."""

    window_seconds = 3600.0
    """How much of the past is read at first."""
    window_jobs = 6_000
    unknown_fields = (
        "slurm_accounting_state", "slurm_job", "slurm_job_state", "slurm_node_flag", "slurm_node_state",
    )  # fmt: skip
    """Each has three to five rows, which are in memory together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parser = _slurm_jobs.JobsParser()
        self._parsing = threading.Lock()
        self._window = max(3600.0, settings.accounting.lookback)
        self._read_wide_at: datetime | None = None
        self._stored: dict[str, None] = {}
        self._offered: tuple[str | None, str, list[str]] | None = None
        self._checked_empty = False

    def version(self) -> str | None:
        """Give Slurm's version, from slurmctld itself."""
        return self._configuration().get("SLURM_VERSION")

    def feeds(self, known: Sequence[str] = ()) -> Sequence[Feed]:
        """Give the feeds that every Slurm cluster has."""
        accounting = Feed(kind=Kind.ACCOUNTING, interval_seconds=self._settings.accounting.interval)
        return [Feed(kind=Kind.JOBS), Feed(kind=Kind.WORKERS), accounting, Feed(kind=Kind.SCHEDULER)]

    def read_jobs(self, feed: Feed) -> JobsReading:
        """Read every job in the queue, arrays written out."""
        mark = _mark()
        taken_at = _now()
        answer = self._run("squeue", *_slurm_jobs.arguments(mark))
        with self._parsing:
            jobs, unknown = self._parser.parse(answer, mark)
        calls = 1
        if not jobs:
            calls += self._refuse_hidden_jobs()
        return JobsReading(
            taken_at=taken_at, jobs=[self._with_vo(job) for job in jobs], unknown=tuple(unknown), calls=calls
        )

    def read_workers(self, feed: Feed) -> WorkersReading:
        """Read every node and partition."""
        taken_at = _now()
        workers, unknown = _slurm_nodes.workers(self._run("scontrol", "-d", "-o", "show", "node"))
        queues = _slurm_nodes.queues(self._run("scontrol", "-a", "-o", "show", "partition"))
        return WorkersReading(taken_at=taken_at, workers=workers, queues=queues, unknown=tuple(unknown), calls=2)

    def read_scheduler(self, feed: Feed) -> SchedulerReading:
        """Read slurmctld's own figures."""
        taken_at = _now()
        reading = _slurm_diag.reading(self._run("sdiag"), taken_at)
        if not self._settings.fair_shares:
            return reading
        shares = _slurm_shares.fair_shares(self._run("sshare", *_slurm_shares.ARGUMENTS))
        return msgspec.structs.replace(reading, fair_shares=shares, calls=2)

    def read_accounting(self, feed: Feed, watermark: str | None, now: datetime) -> AccountingPage:
        """Read what ended since the watermark (epoch seconds), and what may have come late."""
        self._settle(watermark)
        until = int(now.timestamp())
        lookback = self._settings.accounting.lookback
        read_until = until - int(lookback) if watermark is None else int(watermark)
        jumped = read_until > until
        if jumped:
            # our clock was ahead and has been set back: what ended by its true time has been read
            read_until = until - int(lookback)
        wide = self._read_wide_at is None or (now - self._read_wide_at).total_seconds() >= WIDE_EVERY_SECONDS
        behind = 0 if watermark is None or jumped else int(lookback) if wide else OVERLAP_SECONDS
        since = read_until - behind
        # the window is counted from the watermark, so that each page moves it
        end = min(until, read_until + int(self._window))
        try:
            answer, mark = self._sacct(since, end)
        except SourceError:
            self._read_wide_at = None  # after an outage, rows come late
            raise
        attempts, unreadable = _slurm_accounting.rows(answer, mark)
        if len(attempts) > MANY_ROWS:
            self._window = max(60.0, self._window / 2)
        else:
            self._window = min(6 * 3600.0, self._window * 2)
        complete = end >= until
        if wide and complete:
            self._read_wide_at = now
        reached = str(max(end, read_until))
        jobs, unknown = self._new_jobs(attempts, unreadable, watermark, reached)
        return AccountingPage(
            jobs=jobs,
            watermark=reached,
            complete=complete,
            unknown=tuple(unknown),
            unreadable=tuple(unreadable),
            reached_at=datetime.fromtimestamp(int(reached), UTC),
        )

    def read_window(self, feed: Feed, since: datetime, until: datetime, margin: timedelta) -> AccountingPage:
        """Read again every attempt that ended in [since, until)."""
        begin, end = max(FIRST_SECOND, int(since.timestamp())), int(until.timestamp())
        answer, mark = self._sacct(max(FIRST_SECOND, begin - int(margin.total_seconds())), end)
        attempts, unreadable = _slurm_accounting.rows(answer, mark)
        ends = [(_seconds(attempt[0]["End"]), attempt) for attempt in attempts]
        jobs, unknown = self._jobs([attempt for at, attempt in ends if begin <= at < end], unreadable)
        remembered = min((at for at, _ in ends if 0 < at < end), default=None)
        return AccountingPage(
            jobs=jobs,
            watermark=None,
            complete=True,
            unknown=tuple(unknown),
            unreadable=tuple(unreadable),
            remembered_since=None if remembered is None else datetime.fromtimestamp(remembered, UTC),
        )

    def read_named(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        """Ask for jobs by id, among all that slurmdbd keeps."""
        return self._read_ids(native_ids, FIRST_SECOND, int(now.timestamp()))

    def read_missing(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        """Ask for jobs by id: slurmctld may have kept their rows for hours while it could not reach slurmdbd."""
        until = int(now.timestamp())
        return self._read_ids(native_ids, until - MISSING_SECONDS, until)

    def _read_ids(self, native_ids: Sequence[str], since: int, until: int) -> AccountingPage:
        mark = _mark()
        arguments = _slurm_accounting.arguments(mark, since, until)
        ids = sorted({native_id.partition("+")[0] for native_id in native_ids})
        answer = self._run("sacct", *arguments, f"--jobs={','.join(ids)}")
        attempts, unreadable = _slurm_accounting.rows(answer, mark)
        jobs, unknown = self._jobs(attempts, unreadable)
        return AccountingPage(
            jobs=jobs, watermark=None, complete=True, unknown=tuple(unknown), unreadable=tuple(unreadable)
        )

    def _sacct(self, since: int, until: int) -> tuple[bytes, str]:
        mark = _mark()
        return self._run("sacct", *_slurm_accounting.arguments(mark, since, until)), mark

    def _new_jobs(
        self, attempts: Sequence[list[dict[str, str]]], unreadable: list[str], before: str | None, reached: str
    ) -> tuple[list[Job], list[UnknownValue]]:
        """Translate the attempts that were not stored before as they are now."""
        new: list[list[dict[str, str]]] = []
        offered: list[str] = []
        for attempt in attempts:
            text = "\0".join(value for row in attempt for value in row.values())
            digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
            offered.append(digest)
            if digest not in self._stored:
                new.append(attempt)
        self._offered = before, reached, offered
        return self._jobs(new, unreadable)

    def _jobs(
        self, attempts: Sequence[list[dict[str, str]]], unreadable: list[str]
    ) -> tuple[list[Job], list[UnknownValue]]:
        """Translate attempts; those that are not understood are added to `unreadable` as they were read."""
        jobs: list[Job] = []
        unknown: list[UnknownValue] = []
        for attempt in attempts:
            try:
                jobs.extend(self._with_vo(job) for job in _slurm_accounting.jobs(attempt, unknown))
            except ValueError as error:
                unreadable.append(f"{error}: {json.dumps(attempt[0])}")
        return jobs, unknown

    def _settle(self, watermark: str | None) -> None:
        """Remember the rows of the last page as stored, once its watermark proves that they are."""
        if self._offered is not None:
            before, reached, digests = self._offered
            if watermark == reached != before:
                for digest in digests:
                    self._stored.pop(digest, None)
                    self._stored[digest] = None
                while len(self._stored) > 4 * MANY_ROWS:
                    del self._stored[next(iter(self._stored))]
        self._offered = None

    def _with_vo(self, job: Job) -> Job:
        vo = self._settings.vo.map.get(job.account or "")
        return job if vo is None else msgspec.structs.replace(job, vo=vo)

    def _refuse_hidden_jobs(self) -> int:
        """Tell "no jobs" from "not allowed to see them": PrivateData hides other people's jobs without a word.

        Returns:
            the number of calls it took.
        """
        private = self._configuration().get("PrivateData", "none")
        if "jobs" not in private and "all" not in private:
            return 1
        try:
            said = self._run("sacctmgr", "-n", "-P", "show", "user", _own_name(), "format=adminlevel")
        except CommandFailed:
            said = b""
        if said.strip() not in (b"Operator", b"Administrator") and _own_name() not in ("root", "slurm"):
            raise NotAllowed(
                f"squeue: no jobs, but PrivateData={private} hides them from user {_own_name()}; "
                f"run `sacctmgr modify user {_own_name()} set adminlevel=Operator`"
            )
        return 2

    def _configuration(self) -> dict[str, str]:
        text = self._run("scontrol", "show", "config").decode("utf-8", "backslashreplace")
        pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
        return {key.strip(): value.strip() for key, _, value in pairs}

    def _run(self, command: str, *arguments: str) -> bytes:
        return run(
            [find(command, self._settings.commands), *arguments],
            timeout=self._settings.call_seconds,
            environment={"SLURM_TIME_FORMAT": "%s"},
            # the marks are of no use to who reads an error
            shown=f"{command} of cluster {self._settings.name}",
        )


def _mark() -> str:
    """Draw a mark that nobody can have put into a job's name."""
    # short, for it stands after each of three million fields of a large queue; 48 bits, for one call
    return f"@{secrets.token_urlsafe(6)}"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _seconds(text: str) -> int:
    """Read an epoch of sacct's; 0 for a time that is not known yet."""
    return int(text) if text.isdigit() else 0


def _own_name() -> str:
    import getpass

    return getpass.getuser()


__all__ = ["AnswerUnreadable", "Settings", "Source"]

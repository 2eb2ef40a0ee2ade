"""A Slurm cluster, read through its own commands (squeue, scontrol, sacct of 22.05 to 26.05).

Calls: one squeue a jobs poll (two when the first job of a federation is seen), and at most MAX_SHARES short scontrol,
one for each new run on several workers or that was resized; two short scontrol a workers poll; one sacct an accounting
poll, and one sdiag before the first; one sdiag a scheduler poll, and one sshare where fair shares are wanted. Every
five minutes, one scontrol each for limits, reservations and licences, and one sshare for shares. Once an hour, what of
it all is hidden from BBQ: two to five short calls.
"""

import hashlib
import json
import logging
import re
import secrets
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from exporter.readings import (
    POLICY,
    AccountingPage,
    Feed,
    JobsReading,
    Kind,
    PolicyReading,
    SchedulerReading,
    UnknownValue,
    WorkersReading,
)
from exporter.settings import Cluster
from exporter.sources import (
    AnswerUnreadable,
    CommandFailed,
    CommandTimeout,
    NotAllowed,
    SourceError,
    TooMany,
    policy_feeds,
)
from exporter.sources.command import find, run
from exporter.sources.slurm import accounting as slurm_accounting
from exporter.sources.slurm import allocations, diag, nodes, reservations
from exporter.sources.slurm import fair_shares as slurm_fair_shares
from exporter.sources.slurm import jobs as slurm_jobs
from exporter.sources.slurm import limits as slurm_limits
from exporter.sources.slurm.visibility import Sight
from exporter.sources.slurm.vo import Vo, with_vo
from exporter.sources.units import whole
from history.records import Job
from history.settings import Duration

log = logging.getLogger(__name__)

OVERLAP_SECONDS = 120
"""What every accounting poll reads again: rows come some seconds after the end they tell of."""
SHORTLY_HELD_SECONDS = 1800
"""A watermark that is held for no longer is read from in every poll; else every WIDE_EVERY_SECONDS."""
WIDE_EVERY_SECONDS = 900
"""How often the whole look-back is read again, for rows that slurmctld had to keep while slurmdbd was away."""
MISSING_SECONDS = 30 * 86400
"""How far back a job is looked for by its id."""
FIRST_SECOND = 946_684_800
"""The earliest moment to ask sacct for (2000): it refuses `uts` with small numbers, and there was no Slurm before."""
MANY_ROWS = 50_000
"""Rows above which the next window is made shorter."""
MAX_SHARES = 5
"""How many jobs a poll asks what they hold on each of their workers."""
SHORTEST_SECONDS = 600.0
"""The shortest window that is tried where slurmdbd allows no longer one (MaxQueryTimeRange)."""
_ID = re.compile(r"[0-9]+(?:_[0-9]+)?(?:\+[0-9]+)?\Z")


class Accounting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How accounting is read."""

    interval: Duration | None = None
    lookback: Duration = Duration(7200)


class Settings(Cluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a Slurm cluster's configuration may say."""

    commands: Path | None = None
    accounting: Accounting = Accounting()
    vo: Vo = Vo()
    fair_shares: bool = False
    """Whether the accounts' fair-share factors are read (one sshare a poll)."""


class _Planned(msgspec.Struct, frozen=True, kw_only=True):
    """The time that a page of accounting is read of, in epoch seconds."""

    since: int
    """From when on it is asked for, with what may have come late."""
    begin: int
    """From when on it is new."""
    end: int
    held: int
    """Up to where the rows are known to be all there."""
    wide: bool
    """Whether all is read again that may have come late."""


class Source:
    """One slurmctld and its slurmdbd."""

    window_seconds = 3600.0
    """How much of the past is read at first."""
    window_jobs = 6_000
    """Each has three to five rows, which are in memory together."""
    lends_cpus = True
    unknown_fields = (
        "slurm_accounting_state", "slurm_job", "slurm_job_state", "slurm_licence", "slurm_limit", "slurm_line",
        "slurm_node", "slurm_node_flag", "slurm_node_state", "slurm_partition", "slurm_reservation", "slurm_value",
    )  # fmt: skip

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._vos = settings.vo.vos()
        self._parser = slurm_jobs.JobsParser(_queue_fields(self._vos.fields), self._vos)
        self._parsing = threading.Lock()
        self._window = max(3600.0, settings.accounting.lookback)
        self._read_wide_at: datetime | None = None
        self._stored: dict[str, None] = {}
        self._offered: tuple[str | None, str, list[str]] | None = None
        self._sight = Sight(self._run)
        self._shares: dict[slurm_jobs.Allocation, allocations.Shares] = {}
        self._queue = diag.RowsQueue()
        self._reading_again = False
        """Whether more pages follow of a time that is held."""
        self._fields: Sequence[str] | None = None

    def version(self) -> str | None:
        """Return Slurm's version, from slurmctld itself."""
        return self._sight.settings().get("SLURM_VERSION")

    def remarks(self) -> Sequence[str]:
        """Say which of Slurm's settings keep from BBQ what it could tell."""
        return self._sight.remarks()

    def permissions(self) -> str:
        """Say why the user that BBQ runs as may see everything; NotAllowed says what is hidden."""
        shares = self._settings.fair_shares or bool(self._settings.policy.shares)
        return self._sight.permissions(shares=shares)

    def feeds(self, known: Sequence[str] = ()) -> Sequence[Feed]:
        """Return the feeds that every Slurm cluster has."""
        accounting = Feed(kind=Kind.ACCOUNTING, interval_seconds=self._settings.accounting.interval)
        policy = policy_feeds(self._settings.policy, POLICY)
        return [Feed(kind=Kind.JOBS), Feed(kind=Kind.WORKERS), accounting, Feed(kind=Kind.SCHEDULER), *policy]

    def read_jobs(self, feed: Feed) -> JobsReading:
        """Read every job in the queue, arrays written out."""
        taken_at, asked = _now(), 1
        rows, unknown = self._squeue()
        if self._parser.lacks_origins:
            self._parser = self._parser.with_origins()
            taken_at, asked = _now(), 2
            rows, unknown = self._squeue()
        with self._parsing:
            jobs, calls = self._with_shares(rows)
        calls += asked + self._sight.check_jobs(len({job.owner for job in jobs}), len(jobs))
        return JobsReading(taken_at=taken_at, jobs=jobs, unknown=tuple(unknown), calls=calls)

    def _squeue(self) -> tuple[list[slurm_jobs.Row], list[UnknownValue]]:
        mark, parser = _mark(), self._parser
        answer = self._run("squeue", *slurm_jobs.arguments(mark, parser.fields))
        with self._parsing:
            return parser.rows(answer, mark)

    def _with_shares(self, rows: Sequence[slurm_jobs.Row]) -> tuple[list[Job], int]:
        """Return the jobs, with what they hold on each worker as far as that is known, and the number of calls."""
        known: dict[slurm_jobs.Allocation, allocations.Shares] = {}
        jobs: list[Job] = []
        calls = 0
        # when a job was resized tells which run it is: those are asked for first
        asking = sorted(
            (row.allocation for row in rows if row.allocation is not None and row.allocation not in self._shares),
            key=lambda allocation: not allocation.resized,
        )
        for allocation in asking[:MAX_SHARES]:
            calls += 1
            try:
                answer = self._run("scontrol", *allocations.arguments(allocation))
            except CommandFailed:
                self._shares[allocation] = allocations.Shares()  # it has ended meanwhile
            except SourceError:
                break
            else:
                self._shares[allocation] = allocations.shares(answer, allocation)
        for row in rows:
            if row.job is None:
                continue
            found = None if row.allocation is None else self._shares.get(row.allocation)
            if row.allocation is None or found is None:
                jobs.append(row.job)
                continue
            known[row.allocation] = found
            jobs.append(allocations.with_shares(row.job, row.allocation, found))
        self._shares = known
        return jobs, calls

    def read_workers(self, feed: Feed) -> WorkersReading:
        """Read every node and partition."""
        taken_at = _now()
        # without -a, nodes of partitions that are hidden or of other groups are left out
        workers, unknown = nodes.workers(self._show("-a", "-d", "-o", "show", "node"))
        queues = nodes.queues(self._show("-a", "-o", "show", "partition"), unknown)
        return WorkersReading(taken_at=taken_at, workers=workers, queues=queues, unknown=tuple(unknown), calls=2)

    def _show(self, *arguments: str) -> bytes:
        try:
            return self._run("scontrol", *arguments)
        except CommandFailed as error:
            if "permission denied" not in str(error):
                raise
            raise NotAllowed(
                f"{error}; PrivateData of slurm.conf hides it from the user that BBQ runs as: "
                "run `sacctmgr modify user NAME set adminlevel=Operator`"
            ) from error

    def read_scheduler(self, feed: Feed) -> SchedulerReading:
        """Read slurmctld's own figures."""
        reading = self._diagnose()
        if not self._settings.fair_shares:
            return reading
        shares = slurm_fair_shares.fair_shares(self._run("sshare", *slurm_fair_shares.ARGUMENTS))
        return msgspec.structs.replace(reading, fair_shares=shares, calls=2)

    def read_policy(self, feed: Feed) -> PolicyReading:
        """Read limits, shares, reservations or licences, each with one call."""
        taken_at, unknown = _now(), list[UnknownValue]()
        if feed.kind is Kind.LIMITS:
            accounts, limits = slurm_limits.limits(self._show(*slurm_limits.ARGUMENTS), unknown)
            return PolicyReading(taken_at=taken_at, accounts=accounts, limits=limits, unknown=tuple(unknown))
        if feed.kind is Kind.SHARES:
            shares = slurm_fair_shares.shares(self._run("sshare", *slurm_fair_shares.ALL))
            if not shares:  # there is always the root account
                raise NotAllowed(
                    "sshare tells of no account: PrivateData of slurm.conf hides them from the user that BBQ runs as; "
                    "run `sacctmgr modify user NAME set adminlevel=Operator`, or set `policy: {shares: off}`"
                )
            return PolicyReading(taken_at=taken_at, shares=shares)
        if feed.kind is Kind.RESERVATIONS:
            found = reservations.reservations(self._show(*reservations.RESERVATIONS), unknown)
            return PolicyReading(taken_at=taken_at, reservations=found, unknown=tuple(unknown))
        pools = reservations.licences(self._show(*reservations.LICENCES), unknown)
        return PolicyReading(taken_at=taken_at, licences=pools, unknown=tuple(unknown))

    def _diagnose(self) -> SchedulerReading:
        """Ask slurmctld for its figures, and note whether rows wait in it for slurmdbd."""
        taken_at = _now()
        try:
            reading = diag.reading(self._run("sdiag"), taken_at)
        except SourceError as error:
            failed = isinstance(error, CommandFailed | CommandTimeout) and "denied" not in str(error).lower()
            (self._queue.not_answered if failed else self._queue.not_told)()
            raise
        self._queue.told(reading)
        return reading

    def read_accounting(self, feed: Feed, watermark: str | None, now: datetime) -> AccountingPage:
        """Read what ended since the watermark, and what may have come late.

        The watermark is in epoch seconds. While slurmctld has rows that slurmdbd has not taken, it stays where the
        oldest of them may be, however long that is, and how far has been read stands behind it: when the rows have
        arrived, all of that time is read again.
        """
        self._settle(watermark)
        calls = self._look_first()
        rows_wait, emptied = self._queue.state()
        plan = self._planned(watermark, now, rows_wait)
        try:
            calls += 1 + self._sight.check_accounting()
            attempts, unreadable, unknown = self._sacct(plan.since, plan.end)
        except TooMany:
            if self._window <= SHORTEST_SECONDS:
                raise
            self._window = max(SHORTEST_SECONDS, self._window / 4)
            return self.read_accounting(feed, watermark, now)
        except SourceError:
            self._read_wide_at = None  # after an outage, rows come late
            raise
        if len(attempts) > MANY_ROWS:
            self._window = max(60.0, self._window / 2)
        else:
            self._window = min(6 * 3600.0, self._window * 2)
        complete = plan.end >= int(now.timestamp())
        if plan.wide and complete:
            self._read_wide_at = now
        self._reading_again = rows_wait and not complete
        held, reached = plan.held, max(plan.end, plan.begin)
        if not rows_wait:
            held = reached
        elif plan.since <= held:
            newest = slurm_accounting.last_end(attempts, now)
            # slurmctld sends its rows in order: those of before the newest one were all there for this page to have
            there = max(emptied, int(newest.timestamp()) - OVERLAP_SECONDS if newest is not None else 0)
            held = max(held, min(reached, there))
        after = str(held) if held == reached else f"{held} {reached}"
        jobs, odd = self._new_jobs(attempts, unreadable, watermark, after)
        return AccountingPage(
            jobs=jobs,
            watermark=after,
            complete=complete,
            unknown=(*unknown, *odd),
            unreadable=tuple(unreadable),
            reached_at=datetime.fromtimestamp(held, UTC),
            calls=calls,
        )

    def _planned(self, watermark: str | None, now: datetime, rows_wait: bool) -> _Planned:
        """Return which time a page reads: from the watermark on, and before it what may have come late."""
        until = int(now.timestamp())
        lookback = int(self._settings.accounting.lookback)
        held, read_upto = _marks(watermark) or (until - lookback, until - lookback)
        jumped = held > until
        if jumped:
            # our clock was ahead and has been set back: what ended by its true time has been read
            held = read_upto = until - lookback
        wide = self._read_wide_at is None or (now - self._read_wide_at).total_seconds() >= WIDE_EVERY_SECONDS
        begin = held
        if rows_wait and (self._reading_again or (read_upto - held > SHORTLY_HELD_SECONDS and not wide)):
            begin = min(read_upto, until)
        elif not rows_wait and read_upto != held:
            wide = True  # what was held for so long may be older than the watermark
        behind = 0 if watermark is None or jumped else lookback if wide else OVERLAP_SECONDS
        # the window is counted from the watermark, so that each page moves it
        end = min(until, begin + int(self._window))
        return _Planned(since=begin - behind, begin=begin, end=end, held=held, wide=wide)

    def _look_first(self) -> int:
        """Look once, before anything is read, whether rows wait in slurmctld; return the number of calls."""
        if self._queue.looked:
            return 0
        try:
            self._diagnose()
        except SourceError as error:
            log.debug("rows may wait in slurmctld", extra={"cluster": self._settings.name, "error": str(error)})
        return 1

    def read_window(self, feed: Feed, since: datetime, until: datetime, margin: timedelta) -> AccountingPage:
        """Read again every attempt that ended in [since, until)."""
        begin, end = max(FIRST_SECOND, int(since.timestamp())), int(until.timestamp())
        attempts, unreadable, odd = self._sacct(max(FIRST_SECOND, begin - int(margin.total_seconds())), end)
        ends = [(_seconds(attempt[0]["End"]), attempt) for attempt in attempts]
        jobs, unknown = self._jobs([attempt for at, attempt in ends if begin <= at < end], unreadable)
        remembered = min((at for at, _ in ends if 0 < at < end), default=None)
        return AccountingPage(
            jobs=jobs,
            watermark=None,
            complete=True,
            unknown=(*odd, *unknown),
            unreadable=tuple(unreadable),
            remembered_since=None if remembered is None else datetime.fromtimestamp(remembered, UTC),
            forgets_by="pruned",
        )

    def read_named(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        """Ask for jobs by id, among all that slurmdbd keeps."""
        return self._read_ids(native_ids, FIRST_SECOND, int(now.timestamp()))

    def read_missing(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        """Ask for jobs by id: slurmctld may have kept their rows for hours while it could not reach slurmdbd."""
        until = int(now.timestamp())
        return self._read_ids(native_ids, until - MISSING_SECONDS, until)

    def _read_ids(self, native_ids: Sequence[str], since: int, until: int) -> AccountingPage:
        """Ask for jobs by id; what is no id of Slurm's can't be asked for, and the others are."""
        asked: set[str] = set()
        for native_id in native_ids:
            leader, _, offset = native_id.partition("+")
            asked.add(leader)
            raw, number = whole(leader), whole(offset)
            if raw is not None and number is not None:
                # what ended before it could start, accounting has by its own id alone: ids of parts are in a row
                asked.add(str(raw + number))
        ids = sorted(each for each in asked if _ID.match(each))
        if len(ids) < len(asked):
            log.warning(
                "what is no job id can't be asked for",
                extra={"cluster": self._settings.name, "ids": ", ".join(sorted(asked.difference(ids))[:5])},
            )
        if not ids:
            return AccountingPage(jobs=[], watermark=None, complete=True, calls=0)
        attempts, unreadable, odd = self._sacct(since, until, f"--jobs={','.join(ids)}")
        jobs, unknown = self._jobs(attempts, unreadable)
        return AccountingPage(
            jobs=jobs, watermark=None, complete=True, unknown=(*odd, *unknown), unreadable=tuple(unreadable)
        )

    def _sacct(
        self, since: int, until: int, *more: str
    ) -> tuple[list[list[slurm_accounting.Row]], list[str], list[UnknownValue]]:
        """Return the attempts, the texts that are no row, and the lines that are of no table."""
        mark, fields = _mark(), self._accounting_fields()
        try:
            answer = self._run("sacct", *slurm_accounting.arguments(mark, since, until, fields), *more)
        except CommandFailed as error:
            if "too wide of a date range" not in str(error).lower():
                raise
            raise TooMany(f"{error}; slurmdbd allows no longer time at once (MaxQueryTimeRange)") from error
        odd: list[UnknownValue] = []
        attempts, unreadable = slurm_accounting.rows(answer, mark, odd, fields)
        return attempts, unreadable, odd

    def _accounting_fields(self) -> Sequence[str]:
        """Return what sacct is asked for; one unknown field would make it print nothing, so it tells which it has."""
        if self._fields is None:
            fields = slurm_accounting.FIELDS
            try:
                there = self._run("sacct", "--helpformat").split()
            except SourceError:
                return fields  # not known this time: asked again with the next call
            # before the name, which stays last
            more = (slurm_accounting.RESTARTS,) if slurm_accounting.RESTARTS.encode() in there else ()
            self._fields = (*fields[:-1], *more, fields[-1])
        return self._fields

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
                jobs.extend(with_vo(job, self._vos) for job in slurm_accounting.jobs(attempt, unknown))
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

    def _run(self, command: str, *arguments: str) -> bytes:
        return run(
            [find(command, self._settings.commands), *arguments],
            timeout=self._settings.call_seconds,
            # without BITSTR_LEN=0, lists of array tasks are cut at 64 bytes (tried on 22.05 to 26.05)
            environment={"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"},
            # the marks are of no use to who reads an error
            shown=f"{command} of cluster {self._settings.name}",
        )


def _queue_fields(of_vos: Sequence[str]) -> Sequence[str]:
    """Return what squeue is asked for where VOs are read from these fields; the name stays last."""
    fields = slurm_jobs.FIELDS
    return (*fields[:-1], slurm_jobs.WCKEY, fields[-1]) if "wckey" in of_vos else fields


def _marks(watermark: str | None) -> tuple[int, int] | None:
    """Return up to when all that ended is stored, and up to when it has been read."""
    if watermark is None:
        return None
    held, _, read_upto = watermark.partition(" ")
    return int(held), int(read_upto or held)


def _mark() -> str:
    """Draw a mark that nobody can have put into a job's name."""
    # short, for it stands after each of three million fields of a large queue; 48 bits, for one call
    return f"@{secrets.token_urlsafe(6)}"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _seconds(text: str) -> int:
    """Read an epoch of sacct's; 0 for a time that is not known yet."""
    return whole(text) or 0


__all__ = ["AnswerUnreadable", "Settings", "Source"]

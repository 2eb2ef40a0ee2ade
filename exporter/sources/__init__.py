"""What a scheduler must offer to be one of BBQ's: the `Source` protocol, and its errors.

A file here is a scheduler; `scheduler: slurm` in the configuration is the module's name, so adding a scheduler
is adding a file with a class `Source` (files that start with `_` are helpers). A source reads, parses and
translates into BBQ's words; it knows neither SQL nor Prometheus.

    SourceError                  a feed could not be read; carries a reason for the error counter
      CommandMissing             the scheduler's command is not there
      CommandFailed              it ran and said no
      CommandTimeout             it was still running when its time was up, and was killed
      AnswerUnreadable           it answered, but not what this version of BBQ understands
      TooMany                    a window of the past holds more than may be read at once
"""

import pkgutil
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from importlib import import_module
from typing import Protocol

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
from exporter.settings import Cluster, PolicySettings


class SourceError(Exception):
    """A feed could not be read. The message says what was read, what was seen and what to do."""

    reason = "failed"


class CommandMissing(SourceError):
    """The scheduler's command is not installed where BBQ looks for it."""

    reason = "missing_command"


class CommandFailed(SourceError):
    """The command ended with an error of its own; `output` is what it had written until then."""

    reason = "failed"

    def __init__(self, message: str, output: bytes = b"") -> None:
        super().__init__(message)
        self.output = output


class CommandTimeout(SourceError):
    """The command did not answer in time; `output` is what it had written until then."""

    reason = "timeout"

    def __init__(self, message: str, output: bytes = b"") -> None:
        super().__init__(message)
        self.output = output


class AnswerUnreadable(SourceError):
    """The answer is not what was asked for: cut off, of another version, or not text."""

    reason = "unreadable"


class TooMany(SourceError):
    """More ended in a window than may be read at once: ask for less."""

    reason = "too_many"


class NotAllowed(SourceError):
    """The scheduler hides what BBQ needs from the user it runs as."""

    reason = "not_allowed"


def refuse_rubbish(what: str, rows: int, unreadable: Sequence[UnknownValue]) -> None:
    """Let a few odd rows among many pass, which their source has left out and told of; refuse an answer full of them.

    Raises:
        AnswerUnreadable: more than one row in a hundred, so that it is not the rows that are odd.
    """
    if len(unreadable) > max(1, rows // 100) or (unreadable and len(unreadable) == rows):
        raise AnswerUnreadable(
            f"{what}: {len(unreadable)} of {rows} rows were not understood; is the scheduler newer than BBQ? "
            f"The first: {unreadable[0].value}"
        )


class Source(Protocol):
    """One cluster's scheduler. Every method is one bounded question to it, asked from any thread."""

    window_seconds: float
    """How much of the past is best read at first; then it depends on how much there is."""
    window_jobs: int
    """About how many ended jobs a window should have."""
    lends_cpus: bool
    """Whether the CPUs of a suspended job are given to others (`Job.lends_cpus`)."""
    unknown_fields: tuple[str, ...]
    """Fields in which there may be a word that BBQ does not know (`UnknownValue.field`)."""

    def version(self) -> str | None:
        """Return the scheduler's version, or None when it does not say. Raises SourceError."""

    def remarks(self) -> Sequence[str]:
        """Return a sentence for each of the scheduler's settings that keeps from BBQ what it could tell.

        Raises SourceError.
        """

    def permissions(self) -> str:
        """Return in a few words why the user that BBQ runs as may see everything.

        Raises:
            NotAllowed: what is hidden, and what to do.
            SourceError: it could not be asked.
        """

    def feeds(self, known: Sequence[str] = ()) -> Sequence[Feed]:
        """Return what can be read now; it may grow, and loses what has been gone for long. Raises SourceError.

        Args:
            known: queues that were read in the past: one that is gone today is down, not forgotten. A queue that is
                gone for a day is not among them.
        """

    def read_jobs(self, feed: Feed) -> JobsReading:
        """Read every job that is in the queue. Raises SourceError."""

    def read_workers(self, feed: Feed) -> WorkersReading:
        """Read every worker and queue. Raises SourceError."""

    def read_scheduler(self, feed: Feed) -> SchedulerReading:
        """Read how the scheduler itself is. Raises SourceError."""

    def read_policy(self, feed: Feed) -> PolicyReading:
        """Read a part of the scheduler's policy: limits, shares, reservations or licences. Raises SourceError."""

    def read_accounting(self, feed: Feed, watermark: str | None, now: datetime) -> AccountingPage:
        """Read what ended since a watermark, oldest first; None begins at the look-back. Raises SourceError."""

    def read_window(self, feed: Feed, since: datetime, until: datetime, margin: timedelta) -> AccountingPage:
        """Read again everything accounting has of the attempts and jobs that ended in [since, until).

        Args:
            margin: how much before `since` is looked at too, only to tell whether accounting remembers that far.

        Raises:
            TooMany: the window must be shorter.
            SourceError: it could not be read.
        """

    def read_named(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        """Ask accounting for jobs by id, whenever they ended. It may be dear: for repairs. Raises SourceError."""

    def read_missing(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        """Ask accounting by name for jobs that left the queue and that no page has told of. Raises SourceError.

        A source whose accounting is never late gives an empty page, without a call.
        """


def policy_feeds(settings: PolicySettings, kinds: Collection[Kind]) -> list[Feed]:
    """Return a feed for each of those parts of the policy that are to be read.

    Args:
        kinds: the parts of which the scheduler tells.
    """
    return [
        Feed(kind=kind, interval_seconds=every)
        for kind in sorted(kinds)
        if (every := float(getattr(settings, kind.value)))
    ]


def kinds() -> list[str]:
    """Return the schedulers BBQ knows: the folders of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def open_source(cluster: Cluster) -> Source:
    """Make the source of a configured cluster; nothing is asked of the scheduler yet."""
    module = import_module(f"exporter.sources.{cluster.scheduler}")
    source: Source = module.Source(cluster)
    return source

"""Records of a schedd's history, and of its file of runs: each line is decoded once, for whoever wants to know."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from exporter.sources.htcondor import ads
from exporter.sources.htcondor.values import Ad, ad_of, as_moment, row_of
from exporter.vo import Vos
from history.records import Job

_ERRORS = (KeyError, ValueError, TypeError, OverflowError, OSError)
"""What comes of an ad that makes no sense."""


class Record(NamedTuple):
    """One line of an answer."""

    line: bytes
    ad: Ad | None
    """None where it cannot be decoded."""
    error: str = ""


def records(attributes: Sequence[str], lines: Iterable[bytes]) -> list[Record]:
    """Decode lines."""
    return [_record(attributes, line) for line in lines]


def _record(attributes: Sequence[str], line: bytes) -> Record:
    try:
        return Record(line, ad_of(attributes, row_of(line)))
    except _ERRORS as error:
        return Record(line, None, repr(error))


def jobs_of(
    ended: Iterable[Record], epochs: Iterable[Record], schedd: str | None, vos: Vos
) -> tuple[list[Job], list[str]]:
    """Read records of jobs and of runs; give also the lines that were not understood."""
    told: set[tuple[Any, Any]] = set()
    once = []
    for record in epochs:
        if record.ad is not None:
            run_of = record.ad["GlobalJobId"], record.ad["JobCurrentStartDate"]
            if run_of in told:
                continue  # on_exit_hold writes a run's record twice, the second time some seconds later
            told.add(run_of)
        once.append(record)
    jobs: list[Job] = []
    unreadable: list[str] = []
    for read, each in (
        (partial(ads.ended, schedd=schedd, vos=vos), ended),
        (partial(ads.epoch, schedd=schedd, vos=vos), once),
    ):
        for record in each:
            error = record.error
            try:
                if record.ad is not None:
                    jobs.append(read(record.ad))
                    continue
            except _ERRORS as found:
                error = repr(found)
            unreadable.append(f"{error}: {record.line.decode(errors='backslashreplace')}")
    return jobs, unreadable


def job_identity(record: Record) -> tuple[str, int]:
    """Return the expression that is true of one record of the history alone, and its time."""
    if record.ad is None:
        return "", 0
    # the whole id: cluster and proc alone repeat after a spool is lost
    return f"GlobalJobId == {_literal(record.ad['GlobalJobId'])}", _seconds(record.ad["EnteredCurrentStatus"])


def run_identity(record: Record) -> tuple[str, int]:
    """Return the expression that is true of one record of a run alone, and its time."""
    if record.ad is None:
        return "", 0
    written = _seconds(record.ad["EpochWriteDate"])
    return f"GlobalJobId == {_literal(record.ad['GlobalJobId'])} && EpochWriteDate == {written}", written


def _literal(value: Any) -> str:
    """Write a text as a ClassAd string: people may edit any attribute."""
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _seconds(value: Any) -> int:
    moment = as_moment(value)
    return 0 if moment is None else int(moment.timestamp())

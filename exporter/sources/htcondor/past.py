"""Asking a schedd for its past: a window of time, or jobs by their ids. Each question goes through the whole of it."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from exporter.readings import AccountingPage
from exporter.sources import CommandTimeout, TooMany
from exporter.sources.htcondor import ads
from exporter.sources.htcondor.asking import AnsweredInPart, Ask, Question, little
from exporter.sources.htcondor.history_files import jobs_of, records
from exporter.sources.htcondor.tail import MAX_PARTS, MAX_PATIENCE, part_of
from exporter.vo import Vos
from history.records import Job

log = logging.getLogger(__name__)

MAX_IN_WINDOW = 10_000
"""Records of one window of the past that are read at once."""


class Past:
    """The past of a pool's schedds."""

    def __init__(self, ask: Ask, vos: Vos) -> None:
        self._ask = ask
        self._vos = vos
        self._patience: dict[str, int] = {}
        """How many times the usual time going through a schedd's past may take, where once was not enough."""

    def forget(self, schedd: str) -> None:
        """Forget a schedd that is gone."""
        self._patience.pop(schedd, None)

    def window(self, schedd: str, since: datetime, until: datetime, margin: timedelta) -> AccountingPage:
        """Read what one schedd has of the jobs and runs that ended in [since, until)."""
        begin, end = int((since - margin).timestamp()), int(until.timestamp())
        within = "({0} >= {1} && {0} < {2})"
        ended = " || ".join(within.format(name, begin, end) for name in ("CompletionDate", "EnteredCurrentStatus"))
        ask: Question = {"schedd": schedd, "match": MAX_IN_WINDOW}
        questions = _of_both(ask, f"({ended})", within.format("EpochWriteDate", begin, end))
        name = f"history of {schedd} from {since} to {until}"
        answers = self._ask_past(questions, name, divisible=until - since > timedelta(seconds=1))
        if max(map(len, answers)) >= MAX_IN_WINDOW:
            if until - since > timedelta(seconds=1):
                raise TooMany(f"{name}: {MAX_IN_WINDOW} records or more")
            answers = self._ask_in_parts(questions, name)
        jobs, unreadable = self._jobs(answers, schedd)
        ends = [job.ended_at for job in jobs if job.ended_at is not None and job.ended_at < until]
        inside = [job for job in jobs if any(since <= end < until for end in _ends(job))]
        return AccountingPage(
            jobs=inside,
            watermark=None,
            complete=True,
            unreadable=tuple(unreadable),
            remembered_since=min(ends, default=None),
            tells_all_runs=False,
            forgets_by="rotated",
            forgets_in_order=False,
            calls=3,
        )

    def named(self, schedd: str, native_ids: Sequence[str], cluster: str) -> AccountingPage:
        """Ask for jobs by id."""
        wanted: dict[str, list[str]] = {}
        for native_id in native_ids:
            job, _, proc = native_id.rpartition("#")[2].partition(".")
            if _is_number(job) and _is_number(proc):
                wanted.setdefault(job, []).append(proc)
            else:
                log.warning("what is no job id can't be asked for", extra={"cluster": cluster, "job": native_id})
        if not wanted:
            return AccountingPage(jobs=[], watermark=None, complete=True, calls=0)
        each = " || ".join(
            f"(ClusterId == {job} && ({' || '.join(f'ProcId == {proc}' for proc in procs)}))"
            for job, procs in sorted(wanted.items())
        )
        name = f"history of {schedd} of {len(native_ids)} jobs"
        answers = self._ask_past(_of_both({"schedd": schedd}, each, each), name, divisible=False)
        jobs, unreadable = self._jobs(answers, schedd)
        # procs of other clusters' ids cannot be among them, but ids repeat after a spool is lost
        asked = set(native_ids)
        return AccountingPage(
            jobs=[job for job in jobs if job.native_id in asked],
            watermark=None,
            complete=True,
            unreadable=tuple(unreadable),
            calls=3,
        )

    def _jobs(self, answers: Sequence[list[bytes]], schedd: str) -> tuple[list[Job], list[str]]:
        ended, epochs = answers
        return jobs_of(records(ads.HISTORY, ended), records(ads.EPOCHS, epochs), schedd, self._vos)

    def _ask_past(self, questions: list[Question], name: str, *, divisible: bool) -> list[list[bytes]]:
        """Ask about a schedd's past, with more time where the usual one was not enough.

        Raises:
            TooMany: it took too long; less is to be asked for, and will be given more time.
            SourceError: it took too long however much time there was, or the schedd does not answer anything.
        """
        schedd = questions[0]["schedd"]
        while True:
            patience = self._patience.get(schedd, 1)
            probe = [little(schedd)] if patience > 1 else []
            try:
                answers = self._ask([*probe, *({**each, "patience": patience} for each in questions)])
            except CommandTimeout as error:
                hangs = bool(probe) and not (isinstance(error, AnsweredInPart) and error.answers)
                if hangs or patience >= MAX_PATIENCE:
                    self._patience.pop(schedd, None)
                    raise
                self._patience[schedd] = 2 * patience
                if divisible:
                    raise TooMany(f"{name}: {error}") from error
            else:
                return answers[len(probe) :]

    def _ask_in_parts(self, questions: list[Question], name: str) -> list[list[bytes]]:
        """Ask for what one second holds, however many jobs were removed in it."""
        parts, part = 4, 0
        found: list[list[bytes]] = [[] for _ in questions]
        while part < parts:
            only = part_of(parts, part)
            mine = [{**each, "constraint": f"{each['constraint']} && {only}"} for each in questions]
            answers = self._ask_past(mine, name, divisible=False)
            if max(map(len, answers)) >= MAX_IN_WINDOW and parts < MAX_PARTS:
                parts, part, found = 4 * parts, 0, [[] for _ in questions]
                continue
            for lines, more in zip(found, answers, strict=True):
                lines += more
            part += 1
        return found


def _of_both(question: Question, jobs: str, runs: str) -> list[Question]:
    """Ask the history and the file of runs, each with its constraint."""
    return [
        {**question, "what": "history", "attributes": ads.HISTORY, "constraint": jobs},
        {**question, "what": "epochs", "attributes": ads.EPOCHS, "constraint": runs},
    ]


def _is_number(text: str) -> bool:
    """Return whether a text is a number as HTCondor writes it: 07 would end the whole question."""
    return text.isascii() and text.isdigit() and len(text) < 10 and str(int(text)) == text


def _ends(job: Job) -> list[datetime]:
    return [end for end in (job.ended_at, *(run.ended_at for run in job.runs)) if end is not None]

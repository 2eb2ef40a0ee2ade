"""Asking a pool: each time by a process of its own that can be killed, for the bindings hang where a daemon does."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from exporter.settings import Cluster
from exporter.sources import AnswerUnreadable, CommandFailed, CommandTimeout, NotAllowed
from exporter.sources.command import run

READER = (Path(__file__).with_name("reader.py"),)
JUDGE = ("-m", "exporter.sources.htcondor.matching")
"""What is run to answer: the second asks a collector, too, and then works for some seconds."""

Question = dict[str, Any]
Ask = Callable[[list[Question]], list[list[bytes]]]
"""From questions to the ads of each, as lines of JSON."""


class AnsweredInPart(CommandTimeout):
    """The time was up when only the first of several questions had been answered."""

    def __init__(self, message: str, answers: list[list[bytes]]) -> None:
        super().__init__(message)
        self.answers = answers


class Reader:
    """Asks a reader process."""

    def __init__(self, settings: Cluster, collectors: Sequence[str], token_directory: Path | None) -> None:
        """Make one.

        Args:
            collectors: those of the pool; HTCondor's own configuration names them when there are none.
            token_directory: where the pool's tokens are, if they are used.
        """
        self._settings = settings
        self._collectors = collectors
        self._token_directory = token_directory
        self._good: str | None = None
        """The collector that answered last: it is asked first."""

    def ask(self, questions: list[Question]) -> list[list[bytes]]:
        """Ask a reader process; give the ads of each question as lines.

        Raises:
            SourceError: it said no, did not end in time, or its answer ends in the middle.
        """
        seconds = self._settings.call_seconds * max(each.get("patience", 1) for each in questions)
        settings = {"QUERY_TIMEOUT": str(int(max(5, self._settings.call_seconds // 2)))}
        if self._token_directory is not None:
            settings |= {
                "SEC_TOKEN_DIRECTORY": str(self._token_directory),
                "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
            }
        # the one that answered last first: one that is dead costs a short try, once
        collectors = sorted(self._collectors, key=lambda host: host != self._good)
        request = {
            "settings": settings,
            "seconds": seconds,
            "questions": [{"collectors": collectors, **question} for question in questions],
        }
        name = f"{questions[0]['what']} of {questions[0].get('schedd') or 'pool ' + self._settings.name}"
        try:
            answer = run(
                [sys.executable, "-P", *(JUDGE if questions[0]["what"] == "matching" else READER)],
                timeout=seconds,
                environment={key: value for key, value in os.environ.items() if key.startswith("_CONDOR_")},
                stdin=json.dumps(request).encode(),
                shown=name,
            )
        except CommandFailed as error:
            message, refused = _said(name, error)
            raise (NotAllowed(message) if refused else CommandFailed(message)) from error
        except CommandTimeout as error:
            answer, whole = error.output, _whole_answers(error.output)
            if len(whole) < len(questions):
                raise AnsweredInPart(str(error), whole) from error
        lines, good = split(name, answer, len(questions))
        self._good = good or self._good
        return lines


def _said(name: str, error: CommandFailed) -> tuple[str, bool]:
    """Return the reader's own word on what went wrong, which is on its standard output, and whether we were refused."""
    for line in error.output.splitlines()[::-1]:
        if line.startswith(b'{"error"'):
            found = json.loads(line)
            return f"{name}: {found['error']}", bool(found.get("refused"))
    return str(error), False


def split(name: str, answer: bytes, questions: int) -> tuple[list[list[bytes]], str | None]:
    """Return the lines of each question's answer, and the collector that was asked."""
    found: list[list[bytes]] = [[]]
    good = None
    for line in answer.splitlines():
        if line.startswith(b'{"end"'):
            try:
                end = msgspec.json.decode(line, type=_End)
            except (ValueError, msgspec.DecodeError):
                raise AnswerUnreadable(f"{name}: the answer ends in the middle, with {line[:80]!r}") from None
            good = end.collector or good
            if end.end != len(found[-1]):
                raise AnswerUnreadable(f"{name}: {len(found[-1])} ads where {line!r} was said")
            found.append([])
        else:
            found[-1].append(line)
    if len(found) != questions + 1 or found.pop():
        raise AnswerUnreadable(f"{name}: the answer ends in the middle")
    return found, good


class _End(msgspec.Struct):
    """The line behind the ads of a question: how many they are, and the collector that was asked."""

    end: int
    collector: str | None = None


def _whole_answers(output: bytes) -> list[list[bytes]]:
    """Return the lines of each question that was answered before the reader was ended."""
    found: list[list[bytes]] = [[]]
    for line in output[: output.rfind(b"\n") + 1].splitlines():
        if line.startswith(b'{"end"'):
            found.append([])
        else:
            found[-1].append(line)
    return found[:-1]


def little(schedd: str) -> Question:
    """Return a question that any schedd that does not hang answers at once."""
    return {"what": "history", "schedd": schedd, "attributes": ["ClusterId"], "match": 1}

"""The questions as they are asked: a file each, with what may be said with it and the function that answers.

Plain data, without SQL (which `history.questions` knows, imported when a question is asked) and without click: each
command with its reference is made of it. A question's help is the docstring of its function, and ends in examples.
"""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from history.answer import Answer, Stream

QUESTIONS = (
    "top", "info", "search", "workers", "queues", "gpus", "clusters", "usage", "waits", "failures", "efficiency",
    "why", "limits", "shares", "reservations", "licences", "status",
)  # fmt: skip
"""The questions in the order in which they are listed: each is the file of its name here."""


class Kind(Enum):
    """What is read where a parameter is said."""

    TEXT = auto()
    CHOICE = auto()
    """One of some words."""
    NUMBER = auto()
    """A whole number."""
    MOMENT = auto()
    """An aware datetime."""
    BETWEEN = auto()
    """Two moments."""
    FLAG = auto()


class Parameter(msgspec.Struct, frozen=True):
    """What may be said with a question: an option of its command, a field of its form, a parameter of its API."""

    name: str
    kind: Kind
    help: str | None = None
    default: str | None = None
    choices: Sequence[str] = ()
    many: bool = False
    """Whether it may be repeated; its function is then given a tuple."""
    required: bool = False
    """Whether a command takes it as an argument."""
    is_argument: bool = False
    """Whether a command takes it as an argument, though it need not be said."""
    option: str | None = None
    """What it is called outside, where its name is a word of Python's or says too little in the code."""
    completes: str | None = None
    """The kind of names that it is one of: cluster, owner, …; `thing` where `kind` says which."""
    metavar: str | None = None
    minimum: int | None = None
    maximum: int | None = None

    @property
    def stands_alone(self) -> bool:
        """Return whether a command takes it as an argument."""
        return self.required or self.is_argument

    @property
    def called(self) -> str:
        """Return what it is called outside."""
        return self.option or self.name.replace("_", "-")


def period(default: str | None = None, *, told: str | None = None) -> tuple[Parameter, Parameter]:
    """Return the parameters of a question about a period.

    Args:
        told: what the help says of the default where the question's function sets it.
    """
    return (
        Parameter(
            "since", Kind.MOMENT, f"The beginning of the time.{(told and f'  [default: {told}]') or ''}", default
        ),
        Parameter("until", Kind.MOMENT, "The end of the time; now if not said."),
    )


class Told(msgspec.Struct):
    """What a question is answered."""

    answers: "Sequence[Answer]" = ()
    empty: str | None = None
    """What to say where there are no rows."""
    stream: "Stream | None" = None
    """The answer, where it is found row by row and may be long; instead of answers."""
    short: Sequence[str] = ()
    """Columns that people are shown unless they name others; all when empty."""
    nothing_found: Callable[[], Iterable[str]] | None = None
    """Notes that are worked out only where nothing was found."""
    failed: bool = False
    """Whether what was asked about is not well: a command's exit code is 1."""
    complaint: str | None = None


class Tells(Enum):
    """Of whom an answer tells: who may not see everybody's jobs is answered by this."""

    OF_JOBS = auto()
    """Of jobs, and whose they are: it is asked of the jobs that whoever asks may see."""
    OF_NOBODY = auto()
    """Of numbers over everybody's jobs, of workers and queues; what names somebody is left out of it."""


class Question(msgspec.Struct, frozen=True):
    """A question."""

    ask: Callable[..., Told]
    """Its function: of a connection, a scope, and the parameters by their names."""
    parameters: Sequence[Parameter] = ()
    limit: int | None = None
    """Rows of an answer when nobody says; all when None."""
    moment: bool = True
    """Whether it can be asked about a moment."""
    period: Callable[[Mapping[str, Any]], bool] | None = None
    """Whether it is, with these parameters, about a period and not a moment; never when None."""
    tells: Tells | Callable[[Mapping[str, Any]], Tells] | None = None
    """Of whom its answer tells, whatever is asked or by its parameters; nobody but who may see everything is answered
    where it is not said."""

    @property
    def name(self) -> str:
        """Return its name."""
        return self.ask.__module__.rpartition(".")[2]

    @property
    def help(self) -> str:
        """Return what it tells, and examples of its command."""
        return inspect.getdoc(self.ask) or ""

    def tells_of(self, given: Mapping[str, Any]) -> Tells | None:
        """Return of whom the answer tells, with these parameters."""
        return self.tells(given) if callable(self.tells) else self.tells

    def of_moment(self, given: Mapping[str, Any]) -> bool:
        """Return whether the question, with these parameters, is about a moment."""
        return self.moment and not (self.period is not None and self.period(given))


def question(name: str) -> Question:
    """Return the question of a name of QUESTIONS."""
    found: Question = importlib.import_module(f"{__name__}.{name}").QUESTION
    return found


def by_group(given: Mapping[str, Any]) -> Tells:
    """Return of whom sums tell: those by queue or cluster name nobody."""
    return Tells.OF_NOBODY if given["by"] in ("queue", "cluster") else Tells.OF_JOBS


class WrongParameters(ValueError):
    """Parameters that contradict each other."""


def check(asked: Question, given: Mapping[str, Any]) -> None:
    """Raise WrongParameters where a time ends before it begins."""
    from history.timespec import local

    since, until = given.get("since"), given.get("until")
    if since is not None and until is not None and until < since:
        raise WrongParameters(f"--until, {local(until)}, is before --since, {local(since)}: nothing lies between them")
    for parameter in asked.parameters:
        value = given[parameter.name]
        if parameter.kind is Kind.BETWEEN and value is not None:
            begin, end = value
            if isinstance(begin, datetime) and end < begin:
                raise WrongParameters(f"--{parameter.called}: {local(end)} is before the first moment")

"""The questions for people: a page each, made of the catalogue, and the overview, which asks several."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import QueryParams

from history import __version__
from history.catalogue import QUESTIONS, Kind, Parameter, Question, question
from history.timespec import WhenError, local, parse_when
from history.vocabulary import KINDS
from history.web import static_files
from history.web.answering import Answered, Asker, Failed, Reading, answer, failing, opened
from history.web.asked import Asked, Pairs, read
from history.web.counted import Counted
from history.web.links import Links
from history.web.pictures import most_rows, pictures
from history.web.pictures.subject import Subject
from history.web.shown import Part, part

ROWS = 100
"""That a page shows where a question has no limit of its own, or a larger one is asked for."""
_STATEMENTS = 12
"""Queries that a page shows: a question that is asked day by day has several for each day."""
_QUERIES = "queries"
"""The parameter of a page that shows its queries: their texts are longer than many an answer."""
_FEW = 8
"""Fields of a form that are shown at once; the others unfold."""
_OF_ONE = ("info", "why")
"""Questions about one thing, to which its page leads."""
_MENU = {name: "GPUs" if name == "gpus" else name.capitalize() for name in QUESTIONS if name not in _OF_ONE}
_FROM_MENU: Mapping[str, Pairs] = {"usage": (("interval", "day"),)}
"""What is asked with a question of the menu."""
_STEPS = (("a week earlier", -7 * 86400), ("a day earlier", -86400), ("an hour earlier", -3600))
_LATER = (("an hour later", 3600), ("a day later", 86400))
_TIMES = (("last hour", "1h"), ("last day", "24h"), ("last week", "7d"), ("last 30 days", "30d"))
_templates = Environment(
    loader=PackageLoader("history.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["static"] = static_files.link


class Field(msgspec.Struct):
    """A field of a question's form."""

    name: str
    label: str
    kind: str
    values: list[str]
    said: list[str]
    choices: list[str] = []
    many: bool = False
    required: bool = False
    help: str = ""
    placeholder: str = ""
    completes: str | None = None
    folded: bool = False
    """Whether it is shown only to who looks for more of them."""
    unsaid: str = "any"


def question_page(
    asker: Asker, name: str, query: QueryParams, *, kind: str | None = None, thing: str = ""
) -> tuple[int, str]:
    """Return the status and the text of a question's page.

    Args:
        kind: of the page of one thing: owner, worker, job, …, whose name is `thing`.
    """
    asked_of = question(name)
    pairs = [pair for pair in query.multi_items() if pair[1] and pair[0] != _QUERIES]
    path = f"/{name}" if kind is None else None
    if kind is not None:
        pairs = [("kind", kind), ("name", thing), *(pair for pair in pairs if pair[0] not in ("kind", "name"))]
    if name == "top" and not any(each == "thing" for each, _ in pairs):
        pairs = [("thing", "owners"), *pairs]
    links = Links(next((value for each, value in pairs if each == "at"), None), _said(pairs, "cluster"))
    page = _Page(asked_of, pairs, links, path, shows_queries=_QUERIES in query)
    try:
        with failing():
            asked = read(asked_of, pairs)
        most = most_rows(asked, ROWS)
        asked.limit = min(asked.limit or most, most)
        links.counted = Counted.of(asked, datetime.now(UTC))
        with opened(asker) as reading:
            found = answer(reading, asked)
            about = page.told(asked, found)
    except Failed as failed:
        return failed.status, page.text(error=failed)
    return 200, page.text(**about)


class _Page:
    """A page that is being made."""

    def __init__(
        self, asked_of: Question, pairs: Pairs, links: Links, path: str | None, *, shows_queries: bool
    ) -> None:
        self._question = asked_of
        self._shows_queries = shows_queries
        self._pairs = pairs
        self._links = links
        self._path = path or f"/{asked_of.name}"
        self._is_of_one = asked_of.name == "info"

    def told(self, asked: Asked, found: Answered) -> dict[str, Any]:
        """Return what an answer adds to the page."""
        short = () if asked.columns else found.told.short
        parts = [part(each, self._links, short=short, listed=ROWS) for each in found.answers]
        subject = Subject(asked, found.answers, self._links, datetime.now(UTC))
        for index, picture in pictures(subject).items():
            parts[index].picture = picture
        notes = list(found.notes)
        longest = max((len(each.rows) for each in found.answers), default=0)
        if longest > ROWS:
            more = " or more" if longest == asked.limit else ""
            notes.append(f"the first {ROWS} of {longest:,}{more} rows are listed; CSV and JSON have all")
        elif asked.limit is not None and longest >= asked.limit:
            notes.append(f"the first {asked.limit}; there may be more")
        if found.told.complaint:
            notes.append(found.told.complaint)
        query = urlencode(list(asked.pairs), errors="replace")
        api = f"/api/v1/{self._question.name}?{query}"
        return {
            "parts": [] if found.empty else parts,
            "nothing": f"{found.told.empty}." if found.empty and found.told.empty else "",
            "notes": notes,
            "statements": [str(each) for each in found.statements[:_STATEMENTS]] if self._shows_queries else [],
            "asked": len(found.statements),
            "queries": f"{self._path}?{urlencode([*self._pairs, (_QUERIES, '1')], errors='replace')}#queries",
            "milliseconds": round(found.seconds * 1000),
            "json": api,
            "csv": f"{api}&format=csv",
            "command": asked.command(),
            "related": list(self._related(found)),
        }

    def _related(self, found: Answered) -> Iterator[tuple[str, str]]:
        """Yield links to what else is told of one thing: of a job that waits, what keeps it."""
        names = dict(self._pairs)
        facts = [str(row[0]) for each in found.answers if each.named for row in each.rows]
        if self._is_of_one and names.get("kind") == "job" and any(each.startswith("why it waits") for each in facts):
            yield "What keeps it waiting", self._links.question(question("why"), [("job", names["name"])])

    def text(self, **more: Any) -> str:
        """Return its HTML."""
        about, _, _ = self._question.help.partition("\n\n")
        names = dict(self._pairs)
        fields = list(self._fields())
        heading = (
            f"{names.get('kind', '')} {names.get('name', '')}" if self._is_of_one else self._question.name.capitalize()
        )
        return _render(
            "question.html",
            self._links,
            here=self._question.name,
            title=heading,
            heading=heading,
            about="" if self._is_of_one else " ".join(about.split()),
            action=self._path,
            fields=fields,
            unfolded=not self._is_of_one and any(field.folded and field.said for field in fields),
            moment=self._moment(),
            steps=list(self._steps()),
            **{"error": None, **more},
        )

    def _fields(self) -> Iterator[Field]:
        for index, parameter in enumerate(self._question.parameters):
            field = _field(parameter, _said(self._pairs, parameter.called))
            field.folded = index >= _FEW or self._is_of_one
            yield field
        for name, help_text, shown in (
            ("cluster", "Only this cluster.", True),
            ("at", "A moment: 2026-01-03T14:00, yesterday, 2h", self._question.moment),
            ("limit", "At most so many rows.", True),
        ):
            if shown:
                said = _said(self._pairs, name)
                yield Field(name, name, "number" if name == "limit" else "text", said[:1] or [""], said, help=help_text,
                            placeholder="now" if name == "at" else "",
                            completes="cluster" if name == "cluster" else None,
                            folded=self._is_of_one and name != "at")  # fmt: skip

    def _moment(self) -> str:
        names = dict(self._pairs)
        if self._question.moment:
            return f"As it was at {names['at']}." if names.get("at") else f"Now, {local(datetime.now(UTC))}."
        return ""

    def _steps(self) -> Iterator[tuple[str, str]]:
        """Yield the links of the time machine: other moments, or other times."""
        kept = [pair for pair in self._pairs if pair[0] not in ("at", "since", "until")]
        if self._question.moment:
            yield from _moments(self._path, kept, dict(self._pairs).get("at"))
        if any(parameter.name == "since" for parameter in self._question.parameters):
            for text, since in _TIMES:
                yield text, f"{self._path}?{urlencode([*kept, ('since', since)], errors='replace')}"


def _moments(path: str, kept: Pairs, at: str | None) -> Iterator[tuple[str, str]]:
    """Yield links to moments before and after the one of a page."""
    now = datetime.now(UTC)
    try:
        moment = parse_when(at, now) if at else now
    except WhenError:
        moment = now
    for text, seconds in (*_STEPS, *_LATER):
        other = moment + timedelta(seconds=seconds)
        if other < now:
            said = other.strftime("%Y-%m-%dT%H:%M:%SZ")
            yield text, f"{path}?{urlencode([*kept, ('at', said)], errors='replace')}"
    if at:
        yield "now", f"{path}?{urlencode(list(kept), errors='replace')}"


def _said(pairs: Pairs, name: str) -> list[str]:
    return [value for each, value in pairs if each == name]


def _field(parameter: Parameter, said: list[str]) -> Field:
    kind = {Kind.CHOICE: "choice", Kind.FLAG: "flag", Kind.NUMBER: "number"}.get(parameter.kind, "text")
    count = 2 if parameter.kind is Kind.BETWEEN else 1
    values = said[: count if not parameter.many else max(1, len(said))]
    return Field(
        parameter.called,
        parameter.called.replace("-", " "),
        kind,
        values + [""] * (count - len(values)),
        said,
        choices=list(parameter.choices),
        many=parameter.many,
        required=parameter.required,
        help=parameter.help or "",
        placeholder=parameter.default or ("now" if parameter.name == "until" else ""),
        completes=parameter.completes,
        unsaid=parameter.default or "any",
    )


_OVERVIEW: tuple[tuple[str, str, Pairs], ...] = (
    ("What has each cluster?", "clusters", ()),
    ("Who has the CPUs?", "top", (("thing", "owners"), ("by", "cpus"), ("limit", "10"))),
    ("Who waits?", "top", (("thing", "owners"), ("state", "pending"), ("limit", "10"))),
    ("The queues", "queues", ()),
    ("Which workers take no jobs?", "workers", (("unavailable", "1"), ("limit", "15"))),
    ("Who has GPUs?", "gpus", (("limit", "10"),)),
)
"""What the overview asks: a title, a question, its parameters."""
_IN_OVERVIEW = {
    "clusters": ("cluster", "scheduler", "jobs", "running", "pending", "held", "cpus_used", "cpus", "workers_down"),
    "top": ("owner", "jobs", "running", "pending", "cpus", "gpus"),
    "queues": ("cluster", "queue", "state", "running", "pending", "cpus_used", "cpus"),
    "workers": ("cluster", "worker", "state", "flags", "reason", "since_at"),
}
"""The columns that it shows of each."""


def overview(asker: Asker, query: QueryParams) -> tuple[int, str]:
    """Return the status and the text of the page that tells how the site is."""
    kept = [(name, value) for name, value in query.multi_items() if name in ("at", "cluster") and value]
    links = Links(next((value for name, value in kept if name == "at"), None), _said(kept, "cluster"))
    parts: list[Part] = []
    notes: list[str] = []
    try:
        with opened(asker) as reading:
            for title, name, pairs in _OVERVIEW:
                found, shown = _shown(reading, links, title, name, [*pairs, *kept])
                parts += shown
                notes += [note for note in found.notes if note not in notes]
    except Failed as failed:
        return failed.status, error_page(failed, links)
    at = dict(kept).get("at")
    moment = f"As it was at {at}." if at else f"Now, {local(datetime.now(UTC))}."
    steps = list(_moments("/", [pair for pair in kept if pair[0] != "at"], at))
    text = _render(
        "overview.html", links, here="/", title="Overview", heading="Overview", parts=parts, notes=notes, moment=moment,
        steps=steps,
    )  # fmt: skip
    return 200, text


def _shown(reading: Reading, links: Links, title: str, name: str, pairs: Pairs) -> tuple[Answered, list[Part]]:
    with failing():
        asked = read(question(name), pairs)
    found = answer(reading, asked)
    links.counted = Counted.of(asked, datetime.now(UTC))
    answers = found.answers[:1]
    columns = _IN_OVERVIEW.get(name, ())
    return found, [part(each, links, title=title, short=columns) for each in answers]


def error_page(failed: Failed, links: Links | None = None) -> str:
    """Return the page of an error."""
    return _render("error.html", links or Links(None, ()), here="", title=failed.title, detail=failed.detail)


def found_by_name(asker: Asker, name: str) -> str:
    """Return where a name leads: the page of the owner, worker, queue, account or VO of that name, else of the job."""
    from history.questions.names import known

    with opened(asker) as reading:
        for kind in KINDS[:-1]:
            if name in known(reading.connection, kind, name):
                return Links(None, ()).name(kind, name)
    return Links(None, ()).name("job", name)


def _render(template: str, links: Links, **values: Any) -> str:
    menu = [(name, text, links.question(question(name), _FROM_MENU.get(name, ()))) for name, text in _MENU.items()]
    return _templates.get_template(template).render(links=links, menu=menu, version=__version__, **values)

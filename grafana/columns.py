"""Colours of words, and how a column of a table is shown: its name tells.

`job` leads to the job's page, `memory` is in bytes. So a query names its columns as people would read them, and that is
all there is to do.
"""

from collections.abc import Iterator, Mapping, Sequence

from grafana.links import COLUMNS, LIFE, of_row
from grafana.queries import Json

GREEN, YELLOW, ORANGE, RED, PURPLE, BLUE, DARK_BLUE, GREY, TEAL = (
    "green", "yellow", "orange", "red", "purple", "light-blue", "blue", "#808080", "#20b2aa",
)  # fmt: skip
COLOURS: Mapping[str, str] = {
    # jobs
    "running": GREEN, "pending": YELLOW, "held": ORANGE, "suspended": PURPLE, "finishing": TEAL,
    # outcomes
    "completed": GREEN, "failed": RED, "cancelled": GREY, "timeout": ORANGE, "out_of_memory": "#a0522d",
    "node_fail": PURPLE, "preempted": BLUE, "unknown": "#b0b0b0", "ended": GREY, "not told yet": "#484848",
    # workers
    "idle": GREEN, "partial": "super-light-blue", "full": "dark-blue", "up": GREEN, "down": RED, "draining": ORANGE,
    "maintenance": GREY, "not_responding": "dark-red", "reserved": YELLOW, "powered_down": "#404040",
    "powering_up": TEAL,
    # amounts
    "in use": DARK_BLUE, "memory": PURPLE, "(other)": GREY,
}  # fmt: skip
"""Colours of words, the same everywhere."""


_SIGNS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _classes(count: int) -> list[str]:
    """Return that many parts of all signs, as character classes; what is neither letter nor digit is in the first."""
    parts = [_SIGNS[rest::count] for rest in range(count)]
    return [f"[^{''.join(parts[1:])}]", *(f"[{part}]" for part in parts[1:])]


def _sums(count: int, rest: int, *, first: str, last: str) -> str:
    """Return the pattern of names whose two signs, numbered by their class, add up to `rest` modulo `count`."""
    classes = _classes(count)
    pairs = ((classes[index], classes[(rest - index) % count]) for index in range(count))
    return "|".join(f"(?=^{first.format(one)})(?=.*{last.format(other)}$)" for one, other in pairs)


_FAR_APART = (
    "#808800 #f82050 #c088b0 #007000 #886000 #60e8b8 #f86000 #a868f8 #087060 #3848e8",
    "#6890f0 #c8b8f8 #b0c088 #b000c0 #a04058 #08a810 #0890a0 #c08800 #c01800 #f8a8a0",
    "#40a080 #b07060 #18e0e8 #f0c808 #88e830 #f01098 #f8b880 #806090 #00b8f8 #0070a8",
)
"""Colours of which any two are told apart, and each from the grey of what is put together; most of all those of a line,
for names that are numbered on have them one after the other."""


def _names() -> Iterator[tuple[str, str]]:
    for line, colours in enumerate(_FAR_APART):
        for place, colour in enumerate(colours.split()):
            # accounts of one kind end alike (atlasprd, cmsprd), numbered ones begin alike (user001): so of both ends
            places = _sums(len(colours.split()), place, first=".{}", last="{}")
            lines = _sums(len(_FAR_APART), line, first="{}", last="{}.")
            yield f"/(?:{places})(?:{lines})/i", colour


NAMES = tuple(_names())
"""Patterns of names and their colours: an owner has the same one in each picture. One of one sign has none."""

_UNITS: Mapping[str, Sequence[str]] = {
    "bytes": ("memory", "peak memory"),
    "s": ("waited", "ran", "mean wait", "p50", "p90", "p99", "longest", "age", "took", "every", "for"),
    "percentunit": ("CPU efficiency", "memory efficiency", "failed share", "CPUs in use", "GPUs in use",
                    "memory in use"),
    "locale": ("CPU hours", "GPU hours", "wall hours", "jobs", "runs", "failed", "CPUs", "GPUs", "free", "unusable",
               "running", "pending", "held", "owners", "workers", "workers out", "used", "of", "not told", "times",
               "failed polls", "calls since start"),
    "dateTimeFromNow": ("since", "oldest startable"),
}  # fmt: skip
_WORDS = ("state", "outcome", "severity")
_MOMENTS = ("submitted", "started", "ended", "newest", "oldest", "from then", "until then")
_TO_THE_SECOND = "time:YYYY-MM-DD HH:mm:ss"
"""Of moments that lie within a minute Grafana shows thousandths too, which no column has room for."""
WIDTHS: Mapping[str, int] = {
    **dict.fromkeys(("memory", "peak memory"), 120),
    **dict.fromkeys(_UNITS["s"], 110),
    **dict.fromkeys(_UNITS["locale"], 105),
    **dict.fromkeys(("running", "pending", "held"), 93),
    **dict.fromkeys(_UNITS["dateTimeFromNow"], 150),
    **dict.fromkeys(_MOMENTS, 175),
    **dict.fromkeys(("CPU hours", "GPU hours", "wall hours"), 125),
    **dict.fromkeys(("free", "unusable", "used", "of", "not told", "workers"), 82),
    "cluster": 92, "CPUs": 80, "GPUs": 80, "owners": 70, "times": 80, "workers out": 110, "failed polls": 110,
    "calls since start": 150, "runs": 80,
    "memory efficiency": 150, "CPU efficiency": 125, "failed share": 105, "CPUs in use": 104, "GPUs in use": 104,
    "memory in use": 130,
    "exit code": 110, "signal": 75, "run": 75, "and more": 90, "state": 108, "outcome": 128, "severity": 80, "is": 124,
    "read": 75,
}  # fmt: skip
"""Columns that are as wide as the longest value they can have: numbers, moments, and words of which all are known; and
clusters, whose names are short."""
WITH_BUTTONS: Mapping[str, int] = {"CPU efficiency": 145, "peak memory": 135, "signal": 85, "and more": 110}
"""The same where the heading is the longest, and has the button of a filter beside it."""
LEAST: Mapping[str, int] = {
    "job": 260, "id": 260, "owner": 110, "account": 145, "vo": 125, "queue": 180, "worker": 190,
    "name": 150, "reason": 279, "setting": 190, "before": 200,
    "model": 205, "part": 80, "what": 195, "value": 200, "alert": 175, "source": 260,
    "family": 250, "kin": 210, "pause": 110, "flags": 150, "scheduler's word": 140,
}  # fmt: skip
"""Columns of texts: as wide as the longest that is usual, such as the name of a schedd or a worker with its domain, or
what somebody wrote of a worker. What is longer ends in dots."""
A_JOBS_REASON: Json = {"custom.minWidth": 660}
"""Schedulers write more of why a job is held."""
_SENTENCES = ("reason", "value", "before")
"""Columns that have all that is left of a table: beside one, names are no wider than they need be."""


HIDDEN: Json = {"custom.hidden": True, "custom.hideFrom": {"viz": True, "legend": False, "tooltip": False}}
"""Of a column that is there for its links only: what older Grafanas call it, and what newer ones do."""


def mappings(words: Mapping[str, tuple[str, str]]) -> list[Json]:
    """Return value mappings: what each value is called, and its colour."""
    options = {
        value: {"text": text, "color": colour, "index": index}
        for index, (value, (text, colour)) in enumerate(words.items())
    }
    return [{"type": "value", "options": options}]


COLOURED_WORDS = mappings({word: (word, colour) for word, colour in COLOURS.items()})


_UNKNOWN: Json = {"type": "special", "options": {"match": "null+nan", "result": {"color": GREY, "index": 0}}}
"""What is not known is neither good nor bad."""


def column(name: str, beside: Sequence[str] = ()) -> Json:
    """Return how a column of this name is shown, beside these in its table."""
    unit = next((unit for unit, names in _UNITS.items() if name in names), None)
    shown: Json = {} if unit is None else {"unit": unit}
    if unit == "percentunit":
        # text, not a bar: what is not said must not look like 0
        shown |= {"decimals": 0, "min": 0, "max": 1, "custom.displayMode": "color-text", "color": _scale(name)}
        shown["mappings"] = [_UNKNOWN]
    if unit == "locale":
        shown["decimals"] = 1 if name.endswith("hours") else 0
    if name in _MOMENTS:
        shown["unit"] = _TO_THE_SECOND
    if name in _WORDS:
        shown |= {"mappings": COLOURED_WORDS, "custom.displayMode": "color-text"}
    if name in LIFE:
        shown |= HIDDEN
    if name in WIDTHS:
        shown["custom.width"] = WIDTHS[name]
    elif name in LEAST:
        grows = name in _SENTENCES or not any(each in _SENTENCES for each in beside)
        shown["custom.minWidth" if grows else "custom.width"] = LEAST[name]
    if name in COLUMNS:
        title, url = COLUMNS[name]
        url = of_row(url) if "cluster" in beside and name != "cluster" else url
        shown["links"] = [link(title, url)]
    return shown


def fixed(colour: str) -> Json:
    """Return a colour that is the same for every value."""
    return {"mode": "fixed", "fixedColor": colour}


def _scale(name: str) -> Json:
    """Return the colours of a share: of efficiencies much is good, of failures little, and of use neither."""
    if name == "failed share":
        return {"mode": "continuous-GrYlRd"}
    return {"mode": "continuous-RdYlGr"} if name.endswith("efficiency") else fixed("text")


def link(title: str, url: str) -> Json:
    """Return a link behind a value."""
    return {"title": title, "url": url, "targetBlank": False}


def leads(title: str, url: str) -> Json:
    """Return the properties of a column that leads somewhere."""
    return {"links": [link(title, url)]}

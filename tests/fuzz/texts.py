"""Single texts: hosts, tasks, resources, sizes and times of schedulers, and what people type."""

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.dialects import postgresql

from exporter.sources import units
from exporter.sources.hostlist import hosts, tasks
from exporter.sources.htcondor import reader
from exporter.sources.htcondor.matching import clauses
from exporter.sources.htcondor.values import as_whole_text
from exporter.sources.slurm import states, tres
from exporter.vo import Names, Vos
from history.questions import WrongQuestion
from history.questions.resources import parse
from history.timespec import WhenError, parse_when
from tests.fuzz.making import text_like
from tests.fuzz.promises import Broken, one_line, storable

Made = Callable[[Random], str]
_NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
_ZONES = (UTC, ZoneInfo("Europe/Paris"), ZoneInfo("America/St_Johns"))


def of(*real: str) -> Made:
    """Return what makes texts like real ones."""
    return lambda random: text_like(random, *real)


HOSTS = of("n1", "n[1-3,7]", "n[01-03]", "a[1-2]b[3-4],c", "wn-[001-120].example.org", "gpu[0-1],n[5,7,9-12]")
TASKS = of("[4-9%2]", "[1-21:4,100]", "7", "[1,3,5-7%10]", "4-9")
TRES = of(
    "cpu=4,mem=62.50G,node=1,billing=4,gres/gpu:a100=2,gres/gpu=2",
    "billing=1,cpu=1,gres/shard=4",
    "cpu=00:00:01,mem=204800K",
)
GRES = of(
    "gpu:a100:4(S:0-1),shard:a100:16", "gpu:(null):2(IDX:0-1)", "gres/gpu:h100=1", "gpu:nvidia_a100_1g.5gb:7(S:0)"
)
UNITS = of("100M", "0.5G", "1.50T", "1795446156", "7-00:00:00", "00:00.004", "30:00", "1-02:03", "12", "1.5K", "0:9")
WHEN = of(
    "2026-01-03",
    "2026-07-03T14:00-05:00",
    "14:00",
    "yesterday 14:00",
    "last tue at 9:05",
    "2h",
    "30 min ago",
    "2026-W05-1",
)
RESOURCES = of(
    "gpu", "gpu:a100", "cpus>=8", "memory>64GiB", "licence=matlab", "wall > 1d", "used-memory<8G", "feature!=x"
)
ESCAPED = of('"\\303\\251t\\303\\251"', '"a\\"b\\\\c\\n"', '"\\777\\12"')
REASONS = of("Resources", "QOSMaxCpuPerUserLimit", "Nodes required for job are DOWN", "JobHeldAdmin")


EXPRESSIONS = of(
    '(TARGET.Arch == "X86_64") && (Memory >= RequestMemory) && (HasFoo =?= true || !(a && b))',
    'ifThenElse(MemoryUsage isnt undefined, MemoryUsage * 1.5E+00, 100) < 3 ? x : y && "z && \\" (" == {1, 2}[0]',
    "START && (WithinResourceLimits) && 'odd name' > [ a = 1; b = my.c ].b && eval(Foo) ?: other.x",
)


def read_expression(text: str) -> None:
    """Clauses that are together no longer than the text, each of one clause; names in lower case; nothing is raised."""
    found = clauses.split(text)
    if sum(map(len, found)) > len(text) or any(clauses.split(each) != [each] for each in found):
        raise Broken(f"clauses that are none: {found}")
    seen = clauses.names(text)
    if seen is not None and any(name != name.lower() or not name.isidentifier() for name in seen):
        raise Broken(f"names that are none: {seen}")
    if clauses.aim(text, seen or (), seen or ()) != text:
        raise Broken("what is an expression's own was aimed at the other's")
    list(clauses.expand(text, lambda name: text))


def read_hosts(text: str) -> None:
    """A list that is bounded, in which no name has a bracket, or a ValueError."""
    try:
        found = hosts(text)
    except ValueError:
        return
    storable([name.replace("\0", "") for name in found])
    if any("[" in name or "]" in name for name in found):
        raise Broken(f"a bracket in a host's name: {[name for name in found if '[' in name or ']' in name][:3]}")


def read_tasks(text: str) -> None:
    """Numbers, or a ValueError."""
    try:
        storable(tasks(text))
    except ValueError:
        return


def read_tres(text: str) -> None:
    """Whatever the text is, what is understood of it; nothing is raised."""
    storable(tres.tres(text.replace("\0", "")))
    tres.usage(text, "mem")


def read_gres(text: str) -> None:
    """Whatever the text is, what is understood of it; nothing is raised."""
    clean = text.replace("\0", "")
    storable(tres.gres(clean))
    storable(tres.wanted(((clean, 1), (clean, 3))))


def read_units(text: str) -> None:
    """Each is a number that a database can hold, None, or a ValueError."""
    for read in (units.moment, units.size, units.duration, units.count, units.real):
        try:
            storable(read(text))
        except ValueError:
            continue
    storable(as_whole_text(text))


def read_reason(text: str) -> None:
    """Every reason is of some kind."""
    states.waiting(text)
    states.is_held("PENDING", text)


def read_when(text: str) -> None:
    """A moment, or a WhenError of one line."""
    for zone in _ZONES:
        try:
            found = parse_when(text, _NOW, zone)
        except WhenError as error:
            one_line(error)
        else:
            if found.tzinfo is None:
                raise Broken("a moment without a zone")


class _OnPostgresql:
    dialect = postgresql.dialect()


def read_resource(text: str) -> None:
    """SQL, or a WrongQuestion that says what could stand there."""
    try:
        found = parse([text])
    except WrongQuestion:
        return
    connection: Any = _OnPostgresql()
    found[0].condition(connection).compile()


def vos(random: Random) -> tuple[dict[str, str], str]:
    """Make a map of VOs and a name."""
    names = {
        text_like(random, "atlas_*", "*a*a*a*a*a*b", "https://cms-auth.cern.ch", "*") or "x": "vo" for _ in range(2)
    }
    name = random.choice(("a" * 250, text_like(random, "atlas_prod", "/cms/production", "https://cms-auth.cern.ch/")))
    return names, name


def read_vo(made: tuple[dict[str, str], str]) -> None:
    """A VO of the map, or none, or a map that is refused."""
    names, name = made
    try:
        found = Names.read(names)
    except ValueError:
        return
    Vos(("account",), found).of(lambda _: [(name,)])


def read_escaped(text: str) -> None:
    """Whatever the bytes of a ClassAd string are, a text."""
    reader._raw(text).encode()

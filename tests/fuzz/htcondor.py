"""What HTCondor's reader answers: good ads, and between them one with values of any type in any attribute."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any

from exporter.readings import Feed, Kind
from exporter.sources import AnswerUnreadable
from exporter.sources.htcondor import Settings, Source, ads, daemons, machines
from exporter.sources.htcondor.asking import split
from exporter.sources.htcondor.history_files import records
from exporter.sources.htcondor.tail import Tail, TailReader
from tests.fuzz.making import mutated, scalar
from tests.fuzz.promises import Broken, storable
from tests.htcondor_says import Ad, completed, epoch, running, slot
from tests.replay import HTCONDOR, captured

T = 1795446324
NOW = datetime.fromtimestamp(T + 1000, UTC)
QUEUE, ACCOUNTING = (Feed(kind=kind, queue="s") for kind in (Kind.JOBS, Kind.ACCOUNTING))
_ASKED: dict[str, Sequence[str]] = {
    "queue": ads.QUEUE, "history": ads.HISTORY, "epochs": ads.EPOCHS, "machines": machines.MACHINES,
    "schedds": machines.SCHEDDS, "negotiators": daemons.DAEMONS, "schedds_busy": daemons.DAEMONS,
    "collectors_busy": daemons.DAEMONS,
}  # fmt: skip
Lines = list[bytes]


@cache
def _captured(name: str) -> Sequence[Ad]:
    files = (f"{name}_A", f"{name}_B") if name in ("queue", "history", "epochs") else (name,)
    said = [captured("htcondor", version, file) for version in HTCONDOR for file in files]
    return [json.loads(line) for each in said for line in each.splitlines() if line]


def _line(name: str, ad: Ad) -> bytes:
    return json.dumps([ad.get(attribute) for attribute in _ASKED[name]]).encode()


def _broken(random: Random, name: str) -> bytes:
    """Return a real ad of which one to eight attributes are anything."""
    ad = dict(random.choice(_captured(name)))
    for attribute in random.sample(list(_ASKED[name]), random.choice((1, 2, 3, min(8, len(_ASKED[name]))))):
        ad[attribute] = scalar(random, ad.get(attribute))
    return _line(name, ad)


def _among(random: Random, name: str, good: Sequence[Ad]) -> Lines:
    first, second = (_line(name, ad) for ad in good)
    return [first, _broken(random, name), second]


def queued(random: Random) -> Lines:
    """Make the ads of a queue."""
    return _among(random, "queue", [running(number, T, T + 5) for number in (1000001, 1000002)])


def _source(*answers: Lines) -> Source:
    return Source(Settings(name="grid", scheduler="htcondor", collectors=("cm",)), ask=lambda _: list(answers))


def _found(there: set[Any], good: set[Any]) -> None:
    if not good <= there:
        raise Broken(f"what is good beside the bad one is lost: {there}")


def read_queue(lines: Lines) -> None:
    """Both good jobs are found, and nothing is raised."""
    found = _source(lines).read_jobs(QUEUE)
    storable(found)
    _found({job.native_id for job in found.jobs if job.runs}, {"s#1000001.0", "s#1000002.0"})


def past(random: Random) -> tuple[Lines, Lines]:
    """Make records of a history and of runs."""
    jobs = [completed(number, T, T + 5, T + 500) for number in (1000001, 1000002)]
    runs = [epoch(number, T, T + 5, T + 500) for number in (1000001, 1000002)]
    return _among(random, "history", jobs), _among(random, "epochs", runs)


def read_past(answers: tuple[Lines, Lines]) -> None:
    """Both good jobs are found by queue, window and tail; nothing is raised."""
    found = _source(*answers).read_window(ACCOUNTING, NOW - timedelta(seconds=2000), NOW, timedelta())
    storable(found)
    _found({job.native_id for job in found.jobs if job.runs}, {"s#1000001.0", "s#1000002.0"})
    for reader, lines in zip(_source()._tail_readers("s"), answers, strict=True):
        tail = _following(reader, lines[0])
        reader.question(tail)
        step = reader.take(tail, records(reader.attributes, lines), NOW)
        if not step.complete or [record.line for record in step.records] != lines[1:]:
            raise Broken(f"a record behind the last known one is lost: {step}")


def _following(reader: TailReader, line: bytes) -> Tail:
    name, at = reader._identity(*records(reader.attributes, [line]))
    return Tail(newest=name, before=name, at=at)


def pool(random: Random) -> tuple[Lines, Lines]:
    """Make the ads of machines and schedds."""
    slots = [slot(name, 8, 4) for name in ("good1", "good2")]
    return _among(random, "machines", slots), _among(random, "schedds", [{"Name": name} for name in ("good1", "good2")])


def read_pool(answers: tuple[Lines, Lines]) -> None:
    """Both good machines and schedds are found, and nothing is raised."""
    found = _source(*answers).read_workers(Feed(kind=Kind.WORKERS))
    storable(found)
    for things in (found.workers, found.queues):
        _found({each.name for each in things}, {"good1", "good2"})


def daemon_ads(random: Random) -> tuple[Lines, ...]:
    """Make the ads of negotiators, schedds and collectors."""
    return tuple([_broken(random, name)] for name in ("negotiators", "schedds_busy", "collectors_busy"))


def read_daemons(answers: tuple[Lines, ...]) -> None:
    """What is understood is a number, and nothing is raised."""
    storable(_source(*answers).read_scheduler(Feed(kind=Kind.SCHEDULER)))


def reader_output(random: Random) -> bytes:
    """Make what the reader process writes, which a signal may have cut anywhere."""
    said = b'[1, "x"]\n[2, null]\n{"end": 2, "collector": "cm"}\n["y"]\n{"end": 1, "collector": null}\n'
    return mutated(random, said)


def read_output(said: bytes) -> None:
    """An answer that is not whole is an AnswerUnreadable."""
    try:
        split("jobs", said, 2)
    except AnswerUnreadable:
        return

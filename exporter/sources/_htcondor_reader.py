"""One question to an HTCondor pool, asked by a process of its own that can be killed.

The bindings need that: they hold Python's lock for the whole call (a hung schedd freezes every thread for 20 s),
keep the whole reply in memory, and a history query to a hung schedd never ends. The question is one JSON object
on standard input; the answer is a line of JSON for each ad, its attributes in the order asked for, then
`{"end": <number of ads>}`; or `{"error": ...}` and exit code 3.

Imports nothing of BBQ's, for it is run by its path.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_PLAIN = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


def _fail(said: str) -> None:
    print(json.dumps({"error": said}))
    sys.exit(3)


def _collector(h: Any, hosts: list[str], ask: Callable[[Any], Any]) -> Any:
    """Ask the first collector that answers; each by itself, for a list is asked in random order."""
    said = []
    for host in hosts or [""]:
        try:
            return ask(h.Collector(host) if host else h.Collector())
        except Exception as error:
            said.append(f"{host or 'the configured collector'}: {error}")
    _fail(f"no collector answers: {'; '.join(said)}")
    return None


@cache
def _locate(h: Any, hosts: tuple[str, ...], name: str) -> Any:
    """Give a schedd by its name, located anew by each process: its address changes with a restart."""

    def ask(collector: Any) -> Any:
        return [ad for ad in collector.locateAll(h.DaemonTypes.Schedd) if ad.get("Name") == name]

    found = _collector(h, list(hosts), ask)
    if not found:
        _fail(f"schedd {name} is not in the collector: it is stopped, or has not been heard of for long")
    return h.Schedd(found[0])


def _answer(h: Any, question: dict[str, Any]) -> Iterable[Any]:
    hosts, wanted = question["collectors"], question["attributes"]
    constraint = question.get("constraint") or "true"
    what = question["what"]
    kinds = {
        "machines": h.AdTypes.Startd,
        "schedds": h.AdTypes.Schedd,
        "collectors": h.AdTypes.Collector,
        "negotiators": h.AdTypes.Negotiator,
    }
    if what in kinds:
        kind = kinds[what]
        pool: Iterable[Any] = _collector(h, hosts, lambda collector: collector.query(kind, constraint, wanted))
        return pool
    schedd = _locate(h, tuple(hosts), question["schedd"])
    if what == "jobs":
        jobs: Iterable[Any] = schedd.query(constraint, wanted, opts=h.QueryOpt.IncludeClusterAd)
        return jobs
    ask = schedd.history if what == "history" else schedd.jobEpochHistory
    since = question.get("since")
    try:
        most = question.get("match", -1)
        ended = ask(constraint, wanted, most, since=since) if since else ask(constraint, wanted, most)
    except h.HTCondorException as error:
        # runs are recorded only where the site says so (the default of 23.x is that it does not)
        if "JOB_EPOCH_HISTORY" not in str(error):
            raise
        return []
    newest_first: list[Any] = list(ended)
    return newest_first[::-1]


def _row(ad: Any, wanted: list[str], expression: Any, value: Any) -> list[Any]:
    """Give an ad's attributes in order: expressions evaluated, undefined and error as null."""
    row: dict[str, Any] = dict.fromkeys(wanted)
    try:
        for key, found in ad.items():
            row[key] = found
    except UnicodeDecodeError:  # a string with bytes that are no UTF-8 ends the iteration
        for key in ad:
            try:
                row[key] = ad[key]
            except UnicodeDecodeError:
                row[key] = _raw(str(ad.lookup(key)))
    values = []
    for name in wanted:
        found = row[name]
        if type(found) is expression:
            try:
                found = found.eval(ad)
            except Exception:
                found = None
        if type(found) is value or (isinstance(found, float) and not math.isfinite(found)):
            found = None
        elif not isinstance(found, str | int | float | bool | None):
            found = str(found)
        values.append(found)
    return values


def _raw(literal: str) -> str:
    """Read a string from its literal in which bytes are octal escapes; what is no UTF-8 stays visible as \\xNN."""

    def one(match: re.Match[bytes]) -> bytes:
        text = match[1]
        return bytes([int(text, 8) & 255]) if len(text) == 3 else _PLAIN.get(text, text)

    return _ESCAPE.sub(one, literal.strip('"').encode()).decode("utf-8", "backslashreplace")


def _lines(h: Any, classad: Any, questions: list[dict[str, Any]]) -> Iterator[str]:
    for question in questions:
        count = 0
        for ad in _answer(h, question):
            count += 1
            yield json.dumps(_row(ad, question["attributes"], classad.ExprTree, classad.Value), ensure_ascii=True)
        yield json.dumps({"end": count})


def main() -> None:
    """Answer the questions on standard input."""
    request = json.load(sys.stdin)
    try:
        import classad2
        import htcondor2
    except ImportError as error:
        _fail(f"the HTCondor bindings are not installed ({error}); pip install htcondor")
    for key, value in request["settings"].items():
        htcondor2.param[key] = value
    try:
        for line in _lines(htcondor2, classad2, request["questions"]):
            sys.stdout.write(line + "\n")
    except htcondor2.HTCondorException as error:
        _fail(" ".join(str(error).split()))


if __name__ == "__main__":
    main()

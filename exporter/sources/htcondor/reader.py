"""One question to an HTCondor pool, asked by a process of its own that can be killed.

The bindings need that: they hold Python's lock for the whole call (a hung schedd freezes every thread for 20 s),
keep the whole reply in memory, and a history query to a hung schedd never ends. The question is one JSON object
on standard input; the answer is a line of JSON for each ad, its attributes in the order asked for, then
`{"end": <number of ads>}`; or `{"error": ...}` and exit code 3. Of several questions, the answers to the first ones
are whole when its time is up.

Imports nothing of BBQ's, for it is run by its path.
"""

import json
import math
import os
import re
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_PLAIN = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


SHORT_SECONDS = "4"
"""How long a collector is given to answer where there is another one; its answers take a quarter second."""
MAX_BYTES = 3 << 30
"""Memory of this process: a user's expression may want any amount of it."""
MAX_JUDGED = 200
"""Expressions of unusual kind that are worked out in one answer, each in a process of its own."""
JUDGE_BYTES, JUDGE_SECONDS = 512 << 20, 1
_answered: list[str] = []
"""The collector that answered last, if any has."""


def _fail(message: str, *, refused: bool = False) -> None:
    print(json.dumps({"error": message, "refused": refused}))
    sys.exit(3)


def collected(h: Any, hosts: list[str], ask: Callable[[Any], Any]) -> Any:
    """Ask the first collector that answers; each by itself, for a list is asked in random order.

    Where there are several, each is given a short time at first, and one that knows nothing (just restarted, it has no
    ads yet) is believed only if the others know nothing either.
    """
    errors = []
    patient = str(h.param["QUERY_TIMEOUT"])
    hosts = sorted(hosts or [""], key=lambda host: host not in _answered)
    empty = None
    at_once: set[str] = set()
    for short in (True, False) if len(hosts) > 1 else (False,):
        h.param["QUERY_TIMEOUT"] = SHORT_SECONDS if short else patient
        for host in hosts:
            began = time.monotonic()
            try:
                found = ask(h.Collector(host) if host else h.Collector())
            except Exception as error:
                errors.append(f"{host or 'the configured collector'}: {error}")
                if time.monotonic() - began < 1:
                    at_once.add(host)
                continue
            if not found and len(hosts) > 1:
                empty = found
                continue
            h.param["QUERY_TIMEOUT"] = patient
            _answered[:] = [host]
            return found
        if empty is not None:
            break
    h.param["QUERY_TIMEOUT"] = patient
    if empty is not None:
        return empty
    # who hangs would hang again
    refused = [host for host in hosts if host in at_once and host and _refuses(h, host)]
    if refused:
        _fail(
            f"the pool refuses us at {', '.join(refused)}: authentication failed; check token_directory (is the token "
            "there, readable, of this pool's TRUST_DOMAIN, not expired, with READ?)",
            refused=True,
        )
    _fail(f"no collector answers: {'; '.join(dict.fromkeys(errors))}")
    return None


def _refuses(h: Any, host: str) -> bool:
    """Tell a collector that is there and refuses us from one that is not: both are one error for a query."""
    import classad2

    name, _, port = host.rpartition(":") if ":" in host else (host, "", "9618")
    try:
        address = socket.gethostbyname(name)
        h.ping(classad2.ClassAd({"MyType": "Collector", "MyAddress": f"<{address}:{port}>"}), "READ")
    except OSError:
        return False
    except Exception as error:
        return "Failed to start command" in str(error)
    return False


@cache
def _locate(h: Any, hosts: tuple[str, ...], name: str) -> Any:
    """Return a schedd by its name, located anew by each process: its address changes with a restart."""

    def ask(collector: Any) -> Any:
        return [ad for ad in collector.locateAll(h.DaemonTypes.Schedd) if ad.get("Name") == name]

    found = collected(h, list(hosts), ask)
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
        "accounting": h.AdTypes.Accounting,
    }
    if what in kinds:
        kind = kinds[what]
        names = [name for name in wanted if name not in _WORKED_OUT]
        pool: list[Any] = list(collected(h, hosts, lambda collector: list(collector.query(kind, constraint, names))))
        if pool and len(names) < len(wanted):
            # only the collector that told of the slots is asked: a pool without GPUs answers with nothing, rightly
            with_gpus = f"({constraint}) && {_WITH_GPUS}"
            _add_models(pool, collected(h, _answered, lambda collector: list(collector.query(kind, with_gpus))))
        return pool
    schedd = _locate(h, tuple(hosts), question["schedd"])
    if what == "jobs":
        jobs: Iterable[Any] = schedd.query(constraint, wanted, opts=h.QueryOpt.IncludeClusterAd)
        return jobs
    if what == "groups":
        return _groups(schedd.query("true", [], limit=question["match"], opts=h.QueryOpt.AutoCluster))
    if what == "epochs_set":  # raises where the schedd keeps none
        list(schedd.jobEpochHistory("false", ["ClusterId"], 1))
        return []
    ask = schedd.history if what == "history" else schedd.jobEpochHistory
    since = question.get("since")
    try:
        maximum = question.get("match", -1)
        ended = ask(constraint, wanted, maximum, since=since) if since else ask(constraint, wanted, maximum)
    except h.HTCondorException as error:
        # runs are recorded only where the site says so (the default of 23.x is that it does not)
        if "JOB_EPOCH_HISTORY" not in str(error):
            raise
        return []
    newest_first: list[Any] = list(ended)
    return newest_first[::-1]


_OF_A_QUEUE = ("AutoClusterId", "JobCount", "JobIds", "ServerTime")
"""What a schedd adds to a group of jobs that are alike: what is left is what they have in common."""


def _groups(found: Iterable[Any]) -> Iterator[Any]:
    """Yield jobs that are the same to every machine, as one ad each, with all that matters of them as a text."""
    for ad in found:
        row = {name: ad.pop(name, None) for name in _OF_A_QUEUE}
        yield {**row, "Whole": str(ad)}


_WORKED_OUT = ("GPUModels", "FreeGPUModels")
_WITH_GPUS = "(TotalSlotGPUs > 0 || GPUs > 0)"


def _add_models(pool: list[Any], whole: list[Any]) -> None:
    """Add to slots their GPUs by model, all and free ones: each device has an ad of its own in its slot's."""
    found = {}
    for ad in whole:
        text = str(ad.lookup("AvailableGPUs")) if "AvailableGPUs" in ad else None
        free = None if text is None else dict.fromkeys(re.findall(r"GPUs_\w+", text), 1)
        models: dict[str, int] = {}
        left: dict[str, int] = {}
        for device in re.findall(r"[^\s,]+", str(ad.get("AssignedGPUs") or "")):
            name = f"GPUs_{device.replace('-', '_')}"
            own = ad.get(name)
            model = own.get("DeviceName") if hasattr(own, "get") else None
            model = str(model or ad.get("GPUs_DeviceName") or "gpu")
            models[model] = models.get(model, 0) + 1
            if free is not None and name in free:
                left[model] = left.get(model, 0) + 1
        if models:
            found[ad.get("Name")] = models, None if free is None else left
    for ad in pool:
        models_of = found.get(ad.get("Name"))
        if models_of is not None:
            ad["GPUModels"] = json.dumps(models_of[0])
            if models_of[1] is not None:
                ad["FreeGPUModels"] = json.dumps(models_of[1])


_USUAL = re.compile(
    r"(?i)(?:ifthenelse|isundefined|iserror|min|max|floor|ceiling|round|int|real|quantize|pow|abs|time)\s*\("
)
_CALL = re.compile(r"[A-Za-z_]\w*\s*\(")


def _judge(expression: Any, ad: Any) -> Any:
    """Work an expression out: one that calls what may take any time and memory in a process that may not.

    A thousand characters of somebody's RequestMemory can want a gigabyte, and the bindings then end the process.
    """
    text = str(expression)
    if len(text) < 2000 and len(_CALL.findall(text)) == len(_USUAL.findall(text)):
        return expression.eval(ad)
    _judged.append(text[:100])
    if len(_judged) > MAX_JUDGED:
        return None
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (JUDGE_BYTES, JUDGE_BYTES))
            resource.setrlimit(resource.RLIMIT_CPU, (JUDGE_SECONDS, JUDGE_SECONDS))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            value = expression.eval(ad)
            if isinstance(value, str | int | float | bool) and type(value).__module__ != "classad2":
                os.write(writing, json.dumps(value)[:60_000].encode())
        finally:
            os._exit(0)
    os.close(writing)
    answer = b""
    try:
        while select.select([reading], [], [], 5)[0]:
            piece = os.read(reading, 65_536)
            if not piece:
                break
            answer += piece
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(child, 9)
        os.waitpid(child, 0)
    try:
        return json.loads(answer) if answer else None
    except ValueError:
        return None


_judged: list[str] = []


def _row(ad: Any, wanted: list[str], expression: Any, value: Any) -> list[Any]:
    """Return an ad's attributes in order: expressions evaluated, undefined and error as null."""
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
                found = _judge(found, ad)
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
        yield json.dumps({"end": count, "collector": answered()})


def bindings(settings: dict[str, str]) -> tuple[Any, Any]:
    """Return HTCondor's bindings with these settings, and those of its expressions."""
    try:
        import classad2
        import htcondor2
    except ImportError as error:
        _fail(f"the HTCondor bindings are not installed ({error}); pip install htcondor")
    for key, value in settings.items():
        htcondor2.param[key] = value
    return htcondor2, classad2


def answered() -> str | None:
    """Return the collector that answered last, if any has."""
    return _answered[-1] if _answered else None


def main() -> None:
    """Answer the questions on standard input."""
    request = json.load(sys.stdin)
    signal.alarm(int(request["seconds"]) + 5)  # the daemon, which ends this process, may itself have ended
    htcondor2, classad2 = bindings(request["settings"])
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    try:
        for line in _lines(htcondor2, classad2, request["questions"]):
            sys.stdout.write(line + "\n")
            if line.startswith('{"end"'):
                sys.stdout.flush()
    except htcondor2.HTCondorException as error:
        message = " ".join(str(error).split())
        _fail(message, refused="AUTHENTICATE" in message or "Failed to authenticate" in message)


if __name__ == "__main__":
    main()

"""Many inputs for one target, in a process of its own: what it cannot bear ends that process only."""

import logging
import multiprocessing
import resource
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.fuzz.promises import bounded
from tests.fuzz.targets import TARGETS

MAX_BYTES = 4 << 30
"""Memory that a process may have."""
MAX_KEPT = 20
"""Failures of one kind and place that are written out."""


class Found(NamedTuple):
    """What came of a target's inputs."""

    inputs: int
    failures: int
    slowest: float
    """Seconds of processor time."""
    slowest_number: int
    grown: int
    """Bytes by which the process's largest size grew."""
    kinds: dict[str, int]
    """How often each failure was seen, by its error and place."""


def made(name: str, seed: int, number: int) -> object:
    """Return an input of a target, by its number."""
    return TARGETS[name].make(Random(f"{name} {seed} {number}"))


def broken(name: str, value: object) -> Exception | None:
    """Return by what error a target breaks its promises on an input; None where it keeps them."""
    try:
        with bounded():
            TARGETS[name].read(value)
    except Exception as error:
        return error
    return None


def run(name: str, seed: int, inputs: int, folder: Path) -> Found:
    """Try inputs of a target; those that fail are written into the folder."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_try, args=(name, seed, inputs, folder, theirs))
    process.start()
    theirs.close()
    last = Found(0, 0, 0.0, 0, 0, {})
    try:
        while True:
            last = ours.recv()
    except EOFError:
        process.join()
    if process.exitcode:
        _keep(folder, name, seed, last.inputs, f"the process ended with {process.exitcode}, within 1000 inputs of this")
        last = last._replace(failures=last.failures + 1, kinds={**last.kinds, f"exit code {process.exitcode}": 1})
    return last


def _try(name: str, seed: int, inputs: int, folder: Path, told: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    kinds: dict[str, int] = {}
    slowest, slowest_number = 0.0, 0
    logging.disable()  # what is told of odd inputs, of each
    made(name, seed, 0)
    size = _size()
    for number in range(inputs):
        value = made(name, seed, number)
        began = time.process_time()
        error = broken(name, value)
        if error is not None:
            kind = _kind(error)
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] <= MAX_KEPT:
                _keep(folder, name, seed, number, f"{''.join(traceback.format_exception(error))}\n{value!r}")
        took = time.process_time() - began
        if took > slowest:
            slowest, slowest_number = took, number
        if number % 1000 == 0 or number + 1 == inputs:
            told.send(Found(number + 1, sum(kinds.values()), slowest, slowest_number, _size() - size, kinds))
    told.close()


def _size() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _kind(error: Exception) -> str:
    """Return an error's class and the line of BBQ that raised it."""
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and "/lib/python" not in frame.filename
    ]
    return f"{type(error).__name__} at {places[-1] if places else '?'}"


def _keep(folder: Path, name: str, seed: int, number: int, said: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    said = said if len(said) < 100_000 else f"{said[:50_000]}\n...\n{said[-50_000:]}"
    (folder / f"{name}-{seed}-{number}.txt").write_text(said, encoding="utf-8", errors="backslashreplace")

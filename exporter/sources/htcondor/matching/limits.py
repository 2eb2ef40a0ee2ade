"""Judging under limits: by a child process, so that an expression that wants any time or memory costs its own verdict.

A child judges one group after the other until it has judged all, or is ended by one; then another one goes on behind
that. Who has spoilt several is not tried again in the same round.
"""

import os
import resource
import select
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from exporter.sources.htcondor.matching.verdicts import Group, Verdict

GROUP_SECONDS = 2
"""CPU time for one group; most take some milliseconds."""
PATIENCE_SECONDS = 20.0
"""How long a child may say nothing on a machine that is busy."""
GROUP_BYTES = 512 << 20
"""What all groups together may add to the memory of the process."""
MAX_SPOILT = 20
"""Groups that may end a child before no other is tried."""
MAX_SPOILT_BY_OWNER = 2


def judged(
    groups: Sequence[Group], judging: Callable[[], Callable[[Group], Verdict]], deadline: float
) -> Iterator[Verdict]:
    """Yield a verdict for each group, in their order.

    Args:
        judging: makes, in a child, what judges a group; it may raise anything.
        deadline: of the monotonic clock; what is not judged by then is not.
    """
    spoilt: Counter[str] = Counter()
    left = list(groups)
    while left:
        if time.monotonic() >= deadline or spoilt.total() >= MAX_SPOILT:
            yield from (Verdict(key=group.key, judged=False) for group in left)
            return
        tried = [group for group in left if spoilt[group.owner] < MAX_SPOILT_BY_OWNER]
        done = 0
        for verdict in _of_child(tried, judging, deadline):
            done += 1
            yield verdict
        if done < len(tried):
            spoilt[tried[done].owner] += 1
            yield Verdict(key=tried[done].key, judged=False)
        given_up = {group.key for group in left} - {group.key for group in tried}
        yield from (Verdict(key=group.key, judged=False) for group in left if group.key in given_up)
        left = tried[done + 1 :]


def _of_child(
    groups: Sequence[Group], judging: Callable[[], Callable[[Group], Verdict]], deadline: float
) -> Iterator[Verdict]:
    """Yield what a child finds before it ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _judge(groups, judging, writing)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        yield from _lines(reading, deadline)
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _lines(reading: int, deadline: float) -> Iterator[Verdict]:
    rest = b""
    while True:
        patience = min(PATIENCE_SECONDS, deadline - time.monotonic())
        if patience <= 0 or not select.select([reading], [], [], patience)[0]:
            return
        piece = os.read(reading, 1 << 16)
        if not piece:
            return
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield msgspec.json.decode(line, type=Verdict)


def _judge(groups: Sequence[Group], judging: Callable[[], Callable[[Group], Verdict]], writing: int) -> None:
    """Judge groups, in a child that may be ended at any of them."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a child that runs out of memory says so
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    judge = judging()
    most = _size() + GROUP_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for group in groups:
        seconds = int(time.process_time()) + GROUP_SECONDS + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        try:
            verdict = judge(group)
        except Exception:  # whatever is wrong with these expressions, the next group's are others
            verdict = Verdict(key=group.key, judged=False)
        os.write(writing, msgspec.json.encode(verdict) + b"\n")


def _size() -> int:
    """Return how much memory this process has asked for, in bytes."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()

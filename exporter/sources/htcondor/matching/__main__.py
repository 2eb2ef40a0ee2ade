"""The process that judges: reads groups of idle jobs on standard input, asks a collector for its machines, and answers.

The answer is as the reader's: a line of JSON with what is left of quotas, one for each group, and how many they are.
"""

import json
import resource
import signal
import sys
import time
from typing import Any

import msgspec

from exporter.sources.htcondor import reader
from exporter.sources.htcondor.matching import limits
from exporter.sources.htcondor.matching.clauses import names
from exporter.sources.htcondor.matching.judge import Judge
from exporter.sources.htcondor.matching.pool import Pool
from exporter.sources.htcondor.matching.quotas import ACCOUNTING, Quotas, quotas
from exporter.sources.htcondor.matching.verdicts import Group, Verdict

MAX_BYTES = 3 << 30
MACHINES = "DynamicSlot =!= true"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked."""

    collectors: list[str]
    groups: list[Group]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What stands on standard input."""

    settings: dict[str, str]
    seconds: float
    questions: list[Question]


def judge_all(groups: list[Group], ads: list[Any], deadline: float) -> list[Verdict]:
    """Return a verdict for each group; `ads` is emptied, for it is large."""
    wanted: set[str] = set()
    of_jobs: set[str] = set()
    for group in groups:
        # all names in its ad, as attributes or in expressions: more than are needed, and quickly told
        seen = names(group.ad) or frozenset()
        wanted |= seen
        of_jobs |= seen
    pool = Pool(ads, wanted, of_jobs)
    ads.clear()
    return list(limits.judged(groups, lambda: Judge(pool).judge, deadline))


def main() -> None:
    """Answer the question on standard input."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    (question,) = request.questions
    signal.alarm(int(request.seconds) + 5)  # the daemon, which ends this process, may itself have ended
    deadline = time.monotonic() + 0.8 * request.seconds
    htcondor, _ = reader.bindings(request.settings)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    ads = reader.collected(
        htcondor, question.collectors, lambda collector: list(collector.query(htcondor.AdTypes.Startd, MACHINES))
    )
    left = _quotas(htcondor)
    verdicts = judge_all(question.groups, list(ads), deadline)
    for each in (left, *verdicts):
        sys.stdout.buffer.write(msgspec.json.encode(each) + b"\n")
    sys.stdout.buffer.write(json.dumps({"end": 1 + len(verdicts), "collector": reader.answered()}).encode() + b"\n")


def _quotas(htcondor: Any) -> Quotas:
    """Return what is left of quotas, as the collector that told of the machines knows it; nothing where it does not."""
    host = reader.answered()
    try:
        collector = htcondor.Collector(host) if host else htcondor.Collector()
        return quotas(collector.query(htcondor.AdTypes.Accounting, "true", list(ACCOUNTING)))
    except Exception:
        return Quotas()


if __name__ == "__main__":
    main()

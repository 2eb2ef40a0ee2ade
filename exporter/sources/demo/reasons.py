"""Why the simulated pool's idle jobs wait, in the words that a real one's get."""

import zlib
from functools import lru_cache

import msgspec

from exporter.sources.demo.plan import GIB, Owner, Plan
from exporter.sources.demo.things import SimJob
from history.vocabulary import Waiting

ELSEWHERE, REFUSED = "port_to_arm", "calibrate"
"""Names of jobs that want machines of another kind, and that machines refuse."""


class Why(msgspec.Struct, frozen=True):
    """Why a job waits, and how many machines match."""

    waiting: Waiting
    reason: str
    matching: int


def why(job: SimJob, plan: Plan) -> Why:
    """Return why an idle job waits."""
    return _why(plan, job.cpus, job.memory, job.owner, job.name if job.name in (ELSEWHERE, REFUSED) else "")


@lru_cache(maxsize=1_000)
def _why(plan: Plan, cpus: int, memory: int, owner: Owner, name: str) -> Why:
    kits = [plan.kit(number) for number in range(plan.workers)]
    matching = sum(kit.cpus >= cpus and kit.memory >= memory for kit in kits)
    number = f"about {matching}" if matching >= 10 else str(matching)
    if name == ELSEWHERE:
        return Why(Waiting.NO_MATCH, '(TARGET.Arch == "aarch64"): no machine meets it (there is X86_64)', 0)
    if name == REFUSED:
        refusal = 'it does not meet (TARGET.AcctGroup != "group_auger.user") there'
        return Why(Waiting.NO_MATCH, f"{number} machines that could hold it refuse it: {refusal}", 0)
    if not matching:
        asked, largest = memory // GIB, max(kit.memory for kit in kits) // GIB
        return Why(Waiting.NO_MATCH, f"memory {asked:,} GiB: the largest machine has {largest} GiB", 0)
    kind = zlib.crc32(f"{owner} {cpus}".encode()) % 12
    if kind == 0:
        return Why(Waiting.LIMIT, f"group quota of {owner[1]} is used up; {number} machines match", matching)
    if kind == 1:
        return Why(Waiting.NEXT_CYCLE, f"{number} machines match, and some have room", matching)
    return Why(Waiting.RESOURCES, f"{number} machines match: none has room now", matching)

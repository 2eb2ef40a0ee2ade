"""What Slurm's commands answer: a source reads good rows with a bad one between them, or an answer that is cut."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import NamedTuple

from exporter.readings import Feed, Kind
from exporter.sources import AnswerUnreadable, CommandFailed, SourceError
from exporter.sources.slurm import Accounting, Settings, Source, accounting
from exporter.sources.slurm import jobs as queue
from history.settings import Duration
from tests.fuzz.making import changed_fields, mutated, text_like
from tests.fuzz.promises import Broken, storable
from tests.replay import CAPTURED_MARK, SLURM, captured, captured_rows
from tests.slurm_says import MARK, Played, accounted, marked, queued, step

T = 1795446324
NOW = datetime.fromtimestamp(T + 1000, UTC)
_MARKS = re.compile(r"(?:--delimiter=|^JobID(?:Raw)?:)([^,]+)")
_RECORD = (
    "JobId=7 JobName=job UserId=alice(1000) Priority=1 Restarts=0 SubmitTime=1795446324 ResizeTime=1795446380 "
    "StartTime=1795446330 EndTime=1795449930 NodeList=n[1-2] NumNodes=2 NumCPUs=4 TRES=cpu=4,mem=2G,node=2 "
    "Nodes=n1 CPU_IDs=0-1 Mem=1024 GRES=gpu:a100:1(IDX:0) Nodes=n2 CPU_IDs=0-1 Mem=1024 GRES= MinMemoryNode=1G\n"
)


class Answers(NamedTuple):
    """What each command answers in one input."""

    squeue: bytes = b""
    federated: bytes = b""
    """What squeue answers where it is asked for a job's federation too."""
    sacct: bytes = b""
    job: bytes = b""
    nodes: bytes = b""
    partitions: bytes = b""
    config: bytes = b"PrivateData = none\n"
    sdiag: bytes = b""
    sshare: bytes = b""
    whole: bool = True
    """Whether the good rows are all there, to be found again."""

    def __call__(self, command: str, *arguments: str) -> bytes:
        """Answer as the command, with the mark of the call."""
        if command in ("squeue", "sacct"):
            if arguments[0] == "--helpformat":
                return b""
            found = next(match for each in arguments if (match := _MARKS.search(each)))
            table = {"squeue": self.squeue, "sacct": self.sacct}[command]
            if "SiblingsViable" in arguments[-1]:
                table = self.federated
            return table.replace(MARK.encode(), found[1].encode())
        if command == "scontrol":
            kind = next(word for word in ("job", "node", "partition", "config") if word in arguments)
            return {"job": self.job, "node": self.nodes, "partition": self.partitions, "config": self.config}[kind]
        if command in ("sdiag", "sshare"):
            return getattr(self, command)
        raise CommandFailed(f"{command}: nothing is known of that")

    def source(self) -> Source:
        """Return a source that they answer."""
        return Played(_SETTINGS, self)


_SETTINGS = Settings(name="local", scheduler="slurm", fair_shares=True, accounting=Accounting(lookback=Duration(7200)))


@cache
def _captured(name: str) -> Sequence[dict[str, str]]:
    """Return real rows of a table, with the fields that are asked for."""
    fields = queue.FIELDS if name == "squeue" else accounting.FIELDS
    return [
        {
            field: row.get(field, b"N/A").decode("utf-8", "replace").replace(CAPTURED_MARK.decode(), "")
            for field in fields
        }
        for version in SLURM
        for row in captured_rows(version, name)
    ]


def _broken(random: Random, row: dict[str, str]) -> list[str]:
    return [value.replace(MARK, "") for value in changed_fields(random, row).values()]


def jobs(random: Random) -> Answers:
    """Make an answer of squeue's, and what is asked about its jobs."""
    real = random.choice(_captured("squeue")) if random.randrange(2) else dict(zip(queue.FIELDS, queued(), strict=True))
    spread = queued(JobID="1000002", JobArrayID="1000002", NodeList="n[1-2]", NumNodes="2", NumCPUs="4")
    rows = [queued(JobID="1000001", JobArrayID="1000001"), _broken(random, real), spread]
    siblings = [text_like(random, "NA", "local", "local,other") for _ in queue.FEDERATED]
    federated = marked([[*row[:-1], *(siblings if row is rows[1] else ["NA"] * 3), row[-1]] for row in rows])
    said = marked(rows)
    record = mutated(random, _RECORD.encode()) if random.randrange(2) else _RECORD.encode()
    config = mutated(random, b"GresTypes = gpu\nPrivateData = none\nSLURM_VERSION = 26.05\n")
    whole = random.randrange(4) > 0
    return Answers(
        squeue=said if whole else mutated(random, said), federated=federated, job=record, config=config,
        sdiag=_sdiag(random), whole=whole and b"jobs" not in config and b"all" not in config,
    )  # fmt: skip


def read_jobs(said: Answers) -> None:
    """The two good jobs are found, whatever the third is; an answer that is not understood is a SourceError."""
    source = said.source()
    try:
        found = source.read_jobs(Feed(kind=Kind.JOBS))
    except SourceError:
        _refused(said.whole)
        return
    storable(found)
    if said.whole:
        there = {job.native_id: job for job in found.jobs}
        good = [there.get(name) for name in ("1000001", "1000002")]
        if any(job is None or not job.runs for job in good):
            raise Broken(f"a good row beside the bad one is lost: {sorted(there)}")


def _refused(whole: bool) -> None:
    if whole:
        raise Broken("good rows are refused for a bad one among them")


def ended(random: Random) -> Answers:
    """Make an answer of sacct's."""
    good = [accounted(JobIDRaw=name, End=str(T + 500)) for name in ("1000001", "1000002")]
    real = random.choice(_captured("sacct")) if random.randrange(2) else accounted(JobID=random.choice(_IDS))
    rows = [
        good[0],
        step(good[0]),
        dict(zip(accounting.FIELDS, _broken(random, real), strict=True)),
        good[1],
        step(good[1]),
    ]
    if random.randrange(2):
        own = step(real)
        rows.insert(3, dict(zip(accounting.FIELDS, _broken(random, own), strict=True)))
    said = marked([list(row.values()) for row in rows])
    whole = random.randrange(4) > 0
    return Answers(sacct=said if whole else mutated(random, said), sdiag=_sdiag(random), whole=whole)


_IDS = ("7", "7_3", "7+1", "7_[1-9]", "7_[4-9,13%2]")


def read_ended(said: Answers) -> None:
    """The two good jobs are found, in a page, a window and by name; nothing but a SourceError is raised."""
    feed = Feed(kind=Kind.ACCOUNTING)
    for read in (
        lambda source: source.read_accounting(feed, None, NOW),
        lambda source: source.read_window(feed, NOW - timedelta(seconds=2000), NOW, timedelta()),
    ):
        try:
            found = read(said.source())
        except SourceError:
            _refused(said.whole)
            continue
        storable(found)
        there = {job.native_id for job in found.jobs if job.runs}
        if said.whole and not {"1000001", "1000002"} <= there:
            raise Broken(f"a good row beside the bad one is lost: {sorted(there)}")


@cache
def _lines(name: str) -> Sequence[bytes]:
    return [line for version in SLURM for line in captured("slurm", version, name).splitlines()]


def workers(random: Random) -> Answers:
    """Make answers of `scontrol show node` and `show partition`."""
    found = []
    for name, begin in (("nodes", b"NodeName="), ("partitions", b"PartitionName=")):
        first = _lines(name)[0]
        good = [re.sub(begin + rb"\S+", begin + each, first, count=1) for each in (b"good1", b"good2")]
        found.append(b"\n".join((good[0], mutated(random, random.choice(_lines(name))), good[1], b"")))
    whole = random.randrange(4) > 0
    nodes, partitions = found if whole else [mutated(random, each) for each in found]
    return Answers(nodes=nodes, partitions=partitions, whole=whole)


def read_workers(said: Answers) -> None:
    """The good workers and queues are found beside a bad one; nothing but a SourceError is raised."""
    try:
        found = said.source().read_workers(Feed(kind=Kind.WORKERS))
    except AnswerUnreadable as error:
        _refused(said.whole and "rows were not understood" not in str(error))
        return
    storable(found)
    for things in (found.workers, found.queues):
        names = {each.name for each in things}
        if said.whole and not {"good1", "good2"} <= names:
            raise Broken(f"a good record beside the bad one is lost: {sorted(names)}")


def _sdiag(random: Random) -> bytes:
    return mutated(random, captured("slurm", random.choice(SLURM), "diag"))


def figures(random: Random) -> Answers:
    """Make answers of sdiag and sshare."""
    shares = b"root||\n physics|0.5|\n  physics|0.250000|alice\n bio|nan|\n"
    return Answers(sdiag=_sdiag(random), sshare=mutated(random, shares))


def read_figures(said: Answers) -> None:
    """What is understood is a number; nothing but a SourceError is raised."""
    try:
        storable(said.source().read_scheduler(Feed(kind=Kind.SCHEDULER)))
    except SourceError:
        return

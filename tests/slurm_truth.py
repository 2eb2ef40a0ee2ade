"""Jobs of a Slurm cluster that never was: what happened to each, what squeue, scontrol and sacct say of it, and what
is to be stored in the end."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from exporter.sources import CommandFailed
from exporter.sources.slurm import Settings, Source
from history.vocabulary import Outcome
from tests.slurm_says import Played, accounted, queued, step
from tests.truth import Ended, Exit, Number, Ran

T = int(datetime(2026, 10, 31, 22, tzinfo=UTC).timestamp())
"""Two hours before a day, and a month, ends. What happens, happens at full tens of seconds; readings are between."""


class Piece(NamedTuple):
    """A time in which a job held the same of the same workers."""

    start: int
    end: int
    nodes: tuple[str, ...]
    used: int
    """CPU seconds."""

    @property
    def cpus(self) -> int:
        return 2 * len(self.nodes)


class Attempt(NamedTuple):
    """From one submission to the end of what came of it."""

    submit: int
    end: int
    state: str
    """sacct's word for its end; of a requeued one, `batch` has how it ended."""
    pieces: tuple[Piece, ...] = ()
    suspended: tuple[int, int] | None = None
    batch: str | None = None


class Job(NamedTuple):
    """One job, with the ids that it has: its own, its array's or its heterogeneous job's."""

    raw: str
    owner: str
    attempts: tuple[Attempt, ...]
    array: tuple[str, int] | None = None
    het: tuple[str, int] | None = None

    @property
    def native(self) -> str:
        """Return the id that people use."""
        for parent, sign in ((self.array, "_"), (self.het, "+")):
            if parent is not None:
                return f"{parent[0]}{sign}{parent[1]}"
        return self.raw


_OUTCOMES = {
    "COMPLETED": Outcome.COMPLETED, "FAILED": Outcome.FAILED, "CANCELLED by 1000": Outcome.CANCELLED,
    "CANCELLED": Outcome.CANCELLED, "TIMEOUT": Outcome.TIMEOUT, "OUT_OF_MEMORY": Outcome.OUT_OF_MEMORY,
    "NODE_FAIL": Outcome.NODE_FAIL, "PREEMPTED": Outcome.PREEMPTED,
}  # fmt: skip
_EXITS = {"COMPLETED": "0:0", "FAILED": "3:0", "CANCELLED by 1000": "0:15", "CANCELLED": "0:15", "TIMEOUT": "0:0",
          "OUT_OF_MEMORY": "0:125", "NODE_FAIL": "1:0", "PREEMPTED": "0:0"}  # fmt: skip
_EXIT_OF: dict[str, Exit] = {
    "0:0": (0, None),
    "3:0": (3, None),
    "1:0": (1, None),
    "0:15": (None, 15),
    "0:125": (None, 125),
}
_LAST = ("COMPLETED", "COMPLETED", "FAILED", "CANCELLED by 1000", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")
_AGAIN = (("REQUEUED", "COMPLETED"), ("REQUEUED", "CANCELLED"), ("REQUEUED", "FAILED"), ("REQUEUED", None),
          ("NODE_FAIL", None), ("PREEMPTED", None))  # fmt: skip


def some_jobs(number: Number) -> list[Job]:
    """Draw some jobs: plain ones, arrays and heterogeneous ones, of which some ids come again."""
    found: list[Job] = []
    for place in range(number(1, 4)):
        raw, begin = 100 * (place + 1), T + 10 * number(0, 600)
        owner = ("alice", "bob")[number(0, 1)]
        kind = number(0, 5)
        if kind == 0:
            found += [
                Job(str(raw + task), owner, _attempts(number, begin), array=(str(raw), task))
                for task in range(number(1, 3))
            ]
        elif kind == 1:
            if number(0, 1):
                cancelled = (Attempt(begin, begin + 10 * number(1, 30), "CANCELLED by 1000"),)
                found += [Job(str(raw + part), owner, cancelled, het=(str(raw), part)) for part in range(2)]
            else:
                found += [
                    Job(str(raw + part), owner, _attempts(number, begin, most=1), het=(str(raw), part))
                    for part in range(2)
                ]
        else:
            job = Job(str(raw), owner, _attempts(number, begin))
            found.append(job)
            if number(0, 5) == 0:  # the id is given again, long after
                found.append(
                    Job(str(raw), ("alice", "bob")[number(0, 1)], _attempts(number, job.attempts[-1].end + 20_000))
                )
    return found


def _attempts(number: Number, begin: int, most: int = 3) -> tuple[Attempt, ...]:
    found = []
    for left in range(number(1, most) - 1, -1, -1):
        start = begin + 10 * number(1, 60)
        if not left and number(0, 4) == 0:
            found.append(Attempt(begin, start, "CANCELLED by 1000"))  # while it waited
            break
        pieces, suspended = [], None
        nodes = ("n1", "n2", "n3")[: number(1, 3)]
        for last in (*[False] * (number(0, 2) if len(nodes) > 1 and number(0, 2) == 0 else 0), True):
            end = start + 10 * number(1, 400)
            pieces.append(Piece(start, end, nodes, number(0, 2 * (end - start))))
            start, nodes = end, nodes if last or len(nodes) == 1 else nodes[:-1]
        if len(pieces) == 1 and end - pieces[0].start > 40 and number(0, 3) == 0:
            suspended = (pieces[0].start + 10, end - 10 * number(1, 2))
        state, batch = _AGAIN[number(0, 5)] if left else (_LAST[number(0, 6)], None)
        found.append(Attempt(begin, end, state, tuple(pieces), suspended, batch))
        begin = end
    return tuple(found)


def squeue(jobs: list[Job], at: int, odd: bool) -> list[list[str]]:
    """Return the rows of a reading at a moment.

    Args:
        odd: whether some values are of a kind that nobody can read.
    """
    rows = []
    for job in jobs:
        for place, attempt in enumerate(job.attempts):
            if not attempt.submit < at < attempt.end:
                continue
            fields = {
                "JobID": job.raw,
                "UserName": job.owner,
                "SubmitTime": str(attempt.submit),
                "RestartCnt": str(place),
            }
            if job.array:
                fields |= {"ArrayJobID": job.array[0], "ArrayTaskID": str(job.array[1])}
            if job.het:
                fields |= {"HetJobID": job.het[0], "HetJobOffset": str(job.het[1])}
            if odd:
                fields |= {"TimeLimit": "1:x:00", "EligibleTime": "99999999999999999", "NumTasks": "many"}
            piece = next((each for each in attempt.pieces if each.start < at < each.end), None)
            if piece is None:
                fields |= {
                    "State": "PENDING",
                    "Reason": "Priority",
                    "StartTime": "N/A",
                    "NodeList": "",
                    "tres-alloc": "N/A",
                }
                if job.array:
                    fields["JobID"] = job.array[0]
            else:
                stopped = attempt.suspended is not None and attempt.suspended[0] < at < attempt.suspended[1]
                fields |= {
                    "State": "SUSPENDED" if stopped else "RUNNING", "StartTime": str(attempt.pieces[0].start),
                    "NodeList": ",".join(piece.nodes), "NumNodes": str(len(piece.nodes)), "NumCPUs": str(piece.cpus),
                    "tres-alloc": _tres(piece), "ResizeTime": "N/A" if piece is attempt.pieces[0] else "INVALID",
                }  # fmt: skip
            rows.append(queued(**fields))
    return rows


def _tres(piece: Piece) -> str:
    return f"cpu={piece.cpus},mem={len(piece.nodes)}G,node={len(piece.nodes)},billing={piece.cpus}"


def scontrol(jobs: list[Job], raw: str, at: int) -> str:
    """Return what `scontrol -d -o show job` says of a job at a moment; nothing where there is none."""
    for job in jobs:
        for attempt in job.attempts:
            for piece in attempt.pieces:
                if job.raw == raw and piece.start < at < piece.end:
                    shares = " ".join(f"Nodes={node} CPU_IDs=0-1 Mem=1024 GRES=" for node in piece.nodes)
                    resized = f"ResizeTime={piece.start} " if piece is not attempt.pieces[0] else ""
                    return f"JobId={raw} SubmitTime={attempt.submit} {resized}StartTime={attempt.pieces[0].start} {shares} X=1\n"
    return ""


Rows = list[dict[str, str]]
"""A row of sacct's and those of its steps."""


def sacct(job: Job, seen_as_part: bool, odd: bool) -> Iterator[tuple[int, Rows]]:
    """Yield the rows of each attempt, or piece of one, with its end.

    Args:
        seen_as_part: whether the queue has told that it is a part of a heterogeneous job, which slurmdbd may not know.
        odd: whether some values are of a kind that nobody can read.
    """
    usual = {"JobIDRaw": job.raw, "JobID": job.native, "User": job.owner}
    if odd:
        usual |= {"TimelimitRaw": "x", "Eligible": "99999999999999999", "DerivedExitCode": "?"}
    for place, attempt in enumerate(job.attempts):
        same = {**usual, "Restarts": str(place)}
        if not attempt.pieces:
            if job.het and seen_as_part:
                same["JobID"] = job.raw
            yield attempt.end, [
                accounted(**same, Submit=str(attempt.submit), Start="Unknown", End=str(attempt.end), State=attempt.state,
                          AllocTRES="", NodeList="None assigned", TotalCPU="00:00:00", ExitCode="0:0")
            ]  # fmt: skip
            continue
        for piece in attempt.pieces:
            first, last = piece is attempt.pieces[0], piece is attempt.pieces[-1]
            state = attempt.state if last else "RESIZING"
            how = attempt.batch or attempt.state
            gone = 0 if attempt.suspended is None else attempt.suspended[1] - attempt.suspended[0]
            row = accounted(
                **same, Submit=str(attempt.submit if first else piece.start), Start=str(piece.start), End=str(piece.end),
                State=state, ExitCode=_EXITS.get(how, "0:0") if last else "0:0", AllocTRES=_tres(piece),
                NNodes=str(len(piece.nodes)), NodeList=",".join(piece.nodes), Suspended=_clock(gone),
                TotalCPU=_clock(piece.used),
            )  # fmt: skip
            rows = [row, step(row, "extern", State="COMPLETED", ExitCode="0:0", MaxRSS="nonsense" if odd else "100M")]
            if attempt.batch is not None and last:
                rows.append(step(row, "batch", State=attempt.batch, ExitCode=_EXITS[attempt.batch]))
            yield piece.end, rows


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def truth(job: Job) -> Ended:
    """Return what is to be stored of a job in the end."""
    runs = []
    for attempt in job.attempts:
        how = attempt.batch if attempt.state == "REQUEUED" else attempt.state
        for piece in attempt.pieces:
            gone = 0 if attempt.suspended is None else attempt.suspended[1] - attempt.suspended[0]
            runs.append(
                Ran(
                    start=piece.start,
                    end=piece.end,
                    outcome=_OUTCOMES[how] if how else Outcome.UNKNOWN,
                    cpus=float(piece.cpus),
                    used=float(piece.used),
                    not_counted=gone,
                    workers=piece.nodes,
                    exit=_EXIT_OF[_EXITS.get(how or "", "0:0")] if piece is attempt.pieces[-1] else (None, None),
                    goes_on=piece is not attempt.pieces[-1],
                )
            )
    last = job.attempts[-1]
    outcome, how = _OUTCOMES[last.state], runs[-1].exit if last.pieces else (None, None)
    return Ended(job.native, job.owner, job.attempts[0].submit, last.end, outcome, tuple(runs), how)


class Cluster:
    """The commands of a cluster at the moment that it is read."""

    def __init__(self, jobs: list[Job], restarts: bool) -> None:
        self.jobs = jobs
        self.at = T
        self.odd = False
        self.said: list[Rows] = []
        """What sacct will tell."""
        self.cut: int | None = None
        """How many bytes of its next answer arrive; all when None."""
        self._restarts = restarts
        self.source = self.begin()

    def begin(self) -> Source:
        """Make a source that knows nothing yet, as after a restart."""
        self.source = Played(Settings(name="local", scheduler="slurm"), self._answer)
        return self.source

    def _answer(self, command: str, *arguments: str) -> bytes:
        if command == "squeue":
            mark = arguments[-1].split(",")[0].partition(":")[2]
            return _marked(squeue(self.jobs, self.at, self.odd), mark)
        if arguments == ("show", "config"):
            return b"PrivateData = none\n"
        if command == "scontrol" and arguments[-2] == "job":
            found = scontrol(self.jobs, arguments[-1], self.at)
            if found:
                return found.encode()
        if command == "sacct" and "--helpformat" in arguments:
            return b"JobID Restarts" if self._restarts else b"JobID"
        if command == "sacct":
            said = dict(argument.partition("=")[::2] for argument in arguments)
            fields = said["--format"].split(",")
            rows = [[row.get(field, "") for field in fields] for rows in self.said for row in rows]
            return _marked(rows, said["--delimiter"])[: self.cut]
        raise CommandFailed(f"{command}: nothing is known of that", b"")


def _marked(rows: list[list[str]], mark: str) -> bytes:
    return "".join("".join(value + mark for value in row) + "\n" for row in rows).encode()

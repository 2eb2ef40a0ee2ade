"""What slurmdbd has of the jobs of a test cluster: its tables read with SQL, and sreport, without BBQ's parsers."""

from collections import Counter
from dataclasses import dataclass

from tests.clusters.chroot import USERS
from tests.clusters.slurm import Slurm

_STATES = {
    3: "completed", 4: "cancelled", 5: "failed", 6: "timeout", 7: "node_fail", 8: "preempted", 10: "timeout",
    11: "out_of_memory",
}  # fmt: skip
"""Slurm's numbers of states (slurm.h) in BBQ's words."""
REVOKED = 1 << 19
"""In a state: a copy of a federated job that another cluster of its federation has started."""
_AWAY_SECONDS = 400 * 86400
"""How far the times of jobs are moved while slurmdbd adds them up: where nothing else is."""


@dataclass(frozen=True)
class Used:
    """What somebody held, in seconds."""

    cpu_seconds: int = 0
    gpu_seconds: int = 0

    def __add__(self, other: "Used") -> "Used":
        """Return the sum."""
        return Used(self.cpu_seconds + other.cpu_seconds, self.gpu_seconds + other.gpu_seconds)


def _table(slurm: Slurm, name: str) -> str:
    return f"`{slurm.name}_{name}_table`"


def outcomes(slurm: Slurm, since: int) -> Counter[str]:
    """Count jobs by how they ended, each task of an array as one: by the newest row of each id.

    Of an array of a federation, the last task leaves a second row behind that waits for ever (24.11).
    """
    table = _table(slurm, "job")
    lines = slurm.sql(
        f"select j.state & 255, sum(greatest(1, j.array_task_pending)) from {table} j join (select id_job, "
        f"max(time_submit) time_submit from {table} where time_submit >= {since} "
        "and time_end > 0 group by id_job) newest "
        "using (id_job, time_submit) where j.time_end > 0 and j.deleted = 0 "
        f"and j.state & {REVOKED} = 0 group by 1"
    )
    found: Counter[str] = Counter()
    for state, count in (line.split("\t") for line in lines):
        found[_STATES[int(state)]] += int(count)
    return found


def used(slurm: Slurm, since: int) -> dict[tuple[str, str], Used]:
    """Add up what jobs held by user and account, without the times in which they were suspended."""
    suspended = (
        "select sum(if(s.time_end = 0, j.time_end, s.time_end) - s.time_start) "
        f"from {_table(slurm, 'suspend')} s where s.job_db_inx = j.job_db_inx"
    )
    lines = slurm.sql(
        f"select id_user, account, tres_alloc, time_end - time_start, coalesce(({suspended}), 0) from "
        f"{_table(slurm, 'job')} j where time_submit >= {since} and time_start > 0 and time_end > 0 and deleted = 0"
    )
    tres = dict(
        line.split("\t") for line in slurm.sql("select concat_ws('/', type, nullif(name, '')), id from tres_table")
    )
    users = {str(uid): name for name, uid in USERS.items()}
    found: dict[tuple[str, str], Used] = {}
    for uid, account, given, lasted, paused in (line.split("\t") for line in lines):
        held = dict(item.split("=") for item in given.split(",") if item)
        seconds = int(lasted) - int(paused)
        figures = Used(*(int(held.get(tres[name], 0)) * seconds for name in ("cpu", "gres/gpu")))
        if figures != Used():
            found[users[uid], account] = figures + found.get((users[uid], account), Used())
    return found


def sreport(slurm: Slurm, since: int, until: int) -> dict[tuple[str, str], Used]:
    """Have slurmdbd add up the jobs that were submitted in a time, and return what sreport says of users and accounts.

    slurmdbd adds up hours that are over: so the jobs are moved into hours of long ago meanwhile.
    """
    first, last = (since - _AWAY_SECONDS) // 3600 * 3600, ((until - _AWAY_SECONDS) // 3600 + 1) * 3600
    for table in slurm.sql(f"show tables like '{slurm.name}%usage%table'"):
        slurm.sql(f"delete from `{table}` where time_start between {first - 40 * 86400} and {last + 40 * 86400}")
    _move(slurm, since, -_AWAY_SECONDS)
    events = _table(slurm, "event")
    try:
        # of a time in which it has no CPUs of the cluster, sreport says nothing
        columns = [line.split("\t")[0] for line in slurm.sql(f"show columns from {events}")]
        values = [{"time_start": str(first), "time_end": str(last)}.get(name, name) for name in columns]
        slurm.sql(
            f"insert into {events} select {', '.join(values)} from {events} where node_name = '' and time_end = 0 limit 1"
        )
        begin, end = (slurm.run("date", "-d", f"@{at}", "+%FT%T").stdout.decode().strip() for at in (first, last))
        slurm.run("sacctmgr", "-i", "rollup", begin, end)
        answer = slurm.run(
            "sreport", "-n", "-P", "-t", "seconds", "-T", "cpu,gres/gpu", "cluster", "UserUtilizationByAccount",
            "format=login,account,tresname,used", f"start={begin}", f"end={end}",
        ).stdout.decode()  # fmt: skip
    finally:
        slurm.sql(f"delete from {events} where time_start = {first} and time_end = {last}")
        _move(slurm, since, _AWAY_SECONDS)
    found: dict[tuple[str, str], Used] = {}
    for user, account, name, seconds in (line.split("|") for line in answer.splitlines()):
        figures = Used(cpu_seconds=int(seconds)) if name == "cpu" else Used(gpu_seconds=int(seconds))
        found[user, account] = figures + found.get((user, account), Used())
    return found


def _move(slurm: Slurm, since: int, seconds: int) -> None:
    """Move the times of jobs that were submitted since a moment (that of their submission stays)."""
    jobs, suspended = _table(slurm, "job"), _table(slurm, "suspend")
    moved = f"cast(%s as signed) + ({seconds})"
    slurm.sql(
        f"update {suspended} s join {jobs} j using (job_db_inx) set "
        + ", ".join(f"s.{name} = if(s.{name} = 0, 0, {moved % f's.{name}'})" for name in ("time_start", "time_end"))
        + f" where j.time_submit >= {since}; update {jobs} set "
        + ", ".join(
            f"{name} = if({name} = 0, 0, {moved % name})" for name in ("time_eligible", "time_start", "time_end")
        )
        + f" where time_submit >= {since}"
    )


def revoked(slurm: Slurm, since: int) -> int:
    """Count the copies of federated jobs that have not run here."""
    condition = f"state & {REVOKED} > 0 and time_start in (0, time_end) and time_submit >= {since}"
    return int(slurm.sql(f"select count(*) from {_table(slurm, 'job')} where {condition}")[0])

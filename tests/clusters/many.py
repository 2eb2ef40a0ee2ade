"""Long pasts for the test clusters: ended jobs by the thousand, in slurmdbd's own tables and a schedd's own history.

Each is made from a record that the scheduler itself wrote; what differs follows from the job's number alone, so that
the same call gives the same past. Job ids begin where no test cluster comes by itself.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from tests.clusters.chroot import USERS, wait_for
from tests.clusters.htcondor import HTCondor
from tests.clusters.slurm import Slurm

FIRST_ID = 1_000_000

_STATES = """case when n % 100 < 80 then 3 when n % 100 < 88 then 5 when n % 100 < 92 then 6 when n % 100 < 95 then 4
 when n % 100 < 97 then 11 when n % 100 < 98 then 7 when n % 100 < 99 then 4 else 5 end"""
"""Of a hundred jobs: completed, failed, timed out, cancelled, out of memory, node failed, cancelled idle, killed."""
_CODES = """case when n % 100 < 80 then 0 when n % 100 < 88 then (1 + n % 3) << 8 when n % 100 < 95 then 15
 when n % 100 < 97 then 125 when n % 100 < 98 then 256 when n % 100 < 99 then 0 else 9 end"""
"""Exit codes as slurmdbd keeps them: the code in the higher byte, the signal in the lower."""

# An array is fifty tasks, submitted together, whose last one has its id. A requeued job has two rows of the same id:
# the second is submitted when the first ends.
_DRAW = """
create temporary table drawn as
  select seq as n, {first} + seq as id, floor({begin} + (seq + 1) * {apart}) as finish, 30 + seq * 7919 % 5000 as lasted,
    seq div 50 % 4 = 0 as in_array, seq % 100 = 98 as idle, seq % 33 = 5 and seq % 100 <> 98 as twice,
    seq % 10 = 7 as gpus, 1 + (seq % 11 = 0 and seq % 10 <> 7) as nodes, 1 << seq % 3 as cores, 1 + seq % 3 as node
  from seq_0_to_{last};
create temporary table whose as
  select row_number() over (order by id_assoc) - 1 as k, id_assoc, acct, case user {uids} end as uid
  from `{cluster}_assoc_table` where deleted = 0 and user in ({users});
set @whose := (select count(*) from whose), @inx := (select max(job_db_inx) from `{cluster}_job_table`);
create temporary table attempts (primary key (inx)) as
  select d.*, w.id_assoc, w.acct, w.uid, attempt.seq as attempt, @inx + 2 * n + attempt.seq as inx,
    if(attempt.seq = 2, {states}, 1024) as state, if(attempt.seq = 2, {codes}, 0) as code,
    case when attempt.seq = 2 and twice then finish - lasted - 200
      when in_array then floor({begin} + (n - n % 50) * {apart}) - 6000 else finish - lasted - 6000 end as at_submit,
    if(attempt.seq = 2, finish - lasted, finish - lasted - 900) as at_start,
    if(attempt.seq = 2, finish, finish - lasted - 200) as at_end,
    cores * nodes as cpus,
    if(gpus, concat('n', 5 + n % 2), if(nodes = 2, concat('n[', node, '-', node + 1, ']'), concat('n', node))) as hosts,
    if(gpus, 4 + n % 2, if(nodes = 2, concat(node - 1, '-', node), node - 1)) as places,
    concat('1=', cores * nodes, ',2=', 500 * cores * nodes, ',4=', nodes, ',5=', cores * nodes,
      if(gpus, concat(',', @gpu, '=', 1 + n % 4, ',', @a100, '=', 1 + n % 4), '')) as tres
  from drawn d join seq_1_to_2 attempt on attempt.seq = 2 or twice join whose w on w.k = d.n div 50 % @whose;
"""

_JOB = {
    "job_db_inx": "m.inx", "mod_time": "m.at_end", "account": "m.acct", "cpus_req": "m.cpus", "derived_ec": "0",
    "exit_code": "m.code", "failed_node": "if(m.state = 7, m.hosts, null)", "job_name": "concat('many-', m.n % 97)",
    "id_assoc": "m.id_assoc", "id_array_job": f"if(m.in_array, {FIRST_ID} + m.n - m.n % 50 + 49, 0)",
    "id_array_task": "if(m.in_array, m.n % 50, 4294967294)", "id_job": "m.id", "id_user": "m.uid", "id_group": "m.uid",
    "kill_requid": "if(m.state = 4, if(m.n % 2, m.uid, 0), null)", "nodelist": "if(m.idle, 'None assigned', m.hosts)",
    "nodes_alloc": "if(m.idle, 0, m.nodes)", "node_inx": "if(m.idle, null, m.places)",
    "partition": "if(m.gpus, 'gpu', 'batch')", "restart_cnt": "m.twice and m.attempt = 2", "state": "m.state",
    "timelimit": "if(m.state = 6, greatest(1, m.lasted div 60), 120)", "time_submit": "m.at_submit",
    "time_eligible": "m.at_submit", "time_start": "if(m.idle, 0, m.at_start)", "time_end": "m.at_end",
    "tres_alloc": "if(m.idle, '', m.tres)", "tres_req": "m.tres",
}  # fmt: skip
_STEP = {
    "job_db_inx": "m.inx", "exit_code": "m.code", "id_step": "-5", "step_name": "'batch'", "kill_requid": "null",
    "nodelist": "substring_index(replace(replace(m.hosts, '[', ''), ']', ''), '-', 1)", "nodes_alloc": "1",
    "node_inx": "substring_index(m.places, '-', 1)", "state": "if(m.state in (6, 1024), 4, m.state)",
    "time_start": "m.at_start", "time_end": "m.at_end", "user_sec": "(m.at_end - m.at_start) * m.cpus div 2",
    "sys_sec": "m.n % 60", "tres_alloc": "m.tres",
    **{
        f"tres_usage_in_{what}": "concat('1=', (m.at_end - m.at_start) * m.cpus * 500, ',2=', (1 + m.n % 400) << 20)"
        for what in ("ave", "max", "min", "tot")
    },
}  # fmt: skip


def slurm_many(slurm: Slurm, jobs: int, begin: int, end: int) -> int:
    """Put ended jobs into the accounting, evenly over a time (epoch seconds); give the number of their attempts."""
    slurm_forget(slurm)
    real = _real_job(slurm)
    users = {name: uid for name, uid in USERS.items() if name != "monitor"}
    statements = [
        "set @gpu := (select id from tres_table where type = 'gres' and name = 'gpu')",
        "set @a100 := (select id from tres_table where type = 'gres' and name = 'gpu:a100')",
        _DRAW.format(
            first=FIRST_ID, last=jobs - 1, begin=begin, apart=(end - begin) / jobs, cluster=slurm.name, states=_STATES,
            codes=_CODES, users=", ".join(f"'{name}'" for name in users),
            uids=" ".join(f"when '{name}' then {uid}" for name, uid in users.items()),
        ),
    ]  # fmt: skip
    for table, values, which in (("job", _JOB, ""), ("step", _STEP, " and id_step = -5")):
        name = f"`{slurm.name}_{table}_table`"
        columns = [line.split("\t")[0] for line in slurm.sql(f"show columns from {name}")]
        statements += [
            f"create temporary table real_{table} as select * from {name} where job_db_inx = {real}{which}",
            f"insert into {name} ({', '.join(f'`{column}`' for column in columns)}) select "
            + ", ".join(values.get(column, f"t.`{column}`") for column in columns)
            + f" from attempts m join real_{table} t{' where not m.idle' if table == 'step' else ''}",
        ]
    # sreport tells nothing of a time before the cluster was registered
    events = f"`{slurm.name}_event_table`"
    statements.append(
        f"update {events} set time_start = least(time_start, {begin - 86_400}) where node_name = '' "
        "order by time_start limit 1"
    )
    return int(slurm.sql(";\n".join([*statements, "select count(*) from attempts"]))[-1])


def slurm_forget(slurm: Slurm) -> None:
    """Take out what `slurm_many` put in."""
    job, step = (f"`{slurm.name}_{table}_table`" for table in ("job", "step"))
    slurm.sql(
        f"delete s from {step} s join {job} j using (job_db_inx) where j.id_job >= {FIRST_ID};"
        f"delete from {job} where id_job >= {FIRST_ID}"
    )
    # what slurmdbd has added up of them: adding up again leaves hours in which there is nothing any more
    for table in slurm.sql(f"show tables like '{slurm.name}%usage%table'"):
        slurm.sql(f"delete from `{table}` where time_start < unix_timestamp() - 100 * 86400")


def _real_job(slurm: Slurm) -> str:
    """Return the row of a job that completed on one worker, with its batch step; one is run where there is none."""
    query = (
        f"select max(j.job_db_inx) from `{slurm.name}_job_table` j join `{slurm.name}_step_table` s using (job_db_inx) "
        f"where j.state = 3 and j.time_end > 0 and s.id_step = -5 and s.time_end > 0 and j.id_job < {FIRST_ID} "
        "and j.id_array_job = 0 and j.het_job_id = 0 and j.restart_cnt = 0"
    )
    if slurm.sql(query) == ["NULL"]:
        slurm.submit("alice", "sleep 1")
        assert wait_for(lambda: slurm.sql(query) != ["NULL"], 60, 0.5)
    return slurm.sql(query)[0]


Ad = dict[str, str]
"""A record, as it stands in the file."""

_OWNERS = ("alice", "bob", "carol")
_AT_START = ("JobCurrentStartDate", "JobCurrentStartExecutingDate", "ShadowBday", "LastMatchTime")
_AT_END = ("EnteredCurrentStatus", "CompletionDate", "JobFinishedHookDone", "LastJobLeaseRenewal")
_OTHERS = (
    "ExitCode", "ExitSignal", "ToE", "AcctGroup", "AcctGroupUser", "AccountingGroup", "x509UserProxyVOName",
    "AuthTokenGroups",
)  # fmt: skip
"""What is of the job that a record is made from: a job's record and those of its runs are made from different ones."""
_ABOUT = (
    "JobBatchName", "Cmd", "RequestGPUs", "GPUsProvisioned", "DAGManJobId", "AllowedJobDuration",
    "AllowedExecuteDuration", "JobUniverse", "RoutedFromJobId", "RoutedToJobId",
)  # fmt: skip
_CAP = "20-many.conf"


def htcondor_many(pool: HTCondor, jobs: int, begin: int, end: int) -> int:
    """Write schedd A's history and epoch history anew, evenly over a time; give the number of runs.

    The schedd goes on appending to both. How many records one question may read is raised, as the manual says to do
    where a history is longer than 50,000 records (HISTORY_HELPER_MAX_HISTORY).
    """
    spool = pool.chroot.path / "var/spool/condor"
    history, epochs = spool / "history", spool / "epoch_history"
    _run_one(pool, history, epochs)
    # a job of the local or scheduler universe holds nothing of any worker
    job = next(ad for ad in _ads(history) if ad.get("JobStatus") == "4" and _is_plain(ad))
    run = next(ad for ad in _ads(epochs) if _is_plain(ad))
    # what a job's record and those of its runs both say of the job is the same
    run = {name: value for name, value in run.items() if name not in _ABOUT}
    run |= {name: job[name] for name in _ABOUT if name in job}
    settings = pool.chroot.path / "etc/condor/config.d" / _CAP
    settings.write_text(
        "HISTORY_HELPER_MAX_HISTORY = 2000000000\nMAX_HISTORY_LOG = 2000000000\nMAX_EPOCH_HISTORY_LOG = 2000000000\n"
    )
    pool.run("condor_reconfig")
    made = [_Made(pool, number, begin + (number + 1) * (end - begin) / jobs) for number in range(jobs)]
    starts = sorted((over, each.number, place, start) for each in made for place, (start, over) in enumerate(each.runs))
    _write(history, (each.record(job) for each in made))
    _write(epochs, (made[number].epoch(run, place, start, over) for over, number, place, start in starts))
    return len(starts)


def htcondor_forget(pool: HTCondor) -> None:
    """Leave schedd A with an empty history and its own settings."""
    for name in ("history", "epoch_history"):
        (pool.chroot.path / "var/spool/condor" / name).write_text("")
    (pool.chroot.path / "etc/condor/config.d" / _CAP).unlink(missing_ok=True)
    pool.run("condor_reconfig")


class _Made:
    """One job: of fifty, four fail, one is killed, one is removed running, one removed idle, two start twice."""

    def __init__(self, pool: HTCondor, number: int, over: float) -> None:
        self.number = number
        self.over = int(over)
        self.kind = {44: "failed", 45: "failed", 46: "failed", 47: "killed", 48: "removed", 49: "idle"}.get(
            number % 50, "completed"
        )
        self.submitted = self.over - number % 10 - 9000  # the ten procs of a submission end one after the other
        start = self.over - 30 - number * 7919 % 5000
        self.runs = [] if self.kind == "idle" else [(start, self.over)]
        if number % 50 in (7, 23):
            self.runs.insert(0, (start - 1800, start - 600))
        self.schedd = pool.schedds["A"]
        self.machines = pool.machines

    def _who(self) -> Ad:
        cluster, proc = FIRST_ID + self.number // 10, self.number % 10
        owner, cpus = _OWNERS[self.number // 10 % 3], 1 << self.number // 10 % 3
        return {
            "ClusterId": str(cluster), "ProcId": str(proc), "QDate": str(self.submitted),
            "GlobalJobId": f'"{self.schedd}#{cluster}.{proc}#{self.submitted}"',
            "Owner": f'"{owner}"', "User": f'"{owner}@pool.test"', "TotalSubmitProcs": "10",
            "RequestCpus": str(cpus), "RequestMemory": str(1000 * cpus), "CpusProvisioned": str(cpus),
            "MemoryProvisioned": str(1000 * cpus),
        }  # fmt: skip

    def _ran(self, start: int, over: int, place: int) -> Ad:
        busy = (over - start) * (1 << self.number // 10 % 3) // 2
        return {
            **dict.fromkeys(_AT_START, str(start)), "JobStartDate": str(self.runs[0][0]),
            "NumShadowStarts": str(place + 1), "NumJobStarts": str(place + 1),
            "RemoteUserCpu": f"{busy}.0", "RemoteSysCpu": f"{self.number % 60}.0",
            "CumulativeRemoteUserCpu": f"{busy}.0", "CumulativeRemoteSysCpu": f"{self.number % 60}.0",
            "ResidentSetSize": str(100_000 + self.number % 900_000),
            "ResidentSetSize_RAW": str(100_000 + self.number % 900_000),
            "MemoryUsage": "((ResidentSetSize + 1023) / 1024)",
        }  # fmt: skip

    def _exit(self, last: bool) -> Ad:
        if not last or self.kind in ("killed", "removed"):
            return {"ExitBySignal": "true", "ExitSignal": "9" if last and self.kind == "killed" else "15"}
        return {"ExitBySignal": "false", "ExitCode": str(1 + self.number % 7 if self.kind == "failed" else 0)}

    def _slot(self, place: int) -> str:
        return f'"slot1_{1 + self.number % 8}@{self.machines[(self.number + place) % len(self.machines)]}"'

    def record(self, like: Ad) -> tuple[Ad, str]:
        """Return the job's record in the history, and its banner."""
        ad = {name: value for name, value in like.items() if name not in _OTHERS}
        ad |= self._who() | dict.fromkeys(_AT_END, str(self.over))
        if self.kind in ("removed", "idle"):
            ad |= {"JobStatus": "3", "RemoveReason": '"via condor_rm (by user alice)"'}
            del ad["CompletionDate"]
        if self.runs:
            place = len(self.runs) - 1
            ad |= self._ran(*self.runs[-1], place) | self._exit(last=True) | {"LastRemoteHost": self._slot(place)}
        else:
            left = ("LastRemoteHost", "JobStartDate", *_AT_START, "RemoteUserCpu", "RemoteSysCpu", "ResidentSetSize")
            ad = {name: value for name, value in ad.items() if name not in left} | {"NumShadowStarts": "0"}
        completed = ad.get("CompletionDate", "-1")
        return ad, (
            f"ClusterId = {ad['ClusterId']} ProcId = {ad['ProcId']} Owner = {ad['Owner']} CompletionDate = {completed}"
        )

    def epoch(self, like: Ad, place: int, start: int, over: int) -> tuple[Ad, str]:
        """Return the record of a run, and its banner."""
        last = place == len(self.runs) - 1
        ad = {name: value for name, value in like.items() if name not in _OTHERS}
        ad |= self._who() | self._ran(start, over, place) | self._exit(last) | {"RemoteHost": self._slot(place)}
        ad |= {"EnteredCurrentStatus": str(start), "EpochWriteDate": str(over), "RunInstanceId": str(place)}
        if not last:
            ad |= {"VacateReason": '"evicted"', "VacateReasonCode": "1005"}
        return ad, (
            f"*** EPOCH ClusterId={ad['ClusterId']} ProcId={ad['ProcId']} RunInstanceId={place} Owner={ad['Owner']} "
            f"CurrentTime={over}"
        )


def _run_one(pool: HTCondor, history: Path, epochs: Path) -> None:
    """Have a job that completed in both files."""

    def there() -> bool:
        return all(path.exists() and any(map(_is_plain, _ads(path))) for path in (history, epochs))

    if not there():
        pool.submit("alice", "A", {"executable": "/bin/sleep", "transfer_executable": "false", "arguments": "1"})
        assert wait_for(there, 120, 1.0)


def _is_plain(ad: Ad) -> bool:
    return ad.get("ExitCode") == "0" and ad.get("JobUniverse") == "5"


def _ads(path: Path) -> Iterator[Ad]:
    ad: Ad = {}
    with path.open(encoding="latin-1", newline="\n") as file:
        for line in file:
            if line.startswith("*** "):
                yield ad
                ad = {}
            else:
                name, _, value = line.rstrip("\n").partition(" = ")
                ad[name] = value


def _write(path: Path, records: Iterator[tuple[Ad, str]]) -> None:
    """Replace a history file; in the history a banner tells where the banner before it stands."""
    there, new = path.stat(), path.with_name(f"{path.name}.new")
    position = banner_at = 0
    with new.open("w", encoding="latin-1", newline="\n") as file:
        for ad, said in records:
            text = "".join(f"{name} = {value}\n" for name, value in ad.items())
            banner = f"{said}\n" if said.startswith("***") else f"*** Offset = {banner_at} {said}\n"
            file.write(text + banner)
            banner_at = position + len(text)
            position = banner_at + len(banner)
    os.chown(new, there.st_uid, there.st_gid)
    new.chmod(there.st_mode & 0o777)
    for rotated in path.parent.glob(f"{path.name}.2*"):
        rotated.unlink()
    new.replace(path)

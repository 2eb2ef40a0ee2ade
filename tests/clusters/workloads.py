"""A varied workload for each scheduler: every way to end, every kind of job, and names made to break parsers."""

import time

from tests.clusters.chroot import wait_for
from tests.clusters.htcondor import HTCondor
from tests.clusters.own_schedd import OwnSchedd
from tests.clusters.slurm import Slurm

ODD_NAMES: dict[str, bytes] = {
    "pipe": b"a|b",
    "quotes": b'it\'s "double" `back`',
    "newline": b"line1\nline2",
    "escape": b"\x1b[31mred\x1b[0m\x07\t\x1f",
    "not_utf8": b"bad\xff\xfeutf8",
    "utf8": "Grüße-日本-🙂".encode(),
    "long": b"N" * 1000,
    "forged": b"x\n999|root|COMPLETED|0:0|",
    "nothing": b"(null)",
}


ODD_TASKS = tuple(number for number in range(14, 110, 2) if number % 6)
"""Tasks of an array that no range tells of: their list is longer than the 64 bytes that sacct prints unasked."""
SCRON = b"#SCRON -J scrontab\n* * * * * sleep 2\n"


def slurm_ending(slurm: Slurm) -> None:
    """Submit and steer jobs that all end: within about two minutes."""
    submit, run = slurm.submit, slurm.run
    began = int(time.time())
    changing = _slurm_changing(slurm)
    submit("alice", "sleep 3", "-J", "completed")
    submit("alice", "exit 3", "-J", "failed")
    submit("bob", "kill -9 $$", "-J", "killed")
    submit("bob", "sleep 300", "-J", "timeout", "-t", "1")
    held = submit("carol", "true", "-J", "cancelled_held", "--hold")
    later = submit("carol", "true", "-J", "cancelled_before_eligible", "--begin=now+1hour")
    running = submit("alice", "sleep 300", "-J", "cancelled_running")
    again = submit("alice", "sleep 8", "-J", "requeued", "--requeue", "-w", "n1")
    broken = submit("bob", "sleep 20", "-J", "node_fail", "--requeue", "-w", "n4")
    submit("alice", "sleep 1; exit $((SLURM_ARRAY_TASK_ID % 2))", "-J", "array", "--array=0-5%3")
    whole = submit("bob", "true", "-J", "array_cancelled", "--array=4-9", "--hold")
    submit(
        "alice",
        "srun --het-group=0,1 sleep 2",
        "-J",
        "het",
        "-n1",
        "--mem=100",
        ":",
        "-p",
        "gpu",
        "-n2",
        "--gres=gpu:a100:1",
    )
    submit("carol", "srun -n1 false; srun -n2 sleep 2", "-J", "step_failed", "-n2")
    submit("carol", 'srun perl -e "my \\$x=q(); vec(\\$x,200<<20,8)=1; sleep 6"', "-J", "memory", "--mem=1G")
    submit("bob", "srun sleep 2", "-J", "two_nodes", "-N2", "-n4", "-A", "physics")
    submit("alice", "sleep 2", "-J", "gpu_typed", "-p", "gpu", "--gres=gpu:a100:2", "-c", "4")
    submit("alice", "sleep 2", "-J", "gpu_untyped", "-p", "gpu", "--gpus=1")
    paused = submit("alice", "sleep 8", "-J", "suspended", "-w", "n2")
    submit("weird-user.x", "sleep 1", "-J", "two_partitions", "-p", "batch,all")
    for name in ODD_NAMES.values():
        submit("weird-user.x", "true", "-J", name)
    _until_state(slurm, running, "RUNNING")
    _until_state(slurm, again, "RUNNING")
    _until_state(slurm, broken, "RUNNING")
    _until_state(slurm, paused, "RUNNING")
    for job in ("resized", "shrinks", "suspended_cancelled"):
        _until_state(slurm, changing[job], "RUNNING")
    for job in (held, later, running, whole, changing["array_odd"], changing["het_cancelled"]):
        run("scancel", job)
    for job in (paused, changing["suspended_cancelled"]):
        run("scontrol", "suspend", job)
    run("scontrol", "requeue", again)
    run("scontrol", "update", f"jobid={changing['resized']}", "NumNodes=1")
    time.sleep(2)
    run("scontrol", "suspend", changing["resized"])
    run("scontrol", "update", "nodename=n4", "state=down", "reason=test: the node broke")
    time.sleep(2)
    run("scontrol", "update", "nodename=n4", "state=resume")
    run("scontrol", "resume", paused)
    run("scontrol", "resume", changing["resized"])
    run("scancel", changing["suspended_cancelled"])
    _until_ended(slurm, changing["requeued_after_end"])
    run("scontrol", "requeue", changing["requeued_after_end"])
    # a requeued job begins again two minutes later; nobody needs to wait for that
    requeued = (changing["requeue_exit"], changing["requeued_after_end"])
    for job in requeued:
        _until_state(slurm, job, "BeginTime", "%r")
    for job in (again, broken, *requeued):
        run("scontrol", "update", f"jobid={job}", "StartTime=now", check=False)
    if slurm.has_scrontab:
        _until_scrontab_ran(slurm, began)
        slurm.scrontab("carol", b"")


def _slurm_changing(slurm: Slurm) -> dict[str, str]:
    """Submit jobs of which something changes on the way, and give the ids of those that are to be steered."""
    submit = slurm.submit
    slurm.scrontab("carol", SCRON)
    submit("alice", "srun sleep 2", "-J", "gpus_on_two", "-p", "gpu", "-N2", "-n2", "--gres=gpu:a100:1")
    submit("bob", "srun sleep 2", "-J", "gpus_per_task", "-p", "gpu", "-n2", "--gpus-per-task=1")
    submit("carol", "sleep 2", "-J", "hidden", "-p", "hidden")
    tasks = ",".join(str(number) for number in ODD_TASKS)
    return {
        "resized": submit("alice", "srun sleep 1; sleep 25", "-J", "resized", "-N2", "-n2", "-w", "n1,n2"),
        "shrinks": submit("carol", "sleep 20", "-J", "shrinks", "--no-kill", "-N2", "-n2", "-w", "n3,n4"),
        "suspended_cancelled": submit("bob", "sleep 300", "-J", "suspended_cancelled", "-w", "n2"),
        "requeued_after_end": submit("bob", "sleep 1", "-J", "requeued_after_end", "--requeue", "-A", "physics"),
        "requeue_exit": submit(
            "carol", '[ -n "$SLURM_RESTART_COUNT" ] || exit 5', "-J", "requeue_exit", "--requeue"
        ),  # RequeueExit of slurm.conf
        "array_odd": submit("bob", "true", "-J", "array_odd", f"--array={tasks}", "--hold"),
        "het_cancelled": submit(
            "alice", "true", "-J", "het_cancelled", "--hold", "-n1", "--mem=100", ":", "-p", "gpu", "-n2"
        ),
    }  # fmt: skip


ENDING = 49 + len(ODD_TASKS)
"""How many jobs `slurm_ending` makes, each task of an array and each component of a het job as one; a scrontab's comes
to them where there is one."""


def slurm_staying(slurm: Slurm) -> None:
    """Submit jobs that stay as they are: running, pending for many reasons, held, suspended."""
    submit, run = slurm.submit, slurm.run
    long = "sleep 3600"
    paused = submit("bob", long, "-J", "suspended", "-w", "n2")
    again = submit("alice", long, "-J", "requeued", "--requeue", "-w", "n3")
    _until_state(slurm, paused, "RUNNING")
    _until_state(slurm, again, "RUNNING")
    run("scontrol", "suspend", paused)
    run("scontrol", "requeue", again)
    # by itself it would begin again in two minutes, in the middle of what is compared
    run("scontrol", "update", f"jobid={again}", "StartTime=now+1hour")
    submit("alice", long, "-J", "runs", "-n2", "-w", "n1")
    submit("bob", long, "-J", "runs_on_two", "-N2", "-n4", "-w", "n1,n2", "-A", "physics")
    submit("alice", long, "-J", "runs_gpu", "-p", "gpu", "--gres=gpu:a100:2", "-c", "4")
    submit("alice", long, "-J", "array_runs", "--array=0-9%2", "-w", "n1")
    submit("bob", long, "-J", "array_held", "--array=1-5", "--hold")
    submit("carol", long, "-J", "held", "--hold")
    submit("carol", long, "-J", "later", "--begin=now+2hours")
    first = submit("carol", long, "-J", "blocks", "--hold")
    submit("carol", long, "-J", "depends", "-d", f"afterok:{first}")
    submit("weird-user.x", long, "-J", "two_partitions", "-p", "batch,gpu", "-N2", "--exclusive", "-w", "n1,n2")
    submit("bob", long, "-J", "het_runs", "-n1", "--mem=100", ":", "-p", "gpu", "-n2")
    spread = submit("alice", long, "-J", "gpus_on_two", "-p", "gpu", "-N2", "-n2", "--gres=gpu:a100:1")
    by_task = submit("bob", long, "-J", "gpus_per_task", "-p", "gpu", "-n2", "--gpus-per-task=1")
    for job in (spread, by_task):
        _until_state(slurm, job, "RUNNING")
    submit("bob", long, "-J", "too_many_gpus", "-p", "gpu", "--gpus=a100:8", "-N2")
    submit("bob", long, "-J", "gpus_per_task_held", "-p", "gpu", "-n3", "--gpus-per-task=1", "--hold")
    submit("carol", long, "-J", "hidden", "-p", "hidden", "-n3")
    submit("bob", long, "-J", "array_odd", f"--array={','.join(str(number) for number in ODD_TASKS[:5])}", "--hold")
    submit("alice", long, "-J", "het_held", "--hold", "-n1", "--mem=100", ":", "-p", "gpu", "-n2")
    slurm.scrontab("carol", SCRON.replace(b"* * * * *", b"0 0 1 1 *"))
    resized = submit("alice", long, "-J", "resized", "-N2", "-n2", "-w", "n3,n4")
    _until_state(slurm, resized, "RUNNING")
    run("scontrol", "update", f"jobid={resized}", "NumNodes=1")
    run("scontrol", "update", "nodename=n3", "comment=CPUTot=99 State=DOWN")
    for name in ODD_NAMES.values():
        submit("weird-user.x", long, "--hold", "-J", name)


def slurm_clear(slurm: Slurm) -> None:
    """Cancel everything, and wait until the queue is empty."""
    slurm.scrontab("carol", b"")
    for user in ("alice", "bob", "carol", "weird-user.x"):
        slurm.run("scancel", f"--user={user}")
    slurm.run("scontrol", "update", "nodename=n[1-7]", "state=resume", check=False)
    slurm.run("scontrol", "update", "nodename=n3", "comment=", check=False)
    if not wait_for(lambda: not slurm.run("squeue", "-h", "-a").stdout.strip(), 90, 0.5):
        raise RuntimeError("the Slurm queue does not become empty")


def _until_state(slurm: Slurm, job: str, state: str, field: str = "%T") -> None:
    def is_so() -> bool:
        return state.encode() in slurm.run("squeue", "-h", "-o", field, "-j", job, check=False).stdout.split()

    if not wait_for(is_so, 180, 0.3):  # a slurmctld beside other work schedules late
        raise RuntimeError(f"Slurm job {job} does not become {state}")


def _until_ended(slurm: Slurm, job: str) -> None:
    """Wait until slurmctld can requeue a job that has ended."""

    def is_so() -> bool:
        return b"COMPLETED" in slurm.run("squeue", "-h", "-t", "all", "-o", "%T", "-j", job, check=False).stdout.split()

    if not wait_for(is_so, 60, 0.3):
        raise RuntimeError(f"Slurm job {job} does not complete")


def _until_scrontab_ran(slurm: Slurm, since: int) -> None:
    table = f"`{slurm.name}_job_table`"
    query = f"select 1 from {table} where job_name = 'scrontab' and time_submit >= {since} and time_end > 0"
    if not wait_for(lambda: slurm.sql(query), 150, 1.0):
        raise RuntimeError("no run of Slurm's scrontab has ended")


_SMALL = {"request_memory": "64", "request_disk": "1000", "executable": "/bin/sh", "transfer_executable": "false"}


def _shell(script: str) -> dict[str, str | bytes]:
    return {**_SMALL, "arguments": f"\"-c '{script}'\""}


def _sleep(seconds: int) -> dict[str, str | bytes]:
    return {**_SMALL, "executable": "/bin/sleep", "arguments": str(seconds)}


def htcondor_ending(pool: HTCondor) -> None:
    """Submit and steer jobs on both schedds that all leave the queue."""

    def submit(user: str, schedd: str, settings: dict[str, str | bytes], queue: str = "queue", *more: str) -> str:
        return pool.submit(user, schedd, settings, queue, *more)

    submit("alice", "A", _sleep(3))
    submit("bob", "A", _shell("exit 3"))
    submit("bob", "A", _shell("kill -9 $$"))
    idle = submit("alice", "A", {**_sleep(1), "requirements": "false"})
    running = submit("alice", "A", _sleep(600))
    # long enough to be still running when the last of those that are waited for has started
    evicted = submit("alice", "A", _sleep(30))
    held = submit("bob", "A", _sleep(30))
    submit("alice", "A", _sleep(1), "queue 10")
    submit("bob", "A", {**_sleep(1), "max_materialize": "3"}, "queue 8")
    submit("bob", "A", {**_sleep(2), "request_gpus": "1"})
    submit(
        "carol", "A", {**_sleep(2), "request_memory": "ifThenElse(MemoryUsage =!= undefined, MemoryUsage * 3 / 2, 100)"}
    )
    limited = submit("carol", "A", {**_sleep(600), "allowed_job_duration": "5"})
    submit("alice", "A", {**_SMALL, "universe": "scheduler", "executable": "/bin/sleep", "arguments": "2"})
    submit("bob", "A", {**_SMALL, "universe": "local", "executable": "/bin/sleep", "arguments": "2"})
    submit("carol", "A", {**_sleep(2), "requirements": "false", "+WantJobRouter": "True"})
    submit(
        "bob",
        "A",
        {
            **_sleep(1),
            "+x509UserProxyVOName": '"cms"',
            "accounting_group": "group_physics.atlas",
            "accounting_group_user": "bob",
        },
    )
    left = submit("carol", "A", {**_sleep(1), "leave_in_queue": "(time() - CompletionDate) < 10"})
    for name in ODD_NAMES.values():
        if b"\n" not in name:
            submit("weird-user.x", "A", {**_sleep(1), "batch_name": name})
    submit("carol", "B", _sleep(3))
    submit("bob", "B", _shell("exit 3"))
    evicted_b = submit("carol", "B", _sleep(30))
    submit("bob", "B", _sleep(1), "queue 5")
    idle_b = submit("alice", "B", {**_sleep(1), "requirements": "false"})
    for schedd, job in (("A", running), ("A", evicted), ("A", held), ("B", evicted_b)):
        _until_running(pool, schedd, job)
    time.sleep(3)
    pool.run("condor_rm", "-name", pool.schedds["A"], idle, running)
    pool.run("condor_rm", "-name", pool.schedds["B"], idle_b)
    pool.run("condor_vacate_job", "-name", pool.schedds["A"], evicted)
    pool.run("condor_vacate_job", "-name", pool.schedds["B"], evicted_b)
    pool.run("condor_hold", "-name", pool.schedds["A"], held)
    time.sleep(4)
    pool.run("condor_release", "-name", pool.schedds["A"], held)
    wait_for(lambda: _status(pool, "A", limited) == ["5"], 60, 0.5)
    pool.run("condor_rm", "-name", pool.schedds["A"], limited)
    wait_for(lambda: not _status(pool, "A", left), 60, 0.5)


def htcondor_staying(pool: HTCondor) -> None:
    """Submit jobs that stay as they are."""
    never = {"requirements": "false"}
    pool.submit("alice", "A", _sleep(3600), "queue 3")
    pool.submit("bob", "A", {**_sleep(3600), "request_gpus": "1"})
    pool.submit("weird-user.x", "A", {**_sleep(3600), "request_cpus": "4", "request_memory": "3000"})
    pool.submit("carol", "A", {**_sleep(1), **never}, "queue 7")
    pool.submit("carol", "A", {**_sleep(1), "hold": "True"}, "queue 2")
    pool.submit("alice", "A", {**_sleep(1), **never, "batch_name": ODD_NAMES["not_utf8"]})
    paused = pool.submit("carol", "A", _sleep(3600))
    pool.submit("bob", "B", _sleep(3600), "queue 2")
    pool.submit("weird-user.x", "B", {**_sleep(1), **never}, "queue 4")
    _until_running(pool, "A", paused)
    time.sleep(2)
    pool.run("condor_suspend", "-name", pool.schedds["A"], paused)
    wait_for(lambda: _status(pool, "A", paused) == ["7"], 30, 0.5)


def htcondor_short(schedd: OwnSchedd, jobs: int) -> None:
    """Submit jobs of one second, of two users, many at once: their schedd is busy for as long as they last."""
    for user, share in (("alice", jobs // 2), ("bob", jobs - jobs // 2)):
        schedd.submit(user, _sleep(1), f"queue {share}")


def htcondor_late(schedd: OwnSchedd) -> tuple[str, str]:
    """Submit two jobs that stay in the queue after they have run, and wait until they have: with -spool, and by will."""
    jobs = (
        schedd.submit("carol", _sleep(1), "queue", "-spool"),
        schedd.submit("carol", {**_sleep(1), "leave_in_queue": "JobStatus == 4 && Fetched =!= true"}),
    )
    for job in jobs:
        if not wait_for(lambda job=job: _status(schedd.pool, schedd.name, job) == ["4"], 90, 0.5):
            raise RuntimeError(f"job {job} of {schedd.name} does not end")
    return jobs


def htcondor_fetch(schedd: OwnSchedd, spooled: str, left: str) -> None:
    """Fetch what they left: only now they get their records, with the old times of their ends."""
    schedd.pool.run("condor_transfer_data", "-name", schedd.name, spooled, user="carol")
    schedd.pool.run("condor_rm", "-name", schedd.name, spooled, user="carol", check=False)  # 25.x needs no word
    schedd.pool.run("condor_qedit", "-name", schedd.name, left, "Fetched", "true", user="carol")
    for job in (spooled, left):
        if not wait_for(lambda job=job: not _status(schedd.pool, schedd.name, job), 90, 0.5):
            raise RuntimeError(f"job {job} of {schedd.name} does not leave the queue")


def htcondor_each_state(schedd: OwnSchedd) -> None:
    """Submit a running, a pending and a held job, and one that ends."""
    schedd.submit("alice", {**_sleep(1), "requirements": "false"})
    schedd.submit("bob", {**_sleep(1), "hold": "True"})
    # its worker waits no longer for a shadow that is lost with its schedd
    running = schedd.submit("alice", {**_sleep(600), "job_lease_duration": "30"})
    schedd.submit("bob", _sleep(1))
    _until_running(schedd.pool, schedd.name, running)


def htcondor_unusual(schedd: OwnSchedd) -> str:
    """Submit what holds something in another way than most, as it stays; give the job that is suspended.

    On backfill slots, on several machines at once, beside the schedd, made late, suspended, ended and left in the queue.
    """
    pool = schedd.pool
    backfill = schedd.submit("alice", {**_sleep(600), "requirements": "BackfillSlot =?= True", "+WantBackfill": "True"})
    parallel = schedd.submit("bob", {**_sleep(600), "universe": "parallel", "machine_count": "3"})
    beside = [
        schedd.submit("carol", {**_SMALL, "universe": universe, "executable": "/bin/sleep", "arguments": "600"})
        for universe in ("scheduler", "local")
    ]
    schedd.submit("alice", {**_sleep(1), "requirements": "false", "max_materialize": "2"}, "queue 9")
    paused = schedd.submit("weird-user.x", _sleep(600))
    schedd.submit("carol", {**_sleep(1), "leave_in_queue": "True"})
    for job in (backfill, parallel, *beside, paused):
        _until_running(pool, schedd.name, job)
    time.sleep(2)  # the shadow has to know its starter
    pool.run("condor_suspend", "-name", schedd.name, paused)
    if not wait_for(lambda: _status(pool, schedd.name, paused) == ["7"], 30, 0.5):
        raise RuntimeError(f"job {paused} of {schedd.name} is not suspended")
    return paused


IDLE_CONFIG = """\
STARTD3.START = TARGET.Owner =!= "carol"
GROUP_NAMES = group_none
GROUP_QUOTA_group_none = 0
GROUP_ACCEPT_SURPLUS = False
"""
"""What a pool is to have where jobs are to wait for every reason."""


def htcondor_idle(schedd: OwnSchedd) -> dict[str, str]:
    """Have machines filled and one drained, and submit jobs that wait for every reason; give each one's by a name."""
    pool = schedd.pool
    first, second, third = (f'TARGET.Machine == "{name}"' for name in pool.machines)
    usual = "TARGET.BackfillSlot =!= True"
    filling = [
        schedd.submit("weird-user.x", {**_sleep(3600), "request_cpus": "12", "requirements": f"{first} && {usual}"}),
        *(schedd.submit("weird-user.x", {**_sleep(3600), "requirements": third}) for _ in range(4)),
    ]
    for job in filling:
        _until_running(pool, schedd.name, job)
    pool.run("condor_drain", pool.machines[1])
    waiting: dict[str, dict[str, str]] = {
        "memory": {"request_memory": "600GB"},
        "cpus": {"request_cpus": "400"},
        "disk": {"request_disk": "90TB"},
        "gpus": {"request_gpus": "9"},
        "gpu property": {"request_gpus": "1", "require_gpus": "Capability >= 99"},
        "two requests": {"request_memory": "700GB", "request_cpus": "300"},
        "clause": {"requirements": "HasFoo == True"},
        "architecture": {"requirements": 'TARGET.Arch == "ppc64le"'},
        "system": {"requirements": 'TARGET.OpSys == "WINDOWS"'},
        "never": {"requirements": "false"},
        "together": {"request_cpus": "10", "requirements": second},
        "refused": {"requirements": f"{first} && TARGET.BackfillSlot =?= True"},
        "drained": {"requirements": second},
        "full": {"request_cpus": "8", "requirements": f"{first} && {usual}"},
        "full static": {"requirements": third},
        "limit": {"requirements": f"{first} && {usual}", "concurrency_limits": "nobody:3000000"},
    }
    found = {name: schedd.submit("alice", {**_sleep(3600), **each}) for name, each in waiting.items()}
    found["owner"] = schedd.submit("carol", {**_sleep(3600), "requirements": third})
    quota = {"requirements": f"{first} && {usual}", "accounting_group": "group_none", "accounting_group_user": "carol"}
    found["quota"] = schedd.submit("carol", {**_sleep(3600), **quota})
    return found


def htcondor_clear(pool: HTCondor) -> None:
    """Remove everything, and wait until both queues are empty."""
    for schedd in pool.schedds.values():
        pool.run("condor_rm", "-name", schedd, "-all", check=False)

    def empty() -> bool:
        left = [
            name
            for name in pool.schedds.values()
            if pool.run("condor_q", "-allusers", "-name", name, "-af", "ClusterId", check=False).stdout.strip()
        ]
        for name in left:  # what is removed and to be left in the queue goes only so
            pool.run("condor_rm", "-forcex", "-name", name, "-all", check=False)
        return not left

    if not wait_for(empty, 120, 1.0):
        raise RuntimeError("the HTCondor queues do not become empty")


def _status(pool: HTCondor, schedd: str, job: str) -> list[str]:
    answer = pool.run(
        "condor_q", "-allusers", "-name", pool.schedds.get(schedd, schedd), job, "-af", "JobStatus", check=False
    )
    return answer.stdout.decode().split()


def _until_running(pool: HTCondor, schedd: str, job: str) -> None:
    if not wait_for(lambda: _status(pool, schedd, job) == ["2"], 90, 0.5):
        raise RuntimeError(f"HTCondor job {job} of schedd {schedd} does not run")

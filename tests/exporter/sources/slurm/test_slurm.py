"""The Slurm source on captured answers of 22.05, 24.11 and 26.05."""

import secrets
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exporter.readings import Feed, Kind, UnknownValue
from exporter.sources import AnswerUnreadable, CommandFailed, CommandMissing, CommandTimeout, NotAllowed
from exporter.sources.slurm import Accounting, Settings, Source, Vo, accounting, diag, fair_shares
from exporter.sources.slurm.jobs import JobsParser
from history.records import Job
from history.settings import Duration
from history.vocabulary import Outcome, State, Waiting, WorkerFlag, WorkerState
from tests.replay import SLURM, commands
from tests.slurm_says import NOW, queued

JOBS, WORKERS, ACCOUNTING, SCHEDULER = (
    Feed(kind=kind) for kind in (Kind.JOBS, Kind.WORKERS, Kind.ACCOUNTING, Kind.SCHEDULER)
)


def source(folder: Path, **settings: object) -> Source:
    return Source(Settings(name="local", scheduler="slurm", commands=folder, **settings))  # type: ignore[arg-type]  # the keywords are Settings' own


@pytest.fixture(params=SLURM)
def played(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return source(commands(tmp_path / "bin", request.param))


def by_name(jobs: list[Job]) -> dict[str, Job]:
    return {job.name or "": job for job in jobs}


def test_queue(played: Source) -> None:
    reading = played.read_jobs(JOBS)
    assert reading.unknown == ()
    ids = [job.native_id for job in reading.jobs]
    assert len(ids) == len(set(ids)) > 60
    jobs = by_name(reading.jobs)
    array = [job for job in reading.jobs if job.name == "run_array"]
    assert Counter(job.state for job in array) == {State.RUNNING: 2, State.PENDING: 7, State.HELD: 1}
    assert {job.array_parent for job in array} == {array[0].native_id.partition("_")[0]}
    assert {job.waiting for job in array if job.state is State.PENDING} == {Waiting.ARRAY_LIMIT}
    assert all(job.state is State.HELD for job in reading.jobs if job.name == "held_array")
    assert sorted(int(job.native_id.partition("_")[2]) for job in reading.jobs if job.name == "stride_array") == [
        1,
        5,
        9,
        13,
        17,
        21,
        100,
    ]
    gpus = jobs["run_gpu_typed"]
    assert (gpus.runs[0].gpus, gpus.runs[0].cpus, gpus.runs[0].memory_bytes) == (2, 4, 3 << 30)
    assert gpus.details is not None and gpus.details["gpu_models"] == {"a100": 2}
    spread = jobs["run_multinode"]
    assert [place.worker for place in spread.runs[0].workers] == ["n1", "n2"]
    assert [place.cpus for place in spread.runs[0].workers] == [None, None]
    parts = [job for job in reading.jobs if job.name == "held_het"]
    assert sorted(job.native_id[-2:] for job in parts) == ["+0", "+1"] and len({job.het_parent for job in parts}) == 1
    assert jobs["dep_never"].waiting is Waiting.DEPENDENCY
    assert jobs["pend_multipart"].queue in ("batch", "gpu")
    assert jobs["pend_multipart"].details is not None and jobs["pend_multipart"].details["partitions"] == [
        "batch",
        "gpu",
    ]
    assert jobs["pend_gpus_total"].requested_gpus == 6
    assert jobs["begin_later"].requested_wall_seconds == 7 * 86400
    assert jobs["run_gpu_untyped_gres"].requested_wall_seconds is None or "UNLIMITED" not in str(jobs)


def test_names_cannot_forge_rows(played: Source) -> None:
    jobs = by_name(played.read_jobs(JOBS).jobs)
    assert "999" not in {job.native_id for job in jobs.values()}
    for name in (
        "a|b",
        'it\'s "double" `back`',
        "line1\nline2",
        "\x1b[31mred\x1b[0m",
        "N" * 1000,
        "(null)",
        " lead and trail ",
        "",
    ):
        assert jobs[name].owner == "weird-user.x", name
    assert jobs["x\n999|root|COMPLETED|0:0|"].owner == "weird-user.x"
    assert jobs["bad\\xff\\xfeutf8"].state is State.HELD
    # captured with a fixed mark, which this name holds; the mark of a real call cannot be known
    assert jobs["x@@9f3b1c7e2a@@\n999@@9f3b1c7e2a@@root@@9f3b1c7e2a@@"].owner == "weird-user.x"


def test_workers(played: Source) -> None:
    reading = played.read_workers(WORKERS)
    assert reading.unknown == ()
    workers = {worker.name: worker for worker in reading.workers}
    assert list(workers) == ["n1", "n2", "n3", "n4", "n5", "n6"]
    assert {worker.cpus for worker in workers.values()} == {16}
    assert workers["n3"].flags == (WorkerFlag.DRAINING,)
    assert workers["n3"].reason == "disk broken: see ticket #12, call bob"
    assert workers["n3"].state_since is not None
    assert workers["n4"].state is WorkerState.DOWN and (workers["n4"].reason or "").startswith("no power | PSU")
    assert workers["n5"].gpus[0].model == "a100" and workers["n5"].gpus[0].total == 4
    assert 0 <= (workers["n5"].gpus[0].allocated or 0) <= 4
    assert workers["n1"].queues == ("batch", "all")
    assert WorkerFlag.MAINTENANCE in workers["n2"].flags
    queues = {queue.name: queue for queue in reading.queues}
    assert set(queues) == {"batch", "gpu", "all"}
    assert queues["gpu"].settings["max_wall_seconds"] == 7 * 86400
    assert "max_wall_seconds" not in queues["batch"].settings and queues["batch"].settings["default"] is True


def test_accounting(played: Source) -> None:
    page = played.read_accounting(ACCOUNTING, None, NOW)
    assert page.unreadable == () and page.unknown == ()
    assert page.complete and page.watermark == str(int(NOW.timestamp()))
    jobs = by_name(page.jobs)
    assert (jobs["failed3"].outcome, jobs["failed3"].exit_code, jobs["failed3"].exit_signal) == (
        Outcome.FAILED,
        3,
        None,
    )
    assert (jobs["sigkill"].outcome, jobs["sigkill"].exit_code, jobs["sigkill"].exit_signal) == (
        Outcome.FAILED,
        None,
        9,
    )
    assert jobs["timeout"].outcome is Outcome.TIMEOUT
    assert jobs["cancelled_held"].outcome is Outcome.CANCELLED and jobs["cancelled_held"].runs == ()
    assert jobs["cancelled_held"].exit_code is None
    attempts = [job for job in page.jobs if job.name == "requeued_scontrol"]
    assert [job.native_state for job in attempts] == ["REQUEUED", "COMPLETED"]
    assert attempts[0].state is State.PENDING and attempts[0].runs[0].outcome is Outcome.CANCELLED
    whole = [job for job in page.jobs if job.name == "array_cancelled_eligible"]
    assert sorted(int(job.native_id.partition("_")[2]) for job in whole) == [4, 5, 6, 7, 8, 9]
    memory = max((run.used_memory_bytes or 0) for job in page.jobs if job.name == "mem200" for run in job.runs)
    assert 200 << 20 < memory < 400 << 20
    burn = max((run.used_cpu_seconds or 0) for job in page.jobs if job.name == "cpu_burn" for run in job.runs)
    assert 2 < burn < 12
    spread = [job for job in page.jobs if job.name == "multinode"][-1]
    assert [place.worker for place in spread.runs[0].workers] == ["n1", "n2"]
    assert "999" not in {job.native_id for job in page.jobs}
    odd = {job.name for job in page.jobs if job.owner == "weird-user.x"}
    assert {"a|b", "line1\nline2", "\x1b[31mred\x1b[0m", "N" * 255} <= odd


def test_accounting_tells_again_only_what_was_not_stored(played: Source) -> None:
    first = played.read_accounting(ACCOUNTING, None, NOW)
    again = played.read_accounting(ACCOUNTING, None, NOW)  # the first page was not stored
    assert again.jobs == first.jobs
    assert played.read_accounting(ACCOUNTING, again.watermark, NOW).jobs == []


def test_vo_is_told_from_the_account(tmp_path: Path) -> None:
    played = source(commands(tmp_path / "bin", "24.11"), vo=Vo(map={"physics": "atlas"}))
    vos = {(job.account, job.vo) for job in played.read_jobs(JOBS).jobs}
    assert ("physics", "atlas") in vos and ("bio", None) in vos


def parse(*rows: list[str], mark: str = "@m@") -> list[Job]:
    answer = "".join("".join(value + mark for value in values) + "\n" for values in rows)
    return JobsParser().parse(answer.encode(), mark)[0]


def test_states_that_no_release_has_yet_are_counted_and_named() -> None:
    mark = "@m@"
    answer = "".join(value + mark for value in queued(State="TELEPORTING")) + "\n"
    jobs, unknown = JobsParser().parse(answer.encode(), mark)
    assert jobs[0].state is State.UNKNOWN and jobs[0].native_state == "TELEPORTING"
    assert [(value.field, value.value) for value in unknown] == [("slurm_job_state", "TELEPORTING")]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"State": "PENDING", "Reason": "JobHeldAdmin"}, (State.HELD, None)),
        ({"State": "PENDING", "Reason": "job requeued in held state"}, (State.HELD, None)),
        ({"State": "SPECIAL_EXIT"}, (State.HELD, None)),
        ({"State": "PENDING", "Reason": "Resources"}, (State.PENDING, Waiting.RESOURCES)),
        ({"State": "PENDING", "Reason": "QOSMaxJobsPerUserLimit"}, (State.PENDING, Waiting.LIMIT)),
        ({"State": "PENDING", "Reason": "AssocGrpCpuLimit"}, (State.PENDING, Waiting.LIMIT)),
        ({"State": "PENDING", "Reason": "SomethingNew"}, (State.PENDING, Waiting.OTHER)),
        ({"State": "COMPLETING"}, (State.FINISHING, None)),
        ({"State": "CONFIGURING"}, (State.RUNNING, None)),
        ({"State": "SUSPENDED"}, (State.SUSPENDED, None)),
    ],
)
def test_states(changed: dict[str, str], expected: tuple[State, Waiting | None]) -> None:
    (job,) = parse(queued(**changed))
    assert (job.state, job.waiting) == expected


def test_gpus_that_tres_do_not_tell() -> None:
    (job,) = parse(queued(**{"tres-per-node": "gres:gpu:a100:2", "NumNodes": "3"}))
    assert job.requested_gpus == 6
    (job,) = parse(queued(**{"tres-per-job": "gres/gpu:4"}))
    assert job.requested_gpus == 4


def test_an_empty_queue_is_no_error_and_half_an_answer_is() -> None:
    assert parse() == []
    whole = "".join(value + "@m@" for value in queued()) + "\n"
    for half in (whole[:-1], whole + "8@m@8@m@", whole[:60]):
        with pytest.raises(AnswerUnreadable, match="middle of a row"):
            JobsParser().parse(half.encode(), "@m@")
    with pytest.raises(AnswerUnreadable, match="34 were asked for"):
        JobsParser().parse(b"1@m@2@m@\n", "@m@")
    with pytest.raises(AnswerUnreadable, match=r"SubmitTime|job 7"):
        parse(queued(SubmitTime="rubbish"))


def test_binary_rubbish_is_refused_in_one_line() -> None:
    for seed in range(20):
        with pytest.raises(AnswerUnreadable) as caught:
            JobsParser().parse(secrets.token_bytes(2000 + seed) + b".", "@m@")  # not at the end of a line
        assert "\n" not in str(caught.value)


def test_unchanged_rows_are_the_same_objects() -> None:
    parser, mark = JobsParser(), "@m@"
    answer = "".join("".join(value + mark for value in queued(JobID=str(number))) + "\n" for number in range(3))
    first, _ = parser.parse(answer.encode(), mark)
    second, _ = parser.parse(answer.encode(), mark)
    assert all(one is other for one, other in zip(first, second, strict=True))


def test_a_row_of_accounting_that_cannot_be_read_keeps_the_rest(tmp_path: Path) -> None:
    mark = "@m@"
    fields = dict.fromkeys(accounting.FIELDS, "")
    good = {
        **fields,
        "JobIDRaw": "1",
        "JobID": "1",
        "User": "alice",
        "State": "COMPLETED",
        "ExitCode": "0:0",
        "Submit": "100",
        "Start": "110",
        "End": "120",
        "NodeList": "n1",
    }
    bad = {**good, "JobIDRaw": "2", "JobID": "2", "End": "soon"}
    answer = "".join("".join(value + mark for value in each.values()) + "\n" for each in (bad, good))
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "answer").write_text(answer)
    script = folder / "sacct"
    script.write_text(
        f'#!/bin/sh\nfor a in "$@"; do case $a in --delimiter=*) m=${{a#--delimiter=}};; esac; done\nsed "s/{mark}/$m/g" {folder}/answer\n'
    )
    script.chmod(0o755)
    page = source(folder).read_accounting(ACCOUNTING, None, NOW)
    assert [job.native_id for job in page.jobs] == ["1"]
    assert len(page.unreadable) == 1 and "soon" in page.unreadable[0]


def test_a_row_that_has_not_ended_is_left_for_later() -> None:
    fields = dict.fromkeys(accounting.FIELDS, "")
    half = {
        **fields,
        "JobIDRaw": "1",
        "JobID": "1",
        "State": "COMPLETED",
        "Submit": "100",
        "Start": "110",
        "End": "Unknown",
        "ExitCode": "0:0",
    }
    assert list(accounting.jobs([half], [])) == []


def script(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return folder


def test_errors_say_what_was_read_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CommandMissing, match=r"squeue: no such command; set `commands:`"):
        source(tmp_path / "nowhere").read_jobs(JOBS)
    failing = script(
        tmp_path / "failing", "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
    )
    with pytest.raises(CommandFailed, match="squeue of cluster local: exit code 1: slurm_load_jobs error"):
        source(failing).read_jobs(JOBS)
    hanging = script(tmp_path / "hanging", "squeue", "sleep 60")
    with pytest.raises(CommandTimeout, match=r"no answer in 0\.3 s, killed"):
        source(hanging, timeout=Duration(0.3)).read_jobs(JOBS)


def test_no_jobs_and_not_allowed_to_see_them_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "monitor")
    folder = script(tmp_path / "bin", "squeue", "true")
    script(folder, "scontrol", "echo 'PrivateData             = jobs,usage'")
    script(folder, "sacctmgr", "echo None")
    with pytest.raises(NotAllowed, match="adminlevel=Operator"):
        source(folder).read_jobs(JOBS)
    script(folder, "sacctmgr", "echo Operator")
    assert source(folder).read_jobs(JOBS).jobs == []
    script(folder, "scontrol", "echo 'PrivateData             = none'")
    assert source(folder).read_jobs(JOBS).jobs == []


def test_sacct_that_did_not_tell_its_fields_is_asked_for_them_again(tmp_path: Path) -> None:
    folder = script(tmp_path / "bin", "sacct", f'echo "$*" >> {tmp_path}/asked; [ "$1" != --helpformat ]')
    local = source(folder)
    local.read_missing(ACCOUNTING, ["1"], NOW)
    script(
        folder, "sacct", f'echo "$*" >> {tmp_path}/asked; [ "$1" != --helpformat ] || echo "JobID            Restarts"'
    )
    local.read_missing(ACCOUNTING, ["1"], NOW)
    local.read_missing(ACCOUNTING, ["1"], NOW)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert ["--helpformat" in line for line in asked] == [True, False, True, False, False]
    assert [",Restarts," in line for line in asked] == [False, False, False, True, True]


class Counting(Source):
    """A source whose sacct knows a row for each minute, and counts how it is asked."""

    def __init__(self, lookback: float) -> None:
        super().__init__(Settings(name="local", scheduler="slurm", accounting=Accounting(lookback=Duration(lookback))))
        self.windows: list[tuple[int, int]] = []
        self.true_time = 1 << 40

    def _sacct(
        self, since: int, until: int, *more: str
    ) -> tuple[list[list[dict[str, str]]], list[str], list[UnknownValue]]:
        self.windows.append((since, until))
        fields = dict.fromkeys(accounting.FIELDS, "")
        answer = ""
        for end in range(since - since % 60 + 60, min(until, self.true_time) + 1, 60):
            row = {
                **fields,
                "JobIDRaw": str(end),
                "JobID": str(end),
                "User": "a",
                "State": "COMPLETED",
                "Submit": str(end - 9),
                "Start": str(end - 5),
                "End": str(end),
            }
            answer += "".join(f"{value}@m@" for value in row.values()) + "\n"
        return *accounting.rows(answer.encode(), "@m@", []), []


@pytest.mark.parametrize("lookback", [600, 7200, 6 * 3600, 24 * 3600])
@pytest.mark.parametrize("away", [0, 60, 5 * 3600, 3 * 86400])
def test_every_page_moves_the_watermark_until_now_and_skips_nothing(lookback: float, away: int) -> None:
    now = int(NOW.timestamp())
    counting = Counting(lookback)
    watermark: str | None = str(now - away)
    seen: set[str] = set()
    for _ in range(40):
        page = counting.read_accounting(ACCOUNTING, watermark, NOW)
        seen |= {job.native_id for job in page.jobs}
        assert page.complete or int(page.watermark or 0) > int(watermark or 0)
        watermark = page.watermark
        if page.complete:
            break
    assert watermark == str(now) and len(counting.windows) < 20
    assert {str(end) for end in range(now - away - (now - away) % 60 + 60, now + 1, 60)} <= seen


def test_rows_count_as_stored_only_when_their_page_was() -> None:
    counting = Counting(600)
    first = counting.read_accounting(ACCOUNTING, str(int(NOW.timestamp()) - 300), NOW)
    again = counting.read_accounting(ACCOUNTING, str(int(NOW.timestamp()) - 300), NOW)  # saving the first had failed
    assert {job.native_id for job in again.jobs} <= {job.native_id for job in first.jobs} and again.jobs
    assert counting.read_accounting(ACCOUNTING, again.watermark, NOW).jobs == []


def test_missing_jobs_are_asked_for_by_id(tmp_path: Path) -> None:
    folder = script(tmp_path / "bin", "sacct", f'echo "$@" > {tmp_path}/asked')
    page = source(folder).read_missing(ACCOUNTING, ["12", "13_4", "20+1", "20+0"], NOW)
    assert "--jobs=12,13_4,20" in (tmp_path / "asked").read_text()
    assert (page.jobs, page.watermark) == ([], None)


@pytest.mark.parametrize("ahead", [1, 3600, 400 * 86400])
def test_a_clock_that_was_ahead_and_is_set_back_loses_nothing(ahead: int) -> None:
    """What was read under the wrong time ended by the true one; reading goes on from there."""
    now = int(NOW.timestamp())
    counting = Counting(7200)
    counting.true_time = now
    wrong = NOW + timedelta(seconds=ahead)
    watermark = counting.read_accounting(ACCOUNTING, str(now - 60), wrong).watermark
    assert watermark == str(now + ahead) or int(watermark or 0) > now
    counting.windows.clear()
    page = counting.read_accounting(ACCOUNTING, watermark, NOW)
    assert page.watermark == str(now) and page.complete
    ((since, until),) = counting.windows
    assert since <= now - 7200 and until == now
    later = NOW + timedelta(minutes=5)
    counting.true_time = now + 300
    seen = {job.native_id for job in counting.read_accounting(ACCOUNTING, page.watermark, later).jobs}
    assert {str(end) for end in range(now - now % 60 + 60, now + 300, 60)} <= seen


def test_times_do_not_depend_on_a_time_zone_or_on_a_night_of_clock_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's commands are asked for epochs, also where the daemon's own zone has an hour twice."""
    folder = commands(tmp_path / "bin", "24.11")
    answers = []
    for zone in ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        answers.append(source(folder).read_accounting(ACCOUNTING, None, NOW).jobs)
    monkeypatch.delenv("TZ")
    time.tzset()
    assert answers[0] and all(answer == answers[0] for answer in answers)
    asked = script(tmp_path / "asking", "sacct", f'echo "$SLURM_TIME_FORMAT $@" > {tmp_path}/asked')
    night = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, the first of the two
    source(asked).read_window(ACCOUNTING, night, night + timedelta(hours=1), timedelta())
    seconds = int(night.timestamp())
    assert "%s " in (tmp_path / "asked").read_text()
    assert f"--starttime=uts{seconds} --endtime=uts{seconds + 3600}" in (tmp_path / "asked").read_text()


def test_the_scheduler_tells_of_itself(played: Source) -> None:
    reading = played.read_scheduler(SCHEDULER)
    assert reading.threads is not None and reading.threads >= 1
    assert reading.queue_lengths == {"agent": 0, "dbd_agent": 0}
    assert 0 < reading.cycle_seconds["main"] < 1 and 0 < reading.cycle_mean_seconds["main"] < 1
    assert reading.call_seconds.keys() == reading.calls_answered.keys() and len(reading.call_seconds) > 3
    assert all(count > 0 for count in reading.calls_answered.values())
    assert all(ended > 1.7e9 for ended in reading.cycle_ended.values())


def test_what_is_no_answer_of_sdiag_is_refused() -> None:
    with pytest.raises(AnswerUnreadable, match="no thread count"):
        diag.reading(b"slurm_load_ctl_conf error: nothing", NOW)


FAIR_SHARES = b"root|0.500000|\n root|1.000000|root\n bio|0.250000|\n  bio|1.000000|bob\n physics|inf|\n"
"""Of 24.11 with PriorityFlags=NO_FAIR_TREE; without, accounts have none."""


def test_fair_shares_are_those_of_accounts() -> None:
    assert fair_shares.fair_shares(FAIR_SHARES) == {"root": 0.5, "bio": 0.25}
    assert fair_shares.fair_shares(b"root||\n bio||\n  bio|1.000000|monitor\n") == {}
    with pytest.raises(AnswerUnreadable, match="sshare"):
        fair_shares.fair_shares(b"Slurm accounting storage is disabled\n")


def test_fair_shares_are_read_where_they_are_wanted(tmp_path: Path) -> None:
    folder = commands(tmp_path, "24.11")
    (tmp_path / "said").write_bytes(FAIR_SHARES)
    script(folder, "sshare", f"exec cat {tmp_path}/said")
    plain, wanted = (source(folder, fair_shares=want).read_scheduler(SCHEDULER) for want in (False, True))
    assert plain.fair_shares == {} and plain.calls == 1
    assert wanted.fair_shares == {"root": 0.5, "bio": 0.25} and wanted.calls == 2

"""bbq-exporter as its users run it: the command, its pages, its exit codes, and Debian's Prometheus at the other end."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from sqlalchemy import URL, inspect, select, text

from exporter.cli import command
from exporter.config import load
from exporter.daemon import Exporter
from exporter.recorder import Recorder
from history.db import schema
from history.db.database import open_database, parse_url
from history.db.upgrade import upgrade
from tests.clusters.chroot import wait_for
from tests.conftest import Process, free_port, missing
from tests.replay import commands

ADDRESS = f"127.0.0.1:{free_port()}"
DEMO = ("--demo", "--demo-scale", "0.005", "--web.listen-address", ADDRESS)


def serving() -> bool:
    try:
        return requests.get(f"http://{ADDRESS}/-/ready", timeout=1).status_code == 200
    except requests.RequestException:
        return False


def test_the_demo_serves_remembers_and_stops(exporter: Callable[..., Process], database: URL) -> None:
    url = database.render_as_string(hide_password=False)
    process = exporter(*DEMO, "--database", url)
    assert wait_for(serving, 30), process.text()
    page = requests.get(f"http://{ADDRESS}/metrics").text
    assert 'bbq_jobs{account="' in page and "bbq_build_info" in page and "bbq_history_up 1.0" in page
    assert re.search(r"grid: [\d,]+ pending, [\d,]+ running", process.text()) or wait_for(
        lambda: "pending" in process.text(), 15
    )

    def stored() -> int:
        engine = open_database(database, readonly=True)
        with engine.connect() as connection:
            count = len(connection.execute(select(schema.jobs.c.native_id)).all())
        engine.dispose()
        return count

    assert wait_for(lambda: stored() > 800, 30), process.text()
    assert process.stop(signal.SIGTERM) == 0
    assert "msg=stopping" in process.text() and "Traceback" not in process.text()


def test_once_prints_the_metrics(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        command, ["--demo", "--demo-scale", "0.002", "--once", "--database", str(tmp_path / "h.db")]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("# HELP bbq_jobs ")


def test_polls_that_hang_leave_time_for_what_is_being_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hanging cluster was waited for by itself, until there was no time left to store a reading."""
    monkeypatch.setattr("exporter.daemon.POLLERS_SECONDS", 0.3)
    monkeypatch.setattr("exporter.daemon.STOP_SECONDS", 60.0)
    left: list[float] = []
    stop = Recorder.stop
    monkeypatch.setattr(Recorder, "stop", lambda self, timeout: left.append(timeout) or stop(self, 1.0))
    waited: list[float] = []
    monkeypatch.setattr(
        "exporter.poller.ClusterPoller.join", lambda _, timeout: waited.append(timeout) or time.sleep(timeout)
    )
    clusters = "".join(f"- {{name: c{number}, scheduler: demo, scale: 0.002}}\n" for number in range(9))
    config = load(Path(configuration(tmp_path, clusters)))
    over = threading.Event()
    over.set()
    Exporter(config, parse_url(f"{tmp_path}/h.db"), tmp_path / "spool").run(over)
    assert len(waited) == 9 and sum(waited) <= 0.3 and left[0] > 30


def test_signals_in_bursts_end_it_and_a_hangup_does_not(exporter: Callable[..., Process], tmp_path: Path) -> None:
    """A second signal could find the lock taken that the first one wanted; SIGHUP ended it."""
    for _ in range(3):
        process = exporter(*DEMO, "--database", str(tmp_path / "h.db"))
        assert wait_for(serving, 60), process.text()
        for _ in range(300):
            process.process.send_signal(signal.SIGHUP)
        assert serving() and process.process.poll() is None
        for _ in range(100):
            with contextlib.suppress(ProcessLookupError):
                process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(60) == 0, process.text()[-2000:]
        assert "Traceback" not in process.text()


def configuration(tmp_path: Path, *clusters: str) -> str:
    path = tmp_path / "bbq.yaml"
    path.write_text(f"history: {{database: {tmp_path}/history.db}}\nclusters:\n" + "".join(clusters))
    return str(path)


def test_check_tries_every_source_and_says_what_failed(tmp_path: Path) -> None:
    good = f"  - {{name: good, scheduler: slurm, commands: {commands(tmp_path / 'bin', '24.11')}}}\n"
    path = configuration(tmp_path, good)
    done = CliRunner().invoke(command, ["--config.file", path, "--check"])
    assert done.exit_code == 0, done.output
    assert re.search(r"ok good +jobs +[\d.]+ +\d+ jobs", done.output)
    assert re.search(r"ok good +workers +[\d.]+ +6 workers, 3 queues", done.output)
    path = configuration(tmp_path, good, "  - {name: bad, scheduler: slurm, commands: /nowhere}\n")
    done = CliRunner().invoke(command, ["--config.file", path, "--check"])
    assert done.exit_code == 1
    assert "!! bad" in done.output and "/nowhere/scontrol: no such command; set `commands:`" in done.output
    assert "ok good" in done.output


def checked(path: str, *more: str) -> tuple[int, dict[str, str]]:
    """Return the exit code of --check, and the lines of the database and the spool."""
    done = CliRunner().invoke(command, ["--config.file", path, "--check", *more])
    lines = (line.split(None, 3) for line in done.output.splitlines())
    return done.exit_code, {words[1]: f"{words[0]} {words[3]}" for words in lines if words[1:2] and len(words) == 4}


def test_check_does_to_the_database_and_the_spool_what_the_daemon_will_and_leaves_nothing(tmp_path: Path) -> None:
    """It was fine with a database of a newer release, and with one and a spool that it could not write."""
    demo = "  - {name: c, scheduler: demo, scale: 0.002}\n"
    path = configuration(tmp_path, demo)
    code, lines = checked(path)
    assert code == 0 and lines["history"].startswith("ok ") and "not there yet" in lines["history"]
    assert lines["spool"] == f"ok {tmp_path}/spool: not there yet; bbq-exporter makes it"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bbq.yaml"]
    url = parse_url(f"{tmp_path}/history.db")
    engine = open_database(url)
    with engine.connect():
        pass
    assert checked(path)[1]["history"].endswith(": empty; bbq-exporter makes its tables")
    upgrade(engine)
    before = sorted(inspect(engine).get_table_names())
    code, lines = checked(path)
    assert code == 0 and lines["history"] == f"ok sqlite:///{tmp_path}/history.db"
    assert sorted(inspect(engine).get_table_names()) == before
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    code, lines = checked(path)
    assert code == 1 and lines["history"].startswith("!! ") and "9999 is newer than this BBQ" in lines["history"]
    engine.dispose()
    (tmp_path / "spool").write_text("no folder")
    assert "no folder that this user may write" in checked(path)[1]["spool"]
    (tmp_path / "history.db").write_bytes(b"this is no database" * 100)
    code, lines = checked(path)
    assert code == 1 and "file is not a database" in lines["history"]


def test_the_spool_is_beside_the_file_of_the_history(tmp_path: Path) -> None:
    for database, folder in (("history.db", "spool"), ("other.db", "other-spool")):
        place = tmp_path / database.partition(".")[0]
        place.mkdir()
        path = configuration(tmp_path, "  - {name: c, scheduler: demo, scale: 0.002}\n")
        _, lines = checked(path, "--database", f"{place}/{database}")
        assert lines["spool"] == f"ok {place}/{folder}: not there yet; bbq-exporter makes it"


def test_one_dead_cluster_leaves_the_others_alone(tmp_path: Path) -> None:
    path = configuration(
        tmp_path,
        "  - {name: bad, scheduler: slurm, commands: /nowhere}\n",
        f"  - {{name: good, scheduler: slurm, commands: {commands(tmp_path / 'bin', '24.11')}}}\n",
    )
    done = CliRunner().invoke(command, ["--config.file", path, "--once"])
    assert done.exit_code == 1
    assert 'bbq_source_up{cluster="bad",source="workers"} 0.0' in done.stdout
    assert 'bbq_source_up{cluster="good",source="jobs"} 1.0' in done.stdout
    assert 'bbq_jobs{account="physics",cluster="good"' in done.stdout


def test_without_a_configuration_schedulers_are_found_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{commands(tmp_path / 'bin', '24.11')}:/usr/bin:/bin")
    done = CliRunner().invoke(command, ["--once", "--database", str(tmp_path / "h.db")])
    assert done.exit_code == 0, done.output
    assert 'cluster="slurm2411"' in done.stdout
    monkeypatch.setenv("PATH", "/nonexistent")
    done = CliRunner().invoke(command, ["--once"])
    assert done.exit_code == 1
    assert (
        "no scheduler found: neither squeue nor condor_status is on PATH; name the clusters with --config.file, or try --demo"
        in done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--config.file", "/nowhere.yaml"], 1, "Error: /nowhere.yaml: no such file"),
        (["--demo", "--database", "mysql://x/y"], 1, "only sqlite and postgresql are supported"),
        (["--demo", "--database", "/proc/nowhere/h.db"], 1, "choose another place with --database"),
        (["--demo", "--web.listen-address", "nonsense"], 1, "is no listen address"),
        (["--demo", "--web.telemetry-path", "metrics", "--once"], 1, "a path starts with /"),
        (["--no-such-flag"], 2, "No such option"),
        (["--demo-scale", "7"], 2, "not in the range"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], code: int, error: str) -> None:
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == code, done.output
    assert error in done.stderr and "Traceback" not in done.output
    if code == 1:
        assert len([line for line in done.stderr.splitlines() if line.startswith("Error")]) == 1


@pytest.mark.postgres
def test_a_database_that_is_away_or_refuses_does_not_stop_the_gauges(tmp_path: Path, postgres_server: URL) -> None:
    for url, said in (
        ("postgresql://bbq@127.0.0.1:1/none", "refused"),
        (postgres_server.set(username="nobody_knows_me").render_as_string(), "nobody_knows_me"),
    ):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from exporter.cli import main; main()",
                "--demo",
                "--demo-scale",
                "0.002",
                "--once",
                "--database",
                url,
            ],
            capture_output=True,
            text=True,
        )
        assert "bbq_history_up 0.0" in done.stdout, done.stderr
        assert "bbq_jobs{" in done.stdout
        assert said in done.stderr and "Traceback" not in done.stderr


def test_a_password_is_read_from_its_file_and_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2-very-secret\n")
    path = tmp_path / "bbq.yaml"
    path.write_text(
        f"history: {{database: 'postgresql://bbq@127.0.0.1:1/none', password_file: {secret}}}\n"
        "clusters: [{name: c, scheduler: demo, scale: 0.002}]\n"
    )
    for flag in ("--check", "--once"):
        done = CliRunner().invoke(command, ["--config.file", str(path), flag])
        assert "hunter2" not in done.output + done.stderr
    secret.unlink()
    done = CliRunner().invoke(command, ["--config.file", str(path), "--check"])
    assert done.exit_code == 1 and f"password file {secret}" in done.stderr


@pytest.mark.promtool
def test_debians_prometheus_scrapes_it(exporter: Callable[..., Process], tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        missing("no Prometheus: apt-get install prometheus")
    port = free_port()
    process = exporter(*DEMO, "--database", str(tmp_path / "h.db"))
    assert wait_for(serving, 30), process.text()
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: bbq\n  honor_labels: true\n"
        f"  static_configs: [{{targets: ['{ADDRESS}']}}]\n"
    )
    with (tmp_path / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )

    def ask(query: str) -> list[dict[str, object]]:
        try:
            answer = requests.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query}, timeout=2)
            found: list[dict[str, object]] = answer.json()["data"]["result"]
            return found
        except (requests.RequestException, ValueError):
            return []

    try:
        assert wait_for(lambda: bool(ask('up{job="bbq"} == 1')), 30, 0.5), (tmp_path / "prometheus.log").read_text()
        assert wait_for(lambda: len(ask("sum by (cluster) (bbq_jobs)")) == 2, 20, 0.5)
        assert ask("count({__name__=~'bbq_.*'})")
    finally:
        server.terminate()
        server.wait(20)


def test_the_demo_never_writes_into_the_history_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BBQ_DATABASE", str(tmp_path / "production.db"))
    done = CliRunner().invoke(command, ["--demo", "--demo-scale", "0.002", "--once"])
    assert done.exit_code == 0 and not (tmp_path / "production.db").exists()
    path = configuration(tmp_path, "  - {name: c, scheduler: demo, scale: 0.002}\n")
    assert CliRunner().invoke(command, ["--config.file", path, "--once"]).exit_code == 0
    assert (tmp_path / "history.db").exists() and not (tmp_path / "production.db").exists()


def test_logs_are_logfmt_or_json(tmp_path: Path) -> None:
    path = configuration(tmp_path, "  - {name: bad, scheduler: slurm, commands: /nowhere}\n")
    run = [sys.executable, "-c", "from exporter.cli import main; main()", "--config.file", path, "--once"]
    plain = subprocess.run(run, capture_output=True, text=True).stderr
    assert (
        'level=warning msg="cluster cannot be asked what it has" cluster=bad error="/nowhere/scontrol: no such command'
        in plain
    )
    lines = subprocess.run([*run, "--log.format", "json"], capture_output=True, text=True).stderr.splitlines()
    assert any(json.loads(line)["cluster"] == "bad" for line in lines)


def test_help_is_quick_and_says_what_there_is() -> None:
    began = time.monotonic()
    done = CliRunner().invoke(command, ["--help"])
    assert done.exit_code == 0 and time.monotonic() - began < 5
    for flag in (
        "--config.file",
        "--web.listen-address",
        "--check",
        "--once",
        "--demo",
        "--demo-scale",
        "--log.format",
    ):
        assert flag in done.output

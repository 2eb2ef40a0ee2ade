"""Running a scheduler's command: bounded in time and output, nothing of it left behind."""

import os
import time
from pathlib import Path

import pytest

from exporter.sources import AnswerUnreadable, CommandFailed, CommandMissing, CommandTimeout, command


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "command"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_output_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    monkeypatch.setenv("TZ", "Europe/Paris")
    said = command.run(
        [script(tmp_path, "env; cat")], timeout=5, stdin=b"x" * 300_000, environment={"SLURM_TIME_FORMAT": "%s"}
    )
    assert said.endswith(b"x" * 300_000)
    lines = said.splitlines()
    assert b"TZ=UTC" in lines and b"SLURM_TIME_FORMAT=%s" in lines
    assert not any(line.startswith(b"SQUEUE_FORMAT") for line in lines)


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(CommandTimeout, match=r"no answer in 0\.5 s, killed"):
        command.run([script(tmp_path, f"sleep 60 & echo $! > {pid_file}; wait")], timeout=0.5)
    assert time.monotonic() - began < 5
    child = int(pid_file.read_text())
    time.sleep(0.2)
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text()


def test_a_command_that_closes_its_output_and_hangs_is_killed_too(tmp_path: Path) -> None:
    with pytest.raises(CommandTimeout):
        command.run([script(tmp_path, "exec >&- 2>&-; sleep 60")], timeout=0.5)


def test_too_much_output_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MAX_OUTPUT_BYTES", 100_000)
    with pytest.raises(AnswerUnreadable, match="more than 100000 bytes"):
        command.run([script(tmp_path, "yes")], timeout=10)


def test_failures_carry_what_was_said(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"exit code 3: a b") as caught:
        command.run([script(tmp_path, "echo out; printf 'a\\n b\\n' >&2; exit 3")], timeout=5)
    assert caught.value.output == b"out\n"


def test_a_command_that_is_not_there_or_may_not_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(tmp_path, "true")
    assert command.find("command", tmp_path) == path
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.find("command", None) == path
    with pytest.raises(CommandMissing, match="not found on PATH"):
        command.find("no-such-command", None)
    path.chmod(0o644)
    with pytest.raises(CommandMissing):
        command.find("command", tmp_path)
    with pytest.raises(CommandMissing, match="check that it is there"):
        command.run([tmp_path / "nowhere"], timeout=1)
    assert os.environ["PATH"] == str(tmp_path)

"""The one place that starts processes: absolute time limit, bounded output, scrubbed environment, no shell."""

import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.sources import AnswerUnreadable, CommandFailed, CommandMissing, CommandTimeout

MAX_OUTPUT_BYTES = 2 << 30
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SLURM_CONF", "CONDOR_CONFIG", "LD_LIBRARY_PATH")
"""What a command inherits; anything else (SLURM_TIME_FORMAT, SQUEUE_FORMAT, LANG) could change its answer."""


def find(name: str, folder: Path | None) -> Path:
    """Return the full path of a scheduler's command.

    Raises:
        CommandMissing: naming where it was looked for.
    """
    if folder is not None:
        path = folder / name
        if path.is_file() and os.access(path, os.X_OK):
            return path
        raise CommandMissing(f"{path}: no such command; set `commands:` to the folder that has {name}")
    found = shutil.which(name)
    if found is None:
        raise CommandMissing(f"{name}: not found on PATH; install it, or set `commands:` to the folder that has it")
    return Path(found)


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    shown: str | None = None,
) -> bytes:
    """Run a command to its end and give its standard output.

    Args:
        timeout: seconds after which the command and all its children are killed.
        environment: added to the few variables a command inherits.
        shown: how the command is named in errors; its arguments otherwise.

    Raises:
        CommandMissing, CommandFailed, CommandTimeout, AnswerUnreadable (too much output).
    """
    name = shown or " ".join(str(word) for word in argv)
    inherited = {key: os.environ[key] for key in _KEPT if key in os.environ}
    try:
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**inherited, "LC_ALL": "C.UTF-8", "TZ": "UTC", **(environment or {})},
            process_group=0,
        )
    except OSError as error:
        raise CommandMissing(f"{argv[0]}: {error.strerror}; check that it is there and may be run") from error
    chunks: dict[str, list[bytes]] = {"out": [], "err": []}
    with process:
        try:
            _collect(process, stdin, time.monotonic() + timeout, chunks)
        except TimeoutError:
            message = f"{name}: no answer in {timeout:g} s, killed; is the scheduler overloaded?"
            raise CommandTimeout(message, b"".join(chunks["out"])) from None
        except OverflowError:
            raise AnswerUnreadable(f"{name}: more than {MAX_OUTPUT_BYTES} bytes of output, killed") from None
        finally:
            _kill(process)
    output, errors = b"".join(chunks["out"]), b"".join(chunks["err"])
    if process.returncode != 0:
        message = (
            " ".join(errors.decode("utf-8", "backslashreplace").replace("\0", "\\x00").split())[-500:]
            or "nothing on stderr"
        )
        raise CommandFailed(f"{name}: exit code {process.returncode}: {message}", output)
    return output


def _collect(process: subprocess.Popen[bytes], stdin: bytes, deadline: float, chunks: dict[str, list[bytes]]) -> None:
    """Feed a process and read it until it has closed its output and ended."""
    assert process.stdin and process.stdout and process.stderr
    total = 0
    left = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, "out")
        selector.register(process.stderr, selectors.EVENT_READ, "err")
        if left:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE, "in")
        else:
            process.stdin.close()
        while selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                if key.data == "in":
                    try:
                        left = left[os.write(key.fd, left[:65536]) :]
                    except BrokenPipeError:
                        left = left[:0]
                    if not left:
                        selector.unregister(key.fileobj)
                        process.stdin.close()
                    continue
                chunk = os.read(key.fd, 1 << 20)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                chunks[key.data].append(chunk)
                total += len(chunk)
                if total > MAX_OUTPUT_BYTES:
                    raise OverflowError
            if time.monotonic() >= deadline:
                raise TimeoutError
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Make sure that nothing of the command is left, its own children included."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()

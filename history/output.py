"""What commands do with their output: no name of a job moves a terminal, and no end is a traceback."""

import json
import os
import re
import sys
from collections.abc import Callable

import click

_ODD = re.compile(r"[^\n\x20-\x7e]")
"""What may not be printable: answers are long, and nearly all of them is."""


def put(text: str, *, ours: bool = False) -> None:
    """Write a part of an answer to stdout, as it is; a terminal gets what it does not print as escapes.

    Args:
        ours: whether nothing in it is somebody else's that has not been escaped.

    Raises:
        click.ClickException: it cannot be written.
    """
    stream = sys.stdout
    if stream is None:
        raise click.ClickException("the answer cannot be written: stdout is closed")
    try:
        stream.write(_shown(text, _escaped) if stream.isatty() and not ours else text)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        raise click.ClickException(f"the answer cannot be written: {_said(error)}") from error


def put_json(text: str) -> None:
    """Write a part of a JSON answer to stdout: on a terminal with JSON's own escapes. Raises click.ClickException."""
    put(_shown(text, lambda char: json.dumps(char)[1:-1]))


def _shown(text: str, escape: Callable[[str], str]) -> str:
    """Return a text with what no terminal prints escaped, line ends aside."""
    return _ODD.sub(lambda found: found[0] if found[0].isprintable() else escape(found[0]), text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _said(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def run(command: Callable[[], object]) -> None:
    """Run a command to its end: `… | head` ends it quietly, and output that cannot be written with one line."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            # of a name that this locale cannot write, the rest is still worth having
            stream.reconfigure(errors="backslashreplace")
    code: object = 0
    try:
        command()
    except SystemExit as ended:
        code = ended.code
    except BrokenPipeError:
        code = _broken()
    except OSError as error:
        _tell(error)
        code = 1
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        code = _broken()
    except OSError as error:
        if not code:
            _tell(error)
        code = _broken()
    sys.exit(code if isinstance(code, int | str) else 0 if code is None else 1)


def _tell(error: OSError) -> None:
    where = "" if error.filename is None else f"{error.filename}: "
    click.echo(f"Error: {where}{_said(error)}", err=True)


def _broken() -> int:
    """Let nothing more be written to stdout. Return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1

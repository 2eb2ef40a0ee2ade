"""Captured answers of real schedulers, played by commands of the same names: real bytes through the real path.

Run as a command (`replay.py VERSION squeue --noheader …`) it answers as that version did, with the fields and the
mark that are asked for.
"""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("data")
SLURM = ("22.05", "24.11", "26.05")
HTCONDOR = ("23.9", "25.14")
CAPTURED_MARK = b"@@9f3b1c7e2a@@"


def captured(scheduler: str, version: str, name: str) -> bytes:
    """Return a captured answer as it was."""
    return gzip.decompress((DATA / scheduler / version / f"{name}.gz").read_bytes())


def commands(folder: Path, version: str) -> Path:
    """Make a folder of Slurm commands that answer as a version did."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("squeue", "sacct", "scontrol", "sdiag", "sshare", "sacctmgr"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} {version} {name} "$@"\n')
        script.chmod(0o755)
    return folder


def captured_rows(version: str, name: str) -> list[dict[str, bytes]]:
    """Return a captured table's rows by field. One name forges the mark it was captured with."""
    fields = (DATA / "slurm" / f"{name}.fields").read_text().split()
    rows: list[list[bytes]] = []
    for line in captured("slurm", version, name).split(CAPTURED_MARK + b"\n")[:-1]:
        values = line.split(CAPTURED_MARK)
        if len(values) == len(fields):
            rows.append(values)
        else:  # the rest of a name that forges the mark: it is the last field
            rows[-1][-1] += CAPTURED_MARK + b"\n" + line
    return [dict(zip(fields, values, strict=True)) for values in rows]


def _rows(version: str, name: str, wanted: list[str], mark: bytes) -> bytes:
    """Return a captured table with other fields and another mark."""
    return b"".join(
        b"".join(row.get(field, b"N/A") + mark for field in wanted) + b"\n" for row in captured_rows(version, name)
    )


def _answer(version: str, command: str, arguments: list[str]) -> bytes:
    if command == "squeue":
        asked = [field.split(":", 1) for field in arguments[-1].split(",")]
        return _rows(version, "squeue", [field for field, _ in asked], asked[0][1].encode())
    if command == "sdiag":
        return captured("slurm", version, "diag")
    if command == "sacct":
        options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
        return _rows(version, "sacct", options["--format"].split(","), options["--delimiter"].encode())
    if command == "sshare" and "--all" in arguments:
        return captured("slurm", version, "sshare")
    what = next((name for name in _SHOWN if command == "scontrol" and name in arguments), None)
    if what is None:
        sys.exit(f"{command}: nothing was captured of that")
    return captured("slurm", version, _SHOWN[what])


_SHOWN = {
    "node": "nodes", "partition": "partitions", "config": "config", "assoc_mgr": "assoc_mgr",
    "reservation": "reservations", "licenses": "licenses",
}  # fmt: skip
"""What scontrol shows, and the names of its captures."""


def pool(version: str) -> Callable[[list[dict[str, Any]]], list[list[bytes]]]:
    """Return what answers an HTCondor source's questions from the captures of a version."""

    def ask(questions: list[dict[str, Any]]) -> list[list[bytes]]:
        return [_ads(version, question) for question in questions]

    return ask


def _ads(version: str, question: dict[str, Any]) -> list[bytes]:
    what = question["what"]
    if what in ("machines", "negotiators", "accounting") or (what == "schedds" and "Machine" in question["attributes"]):
        name = what
    elif what in ("schedds", "collectors") and "CondorVersion" not in question["attributes"]:
        name = f"{what}_busy"
    elif what == "collectors":
        return [json.dumps([f"$CondorVersion: {version} 2026-07-12 $"]).encode()]
    else:
        letter = str(question["schedd"])[len("schedd")].upper()
        name = f"{'queue' if what == 'jobs' else what}_{letter}"
    ads = [json.loads(line) for line in captured("htcondor", version, name).splitlines() if line]
    if what in ("history", "epochs"):
        return history_answer(ads[::-1], question)
    return [_row(ad, question) for ad in ads]


def history_answer(
    ads: list[dict[str, Any]], question: dict[str, Any], most: int | None = None, in_time: int | None = None
) -> list[bytes]:
    """Answer a question about a history file as a schedd's helper does: from its end back to where it may stop.

    Args:
        ads: the file's records in its order, the oldest first.
        most: how many records it looks at (HISTORY_HELPER_MAX_HISTORY), without a word about the rest.
        in_time: how many it can look at before the time is up, which is a TimeoutError.
    """
    import classad2

    since = classad2.ExprTree(question["since"]) if question.get("since") else None
    constraint = classad2.ExprTree(question.get("constraint") or "true")
    match = question.get("match", -1)
    found: list[bytes] = []
    for looked_at, ad in enumerate(ads[::-1][:most]):
        if in_time is not None and looked_at >= in_time:
            raise TimeoutError
        said = classad2.ClassAd({key: value for key, value in ad.items() if value is not None})
        if since is not None and since.eval(said) is True:
            break
        if constraint.eval(said) is True:
            found.append(_row(ad, question))
        if len(found) == match:
            break
    return found[::-1]


def _row(ad: dict[str, Any], question: dict[str, Any]) -> bytes:
    return json.dumps([ad.get(attribute) for attribute in question["attributes"]]).encode()


if __name__ == "__main__":
    sys.stdout.buffer.write(_answer(sys.argv[1], sys.argv[2], sys.argv[3:]))

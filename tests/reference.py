"""Writes `docs/reference/` from the commands' own help, and from the tables: `python -m tests.reference`."""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import msgspec
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

from exporter.cli import command as bbq_exporter
from history.admin.cli import command as bbq_history
from history.cli import command as bbq
from history.db import schema
from history.records import Job, Run, RunWorker, Unmade, Worker
from history.rollups.definitions import DAILY, MONTHLY_USAGE

_WIDE = {"max_content_width": 100, "terminal_width": 100}
FOLDER = Path(__file__).parent.parent / "docs/reference"


def pages() -> Iterator[tuple[str, str]]:
    """Yield each page's file name and text: one a command, as it is with lines of 100 characters."""
    yield "tables.md", tables()
    for name, top in (("bbq", bbq), ("bbq-exporter", bbq_exporter), ("bbq-history", bbq_history)):
        context = click.Context(top, info_name=name, **_WIDE, **top.context_settings)
        yield f"{name}.md", _page(name, top, context)
        if not isinstance(top, click.Group):
            continue
        for word in top.list_commands(context):
            command = top.get_command(context, word)
            assert command is not None
            inner = click.Context(command, info_name=word, parent=context, **_WIDE, **command.context_settings)
            yield f"{name}-{word}.md", _page(f"{name} {word}", command, inner)


RECORDS: dict[str, type[msgspec.Struct]] = {
    "jobs": Job, "runs": Run, "run_workers": RunWorker, "worker_states": Worker, "late_submissions": Unmade,
    **{daily.name: daily.measures for daily in (*DAILY, MONTHLY_USAGE)},
}  # fmt: skip
"""What the rows of a table are: its fields tell what columns of their names mean."""


def tables() -> str:
    """Return the page of the history's tables: each column with its types, and what it means where its name does not say."""
    parts = [
        '# The tables of the history\n\nThe same on SQLite and PostgreSQL, for your own SQL. Null is "not said", never 0; '
        "sizes are bytes, times of day UTC. Columns in bold are the key."
    ]
    for table in schema.metadata.sorted_tables:
        lines = [
            f"## {table.name}",
            "",
            table.info["doc"],
            "",
            "| column | PostgreSQL | SQLite | |",
            "|---|---|---|---|",
        ]
        said = _said(RECORDS[table.name]) if table.name in RECORDS else {}
        lines += [_column(table, column.name, said.get(column.name)) for column in table.columns]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _column(table: Table, name: str, said: str | None) -> str:
    column = table.columns[name]
    types = [
        str(column.type.compile(dialect=dialect)).removesuffix(' COLLATE "C"').lower()
        for dialect in (postgresql.dialect(), sqlite.dialect())
    ]
    meaning = (column.doc or said or "").replace("|", "\\|")
    return f"| {f'**{name}**' if column.primary_key else name} | {' | '.join(types)} | {meaning} |"


def _said(record: type[msgspec.Struct]) -> dict[str, str]:
    """Read what is written below the fields of a record."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(record)).body if isinstance(node, ast.ClassDef))
    found = {}
    for field, below in pairwise(body):
        documented = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and documented:
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def _page(title: str, command: click.Command, context: click.Context) -> str:
    help_ = "\n".join(f"    {line}".rstrip() for line in command.get_help(context).splitlines())
    return f"# {title}\n\n{help_}\n"


def main() -> None:
    """Write them, and take away what is of no command any more."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    fresh = dict(pages())
    for old in FOLDER.glob("*.md"):
        if old.name not in fresh:
            old.unlink()
    for name, text in fresh.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()

"""Writes `docs/reference/` from the commands' own help: `python -m tests.reference`."""

from collections.abc import Iterator
from pathlib import Path

import click

from exporter.cli import command as bbq_exporter
from history.admin.cli import command as bbq_history
from history.cli import command as bbq

_WIDE = {"max_content_width": 100, "terminal_width": 100}
FOLDER = Path(__file__).parent.parent / "docs/reference"


def pages() -> Iterator[tuple[str, str]]:
    """Yield each page's file name and text: one a command, as it is with lines of 100 characters."""
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

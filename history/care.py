"""bbq-history: taking care of the history database. It writes."""

import click
from sqlalchemy.exc import SQLAlchemyError

from history import __version__

_CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="bbq-history")
def command() -> None:
    """Take care of the history database.

    \b
    Examples:
      bbq-history upgrade
      BBQ_DATABASE=postgresql://bbq@db.example.org/bbq bbq-history upgrade
    """


@command.command()
@click.option("--database", envvar="BBQ_DATABASE", show_envvar=True, help="History database: a URL or an SQLite file.")
def upgrade(database: str | None) -> None:
    """Bring the database to this release's schema.

    \b
    Examples:
      bbq-history upgrade
      bbq-history upgrade --database sqlite:////var/lib/bbq/history.db
    """
    from history.database import HistoryError, default_url, explain, open_database, parse_url, shown
    from history.upgrade import upgrade as run

    try:
        url = parse_url(database or default_url())
        steps = run(open_database(url))
    except HistoryError as error:
        raise click.ClickException(str(error)) from error
    except SQLAlchemyError as error:
        raise click.ClickException(explain(error, url)) from error
    click.echo(f"{shown(url)}: {'steps run: ' + ', '.join(steps) if steps else 'up to date already'}")


def main() -> None:
    """Run the command."""
    command(prog_name="bbq-history")

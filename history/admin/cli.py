"""bbq-history: taking care of the history database. It writes."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from history import __version__
from history.output import run
from history.wording import one_line

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from history.ingest.store import History
    from history.spool.pieces import Piece

_F = TypeVar("_F", bound=Callable[..., Any])
_NOT_ALLOWED = "42501"
"""PostgreSQL: insufficient_privilege."""
READER_SECONDS = 60
"""The longest that a statement of a role that only reads may take: a dashboard must not burden the database."""
_CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="bbq-history")
def command() -> None:
    """Take care of the history database.

    \b
    Examples:
      bbq-history upgrade
      BBQ_DATABASE=postgresql://bbq@db.example.org/bbq bbq-history stats
    """


def _database(function: _F) -> _F:
    return click.option(
        "--database", envvar="BBQ_DATABASE", show_envvar=True, help="History database: a URL or an SQLite file."
    )(function)


@contextmanager
def _open(database: str | None, *, upgraded: bool = True) -> "Iterator[Engine]":
    """Open a history for writing; errors become one line and exit code 1."""
    from history.db import HistoryError
    from history.db.database import default_url, explain, open_database, parse_url, shown
    from history.db.upgrade import refuse_other

    try:
        url = parse_url(database or default_url())
        if upgraded and url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
            raise HistoryError(f"{shown(url)}: no such file; name the database with --database")  # and none is made
        engine = open_database(url)
        try:
            if upgraded:
                refuse_other(engine)
            yield engine
        finally:
            engine.dispose()
    except HistoryError as error:
        raise click.ClickException(str(error)) from error
    except SQLAlchemyError as error:
        raise click.ClickException(explain(error, url)) from error


@command.command()
@_database
def upgrade(database: str | None) -> None:
    """Bring the database to this release's schema.

    \b
    Examples:
      bbq-history upgrade
      bbq-history upgrade --database sqlite:////var/lib/bbq/history.db
    """
    from history.db.database import shown
    from history.db.upgrade import upgrade as run

    with _open(database, upgraded=False) as engine:
        path = Path(engine.url.database or "")
        if database is None and not path.exists():
            raise click.ClickException(f"there is no history at {path}; name the database with --database")
        steps = run(engine)
        click.echo(f"{shown(engine.url)}: {'steps run: ' + ', '.join(steps) if steps else 'up to date already'}")


@command.command()
@_database
@click.option("--older-than", required=True, metavar="SPAN", help="For instance 2y, 90d, or a day such as 2026-01-01.")
@click.option("--vacuum", is_flag=True, help="Give the room back to the disk (SQLite; needs as much again meanwhile).")
def prune(database: str | None, older_than: str, vacuum: bool) -> None:
    """Take out whole months of jobs that were submitted and ended long ago.

    Jobs that have not ended, or ended later, stay. So does what was used: `usage_daily` keeps every day. Interrupted,
    the same command goes on.

    \b
    Examples:
      bbq-history prune --older-than 2y
    """
    from history.admin.prune import month_of
    from history.admin.prune import prune as run
    from history.timespec import WhenError, parse_when

    try:
        before = month_of(parse_when(older_than))
    except WhenError as error:
        raise click.UsageError(f"--older-than: {error}") from error
    if before >= month_of(datetime.now(UTC)):
        raise click.UsageError(
            f"--older-than {older_than}: the month that has begun is never pruned; name an earlier time"
        )
    removed = 0
    try:
        with _open(database) as engine:
            for month in run(engine, before):
                removed += month.removed
                stay = f", {month.kept:,} stay that have not ended or ended later" if month.kept else ""
                click.echo(f"{month.month:%Y-%m}: {month.removed:,} jobs taken out{stay}")
            if vacuum and engine.dialect.name == "sqlite":
                with engine.connect() as connection:
                    driver: Any = connection.connection.driver_connection
                    driver.execute("COMMIT")
                    driver.execute("VACUUM")
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on where it stopped", err=True)
        sys.exit(130)
    click.echo(f"{removed:,} jobs submitted and ended before {before:%Y-%m-%d} UTC taken out")


@command.command("put-back")
@_database
@click.option("--cluster", "clusters", multiple=True, metavar="NAME", help="Only of this cluster; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Change nothing; print what would be put back.")
def put_back(database: str | None, clusters: tuple[str, ...], dry_run: bool) -> None:
    """Put the jobs back that recollections have taken out.

    They are stored as they were, with their runs; rollups and counters follow.

    \b
    Examples:
      bbq-history put-back --dry-run
      bbq-history put-back --cluster local
    """
    from history.ingest.quarantine import removed_jobs
    from history.ingest.store import History
    from history.reconcile.audit import Audit

    with _open(database) as engine:
        with engine.connect() as connection:
            found = removed_jobs(connection, clusters)
        for cluster, _, _, job in found:
            submitted = f"{job.submitted_at:%Y-%m-%dT%H:%M:%SZ}"
            click.echo(
                f"{cluster} {job.native_id}  submitted {submitted}  owner {job.owner}  {job.outcome or job.state}"
            )
        if not dry_run:
            Audit(History(engine)).put_back(found)
    click.echo(f"{len(found):,} jobs {'would be ' if dry_run else ''}put back")


@command.command()
@_database
@click.option(
    "--folder", type=click.Path(path_type=Path), help="The spool; else where it is when history.spool does not say."
)
@click.option("--put-back", is_flag=True, help="Store the pieces that were set aside, and remove them from the spool.")
def spool(database: str | None, folder: Path | None, put_back: bool) -> None:
    """Show the pieces of the spool that could not be stored and were set aside, and put them back.

    What waits for the database, bbq-exporter stores by itself. A piece is set aside when storing it fails for a fault
    of BBQ itself, so that it keeps nothing else waiting: put it back with a release in which that is mended.

    \b
    Examples:
      bbq-history spool
      bbq-history spool --folder /var/lib/bbq/spool --put-back
    """
    from history.db.database import default_url, parse_url
    from history.ingest.store import History
    from history.spool import default_folder
    from history.spool.pieces import pieces, refuse_another

    with _open(database) as engine:
        folder = folder or default_folder(parse_url(database or default_url()))
        if not folder.is_dir():
            raise click.ClickException(f"there is no spool at {folder}; name it with --folder")
        found = list(pieces(folder))
        for piece in found:
            click.echo(piece.about())
        if put_back:
            refuse_another(engine, folder)
            _put_pieces_back(History(engine), found)
        else:
            click.echo(f"{len(found):,} pieces are set aside in {folder}")


def _put_pieces_back(history: "History", found: "Sequence[Piece]") -> None:
    """Store pieces, and remove the files of which every piece is dealt with."""
    from history.spool.pieces import put_back

    stays = {piece.file for piece in found if piece.in_use or piece.batch is None}
    stored = 0
    for piece in found:
        try:
            stored += put_back(history, piece)
        except Exception as error:  # what refused it the first time may do so again; the others are tried
            stays.add(piece.file)
            message = one_line(f"{type(error).__name__}: {error}")
            click.echo(f"{piece.file.name}: cannot be stored: {message}", err=True)
    for path in {piece.file for piece in found} - stays:
        path.unlink()
    click.echo(f"{stored:,} pieces put back; {sum(piece.file in stays for piece in found):,} stay in the spool")
    if stays:
        sys.exit(1)


@command.command()
@_database
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table")
def stats(database: str | None, output: str) -> None:
    """Tell how big the history is, table by table and month by month, and how it grows.

    \b
    Examples:
      bbq-history stats
    """
    from history.admin.stats import stats as ask
    from history.render import machine, table

    with _open(database) as engine, engine.connect() as connection:
        found = ask(connection, datetime.now(UTC))
    answers = [answer for answer in (found.facts, found.tables, found.months) if answer.rows]
    sys.stdout.write(machine.to_json(answers) if output == "json" else table.to_table(answers, width=10_000))


@command.command("grant-read")
@_database
@click.argument("role")
def grant_read(database: str | None, role: str) -> None:
    """Let a PostgreSQL role read the history and write nothing: for Grafana, and for people with bbq.

    The role must exist (CREATE ROLE grafana LOGIN PASSWORD ...). Months that are made later are included. A statement
    of its may take a minute.

    \b
    Examples:
      bbq-history grant-read grafana
    """
    from history.db import HistoryError

    with _open(database) as engine:
        if engine.dialect.name != "postgresql":
            raise HistoryError("an SQLite file has no roles: bbq opens it read-only, and file permissions say who may")
        # the driver's: it has a % twice, as its statements want
        quoted = engine.dialect.identifier_preparer.quote_identifier
        name = quoted(role)
        with engine.begin() as connection:
            for statement in (
                f"GRANT USAGE ON SCHEMA public TO {name}",
                f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
                f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {name}",
            ):
                connection.exec_driver_sql(statement)
            owners = select(func.pg_get_userbyid(text("relowner"))).select_from(text("pg_class")).distinct()
            of_tables = text("relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')")
            makers = connection.scalars(owners.where(of_tables, text("relowner <> current_user::regrole"))).all()
            rest = [
                *(
                    f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(maker)} IN SCHEMA public "
                    f"GRANT SELECT ON TABLES TO {name}"
                    for maker in makers
                ),
                f"ALTER ROLE {name} SET default_transaction_read_only = on",
                f"ALTER ROLE {name} SET statement_timeout = '{READER_SECONDS}s'",
            ]
            refused = list(_refused(connection, rest))
    click.echo(f"{role} may read the history, and write nothing")
    if refused:
        message = "".join(f"  {statement.replace('%%', '%')};\n" for statement in refused)
        click.echo(f"this role may not do the rest; have a superuser do it:\n{message}", err=True, nl=False)


def _refused(connection: "Connection", statements: Iterable[str]) -> Iterator[str]:
    """Run statements, each by itself, and give those that this role may not run."""
    for statement in statements:
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(statement)
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != _NOT_ALLOWED:
                raise
            yield statement


def main() -> None:
    """Run the command."""
    os.umask(0o077)  # whatever it writes is its user's alone
    run(lambda: command(prog_name="bbq-history"))

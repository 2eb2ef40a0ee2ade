"""bbq-exporter: flags, wiring, signals and exit codes."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from exporter.check import check_table
from exporter.config import configuration, database_url
from exporter.daemon import Exporter
from exporter.reconcile import commands
from exporter.settings import Config
from history import __version__, logs
from history.db import HistoryError
from history.db.database import default_url, parse_url, shown
from history.output import run
from history.settings import ConfigError
from history.spool import default_folder
from history.threads import Watch
from history.web.server import AddressError, Server, parse_address
from history.web.toolkit_config import WebConfig, WebConfigError
from history.wording import one_line

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "BBQ_EXPORTER", "show_default": True}


@click.group(context_settings=_CONTEXT, invoke_without_command=True)
@click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration (YAML); without it, the schedulers whose commands are on PATH.",
)
@click.option(
    "--database",
    help="History database; else the configuration's, $BBQ_DATABASE, $XDG_STATE_HOME/bbq/history.db.",
)
@click.option(
    "--web.listen-address",
    "listen_address",
    multiple=True,
    help="Address to serve on; may be repeated.  [default: :10227]",
)
@click.option("--web.telemetry-path", "telemetry_path", help="Path of the metrics.  [default: /metrics]")
@click.option(
    "--web.config.file",
    "web_config_file",
    type=click.Path(path_type=Path),
    help="TLS and users of the pages, in the format of Prometheus' exporter-toolkit; read again when it changes.",
)
@click.option("--log.level", "log_level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@click.option("--log.format", "log_format", type=click.Choice(["logfmt", "json"]), default="logfmt")
@click.option("--check", is_flag=True, help="Try every source once, print a table, and exit 1 if any fails.")
@click.option("--once", is_flag=True, help="Poll once, print the metrics, and exit.")
@click.option("--demo", is_flag=True, help="Run a simulated site of two clusters; no scheduler is needed.")
@click.option(
    "--demo-scale",
    type=click.FloatRange(0.001, 1.0),
    default=0.1,
    help="Size of the simulated site; 1 is 170,000 jobs.",
)
@click.option("--demo-seed", type=int, default=1, help="The same seed gives the same site.")
@click.version_option(__version__, prog_name="bbq-exporter")
@click.pass_context
def command(
    context: click.Context,
    /,
    config_file: Path | None,
    database: str | None,
    listen_address: tuple[str, ...],
    telemetry_path: str | None,
    web_config_file: Path | None,
    log_level: str,
    log_format: str,
    check: bool,
    once: bool,
    demo: bool,
    demo_scale: float,
    demo_seed: int,
) -> None:
    """Read batch clusters, serve gauges to Prometheus, and write every job to the history.

    Without a command it is the daemon.

    \b
    Examples:
      bbq-exporter --demo
      bbq-exporter --config.file bbq.yaml --check
      bbq-exporter --config.file bbq.yaml verify
    """
    logs.set_up(log_level, log_format)
    if context.invoked_subcommand is not None or check or once:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # they say how they are gone on with
    if context.invoked_subcommand is not None:
        return
    try:
        config = _with_path(_configuration(config_file, demo, demo_scale, demo_seed), telemetry_path)
        url = database_url(config, database, default_url().replace("history.db", "demo.db") if demo else None)
        _warn_of_password(context, database)
        addresses = [parse_address(text) for text in listen_address or (config.web.listen_address,)]
        secured = None if web_config_file is None else WebConfig(web_config_file)
        spool = config.history.spool or default_folder(url)
        if check:
            sys.exit(check_table(config, url, spool))
        exporter = Exporter(config, url, None if once else spool, secured)
        exporter.prepare()
        if once:
            sys.exit(_poll_once(exporter))
        pages = _demo_pages(exporter.watch, url) if demo else None
        _serve(exporter, addresses, config.web.telemetry_path, shown(url), pages=pages, secured=secured)
    except (ConfigError, HistoryError, AddressError, WebConfigError) as error:
        raise click.ClickException(str(error)) from error
    except SQLAlchemyError as error:
        raise click.ClickException(one_line(error, None)) from error


for _each in (commands.verify, commands.recollect, commands.backfill):
    command.add_command(_each)


def _warn_of_password(context: click.Context, database: str | None) -> None:
    """Warn where a password was typed as an argument."""
    if database is None or context.get_parameter_source("database") is not ParameterSource.COMMANDLINE:
        return
    argument = parse_url(database)
    if shown(argument) != argument.render_as_string(hide_password=False):
        log.warning(
            "the database's password stands in the arguments, which every user of this machine may read; "
            "set history.password_file, or BBQ_DATABASE"
        )


def _configuration(config_file: Path | None, demo: bool, scale: float, seed: int) -> Config:
    if demo:
        from exporter.sources.demo import configuration as demo_configuration

        return demo_configuration(scale, seed)
    return configuration(config_file)


def _with_path(config: Config, telemetry_path: str | None) -> Config:
    from msgspec.structs import replace

    if not telemetry_path:
        return config
    try:
        return replace(config, web=replace(config.web, telemetry_path=telemetry_path))
    except ValueError as error:
        raise ConfigError(f"--web.telemetry-path: {error}") from error


def _poll_once(exporter: Exporter) -> int:
    """Poll once and write the page; return the status to exit with, 1 where something could not be read."""
    exporter.poll_once()
    sys.stdout.buffer.write(exporter.page.text())
    return int(not all(status.up for _, status in exporter.board.statuses()))


def _serve(
    exporter: Exporter,
    addresses: list[tuple[str, int]],
    telemetry_path: str,
    database: str,
    *,
    pages: Server | None,
    secured: WebConfig | None,
) -> None:
    """Poll and serve until a signal ends it."""
    stop = threading.Event()
    _listen_to_signals(stop, secured, exporter.watch)
    urls = exporter.listen(addresses, None if pages is None else f"{pages.url}/")
    for url in urls:
        log.info("serving", extra={"metrics": url + telemetry_path, "page": url + "/", "database": database})
    if pages is not None:
        pages.start()
        tell = partial(_tell, exporter, pages.url, urls[0] + telemetry_path, database, stop)
        exporter.watch.lasting("demo", "demo", tell, stop).start()
    exporter.run(stop)
    if pages is not None:
        pages.stop()
    for number in _SIGNALS:  # while Python ends, which takes away every other handler
        signal.signal(number, signal.SIG_IGN)


def _demo_pages(watch: Watch, url: URL) -> Server:
    """Bind a server of the demo's questions, where `bbq serve` would be, or on any free port."""
    from history.web.app import Application

    application = Application(url.render_as_string(hide_password=False), watch=watch)
    try:
        return Server(("127.0.0.1", 10228), application)
    except AddressError:
        return Server(("127.0.0.1", 0), application)


def _listen_to_signals(stop: threading.Event, secured: WebConfig | None, watch: Watch) -> None:
    """Have SIGTERM and SIGINT end the daemon, and SIGHUP read the web configuration again.

    A handler runs between any two steps of the main thread, which may hold the very lock that the handler wants: it
    only writes to a pipe, and a thread does what is to be done.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)

    def note(number: int, _: object) -> None:
        with contextlib.suppress(BlockingIOError):  # there are thousands in it already
            os.write(tell, bytes([number]))

    def listen() -> None:
        while True:
            for number in os.read(told, 4096):
                if number != signal.SIGHUP:
                    stop.set()
                elif secured is None or not secured.refresh():
                    log.info("SIGHUP: there is nothing new to read")

    for number in _SIGNALS:
        signal.signal(number, note)
    watch.lasting("signals", "signals", listen, stop).start()


def _tell(exporter: Exporter, pages: str, metrics: str, database: str, stop: threading.Event) -> None:
    """Tell a newcomer where things are, and some numbers, every few seconds as they change."""
    from exporter.summary import glance

    path = database.removeprefix("sqlite:///").replace(str(Path.home()), "~", 1)
    # bbq asks the demo's history by itself where there is no other
    flag = "" if database.endswith("/demo.db") and not _real_history() else f" --database {path}"
    while not exporter.board.ready() and not stop.wait(0.2):
        pass
    click.echo(
        f"\nPages:   {pages}/\nMetrics: {metrics}\nHistory: {path}\n"
        f"Ask it:  bbq top owners{flag}\n         bbq search --state running --limit 5{flag}\n",
        err=True,
    )
    while not stop.is_set():
        click.echo(f"{time.strftime('%H:%M:%S')}  {glance(exporter.board)}")
        stop.wait(10)


def _real_history() -> bool:
    return Path(default_url().removeprefix("sqlite:///")).exists()


def main() -> None:
    """Run the command."""
    os.umask(0o077)  # whatever it writes is its user's alone
    run(command)

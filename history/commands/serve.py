"""bbq serve."""

import ipaddress
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from history.commands.options import CONTEXT, Shared, database_of
from history.db import HistoryError

if TYPE_CHECKING:
    from history.settings import PagesSettings
    from history.web.toolkit_config import WebConfig

DEFAULT_ADDRESS = "127.0.0.1:10228"


@click.command("serve", context_settings=CONTEXT)
@click.option(
    "--web.listen-address",
    "listen_address",
    multiple=True,
    help=f"Address to serve on; may be repeated.  [default: {DEFAULT_ADDRESS}]",
)
@click.option(
    "--web.config.file",
    "web_config_file",
    type=click.Path(path_type=Path),
    help="TLS and users of the pages, in the format of Prometheus' exporter-toolkit; read again when it changes.",
)
@click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path),
    help="The exporter's configuration: its `history:` and `pages:` are read.",
)
@click.option(
    "--database", help="History database: a URL or an SQLite file; else the configuration's.  [env var: BBQ_DATABASE]"
)
@click.option("--log.level", "log_level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@click.option("--log.format", "log_format", type=click.Choice(["logfmt", "json"]), default="logfmt")
@click.pass_obj
def command(
    before: Shared | None,
    listen_address: tuple[str, ...],
    web_config_file: Path | None,
    config_file: Path | None,
    database: str | None,
    log_level: str,
    log_format: str,
) -> None:
    """Serve the questions as web pages, and as an API under /api/v1/. It only reads.

    The pages name people: other machines see them only where --web.config.file has users, or where the configuration's
    `pages: identity:` names the proxy that says who asks. Its `pages: roles:` say who may see whose jobs.

    \b
    Examples:
      bbq serve
      bbq serve --web.listen-address :10228 --web.config.file web.yml
      bbq serve --config.file bbq.yaml
    """
    from history import logs
    from history.configuration import for_pages
    from history.db.database import parse_url
    from history.settings import ConfigError, HistorySettings, PagesSettings
    from history.web.server import AddressError, parse_address
    from history.web.toolkit_config import WebConfig, WebConfigError

    logs.set_up(log_level, log_format)
    try:
        history, pages = (HistorySettings(), PagesSettings()) if config_file is None else for_pages(config_file)
        named = database_of(database or (before and before.database) or history.database)
        url = parse_url(named, history.password_file).render_as_string(hide_password=False)
        addresses = [parse_address(text) for text in listen_address or (DEFAULT_ADDRESS,)]
        secured = None if web_config_file is None else WebConfig(web_config_file)
        has_users = secured is not None and secured.has_users
        if pages.roles is not None and pages.identity is None and not has_users:
            raise ConfigError(
                f"{config_file}: pages: roles tell what each may see, and nobody says who asks; name users in "
                "--web.config.file, or the proxy that knows them in `pages: identity:`"
            )
        if not has_users and pages.identity is None:
            _refuse_others(addresses)
        _serve(url, addresses, secured, pages)
    except (AddressError, ConfigError, HistoryError, WebConfigError) as error:
        raise click.ClickException(str(error)) from error


def _refuse_others(addresses: list[tuple[str, int]]) -> None:
    """Refuse to show names of people to other machines unasked."""
    for host, port in addresses:
        try:
            loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise click.ClickException(
                f"{host}:{port}: other machines would see these pages, which name people, and there are no users; name "
                "them in --web.config.file, or serve on 127.0.0.1 behind a proxy that knows them"
            )


def _serve(url: str, addresses: list[tuple[str, int]], secured: "WebConfig | None", pages: "PagesSettings") -> None:
    """Serve until a signal ends it."""
    from history.db.database import parse_url, shown
    from history.threads import Watch
    from history.web.app import Application
    from history.web.server import Server

    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before there are threads, which take it over
    watch = Watch()
    application = Application(url, secured, watch, pages, logs=True)
    servers = [Server(address, application) for address in addresses]
    if secured is not None:
        secured.start(watch)
    for server in servers:
        server.start()
        click.echo(f"BBQ: {server.url}/", err=True)
    click.echo(f"History: {shown(parse_url(url))}", err=True)
    signal.sigwait(ends)
    for server in servers:
        server.stop()

"""bbq serve."""

import ipaddress
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from history.commands.options import CONTEXT, Shared, database_of

if TYPE_CHECKING:
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
@click.option("--database", help="History database: a URL or an SQLite file.  [env var: BBQ_DATABASE]")
@click.pass_obj
def command(
    before: Shared | None, listen_address: tuple[str, ...], web_config_file: Path | None, database: str | None
) -> None:
    """Serve the questions as web pages, and as an API under /api/v1/. It only reads.

    The pages name people: other machines see them only where --web.config.file has users.

    \b
    Examples:
      bbq serve
      bbq serve --web.listen-address :10228 --web.config.file web.yml
    """
    from history.web.server import AddressError, parse_address
    from history.web.toolkit_config import WebConfig, WebConfigError

    url = database_of(database or (before and before.database))
    try:
        addresses = [parse_address(text) for text in listen_address or (DEFAULT_ADDRESS,)]
        secured = None if web_config_file is None else WebConfig(web_config_file)
        if secured is None or not secured.has_users:
            _refuse_others(addresses)
        _serve(url, addresses, secured)
    except (AddressError, WebConfigError) as error:
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


def _serve(url: str, addresses: list[tuple[str, int]], secured: "WebConfig | None") -> None:
    """Serve until a signal ends it."""
    from history.db.database import parse_url, shown
    from history.threads import Watch
    from history.web.app import Application
    from history.web.server import Server

    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before there are threads, which take it over
    watch = Watch()
    application = Application(url, secured, watch)
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

"""A site's history, filled once by the demo, and its pages on a port of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import URL, create_engine, text

from exporter.cli import command
from history.web.app import Application
from history.web.limits import Limits
from history.web.server import Server
from tests.conftest import keeping_logs
from tests.served import Served


def _filled(url: str) -> str:
    """Return the URL of a history after one reading of a small demo."""
    arguments = ["--demo", "--demo-scale", "0.01", "--once", "--database", url, "--log.level", "error"]
    with keeping_logs():
        done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return url


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a history that has the demo in it, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        folder: Path = tmp_path_factory.mktemp("site")
        folder.chmod(0o700)
        yield _filled(f"sqlite:///{folder}/history.db")
        return
    server: URL = request.getfixturevalue("postgres_server")
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE pages"))
    yield _filled(server.set(database="pages").render_as_string(hide_password=False))
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE pages WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(scope="session")
def served(site: str) -> Iterator[Served]:
    """Return the pages of the site."""
    server = Server(("127.0.0.1", 0), Application(site, limits=Limits(1e9, 1e9)))
    server.start()
    yield Served(server.url, site)
    server.stop()

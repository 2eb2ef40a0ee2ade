"""Sessions on PostgreSQL: each has what it relies on, whatever the server, the environment or a pooler says."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, create_engine, select, text
from sqlalchemy.exc import DBAPIError

from history.db import HistoryError, schema
from history.db.database import open_database
from history.ingest.store import History
from history.questions import reading
from history.records import Job, Run, RunWorker
from history.vocabulary import Outcome, State
from tests.conftest import free_port, missing
from tests.exact import inexact

pytestmark = pytest.mark.postgres
NOW = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
"""It is the second of March already in the east."""
SAID = ("timezone", "lock_timeout", "statement_timeout", "transaction_isolation", "transaction_read_only")


def ended(number: int) -> Job:
    run = Run(
        attempt_at=NOW, started_at=NOW, ended_at=NOW + timedelta(minutes=20), cpus=2.0, outcome=Outcome.COMPLETED,
        accounted=True, workers=(RunWorker(worker="n1", cpus=2.0),),
    )  # fmt: skip
    return Job(
        native_id=str(number), submitted_at=NOW, attempt_at=NOW, owner="näme", queue="q", state=State.ENDED,
        outcome=Outcome.COMPLETED, ended_at=NOW + timedelta(minutes=20), accounted=True, runs=(run,),
    )  # fmt: skip


def settings(connection: Connection) -> dict[str, str]:
    return {name: str(connection.scalar(text(f"SHOW {name}"))) for name in SAID}


READER = {
    "timezone": "UTC", "lock_timeout": "1min", "statement_timeout": "1min", "transaction_isolation": "repeatable read",
    "transaction_read_only": "on",
}  # fmt: skip
WRITER = {
    "timezone": "UTC", "lock_timeout": "1min", "statement_timeout": "0", "transaction_isolation": "read committed",
    "transaction_read_only": "off",
}  # fmt: skip


def assert_works(url: URL) -> None:
    """Write and read through a URL: settings are ours in each transaction, days are those of UTC."""
    engine = open_database(url)
    history = History(engine)
    history.prepare()
    history.begin_cluster("c", "slurm", None, NOW)
    history.save_jobs("c", "accounting", [ended(number) for number in range(5)], seen_at=NOW)
    for _ in range(2):
        with engine.connect() as connection:
            assert settings(connection) == WRITER
            connection.commit()
            assert settings(connection) == WRITER
    with engine.connect() as connection:
        assert inexact(connection, "c") == []
        days = set(connection.scalars(select(schema.usage_daily.c.day)))
        assert days == {date(2026, 3, 1)}
        assert set(connection.scalars(select(schema.jobs.c.ended_at))) == {NOW + timedelta(minutes=20)}
    engine.dispose()
    with reading(url.render_as_string(hide_password=False)) as connection:
        assert settings(connection) == READER
        assert set(connection.scalars(select(schema.jobs.c.owner))) == {"näme"}
        with pytest.raises(DBAPIError, match="read-only transaction"):
            connection.execute(text("UPDATE clusters SET version = 'x'"))


def test_what_the_environment_and_the_server_say_changes_nothing(
    postgres_database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rollups were on the wrong days where PGTZ, or the server's own setting, was another zone than UTC."""
    admin = create_engine(postgres_database, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        name = postgres_database.database
        connection.execute(text(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'"))
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"))
    admin.dispose()
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    engine = open_database(postgres_database)
    with engine.connect() as connection:
        assert settings(connection)["timezone"] == "UTC"
    engine.dispose()
    admin = create_engine(postgres_database, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} RESET default_transaction_isolation"))
    admin.dispose()
    assert_works(postgres_database)


def test_a_pooler_that_shares_sessions_between_transactions_changes_nothing(
    postgres_database: URL, postgres_server: URL, tmp_path: Path
) -> None:
    with _pooler(postgres_database, postgres_server, tmp_path) as pooled:
        assert_works(pooled)


@contextmanager
def _pooler(database: URL, server: URL, folder: Path) -> Iterator[URL]:
    """Run Debian's PgBouncer in transaction mode, with one session for all, before a database."""
    program = Path("/usr/sbin/pgbouncer")
    if not program.exists():
        missing("no PgBouncer: apt-get install pgbouncer")
    port = free_port()
    host = server.query["host"]
    place = Path(f"/tmp/bbq-test-pgbouncer-{port}.ini")  # where nobody may read it
    Path(f"{place}.users").write_text('"bbq" ""\n')
    place.write_text(
        f"[databases]\n{database.database} = host={host} user=bbq\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {place}.users\npool_mode = transaction\ndefault_pool_size = 1\n"
    )
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*as_nobody, str(program), str(place)], stdout=log, stderr=log)
    pooled = database.set(host="127.0.0.1", port=port, username="bbq", query={})
    try:
        for _ in range(100):
            try:
                probe = create_engine(pooled)
                with probe.connect():
                    break
            except DBAPIError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            finally:
                probe.dispose()
        yield pooled
    finally:
        process.terminate()
        process.wait(10)
        place.unlink()
        Path(f"{place}.users").unlink()


def test_a_database_that_cannot_store_every_name_is_refused(postgres_server: URL) -> None:
    """One name stopped a source for good."""
    admin = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    for encoding in ("LATIN1", "SQL_ASCII"):
        name = f"test_{time.monotonic_ns()}"
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"))
        engine = open_database(postgres_server.set(database=name))
        with pytest.raises(HistoryError, match=f"its encoding is {encoding}.*ENCODING 'UTF8'"):
            History(engine).prepare()
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name}"))
    admin.dispose()

"""One running exporter: clusters, history and pages put together."""

import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from exporter.exposition import MetricsPage
from exporter.history_counters import TotalsReader
from exporter.latest import Board
from exporter.poller import ClusterPoller
from exporter.reconcile.nightly import Verifier
from exporter.recorder import Recorder
from exporter.retention import Keeper
from exporter.settings import Config
from exporter.sources import open_source
from exporter.web.app import Application
from history.db.database import explain, open_database
from history.db.identity import Identity
from history.ingest.garbage import look_seldom
from history.ingest.store import History
from history.spool import Spool
from history.threads import Watch
from history.web.server import Server
from history.web.toolkit_config import WebConfig

log = logging.getLogger(__name__)

POLLERS_SECONDS = 5.0
"""How long polls in hand are waited for: those that wait for a scheduler are left behind."""
STOP_SECONDS = 15.0
"""How long the end takes at most, until the pages go: what is being stored has what the polls have left of it."""
_KINDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


class Exporter:
    """Everything of one configuration, made but not started."""

    def __init__(
        self, config: Config, database: URL, spool: Path | None = None, secured: WebConfig | None = None
    ) -> None:
        """Make it; what cannot be written waits in the folder `spool`, if there is one.

        Raises:
            HistoryError: the spool cannot be used.
        """
        self.board = Board(owners=config.limits.owners)
        self.watch = Watch()
        self._url = database
        self._secured = secured
        engine = open_database(database)
        waiting = None if spool is None else Spool(spool, config.history.spool_limit)
        self.history = History(engine, _identity(engine, waiting))
        self._keeper = Keeper(engine, config.history.retention, self.watch)
        self._recorder = Recorder(self.history, waiting, watch=self.watch)
        self.page = MetricsPage(self.board, self.history, config.limits.series, self._recorder, self.watch)
        self._totals = TotalsReader(
            self.history,
            [cluster.name for cluster in config.clusters],
            self.board.count,
            owners=config.limits.owners,
            interval_seconds=min((float(cluster.interval) for cluster in config.clusters), default=60.0),
            lately=bool(config.web.slurm_names),
            watch=self.watch,
        )
        self._config = config
        self._pollers = []
        self._verifiers: list[Verifier] = []
        self._servers: list[Server] = []
        for cluster in config.clusters:
            self.board.add_cluster(cluster.name, cluster.scheduler, cluster.stale_seconds)
            source = open_source(cluster)
            self.board.expect_unknown(cluster.name, source.unknown_fields)
            self._recorder.begin_cluster(cluster.name, cluster.scheduler, None, lends_cpus=source.lends_cpus)
            self._pollers.append(ClusterPoller(cluster, source, self.board, self._recorder, self.watch))
            if cluster.verify:
                self._verifiers.append(Verifier(cluster, source, self.board, self.history, self._recorder, self.watch))

    def prepare(self) -> None:
        """Bring the database up to date. One that is away does not stop the gauges; a newer one does.

        Raises:
            HistoryError: the database is of a newer BBQ, or what waits in the spool is for another one.
        """
        look_seldom()
        try:
            self.history.prepare()
        except SQLAlchemyError as error:
            log.warning("history cannot be opened yet", extra={"error": explain(error, self._url)})

    def listen(self, addresses: Sequence[tuple[str, int]], pages_url: str | None = None) -> list[str]:
        """Bind the web servers, and give their URLs. Raises AddressError.

        Args:
            pages_url: where the history's questions are served, if it is known better than the configuration says.
        """
        application = Application(
            self.board,
            self.page,
            self._config.web.telemetry_path,
            _KINDS[self._url.get_backend_name()],
            self._secured,
            slurm_names=self._config.web.slurm_names,
            pages_url=pages_url or self._config.pages.url,
            watch=self.watch,
        )
        for address in addresses:
            self._servers.append(Server(address, application))
        return [server.url for server in self._servers]

    def poll_once(self) -> None:
        """Poll every cluster once, one after the other."""
        for poller in self._pollers:
            poller.poll_once()
        try:
            self._totals.read()
        except SQLAlchemyError as error:
            log.warning("the history cannot be read", extra={"error": explain(error, self._url)})

    def run(self, stop: threading.Event) -> None:
        """Poll and serve until `stop` is set, then finish what is in hand."""
        if os.geteuid() == 0:
            log.warning("running as root, which BBQ does not need")
        # a scrape must not wait for long behind a poll that is being read or stored
        sys.setswitchinterval(0.001)
        self._recorder.start()
        for poller in self._pollers:
            poller.start()
        for verifier in self._verifiers:
            verifier.start()
        self._keeper.start()
        self._totals.start()
        if self._secured is not None:
            self._secured.start(self.watch)
        for server in self._servers:
            server.start()
        silent = False
        while not stop.wait(1.0):
            if self.history.silent != silent:
                silent = not silent
                said = "does not answer; what is read waits until it does" if silent else "answers again"
                log.log(logging.WARNING if silent else logging.INFO, "the history database %s", said)
        log.info("stopping")
        began = time.monotonic()
        for verifier in self._verifiers:
            verifier.stop()
        self._keeper.stop()
        self._totals.stop()
        for poller in self._pollers:
            poller.stop()
        for poller in self._pollers:
            poller.join(max(0.0, began + POLLERS_SECONDS - time.monotonic()))
        self._recorder.stop(max(0.0, began + STOP_SECONDS - time.monotonic()))
        if self._secured is not None:
            self._secured.stop()
        for server in self._servers:
            server.stop()


def _identity(engine: Engine, spool: Spool | None) -> Identity:
    """Return which database is wanted: the one that what waits in the spool is for, else the one that is there."""
    if spool is None or spool.database is None:
        return Identity(engine)
    return Identity(
        engine,
        spool.database,
        f"{spool.rows:,} rows wait for that one in {spool.folder}: name it with --database, or give this one a spool "
        "of its own (history.spool)",
    )

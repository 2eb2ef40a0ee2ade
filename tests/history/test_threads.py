"""Every part of the daemon that fails says so, is counted, and begins again."""

import logging
import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from exporter import cli
from exporter.daemon import Exporter
from exporter.delivery import Delivery
from exporter.exposition import MetricsPage
from exporter.history_counters import TotalsReader
from exporter.poller import ClusterPoller
from exporter.reconcile.nightly import Verifier
from exporter.recorder import Recorder
from exporter.retention import Keeper
from exporter.sources.demo import Source, configuration
from history.db.database import parse_url
from history.settings import Duration
from history.threads import Part, Watch
from history.web.server import Server
from history.web.toolkit_config import WebConfig
from tests.clusters.chroot import wait_for


class FailsOnce:
    """A method that fails when a thread first calls it, and then does its work."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        owner: Any,
        name: str,
        error: type[BaseException] = ZeroDivisionError,
        thread: str = "",
    ) -> None:
        self.failed = threading.Event()
        self.again = threading.Event()
        """Set when that thread calls it again: another cluster's may do so before."""
        self._thread = ""
        method: Callable[..., Any] = getattr(owner, name)

        def called(*arguments: Any, **named: Any) -> Any:
            here = threading.current_thread().name
            if not self.failed.is_set() and here.startswith(thread):
                self._thread = here
                self.failed.set()
                raise error("injected")
            if self.failed.is_set() and here == self._thread:
                self.again.set()
            return method(*arguments, **named)

        monkeypatch.setattr(owner, name, called)


Start = Callable[[], tuple[Exporter, str]]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Have what fails begin again at once, and see what is logged."""
    monkeypatch.setattr("history.threads.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(logging.getLogger("exporter"), "propagate", True)
    caplog.set_level("ERROR")


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Return what starts a daemon of every part, and its URL."""
    monkeypatch.setattr("exporter.retention.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("history.web.toolkit_config.CHECK_SECONDS", 0.01)
    monkeypatch.setattr("exporter.reconcile.nightly.LOOK_SECONDS", 0.01)
    monkeypatch.setattr(Verifier, "_loaded", True, raising=False)
    stop = threading.Event()
    threads = []

    def begin() -> tuple[Exporter, str]:
        (tmp_path / "web.yml").write_text("{}")
        database = parse_url(f"sqlite:///{tmp_path}/history.db")
        config = configuration(0.001, 1)
        config = replace(config, clusters=[replace(each, interval=Duration(0.5)) for each in config.clusters])
        exporter = Exporter(config, database, tmp_path / "spool", WebConfig(tmp_path / "web.yml"))
        exporter._keeper._retention = timedelta(days=365)
        exporter.prepare()
        (url,) = exporter.listen([("127.0.0.1", 0)])
        threads.append(threading.Thread(target=exporter.run, args=(stop,)))
        threads[0].start()
        return exporter, url

    yield begin
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


FAILING: dict[str, tuple[Any, str]] = {
    "discovery": (ClusterPoller, "_find_feeds"),
    "keeper": (Keeper, "look"),
    "poller": (ClusterPoller, "_poll"),
    "recorder": (Recorder, "_store"),
    "settings": (Source, "remarks"),
    "spool": (Delivery, "_empty"),
    "totals": (TotalsReader, "read"),
    "verifier": (Verifier, "_work"),
    "web": (Server, "_run"),
    "web_config": (WebConfig, "refresh"),
}
ELSEWHERE = {"demo", "page", "signals"}
"""Parts that have tests of their own."""


def test_every_part_is_made_to_fail() -> None:
    assert {*FAILING, *ELSEWHERE} == set(get_args(Part))


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
@pytest.mark.parametrize("part", FAILING)
def test_a_part_that_fails_is_logged_and_counted_and_begins_again(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: Part,
    error: type[BaseException],
) -> None:
    broken = FailsOnce(monkeypatch, *FAILING[part], error)
    exporter, url = start()
    assert broken.failed.wait(60) and broken.again.wait(60)
    # another thread of the part may be the one that is seen again
    assert wait_for(lambda: exporter.watch.errors[part] == 1, 60)
    assert exporter.watch.errors == {**dict.fromkeys(get_args(Part), 0), part: 1}
    (logged,) = [record for record in caplog.records if getattr(record, "part", None) == part]
    assert logged.levelno == logging.ERROR and logged.exc_info is not None
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        assert f'bbq_internal_errors_total{{part="{part}"}} 1.0' in answer.read().decode().splitlines()


def test_signals_are_heard_after_one_could_not_be_worked_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("{}")
    broken = FailsOnce(monkeypatch, WebConfig, "refresh")
    watch, stop = Watch(), threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        cli._listen_to_signals(stop, WebConfig(tmp_path / "web.yml"), watch)
        os.kill(os.getpid(), signal.SIGHUP)
        assert broken.failed.wait(60)
        os.kill(os.getpid(), signal.SIGHUP)
        assert broken.again.wait(60)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(60)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert watch.errors["signals"] == 1


def test_a_page_that_could_not_be_written_is_written_when_it_is_asked_for_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.web.app._KEPT_SECONDS", -1.0)
    broken = FailsOnce(monkeypatch, MetricsPage, "text", thread="page")
    exporter, url = start()
    for happened in (broken.failed, broken.again):
        while not happened.wait(0.05):
            urllib.request.urlopen(f"{url}/metrics", timeout=60).close()
    assert exporter.watch.errors["page"] == 1


def test_who_ends_without_having_been_asked_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    stop, calls = threading.Event(), iter(range(3))

    def work() -> None:
        if next(calls) == 2:
            stop.set()

    watch = Watch()
    thread = watch.lasting("demo", "demo", work, stop)
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and watch.errors["demo"] == 2
    assert "demo has ended, and nobody had asked it to" in caplog.text

"""The process that reads an HTCondor pool, run here with bindings that are made up, or by itself where it may be ended."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import classad2
import pytest

from exporter.config import load
from exporter.readings import Feed, Kind
from exporter.sources import CommandFailed, CommandTimeout, NotAllowed
from exporter.sources.htcondor import Settings, Source, asking, reader
from exporter.sources.htcondor.asking import AnsweredInPart, Reader
from tests.htcondor_says import settings, slot

WORKERS = Kind.WORKERS


class Bindings:
    """HTCondor's bindings as the reader uses them: collectors that are dead, empty, or have ads; and a clock."""

    def __init__(self, **collectors: Any) -> None:
        self.collectors = collectors
        self.seconds = 0.0
        self.asked: list[str] = []
        self.module = ModuleType("htcondor2")
        self.param = {"QUERY_TIMEOUT": "20"}
        fake: Any = self.module
        fake.param = self.param
        fake.HTCondorException = type("HTCondorException", (Exception,), {})
        fake.Collector = self._collector
        fake.AdTypes = type(
            "AdTypes", (), dict.fromkeys(("Startd", "Schedd", "Collector", "Negotiator", "Accounting"), "any")
        )
        fake.ping = self._ping

    def _collector(self, host: str = "") -> Any:
        bindings = self

        class Collector:
            def query(self, *_: Any) -> list[Any]:
                return bindings._answer(host)

        return Collector()

    def _answer(self, host: str) -> list[Any]:
        self.asked.append(host)
        found = self.collectors[host]
        if found == "hangs":
            self.seconds += float(self.param["QUERY_TIMEOUT"])
            raise RuntimeError("timed out")
        if found in ("refused", "no route"):
            raise RuntimeError("Failed to fetch ads")
        return [classad2.ClassAd(ad) for ad in found]

    def _ping(self, ad: Any, _: str) -> None:
        if any(found == "no route" and host in str(ad["MyAddress"]) for host, found in self.collectors.items()):
            raise OSError("no route to host")
        raise RuntimeError("Failed to start command")


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Bindings], Callable[..., bytes]]]:
    """Return a way to run the reader here, with bindings that are made up."""

    def play(bindings: Bindings) -> Callable[..., bytes]:
        monkeypatch.setitem(sys.modules, "htcondor2", bindings.module)
        if hasattr(reader, "resource"):
            monkeypatch.setattr(reader.resource, "setrlimit", lambda *_: None)
        if hasattr(reader, "signal"):  # the alarm that ends a reader would end the tests
            monkeypatch.setattr(reader.signal, "alarm", lambda _: None)
        clock = type("clock", (), {"monotonic": staticmethod(lambda: bindings.seconds)})
        if hasattr(reader, "time"):
            monkeypatch.setattr(reader, "time", clock)

        def run(*_: Any, stdin: bytes, **__: Any) -> bytes:
            if hasattr(reader, "_answered"):
                reader._answered.clear()  # each question is a process of its own
            output = io.StringIO()
            stdin_text = io.StringIO(stdin.decode())
            bindings.param["QUERY_TIMEOUT"] = "20"
            with contextlib.redirect_stdout(output), monkeypatch.context() as patch:
                patch.setattr(sys, "stdin", stdin_text)
                try:
                    reader.main()
                except SystemExit as error:
                    raise CommandFailed("exit code 3", output.getvalue().encode()) from error
            return output.getvalue().encode()

        monkeypatch.setattr(asking, "run", run)
        return run

    yield play


def _pool_of(*collectors: str) -> Source:
    return Source(Settings(name="grid", scheduler="htcondor", collectors=collectors, schedds=("s",)))


def test_a_dead_first_collector_costs_one_short_try(
    played: Callable[[Bindings], Callable[..., bytes]],
) -> None:
    """The first of two hangs: 4 s once, and then the good one is asked first, poll after poll."""
    bindings = Bindings(dead="hangs", good=[slot("wn1", 8, 4)])
    played(bindings)
    pool = _pool_of("dead", "good")
    for poll in range(3):
        (worker,) = pool.read_workers(Feed(kind=WORKERS)).workers
        assert (worker.cpus, worker.cpus_allocated) == (8, 4), poll
    assert bindings.seconds == 4 and bindings.asked.count("dead") == 1


def test_a_collector_that_has_just_started_is_not_believed(
    played: Callable[[Bindings], Callable[..., bytes]],
) -> None:
    """It knows of no machine yet; the other one does. Where both know of none, there is none."""
    bindings = Bindings(new=[], old=[slot("wn1", 8, 4)])
    played(bindings)
    assert len(_pool_of("new", "old").read_workers(Feed(kind=WORKERS)).workers) == 1
    bindings.collectors["old"] = []
    assert _pool_of("new", "old").read_workers(Feed(kind=WORKERS)).workers == []


def test_a_pool_that_refuses_us_says_so(played: Callable[[Bindings], Callable[..., bytes]]) -> None:
    """No, expired or wrong token: not the error of a dead host, but what to check."""
    bindings = Bindings(**{"127.0.0.1": "refused"})
    played(bindings)
    with pytest.raises(
        NotAllowed, match=r"the pool refuses us at 127\.0\.0\.1: authentication failed; check token_dir"
    ):
        _pool_of("127.0.0.1").read_workers(Feed(kind=WORKERS))
    bindings.collectors = {"127.0.0.2": "no route"}
    with pytest.raises(CommandFailed, match="no collector answers"):
        _pool_of("127.0.0.2").read_workers(Feed(kind=WORKERS))


def test_a_token_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    written = tmp_path / "bbq.yaml"
    written.write_text(
        "clusters:\n  - name: grid\n    scheduler: htcondor\n    collectors: [cm]\n    token_directory: /nowhere/tokens\n"
    )
    with pytest.raises(Exception, match=r"token_directory /nowhere/tokens: no such folder"):
        load(written)


BOMB = """
import json, pathlib, re, classad2
from exporter.sources.htcondor import reader
doubled = "; ".join(f"x{n} = strcat(x{n - 1},x{n - 1},x{n - 1},x{n - 1})" for n in range(1, 12))
bomb = classad2.ClassAd(f'[ Owner = "mallory"; x0 = "{"y" * 100}"; {doubled}; RequestMemory = size(x11) ]')
usual = classad2.ClassAd('[ Owner = "alice"; MemoryUsage = 900; RequestMemory = ifThenElse(MemoryUsage > 500, 2048, 1) ]')
rows = [reader._row(ad, ["Owner", "RequestMemory"], classad2.ExprTree, classad2.Value) for ad in (bomb, usual)]
# ru_maxrss would be that of the tests, from which this process was forked
print(json.dumps([rows, int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) >> 10]))
"""


def test_an_expression_that_wants_any_amount_of_memory_costs_its_value() -> None:
    """Five hundred characters of somebody's RequestMemory that want 400 MB; the job stays, and so do the others."""
    done = subprocess.run([sys.executable, "-c", BOMB], capture_output=True, text=True, check=True)
    found, mebibytes = json.loads(done.stdout)
    assert found == [["mallory", None], ["alice", 2048]] and mebibytes < 200


@pytest.mark.parametrize(("cut", "answered"), [(0, None), (1, 1), (8, 1), (60, 0)])
def test_an_answer_that_is_whole_counts_though_its_reader_did_not_end(
    monkeypatch: pytest.MonkeyPatch, cut: int, answered: int | None
) -> None:
    """A machine that is too busy to let a process end in time; cut anywhere, each answer before the cut counts."""
    output = b'["a", 1]\n{"end": 1, "collector": "pool"}\n["b", 2]\n["b", 3]\n{"end": 2, "collector": "pool"}\n'

    def run(*_: Any, **__: Any) -> bytes:
        raise CommandTimeout("no answer in 5 s, killed", output[: len(output) - cut])

    monkeypatch.setattr(asking, "run", run)
    questions = [{"what": what, "schedd": "s"} for what in ("history", "epochs")]
    if answered is None:
        assert Reader(settings(), (), None).ask(questions) == [[b'["a", 1]'], [b'["b", 2]', b'["b", 3]']]
        return
    with pytest.raises(AnsweredInPart) as told:
        Reader(settings(), (), None).ask(questions)
    assert told.value.answers == [[b'["a", 1]']][:answered]

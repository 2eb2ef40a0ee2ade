"""The metrics page: whole pages as goldens, sums that agree, and truth about what is not known."""

import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client import Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from exporter.exposition import MetricsPage, _lines
from exporter.gauges import Family, Histogram, families
from exporter.history_counters import TotalsReader, totals
from exporter.latest import Board
from exporter.readings import Feed, JobsReading, Kind, UnknownValue
from exporter.sources import Source
from exporter.sources.demo import Settings as Demo
from exporter.sources.demo import Source as DemoSource
from exporter.sources.htcondor import Settings as HTCondor
from exporter.sources.htcondor import Source as HTCondorSource
from exporter.sources.slurm import Settings as Slurm
from exporter.sources.slurm import Source as SlurmSource
from history.ingest.store import History
from history.records import Gpus, Unmade, Worker
from history.vocabulary import Outcome, State, Waiting, WorkerFlag, WorkerState
from tests.conftest import missing
from tests.pages import LATER, NOW, OLDER, board_of, job, read, samples
from tests.places import GOLDEN
from tests.replay import commands, pool

CHANGING = ("bbq_source_last_success", "bbq_source_poll_duration", "bbq_build_info")


def page_of(cluster: str, source: Source) -> str:
    board = Board()
    board.add_cluster(cluster, "any", 1e9)
    read(board, cluster, source)
    return MetricsPage(board, None, 50_000).text().decode()


def steady(page: str) -> str:
    return "".join(line for line in page.splitlines(keepends=True) if not line.startswith(CHANGING))


def sources(tmp_path: Path) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for version in ("22.05", "24.11", "26.05"):
        settings = Slurm(name="local", scheduler="slurm", commands=commands(tmp_path / version, version))
        found[f"slurm-{version}"] = SlurmSource(settings)
    for version in ("23.9", "25.14"):
        found[f"htcondor-{version}"] = HTCondorSource(HTCondor(name="grid", scheduler="htcondor"), ask=pool(version))
    return found


def test_whole_pages(tmp_path: Path) -> None:
    for name, source in sources(tmp_path).items():
        page = steady(page_of(name.partition("-")[0], source))
        path = GOLDEN / f"{name}.metrics"
        if os.environ.get("BBQ_TEST_UPDATE_GOLDEN"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(page)
        assert page == path.read_text(), f"{path} differs; BBQ_TEST_UPDATE_GOLDEN=1 writes it anew"


TEXT = st.text(st.characters(codec="utf-8"))


class Given(Collector):
    def __init__(self, metric: Metric) -> None:
        self.metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self.metric]


@given(
    st.dictionaries(st.tuples(TEXT, TEXT), st.floats()),
    st.dictionaries(TEXT, st.tuples(st.lists(st.floats(), min_size=1), st.floats())),
)
def test_lines_are_what_the_client_library_writes(
    values: dict[tuple[str, str], float], counts: dict[str, tuple[list[float], float]]
) -> None:
    board = Board()
    board.add_cluster("c", "any", 1e9)
    _, view = board.view("c")
    gauge = Family(name="g", help="", labels=("z", "a"), samples=lambda _: values.items())
    known = GaugeMetricFamily("g", "", labels=("cluster", "z", "a"))
    for labels in sorted(values):
        known.add_metric(("c", *labels), values[labels])
    made = [
        Histogram(
            (label,), [(f"{index}.0", each) for index, each in enumerate(numbers[:-1])] + [("+Inf", numbers[-1])], total
        )
        for label, (numbers, total) in counts.items()
    ]
    histogram = Family(name="h", help="", labels=("z",), histograms=lambda _: made, kind="histogram")
    written = HistogramMetricFamily("h", "", labels=("cluster", "z"))
    for each in made:
        written.add_metric(("c", *each.labels), each.buckets, each.sum)
    for family, metric in ((gauge, known), (histogram, written)):
        assert "".join(_lines(family, view)) == generate_latest(Given(metric)).decode().split("\n", 2)[2]


def test_the_page_of_the_older_slurm_exporter(tmp_path: Path) -> None:
    for version in ("22.05", "24.11", "26.05"):
        board = Board()
        board.add_cluster("slurm", "slurm", 1e9)
        settings = Slurm(name="slurm", scheduler="slurm", commands=commands(tmp_path / version, version))
        read(board, "slurm", SlurmSource(settings))
        ended = {"completed": 3, "out_of_memory": 1}
        own_counters = totals([], 200, datetime.now(UTC))
        board.count("slurm", msgspec.structs.replace(own_counters, ended_lately=ended))
        page = MetricsPage(board, None, 50_000).slurm_text().decode()
        found = samples(page)
        assert set(OLDER) <= set(found) <= set(OLDER) | LATER
        assert found["slurm_queue_completed"][()] == 3 and found["slurm_queue_failed"][()] == 0
        own = samples(MetricsPage(board, None, 50_000).text().decode())
        jobs = {
            state: sum(value for labels, value in own["bbq_jobs"].items() if ("state", state) in labels)
            for state in State
        }
        assert found["slurm_queue_pending"][()] == jobs["pending"] + jobs["held"]
        assert (
            found["slurm_queue_running"][()] + found["slurm_queue_configuring"][()]
            == jobs["running"]
            == sum(found["slurm_user_jobs_running"].values()) - jobs["finishing"]
        )
        assert found["slurm_cpus_total"][()] == sum(own["bbq_worker_cpus"].values())
        parts = [found[f"slurm_cpus_{part}"][()] for part in ("alloc", "idle", "other")]
        assert sum(parts) == found["slurm_cpus_total"][()]
        assert sum(found[name][()] for name in OLDER if name.startswith("slurm_nodes_")) == len(own["bbq_worker_cpus"])


def test_ended_jobs_are_counted_for_the_older_page_for_as_long_as_squeue_shows_them(history: History) -> None:
    board = Board()
    board.add_cluster("slurm", "slurm", 1e9)
    now = datetime.now(UTC).replace(microsecond=0)
    outcomes = [Outcome.COMPLETED, Outcome.FAILED, Outcome.FAILED]
    jobs = [
        job(9, native_id=f"{number}", state=State.ENDED, waiting=None, outcome=outcome, accounted=True,
            submitted_at=now - timedelta(hours=2), ended_at=now - timedelta(seconds=age))
        for number, (outcome, age) in enumerate(zip(outcomes, (10, 20, 400), strict=True))
    ]  # fmt: skip
    history.save_jobs("slurm", "accounting", jobs, seen_at=now)
    TotalsReader(history, ["slurm"], board.count, owners=9, interval_seconds=60, lately=True).read()
    found = samples(MetricsPage(board, history, 50_000).slurm_text().decode())
    assert found["slurm_queue_completed"][()] == 1 and found["slurm_queue_failed"][()] == 1
    assert found["slurm_queue_timeout"][()] == 0 and "slurm_queue_pending" not in found


@pytest.mark.promtool
def test_promtool_has_nothing_to_say(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        missing("no promtool: apt-get install prometheus")
    demo = DemoSource(Demo(name="local", scheduler="demo", scale=0.01))
    pages = [path.read_text() for path in sorted(GOLDEN.glob("*.metrics"))] + [page_of("local", demo)]
    assert len(pages) == 6
    for page in pages:
        said = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
        assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_labels_are_those_of_the_contract() -> None:
    assert {family.name: family.labels for family in families()} == {
        **dict.fromkeys(
            ("bbq_jobs", "bbq_jobs_cpus", "bbq_jobs_gpus", "bbq_jobs_memory_bytes"),
            ("owner", "account", "vo", "queue", "state"),
        ),
        "bbq_pending_jobs": ("queue", "reason"),
        "bbq_pending_oldest_submit_timestamp_seconds": ("queue",),
        "bbq_workers": ("queue", "state"),
        "bbq_worker_state": ("worker", "state"),
        "bbq_worker_flag": ("worker", "flag"),
        **dict.fromkeys(
            (
                "bbq_worker_cpus",
                "bbq_worker_cpus_allocated",
                "bbq_worker_memory_bytes",
                "bbq_worker_memory_allocated_bytes",
                "bbq_worker_jobs",
            ),
            ("worker",),
        ),
        **dict.fromkeys(("bbq_worker_gpus", "bbq_worker_gpus_allocated"), ("worker", "model")),
        **dict.fromkeys(("bbq_worker_gpu_parts", "bbq_worker_gpu_parts_allocated"), ("worker", "part")),
        "bbq_worker_state_since_timestamp_seconds": ("worker",),
        "bbq_worker_reason_info": ("worker", "reason"),
        **dict.fromkeys(
            (f"bbq_reservation_{name}" for name in ("cpus", "workers", "active", "begin_timestamp_seconds", "end_timestamp_seconds")),
            ("reservation",),
        ),
        **dict.fromkeys(("bbq_licences", "bbq_licences_used", "bbq_licences_reserved"), ("licence",)),
        **dict.fromkeys(("bbq_fair_share_ratio", "bbq_share_priority", "bbq_share_used_cpu_seconds"), ("account", "owner")),
        **dict.fromkeys(("bbq_group_quota_cpus", "bbq_group_quota_cpus_used"), ("group",)),
        "bbq_limits_full": ("kind",),
        **dict.fromkeys(("bbq_queue_cpus", "bbq_queue_cpus_allocated"), ("queue",)),
        "bbq_queue_cpus_unusable": ("queue", "reason"),
        **dict.fromkeys(
            ("bbq_jobs_submitted_total", "bbq_jobs_started_total", "bbq_cpu_seconds_total", "bbq_gpu_seconds_total",
             "bbq_cpu_seconds_wasted_total"),
            ("queue", "owner"),
        ),
        "bbq_jobs_ended_total": ("queue", "owner", "outcome"),
        "bbq_worker_runs_ended_total": ("worker", "outcome"),
        **dict.fromkeys(
            ("bbq_scheduler_cycle_seconds", "bbq_scheduler_cycle_mean_seconds",
             "bbq_scheduler_cycle_end_timestamp_seconds", "bbq_scheduler_cycle_depth_mean"),
            ("cycle",),
        ),
        "bbq_scheduler_backfilled_jobs_total": (),
        "bbq_scheduler_fair_share_ratio": ("account",),
        "bbq_scheduler_queue_length": ("queue",),
        "bbq_scheduler_threads": (),
        **dict.fromkeys(("bbq_scheduler_rpcs_total", "bbq_scheduler_rpc_seconds_total"), ("rpc",)),
        **dict.fromkeys(("bbq_scheduler_owner_rpcs_total", "bbq_scheduler_owner_rpc_seconds_total"), ("owner",)),
        "bbq_scheduler_duty_cycle_ratio": ("daemon",),
        "bbq_owners_collapsed": (),
        **dict.fromkeys(("bbq_job_wait_seconds", "bbq_job_run_seconds"), ("queue",)),
    }  # fmt: skip


def test_owners_beyond_the_top_are_put_together_and_sums_stay() -> None:
    jobs = [job(number, owner=f"user{number % 30:02}", account="a") for number in range(100)]
    whole = samples(board_of(*jobs)[1].text().decode())["bbq_jobs"]
    found = samples(board_of(*jobs, owners=5)[1].text().decode())["bbq_jobs"]
    owners = {dict(labels)["owner"] for labels in found}
    assert len(owners) == 6 and "(other)" in owners
    assert sum(found.values()) == sum(whole.values()) == 100


def test_unmade_jobs_count_and_bookkeeping_does_not() -> None:
    unmade = (Unmade(native_id="q#5", submitted_at=NOW, owner="bob", queue="q", jobs=40, made=4, requested_cpus=1.0),)
    page = board_of(job(1), job(2, routed_to="3.0"), job(3, state=State.ENDED), unmade=unmade)[1].text().decode()
    counted: Counter[str] = Counter()
    for labels, value in samples(page)["bbq_jobs"].items():
        counted[dict(labels)["owner"]] += int(value)
    assert counted == {"alice": 1, "bob": 36}
    assert samples(page)["bbq_pending_jobs"][(("cluster", "c"), ("queue", "q"), ("reason", "not_made_yet"))] == 36


def test_the_oldest_pending_job_is_one_that_could_start() -> None:
    jobs = (
        job(5),
        job(50, waiting=Waiting.DEPENDENCY),
        job(60, waiting=Waiting.ARRAY_LIMIT),
        job(70, state=State.HELD, waiting=None),
    )
    (value,) = samples(board_of(*jobs)[1].text().decode())["bbq_pending_oldest_submit_timestamp_seconds"].values()
    assert value == (NOW - timedelta(minutes=5)).timestamp()


def test_stale_series_go_and_come_back() -> None:
    moment = [NOW]
    board, page = board_of(
        job(1), workers=[Worker(name="n1", state=WorkerState.IDLE, cpus=4.0)], clock=lambda: moment[0]
    )
    board.failed("c", Feed(kind=Kind.JOBS), "timeout", "no answer", 1.0)
    found = samples(page.text().decode())
    assert "bbq_jobs" in found and found["bbq_source_up"][(("cluster", "c"), ("source", "jobs"))] == 0
    moment[0] = NOW + timedelta(seconds=181)
    found = samples(page.text().decode())
    assert "bbq_jobs" not in found and "bbq_worker_cpus" not in found
    assert found["bbq_source_errors_total"][(("cluster", "c"), ("reason", "timeout"), ("source", "jobs"))] == 1
    board.publish("c", Feed(kind=Kind.JOBS), JobsReading(taken_at=moment[0], jobs=[job(1)]), 0.1)
    found = samples(page.text().decode())
    assert "bbq_jobs" in found and "bbq_worker_cpus" not in found


def test_what_a_worker_does_not_say_has_no_series() -> None:
    workers = [
        Worker(name="n1", state=WorkerState.UNKNOWN),
        Worker(
            name="n2",
            state=WorkerState.DOWN,
            flags=(WorkerFlag.DRAINING, WorkerFlag.MAINTENANCE),
            cpus=8.0,
            reason='a "b"\nc',
            queues=("q",),
        ),
        Worker(
            name="n3",
            state=WorkerState.PARTIAL,
            cpus=8.0,
            cpus_allocated=2.0,
            memory_bytes=100,
            memory_allocated_bytes=100,
            queues=("q",),
            gpus=(Gpus(model="a100", total=4.0),),
        ),
    ]
    found = samples(board_of(workers=workers)[1].text().decode())
    assert {dict(labels)["worker"] for labels in found["bbq_worker_cpus"]} == {"n2", "n3"}
    assert len(found["bbq_worker_state"]) == 3 and len(found["bbq_worker_flag"]) == 2
    unusable = {dict(labels)["reason"]: value for labels, value in found["bbq_queue_cpus_unusable"].items()}
    assert unusable == {
        "memory": 6, **dict.fromkeys(("maintenance", "down", "draining", "powered_down", "reserved"), 0)
    }  # fmt: skip
    assert "bbq_worker_gpus_allocated" not in found
    # a sum without n2 would be too small
    assert [value for _, value in found["bbq_queue_cpus"].items()] == [16]
    assert "bbq_queue_cpus_allocated" not in found
    told = [replace(workers[1], cpus_allocated=1.0), *workers[2:]]
    found = samples(board_of(workers=told)[1].text().decode())
    key = (("cluster", "c"), ("queue", "q"), ("reason", "maintenance"))
    assert found["bbq_queue_cpus_unusable"][key] == 7
    assert (("cluster", "c"), ("reason", 'a "b"\nc'), ("worker", "n2")) in found["bbq_worker_reason_info"]
    assert [value for _, value in found["bbq_queue_cpus_allocated"].items()] == [3]


def test_unknown_words_are_counted() -> None:
    page = board_of(unknown=(UnknownValue("slurm_job_state", "TELEPORTING"),))[1].text().decode()
    assert samples(page)["bbq_unknown_values_total"] == {(("cluster", "c"), ("field", "slurm_job_state")): 1}


def test_counters_of_what_is_odd_begin_at_0(history: History) -> None:
    """Else the first of them would be no increase, and nobody told."""
    board, _ = board_of(job(1))
    board.expect_unknown("c", ("slurm_job", "slurm_node_flag"))
    found = samples(MetricsPage(board, history, 50_000).text().decode())
    fields = {dict(labels)["field"]: value for labels, value in found["bbq_unknown_values_total"].items()}
    assert fields == {"slurm_job": 0, "slurm_node_flag": 0}
    sources = {dict(labels)["source"]: value for labels, value in found["bbq_history_set_aside_rows_total"].items()}
    assert sources == {"jobs": 0, "workers": 0}


def test_the_series_count_is_the_number_of_samples() -> None:
    page = board_of(job(1), workers=[Worker(name="n1", state=WorkerState.IDLE, cpus=4.0)])[1].text().decode()
    lines = [line for line in page.splitlines() if not line.startswith("#")]
    (series,) = samples(page)["bbq_series"].values()
    assert series == len(lines)


def test_owners_that_are_put_together_are_counted() -> None:
    _, page = board_of(job(1), job(2, "bob"), job(3, "carol"), owners=2)
    assert samples(page.text().decode())["bbq_owners_collapsed"] == {(("cluster", "c"),): 1}


def test_beyond_the_limit_whole_families_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    board, page = board_of(*(job(number, f"owner{number}", requested_memory_bytes=1) for number in range(50)))
    whole = samples(page.text().decode())
    series = int(whole["bbq_series"][()])
    assert len(whole["bbq_jobs_memory_bytes"]) == 50 and "bbq_family_dropped" not in whole
    for limit, dropped in (
        (series, []),
        (series - 1, ["bbq_jobs_memory_bytes"]),
        (series - 60, ["bbq_jobs_memory_bytes", "bbq_jobs_cpus"]),
    ):
        limited = samples(MetricsPage(board, None, limit).text().decode())
        assert [dict(labels)["family"] for labels in limited.get("bbq_family_dropped", {})] == dropped
        assert limited["bbq_series"][()] <= limit and limited["bbq_series_limit"][()] == limit
        assert sum(len(each) for name, each in limited.items()) == limited["bbq_series"][()]
        assert not set(dropped) & set(limited) and len(limited["bbq_jobs"]) == 50
    assert "left out for having too many series" in caplog.text


def test_many_may_ask_while_a_reading_becomes_too_old() -> None:
    clock = [NOW]
    _, page = board_of(*(job(number) for number in range(30)), workers=[], clock=lambda: clock[0])
    errors: list[Exception] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                page.text()
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(100):
        clock[0] = NOW + timedelta(seconds=181 * (number % 2))
        time.sleep(0.005)
    over.set()
    for thread in threads:
        thread.join()
    assert errors == []

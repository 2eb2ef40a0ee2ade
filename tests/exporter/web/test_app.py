"""The pages, over real connections."""

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests

from exporter.exposition import MetricsPage
from exporter.latest import Board
from exporter.readings import Feed, Kind, WorkersReading
from exporter.settings import WebSettings
from exporter.web.app import Application
from history import logs
from history.records import Worker
from history.vocabulary import WorkerState
from history.web.connections import most_connections
from history.web.server import AddressError, Server, parse_address
from tests.pages import NOW


@pytest.fixture
def board() -> Board:
    board = Board(now=lambda: NOW)
    board.add_cluster("c", "slurm", 180)
    board.add_feed("c", Feed(kind=Kind.WORKERS), 60)
    return board


@pytest.fixture
def url(board: Board) -> Iterator[str]:
    application = Application(board, MetricsPage(board, None, 50_000), "/metrics", "sqlite:///somewhere")
    server = Server(("127.0.0.1", 0), application)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def test_pages(board: Board, url: str) -> None:
    assert requests.get(f"{url}/-/healthy").status_code == 200
    assert requests.get(f"{url}/-/ready").status_code == 503
    board.failed("c", Feed(kind=Kind.WORKERS), "timeout", "scontrol <hung> & gone", 30.0)
    assert requests.get(f"{url}/-/ready").status_code == 200
    landing = requests.get(f"{url}/")
    assert "scontrol &lt;hung&gt; &amp; gone" in landing.text and 'href="/metrics"' in landing.text
    metrics = requests.get(f"{url}/metrics")
    assert metrics.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'bbq_source_up{cluster="c",source="workers"} 0.0' in metrics.text
    assert requests.get(f"{url}/nowhere").status_code == 404
    assert requests.post(f"{url}/metrics").status_code == 405
    assert requests.head(f"{url}/metrics").text == ""


def test_the_page_leads_to_the_questions(board: Board, url: str) -> None:
    assert "Questions" not in requests.get(f"{url}/").text
    page = MetricsPage(board, None, 50_000)
    there = "https://bbq.example.org/?a=1&b"
    server = Server(("127.0.0.1", 0), Application(board, page, "/metrics", "sqlite", pages_url=there))
    server.start()
    text = requests.get(f"{server.url}/").text
    server.stop()
    assert '<a href="https://bbq.example.org/?a=1&amp;b">Questions</a>' in text


def test_large_pages_are_compressed_for_who_wants_it(board: Board, url: str) -> None:
    workers = [Worker(name=f"n{number}", state=WorkerState.IDLE, cpus=1.0) for number in range(200)]
    board.publish("c", Feed(kind=Kind.WORKERS), WorkersReading(taken_at=NOW, workers=workers, queues=[]), 0.1)
    plain = requests.get(f"{url}/metrics", headers={"Accept-Encoding": "identity"})
    packed = requests.get(f"{url}/metrics", headers={"Accept-Encoding": "gzip"}, stream=True)
    raw = packed.raw.read(decode_content=False)
    assert packed.headers["Content-Encoding"] == "gzip" and len(raw) < len(plain.content) / 5
    assert b"bbq_worker_cpus" in gzip.decompress(raw)


def test_a_silent_client_does_not_keep_others_waiting(url: str) -> None:
    port = int(url.rpartition(":")[2])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    try:
        assert requests.get(f"{url}/-/healthy", timeout=5).status_code == 200
    finally:
        for each in silent:
            each.close()


def test_a_thousand_silent_clients_and_slow_ones_keep_nobody_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("history.web.connections.REQUEST_SECONDS", 0.5)
    port = int(url.rpartition(":")[2])
    hostile: list[socket.socket] = []
    try:
        for number in range(1000):
            hostile.append(socket.create_connection(("127.0.0.1", port)))
            if number % 3 == 0:
                with contextlib.suppress(OSError):  # made room for others already
                    hostile[-1].sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            if number % 100 == 50:
                assert requests.get(f"{url}/metrics", timeout=5).status_code == 200
        assert requests.get(f"{url}/metrics", timeout=5).status_code == 200
        with contextlib.suppress(ConnectionResetError):
            assert hostile[0].recv(10) == b""  # it made room
        time.sleep(1.5)
        closed = 0
        for each in hostile:
            each.settimeout(0.2)
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(10) == b""
            closed += 1
        assert closed == 1000
    finally:
        for each in hostile:
            each.close()


def test_a_client_that_pauses_between_requests_keeps_its_connection(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("history.web.connections.REQUEST_SECONDS", 0.3)
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        for _ in range(3):
            assert_answered(client)
            time.sleep(0.6)


def assert_answered(client: socket.socket) -> None:
    client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"BBQ is healthy.\n"):  # head and body may come one after the other
        part = client.recv(1000)
        assert part, answer
        answer += part
    assert answer.startswith(b"HTTP/1.1 200")


@contextlib.contextmanager
def hostile(number: int, port: int, request: bytes) -> Iterator[list[socket.socket]]:
    """Open connections, send each the same, and read nothing."""
    found: list[socket.socket] = []
    try:
        for _ in range(number):
            each = socket.socket()
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.connect(("127.0.0.1", port))
            with contextlib.suppress(OSError):  # made room for others already
                each.sendall(request)
            found.append(each)
        yield found
    finally:
        for each in found:
            each.close()


def connections(server: Server) -> int:
    return len(server._server.server_state.connections)


def test_clients_that_ask_and_do_not_read_keep_nobody_out(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """They counted as busy, and the newcomer, which was Prometheus, went instead; nothing ever ended them."""
    monkeypatch.setattr("history.web.connections.MAX_CONNECTIONS", 30)
    monkeypatch.setattr("history.web.connections.ANSWER_SECONDS", 10.0)
    page = MetricsPage(board, None, 50_000)
    monkeypatch.setattr(page, "text", lambda: b"# " + b"x" * 8_000_000 + b"\n")
    server = Server(("127.0.0.1", 0), Application(board, page, "/metrics", "x"))
    server.start()
    url = f"http://127.0.0.1:{server.port}"
    try:
        with hostile(100, server.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
            for _ in range(5):
                assert requests.get(f"{url}/-/healthy", timeout=5).status_code == 200
                assert len(requests.get(f"{url}/metrics", timeout=20).content) > 8_000_000
                assert connections(server) <= 31
            deadline = time.monotonic() + 60
            while connections(server) > 1:
                assert time.monotonic() < deadline, "who does not read stays for ever"
                time.sleep(0.1)
    finally:
        server.stop()


def test_a_connection_that_is_kept_stays_where_silent_ones_come(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus' went as one of the first, for it has no request most of the time."""
    monkeypatch.setattr("history.web.connections.MAX_CONNECTIONS", 20)
    monkeypatch.setattr("history.web.connections._FRESH_SECONDS", 0.0)
    server = Server(("127.0.0.1", 0), Application(board, MetricsPage(board, None, 9), "/metrics", "x"))
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as kept:
            assert_answered(kept)
            with hostile(100, server.port, b""):
                assert requests.get(f"http://127.0.0.1:{server.port}/-/healthy", timeout=5).ok  # all have come
                assert_answered(kept)
    finally:
        server.stop()


def test_a_page_that_takes_long_to_write_is_kept_for_longer(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked all the time had it written all the time, and nothing left for polls."""
    page = MetricsPage(board, None, 50_000)
    application = Application(board, page, "/metrics", "")
    clock = [100.0]
    monkeypatch.setattr("exporter.web.app.time.monotonic", lambda: clock[0])
    written: list[float] = []

    def slow() -> bytes:
        written.append(clock[0])
        clock[0] += 0.9
        return b"page"

    monkeypatch.setattr(page, "text", slow)
    for _ in range(30):
        application._metrics()
        clock[0] += 0.05
    assert written == [100.0]


def test_who_reads_too_slowly_is_closed_and_keeps_only_a_piece_in_memory(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer was copied as a whole for each client that did not read it; a byte read began the time anew."""
    monkeypatch.setattr("history.web.connections.ANSWER_SECONDS", 2.0)
    page = MetricsPage(board, None, 50_000)
    monkeypatch.setattr(page, "text", lambda: b"# " + b"x" * 30_000_000 + b"\n")
    server = Server(("127.0.0.1", 0), Application(board, page, "/metrics", "x"))
    server.start()
    try:
        with hostile(5, server.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") as clients:
            until(lambda: waiting(server) > 0)
            assert waiting(server) < 5 * 200_000
            deadline = time.monotonic() + 60
            while connections(server):  # all the time, a little is read
                assert time.monotonic() < deadline, "who reads slowly stays for ever"
                for each in clients:
                    with contextlib.suppress(OSError):
                        each.recv(100_000, socket.MSG_DONTWAIT)
                time.sleep(0.05)
    finally:
        server.stop()


def test_who_does_not_read_is_no_error_when_it_ends(
    board: Board, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each was a traceback."""
    logs.set_up("info", "logfmt")
    page = MetricsPage(board, None, 50_000)
    monkeypatch.setattr(page, "text", lambda: b"# " + b"x" * 30_000_000 + b"\n")
    server = Server(("127.0.0.1", 0), Application(board, page, "/metrics", "x"))
    server.start()
    with hostile(3, server.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
        until(lambda: waiting(server) > 0)
        server.stop()
    assert not server._thread.is_alive() and capfd.readouterr().err == ""


def waiting(server: Server) -> int:
    """Return the bytes of answers that wait in this process to be read."""
    return sum(each.transport.get_write_buffer_size() for each in list(server._server.server_state.connections))


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_limit_holds_in_a_burst_and_leaves_files_for_polls(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("history.web.connections.MAX_CONNECTIONS", 20)
    server = Server(("127.0.0.1", 0), Application(board, MetricsPage(board, None, 9), "/metrics", "x"))
    server.start()
    try:
        with hostile(400, server.port, b""):
            time.sleep(0.5)
            assert connections(server) <= 20
            assert requests.get(f"http://127.0.0.1:{server.port}/-/healthy", timeout=5).status_code == 200
    finally:
        server.stop()
    monkeypatch.undo()
    for limit, most in ((64, 8), (400, 72), (1024, 256), (1 << 20, 256)):
        monkeypatch.setattr("resource.getrlimit", lambda _, limit=limit: (limit, limit))
        assert most_connections() == most


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True), ("gzip, deflate, br", True), ("*", True), ("gzip;q=0.5", True), ("deflate, GZIP ;q=1", True),
        ("gzip;q=0", False), ("gzip;q=0.0, *", False), ("identity", False), ("*;q=0", False), ("", False),
        ("xgzip", False), ("gzip;q=x", False),
    ],
)  # fmt: skip
def test_who_does_not_want_gzip_does_not_get_it(url: str, accepted: str, packed: bool) -> None:
    found = requests.get(f"{url}/metrics", headers={"Accept-Encoding": accepted})
    assert ("Content-Encoding" in found.headers) == packed and "bbq_source_up" in found.text


@pytest.mark.parametrize("path", ["/", "/-/healthy", "/-/ready", "/metrics?x", "/a#b", "/a%20b", "metrics"])
def test_a_path_of_the_metrics_that_another_page_has_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="telemetry_path"):
        WebSettings(telemetry_path=path)


def test_malformed_requests_write_no_lines(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "logfmt")
    port = int(url.rpartition(":")[2])
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"\x00\xff not http\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(100).startswith(b"HTTP/1.1 400")
    assert capfd.readouterr().err == ""


def test_huge_headers_are_refused(url: str) -> None:
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        with contextlib.suppress(OSError):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Huge: " + b"a" * 2_000_000 + b"\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    assert requests.get(f"{url}/-/healthy", timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("text", "expected"), [(":10227", ("", 10227)), ("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:80", ("::1", 80))]
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "10227", "host:", "host:http", ":70000"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(AddressError, match=r"write :10227, 127\.0\.0\.1:10227"):
        parse_address(text)


def test_an_address_that_is_taken(url: str, board: Board) -> None:
    port = int(url.rpartition(":")[2])
    application = Application(board, MetricsPage(board, None, 1), "/metrics", "")
    with pytest.raises(AddressError, match=f"127.0.0.1:{port}: .*in use.*--web.listen-address"):
        Server(("127.0.0.1", port), application)


def test_the_page_of_the_older_slurm_exporter_is_there_when_asked_for(board: Board, url: str) -> None:
    assert requests.get(f"{url}/metrics/slurm").status_code == 404
    application = Application(board, MetricsPage(board, None, 9), "/metrics", "x", slurm_names=True)
    server = Server(("127.0.0.1", 0), application)
    server.start()
    try:
        workers = [Worker(name="n1", state=WorkerState.PARTIAL, native_state="MIXED", cpus=4.0, cpus_allocated=1.0)]
        board.publish("c", Feed(kind=Kind.WORKERS), WorkersReading(taken_at=NOW, workers=workers, queues=[]), 0.1)
        page = requests.get(f"http://127.0.0.1:{server.port}/metrics/slurm").text
    finally:
        server.stop()
    assert 'slurm_node_cpu_idle{node="n1",status="mixed"} 3.0' in page and "slurm_nodes_mix 1.0" in page
    assert "slurm_queue_pending" not in page and "bbq_" not in page  # nobody has read the queue


def test_nobody_waits_for_a_page_that_is_written_anew(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.web.app._KEPT_SECONDS", 0.0)
    monkeypatch.setattr("exporter.web.app._LATE_SECONDS", 3600.0)
    page = MetricsPage(board, None, 50_000)
    application = Application(board, page, "/metrics", "")
    written = 0
    released = threading.Event()

    def slow() -> bytes:
        nonlocal written
        written += 1
        if written > 1:
            released.wait(60)
        return b"%d" % written

    monkeypatch.setattr(page, "text", slow)

    def ask() -> bytes:
        return gzip.decompress(application._compressed(application._metrics()))

    # had one of them waited, it would have got another
    assert [ask() for _ in range(50)] == [b"1"] * 50
    released.set()
    deadline = time.monotonic() + 60
    while ask() == b"1":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_waits_together_has_the_page_written_once(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.web.app._KEPT_SECONDS", 3600.0)
    page = MetricsPage(board, None, 50_000)
    application = Application(board, page, "/metrics", "")
    written: list[int] = []

    def slow() -> bytes:
        time.sleep(0.2)
        written.append(1)
        return b"page"

    monkeypatch.setattr(page, "text", slow)
    threads = [threading.Thread(target=application._metrics) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written == [1]

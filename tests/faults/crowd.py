"""Hostile clients of the pages, in a process of their own."""

import contextlib
import http.client
import random
import resource
import select
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Sequence

AGAIN_SECONDS = 2.0
"""After how long a client that was closed comes again."""
_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Crowd:
    """So many connections at one time; each comes again when it was closed."""

    def __init__(
        self,
        port: int,
        number: int,
        says: bytes = b"",
        *,
        drips: bool = False,
        reads: bool = False,
        stays: float = 3600.0,
        again: float = AGAIN_SECONDS,
    ) -> None:
        """Make it.

        Args:
            says: what each says first.
            drips: whether each then says a byte a second.
            reads: whether each goes when it is answered.
            stays: after how many seconds each goes.
            again: after how many seconds another one comes.
        """
        self._address = ("127.0.0.1", port)
        self._says, self._drips, self._reads, self._stays, self._again = says, drips, reads, stays, again
        self._due = [time.monotonic() + again * place / number for place in range(number)]
        self._open: dict[int, tuple[socket.socket, float]] = {}
        self._poll = select.epoll()

    def run(self, until: float) -> None:
        """Be there until a moment of `time.monotonic`."""
        dripped = time.monotonic()
        while (now := time.monotonic()) < until:
            self._come(now)
            for number, events in self._poll.poll(0.02):
                self._act(number, events)
            for number in [number for number, (_, since) in self._open.items() if now - since > self._stays]:
                self._go(number)
            if self._drips and now - dripped >= 1.0:
                dripped = now
                for each, _ in self._open.values():
                    with contextlib.suppress(OSError):
                        each.send(b"a")

    def _come(self, now: float) -> None:
        waiting = [due for due in self._due if due > now]
        for _ in range(len(self._due) - len(waiting)):
            client = socket.socket()
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect_ex(self._address)
            self._open[client.fileno()] = client, now
            self._poll.register(client, select.EPOLLOUT | _GONE)
        self._due = waiting

    def _act(self, number: int, events: int) -> None:
        client, _ = self._open[number]
        if events & _GONE or events & select.EPOLLIN:
            self._go(number)
            return
        with contextlib.suppress(OSError):  # it was closed already
            client.send(self._says)
        self._poll.modify(number, _GONE | (select.EPOLLIN if self._reads else 0))

    def _go(self, number: int) -> None:
        client, since = self._open.pop(number)
        client.close()
        self._due.append(max(time.monotonic(), since + self._again) if self._reads else time.monotonic() + self._again)


def idle(port: int, until: float, _: bytes) -> None:
    """Be a thousand clients that say nothing."""
    Crowd(port, 1000).run(until)


def unread(port: int, until: float, known: bytes) -> None:
    """Be 300 clients that may see the page, ask for it and never read it."""
    Crowd(port, 300, _request(known), stays=15.0).run(until)


def slow(port: int, until: float, _: bytes) -> None:
    """Be 500 clients that send their request a byte a second."""
    Crowd(port, 500, b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ", drips=True).run(until)


def guess(port: int, until: float, _: bytes) -> None:
    """Be 30 clients at addresses of their own that guess the password as fast as they are answered."""
    threads = [threading.Thread(target=_guess, args=(port, until, number)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _guess(port: int, until: float, number: int) -> None:
    while time.monotonic() < until:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=(f"127.0.1.{1 + number}", 0))
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(client):
            while time.monotonic() < until:
                client.request("GET", "/metrics", headers={"Authorization": basic(f"{random.random()}").decode()})
                client.getresponse().read()


def flood(port: int, until: float, _: bytes) -> None:
    """Open 300 connections a second that ask without a password, are answered and go."""
    Crowd(port, 300, _request(b""), reads=True, again=1.0).run(until)


def nobody(port: int, until: float, _: bytes) -> None:
    """Be nobody: what the others are compared with."""
    time.sleep(max(0.0, until - time.monotonic()))


def basic(password: str) -> bytes:
    """Return what a client that knows, or guesses, a password sends."""
    return b"Basic " + b64encode(f"prometheus:{password}".encode())


def _request(known: bytes) -> bytes:
    asked = b"Authorization: " + known + b"\r\n" if known else b""
    return b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + asked + b"\r\n"


ATTACKS: Sequence[Callable[[int, float, bytes], None]] = (nobody, idle, unread, slow, guess, flood)


def attack(name: str, port: int, seconds: float, known: bytes) -> None:
    """Be hostile for so long, in one of the ways."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
    {each.__name__: each for each in ATTACKS}[name](port, time.monotonic() + seconds, known)

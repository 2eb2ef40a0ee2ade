"""One client cannot take all turns, nor ask without end."""

import anyio
import pytest
import requests

from history.web import limits
from history.web.app import Application
from history.web.limits import AT_ONE_TIME, WAITING, Limits, TooMuch
from history.web.server import Server


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _asked(counted: Limits, client: str, times: int) -> int:
    """Return how many of some requests after one another are let through."""

    async def ask() -> int:
        count = 0
        for _ in range(times):
            try:
                async with counted.asking(client):
                    count += 1
            except TooMuch as error:
                assert error.seconds == 1 and "requests a second" in str(error)
        return count

    return anyio.run(ask)


def test_so_many_at_a_stretch_and_then_so_many_a_second() -> None:
    clock = Clock()
    counted = Limits(per_second=5, at_a_stretch=20, clock=clock)
    assert _asked(counted, "a", 30) == 20
    assert _asked(counted, "b", 3) == 3, "another client is in nobody's way"
    clock.now += 2
    assert _asked(counted, "a", 30) == 10
    clock.now += 3600
    assert _asked(counted, "a", 30) == 20


def test_so_many_at_one_time_the_others_wait() -> None:
    counted = Limits(1e9, 1e9)
    done, at_once, most = [], 0, 0

    async def one(client: str) -> None:
        nonlocal at_once, most
        async with counted.asking(client):
            at_once += 1
            most = max(most, at_once)
            await anyio.sleep(0.001)
            at_once -= 1
            done.append(client)

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(WAITING):
                tasks.start_soon(one, "a")

    anyio.run(all_of_them)
    assert len(done) == WAITING and most == AT_ONE_TIME


def test_more_than_can_wait_are_refused() -> None:
    counted, refused = Limits(1e9, 1e9), []

    async def one() -> None:
        try:
            async with counted.asking("a"):
                await anyio.sleep(0.001)
        except TooMuch as error:
            refused.append(str(error))

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(WAITING + 7):
                tasks.start_soon(one)

    anyio.run(all_of_them)
    assert len(refused) == 7 and all("at one time" in each for each in refused)


def test_who_has_not_asked_for_long_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MAX_KNOWN", 10)
    clock = Clock()
    counted = Limits(per_second=1, at_a_stretch=2, clock=clock)
    for number in range(100):
        clock.now += 1
        assert _asked(counted, f"client {number}", 1) == 1
        assert len(counted._clients) <= 11


def test_a_page_is_refused_with_when_to_try_again(site: str) -> None:
    server = Server(("127.0.0.1", 0), Application(site, limits=Limits(per_second=0.001, at_a_stretch=2)))
    server.start()
    answers = [
        requests.get(server.url + path, timeout=30)
        for path in ("/queues", "/api/v1/queues", "/queues", "/api/v1/queues")
    ]
    free = requests.get(f"{server.url}/static/bbq.css", timeout=30)
    server.stop()
    assert [each.status_code for each in answers] == [200, 200, 429, 429] and free.status_code == 200
    assert answers[2].headers["retry-after"] == "1" and "Too many requests" in answers[2].text
    assert answers[3].json()["status"] == 429

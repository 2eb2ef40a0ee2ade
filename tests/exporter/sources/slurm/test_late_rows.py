"""Rows that slurmctld keeps while it cannot reach slurmdbd: all of them are stored, however late they come.

The truth is a job a minute, each ended at a full minute and known to slurmdbd when slurmctld has delivered its row: in
order, and later than anything is looked back for.
"""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from exporter.readings import Feed, Kind
from exporter.sources import CommandFailed, SourceError
from exporter.sources.slurm import Accounting, Settings
from history.settings import Duration
from tests.slurm_says import Played, accounted

ACCOUNTING, SCHEDULER = Feed(kind=Kind.ACCOUNTING), Feed(kind=Kind.SCHEDULER)
MINUTE, HOUR = 60, 3600
T = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())
LOOKBACK = 2 * HOUR
SDIAG = "Server thread count:  3\nAgent queue size:     0\nDBD Agent queue size: {}\n"


class Site:
    """A slurmctld that ends a job each minute from T on, a slurmdbd that has its rows late, and BBQ."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, delivered_at: Callable[[int], int]) -> None:
        self.delivered_at = delivered_at
        """When the row of a job is in slurmdbd, by its end."""
        self.now = T
        self.sdiag = SDIAG
        """What sdiag prints; empty where slurmctld does not answer."""
        self.watermark: str | None = str(T)
        self.stored: set[int] = set()
        self.asked: list[tuple[int, int]] = []
        self.reached: datetime | None = None
        monkeypatch.setattr("exporter.sources.slurm._now", lambda: datetime.fromtimestamp(self.now, UTC))
        self.restart()

    def restart(self) -> None:
        """Have a new BBQ go on from what is stored."""
        accounting = Accounting(lookback=Duration(LOOKBACK))
        self.source = Played(Settings(name="local", scheduler="slurm", accounting=accounting), self._answer)

    def ends(self, since: int = T) -> list[int]:
        """Return when jobs have ended."""
        return list(range(max(since - since % MINUTE, T) + MINUTE, self.now + 1, MINUTE))

    def _answer(self, command: str, *arguments: str) -> bytes:
        if command == "sdiag":
            if not self.sdiag:
                raise CommandFailed("sdiag: exit code 1: Unable to contact slurm controller", b"")
            return self.sdiag.format(sum(self.delivered_at(end) > self.now for end in self.ends())).encode()
        if command != "sacct" or "--helpformat" in arguments:
            raise CommandFailed(f"{command}: nothing is known of that", b"")
        said = dict(argument.partition("=")[::2] for argument in arguments)
        mark, fields = said["--delimiter"], said["--format"].split(",")
        since, until = (int(said[name].removeprefix("uts")) for name in ("--starttime", "--endtime"))
        self.asked.append((since, until))
        answer = ""
        for end in range(since - since % MINUTE, min(until, self.now) + 1, MINUTE):
            if end > T and since <= end and self.delivered_at(end) <= self.now:
                row = accounted(JobIDRaw=str(end), Submit=str(end - 9), Start=str(end - 5), End=str(end))
                answer += "".join(row.get(field, "") + mark for field in fields) + "\n"
        return answer.encode()

    def look(self) -> None:
        """Poll slurmctld's own figures."""
        with contextlib.suppress(SourceError):
            self.source.read_scheduler(SCHEDULER)

    def poll(self, *, saved: bool = True) -> None:
        """Poll accounting as the daemon does: page by page, each stored with its watermark, until now."""
        for _ in range(60):
            now = datetime.fromtimestamp(self.now, UTC)
            page = self.source.read_accounting(ACCOUNTING, self.watermark, now)
            if not saved:
                return
            self.stored |= {int(job.native_id) for job in page.jobs}
            self.watermark, self.reached = page.watermark, page.reached_at
            if page.complete:
                return
        raise AssertionError("it never comes to an end")

    def live(self, seconds: int, every: int = MINUTE) -> None:
        """Let time pass, with polls."""
        for _ in range(seconds // every):
            self.now += every
            self.look()
            self.poll()

    def known_upto(self) -> int:
        """Return the moment up to which BBQ says that everything is stored."""
        assert self.reached is not None
        return int(self.reached.timestamp())

    def is_honest(self) -> bool:
        """Return whether everything that ended by then is stored."""
        return {end for end in self.ends() if end <= self.known_upto()} <= self.stored


def cut(since: int, until: int) -> Callable[[int], int]:
    """Have no row delivered in a time, and all of them at its end."""
    return lambda end: until if since <= end < until else end


def test_rows_that_come_later_than_the_look_back_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, cut(T + HOUR + 5, T + 6 * HOUR))
    site.live(6 * HOUR - MINUTE)
    assert len(site.stored) == 60 and site.known_upto() <= T + HOUR + MINUTE and site.is_honest()
    long_ones = [until - since for since, until in site.asked[-15:] if until - since > LOOKBACK + HOUR]
    assert len(long_ones) <= 3  # a time that is held for long is not asked for in every poll
    site.live(3 * MINUTE)
    assert site.stored == set(site.ends()) and site.known_upto() == site.now and site.watermark == str(site.now)


def test_a_restart_while_rows_wait_does_not_forget_that_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, cut(T + HOUR + 5, T + 6 * HOUR))
    site.live(4 * HOUR)
    for _ in range(3):
        site.restart()
        site.poll()  # before slurmctld's own figures are polled
        site.now += MINUTE
    assert site.known_upto() <= T + HOUR + MINUTE and site.is_honest()
    site.live(3 * HOUR)
    assert site.stored == set(site.ends()) and site.known_upto() == site.now


def test_bbq_away_for_the_end_of_the_cut_reads_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, cut(T + HOUR + 5, T + 6 * HOUR))
    site.live(4 * HOUR)
    site.now = T + 9 * HOUR
    site.restart()
    site.live(MINUTE)
    assert site.stored == set(site.ends()) and site.known_upto() == site.now


def test_where_slurmctld_does_not_answer_rows_may_wait_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is down from the first hour to the sixth, and keeps its rows over that."""
    site = Site(monkeypatch, cut(T + HOUR - MINUTE, T + 6 * HOUR))
    site.live(HOUR)
    site.sdiag = ""
    site.live(4 * HOUR)
    site.restart()
    site.live(HOUR - MINUTE)
    assert site.known_upto() <= T + HOUR + MINUTE and site.is_honest()
    site.sdiag = SDIAG
    site.live(3 * MINUTE)
    assert site.stored == set(site.ends()) and site.known_upto() == site.now


@pytest.mark.parametrize("said", ["Server thread count:  3\n", "nothing of sdiag's\n"])
def test_where_it_cannot_be_known_whether_rows_wait_nothing_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    site = Site(monkeypatch, lambda end: end)
    site.sdiag = said
    site.live(10 * MINUTE)
    assert site.known_upto() == site.now and site.watermark == str(site.now) and site.stored == set(site.ends())


def test_a_queue_that_shrinks_slowly_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off for five hours, then three rows a minute: it takes two and a half hours until none waits."""
    back = T + 6 * HOUR

    def delivered_at(end: int) -> int:
        if end < T + HOUR:
            return end
        return max(end, back + (end - T - HOUR) // 3)

    site = Site(monkeypatch, delivered_at)
    site.live(6 * HOUR)
    assert len(site.stored) == 59
    for _ in range(14):
        site.live(10 * MINUTE)
        assert site.is_honest()
        there = {end for end in site.ends() if site.delivered_at(end) <= site.now - 16 * MINUTE}
        assert there <= site.stored and site.known_upto() < site.now
    site.live(HOUR)
    assert site.stored == set(site.ends()) and site.known_upto() == site.now


def test_a_queue_that_is_never_empty_holds_for_minutes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, lambda end: end + 90)
    site.sdiag = SDIAG.replace("{}", "7")
    site.live(4 * HOUR)
    assert site.now - 6 * MINUTE <= site.known_upto() < site.now and site.is_honest()
    assert max(until - since for since, until in site.asked[-10:]) <= 10 * MINUTE


def test_what_was_read_and_not_stored_is_read_again_also_while_rows_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, cut(T + HOUR + 5, T + 6 * HOUR))
    site.live(6 * HOUR - MINUTE)
    for _ in range(40):  # nothing can be stored for a while, and some rows wait for ever
        site.now += MINUTE
        site.look()
        site.poll(saved=False)
    site.sdiag = SDIAG.replace("{}", "1")
    site.live(3 * HOUR)
    assert site.is_honest() and site.stored == set(site.ends()) and site.known_upto() > site.now - 10 * MINUTE


def test_accounting_asks_sdiag_once_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, lambda end: end)
    calls: list[str] = []

    def counting(command: str, *arguments: str) -> bytes:
        calls.append(command)
        return site._answer(command, *arguments)

    site.source = Played(Settings(name="local", scheduler="slurm"), counting)
    for _ in range(3):
        site.now += MINUTE
        site.poll()
    assert calls.count("sdiag") == 1

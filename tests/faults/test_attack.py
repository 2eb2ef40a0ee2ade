"""The page under attack, for some seconds; `python -m tests.faults attack` does it at the size of a real site."""

from tests.faults.attack import attacks


def test_who_attacks_keeps_neither_a_scrape_nor_a_poll_from_its_end() -> None:
    table, wrong = attacks(4.0, 0.005, ("guess", "unread"))
    assert wrong == [] and [line.split()[0] for line in table.splitlines()] == ["attack", "unread", "guess"]

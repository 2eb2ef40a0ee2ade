"""`python -m tests.bench load|ask|boards|ingest|matching|pages|scrape --database URL`: see README.md of this folder."""

import argparse
import sys
import time

from history.db.database import open_database, parse_url
from tests.bench.ask import ask, table
from tests.bench.boards import boards, boards_table
from tests.bench.ingest import ingest
from tests.bench.load import load
from tests.bench.matching import matching
from tests.bench.pages import click
from tests.bench.scrape import scrape
from tests.bench.year import Year


def main() -> None:
    """Run one benchmark and print what it found."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--database", help="an SQLite file or postgresql://…; empty for load, none for matching and scrape"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    loading = commands.add_parser("load", help="make a year and load it")
    loading.add_argument("--jobs", type=int, default=10_000_000)
    loading.add_argument("--seconds", type=float, help="stop with the month in hand after so long (PostgreSQL)")
    commands.add_parser("ask", help="time every question and look at its plans")
    commands.add_parser("boards", help="time every panel of the dashboards (PostgreSQL)")
    storing = commands.add_parser("ingest", help="store ended jobs beside those that are there")
    storing.add_argument("--jobs", type=int, default=50_000)
    storing.add_argument("--cluster", choices=("grid", "local"), default="local")
    clicking = commands.add_parser("pages", help="have people click through the pages at random")
    clicking.add_argument("--users", type=int, default=20)
    clicking.add_argument("--seconds", type=float, default=300)
    scraping = commands.add_parser("scrape", help="ask a demo of the reference site for its metrics")
    scraping.add_argument("--clients", type=int, default=20)
    scraping.add_argument("--seconds", type=float, default=60)
    judging = commands.add_parser("matching", help="work out why HTCondor's idle jobs wait")
    judging.add_argument("--jobs", type=int, default=50_000)
    judging.add_argument("--groups", type=int, default=300)
    judging.add_argument("--machines", type=int, default=766)
    asked = parser.parse_args()
    if asked.command == "matching":
        print(matching(asked.jobs, asked.groups, asked.machines))
        return
    if asked.command == "scrape":
        print(scrape(asked.clients, asked.seconds))
        return
    if asked.database is None:
        parser.error("--database is missing")
    engine = open_database(parse_url(asked.database))
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.0f} s  {line}", file=sys.stderr, flush=True)

    if asked.command == "load":
        load(engine, Year(asked.jobs), say, asked.seconds)
    elif asked.command == "ask":
        print(table(ask(engine, asked.database)))
    elif asked.command == "boards":
        print(boards_table(boards(engine)))
    elif asked.command == "pages":
        print(click(asked.database, engine, asked.users, asked.seconds))
    else:
        print(f"{ingest(engine, asked.jobs, asked.cluster):,.0f} ended jobs a second")
    engine.dispose()


if __name__ == "__main__":
    main()

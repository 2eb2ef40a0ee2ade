"""Whose jobs an answer may tell of: held by the connection, whatever a question asks of it.

Each statement that goes to the database is given, in front of it, the tables of jobs as a user may see them, under the
names of the tables themselves. A statement that reads a table of which nobody has said whom it names is refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, event

from history.answer import Answer
from history.db.schema import (
    accounts,
    clusters,
    collections,
    identity,
    job_pauses,
    jobs,
    licences,
    limits,
    metadata,
    queue_settings,
    queues,
    reservations,
    run_workers,
    shares,
    verifications,
    worker_states,
    worker_use,
    workers,
)

NAME_NOBODY = (
    clusters,
    workers,
    queues,
    worker_states,
    worker_use,
    queue_settings,
    collections,
    verifications,
    identity,
    accounts,
    reservations,
    licences,
)
"""Tables that whoever asks may read as they are."""
_OF_JOBS = (run_workers, job_pauses)
"""Tables whose rows are those of a job, which tells whose they are."""
PERSONAL = frozenset({
    "owner", "account", "vo", "job_id", "native_id", "first_job_id", "last_job_id", "name", "dag_parent",
    "routed_from", "routed_to", "reason_by", "for_owners", "for_accounts", "for_groups",
})  # fmt: skip
"""Columns of an answer that name people, or what is theirs."""
_WORD = re.compile(r"\w+")
_MONTH = re.compile(r"[a-z_]+_[0-9]{4}_[0-9]{2}")
"""A part of a table, as PostgreSQL has them."""
_PARAMETER = "bbq_visible_"


class NotVisible(Exception):
    """A question reads what whoever asks may not see."""


class Visible(msgspec.Struct, frozen=True):
    """Whose jobs somebody may see: their own, and those of some accounts."""

    owner: str
    accounts: tuple[str, ...] = ()

    def whose(self) -> str:
        """Return it in words."""
        return " and ".join((self.owner, *(f"account {each}" for each in self.accounts)))


class Limit:
    """Has a connection tell of nobody else's jobs, in whatever statement, but where it is lifted."""

    def __init__(self, connection: Connection, visible: Visible) -> None:
        self._connection = connection
        self._visible = visible
        self._is_lifted = False
        event.listen(connection, "before_cursor_execute", self._execute, retval=True)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Tell of everybody's jobs, for an answer that names nobody."""
        self._is_lifted = True
        try:
            yield
        finally:
            self._is_lifted = False

    def _execute(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, executemany: bool
    ) -> tuple[str, Any]:
        if self._is_lifted:
            return statement, parameters
        if executemany:
            raise NotVisible("a statement with many sets of parameters")
        return limited(self._connection, self._visible, statement, parameters)


def limited(connection: Connection, visible: Visible, statement: str, parameters: Any) -> tuple[str, Any]:
    """Return a statement, and its parameters, that tells of nobody else's jobs.

    Raises:
        NotVisible: it is no query, or reads a table that not everybody may.
    """
    values = (visible.owner, *visible.accounts)
    if connection.dialect.name == "sqlite":
        # what stands without a number further on is counted on from these
        text = _headed(statement, statement, [f"?{index}" for index in range(1, len(values) + 1)], "main.")
        return text, parameters if text == statement else (*values, *parameters)
    named = {f"{_PARAMETER}{index}": value for index, value in enumerate(values)}
    text = _headed(statement, statement, [f"%({name})s" for name in named], "")
    if text == statement:
        return text, parameters
    if parameters and not isinstance(parameters, Mapping):
        raise NotVisible("a statement whose parameters have no names")
    return text, {**(parameters or {}), **named}


def shown(dialect: str, visible: Visible, statement: str, written: str) -> str:
    """Return a statement as `limited` has it executed, for people to read.

    Args:
        statement: as it is executed.
        written: the same, with its values written out.
    """
    quoted = ["'" + each.replace("'", "''") + "'" for each in (visible.owner, *visible.accounts)]
    return _headed(statement, written, quoted, "main." if dialect == "sqlite" else "")


def _headed(statement: str, text: str, values: Sequence[str], schema: str) -> str:
    """Return `text`, with the limited tables that `statement` reads in front of it. Raises NotVisible."""
    words = _WORD.findall(statement)
    first = words[0].upper() if words else ""
    if first in ("PRAGMA", "SET", "SHOW") and metadata.tables.keys().isdisjoint(words):
        return text
    if first not in ("SELECT", "WITH") or (first == "WITH" and words[1].upper() == "RECURSIVE"):
        raise NotVisible(f"a statement that begins with {' '.join(words[:2])}")
    tables = ", ".join(
        f"{name} AS NOT MATERIALIZED (SELECT * FROM {schema}{name} WHERE {_condition(table, values, schema)})"
        for table in _limited_tables(set(words))
        for name in (table.name,)
    )
    if not tables:
        return text
    rest = text.lstrip()
    return f"WITH {tables}, {rest[4:].lstrip()}" if first == "WITH" else f"WITH {tables} {rest}"


def _limited_tables(words: set[str]) -> Iterator[Table]:
    """Yield the tables of a statement that are limited, those first that others are limited by. Raises NotVisible."""
    for word in words:
        if _MONTH.fullmatch(word):
            raise NotVisible(word)
    read = [table for name, table in metadata.tables.items() if name in words and table not in NAME_NOBODY]
    if any(table in _OF_JOBS for table in read) and jobs not in read:
        yield jobs
    for table in sorted(read, key=lambda each: each in _OF_JOBS):
        if table not in _OF_JOBS and not {"owner", "account"} <= {*table.c.keys()}:
            raise NotVisible(table.name)
        yield table


def _condition(table: Table, values: Sequence[str], schema: str) -> str:
    """Return the condition that a row of a table may be seen."""
    if table in _OF_JOBS:
        same = " AND ".join(f"jobs.{name} = {table.name}.{name}" for name in ("native_id", "submitted_at", "cluster"))
        return f"EXISTS (SELECT 1 FROM jobs WHERE {same})"
    mine, *theirs = values
    condition = f"owner = {mine}" + (f" OR account IN ({', '.join(theirs)})" if theirs else "")
    if table not in (limits, shares):
        return condition
    # what counts for an account as a whole concerns each of its users, and a QOS's whole names nobody
    own = f"SELECT account FROM {schema}shares WHERE owner = {mine}"
    own += f" UNION SELECT name FROM {schema}limits WHERE kind = 'user' AND owner = {mine}"
    of_account = f"IN ({own})" + (f" OR {{0}} IN ({', '.join(theirs)})" if theirs else "")
    column = "account" if table is shares else "name"
    whole = f"({column} {of_account.format(column)})"
    if table is limits:
        whole = f"account = '' AND (kind IN ('qos', 'concurrency') OR {whole})"
    return f"{condition} OR owner = '' AND {whole}"


def without_names(answers: Sequence[Answer]) -> list[Answer]:
    """Return the answers that name nobody, and of those that are facts the facts that do not."""
    told = [answer for answer in answers if PERSONAL.isdisjoint(answer.columns)]
    for answer in told:
        if answer.named:
            answer.rows = [row for row in answer.rows if row[0] not in PERSONAL]
    return told

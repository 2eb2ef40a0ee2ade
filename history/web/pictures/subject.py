"""What a picture is of: a question as it was asked, and the answers that its page lists."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from history.answer import Answer
from history.web.asked import Asked
from history.web.links import Links


class Subject(msgspec.Struct):
    """A question and its answers."""

    asked: Asked
    answers: Sequence[Answer]
    links: Links
    now: datetime

    @property
    def moment(self) -> datetime:
        """Return the moment that the answers are of."""
        return self.asked.at or self.now

    def find(self, key: str) -> tuple[int, list[Mapping[str, Any]]]:
        """Return the place and the rows of the answer of a key; -1 and none where there is none."""
        for index, each in enumerate(self.answers):
            if each.key == key:
                return index, list(rows_of(each))
        return -1, []

    def is_cut(self, rows: Sequence[Any]) -> bool:
        """Return whether there may be more rows than were asked for."""
        return self.asked.limit is not None and len(rows) >= self.asked.limit


def rows_of(answer: Answer) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of an answer, by the names of its columns."""
    for row in answer.rows:
        yield dict(zip(answer.columns, row, strict=True))

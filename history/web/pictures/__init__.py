"""Pictures of answers, made on the server of the same rows as the tables below them: an entry for each question."""

from collections.abc import Callable, Iterator, Mapping

import msgspec
from markupsafe import Markup

from history.web.asked import Asked
from history.web.pictures import job, usage, worker, workers
from history.web.pictures.subject import Subject


class Picture(msgspec.Struct, frozen=True):
    """The picture of a question."""

    draw: Callable[[Subject], Iterator[tuple[int, Markup]]]
    """Yields pictures, and which of the answers each stands above."""
    rows: int = 0
    """Rows that it is made of where there are more than its page lists."""


PICTURES: Mapping[str, Picture] = {
    "info job": Picture(job.draw),
    "info worker": Picture(worker.draw),
    "workers": Picture(workers.draw, workers.ROWS),
    "usage": Picture(usage.draw),
}
"""By the question's name, and the kind of what it is asked about."""


def picture_of(asked: Asked) -> Picture | None:
    """Return the picture of a question, as it was asked; None where there is none."""
    kind = asked.given.get("kind")
    return PICTURES.get(f"{asked.question.name} {kind}" if isinstance(kind, str) else asked.question.name)


def most_rows(asked: Asked, listed: int) -> int:
    """Return of how many rows a question is asked, where a page lists so many at most."""
    picture = picture_of(asked)
    return listed if picture is None else max(listed, picture.rows)


def pictures(subject: Subject) -> Mapping[int, Markup]:
    """Return the pictures of an answer, by the place of the part that each stands above."""
    picture = picture_of(subject.asked)
    return {} if picture is None else dict(picture.draw(subject))

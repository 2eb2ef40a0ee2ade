"""Completion of names that are in the history."""

import os
from collections.abc import Callable
from typing import Any

MAXIMUM = 100
"""Names that are offered to a shell."""


def complete(kind: str) -> Callable[..., list[Any]]:
    """Return a click completion of the names of a kind; it stays silent where the history cannot be asked."""

    def offer(context: Any, parameter: Any, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        chosen = kind
        if kind == "thing":  # `bbq info owner …`
            chosen = context.params.get("kind") or ""
        database = context.params.get("database") or getattr(context.obj, "database", None)
        try:
            from history.db.database import default_or_demo
            from history.questions import reading
            from history.questions.names import known

            url = database or os.environ.get("BBQ_DATABASE") or default_or_demo()[0]
            with reading(url) as connection:
                return [CompletionItem(name) for name in known(connection, chosen, incomplete, MAXIMUM)]
        except Exception:
            return []  # a shell that completes is no place for errors

    return offer

"""The files that pages are made with, and links to them that change when they do."""

import hashlib
from importlib.resources import files

TYPES = {"bbq.css": "text/css", "bbq.js": "text/javascript", "bbq.svg": "image/svg+xml"}
CONTENTS = {name: files("history.web").joinpath("static", name).read_bytes() for name in TYPES}
_DIGESTS = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in CONTENTS.items()}
FOR_LONG = "max-age=31536000, immutable"
"""How long a browser may keep what is asked for by such a link."""


def link(name: str) -> str:
    """Return where a file is."""
    return f"/static/{name}?{_DIGESTS[name]}"


def is_current(name: str, query: str) -> bool:
    """Return whether a link leads to the file as it is."""
    return query == _DIGESTS[name]

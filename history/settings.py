"""The settings that the daemon and the pages share, as frozen objects."""

import ipaddress
from pathlib import Path

import msgspec

from history.wording import one_line


class ConfigError(Exception):
    """The configuration cannot be used. The message says, in one line, which file and line, what was read and what was
    expected."""

    def __init__(self, message: str) -> None:
        """Put on one line whatever line ends were read."""
        super().__init__(one_line(message, None))


class Duration(float):
    """A time span in seconds, written `60s`, `2h`, `3y` or as a bare number of seconds."""


class Size(int):
    """A number of bytes, written `512MiB`, `1GiB` or as a bare number of bytes."""


class HistorySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and how long the history is kept."""

    database: str | None = None
    password_file: Path | None = None
    retention: Duration | None = None
    spool: Path | None = None
    """Folder of what waits while the database is away; beside the default database when not said."""
    spool_limit: Size = Size(1 << 30)
    """How much of it there may be."""


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"proxies": "from"}):
    """How a proxy in front of the pages says who asks."""

    header: str
    proxies: tuple[str, ...]
    """Addresses or networks of which it is believed."""

    def __post_init__(self) -> None:
        if not self.header.replace("-", "").isalnum() or not self.header.isascii():
            raise ValueError(f"header {self.header!r}: the name of an HTTP header is expected, such as X-Remote-User")
        if self.header.lower() in ("authorization", "cookie", "host", "connection"):
            raise ValueError(f"header {self.header!r}: whoever asks sends it himself; X-Remote-User?")
        if not self.proxies:
            raise ValueError("from: expected the proxy's address, such as 127.0.0.1; nobody's word is believed")
        for each in self.proxies:
            ipaddress.ip_network(each, strict=False)  # its ValueError says what is wrong


class Roles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may see whose jobs on the pages; whoever is not named sees their own."""

    all: tuple[str, ...] = ()
    """Who may see everybody's."""
    accounts: dict[str, tuple[str, ...]] = {}
    """By user: the accounts of which they may see the jobs, beside their own."""


class PagesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks the pages, and what they may see."""

    identity: Identity | None = None
    roles: Roles | None = None
    """Everybody who is admitted sees everything where it is not said."""
    url: str | None = None
    """Where people find them: the exporter's own page leads there."""

    def __post_init__(self) -> None:
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(
                f"url {self.url!r}: expected where people find the pages, such as https://bbq.example.org/"
            )
        if self.identity is not None and self.roles is None:
            raise ValueError("identity tells who asks, and roles what they may see: name at least one of `all:`")

"""Who asks, and whose jobs they may see: by the word of a proxy, or by the user whose password was right."""

import base64
import binascii
import ipaddress
from collections.abc import Iterable

from history.questions import Reader
from history.questions.visible import Visible
from history.settings import PagesSettings
from history.web.answering import Asker, Failed


class Viewers:
    """Tells of each request who asks."""

    def __init__(self, history: Reader, settings: PagesSettings) -> None:
        self._history = history
        self._roles = settings.roles
        self._identity = settings.identity
        proxies = settings.identity.proxies if settings.identity is not None else ()
        self._proxies = [ipaddress.ip_network(each, strict=False) for each in proxies]

    def is_proxy(self, client: str) -> bool:
        """Return whether a client's word on who asks is believed."""
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)  # as a socket of both families has them
        return any((mapped or address) in each for each in self._proxies)

    def asker(self, client: str, headers: Iterable[tuple[bytes, bytes]], *, has_users: bool) -> Asker:
        """Return who asks. Raises Failed where nobody says it, or it is nobody's to say.

        Args:
            client: its address.
            has_users: whether a password was asked for, and was right, of whoever is no proxy.
        """
        user: str | None = None
        if self._identity is not None and self.is_proxy(client):
            user = _named(self._identity.header, headers)
        elif has_users:
            user = user_of(dict(headers).get(b"authorization", b""))
        elif self._identity is not None:
            raise Failed(403, "These pages are asked through their proxy", "this address is none of `identity: from:`")
        if self._roles is None:
            return Asker(self._history, user)
        if user is None:
            raise Failed(403, "Nobody is known to ask", "what each may see is told by their name, and there is none")
        everything = user in self._roles.all
        return Asker(self._history, user, None if everything else Visible(user, self._roles.accounts.get(user, ())))


def _named(header: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return whom a proxy names. Raises Failed."""
    said = [value for name, value in headers if name.decode("latin-1").lower() == header.lower()]
    try:
        names = [value.decode().strip() for value in said]
    except UnicodeDecodeError:
        names = []
    # the one that a client has sent itself may stand beside the proxy's
    if len(names) != 1 or not names[0] or not names[0].isprintable():
        raise Failed(403, "Nobody is known to ask", f"the proxy is to say who in one header {header}")
    return names[0]


def user_of(authorization: bytes) -> str | None:
    """Return the user of an `Authorization` header, whatever the password; None where there is none."""
    try:
        user, colon, _ = base64.b64decode(authorization.partition(b" ")[2], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user if colon else None

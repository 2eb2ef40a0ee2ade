"""`--web.config.file` in the format of Prometheus' exporter-toolkit: TLS, client certificates, users with passwords.

The file and its certificates are read again when they change; one that has become wrong is told of in the log, and
the last right one stays. The format: github.com/prometheus/exporter-toolkit, docs/web-configuration.md.
"""

import asyncio
import base64
import binascii
import hashlib
import logging
import math
import re
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bcrypt
import msgspec
import yaml

from history import strict_yaml
from history.threads import Watch
from history.wording import nearest, one_line

CHECK_SECONDS = 2.0
_AUTH = {
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_NOBODY = "$2b${}$7EqJtq98hPqEX7fNZaFWoOa5dLiRFFXyMgFYQfVCCYx8ZUqRu0O7e"
"""A hash that no password has: who is not known takes as long to refuse as who is."""
_HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}\Z")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_MAX_GUESSES = 8
"""Clients whose password is looked at, or waits to be, at one time; as many again that have not guessed wrong."""
_GUESSED_SECONDS = 60.0
"""For how long a wrong guess is remembered."""
_MAX_REMEMBERED = 1_000
log = logging.getLogger(__name__)


class WebConfigError(Exception):
    """The file cannot be used; the message says, in one line, what was read and what could stand there."""

    def __init__(self, message: str) -> None:
        """Put on one line whatever line ends were read."""
        super().__init__(one_line(message, None))


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server's certificate, and what it wants of its clients."""

    cert_file: Path
    key_file: Path
    client_auth_type: str = ""
    client_ca_file: Path | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Headers of every answer; HTTP/2 is not spoken."""

    http2: bool = False
    headers: dict[str, str] = {}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    tls_server_config: Tls | None = None
    http_server_config: Http = Http()
    basic_auth_users: dict[str, str] = {}


class WebConfig:
    """What is in force now. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Read a file. Raises WebConfigError."""
        self._path = path
        self._known: set[bytes] = set()
        self._guessing: set[str] = set()
        self._wrong: dict[str, float] = {}
        """When clients have last guessed wrong."""
        self._guesses = ThreadPoolExecutor(1, "password")
        self._lock = threading.Lock()
        self._settings = self._read()
        self.context: ssl.SSLContext | None = None
        """Of new connections; its certificates are exchanged in place."""
        if self._settings.tls_server_config is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._load(self.context, self._settings.tls_server_config)
        self._stamps = self._stamp()
        self._stop = threading.Event()

    def start(self, watch: Watch) -> None:
        """Begin to look for changes."""
        watch.periodic("web_config", "web config", self.refresh, self._stop, lambda: CHECK_SECONDS).start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    @property
    def has_users(self) -> bool:
        """Return whether only some may see the pages."""
        return bool(self._settings.basic_auth_users)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer."""
        headers = self._settings.http_server_config.headers
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]

    async def admits_from(self, client: str, authorization: bytes) -> bool | None:
        """Return whether a client that sends this `Authorization` header may see the pages; None tells it to wait.

        bcrypt is slow on purpose: what was right once is known again by its digest, at once. Of the rest one guess is
        tried at a time, each client has one, and those of a few clients wait. Who has guessed wrong lately waits only
        where there is room for others: who guesses is in nobody's way, a new client's neither.

        Args:
            client: its address.
        """
        found = self._at_once(authorization)
        if isinstance(found, bool):
            return found
        maximum = _MAX_GUESSES if self._has_guessed(client) else 2 * _MAX_GUESSES
        if client in self._guessing or len(self._guessing) >= maximum:
            return None
        self._guessing.add(client)
        try:
            right = await asyncio.get_running_loop().run_in_executor(self._guesses, self._guess, *found)
        finally:
            self._guessing.discard(client)
        if not right:
            if len(self._wrong) >= _MAX_REMEMBERED:
                self._wrong.clear()
            self._wrong[client] = time.monotonic()
        return right

    def _has_guessed(self, client: str) -> bool:
        """Return whether a client has lately guessed wrong."""
        return time.monotonic() - self._wrong.get(client, -math.inf) < _GUESSED_SECONDS

    def admits(self, authorization: bytes) -> bool:
        """Return whether who sends this `Authorization` header may see the pages, however long that takes."""
        found = self._at_once(authorization)
        return found if isinstance(found, bool) else self._guess(*found)

    def _at_once(self, authorization: bytes) -> bool | tuple[bytes, bytes, bytes, bool]:
        """Tell what is known without a guess; else give the digest, the password, the hash, and whether it may do."""
        users = self._settings.basic_auth_users
        if not users:
            return True
        kind, _, text = authorization.partition(b" ")
        try:
            user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        if kind.lower() != b"basic" or not colon:
            return False
        dearest = max((_HASH.match(each) or ["", "10"])[1] for each in users.values())
        hashed = (users.get(user) or _NOBODY.format(dearest)).encode()
        digest = hashlib.sha256(b"\0".join((user.encode(), hashed, password.encode()))).digest()
        with self._lock:
            if digest in self._known:
                return True
        return digest, password.encode()[:72], hashed, user in users

    def _guess(self, digest: bytes, password: bytes, hashed: bytes, there: bool) -> bool:
        right = bcrypt.checkpw(password, hashed) and there
        if right:
            with self._lock:
                if len(self._known) >= _MAX_REMEMBERED:
                    self._known.clear()
                self._known.add(digest)
        return right

    def refresh(self) -> bool:
        """Read the file again if it, or a certificate, has changed; tell whether that was done."""
        stamps = self._stamp()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            settings = self._read()
            if (settings.tls_server_config is None) != (self.context is None):
                raise WebConfigError(f"{self._path}: TLS cannot be turned on or off without a restart")
            if self.context is not None and settings.tls_server_config is not None:
                self._load(self.context, settings.tls_server_config)
        except WebConfigError as error:
            log.error("the web configuration is not used; the one before stays", extra={"error": str(error)})
            return False
        self._settings = settings  # what is known stays: a digest is of a password's hash, too
        log.info("the web configuration was read again")
        return True

    def _files(self) -> Iterator[Path]:
        yield self._path
        tls = self._settings.tls_server_config
        if tls is not None:
            yield from (each for each in (tls.cert_file, tls.key_file, tls.client_ca_file) if each is not None)

    def _stamp(self) -> list[tuple[str, int, int]]:
        found = []
        for path in self._files():
            try:
                about = path.stat()
                found.append((str(path), about.st_mtime_ns, about.st_size))
            except OSError:
                found.append((str(path), 0, 0))
        return found

    def _read(self) -> Settings:
        try:
            data, _ = strict_yaml.load(self._path.read_text(encoding="utf-8"))
        except yaml.MarkedYAMLError as error:
            # the error's own text quotes the line, in which a password's hash may stand
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise WebConfigError(f"{self._path}:{line}: {error.problem}") from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise WebConfigError(f"{self._path}: {' '.join(str(error).split())}") from error
        data = {} if data is None else data
        self._check_keys(data)
        try:
            settings = msgspec.convert(data, Settings, dec_hook=self._decode)
        except msgspec.ValidationError as error:
            raise WebConfigError(f"{self._path}: {error}") from error
        for user, hashed in settings.basic_auth_users.items():
            if not _HASH.match(hashed):
                raise WebConfigError(
                    f"{self._path}: basic_auth_users.{user}: expected a bcrypt hash, as `htpasswd -nBC 10 {user}` gives"
                )
        for name, value in settings.http_server_config.headers.items():
            if not _HEADER.match(name) or not _VALUE.match(value):
                raise WebConfigError(
                    f"{self._path}: http_server_config.headers: {name!r}: {value!r} is no header; "
                    "a value has no line ends, and letters of Latin-1"
                )
        return settings

    def _check_keys(self, data: Any) -> None:
        if not isinstance(data, dict):
            raise WebConfigError(f"{self._path}: expected keys and values")
        kinds: dict[str, Any] = {"": Settings, "tls_server_config": Tls, "http_server_config": Http}
        for section, kind in kinds.items():
            there = data if not section else data.get(section) or {}
            fields = [field.encode_name for field in msgspec.structs.fields(kind)]
            for key in there if isinstance(there, dict) else ():
                if key not in fields:
                    near = nearest(key, fields)
                    hint = f"did you mean `{near[0]}`?" if near else f"BBQ knows {', '.join(fields)}"
                    where = f"{section}.{key}" if section else key
                    raise WebConfigError(f"{self._path}: unknown key `{where}`; {hint}")

    def _decode(self, kind: type, value: Any) -> Any:
        if kind is Path:
            if not isinstance(value, str):
                raise ValueError(f"Expected a path, read {value!r}")
            return self._path.parent / value  # as exporter-toolkit does: relative to this file
        raise NotImplementedError(kind)  # msgspec's protocol for a type nobody knows

    def _load(self, context: ssl.SSLContext, tls: Tls) -> None:
        if tls.client_auth_type not in _AUTH:
            raise WebConfigError(
                f"{self._path}: client_auth_type {tls.client_auth_type!r}: expected {', '.join(filter(None, _AUTH))}"
            )
        for name in ("min_version", "max_version"):
            if getattr(tls, name) not in _VERSIONS:
                raise WebConfigError(f"{self._path}: {name} {getattr(tls, name)!r}: expected {', '.join(_VERSIONS)}")
        required = _AUTH[tls.client_auth_type] is ssl.CERT_REQUIRED
        if required and tls.client_ca_file is None:
            raise WebConfigError(f"{self._path}: {tls.client_auth_type} needs a client_ca_file")
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file)
            if tls.client_ca_file is not None:
                context.load_verify_locations(tls.client_ca_file)
        except (OSError, ValueError) as error:  # a NUL in a path is a ValueError
            raise WebConfigError(f"{self._path}: {tls.cert_file}, {tls.key_file}: {error}") from error
        context.verify_mode = _AUTH[tls.client_auth_type]
        context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]

"""What administrators write, and what lies on the disk: both configurations, and the spool."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from unittest.mock import patch

from exporter import config
from history.db import HistoryError
from history.settings import ConfigError
from history.spool import Spool
from history.spool.frames import Damaged
from history.web.toolkit_config import WebConfig, WebConfigError
from tests.fuzz.making import mutated, nasty
from tests.fuzz.promises import Broken, one_line

CONFIG = b"""history: {database: 'postgresql://bbq@db/bbq', retention: 3y, spool: /var/lib/bbq/spool, spool_limit: 1GiB}
web: {listen_address: ":10227", telemetry_path: /metrics, slurm_names: older}
limits: {owners: 200, series: 50000}
clusters:
  - &usual
    name: grid
    scheduler: htcondor
    collectors: [cm1.example.org]
    schedds: all
    interval: 60s
    vo: {from: [proxy, account], map: {'group_*': '*', 'https://cms-auth.cern.ch': cms}}
  - name: local
    scheduler: slurm
    commands: /usr/bin
    timeout: 1m
    accounting: {interval: 60s, lookback: 2h}
  - {<<: *usual, name: other}
"""
WEB = b"""tls_server_config: {cert_file: server.crt, key_file: server.key, min_version: TLS12}
http_server_config: {http2: false, headers: {Strict-Transport-Security: max-age=1}}
basic_auth_users:
  alice: $2b$10$7EqJtq98hPqEX7fNZaFWoOa5dLiRFFXyMgFYQfVCCYx8ZUqRu0O7e
"""
_YAML = (
    "&a [*a]", "&a {<<: *a}", "*nobody", "!!int ''", "!!float ''", "!!bool x", "!!timestamp x", "!!binary '*'", "!!null x",
    "!!python/object:os.system x", "!!set {a, b}", "!!omap [a: 1]", "2026-13-45", "2026-01-01T99:99:99Z", "? [a, b] : c", "<<: 1",
    "- - - -", "[" * 500, "{a: " * 500, "? " * 500, "- " * 2000, '"\\0"', '"\\ud800"', "1e400", "1:99:99", "0b2", ".nan",
    ".inf", "|\n  x", "--- a\n--- b", "%YAML 9.9\n---\n", "'", '"', "\t- x", "@", "`",
    *("\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" if n else "a0: &a0 [x]" for n in range(12)),
      "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" if n else "a0: &a0 {x: y}" for n in range(12))),
)  # fmt: skip


def yaml_like(said: bytes) -> Callable[[Random], bytes]:
    """Return what makes texts like a configuration."""

    def make(random: Random) -> bytes:
        if random.randrange(3):
            return mutated(random, said)
        lines = said.splitlines(keepends=True)
        place = random.randrange(len(lines))
        begin, colon, _ = lines[place].rpartition(b": ")
        new = random.choice(_YAML) if random.randrange(4) else nasty(random)
        lines[place] = random.choice((begin + colon, b"", begin + b": ")) + new.encode("utf-8", "replace") + b"\n"
        return b"".join(lines)

    return make


@cache
def _folder() -> Path:
    """Return this process's folder for files that must be files; a signal may leave it behind."""
    return Path(tempfile.mkdtemp(prefix="bbq-fuzz-"))


def read_config(said: bytes) -> None:
    """A configuration, or a ConfigError of one line."""
    path = _folder() / "bbq.yaml"
    path.write_bytes(said)
    try:
        found = config.load(path)
    except ConfigError as error:
        one_line(error)
        return
    for cluster in found.clusters:
        if not 0 < cluster.interval < 1 << 62 or not 0 < cluster.stale_seconds < 1 << 62:
            raise Broken(f"an interval of {cluster.interval}")


def read_web(said: bytes) -> None:
    """A web configuration whose users can be told apart, or a WebConfigError of one line."""
    path = _folder() / "web.yaml"
    path.write_bytes(said)
    try:
        found = WebConfig(path)
    except WebConfigError as error:
        one_line(error)
        return
    if any(b"\n" in value or b"\r" in value for _, value in found.headers):
        raise Broken("a header with a line end")


def spools(random: Random) -> tuple[bytes, bytes, bytes]:
    """Make a file of frames, the place of the first, and the watermarks."""
    found = list(_real_spool())
    which = random.randrange(3)
    found[which] = mutated(random, found[which])
    return found[0], found[1], found[2]


@cache
def _real_spool() -> tuple[bytes, bytes, bytes]:
    folder = _folder() / "real"
    spool = Spool(folder, 1 << 20)
    for number in range(4):
        spool.append(b'{"rows": [%d]}' % number * 20, number)
    spool.take_off()
    spool.remember({"grid jobs": "12", "local accounting": "1795446324 1795446330"})
    spool.close()
    (file,) = folder.glob("*.spool")
    return file.read_bytes(), (folder / "place").read_bytes(), (folder / "watermarks").read_bytes()


def read_spool(made: tuple[bytes, bytes, bytes]) -> None:
    """Each piece that is whole comes back, in order; more can be added behind; at the most a HistoryError is raised."""
    folder = _folder() / "spool"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, said in zip(("0000000001.spool", "place", "watermarks"), made, strict=True):
        (folder / name).write_bytes(said)
    with patch("os.fsync"):  # no power is lost here, and it is most of the time
        _use(folder, made)


def _use(folder: Path, made: tuple[bytes, bytes, bytes]) -> None:
    try:
        spool = Spool(folder, 1 << 20)
    except HistoryError as error:
        one_line(error)
        return
    try:
        spool.remembered()
        spool.append(b"last", 1)
        newest = b""
        while spool:
            with suppress(Damaged):
                newest = spool.first()
            spool.take_off()
        if newest != b"last":
            raise Broken(f"what was added last came back as {newest!r}")
        if made[0] == _real_spool()[0] and spool.rows:
            raise Broken(f"{spool.rows} rows wait in an empty spool")
    finally:
        spool.close()

"""A network between an exporter and its PostgreSQL, of which the cable can be pulled: neither end is told.

`python -m tests.faults.network ADDRESS PORT SOCKET` is the far end of it: it hands on what comes to the server's socket.
"""

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from sqlalchemy import URL

from tests.clusters.chroot import wait_for

_PORT = 5432
_PIECE_BYTES = 1 << 16


class Network:
    """A namespace in which a PostgreSQL is reached, and the cable that leads there."""

    def __init__(self, server: URL, stack: ExitStack) -> None:
        """Lay the cable to a server on a socket; the stack takes it away. Needs root."""
        number = os.getpid()
        net = f"10.213.{number % 256}"
        here, there = f"{net}.1", f"{net}.2"
        self._space, self._near, self._far = f"bbq-{number}", f"bbqn{number}", f"bbqf{number}"
        stack.callback(self._ip, "netns", "del", self._space)
        self._ip("netns", "add", self._space)
        self._ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self._space)
        self._ip("addr", "add", f"{here}/30", "dev", self._near)
        self._ip("link", "set", self._near, "up")
        self._ip("-n", self._space, "addr", "add", f"{there}/30", "dev", self._far)
        self.mend()
        shown = subprocess.run(
            ["ip", "-n", self._space, "-brief", "link", "show", self._far], capture_output=True, text=True, check=True
        )
        # else a pulled cable is told after some seconds: nobody says where the address is
        self._ip("neigh", "replace", there, "lladdr", shown.stdout.split()[2], "dev", self._near, "nud", "permanent")
        socket = f"{server.query['host']}/.s.PGSQL.5432"
        far_end = [sys.executable, "-m", "tests.faults.network", there, str(_PORT), socket]
        process = subprocess.Popen(["ip", "netns", "exec", self._space, *far_end])
        stack.callback(process.wait)
        stack.callback(process.kill)
        self.url = server.set(host=there, port=_PORT, query={})
        assert wait_for(self._is_open, 30, 0.1)

    def cut(self) -> None:
        """Pull the cable at its far end."""
        self._ip("-n", self._space, "link", "set", self._far, "down")

    def mend(self) -> None:
        """Put the cable back."""
        self._ip("-n", self._space, "link", "set", self._far, "up")

    def _is_open(self) -> bool:
        asked = ["ip", "netns", "exec", self._space, "ss", "-Hlnt", f"sport = :{_PORT}"]
        return bool(subprocess.run(asked, capture_output=True, check=True).stdout.strip())

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def _serve(address: str, port: int, socket: Path) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, asks = await asyncio.open_unix_connection(socket)
        except OSError:  # the server is stopped
            writer.close()
            return
        await asyncio.gather(_hand_on(reader, asks), _hand_on(answers, writer))

    server = await asyncio.start_server(connected, address, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))

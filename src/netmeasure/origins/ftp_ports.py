"""Listen for the data connections of FTP's passive mode, each on its own port."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence

from netmeasure.engine.listeners import open_listener
from netmeasure.errors import SpecError


class PassivePorts:
    """Open listeners on the ports of a range in turn, or on any free ports."""

    def __init__(self, bounds: tuple[int, int] | None) -> None:
        """Take the lowest and the highest port. Raises SpecError if they form no range."""
        if bounds is not None and not 1 <= bounds[0] <= bounds[1] <= 65_535:
            raise SpecError(
                f"passive ports are {bounds[0]}-{bounds[1]}: it must be a range within 1-65535"
            )
        self._ports = None if bounds is None else range(bounds[0], bounds[1] + 1)
        self._next = 0

    def open(self, family: int, local: Sequence[object]) -> socket.socket | None:
        """Return a listener on the address of `local`, a socket's name; None if no port is
        free."""
        ports: Sequence[int] = (0,) if self._ports is None else self._ports
        for _ in ports:
            port = ports[self._next % len(ports)]
            self._next = (self._next + 1) % len(ports)
            try:
                return open_listener(family, (local[0], port, *local[2:]), backlog=1)
            except OSError as exc:
                if exc.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EMFILE, errno.ENFILE):
                    raise
        return None


class DataListener:
    """Accept one data connection, from the host of the control connection."""

    def __init__(self, listener: socket.socket, peer_host: str) -> None:
        self.port = int(listener.getsockname()[1])
        self._listener: socket.socket | None = listener
        self._peer_host = peer_host
        self._sock: socket.socket | None = None
        self._arrived = asyncio.Event()
        # a cancelled `await sock_accept()` could lose a connection that has just been accepted
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, peer = self._listener.accept()
        except OSError:  # the client reset the connection before it was accepted
            return
        if peer[0] != self._peer_host:  # another host has guessed the port
            sock.close()
            return
        self._sock = sock
        self._stop_listening()
        self._arrived.set()

    async def connection(self, deadline_s: float) -> socket.socket:
        """Return the connection, which the caller has to close. Raises TimeoutError if none comes
        in time."""
        async with asyncio.timeout(deadline_s):
            await self._arrived.wait()
        sock, self._sock = self._sock, None
        assert sock is not None
        return sock

    def _stop_listening(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        self._stop_listening()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

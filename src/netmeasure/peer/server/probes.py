"""Answer one client's probes of the latency."""

from __future__ import annotations

import socket
from contextlib import suppress

from netmeasure.engine import sockopts
from netmeasure.errors import HostLimitError, SocketOptionError
from netmeasure.protocol import Parameters
from netmeasure.workloads.latency import Reflection


class Probes:
    """Own the sockets of a client's probes: at most one by UDP and one by TCP."""

    def __init__(self) -> None:
        self._reflections: dict[socket.SocketKind, Reflection] = {}

    def __contains__(self, kind: socket.SocketKind) -> bool:
        return kind in self._reflections

    def take(self, sock: socket.socket, agreed: Parameters) -> None:
        """Answer the probes on a socket, which is closed at the end of the test."""
        if agreed.TOS:
            with suppress(SocketOptionError):
                sockopts.set_tos(sock, agreed.TOS)
        stamped = agreed.netmeasure is not None and agreed.netmeasure.stamps
        with suppress(HostLimitError):
            self._reflections[sock.type] = Reflection(sock, stamped=stamped)

    def loaded(self) -> None:
        """Count the probes that arrive from now on as those under load."""
        for reflection in self._reflections.values():
            reflection.loaded()

    async def close(self) -> None:
        """End the threads, and close the sockets."""
        for reflection in self._reflections.values():
            await reflection.close()

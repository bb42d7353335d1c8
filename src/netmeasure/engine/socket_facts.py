"""Read the actual properties of a data socket from the kernel."""

from __future__ import annotations

import socket
from contextlib import suppress

from netmeasure.engine import sockets, sockopts
from netmeasure.engine.addresses import address_text
from netmeasure.result import SocketFacts


def read(sock: socket.socket) -> SocketFacts:
    """Return the properties of a TCP or UDP socket; None: the socket does not have the property, or
    the kernel refuses to report it."""
    remote = None
    with suppress(OSError):  # the peer has reset the connection: the next step will raise the error
        remote = address_text(sock.getpeername())
    return SocketFacts(
        local=address_text(sock.getsockname()),
        remote=remote,
        congestion=sockopts.congestion(sock),
        mss_bytes=sockopts.known(sock, socket.IPPROTO_TCP, socket.TCP_MAXSEG),
        sndbuf_bytes=sockopts.known(sock, socket.SOL_SOCKET, socket.SO_SNDBUF),
        rcvbuf_bytes=sockopts.known(sock, socket.SOL_SOCKET, socket.SO_RCVBUF),
        no_delay=sockopts.no_delay(sock),
        pacing_bps=sockopts.pacing_bps(sock),
        pmtu_bytes=sockets.path_mtu(sock),
        tos=sockopts.tos(sock),
    )

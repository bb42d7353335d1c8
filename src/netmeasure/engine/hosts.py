"""Describe this machine: the facts that are stored beside every figure."""

from __future__ import annotations

import platform
import socket
from collections.abc import Iterable

import psutil

from netmeasure.engine import ethtool
from netmeasure.result import Host, NetworkInterface, StreamReport
from netmeasure.version import __version__


def this_host(streams: Iterable[StreamReport] = ()) -> Host:
    """Return the facts of this machine, and of the interfaces that `streams` of this end went
    through."""
    return Host(
        program="netmeasure",
        version=__version__,
        hostname=socket.gethostname(),
        system=platform.system(),
        kernel=platform.release(),
        machine=platform.machine(),
        cpu_count=psutil.cpu_count(),
        python=platform.python_version(),
        interfaces=_interfaces(
            stream.socket.local for stream in streams if stream.socket and stream.socket.local
        ),
    )


def _interfaces(sockets: Iterable[str]) -> tuple[NetworkInterface, ...]:
    """Return the interfaces that have the addresses of these "address:port"s. There is none where
    the calling thread is in another network namespace than the sockets."""
    addresses = {name.rpartition(":")[0].strip("[]").partition("%")[0] for name in sockets}
    if not addresses:
        return ()
    names = [
        name
        for name, found in psutil.net_if_addrs().items()
        if addresses & {one.address.partition("%")[0] for one in found}
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return tuple(
            NetworkInterface(
                name=name,
                mtu_bytes=ethtool.mtu_bytes(sock, name),
                offloads=ethtool.offloads(sock, name),
            )
            for name in names
        )

"""Describe this host: the facts that are stored with every result."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterable
from contextlib import suppress

from msgspec.structs import replace

from netmeasure.engine import ethtool, settings
from netmeasure.engine.qdiscs import Qdisc, read_qdiscs
from netmeasure.result import Host, NetworkInterface, StreamReport
from netmeasure.version import __version__

#: The modules that only `measuring_host` needs, after a test.
MODULES = ("psutil",)


def this_host() -> Host:
    """Return the facts about this host that this end sends before a test."""
    return Host(
        program="netmeasure",
        version=__version__,
        hostname=socket.gethostname(),
        system=platform.system(),
        kernel=platform.release(),
        machine=platform.machine(),
        cpu_count=os.cpu_count(),
        python=platform.python_version(),
    )


def measuring_host(streams: Iterable[StreamReport]) -> Host:
    """Return all facts about this host that may explain a figure, including its settings and the
    interfaces that `streams` of this end used."""
    return replace(
        this_host(),
        interfaces=_interfaces(
            stream.socket.local for stream in streams if stream.socket and stream.socket.local
        ),
        cpu_model=settings.cpu_model(),
        governors=settings.governors(),
        sysctls=tuple(f"{name} = {value}" for name, value in settings.sysctls().items()),
        pod=os.environ.get("NETMEASURE_POD") or None,
        node=os.environ.get("NETMEASURE_NODE") or None,
    )


def _interfaces(sockets: Iterable[str]) -> tuple[NetworkInterface, ...]:
    """Return the interfaces that have the addresses of these "address:port"s. The result is empty
    if the calling thread is in another network namespace than the sockets."""
    addresses = {name.rpartition(":")[0].strip("[]").partition("%")[0] for name in sockets}
    if not addresses:
        return ()
    import psutil  # loaded while data flow (`measurement.autostop`), not before the first byte

    names = [
        name
        for name, found in psutil.net_if_addrs().items()
        if addresses & {one.address.partition("%")[0] for one in found}
    ]
    queues: list[Qdisc] = []
    with suppress(OSError):
        queues = sorted(read_qdiscs(), key=lambda one: not one.root)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return tuple(
            NetworkInterface(
                name=name,
                mtu_bytes=ethtool.mtu_bytes(sock, name),
                offloads=ethtool.offloads(sock, name),
                driver=_driver(sock, name),
                qdiscs=tuple(one.name for one in queues if one.interface == name),
            )
            for name in names
        )


def _driver(sock: socket.socket, name: str) -> str | None:
    found = ethtool.driver(sock, name)
    return None if found is None else found[0]

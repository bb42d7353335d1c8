"""The ends of a test and the way between them, as far as they are known."""

from __future__ import annotations

from typing import Literal

import msgspec


class NetworkInterface(msgspec.Struct, frozen=True, kw_only=True):
    """An interface that data connections went through, as it was at the end of the test.

    offloads   what is switched on: rx-checksum, tx-checksum, sg, tso, gso, gro, lro (ethtool(8));
               None: the kernel does not say
    """

    name: str
    mtu_bytes: int | None = None
    offloads: tuple[str, ...] | None = None


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One end of the test. A plain iperf3 peer tells little of this.

    interfaces  of this end's data connections; none where they are not known
    """

    program: str | None = None
    version: str | None = None
    hostname: str | None = None
    system: str | None = None
    kernel: str | None = None
    machine: str | None = None
    cpu_count: int | None = None
    python: str | None = None
    interfaces: tuple[NetworkInterface, ...] = ()


class PathHole(msgspec.Struct, frozen=True, kw_only=True):
    """A path that drops long packets without a word (a path MTU black hole, RFC 2923, 2.1).

    Lengths are those of whole IP packets, found by trial over TCP.

    passed_bytes  the longest that got through
    lost_bytes    the shortest that did not
    """

    direction: Literal["upload", "download"]
    passed_bytes: int
    lost_bytes: int


class PathFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What this host's kernel knows of the way to another. Unknown is None.

    path_mtu_bytes  of the route, or learned from ICMP (ip(7), IP_MTU)
    interface_kind  as the kernel names it (vxlan, wireguard, vlan...); Ethernet and veth have none
    speed_bps       the interface's own word; `speed_is_real` False: nothing physical is below it
                    (a veth says 10 Gbit/s, always)
    """

    address: str
    ip_version: Literal[4, 6]
    path_mtu_bytes: int | None = None
    interface: str | None = None
    interface_kind: str | None = None
    interface_mtu_bytes: int | None = None
    speed_bps: int | None = None
    speed_is_real: bool | None = None

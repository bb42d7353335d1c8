"""Define the two hosts of a test and the path between them, as far as they are known."""

from __future__ import annotations

from typing import Literal

import msgspec


class NetworkInterface(msgspec.Struct, frozen=True, kw_only=True):
    """Hold an interface that data connections used, with its state at the end of the test.

    Attributes:
        name: The kernel's name, such as "eth0".
        mtu_bytes: Its MTU; None: unknown.
        offloads: The offloads that are on: rx-checksum, tx-checksum, sg, tso, gso, gro, lro
            (ethtool(8)); None: the kernel does not say.
        driver: Its driver, such as "virtio_net"; None: the kernel does not say.
        qdiscs: Its queueing disciplines, the root first, such as "fq 8001:"; empty: unknown.
    """

    name: str
    mtu_bytes: int | None = None
    offloads: tuple[str, ...] | None = None
    driver: str | None = None
    qdiscs: tuple[str, ...] = ()


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the known facts about one end's host and program. A plain iperf3 peer reports few of
    them.

    Attributes:
        program: "netmeasure" or "iperf3"; None: unknown.
        version: The program's version.
        hostname: The host's own name.
        system: The operating system, such as "Linux".
        kernel: The kernel's release.
        machine: The processor's architecture, such as "x86_64".
        cpu_count: Logical CPUs of the host.
        python: The Python that runs netmeasure.
        interfaces: The interfaces of this end's data connections; empty: unknown.
        cpu_model: The processor's name.
        governors: The frequency governors of its CPUs, each once; empty: the host shows none.
        sysctls: The kernel's settings that affect network performance, in the form of sysctl(8),
            such as "net.ipv4.tcp_sack = 1".
        pod: The pod in which this end runs, if the downward API names it.
        node: The node of this pod.
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
    cpu_model: str | None = None
    governors: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()
    pod: str | None = None
    node: str | None = None


class PathHole(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a path MTU black hole: the length from which on a path drops packets silently.

    Lengths are of whole IP packets, found by probes over TCP (RFC 2923 section 2.1).

    Attributes:
        direction: "upload" or "download", seen from the client.
        passed_bytes: The longest packet that got through.
        lost_bytes: The shortest packet that did not.
    """

    direction: Literal["upload", "download"]
    passed_bytes: int
    lost_bytes: int


class PathFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the information of this host's kernel about the path to another host. None: unknown.

    Attributes:
        address: The other host's address.
        ip_version: 4 or 6.
        path_mtu_bytes: The MTU of the route, or the one learned from ICMP (IP_MTU, ip(7)).
        interface: The interface that the route uses.
        interface_kind: The interface's kind in the kernel's words, such as vxlan, wireguard or
            vlan; Ethernet and veth have none.
        interface_mtu_bytes: The interface's MTU.
        speed_bps: The rate that the interface claims.
        speed_is_real: False: the interface is no physical device, so `speed_bps` means nothing (a
            veth always claims 10 Gbit/s).
    """

    address: str
    ip_version: Literal[4, 6]
    path_mtu_bytes: int | None = None
    interface: str | None = None
    interface_kind: str | None = None
    interface_mtu_bytes: int | None = None
    speed_bps: int | None = None
    speed_is_real: bool | None = None

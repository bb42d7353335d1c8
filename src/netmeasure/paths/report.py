"""Define the report on a path's packet lengths."""

from __future__ import annotations

from typing import Literal

import msgspec


class PacketLength(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the longest packet that gets through in one direction. Lengths are of whole IP packets.

    Attributes:
        direction: "upload" (to the server) or "download".
        tried_bytes: The longest packet that was tried: this host's MTU, at most 9216.
        passed_bytes: The longest packet that got through unfragmented; None: unknown, because not
            even the shortest packet did, or the server does not answer probes (it is not
            netmeasure).
        longer: What happened to longer packets: "dropped" without an ICMP message (a black hole).
            TCP: "shortened": the sender was informed and sent shorter packets. UDP: "reported": the
            sender was informed by ICMP; "local": too long for the sender's own interface. None: no
            longer packet was tried, or unknown.
    """

    direction: Literal["upload", "download"]
    tried_bytes: int
    passed_bytes: int | None = None
    longer: Literal["dropped", "shortened", "reported", "local"] | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Hold an encapsulation whose headers are exactly the difference between two lengths.

    Attributes:
        encapsulation: Written as for `netmeasure ceiling --encap`, from the inside outwards.
        outer_mtu_bytes: The MTU that its packets would have to fit.
    """

    encapsulation: str
    outer_mtu_bytes: int


class PathReport(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the packet lengths of a path, found by probes over TCP or UDP. None: unknown.

    Attributes:
        protocol: What carried the probes: "tcp" or "udp".
        address: The server's address.
        port: The server's port.
        ip_version: 4 or 6.
        interface: The interface of this host towards the server.
        interface_mtu_bytes: Its MTU.
        lengths: One for each direction, upload first.
        inner_mtu_bytes: The MTU to set at the packets' origin so that all packets fit in both
            directions: the least of the `passed_bytes`. It does not cover an unknown direction.
        explanations: Encapsulations that would explain the limit; empty if the longest packet got
            through.
        took_ns: How long the search took, after the first connection or answer.
    """

    protocol: Literal["tcp", "udp"] = "tcp"
    address: str
    port: int
    ip_version: Literal[4, 6]
    interface: str | None
    interface_mtu_bytes: int | None
    lengths: tuple[PacketLength, ...]
    inner_mtu_bytes: int | None
    explanations: tuple[Explanation, ...]
    took_ns: int

"""Hold what was found of a path's packet lengths."""

from __future__ import annotations

from typing import Literal

import msgspec


class PacketLength(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the longest packet that gets through in one direction. Lengths are of whole IP packets.

    Attributes:
        direction: "upload" (to the server) or "download".
        tried_bytes: The longest that was tried: this host's MTU, at most 9216.
        passed_bytes: The longest that got through in one piece; None: unknown, since not even the
            shortest did, or the server answers no probes (it is not netmeasure's).
        longer: What happened to longer ones: "dropped" and not reported (a black hole), or
            "shortened": the sender learnt of it and sent shorter packets; None: none is longer, or
            unknown.
    """

    direction: Literal["upload", "download"]
    tried_bytes: int
    passed_bytes: int | None = None
    longer: Literal["dropped", "shortened"] | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Hold an encapsulation whose headers are just the difference between two lengths.

    Attributes:
        encapsulation: Written as for `netmeasure ceiling --encap`, from the inside outwards.
        outer_mtu_bytes: The MTU that its packets would have to fit.
    """

    encapsulation: str
    outer_mtu_bytes: int


class PathReport(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what was found of a path by trial over TCP. Unknown is None.

    Attributes:
        protocol: What carried the probes: always "tcp". UDP datagrams may meet another limit.
        address: The server's address.
        port: The server's port.
        ip_version: 4 or 6.
        interface: The interface of this host that leads there.
        interface_mtu_bytes: Its MTU.
        lengths: One for each direction, upload first.
        inner_mtu_bytes: The MTU to set where packets begin, so that all fit both ways: the least
            of the longest that got through. Of a direction that is unknown it says nothing.
        explanations: Encapsulations that would explain it; none where the longest got through.
        took_ns: How long the search took, after the first connection.
    """

    protocol: Literal["tcp"] = "tcp"
    address: str
    port: int
    ip_version: Literal[4, 6]
    interface: str | None
    interface_mtu_bytes: int | None
    lengths: tuple[PacketLength, ...]
    inner_mtu_bytes: int | None
    explanations: tuple[Explanation, ...]
    took_ns: int

"""Find the encapsulations that would explain why packets must be shorter than an MTU."""

from __future__ import annotations

from netmeasure.overhead.encapsulation import Packet, parse_stack, wrapped
from netmeasure.overhead.sizes import IpVersion
from netmeasure.paths.report import Explanation

#: Many overlays run over Ethernet without jumbo frames, whatever this host's MTU is.
PLAIN_MTU_BYTES = 1500
#: The encapsulations that overlays of containers, clouds and VPNs use.
COMMON = (
    "ipip",
    "ipip:v6",
    "gre",
    "gre:key",
    "gretap",
    "gretap:key",
    "vxlan",
    "vxlan:v6",
    "geneve",
    "geneve:8",
    "geneve:v6",
    "wireguard",
    "wireguard:v6",
    "esp:aes-gcm-16:transport",
    "esp:aes-gcm-16",
    "esp:aes-gcm-16:nat-t",
    "vxlan,esp:aes-gcm-16:transport",
    "vxlan,wireguard",
)


def explanations(
    passed_bytes: int, tried_bytes: int, version: IpVersion
) -> tuple[Explanation, ...]:
    """Return the encapsulations with which exactly this length is the longest that fits an MTU."""
    outers = dict.fromkeys(
        outer for outer in (tried_bytes, PLAIN_MTU_BYTES) if passed_bytes < outer <= tried_bytes
    )
    return tuple(
        Explanation(encapsulation=text, outer_mtu_bytes=outer)
        for outer in outers
        for text in COMMON
        if _outside(text, passed_bytes, version) <= outer
        and _outside(text, passed_bytes + 1, version) > outer
    )


def _outside(text: str, size: int, version: IpVersion) -> int:
    """Return the length of a device's longest packet after encapsulation."""
    return wrapped(Packet(size, size, version), parse_stack(text)).bytes

"""Compute the theoretical payload maximum of a link: its rate less the share of a full packet's
headers.

    payload rate = link rate * payload of a full packet / bytes that the link counts for it

Only the direction of the data counts: acknowledgements use the other direction of a full-duplex
link. A packet that its encapsulation makes larger than the link's MTU is fragmented by the
outermost IP header; the Ceiling has both its figures and those with the right MTU.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from netmeasure.errors import SpecError
from netmeasure.overhead.encapsulation import Encapsulation, Packet, is_tunnel, parse_stack, wrapped
from netmeasure.overhead.sizes import (
    CHECK_SEQUENCE,
    ETHERNET,
    FRAGMENT,
    FRAGMENT_UNIT_BYTES,
    GAP,
    IP,
    MAX_MTU_BYTES,
    MAX_TCP_OPTION_BYTES,
    MIN_FRAME_BYTES,
    MIN_MTU_BYTES,
    PADDING_SOURCE,
    PREAMBLE,
    TCP,
    TIMESTAMPS,
    UDP,
    Header,
    IpVersion,
    sack,
)
from netmeasure.result import Ceiling, CeilingLayer
from netmeasure.spec import Framing, Link

DEFAULT_MTU_BYTES = 1500  # IEEE 802.3 clause 3.2.7: maxBasicDataSize


class Traffic(NamedTuple):
    """Describe the payload and headers of the (inner) packets.

    timestamps   TCP's, in every segment; on by default in Linux (ip-sysctl, tcp_timestamps)
    sack_blocks  in every segment: none unless data and losses go both ways
    """

    transport: Literal["tcp", "udp"] = "tcp"
    ip_version: IpVersion = 4
    timestamps: bool = True
    sack_blocks: int = 0

    def headers(self) -> tuple[Header, ...]:
        """Return the headers in order from the payload outwards. Raises SpecError."""
        if self.transport == "udp":
            if self.sack_blocks:
                raise SpecError("SACK is an option of TCP, not of UDP")
            return UDP, IP[self.ip_version]
        options = (TIMESTAMPS,) if self.timestamps else ()
        if self.sack_blocks:
            options = (*options, sack(self.sack_blocks))
        if self.sack_blocks < 0 or sum(o.bytes for o in options) > MAX_TCP_OPTION_BYTES:
            most = (MAX_TCP_OPTION_BYTES - 4 - TIMESTAMPS.bytes * self.timestamps) // 8
            raise SpecError(f"SACK blocks are {self.sack_blocks}: it must be 0 to {most}")
        return (*options, TCP, IP[self.ip_version])


TCP_OVER_IPV4 = Traffic()


def ceiling(
    link: Link,
    traffic: Traffic = TCP_OVER_IPV4,
    *,
    mtu_bytes: int | None = None,
    payload_bytes: int | None = None,
) -> Ceiling:
    """Return the ceiling of `link` for packets of at most `mtu_bytes` (None: as large as fit
    without fragments) that carry `payload_bytes` (None: as many as fit). The default of an unknown
    link MTU is 1500, or the size that packets of `mtu_bytes` need if this is given. Raises
    SpecError."""
    stack = parse_stack(link.encapsulation)
    headers = traffic.headers()
    overhead = sum(header.bytes for header in headers)
    version = traffic.ip_version
    link_mtu = link.mtu_bytes
    if link_mtu is None:
        link_mtu = DEFAULT_MTU_BYTES if mtu_bytes is None else _grown(mtu_bytes, version, stack)
    _check_outer(link_mtu, stack)
    right = right_mtu(link_mtu, version, stack)
    mtu = right if mtu_bytes is None else mtu_bytes
    _check_mtu(mtu, version, overhead)
    if mtu > link_mtu and not is_tunnel(stack):
        raise SpecError(
            f"packets of {mtu} bytes do not pass a link with an MTU of {link_mtu}",
            hint="an inner MTU needs a tunnel, such as --encap vxlan",
        )
    if payload_bytes is not None and not 1 <= payload_bytes <= mtu - overhead:
        raise SpecError(
            f"payload of a packet is {payload_bytes}: it must be 1 to {mtu - overhead} bytes"
        )
    one = _Laid(link.framing, link_mtu, stack, headers, version)
    payload = mtu - overhead if payload_bytes is None else payload_bytes
    packets, layers = one.lay(payload, mtu)
    total = sum(layer.bytes for layer in layers)
    right_payload = min(right - overhead, payload_bytes or right)
    _check_mtu(right, version, overhead)
    right_total = sum(layer.bytes for layer in one.lay(right_payload, right)[1])
    tcp = traffic.transport == "tcp"
    plain = TCP.bytes + IP[version].bytes
    return Ceiling(
        link_bps=link.rate_bps,
        payload_bps=None if link.rate_bps is None else link.rate_bps * payload / total,
        transport=traffic.transport,
        ip_version=version,
        timestamps=tcp and traffic.timestamps,
        encapsulation=link.encapsulation,
        framing=link.framing,
        link_mtu_bytes=link_mtu,
        mtu_bytes=mtu,
        mss_bytes=mtu - plain if tcp else None,
        payload_bytes=payload,
        link_bytes=total,
        packet_bytes=packets,
        layers=layers,
        right_mtu_bytes=right,
        right_mss_bytes=right - plain if tcp else None,
        right_payload_bytes=right_payload,
        right_link_bytes=right_total,
    )


def right_mtu(link_mtu: int, version: IpVersion, stack: tuple[Encapsulation, ...]) -> int:
    """Return the largest packet that passes the link whole, encapsulation included. Raises
    SpecError if no packet does."""
    mtu = link_mtu
    # in steps of 1: with padding, one byte less may be many bytes less on the link
    while mtu >= MIN_MTU_BYTES[version] and _grown(mtu, version, stack) > link_mtu:
        mtu -= 1
    if mtu < MIN_MTU_BYTES[version]:
        raise SpecError(
            f"an MTU of {link_mtu} has no room for IPv{version} within this encapsulation",
            hint=f"IPv{version} needs {MIN_MTU_BYTES[version]} bytes",
        )
    return mtu


def fragment_sizes(packet_bytes: int, mtu_bytes: int, version: IpVersion) -> tuple[int, ...]:
    """Return the IP packets that one of `packet_bytes` becomes on a link (RFC 791 section 3.2, RFC
    8200 section 4.5): all but the last carry a multiple of 8 bytes."""
    if packet_bytes <= mtu_bytes:
        return (packet_bytes,)
    header = IP[version].bytes + (FRAGMENT.bytes if version == 6 else 0)
    left = packet_bytes - IP[version].bytes
    room = mtu_bytes - header
    most = room - room % FRAGMENT_UNIT_BYTES
    sizes = []
    while left > room:
        sizes.append(header + most)
        left -= most
    return (*sizes, header + left)


def _grown(mtu: int, version: IpVersion, stack: tuple[Encapsulation, ...]) -> int:
    return wrapped(Packet(mtu, mtu, version), stack).bytes


def _check_mtu(mtu: int, version: IpVersion, overhead: int) -> None:
    low = max(MIN_MTU_BYTES[version], overhead + 1)
    if not low <= mtu <= MAX_MTU_BYTES:
        raise SpecError(f"MTU is {mtu}: it must be {low} to {MAX_MTU_BYTES} bytes")


def _check_outer(link_mtu: int, stack: tuple[Encapsulation, ...]) -> None:
    outer: IpVersion = 6 if any(layer.outer == 6 for layer in stack) else 4
    if link_mtu < MIN_MTU_BYTES[outer]:
        raise SpecError(
            f"link MTU is {link_mtu}: tunnels over IPv{outer} need {MIN_MTU_BYTES[outer]} bytes"
        )


class _Laid(NamedTuple):
    """Hold packets as they are laid out on a link."""

    framing: Framing
    link_mtu: int
    stack: tuple[Encapsulation, ...]
    headers: tuple[Header, ...]
    version: IpVersion

    def lay(self, payload: int, mtu: int) -> tuple[tuple[int, ...], tuple[CeilingLayer, ...]]:
        """Return the sizes of the IP packets on the link, and the layers, of one packet's
        payload."""
        size = payload + sum(header.bytes for header in self.headers)
        packet = wrapped(Packet(size, mtu, self.version), self.stack)
        sizes = fragment_sizes(packet.bytes, self.link_mtu, packet.version)
        layers = [CeilingLayer(name="payload", bytes=payload)]
        layers += [_layer(header) for header in (*self.headers, *packet.headers)]
        if len(sizes) > 1:
            again = IP[packet.version]
            layers.append(
                CeilingLayer(
                    name=f"headers of {len(sizes)} fragments",
                    bytes=sum(sizes) - packet.bytes,
                    source=FRAGMENT.source if packet.version == 6 else again.source,
                )
            )
        return sizes, (*layers, *self._frames(sizes, packet.tags))

    def _frames(self, sizes: tuple[int, ...], tags: tuple[Header, ...]) -> list[CeilingLayer]:
        if self.framing == "ip":
            return []
        inside = (*tags, ETHERNET)
        layers = [_layer(header, len(sizes)) for header in inside]
        if self.framing == "frame":
            return layers
        fixed = sum(header.bytes for header in (*inside, CHECK_SEQUENCE))
        padding = sum(max(0, MIN_FRAME_BYTES - fixed - size) for size in sizes)
        if padding:
            layers.append(
                CeilingLayer(name="Ethernet padding", bytes=padding, source=PADDING_SOURCE)
            )
        return layers + [_layer(header, len(sizes)) for header in (CHECK_SEQUENCE, PREAMBLE, GAP)]


def _layer(header: Header, times: int = 1) -> CeilingLayer:
    name = header.name if times == 1 else f"{header.name}, {times} times"
    return CeilingLayer(name=name, bytes=header.bytes * times, source=header.source)

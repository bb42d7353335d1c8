"""Parse stacks of encapsulations, and add their headers to a packet.

A stack is written from the inside outwards, such as "vxlan,esp:aes-gcm-16:transport,vlan".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

from netmeasure.errors import SpecError
from netmeasure.overhead.sizes import (
    CIPHERS,
    DEFAULT_CIPHER,
    ESP,
    ESP_TRAILER,
    ETHERNET,
    GENEVE,
    GRE,
    GRE_FIELDS,
    IP,
    MAX_GENEVE_OPTION_BYTES,
    NAT_T,
    SERVICE_TAG,
    UDP,
    VLAN_TAG,
    VXLAN,
    WIREGUARD,
    WIREGUARD_TAG,
    WIREGUARD_UNIT_BYTES,
    Header,
    IpVersion,
)


class Packet(NamedTuple):
    """Hold an IP packet while a stack's layers are added from the inside outwards.

    Attributes:
        bytes: The packet's size so far.
        full_bytes: The size of the largest packet so far, which is the MTU that a device at this
            layer needs.
        version: Version of the outermost IP header.
        tags: VLAN tags of the next Ethernet frame.
        headers: The headers added so far, from the inside outwards.
    """

    bytes: int
    full_bytes: int
    version: IpVersion
    tags: tuple[Header, ...] = ()
    headers: tuple[Header, ...] = ()


Pad = Callable[[int, Packet], int]


def _no_padding(size: int, packet: Packet) -> int:
    return 0


def _wireguard_padding(size: int, packet: Packet) -> int:
    return min(-size % WIREGUARD_UNIT_BYTES, packet.full_bytes - size)


class Encapsulation(NamedTuple):
    """Hold one layer of a stack.

    Attributes:
        text: The layer as it was written.
        headers: The layer's headers, without padding, an inner Ethernet header and an outer IP
            header.
        ethernet: Whether the layer carries Ethernet frames.
        outer: Version of the outer IP header that the layer adds; None: it adds none.
        tag: Whether its headers are tags of the next Ethernet frame.
        pad: Returns the padding for a size within a packet.
        pad_source: The document that defines the padding.
    """

    text: str
    headers: tuple[Header, ...]
    ethernet: bool = False
    outer: IpVersion | None = None
    tag: bool = False
    pad: Pad = _no_padding
    pad_source: str = ""

    def wrap(self, packet: Packet) -> Packet:
        """Return a packet with this layer added. Raises SpecError for a VLAN tag without a
        frame."""
        if self.tag:
            return packet._replace(tags=packet.tags + self.headers)
        if packet.tags and not self.ethernet:
            raise SpecError(f"{self.text} carries no Ethernet frame that could have a VLAN tag")
        inner = (*packet.tags, _INNER_ETHERNET) if self.ethernet else ()
        outer = () if self.outer is None else (IP[self.outer],)
        added = sum(header.bytes for header in (*inner, *self.headers, *outer))
        padding = self.pad(packet.bytes, packet)
        full = packet.full_bytes + self.pad(packet.full_bytes, packet)
        filled = (Header(f"{self.text.partition(':')[0]} padding", padding, self.pad_source),)
        return Packet(
            bytes=packet.bytes + padding + added,
            full_bytes=full + added,
            version=self.outer or packet.version,
            headers=(
                *packet.headers,
                *inner,
                *(filled if padding else ()),
                *self.headers,
                *outer,
            ),
        )


_INNER_ETHERNET = Header("inner Ethernet header", ETHERNET.bytes, ETHERNET.source)


def wrapped(packet: Packet, stack: tuple[Encapsulation, ...]) -> Packet:
    """Return a packet with the whole stack added."""
    return reduce(lambda inner, layer: layer.wrap(inner), stack, packet)


def is_tunnel(stack: tuple[Encapsulation, ...]) -> bool:
    """Return whether a stack adds an outer IP header, whose packets may be fragmented."""
    return any(layer.outer is not None for layer in stack)


# ---- text to stacks -----------------------------------------------------------------------------


def parse_stack(text: str) -> tuple[Encapsulation, ...]:
    """Return the layers of a text such as "vxlan,esp:aes-gcm-16"; none for "". Raises SpecError.

    vlan | qinq | ipip | vxlan | geneve[:OPTION BYTES] | gre[:key][:csum][:seq] | gretap[...] |
    wireguard | esp[:CIPHER][:tunnel | :transport][:nat-t]; all but the first two and ESP's
    transport mode take :v4 (the default) or :v6, the version of the outer IP header.
    """
    if not text.strip():
        return ()
    return tuple(_parse_layer(part.strip().lower()) for part in text.split(","))


def _parse_layer(text: str) -> Encapsulation:
    name, *words = text.split(":")
    if name not in _PARSERS:
        raise SpecError(
            f"{name!r} is not an encapsulation", hint=f"one of {', '.join(sorted(_PARSERS))}"
        )
    if len(set(words)) < len(words):
        raise SpecError(f"{text!r} has the same option twice")
    options = set(words)
    layer = _PARSERS[name](text, options)
    if options:
        raise SpecError(f"{sorted(options)[0]!r} is not an option of {name}")
    return layer


def _outer(options: set[str]) -> IpVersion:
    """Return the outer IP header's version, and remove it from the options."""
    if {"v4", "v6"} <= options:
        raise SpecError("an outer IP header is v4 or v6, not both")
    version: IpVersion = 6 if "v6" in options else 4
    options -= {"v4", "v6"}
    return version


def _vlan(text: str, options: set[str]) -> Encapsulation:
    return Encapsulation(text, (VLAN_TAG,), tag=True)


def _qinq(text: str, options: set[str]) -> Encapsulation:
    return Encapsulation(text, (VLAN_TAG, SERVICE_TAG), tag=True)


def _ipip(text: str, options: set[str]) -> Encapsulation:
    # RFC 2003 section 3.1; RFC 2473 section 3.1 (without its encapsulation limit, which Linux's
    # ip6tnl adds unless told "encaplimit none")
    return Encapsulation(text, (), outer=_outer(options))


def _vxlan(text: str, options: set[str]) -> Encapsulation:
    return Encapsulation(text, (VXLAN, UDP), ethernet=True, outer=_outer(options))


def _geneve(text: str, options: set[str]) -> Encapsulation:
    headers: tuple[Header, ...] = (GENEVE, UDP)
    for word in [word for word in options if word.isascii() and word.isdigit()]:
        length = int(word[:9])
        if length > MAX_GENEVE_OPTION_BYTES or length % 4 or len(headers) > 2:
            raise SpecError(
                f"{text!r}: Geneve's options are 0 to {MAX_GENEVE_OPTION_BYTES} bytes, in fours"
            )
        headers = (Header("Geneve options", length, "RFC 8926 section 3.5"), *headers)
        options.remove(word)
    return Encapsulation(text, headers, ethernet=True, outer=_outer(options))


def _gre(text: str, options: set[str]) -> Encapsulation:
    fields = tuple(GRE_FIELDS[word] for word in ("seq", "key", "csum") if word in options)
    options -= set(GRE_FIELDS)
    ethernet = text.startswith("gretap")
    return Encapsulation(text, (*fields, GRE), ethernet=ethernet, outer=_outer(options))


def _wireguard(text: str, options: set[str]) -> Encapsulation:
    return Encapsulation(
        text,
        (WIREGUARD_TAG, WIREGUARD, UDP),
        outer=_outer(options),
        pad=_wireguard_padding,
        pad_source="Donenfeld 2017, section 5.4.6; Linux: not beyond the device's MTU",
    )


def _esp(text: str, options: set[str]) -> Encapsulation:
    ciphers = sorted(options & set(CIPHERS)) or [DEFAULT_CIPHER]
    modes = options & {"tunnel", "transport"}
    if len(ciphers) > 1 or len(modes) > 1:
        raise SpecError(f"{text!r}: ESP has one cipher, and one mode")
    transport = "transport" in modes
    nat_t = (NAT_T,) if "nat-t" in options else ()
    options -= {*ciphers, *modes, "nat-t"}
    if options - {"v4", "v6"}:
        known = ", ".join(CIPHERS)
        raise SpecError(
            f"{sorted(options - {'v4', 'v6'})[0]!r} is not an option of esp",
            hint=f"tunnel, transport, nat-t, v4, v6 or a cipher: {known}",
        )
    cipher = CIPHERS[ciphers[0]]

    def pad(size: int, packet: Packet) -> int:
        # transport mode leaves the IP header in front of ESP (RFC 4303 section 3.1.1)
        covered = size - IP[packet.version].bytes if transport else size
        return -(covered + ESP_TRAILER.bytes) % cipher.unit

    return Encapsulation(
        text,
        (
            ESP_TRAILER,
            Header("ESP check value", cipher.icv, cipher.source),
            Header("ESP IV", cipher.iv, cipher.source),
            ESP,
            *nat_t,
        ),
        outer=None if transport else _outer(options),
        pad=pad,
        pad_source=f"RFC 4303 section 2.4; {cipher.source}",
    )


_PARSERS: dict[str, Callable[[str, set[str]], Encapsulation]] = {
    "vlan": _vlan,
    "qinq": _qinq,
    "ipip": _ipip,
    "vxlan": _vxlan,
    "geneve": _geneve,
    "gre": _gre,
    "gretap": _gre,
    "wireguard": _wireguard,
    "esp": _esp,
}

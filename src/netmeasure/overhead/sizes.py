"""Everything that is sent besides the payload: sizes of headers, each with its source, and stacks
of encapsulations, written from the inside outwards: "vxlan,esp:aes-gcm-16:transport,vlan".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Literal, NamedTuple

from netmeasure.errors import SpecError

IpVersion = Literal[4, 6]


class Header(NamedTuple):
    """So many bytes of every packet, and the document that says so."""

    name: str
    bytes: int
    source: str


# ---- Ethernet -----------------------------------------------------------------------------------

ETHERNET = Header("Ethernet header", 14, "IEEE 802.3 clauses 3.2.3 to 3.2.6")
PREAMBLE = Header("preamble, start of frame", 8, "IEEE 802.3 clauses 3.2.1, 3.2.2")
CHECK_SEQUENCE = Header("frame check sequence", 4, "IEEE 802.3 clause 3.2.9")
GAP = Header("gap between packets", 12, "IEEE 802.3 clause 4.4.2: 96 bits")
#: From the addresses to the check sequence; shorter ones are padded (IEEE 802.3 clause 4.4.2: 512
#: bits).
MIN_FRAME_BYTES = 64
PADDING_SOURCE = "IEEE 802.3 clauses 3.2.8, 4.4.2"
VLAN_TAG = Header("VLAN tag", 4, "IEEE 802.1Q clause 9")
SERVICE_TAG = Header("service VLAN tag", 4, "IEEE 802.1Q clause 9 (QinQ, once 802.1ad)")

# ---- IP, TCP, UDP -------------------------------------------------------------------------------

IP: dict[IpVersion, Header] = {
    4: Header("IPv4 header", 20, "RFC 791 section 3.1, no options"),
    6: Header("IPv6 header", 40, "RFC 8200 section 3"),
}
#: What every link must take: RFC 791 section 3.2, RFC 8200 section 5.
MIN_MTU_BYTES: dict[IpVersion, int] = {4: 68, 6: 1280}
MAX_MTU_BYTES = 65_535  # RFC 791: total length; RFC 8200 without jumbograms is the like
FRAGMENT = Header("IPv6 fragment header", 8, "RFC 8200 section 4.5")
FRAGMENT_UNIT_BYTES = 8  # fragments begin at multiples of it: RFC 791 section 3.2, RFC 8200 4.5
TCP = Header("TCP header", 20, "RFC 9293 section 3.1")
TIMESTAMPS = Header("TCP timestamps", 12, "RFC 7323 section 3.2, appendix A: 10 and two NOPs")
MAX_TCP_OPTION_BYTES = 40  # RFC 9293 section 3.1: the data offset has 4 bits
UDP = Header("UDP header", 8, "RFC 768")


def sack(blocks: int) -> Header:
    """TCP's selective acknowledgement with so many blocks. Segments of a one-way transfer have
    none: they travel on the acknowledgements."""
    return Header(f"SACK, {blocks} blocks", 4 + 8 * blocks, "RFC 2018 section 3, and two NOPs")


# ---- tunnels ------------------------------------------------------------------------------------

_VXLAN = Header("VXLAN header", 8, "RFC 7348 section 5")
_GENEVE = Header("Geneve header", 8, "RFC 8926 section 3.4")
_MAX_GENEVE_OPTION_BYTES = 252  # RFC 8926 section 3.4: 6 bits, units of 4 bytes
_GRE = Header("GRE header", 4, "RFC 2784 section 2.1")
_GRE_FIELDS = {
    "csum": Header("GRE checksum", 4, "RFC 2784 sections 2.5, 2.6"),
    "key": Header("GRE key", 4, "RFC 2890 section 2.1"),
    "seq": Header("GRE sequence number", 4, "RFC 2890 section 2.2"),
}
_WIREGUARD = Header("WireGuard header", 16, "Donenfeld, WireGuard (NDSS 2017), section 5.4.6")
_WIREGUARD_TAG = Header(
    "WireGuard tag (Poly1305)", 16, "Donenfeld 2017, section 5.4.6; RFC 8439 section 2.8"
)
#: Plaintext is padded to it, but not beyond the device's MTU: Linux, drivers/net/wireguard/send.c,
#: calculate_skb_padding().
_WIREGUARD_UNIT_BYTES = 16
_ESP = Header("ESP header", 8, "RFC 4303 sections 2.1, 2.2")
_ESP_TRAILER = Header("ESP trailer", 2, "RFC 4303 sections 2.5, 2.6")
_NAT_T = Header("UDP header (NAT-T)", 8, "RFC 3948 section 2.1")


class _Cipher(NamedTuple):
    iv: int
    unit: int  # the ciphertext is a multiple of it: at least 4 (RFC 4303 section 2.4)
    icv: int
    source: str


_CIPHERS = {
    "aes-gcm-16": _Cipher(8, 4, 16, "RFC 4106 sections 3.1, 3.2, 6"),
    "aes-gcm-12": _Cipher(8, 4, 12, "RFC 4106 sections 3.1, 3.2, 6"),
    "aes-gcm-8": _Cipher(8, 4, 8, "RFC 4106 sections 3.1, 3.2, 6"),
    "chacha20-poly1305": _Cipher(8, 4, 16, "RFC 7634 section 2"),
    "aes-cbc-sha1": _Cipher(16, 16, 12, "RFC 3602 sections 2.4, 3; RFC 2404 section 2"),
    "aes-cbc-sha256": _Cipher(16, 16, 16, "RFC 3602 sections 2.4, 3; RFC 4868 section 2.3"),
    "aes-cbc-sha384": _Cipher(16, 16, 24, "RFC 3602 sections 2.4, 3; RFC 4868 section 2.3"),
    "aes-cbc-sha512": _Cipher(16, 16, 32, "RFC 3602 sections 2.4, 3; RFC 4868 section 2.3"),
}
DEFAULT_CIPHER = "aes-gcm-16"


class Packet(NamedTuple):
    """An IP packet on its way outwards through a stack.

    full_bytes  what the largest packet has become at this place: the MTU that a device here needs
    version     of the outermost IP header
    tags        of the Ethernet frame that is still to come
    headers     what was put around it so far, from the inside outwards
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
    return min(-size % _WIREGUARD_UNIT_BYTES, packet.full_bytes - size)


class Encapsulation(NamedTuple):
    """One layer of a stack.

    headers  what it adds besides padding, an inner Ethernet header and an outer IP header
    ethernet whether it carries Ethernet frames
    outer    version of the IP header in front; None: there is none
    tag      whether its headers are tags of the next Ethernet frame
    """

    text: str
    headers: tuple[Header, ...]
    ethernet: bool = False
    outer: IpVersion | None = None
    tag: bool = False
    pad: Pad = _no_padding
    pad_source: str = ""

    def wrap(self, packet: Packet) -> Packet:
        """The packet with this layer around it. Raises SpecError for a tag with no frame."""
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
    """The packet within the whole stack, from the inside outwards."""
    return reduce(lambda inner, layer: layer.wrap(inner), stack, packet)


def is_tunnel(stack: tuple[Encapsulation, ...]) -> bool:
    """Whether the packets get an IP header of another, which may be fragmented."""
    return any(layer.outer is not None for layer in stack)


# ---- text to stacks -----------------------------------------------------------------------------


def parse_stack(text: str) -> tuple[Encapsulation, ...]:
    """ "vxlan,esp:aes-gcm-16" from the inside outwards; nothing for "". Raises SpecError.

    vlan | qinq | ipip | vxlan | geneve[:OPTION BYTES] | gre[:key][:csum][:seq] | gretap[...] |
    wireguard | esp[:CIPHER][:tunnel | :transport][:nat-t]; all but the first two and ESP's
    transport mode take :v4 (as if not said) or :v6, the version of the outer IP header.
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
        raise SpecError(f"{text!r} says something twice")
    options = set(words)
    layer = _PARSERS[name](text, options)
    if options:
        raise SpecError(f"{sorted(options)[0]!r} is not an option of {name}")
    return layer


def _outer(options: set[str]) -> IpVersion:
    """Takes the version out of the options."""
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
    return Encapsulation(text, (_VXLAN, UDP), ethernet=True, outer=_outer(options))


def _geneve(text: str, options: set[str]) -> Encapsulation:
    headers: tuple[Header, ...] = (_GENEVE, UDP)
    for word in [word for word in options if word.isascii() and word.isdigit()]:
        length = int(word[:9])
        if length > _MAX_GENEVE_OPTION_BYTES or length % 4 or len(headers) > 2:
            raise SpecError(
                f"{text!r}: Geneve's options are 0 to {_MAX_GENEVE_OPTION_BYTES} bytes, in fours"
            )
        headers = (Header("Geneve options", length, "RFC 8926 section 3.5"), *headers)
        options.remove(word)
    return Encapsulation(text, headers, ethernet=True, outer=_outer(options))


def _gre(text: str, options: set[str]) -> Encapsulation:
    fields = tuple(_GRE_FIELDS[word] for word in ("seq", "key", "csum") if word in options)
    options -= set(_GRE_FIELDS)
    ethernet = text.startswith("gretap")
    return Encapsulation(text, (*fields, _GRE), ethernet=ethernet, outer=_outer(options))


def _wireguard(text: str, options: set[str]) -> Encapsulation:
    return Encapsulation(
        text,
        (_WIREGUARD_TAG, _WIREGUARD, UDP),
        outer=_outer(options),
        pad=_wireguard_padding,
        pad_source="Donenfeld 2017, section 5.4.6; Linux: not beyond the device's MTU",
    )


def _esp(text: str, options: set[str]) -> Encapsulation:
    ciphers = sorted(options & set(_CIPHERS)) or [DEFAULT_CIPHER]
    modes = options & {"tunnel", "transport"}
    if len(ciphers) > 1 or len(modes) > 1:
        raise SpecError(f"{text!r}: ESP has one cipher, and one mode")
    transport = "transport" in modes
    nat_t = (_NAT_T,) if "nat-t" in options else ()
    options -= {*ciphers, *modes, "nat-t"}
    if options - {"v4", "v6"}:
        known = ", ".join(_CIPHERS)
        raise SpecError(
            f"{sorted(options - {'v4', 'v6'})[0]!r} is not an option of esp",
            hint=f"tunnel, transport, nat-t, v4, v6 or a cipher: {known}",
        )
    cipher = _CIPHERS[ciphers[0]]

    def pad(size: int, packet: Packet) -> int:
        # transport mode leaves the IP header in front of ESP (RFC 4303 section 3.1.1)
        covered = size - IP[packet.version].bytes if transport else size
        return -(covered + _ESP_TRAILER.bytes) % cipher.unit

    return Encapsulation(
        text,
        (
            _ESP_TRAILER,
            Header("ESP check value", cipher.icv, cipher.source),
            Header("ESP IV", cipher.iv, cipher.source),
            _ESP,
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

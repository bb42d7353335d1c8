"""List the sizes of all headers, each with its source."""

from __future__ import annotations

from typing import Literal, NamedTuple

IpVersion = Literal[4, 6]


class Header(NamedTuple):
    """Hold how many bytes of every packet a header takes, and the document that says so."""

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
#: The least MTU of any link: RFC 791 section 3.2, RFC 8200 section 5.
MIN_MTU_BYTES: dict[IpVersion, int] = {4: 68, 6: 1280}
MAX_MTU_BYTES = 65_535  # RFC 791: total length; RFC 8200 without jumbograms is the like
FRAGMENT = Header("IPv6 fragment header", 8, "RFC 8200 section 4.5")
FRAGMENT_UNIT_BYTES = 8  # fragments begin at multiples of it: RFC 791 section 3.2, RFC 8200 4.5
TCP = Header("TCP header", 20, "RFC 9293 section 3.1")
TIMESTAMPS = Header("TCP timestamps", 12, "RFC 7323 section 3.2, appendix A: 10 and two NOPs")
MAX_TCP_OPTION_BYTES = 40  # RFC 9293 section 3.1: the data offset has 4 bits
UDP = Header("UDP header", 8, "RFC 768")


def sack(blocks: int) -> Header:
    """Return TCP's selective acknowledgement option with a number of blocks.

    Segments of a one-way transfer have no blocks: only the acknowledgements carry them.
    """
    return Header(f"SACK, {blocks} blocks", 4 + 8 * blocks, "RFC 2018 section 3, and two NOPs")


# ---- tunnels ------------------------------------------------------------------------------------

VXLAN = Header("VXLAN header", 8, "RFC 7348 section 5")
GENEVE = Header("Geneve header", 8, "RFC 8926 section 3.4")
MAX_GENEVE_OPTION_BYTES = 252  # RFC 8926 section 3.4: 6 bits, units of 4 bytes
GRE = Header("GRE header", 4, "RFC 2784 section 2.1")
GRE_FIELDS = {
    "csum": Header("GRE checksum", 4, "RFC 2784 sections 2.5, 2.6"),
    "key": Header("GRE key", 4, "RFC 2890 section 2.1"),
    "seq": Header("GRE sequence number", 4, "RFC 2890 section 2.2"),
}
WIREGUARD = Header("WireGuard header", 16, "Donenfeld, WireGuard (NDSS 2017), section 5.4.6")
WIREGUARD_TAG = Header(
    "WireGuard tag (Poly1305)", 16, "Donenfeld 2017, section 5.4.6; RFC 8439 section 2.8"
)
#: The unit to which plaintext is padded, but not beyond the device's MTU: Linux,
#: drivers/net/wireguard/send.c, calculate_skb_padding().
WIREGUARD_UNIT_BYTES = 16
ESP = Header("ESP header", 8, "RFC 4303 sections 2.1, 2.2")
ESP_TRAILER = Header("ESP trailer", 2, "RFC 4303 sections 2.5, 2.6")
NAT_T = Header("UDP header (NAT-T)", 8, "RFC 3948 section 2.1")


class Cipher(NamedTuple):
    """Hold the overhead of an ESP cipher: bytes of IV and check value, and the unit of its
    ciphertext."""

    iv: int
    unit: int  # the ciphertext is a multiple of it: at least 4 (RFC 4303 section 2.4)
    icv: int
    source: str


CIPHERS = {
    "aes-gcm-16": Cipher(8, 4, 16, "RFC 4106 sections 3.1, 3.2, 6"),
    "aes-gcm-12": Cipher(8, 4, 12, "RFC 4106 sections 3.1, 3.2, 6"),
    "aes-gcm-8": Cipher(8, 4, 8, "RFC 4106 sections 3.1, 3.2, 6"),
    "chacha20-poly1305": Cipher(8, 4, 16, "RFC 7634 section 2"),
    "aes-cbc-sha1": Cipher(16, 16, 12, "RFC 3602 sections 2.4, 3; RFC 2404 section 2"),
    "aes-cbc-sha256": Cipher(16, 16, 16, "RFC 3602 sections 2.4, 3; RFC 4868 section 2.3"),
    "aes-cbc-sha384": Cipher(16, 16, 24, "RFC 3602 sections 2.4, 3; RFC 4868 section 2.3"),
    "aes-cbc-sha512": Cipher(16, 16, 32, "RFC 3602 sections 2.4, 3; RFC 4868 section 2.3"),
}
DEFAULT_CIPHER = "aes-gcm-16"

"""Specify what to measure, by frozen, validated structures. An invalid value raises SpecError at
once."""

from __future__ import annotations

from netmeasure.spec.checked import check_device
from netmeasure.spec.fetch import FtpSpec, HttpSpec, parse_pin
from netmeasure.spec.limits import OriginLimits, ServerLimits
from netmeasure.spec.parts import (
    Credentials,
    Deadlines,
    Link,
    Secret,
    ServerTls,
    SocketOptions,
    Timing,
)
from netmeasure.spec.peer import RrSpec, TcpSpec, UdpSpec
from netmeasure.spec.requests import RequestSpec
from netmeasure.spec.words import (
    DEFAULT_BLOCK_BYTES,
    DEFAULT_MARGIN,
    DEFAULT_PORT,
    DEFAULT_UDP_BPS,
    MAX_BLOCK_BYTES,
    MAX_COUNT,
    MAX_DATAGRAM_BYTES,
    MAX_DURATION_S,
    MAX_SPIN_US,
    MIN_DATAGRAM_BYTES,
    SECRET_HEADERS,
    Direction,
    Family,
    Framing,
    Padding,
    ReceiveMode,
    SendMode,
)

PeerSpec = TcpSpec | UdpSpec | RrSpec
FetchSpec = HttpSpec | FtpSpec
Spec = TcpSpec | UdpSpec | RrSpec | HttpSpec | FtpSpec | RequestSpec

__all__ = [
    "DEFAULT_BLOCK_BYTES",
    "DEFAULT_MARGIN",
    "DEFAULT_PORT",
    "DEFAULT_UDP_BPS",
    "MAX_BLOCK_BYTES",
    "MAX_COUNT",
    "MAX_DATAGRAM_BYTES",
    "MAX_DURATION_S",
    "MAX_SPIN_US",
    "MIN_DATAGRAM_BYTES",
    "SECRET_HEADERS",
    "Credentials",
    "Deadlines",
    "Direction",
    "Family",
    "FetchSpec",
    "Framing",
    "FtpSpec",
    "HttpSpec",
    "Link",
    "OriginLimits",
    "Padding",
    "PeerSpec",
    "ReceiveMode",
    "RequestSpec",
    "RrSpec",
    "Secret",
    "SendMode",
    "ServerLimits",
    "ServerTls",
    "SocketOptions",
    "Spec",
    "TcpSpec",
    "Timing",
    "UdpSpec",
    "check_device",
    "parse_pin",
]

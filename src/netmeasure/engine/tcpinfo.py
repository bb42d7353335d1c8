"""Decode TCP_INFO, including retransmitted SYNs, by a table in this module, which depends neither
on glibc's struct nor on the build host's. A field beyond the record that the kernel returned is
unknown (None), not 0.

Layout: struct tcp_info of Linux's include/uapi/linux/tcp.h (fields are only ever appended).
"""

from __future__ import annotations

import functools
import math
import socket
import struct
import time
from collections.abc import Sequence

from netmeasure.clock import MILLISECOND_NS
from netmeasure.result import TcpInfo

_BUFFER_BYTES = 512


def _tick_ms() -> int:
    """Return the tick of the kernel's clock, in which CLOCK_MONOTONIC_COARSE (6) counts, rounded
    up; the longest one in use (CONFIG_HZ=100) if the system does not say."""
    try:
        return max(1, math.ceil(1000 * time.clock_getres(6)))
    except OSError:
        return 10


#: The unit of ages in a record.
_TICK_MS = _tick_ms()
_FIELDS: dict[str, tuple[int, str]] = {
    "snd_mss": (16, "I"),
    "last_ack_recv": (56, "I"),
    "pmtu": (60, "I"),
    "rtt_us": (68, "I"),
    "rttvar_us": (72, "I"),
    "snd_cwnd": (80, "I"),
    "total_retrans": (100, "I"),
    "pacing_rate": (104, "Q"),
    "bytes_acked": (120, "Q"),
    "notsent_bytes": (144, "I"),
    "min_rtt_us": (148, "I"),
    "delivery_rate": (160, "Q"),
    "busy_us": (168, "Q"),
    "rwnd_limited_us": (176, "Q"),
    "sndbuf_limited_us": (184, "Q"),
    "bytes_sent": (200, "Q"),
    "bytes_retrans": (208, "Q"),
    "reord_seen": (220, "I"),
    "snd_wnd": (228, "I"),
}
#: Values that mean "none" in the kernel: no pacing, no round trip measured yet.
_NONE = {"pacing_rate": 2**64 - 1, "min_rtt_us": 2**32 - 1}


def field(raw: bytes, name: str) -> int | None:
    """Return one field of a raw TCP_INFO record; None: the record is too short for it."""
    offset, code = _FIELDS[name]
    if offset + struct.calcsize(code) > len(raw):
        return None
    value: int = struct.unpack_from("=" + code, raw, offset)[0]
    return value


# the length differs between kernels, but a host has only one kernel
@functools.lru_cache(maxsize=8)
def _layout(length: int) -> tuple[struct.Struct, list[str]]:
    """Return the fields of a record of so many bytes, and the structure that decodes them."""
    formats, end = ["="], 0
    names: list[str] = []
    for name, (offset, code) in sorted(_FIELDS.items(), key=lambda field: field[1]):
        if offset + struct.calcsize("=" + code) <= length:
            formats.append(f"{offset - end}x{code}")
            names.append(name)
            end = offset + struct.calcsize("=" + code)
    return struct.Struct("".join(formats)), names


def read(sock: socket.socket) -> bytes:
    """Return the raw record of a socket; empty if the system has none, which is not an error."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BUFFER_BYTES)
    except OSError:
        return b""


def state(raw: bytes) -> dict[str, int | None]:
    """Return the sender's state from a raw record, with the names of result.StreamInterval."""
    mss, cwnd = field(raw, "snd_mss"), field(raw, "snd_cwnd")
    rtt, rttvar = field(raw, "rtt_us"), field(raw, "rttvar_us")
    return {
        "cwnd_bytes": None if mss is None or cwnd is None else cwnd * mss,
        "snd_wnd_bytes": field(raw, "snd_wnd"),
        "rtt_ns": None if rtt is None else rtt * 1000,
        "rttvar_ns": None if rttvar is None else rttvar * 1000,
        "pmtu_bytes": field(raw, "pmtu"),
        "reordering_seen": field(raw, "reord_seen"),
    }


def syn_retransmits(sock: socket.socket) -> int | None:
    """Return the number of retransmitted SYNs (or, on the accepting side, SYN-ACKs). It is correct
    only directly after connect or accept, before any data could be retransmitted."""
    return field(read(sock), "total_retrans")


def connected_at(sock: socket.socket, sent_ns: int, noticed_ns: int) -> tuple[int, int | None]:
    """Return when the kernel received the answer to the SYN of a socket that has just connected,
    and how many SYNs it retransmitted. Call this before anything is sent on the socket."""
    return answered_at(read(sock), sent_ns, noticed_ns)


def answered_at(raw: bytes, sent_ns: int, noticed_ns: int) -> tuple[int, int | None]:
    """Return what `connected_at` returns, from the socket's raw record.

    The event loop may have noticed the answer much later, at `noticed_ns`. Without a
    retransmission, the answer arrived after the first round-trip time; otherwise the kernel records
    when the last answer arrived, in units of its clock tick.
    """
    again, rtt_us = field(raw, "total_retrans"), field(raw, "rtt_us")
    if again == 0 and rtt_us:
        return min(noticed_ns, sent_ns + rtt_us * 1000), again
    since_ms = field(raw, "last_ack_recv")
    if again and since_ms is not None and since_ms >= 2 * _TICK_MS:
        return max(sent_ns, noticed_ns - since_ms * MILLISECOND_NS), again
    return noticed_ns, again


def decode(samples: Sequence[tuple[int, bytes]], origin_ns: int) -> TcpInfo | None:
    """Return columns from [(CLOCK_MONOTONIC ns, raw record)]; times become relative to
    `origin_ns`."""
    samples = [(at, raw) for at, raw in samples if raw]
    if not samples:
        return None
    layout, names = _layout(min(len(raw) for _, raw in samples))
    rows = [layout.unpack_from(raw) for _, raw in samples]
    columns = {name: tuple(row[i] for row in rows) for i, name in enumerate(names)}

    def column(name: str, factor: int = 1) -> tuple[int, ...] | None:
        values = columns.get(name)
        if values is None or _NONE.get(name) in values:
            return None
        return tuple(value * factor for value in values) if factor != 1 else values

    mss, cwnd = column("snd_mss"), column("snd_cwnd")
    return TcpInfo(
        at_ns=tuple(at - origin_ns for at, _ in samples),
        retransmits=column("total_retrans"),
        rtt_ns=column("rtt_us", 1000),
        rttvar_ns=column("rttvar_us", 1000),
        min_rtt_ns=column("min_rtt_us", 1000),
        cwnd_bytes=tuple(c * m for c, m in zip(cwnd, mss, strict=True)) if cwnd and mss else None,
        snd_wnd_bytes=column("snd_wnd"),
        unsent_bytes=column("notsent_bytes"),
        mss_bytes=mss,
        pmtu_bytes=column("pmtu"),
        delivery_bps=column("delivery_rate", 8),
        pacing_bps=column("pacing_rate", 8),
        acked_bytes=column("bytes_acked"),
        sent_bytes=column("bytes_sent"),
        retransmitted_bytes=column("bytes_retrans"),
        reordering_seen=column("reord_seen"),
        busy_ns=column("busy_us", 1000),
        rwnd_limited_ns=column("rwnd_limited_us", 1000),
        sndbuf_limited_ns=column("sndbuf_limited_us", 1000),
    )

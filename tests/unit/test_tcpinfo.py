"""Test the decoding of TCP_INFO: the right bytes for each name, and no value without a source."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator

import pytest

from netmeasure.clock import now_ns
from netmeasure.engine import tcpinfo
from netmeasure.result import TcpInfo

_U8, _U32, _U64 = ctypes.c_uint8, ctypes.c_uint32, ctypes.c_uint64
_LAYOUT = (
    (_U8, "state ca_state retransmits probes backoff options wscale app_limited"),
    (_U32, "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets"),
    (_U32, "last_data_sent last_ack_sent last_data_recv last_ack_recv pmtu rcv_ssthresh rtt"),
    (_U32, "rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans"),
    (_U64, "pacing_rate max_pacing_rate bytes_acked bytes_received"),
    (_U32, "segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out"),
    (_U64, "delivery_rate busy_time rwnd_limited sndbuf_limited"),
    (_U32, "delivered delivered_ce"),
    (_U64, "bytes_sent bytes_retrans"),
    (_U32, "dsack_dups reord_seen rcv_ooopack snd_wnd"),
)


_FIELDS = [(name, kind) for kind, names in _LAYOUT for name in names.split()]


class Record(ctypes.Structure):
    """Define struct tcp_info of Linux 5.4 (include/uapi/linux/tcp.h).

    The C compiler's rules lay it out, so it checks the offsets of the module under test.
    """

    _fields_ = _FIELDS


def record(**changed: int) -> bytes:
    """Return a record in which every field has a different value: 1001, 1002 and so on."""
    raw = Record()
    for value, (name, kind) in enumerate(_FIELDS, start=1001):
        setattr(raw, name, value % 256 if kind is _U8 else value)
    for name, value in changed.items():
        setattr(raw, name, value)
    return bytes(raw)


FULL = record()
VALUES = {name: getattr(Record.from_buffer_copy(FULL), name) for name, _ in _FIELDS}
#: Which field of the kernel each column comes from, and in which unit.
SOURCES = {
    "retransmits": ("total_retrans", 1),
    "rtt_ns": ("rtt", 1000),
    "rttvar_ns": ("rttvar", 1000),
    "min_rtt_ns": ("min_rtt", 1000),
    "snd_wnd_bytes": ("snd_wnd", 1),
    "unsent_bytes": ("notsent_bytes", 1),
    "mss_bytes": ("snd_mss", 1),
    "pmtu_bytes": ("pmtu", 1),
    "delivery_bps": ("delivery_rate", 8),
    "pacing_bps": ("pacing_rate", 8),
    "acked_bytes": ("bytes_acked", 1),
    "sent_bytes": ("bytes_sent", 1),
    "retransmitted_bytes": ("bytes_retrans", 1),
    "reordering_seen": ("reord_seen", 1),
    "busy_ns": ("busy_time", 1000),
    "rwnd_limited_ns": ("rwnd_limited", 1000),
    "sndbuf_limited_ns": ("sndbuf_limited", 1000),
}
COLUMNS = frozenset(TcpInfo.__struct_fields__) - {"at_ns"}
#: The columns that a record of 104 bytes (Linux 2.6.37) lacks, and those that 192 bytes (Linux
#: 4.10) lack.
PAST_104 = COLUMNS - {
    "retransmits",
    "rtt_ns",
    "rttvar_ns",
    "cwnd_bytes",
    "mss_bytes",
    "pmtu_bytes",
}
PAST_192 = frozenset({"snd_wnd_bytes", "sent_bytes", "retransmitted_bytes", "reordering_seen"})


def unknown(info: TcpInfo | None) -> set[str]:
    assert info is not None
    return {name for name in COLUMNS if getattr(info, name) is None}


def test_layout_is_complete() -> None:
    assert len(FULL) == 232
    assert set(SOURCES) | {"cwnd_bytes"} == COLUMNS


@pytest.mark.parametrize("column", sorted(SOURCES))
def test_every_column_is_its_field(column: str) -> None:
    field, factor = SOURCES[column]
    info = tcpinfo.decode([(0, FULL)], 0)
    assert getattr(info, column) == (VALUES[field] * factor,)


def test_cwnd_is_in_bytes() -> None:
    info = tcpinfo.decode([(0, FULL)], 0)
    assert info is not None
    assert info.cwnd_bytes == (VALUES["snd_cwnd"] * VALUES["snd_mss"],)


@pytest.mark.parametrize(
    ("length", "missing"),
    [
        (104, PAST_104),
        (111, PAST_104),  # in the middle of the pacing rate
        (112, PAST_104 - {"pacing_bps"}),
        (192, PAST_192),
        (231, {"snd_wnd_bytes"}),
        (232, set()),
        (256, set()),  # a kernel newer than we are
    ],
)
def test_what_lies_past_the_end_is_unknown(length: int, missing: set[str]) -> None:
    raw = (FULL + b"\xff" * 64)[:length]
    assert unknown(tcpinfo.decode([(0, raw)], 0)) == missing


def test_a_field_is_known_only_as_a_whole() -> None:
    for name, (offset, code) in tcpinfo._FIELDS.items():
        end = offset + struct.calcsize("=" + code)
        assert tcpinfo.field(FULL[:end], name) == tcpinfo.field(FULL, name) is not None
        assert tcpinfo.field(FULL[: end - 1], name) is None
        assert tcpinfo.field(b"", name) is None


def test_one_short_record_makes_its_columns_unknown() -> None:
    """A column with holes would not match `at_ns`."""
    info = tcpinfo.decode([(5, FULL), (7, FULL[:192]), (9, FULL)], 0)
    assert info is not None
    assert info.at_ns == (5, 7, 9)
    assert unknown(info) == PAST_192
    assert info.busy_ns == (VALUES["busy_time"] * 1000,) * 3


def test_moments_count_from_the_origin() -> None:
    info = tcpinfo.decode([(1000, FULL), (1500, FULL)], 900)
    assert info is not None
    assert info.at_ns == (100, 600)


def test_empty_records_are_left_out() -> None:
    info = tcpinfo.decode([(1, b""), (2, FULL), (3, b"")], 0)
    assert info is not None
    assert info.at_ns == (2,)
    assert tcpinfo.decode([(1, b"")], 0) is None
    assert tcpinfo.decode([], 0) is None


def test_zero_is_a_number() -> None:
    info = tcpinfo.decode([(0, bytes(232))], 0)
    assert info is not None
    assert unknown(info) == set()
    assert info.retransmits == info.cwnd_bytes == (0,)


def test_no_limit_is_no_pacing_rate() -> None:
    info = tcpinfo.decode([(0, record(pacing_rate=2**64 - 1))], 0)
    assert unknown(info) == {"pacing_bps"}


def test_no_round_trip_measured_is_no_round_trip_time() -> None:
    """The kernel's minimum starts at ~0U (include/linux/win_minmax.h), which would mean 4295 s.

    That time would be the width of a batch.
    """
    info = tcpinfo.decode([(0, record(min_rtt=2**32 - 1))], 0)
    assert unknown(info) == {"min_rtt_ns"}


# ---- a live socket -------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as left,
    ):
        right, _ = listener.accept()
        with right:
            yield left, right


def test_a_real_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    count = 50_000  # fits into any buffer, so that one thread can do both
    before = (now_ns(), tcpinfo.read(left))
    left.sendall(bytes(count))
    with right.makefile("rb") as stream:
        assert len(stream.read(count)) == count
    info = tcpinfo.decode([before, (now_ns(), tcpinfo.read(left))], before[0])
    assert info is not None
    assert info.at_ns[0] == 0 < info.at_ns[1]
    assert unknown(info) <= PAST_192
    assert info.mss_bytes is not None
    assert info.pmtu_bytes is not None
    assert info.rtt_ns is not None
    assert info.min_rtt_ns is not None
    assert info.cwnd_bytes is not None
    assert info.acked_bytes is not None
    assert info.retransmits is not None
    assert 500 <= info.mss_bytes[1] < info.pmtu_bytes[1] <= 65_536
    assert 0 <= info.min_rtt_ns[1] < 10 * 10**9
    assert 0 < info.rtt_ns[1] < 10 * 10**9
    assert info.cwnd_bytes[1] >= info.mss_bytes[1]
    assert info.acked_bytes[0] <= 1  # the SYN
    assert count - info.mss_bytes[1] <= info.acked_bytes[1] <= count + 1
    if info.sent_bytes is not None:
        assert info.sent_bytes == (0, count)


def test_syn_retransmits_of_a_real_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    assert [tcpinfo.syn_retransmits(sock) for sock in pair] == [0, 0]


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_what_has_no_tcp_info(kind: socket.SocketKind) -> None:
    family = socket.AF_INET if kind == socket.SOCK_DGRAM else socket.AF_UNIX
    with socket.socket(family, kind) as sock:
        assert tcpinfo.read(sock) == b""
        assert tcpinfo.syn_retransmits(sock) is None

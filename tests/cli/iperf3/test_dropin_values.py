"""Test that numbers are read as by the C library, and test the limits of single options."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from netmeasure.cli.iperf3 import c_numbers, values
from netmeasure.errors import SpecError

_PIECES = [
    "",
    " ",
    "+",
    "-",
    "0",
    "1",
    "7",
    "9",
    "10",
    ".",
    "e",
    "E5",
    "x",
    "0x",
    "f",
    "inf",
    "nan",
]
_NUMBERISH = st.one_of(
    st.lists(st.sampled_from([*_PIECES, "K", "p1", "\t", "_", "infinity", "٣"]), max_size=6).map(
        "".join
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    st.floats().map(str),
    st.integers(-(2**70), 2**70).map(str),
)


@given(_NUMBERISH)
def test_atoi_is_c(word: str) -> None:
    c_atoi = ctypes.CDLL(None).atoi
    ours = c_numbers.atoi(word)
    if abs(ours) < 2**31 - 1:  # beyond this, C leaves the value undefined
        assert ours == c_atoi(word.encode())


@given(_NUMBERISH)
def test_strtol_is_c(word: str) -> None:
    strtol = ctypes.CDLL(None).strtol
    strtol.restype = ctypes.c_long
    end = ctypes.c_char_p()
    text = ctypes.create_string_buffer(word.encode())  # `end` points into it
    number = strtol(text, ctypes.byref(end), 0)
    assert c_numbers.strtol(word) == (number, (end.value or b"").decode())


@given(_NUMBERISH)
def test_strtod_is_c(word: str) -> None:
    strtod = ctypes.CDLL(None).strtod
    strtod.restype = ctypes.c_double
    end = ctypes.c_char_p()
    text = ctypes.create_string_buffer(word.encode())  # `end` points into it
    number = strtod(text, ctypes.byref(end))
    ours, rest = c_numbers.strtod(word)
    if "(" in word:
        return  # nan(...): no number of ours
    assert rest.encode() == end.value
    assert math.isnan(number) if ours is not None and math.isnan(ours) else number == (ours or 0)


@given(_NUMBERISH)
def test_a_unit_is_taken_or_refused(word: str) -> None:
    for convert in (values.u1024, values.u1000):
        try:
            value = convert(word)
        except SpecError:
            continue
        assert 0 <= value < 2**63


@pytest.mark.parametrize(
    ("convert", "word", "value"),
    [
        (values.u1024, "128KB", 131072),
        (values.u1024, "1.5k", 1536),
        (values.u1024, "1m", 1 << 20),
        (values.u1024, "2T", 2 << 40),
        (values.u1024, "0", 0),
        (values.u1000, "7612500.0", 7612500),
        (values.u1000, "10Mbit", 10_000_000),
        (values.u1000, "1g", 10**9),
        (values.u1000, "1e30T", 2**63 - 1),
        (values.bitrate, "0/1000", (0, 1000)),
        (values.bitrate, "1M", (10**6, None)),
        (values.rate_limit, "1G", (10**9, 5.0)),
        (values.rate_limit, "1G/0.5", (10**9, 0.5)),
        (values.duration, "30.0", 30),
        (values.duration, "inf", 0),
        (values.duration, "abc", 0),
        (values.interval, "1.0", 1.0),
        (values.interval, "0", 0.0),
        (values.report_format, "KBytes", "K"),
        (values.affinity, "0", (0, None)),
        (values.affinity, "1,3", (1, 3)),
        (values.tos, "0x34", 0x34),
        (values.tos, "064", 0o64),
        (values.dscp, "EF", 184),
        (values.dscp, "af21", 72),
        (values.dscp, "cs7", 224),
        (values.dscp, "lowdelay", 16),
        (values.dscp, "46", 184),
        (values.place, "h%eth0", ("h", "eth0")),
        (values.place, "fe80::1%eth0", ("fe80::1%eth0", None)),
        (values.keepalive, None, (None, None, None)),
        (values.keepalive, "10/1/5", (10, 1, 5)),
        (values.keepalive, "/3", (None, 3, None)),
        (values.debug_level, None, 4),
        (values.debug_level, "2", 2),
    ],
)
def test_value(convert: Callable[[str | None], object], word: str | None, value: object) -> None:
    assert convert(word) == value


@pytest.mark.parametrize(
    ("convert", "word"),
    [
        (values.u1024, "10x"),
        (values.u1024, "-1"),
        (values.u1024, "nan"),
        (values.u1024, "inf"),
        (values.u1024, ""),
        (values.port, "0"),
        (values.port, "65536"),
        (values.interval, "0.05"),
        (values.interval, "nan"),
        (values.interval, "-1"),
        (values.duration, "-1"),
        (values.duration, "86401"),
        (values.report_format, ""),
        (values.streams, "0"),
        (values.streams, "129"),
        (values.mss, "32768"),
        (values.window, "1G"),
        (values.bitrate, "1M/1001"),
        (values.bitrate, "1M/0"),
        (values.affinity, "x"),
        (values.affinity, "1025"),
        (values.tos, "256"),
        (values.dscp, "64"),
        (values.dscp, "1x"),
        (values.dscp, ""),
        (values.flow_label, "0"),
        (values.receive_timeout, "99"),
        (values.idle_timeout, "0"),
        (values.skew_threshold, "0"),
        (values.keepalive, "5/2/5"),
        (values.rate_limit, "1M/0.05"),
    ],
)
def test_refused(convert: Callable[[str], object], word: str) -> None:
    with pytest.raises(SpecError):
        convert(word)

"""Test the conversion of text to numbers and back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from netmeasure import units
from netmeasure.errors import SpecError

PARSERS = [units.parse_bitrate, units.parse_size, units.parse_duration_ns]


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("64000", 64_000),
        ("950M", 950_000_000),
        ("1.5G", 1_500_000_000),
        ("200 Mbit/s", 200_000_000),
        ("10k", 10_000),
        ("2T", 2 * 10**12),
        ("1Gbps", 10**9),
        ("1 Gbits/sec", 10**9),
        ("3 bit/s", 3),
        (".5K", 500),
        (" 7 ", 7),
        ("0", 0),
        ("9223372036G", 9_223_372_036 * 10**9),
    ],
)
def test_bitrates(text: str, bits: int) -> None:
    assert units.parse_bitrate(text) == bits


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1500", 1500),
        ("1B", 1),
        ("128K", 128 * 1024),
        ("128KiB", 128 * 1024),
        ("128KB", 128_000),
        ("1m", 2**20),
        ("1MB", 10**6),
        ("1.5GiB", 3 * 2**29),
        ("2T", 2**41),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert units.parse_size(text) == count


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("10", 10 * 10**9),
        ("1.5s", 1_500_000_000),
        ("250ms", 250_000_000),
        ("3us", 3000),
        ("7 ns", 7),
        ("2min", 120 * 10**9),
        ("5m", 300 * 10**9),
        ("1h", 3600 * 10**9),
        ("0.1", 10**8),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert units.parse_duration_ns(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "share"), [("2%", 0.02), ("0.5 %", 0.005), (".02", 0.02), ("0.02", 0.02), ("0", 0)]
)
def test_shares(text: str, share: float) -> None:
    assert units.parse_share(text) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("text", ["", "%", "2 percent", "2%%", "2%x", "-2%", "2G", "1e-2", "nan"])
def test_shares_that_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="is not a share") as caught:
        units.parse_share(text)
    assert caught.value.hint


@pytest.mark.parametrize(("text", "ratio"), [("95%", 0.95), ("0.95", 0.95), ("105 %", 1.05)])
def test_ratios(text: str, ratio: float) -> None:
    assert units.parse_ratio(text) == pytest.approx(ratio, abs=1e-12)
    with pytest.raises(SpecError, match="is not a ratio"):
        units.parse_ratio(f"{text}x")


@pytest.mark.parametrize(
    ("parse", "text", "unit"),
    [
        (units.parse_bitrate, "0.5", "bit/s"),
        (units.parse_bitrate, "0.0001K", "bit/s"),
        (units.parse_bitrate, "0." + "0" * 30 + "1 Gbit/s", "bit/s"),
        (units.parse_size, "0.4", "byte"),
        (units.parse_size, "0.0001K", "byte"),
        (units.parse_duration_ns, "0.4ns", "ns"),
        (units.parse_duration_ns, "0.0000000001", "ns"),
    ],
)
def test_values_that_round_to_zero_are_refused(
    parse: Callable[[str], object], text: str, unit: str
) -> None:
    """In many places 0 means "no limit", so 0.5 must not become 0."""
    with pytest.raises(SpecError, match="is too small for a ") as caught:
        parse(text)
    assert caught.value.hint == f"the smallest is 1 {unit}"


@pytest.mark.parametrize("text", ["0", "0.0", ".0G"])
def test_nothing_can_be_written(text: str) -> None:
    assert units.parse_bitrate(text) == 0


@pytest.mark.parametrize("text", ["1", "2", "100%", "9" * 400])
def test_a_share_is_less_than_the_whole(text: str) -> None:
    with pytest.raises(SpecError, match="less than 100 %") as caught:
        units.parse_share(text)
    assert caught.value.hint


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "text",
    ["", " ", "G", "-1", "+1", "1e9", "1,5", "0x10", "1 2", "1.2.3", "nan", "inf", "1Q", "１"],
)
def test_nonsense(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(SpecError, match="is not a") as caught:
        parse(text)
    assert caught.value.hint
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (units.parse_bitrate, "1KiB"),
        (units.parse_bitrate, "1/s"),
        (units.parse_bitrate, "1s"),
        (units.parse_size, "1iB"),
        (units.parse_size, "1bit"),
        (units.parse_size, "1s"),
        (units.parse_duration_ns, "1d"),
        (units.parse_duration_ns, "1M"),
    ],
)
def test_units_of_something_else(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(SpecError, match="unknown unit"):
        parse(text)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (units.parse_bitrate, "9223373T"),
        (units.parse_size, "8388608T"),
        (units.parse_duration_ns, "9223372037"),
        *(
            pytest.param(
                parse,
                "9" * 400,
                id=f"{parse.__name__} of 400 digits",
            )
            for parse in PARSERS
        ),
    ],
)
def test_too_large(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(SpecError, match="too large"):
        parse(text)


@pytest.mark.parametrize(
    "number",
    [0, 2**53, 2**53 + 1, 10**18 + 1, 2**63 - 1],
)
def test_whole_numbers_are_exact(number: int) -> None:
    assert units.parse_bitrate(str(number)) == number
    assert units.parse_size(str(number)) == number
    assert units.parse_duration_ns(f"{number}ns") == number


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text(max_size=20) | st.from_regex(r"[0-9.]{1,6} ?[KMGTkmbis/]{0,4}", fullmatch=True))
def test_any_text_is_a_number_or_refused(parse: Callable[[str], object], text: str) -> None:
    try:
        value = parse(text)
    except SpecError:
        return
    assert isinstance(value, int)
    assert 0 <= value < 2**63


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"),
        (0, "0.00 bit/s"),
        (1, "1.00 bit/s"),
        (9.994, "9.99 bit/s"),
        (9.996, "10.0 bit/s"),
        (99.94, "99.9 bit/s"),
        (99.96, "100 bit/s"),
        (999.4, "999 bit/s"),
        (999.6, "1.00 kbit/s"),
        (64_000, "64.0 kbit/s"),
        (957e6, "957 Mbit/s"),
        (999.6e6, "1.00 Gbit/s"),
        (35.2e9, "35.2 Gbit/s"),
        (2e12, "2.00 Tbit/s"),
        (5e15, "5000 Tbit/s"),
    ],
)
def test_bitrate(value: float | None, text: str) -> None:
    assert units.bitrate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (128 * 1024, "128 KiB"),
        (1000 * 1024, "1000 KiB"),
        (2**20 - 1, "1.00 MiB"),
        (1.2 * 2**30, "1.20 GiB"),
        (2**50, "1024 TiB"),
        pytest.param(
            1023.6,
            "1.00 KiB",
        ),
    ],
)
def test_size(value: float | None, text: str) -> None:
    assert units.size(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0312, "3.1 %"), (0, "0 %"), (0.994, "99 %"), (0.9951, "100 %"), (1.149, "115 %")],
)
def test_percent(share: float, text: str) -> None:
    assert units.percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"),
        (0, "0 ns"),
        (999, "999 ns"),
        (999.6, "1.00 us"),
        (412_000, "412 us"),
        (9_996, "10.0 us"),
        (999_600, "1.00 ms"),
        (3_060_000_000, "3.06 s"),
        (43_600_000_000, "43.6 s"),
        (3600 * 10**9, "3600 s"),
    ],
)
def test_duration(value: float | None, text: str) -> None:
    assert units.duration(value) == text


@given(st.integers(0, 10**14))
def test_what_is_written_can_be_read(value: int) -> None:
    assert units.parse_bitrate(units.bitrate(value)) == pytest.approx(value, rel=0.006)
    assert units.parse_size(units.size(value)) == pytest.approx(value, rel=0.006)
    assert units.parse_duration_ns(units.duration(value)) == pytest.approx(value, rel=0.006)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (956.4e6, "956.4 Mbit/s"),
        (999.96e6, "1.000 Gbit/s"),
        (9.9996e9, "10.00 Gbit/s"),
        (99.996e9, "100.0 Gbit/s"),
        (0, "0.000 bit/s"),
        (12345, "12.35 kbit/s"),
    ],
)
def test_four_digits(rate: float, text: str) -> None:
    assert units.bitrate(rate, 4) == text

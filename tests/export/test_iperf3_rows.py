"""Test that every row of the real iperf3 is the same when it is parsed and written again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st
from real import MODES, text

from netmeasure.export.iperf3 import numbers, rows

SIZES = {word + "s": 1024**rank for rank, word in enumerate(numbers.BYTES)}
RATES = {word + "s/sec": 1000**rank for rank, word in enumerate(numbers.BITS)}
RATES |= {word + "s/sec": 8 * 1024**rank for rank, word in enumerate(numbers.BYTES)}
ROW = re.compile(
    r"\[(?P<id>SUM| *\d+)\](?P<role>\[.X-.\])? +(?P<start>[\d.]+)-(?P<end>[\d.]+) +sec"
    r" +(?P<bytes>[\d.]+) (?P<size>\w+) +(?P<rate>[\d.]+) (?P<speed>[\w/]+)(?P<rest>.*)"
)
RESTS = {
    "received": re.compile(r" +(?P<jitter>[\d.]+) ms +(?P<lost>\d+)/(?P<total>\d+) \(\S+%\) +"),
    "interval": re.compile(r" +(?P<retr>\d+) +(?P<cwnd>[\d.]+) (?P<unit>\w+) +"),
    "sent": re.compile(r" {2}(?: {10})?(?P<packets>\d+) {2}(?! )"),
    "retransmits": re.compile(r" +(?P<retr>\d+) +"),
    "tcp": re.compile(r" +"),
}


def captured_rows() -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for name in MODES:
        unit = "a"
        for end in ("client", "server"):
            words = MODES[name][end]
            unit = words[words.index("-f") + 1] if "-f" in words else "a"
            for line in text(name, end).splitlines():
                line = line.removeprefix("a title:  ")
                if ROW.match(line):
                    found[line] = unit
    return list(found.items())


def again(line: str, unit: str) -> str:
    """Return the row that is written from its own numbers."""
    match = ROW.match(line)
    assert match is not None
    tag = re.search(r"(\(omitted\)|sender|receiver)?$", line)
    assert tag is not None
    row = rows.Row(
        label=rows.label(
            None if match["id"] == "SUM" else int(match["id"]),
            match["role"] or "",
        ),
        start_s=float(match["start"]),
        end_s=float(match["end"]),
        bytes=round(float(match["bytes"]) * SIZES[match["size"]]),
        bits_per_second=float(match["rate"]) * RATES[match["speed"]],
        tag=tag[0],
    )
    rest = match["rest"].removesuffix(row.tag)
    kind, found = next((k, m) for k, p in RESTS.items() if (m := p.fullmatch(rest)) is not None)
    if kind == "received":
        counts = int(found["lost"]), int(found["total"])
        return rows.udp_received(row, unit, float(found["jitter"]), *counts)
    if kind == "sent":
        return rows.udp_sent(row, unit, int(found["packets"]), roles=match["role"] is not None)
    if kind == "interval":
        cwnd = round(float(found["cwnd"]) * SIZES[found["unit"]])
        return rows.tcp_interval(row, unit, int(found["retr"]), cwnd)
    if kind == "retransmits":
        return rows.tcp_retransmits(row, unit, int(found["retr"]))
    return rows.tcp(row, unit)


def test_there_is_something_of_every_kind() -> None:
    lines = [line for line, _ in captured_rows()]
    assert len(lines) > 200
    for part in ("[SUM]", "[TX-C]", "[RX-S]", "(omitted)", "sender", " ms ", "MBytes       "):
        assert any(part in line for line in lines), part


@pytest.mark.parametrize("unit", ["a", "k", "K"])
def test_every_row_of_the_real_one(unit: str) -> None:
    of_unit = [line for line, its in captured_rows() if its == unit]
    assert of_unit
    wrong = [(line, ours) for line in of_unit if (ours := again(line, unit)) != line]
    assert wrong == []


def test_every_header_of_the_real_one() -> None:
    made = {
        rows.header(columns, roles=roles)
        for columns in ("", rows.RETRANSMITS, rows.RETRANSMITS_CWND, rows.DATAGRAMS, rows.LOSSES)
        for roles in (False, True)
    }
    real = {
        line
        for name in MODES
        for end in ("client", "server")
        for line in text(name, end).splitlines()
        if line.startswith("[ ID]")
    }
    assert len(real) == 8
    assert real <= made


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # iperf3 3.21, crafted datagrams
        (
            rows.out_of_order("", 0.0, 0.01, 1),
            "[SUM]  0.0- 0.0 sec  1 datagrams received out-of-order",
        ),
        (
            rows.udp_received(
                rows.Row(
                    label="[  5]",
                    start_s=0,
                    end_s=0.01,
                    bytes=400,
                    bits_per_second=366_000,
                    tag="receiver",
                ),
                "a",
                0.001,
                998,
                1000,
            ),
            "[  5]   0.00-0.01   sec   400 Bytes   366 Kbits/sec  0.001 ms  998/1000 (1e+02%)"
            "  receiver",
        ),
        (
            rows.file(50_000_000, 50_000_000, "f.bin"),
            "        Sent 47.7 MByte / 47.7 MByte (100%) of f.bin",
        ),
        (
            rows.tcp_interval(
                rows.Row(label="[  5]", start_s=40, end_s=41, bytes=0, bits_per_second=0),
                "a",
                0,
                65_434,
            ),
            "[  5]  40.00-41.00  sec  0.00 Bytes  0.00 bits/sec    0   63.9 KBytes       ",
        ),
        (
            rows.cpu("sender", (99.2, 1.3, 97.9), (34.3, 2.3, 32.0)),
            "CPU Utilization: local/sender 99.2% (1.3%u/97.9%s),"
            " remote/receiver 34.3% (2.3%u/32.0%s)",
        ),
        (rows.unavailable("[SUM]", "sender"), "[SUM] (sender statistics not available)"),
    ],
)
def test_rare_lines(line: str, expected: str) -> None:
    assert line == expected


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("k", "49994 Kbit"),
        ("m", "50.0 Mbit"),
        ("g", "0.05 Gbit"),
        ("t", "0.00 Tbit"),
        ("K", "6103 KByte"),
        ("M", "5.96 MByte"),
        ("G", "0.01 GByte"),
        ("T", "0.00 TByte"),
        ("a", "50.0 Mbit"),
    ],
)
def test_fixed_units(unit: str, expected: str) -> None:
    assert numbers.bitrate(49_994_000, unit) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0.00 Byte"),
        (1023, "1023 Byte"),
        (1024, "1.00 KByte"),
        (1_047_728, "1023 KByte"),
        (10_234, "9.99 KByte"),
        (10_240, "10.0 KByte"),
        (102_348, "99.9 KByte"),
        (102_400, " 100 KByte"),
        (1024**5, "1024 TByte"),
    ],
)
def test_three_digits(count: int, expected: str) -> None:
    assert numbers.size(count) == expected


ROWS = st.builds(
    rows.Row,
    label=st.builds(rows.label, st.none() | st.integers(1, 999), st.sampled_from(["", "[TX-C]"])),
    start_s=st.floats(0, 86_400),
    end_s=st.floats(0, 86_400),
    bytes=st.integers(0, 2**63),
    bits_per_second=st.floats(0, 1e15),
)


@given(ROWS, st.sampled_from(numbers.UNITS), st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_row_has_its_columns_whatever_the_numbers(
    row: rows.Row, unit: str, first: int, second: int
) -> None:
    """Columns are counted as awk does, from the right of the bracket, since scripts select them by
    number."""
    for line, columns in (
        (rows.tcp(row, unit), 6),
        (rows.tcp_interval(row, unit, first, second), 9),
        (rows.tcp_retransmits(row, unit, first), 7),
        (rows.udp_sent(row, unit, first), 7),
        (rows.udp_received(row, unit, first / 1e6, first, second), 10),
    ):
        assert len(line.split("]")[-1].split()) == columns

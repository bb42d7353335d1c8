"""Compute jitter and delay variation from received datagrams."""

from __future__ import annotations

import pytest

from support.udp_rig import (
    datagram,
    received,
)


def test_jitter_is_the_filter_of_rfc_3550() -> None:
    """Stamps alternate by 500 s while arrivals are together: every |D| is 500 s, beside which it
    does not count that a busy machine may keep this thread from sending for a moment."""
    count = 40
    stamps = [500_000_000 * (number % 2) for number in range(count)]
    counts = received([datagram(n + 1, stamp_us=stamp) for n, stamp in enumerate(stamps)])
    expected = 500e9 * (1 - (15 / 16) ** (count - 1))
    assert counts.jitter_ns == pytest.approx(expected, rel=0.02)
    assert counts.jitter_samples == counts.ipdv_count == count - 1
    assert counts.ipdv_sum_ns == pytest.approx(500e9 * (count - 1), rel=0.02)
    assert counts.ipdv_min_ns == pytest.approx(500e9, rel=0.02)
    assert counts.ipdv_max_ns == pytest.approx(500e9, rel=0.02)
    assert counts.transit_max_ns is not None
    assert counts.transit_min_ns is not None
    assert counts.transit_max_ns - counts.transit_min_ns == pytest.approx(500e9, rel=0.02)
    assert counts.jitter_valid


def test_jitter_of_trains_is_marked() -> None:
    counts = received([datagram(number, stamp_us=7) for number in range(1, 11)])
    assert counts.same_stamp_packets == 9
    assert not counts.jitter_valid


def test_nothing_is_known_before_there_are_two() -> None:
    counts = received([datagram(1)])
    assert counts.jitter_ns is counts.ipdv_min_ns is None
    assert not counts.jitter_valid
    assert received([]).transit_min_ns is None


def test_variation_is_of_neighbours_only() -> None:
    """RFC 3393 asks for pairs that were sent one after the other."""
    counts = received([datagram(number) for number in (1, 2, 4, 3, 5, 6)])
    assert counts.jitter_samples == 5
    assert counts.ipdv_count == 2  # 1-2 and 5-6

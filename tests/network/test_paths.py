"""Test real transfers on emulated paths, whose rate is known from the packets: a quick part of
`python -m benchmarks.bench_paths`.

The relay counts whole IP packets, so with an MTU of 1500 and TCP time stamps 1448 of 1500 bytes are
payload. The transfers wait more than they compute, so several run concurrently: not all, since a
host without a CPU for a moment spoils every transfer, and a repeated attempt repeats them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from benchmarks.paths import measure_all
from benchmarks.recordings import Judgement, Path, Recording, faults

from support import relay

pytestmark = [
    pytest.mark.rates,
    pytest.mark.network,
    pytest.mark.skipif(
        relay.available() is not None, reason=relay.available() or "the relay works"
    ),
]

FILLED_SOON = [
    Path(rtt_ms=2, congestion="cubic", seconds=4, direction="upload"),
    Path(rtt_ms=20, congestion="reno", seconds=4),
    Path(rtt_ms=50, congestion="bbr", seconds=5, direction="upload"),
]
FILLED_LATER = [Path(rtt_ms=150, congestion="cubic", seconds=10)]
STILL_GAINING = [
    # little more than slow start
    Path(rtt_ms=150, congestion="reno", seconds=1, rate_bps=100e6, claims=False),
    Path(rtt_ms=150, congestion="cubic", seconds=1, rate_bps=100e6, claims=False),
    Path(rtt_ms=50, congestion="bbr", seconds=0.5, rate_bps=100e6, claims=False),
    # this one left slow start early, and grows by one segment in each round trip
    Path(rtt_ms=150, congestion="reno", seconds=8, rate_bps=50e6, queue=0.2, claims=False),
]
#: How often a path is measured at most, until its line is full from early on.
TRIES = 4


def check_counts(recording: Recording) -> None:
    """Check that every received byte crossed the line, and few other bytes did."""
    assert recording.overrun_packets == 0
    received = recording.series.total_bytes
    first = 20 * recording.mss_bytes  # came just as counting began
    assert received - first <= recording.kernel.total_bytes <= 1.05 * received


def is_filled(recording: Recording) -> bool:
    """Return whether the line was full from early on, by what the relay has counted.

    A pause of this host in slow start can keep a congestion control from that, BBR more than
    others. Then there is nothing to find.
    """
    path, start = recording.path, recording.series.origin_ns
    filled = recording.filled_ns()
    if filled is None or (filled - start) / 1e9 > 0.15 * path.seconds:
        return False
    end = min(recording.last_ns, start + round(path.seconds * 1e9))
    received_bps = recording.curve().between(filled, end) * 8e9 / (end - filled)
    return received_bps == pytest.approx(path.payload_bps, rel=0.005)


def measured(paths: list[Path]) -> Iterator[Recording]:
    """Yield a recording of each path; of one that must be filled, the first that is."""
    for _ in range(TRIES):
        recordings = measure_all(paths, len(paths))
        shown = [r for r in recordings if is_filled(r) or not r.path.claims]
        yield from shown
        paths = [r.path for r in recordings if r not in shown]
        if not paths:
            return
    raise AssertionError(f"never filled from early on: {[path.name for path in paths]}")


def check_found(recording: Recording, found: Judgement) -> None:
    """Check that the steady part is nearly the time for which the line was full.

    It may begin a little before the line is full, if the time until then is too short to count.
    """
    path, filled = recording.path, recording.filled_ns()
    assert filled is not None, path.name
    later_s = (found.steady.start_ns - filled) / 1e9
    assert -0.03 * path.seconds <= later_s <= 0.15 * path.seconds, path.name
    assert found.steady.verdict == "steady", path.name
    assert found.steady.goodput_bps == pytest.approx(path.payload_bps, rel=0.01), path.name


@pytest.mark.parametrize(
    "paths", [FILLED_SOON, [*FILLED_LATER, *STILL_GAINING]], ids=["filled-soon", "long-or-gaining"]
)
def test_a_steady_rate_is_that_of_the_line_and_another_rate_is_not_called_steady(
    paths: list[Path],
) -> None:
    for recording in measured(paths):
        check_counts(recording)
        found, path = recording.judge(), recording.path
        assert faults(recording, found) == []
        if path.claims:
            check_found(recording, found)
        else:
            assert found.steady.verdict in ("not_steady", "too_short"), path.name
            assert found.steady.goodput_bps < 0.9 * path.payload_bps, path.name

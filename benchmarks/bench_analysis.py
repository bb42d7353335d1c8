"""Measure how long the analysis of a long run takes, from the two ends' reports to the Result.

    python -m benchmarks.bench_analysis [--seconds 120] [--streams 1] [--rounds 20]

The series has 10 ms buckets, noise and a change of level, so that every step has work to do.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np

from benchmarks.steady_cases import PLATEAU_BPS, correlated, slow_start
from netmeasure.measurement.flows import Measured, build_flows
from netmeasure.result import Flow, Role, Series, SideReport, StreamReport, TcpInfo
from netmeasure.spec import TcpSpec, Timing

BUCKET_NS = 10_000_000
SAMPLES = 256


def sides(spec: TcpSpec, seed: int = 1997) -> tuple[SideReport, SideReport]:
    """Return the reports of client and server about an upload."""
    span_s = spec.limit_s or 0.0
    times = (np.arange(round(span_s * 1e9 / BUCKET_NS), dtype=np.float64) + 0.5) * BUCKET_NS / 1e9
    noise = correlated(np.random.default_rng(seed), spec.streams, len(times), 5)
    rates = slow_start(times, span_s) * np.where(times < span_s / 2, 1, 0.9) * (1 + 0.1 * noise)
    counts = np.maximum(0, rates * (PLATEAU_BPS * BUCKET_NS / 8e9)).round().astype(int)
    number = range(1, spec.streams + 1)
    client = tuple(report(i, "sender", row) for i, row in zip(number, counts, strict=True))
    server = tuple(report(i, "receiver", row) for i, row in zip(number, counts, strict=True))
    return SideReport(streams=client), SideReport(streams=server)


def report(number: int, role: Role, row: np.ndarray) -> StreamReport:
    total, end_ns = int(row.sum()), len(row) * BUCKET_NS
    at_ns = tuple(int(moment) for moment in np.linspace(0, end_ns, SAMPLES))
    return StreamReport(
        id=number,
        role=role,
        bytes=total,
        acked_bytes=total if role == "sender" else None,
        counted_bytes=total,
        counted_from_ns=0,
        counted_to_ns=end_ns,
        first_ns=0,
        last_ns=end_ns,
        series=Series(origin_ns=0, width_ns=BUCKET_NS, bytes=tuple(int(count) for count in row)),
        tcp_info=TcpInfo(
            at_ns=at_ns,
            min_rtt_ns=(1_000_000,) * SAMPLES,
            mss_bytes=(1448,) * SAMPLES,
            busy_ns=at_ns,
        ),
    )


def analysed(spec: TcpSpec, client: SideReport, server: SideReport) -> tuple[Flow, ...]:
    numbers = range(1, spec.streams + 1)
    return build_flows(Measured(spec, ["upload"] * spec.streams, client, server, 0, ids=numbers))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=120)
    options.add_argument("--streams", type=int, default=1)
    options.add_argument("--rounds", type=int, default=20)
    chosen = options.parse_args()
    spec = TcpSpec(streams=chosen.streams, timing=Timing(duration_s=chosen.seconds))
    client, server = sides(spec)
    spent_ms = []
    for _ in range(chosen.rounds):
        begin = time.perf_counter()
        found = analysed(spec, client, server)
        spent_ms.append(1e3 * (time.perf_counter() - begin))
    steady = found[0].steady
    assert steady is not None
    print(
        f"{chosen.seconds:g} s, {chosen.streams} stream(s), {steady.verdict}:"
        f" {median(spent_ms):.1f} ms"
        f" (median of {chosen.rounds}; {min(spent_ms):.1f} to {max(spent_ms):.1f})"
    )


if __name__ == "__main__":
    main()

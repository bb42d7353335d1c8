"""Compare the latency beside a test with that of a path whose queue is known.

    python -m benchmarks.queue_delays [--rounds N] [--json FILE]

Two namespaces are joined by the tests' relay: a line of a known delay and rate, with a queue that
takes 5, 50 or 200 ms. Datagrams at 1.2 times the rate keep the queue full. The idle latency must be
the delay of the line. The latency under load must be longer by the queue of each loaded direction.
The delay variation of each direction must be its queue, or 0. All of it holds for the median and
the 99th percentile, within 2 ms or 2 %. Needs root and an idle machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

import netmeasure as nm
from benchmarks.common import host_facts
from netmeasure.clock import MILLISECOND_NS
from netmeasure.spec import Direction

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.elsewhere import loop_on
from support.relay import Relay

RATE_BPS, SENT_BPS = 50_000_000, 60_000_000
WITHIN_RATIO, WITHIN_NS = 0.02, 2 * MILLISECOND_NS
#: A full queue drops probes, too: after so long, enough are left for a 99th percentile.
TIMING = nm.Timing(duration_s=12, omit_s=2)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one percentile of one part of a test, and its value by the properties of the line."""

    queue_ms: int
    direction: str
    part: str
    percent: int
    known_ns: int
    found_ns: int | None
    probes: int

    @property
    def holds(self) -> bool:
        """Return whether the figure is within the tolerance."""
        within_ns = max(WITHIN_NS, WITHIN_RATIO * self.known_ns)
        return self.found_ns is not None and abs(self.found_ns - self.known_ns) <= within_ns


def measured(queue_ms: int, direction: Direction) -> list[Figure]:
    """Measure over one line."""
    spec = nm.UdpSpec(direction=direction, target_bps=SENT_BPS, datagram_bytes=1400, timing=TIMING)
    queue_bytes = RATE_BPS // 8 * queue_ms // 1000
    with (
        Relay(delay_ms=queue_ms / 2, rate_bps=RATE_BPS, queue_bytes=queue_bytes) as line,
        loop_on(line, "server") as there,
        loop_on(line, "client") as here,
    ):
        server = there(nm.serve(None, 0).__aenter__())
        try:
            result: nm.Result = here(nm.measure(line.server.address, spec, port=server.port))
        finally:
            there(server.close())
    found = result.latency
    assert found is not None
    assert found.loaded is not None
    queues = 2 if direction == "both" else 1
    known_ns = {"idle": queue_ms * MILLISECOND_NS}
    known_ns["loaded"] = (1 + queues) * known_ns["idle"]
    for way in ("upload", "download"):
        known_ns[way] = queue_ms * MILLISECOND_NS if direction in (way, "both") else 0
    durations = {
        "idle": found.idle.latency,
        "loaded": found.loaded.latency,
        "upload": found.loaded.upload_pdv or nm.Histogram(),
        "download": found.loaded.download_pdv or nm.Histogram(),
    }
    return [
        Figure(
            queue_ms=queue_ms,
            direction=direction,
            part=name,
            percent=percent,
            known_ns=known_ns[name],
            found_ns=histogram.percentile_ns(percent),
            probes=histogram.count,
        )
        for name, histogram in durations.items()
        for percent in (50, 99)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1, help="tests of each queue and direction")
    parser.add_argument("--json", metavar="FILE", help="every figure and the host facts")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    facts = host_facts()
    console.print(facts, highlight=False)
    figures = [
        figure
        for _ in range(options.rounds)
        for queue_ms in (5, 50, 200)
        for direction in ("upload", "download", "both")
        for figure in measured(queue_ms, direction)
    ]
    table = Table("queue ms", "direction", "part", "percentile", "known ms", "found ms", "holds")
    for one in figures:
        found = "unknown" if one.found_ns is None else f"{one.found_ns / MILLISECOND_NS:.2f}"
        known = f"{one.known_ns / MILLISECOND_NS:g}"
        words = (str(one.queue_ms), one.direction, one.part, f"p{one.percent}", known, found)
        table.add_row(*words, "yes" if one.holds else "NO")
    console.print(table, highlight=False)
    held = sum(one.holds for one in figures)
    console.print(f"{held} of {len(figures)} within 2 ms or 2 %", highlight=False)
    if options.json:
        document = {"host": facts, "figures": msgspec.to_builtins(figures)}
        Path(options.json).write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()

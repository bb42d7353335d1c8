"""Compare the capacity that a search finds with the known capacity of the link.

    python -m benchmarks.bench_capacity [--quick] [--rounds N] [--json FILE]

Each link is a pair of namespaces. Some are joined by the tests' relay, which has a delay and counts
IP packets; others by a veth pair that a token bucket (tbf) shapes, which counts Ethernet frames.
The program prints the error of the payload rate that was found, and how long the search took. A
search must be within 1 % after 10 s at most. Needs root and an idle machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

import netmeasure as nm
from benchmarks.common import host_facts
from netmeasure.result import FlowDirection

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.elsewhere import loop_on
from support.netns import NamespacePair, Network
from support.relay import Relay

WITHIN, IN_S = 0.01, 10.0
_DATAGRAM, _IP, _FRAME = 1472, 1500, 1514


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a link. Its rate counts the frames of its layer."""

    rate_bps: int
    rtt_ms: float = 0.0
    shaper: str = "relay"
    direction: FlowDirection = "upload"

    @property
    def payload_bps(self) -> float:
        """Return the rate at which the link carries the payload of full datagrams."""
        return self.rate_bps * _DATAGRAM / (_IP if self.shaper == "relay" else _FRAME)

    @property
    def name(self) -> str:
        way = {"upload": "to the server", "download": "from the server"}[self.direction]
        return f"{self.shaper} {self.rate_bps / 1e6:g} Mbit/s, {self.rtt_ms:g} ms, {way}"


LINKS = [
    Link(rate_bps=20_000_000, direction="download"),
    Link(rate_bps=20_000_000, rtt_ms=50),
    Link(rate_bps=100_000_000, rtt_ms=10),
    Link(rate_bps=100_000_000, rtt_ms=50, direction="download"),
    Link(rate_bps=300_000_000, rtt_ms=50),
    Link(rate_bps=5_000_000, shaper="tbf"),
    Link(rate_bps=100_000_000, shaper="tbf", direction="download"),
    Link(rate_bps=1_000_000_000, shaper="tbf"),
]
QUICK = [LINKS[1], LINKS[6]]


def search(pair: NamespacePair, link: Link) -> nm.CapacityReport:
    """Run a search between the two ends of a link and return its result."""
    with loop_on(pair, "server") as there, loop_on(pair, "client") as here:
        server = there(nm.serve(None, 0).__aenter__())
        try:
            found: nm.CapacityReport = here(
                nm.capacity(
                    pair.sides["server"].address,
                    nm.UdpSpec(direction=link.direction),
                    port=server.port,
                )
            )
        finally:
            there(server.close())
    return found


def measured(link: Link) -> nm.CapacityReport:
    """Make a link and search its capacity."""
    if link.shaper == "tbf":
        with Network() as pair:
            pair.shape(f"{link.rate_bps}bit", burst="64k" if link.rate_bps < 10**8 else "256k")
            return search(pair, link)
    queue = max(int(link.rate_bps / 8 * 0.02), 30_000)
    with Relay(delay_ms=link.rtt_ms / 2, rate_bps=link.rate_bps, queue_bytes=queue) as line:
        return search(line, link)


def is_good(link: Link, found: nm.CapacityReport) -> bool:
    """Return whether a search has met its requirements."""
    return (
        found.ended_by == "precise"
        and found.capacity_bps is not None
        and abs(found.capacity_bps / link.payload_bps - 1) <= WITHIN
        and found.duration_ns <= IN_S * 1e9
    )


def main() -> None:
    """Read the options, search and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two links: does it work?")
    parser.add_argument("--rounds", type=int, default=1, help="searches of each link")
    parser.add_argument("--json", metavar="FILE", help="every search and the host facts")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    facts = host_facts()
    console.print(facts, highlight=False)
    table = Table(title="capacities found", title_justify="left")
    for head in ("link", "of what it carries", "ended by", "tests", "s", "kept"):
        table.add_column(head)
    done: list[tuple[Link, nm.CapacityReport]] = []
    say: Callable[..., None] = console.print
    for _ in range(options.rounds):
        for link in QUICK if options.quick else LINKS:
            found = measured(link)
            done.append((link, found))
            share = (found.capacity_bps or 0.0) / link.payload_bps
            table.add_row(
                link.name,
                f"{100 * share:.2f} %" if share else "",
                found.ended_by,
                str(len(found.probes)),
                f"{found.duration_ns / 1e9:.1f}",
                "yes" if is_good(link, found) else "no",
            )
            if not is_good(link, found):
                say(f"  {link.name}", highlight=False)
                for one in found.probes:
                    say(
                        f"    asked {one.asked_bps / 1e6:.2f}, arrived"
                        f" {one.received_bps / 1e6:.2f} Mbit/s, lost {one.lost_packets} of"
                        f" {one.sent_packets}: {one.verdict}",
                        highlight=False,
                    )
    console.print(table, highlight=False)
    good = sum(is_good(link, found) for link, found in done)
    say(f"{good} of {len(done)} searches within {100 * WITHIN:g} % in {IN_S:g} s", highlight=False)
    if options.json:
        rows: list[dict[str, Any]] = [
            {"link": msgspec.to_builtins(link), "found": json.loads(found.to_json())}
            for link, found in done
        ]
        Path(options.json).write_text(json.dumps({"host": facts, "searches": rows}, indent=1))


if __name__ == "__main__":
    main()

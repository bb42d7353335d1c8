"""Check the longest packets that `path` finds, where longer ones vanish or a router reports them.

    python -m benchmarks.bench_holes [--only tcp|udp] [--json FILE]

The links have an MTU of 9216 bytes, and the limit lies at 1000 to 9000 bytes, in one direction. "no
ICMP": a relay with a delay of 1 ms drops longer packets. "ICMP": a router between two veth links
drops them and reports its MTU. Each row must name the limit to the byte in its direction and none
in the other, and what happens to longer packets, in less than 2 s. Needs root and a C compiler.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import msgspec
from rich.console import Console
from rich.table import Table

import netmeasure as nm
from benchmarks.common import host_facts

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.elsewhere import loop_on
from support.netns import NamespacePair
from support.relay import Relay, available
from support.routed import RoutedPair

MTU, LIMITS = 9216, (1000, 1280, 1376, 1450, 1500, 4321, 8951, 9000)
MOST_S = 2.0
Protocol = Literal["tcp", "udp"]
#: The fate of longer packets by protocol, and by whether a router reports them.
FATES = {
    ("tcp", False): "dropped",
    ("tcp", True): "shortened",
    ("udp", False): "dropped",
    ("udp", True): "reported",
}


class Found(msgspec.Struct, frozen=True):
    """Hold one search: the limit, and the lengths and the time that were found."""

    protocol: Protocol
    icmp: bool
    direction: Literal["upload", "download"]
    limit_bytes: int
    upload: tuple[int | None, str | None]
    download: tuple[int | None, str | None]
    took_s: float

    @property
    def is_right(self) -> bool:
        wanted = {"upload": (MTU, None), "download": (MTU, None)}
        limited = (self.limit_bytes, FATES[self.protocol, self.icmp])
        wanted_here = {**wanted, self.direction: limited}
        return {"upload": self.upload, "download": self.download} == wanted_here

    @property
    def is_quick(self) -> bool:
        return self.took_s < MOST_S


def line(icmp: bool, direction: str, limit: int) -> AbstractContextManager[NamespacePair]:
    """Return a path with a limit in one direction."""
    if icmp:
        return RoutedPair("server" if direction == "upload" else "client", limit, MTU)
    way = "up" if direction == "upload" else "down"
    return Relay(delay_ms=1, mtu=MTU, hole_bytes=limit, hole_way=way)


def search(
    protocol: Protocol, icmp: bool, direction: Literal["upload", "download"], limit: int
) -> Found:
    with (
        line(icmp, direction, limit) as pair,
        loop_on(pair, "server") as there,
        loop_on(pair, "client") as here,
    ):
        server = there(nm.serve(None, 0).__aenter__())
        try:
            ran: nm.PathReport = here(
                nm.path(pair.server.address, port=server.port, protocol=protocol)
            )
        finally:
            there(server.close())
    up, down = ((one.passed_bytes, one.longer) for one in ran.lengths)
    return Found(protocol, icmp, direction, limit, up, down, ran.took_ns / 1e9)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", choices=("tcp", "udp"))
    options.add_argument("--json", metavar="FILE", type=Path, help="every search")
    chosen = options.parse_args()
    if reason := available():
        raise SystemExit(f"can't run: {reason}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    facts: dict[str, Any] = host_facts()
    console.print(facts, highlight=False)
    protocols: tuple[Protocol, ...] = (chosen.only,) if chosen.only else ("tcp", "udp")
    found: list[Found] = []
    table = Table(title=f"limits of {LIMITS} bytes", title_justify="left")
    for title in ("protocol", "limit", "direction", "right", "longest search, s"):
        table.add_column(title)
    for protocol in protocols:
        for icmp in (False, True):
            for direction in ("upload", "download"):
                rows = [search(protocol, icmp, direction, limit) for limit in LIMITS]
                found += rows
                right = f"{sum(row.is_right for row in rows)} of {len(rows)}"
                longest = f"{max(row.took_s for row in rows):.2f}"
                words = "reported by ICMP" if icmp else "no ICMP"
                table.add_row(protocol, words, direction, right, longest)
    console.print(table, highlight=False)
    if chosen.json:
        rows_json = msgspec.to_builtins(found)
        chosen.json.write_text(json.dumps({"host": facts, "rows": rows_json}, indent=2) + "\n")
    if wrong := [row for row in found if not (row.is_right and row.is_quick)]:
        raise SystemExit("\n".join(map(str, wrong)))


if __name__ == "__main__":
    main()

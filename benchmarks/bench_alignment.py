"""How much does the place of a buffer in its page matter to the kernel's copies?

One TCP stream on loopback between the plain loops of `plain.c`, each end pinned to a CPU. The
sender's and the receiver's buffer begin some bytes after a page: malloc() places a large buffer 16
bytes after one. All pairs of places take turns, in an order drawn anew for each round.

    python -m benchmarks.bench_alignment [--rounds N] [--time S]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess

from rich.console import Console
from rich.table import Table

from benchmarks.common import rounds_option
from benchmarks.versus.contenders import plain_program

OFFSETS = (0, 16, 32, 64, 2064)
BLOCKS = "524288 131072 copy"


def rate_bps(program: str, seconds: float, send: int, receive: int) -> float:
    """Return the rate of one run with these offsets of the two buffers."""
    place = {"SEND_OFFSET": str(send), "RECEIVE_OFFSET": str(receive)}
    ran = subprocess.run(
        [program, "tcp", "127.0.0.1", str(seconds), *BLOCKS.split()],
        env=os.environ | place,
        capture_output=True,
        check=True,
    )
    found = json.loads(ran.stdout)
    return float(found["bytes"]) * 8 / float(found["seconds"])


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.bench_alignment")
    options.add_argument("--rounds", type=rounds_option, default=7)
    options.add_argument("--time", type=float, default=0.5, metavar="S")
    chosen = options.parse_args()
    program = plain_program()
    places = [*itertools.product(OFFSETS, (0,)), *itertools.product((0,), OFFSETS[1:])]
    rates: dict[tuple[int, int], list[float]] = {one: [] for one in places}
    for _ in range(chosen.rounds):
        random.shuffle(places)
        for one in places:
            rates[one].append(rate_bps(program, chosen.time, *one))
    table = Table("sender", "receiver", "Gbit/s", "ratio by round to the first")
    for (send, receive), found in rates.items():
        ratios = [a / b for a, b in zip(found, rates[0, 0], strict=True)]
        rate = statistics.median(found) / 1e9
        spread = f"({min(found) / 1e9:.1f} to {max(found) / 1e9:.1f})"
        table.add_row(
            f"page+{send}",
            f"page+{receive}",
            f"{rate:.1f} {spread}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    Console().print(table)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("ended by the user") from None

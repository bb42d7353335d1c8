"""Compare a network that comes up late with the same network on time: does it carry less?

Two namespaces are joined by a link of 1 Gbit/s. The tests alternate between A, where the link works
at once, and B, where it loses every packet of the first 2.5 s. Needs root (network namespaces).

    python -m benchmarks.late_compared --pairs 5
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

from rich.console import Console

import netmeasure as nm
from netmeasure.repetition import Alternative, turns
from netmeasure.report.compare import render

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.netns import Network, available

RATE, LATE_S = "1gbit", 2.5


async def compared(network: Network, pairs: int, seconds: float) -> nm.Comparison:
    spec = nm.TcpSpec(
        timing=nm.Timing(duration_s=seconds), options=nm.SocketOptions(congestion="cubic")
    )
    runs: dict[Alternative, list[nm.Result]] = {"a": [], "b": []}
    with network.enter("server"):
        server = await nm.serve(None, 0).__aenter__()
    with network.enter("client"):
        for side in turns(pairs):
            with network.late(LATE_S) if side == "b" else contextlib.nullcontext():
                result = await nm.measure(network.server.address, spec, port=server.port)
            runs[side].append(result)
    await server.close()
    return nm.compare(runs["a"], runs["b"], name_a="on time", name_b="late")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--time", type=float, default=2.0)
    options = parser.parse_args()
    if reason := available():
        raise SystemExit(f"can't run: {reason}")
    with Network() as network:
        network.shape(RATE, burst="1m")
        found = asyncio.run(compared(network, options.pairs, options.time))
    Console(width=110).print(render(found), highlight=False)


if __name__ == "__main__":
    main()

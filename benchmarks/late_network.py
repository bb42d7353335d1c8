"""What does a network that comes up late do to each figure?

Two namespaces joined by a link of 1 Gbit/s; the first 2.5 s of it swallow every packet. Prints the
report of the same test on time and late. Needs root (network namespaces).

    python -m benchmarks.late_network
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from rich.console import Console

import netmeasure as nm
from netmeasure.report.text import print_report

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.netns import Network, available

RATE, LATE_S, SECONDS = "1gbit", 2.5, 2.0


async def show(network: Network, console: Console) -> None:
    spec = nm.TcpSpec(
        timing=nm.Timing(duration_s=SECONDS), options=nm.SocketOptions(congestion="cubic")
    )
    with network.enter("server"):
        server = await nm.serve(None, 0).__aenter__()
    with network.enter("client"):
        for name, lateness in (("on time", 0.0), ("late", LATE_S)):
            late = network.late(lateness) if lateness else contextlib.nullcontext()
            with late:
                result = await nm.measure(network.server.address, spec, port=server.port)
            console.rule(f"network {name}", align="left")
            print_report(result, console)
    await server.close()


def main() -> None:
    if reason := available():
        raise SystemExit(f"can't run: {reason}")
    with Network() as network:
        network.shape(RATE)
        asyncio.run(show(network, Console(width=110)))


if __name__ == "__main__":
    main()

"""Show how a network that comes up late changes each figure of a report.

Two namespaces are joined by a link of 1 Gbit/s. The same test runs twice: on the link as it is, and
while the link loses every packet of the first 2.5 s. Needs root (network namespaces).

    python -m benchmarks.late_network
    python -m benchmarks.late_network --svg FILE    # only the second test; draw its report
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

import netmeasure as nm
from netmeasure.report.text import print_report

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.netns import Network, available

RATE, LATE_S, SECONDS = "1gbit", 2.5, 2.0
WIDTH = 110


@contextlib.contextmanager
def server(network: Network) -> Iterator[None]:
    """Run a server at the far end, as a program of its own: in this process, the server's sockets
    that are opened during a test would be at the near end."""
    words = network.command("server", [sys.executable, "-m", "netmeasure", "server"])
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("listening on")
            yield
        finally:
            process.terminate()


async def measured(network: Network, lateness_s: float) -> nm.Result:
    """Return the result of one test on a network that is late by so many seconds."""
    spec = nm.TcpSpec(
        timing=nm.Timing(duration_s=SECONDS), options=nm.SocketOptions(congestion="cubic")
    )
    late = network.late(lateness_s) if lateness_s else contextlib.nullcontext()
    with network.enter("client"), late:
        return await nm.measure(network.server.address, spec)


def picture(result: nm.Result) -> str:
    """Return the report as SVG, without the web font that rich names, since files are viewed
    offline."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
    print_report(result, console)
    drawn = console.export_svg(
        title="netmeasure client 10.77.0.2 -t 2 -C cubic", unique_id="report"
    )
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    return drawn.replace("Fira Code, monospace", "ui-monospace, monospace")


def main() -> None:
    """Run the tests and print or draw their reports."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--svg", metavar="FILE", type=Path, help="draw the late test's report")
    svg = parser.parse_args().svg
    if reason := available():
        raise SystemExit(f"can't run: {reason}")
    with Network() as network, server(network):
        network.shape(RATE)
        console = Console(width=WIDTH)
        if svg is not None:
            result = asyncio.run(measured(network, LATE_S))
            print_report(result, console)
            svg.write_text(picture(result))
            return
        for name, lateness_s in (("on time", 0.0), ("late", LATE_S)):
            result = asyncio.run(measured(network, lateness_s))
            console.rule(f"network {name}", align="left")
            print_report(result, console)


if __name__ == "__main__":
    main()

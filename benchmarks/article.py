"""Reproduce the article: is a network slow, or did it only come up late?

A CNI benchmark once took curl's average for the throughput of HTTP and FTP. The pods' network came
up late, curl counted time from its first connect attempt, and a healthy network was reported as
slow. iperf3, which counts from the connection on, did not show the delay. This program makes such a
network: two namespaces on a link of 1 Gbit/s, which either works at once or loses every packet of
the first 2.5 s. It measures with the real nginx, vsftpd, curl and iperf3, and with netmeasure. Then
it repeats the measurement as a campaign, by the plan beside this file: five runs of each test,
alternately on time and late, and one table. Needs root.

    python -m benchmarks.article [--size MIB] [--json FILE] [--html FILE] [--campaign-only]
        [--runs N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

import netmeasure as nm
from benchmarks.common import host_facts
from netmeasure.report.suite import render
from netmeasure.report.words import distortion, run_line
from netmeasure.units import bitrate, duration

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import iperf3, servers
from support.netns import Network, available

RATE, LATE_S, TCP_SECONDS = "1gbit", 2.5, 4
FILE, SMALL_FILE = "file.dat", "small.dat"


class Row(msgspec.Struct, frozen=True):
    """Hold one line of the table; rates in bit/s."""

    kind: str
    network: str
    peer: str
    peer_bps: float
    steady_bps: float | None
    from_first_attempt_bps: float | None
    connect_ns: int
    syn_retransmits: int | None
    sentence: str | None


def lateness(network: Network, late: str) -> contextlib.AbstractContextManager[None]:
    if late == "late":
        return network.late(LATE_S)
    if late == "data connection late":
        return network.late_ports(*servers.PASSIVE_PORTS, LATE_S)
    return contextlib.nullcontext()


def row(kind: str, late: str, peer: str, peer_bps: float, result: nm.Result) -> Row:
    flow = result.flow
    return Row(
        kind=kind,
        network=late,
        peer=peer,
        peer_bps=peer_bps,
        steady_bps=flow.steady.goodput_bps if flow.steady else None,
        from_first_attempt_bps=flow.averages.from_first_attempt_bps,
        connect_ns=sum(p.duration_ns for p in result.setup if p.name == "connect"),
        syn_retransmits=result.syn_retransmits,
        sentence=distortion(result, flow),
    )


def tcp(network: Network) -> Iterator[Row]:
    spec = nm.TcpSpec(
        direction="download",
        timing=nm.Timing(duration_s=TCP_SECONDS),
        options=nm.SocketOptions(congestion="cubic"),
    )

    async def measured(late: str) -> nm.Result:
        with network.enter("server"):
            server = await nm.serve(None, 0).__aenter__()
        try:
            with lateness(network, late), network.enter("client"):
                return await nm.measure(network.server.address, spec, port=server.port)
        finally:
            await server.close()

    with iperf3.server(network) as server:
        for late in ("on time", "late"):
            options = ("-R", "-t", str(TCP_SECONDS), "-C", "cubic")
            with lateness(network, late):
                told: dict[str, Any] = iperf3.client(
                    network.server.address, server.port, *options, network=network
                )
            assert server.wait_listening()
            bps = told["end"]["sum_received"]["bits_per_second"]
            yield row("TCP", late, "iperf3", bps, asyncio.run(measured(late)))


def files(network: Network, kind: str, size: int) -> Iterator[Row]:
    make = servers.nginx if kind == "HTTP" else servers.vsftpd
    with make(network) as server:
        server.add(FILE, size)
        url = server.url(FILE)
        servers.curl(url, network)
        for late in ("on time", "late", *(["data connection late"] if kind == "FTP" else [])):
            with lateness(network, late):
                curl = servers.curl(url, network)
            with lateness(network, late), network.enter("client"):
                result = asyncio.run(nm.measure(url))
            yield row(kind, late, "curl", curl.speed_download * 8, result)


def campaign(network: Network, size: int, runs: int | None) -> nm.Suite:
    """Run the plan beside this file in the client's namespace."""
    plan = Path(__file__).with_suffix(".toml").read_text()
    with servers.nginx(network) as http, servers.vsftpd(network) as ftp:
        for server, port in ((http, 8080), (ftp, 2121)):
            server.add(FILE, size)
            servers.curl(server.url(FILE), network)  # both then read it from memory
            plan = plan.replace(f"{{host}}:{port}/", f"{{host}}:{server.port}/")
        http.add(SMALL_FILE, 1024)
        return asyncio.run(_campaign(network, plan, {} if runs is None else {"runs": runs}))


async def _campaign(network: Network, plan: str, instead: dict[str, Any]) -> nm.Suite:
    program = (sys.executable, "-m", "netmeasure", "server", "-p", "0")
    server = network.popen("server", program, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline().rpartition(":")[2])
    with network.enter("client"):
        found = nm.Campaign(nm.read_plan(plan, {"port": port, **instead}))
        async for run in found.run():
            label = f"{len(found.runs)}/{found.planned}  {run.test}, {run.variant}"
            print(label if run.result is None else run_line(label, run.result), flush=True)
    return found.suite


def table(rows: list[Row]) -> Table:
    drawn = Table(title="one link of 1 Gbit/s", title_justify="left")
    for name in ("", "network", "the other tool says"):
        drawn.add_column(name)
    for name in ("steady", "from first attempt", "connect", "SYNs again"):
        drawn.add_column(f"netmeasure: {name}")
    for one in rows:
        drawn.add_row(
            one.kind,
            one.network,
            f"{one.peer}: {bitrate(one.peer_bps)}",
            bitrate(one.steady_bps),
            bitrate(one.from_first_attempt_bps),
            duration(one.connect_ns),
            str(one.syn_retransmits),
        )
    return drawn


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size", type=int, default=400, metavar="MIB", help="of the files")
    options.add_argument("--json", metavar="FILE", help="rows, table, host facts")
    options.add_argument("--html", metavar="FILE", help="the campaign as a page")
    options.add_argument("--runs", type=int, metavar="N", help="runs of each test (default 5)")
    options.add_argument("--campaign-only", action="store_true", help="without curl and iperf3")
    chosen = options.parse_args()
    reason = available() or servers.available("nginx", "vsftpd", "curl", "iperf3")
    if reason:
        raise SystemExit(f"can't run: {reason}")
    facts, console = host_facts(), Console(width=None if sys.stdout.isatty() else 140)
    console.print(facts, highlight=False)
    with Network() as network:
        network.shape(RATE)
        network.sysctl("client", "net.ipv4.tcp_syn_linear_timeouts", 0)
        network.congestion("cubic")
        size = chosen.size * 1024 * 1024
        rows = []
        if not chosen.campaign_only:
            rows = [*tcp(network), *files(network, "HTTP", size), *files(network, "FTP", size)]
            console.print(table(rows), highlight=False)
        for one in rows:
            if one.sentence is not None:
                console.print(f"{one.kind}, {one.network}: {one.sentence}", highlight=False)
        suite = campaign(network, size // 4, chosen.runs)
    console.print(render(suite), highlight=False)
    if chosen.html:
        Path(chosen.html).write_bytes(nm.publish_suite(suite))
    if chosen.json:
        document = {
            "host": facts,
            "rows": msgspec.to_builtins(rows),
            "campaign": msgspec.to_builtins(suite),
        }
        Path(chosen.json).write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Compare the moments of set-up with tcpdump's while other programs want every CPU.

Two or more programs that compute all the time run beside each test on loopback: a download by TCP
from a netmeasure server, as fast as possible, and one by HTTP from its embedded file server. For
each test, the program takes the length of the connect and the moment of the first payload byte from
the result, and from tcpdump, which has the kernel's time stamps. It ends with 1 if one of them
differs by more than 2 ms and 2 %.

    python -m benchmarks.first_moments [--rounds N] [--hogs N]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import netmeasure as nm
from benchmarks.common import host_facts, rounds_option

HOST = "127.77.7.7"
SLACK_MS, SLACK = 2.0, 0.02
PACKETS = 90
_LINE = re.compile(
    r"([\d.]+) IP (\S+)\.(\d+) > (\S+)\.(\d+): Flags \[(\S+)\].*?, length (\d+)(?:$|:)"
)


class Packet(NamedTuple):
    """Hold a line of tcpdump. `port` is the client's."""

    at_s: float
    to_server: bool
    port: str
    flags: str
    length: int


class Off(NamedTuple):
    """Hold by how much our times differ from tcpdump's, in ms, and whether they are near."""

    connect_ms: float
    first_byte_ms: float
    near: bool


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """Run programs that compute all the time."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", "while True: pass"])
            )
            stack.callback(process.kill)
        yield


@contextmanager
def server() -> Iterator[tuple[str, str]]:
    """Run a server in a process of its own; yield a target of TCP and a URL."""
    argv = [sys.executable, "-m", "netmeasure", "server", "-B", HOST, "-p", "0", "--http", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port, http = (process.stdout.readline().rpartition(":")[2].strip() for _ in range(2))
            yield f"{HOST}:{port}", f"http://{HOST}:{http}/64M"
        finally:
            process.kill()


def measured(target: str, spec: nm.TcpSpec | None) -> tuple[nm.Result, list[Packet]]:
    """Return a test's result, and its first packets."""
    options = ("-tt", "-n", "-l", "--immediate-mode", "-s", "128", "-c", str(PACKETS))
    argv = ("tcpdump", "-i", "lo", *options, f"tcp and host {HOST}")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as dump:
        assert dump.stderr is not None
        if not any("listening on" in line for line in dump.stderr):
            raise SystemExit("tcpdump does not start: this takes root")
        result = asyncio.run(nm.measure(target, spec))
        text, _ = dump.communicate(timeout=30)
    packets = []
    for found in map(_LINE.match, text.splitlines()):
        if found is not None:
            at, _, source, to, aim, flags, length = found.groups()
            up = to == HOST
            packets.append(Packet(float(at), up, source if up else aim, flags, int(length)))
    return result, packets


def compared(result: nm.Result, packets: list[Packet]) -> Off:
    """Return by how much the times of the first connection and of the first byte differ."""
    syn, answer = (next(p for p in packets if p.flags == flags) for flags in ("S", "S."))
    connect = next(p for p in result.setup if p.name == "connect")
    # either end of the phase may be late, if this process lost its CPU there
    origin_s = min(syn.at_s - connect.start_ns / 1e9, answer.at_s - connect.end_ns / 1e9)
    of_data = [p for p in packets if p.port != syn.port] or packets
    byte_s = next(p.at_s for p in of_data if not p.to_server and p.length)
    said_s = max(p.end_ns for p in result.setup if p.name == "first_byte") / 1e9 + origin_s
    connect_ms = connect.duration_ns / 1e6 - 1e3 * (answer.at_s - syn.at_s)
    byte_ms = 1e3 * (said_s - byte_s)
    limits = [max(SLACK_MS, SLACK * 1e3 * (at - syn.at_s)) for at in (answer.at_s, byte_s)]
    near = abs(connect_ms) <= limits[0] and abs(byte_ms) <= limits[1]
    return Off(connect_ms, byte_ms, near)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=rounds_option, default=50)
    parser.add_argument("--hogs", type=int, default=2, help="programs beside each test")
    options = parser.parse_args()
    print(host_facts())
    spec = nm.TcpSpec(direction="download", timing=nm.Timing(duration_s=0.3), latency=False)
    found: dict[str, list[Off]] = {"TCP": [], "HTTP": []}
    with server() as (target, url), hogs(options.hogs):
        for _ in range(options.rounds):
            found["TCP"].append(compared(*measured(target, spec)))
            found["HTTP"].append(compared(*measured(url, None)))
    for kind, all_of in found.items():
        worst = max(abs(one.first_byte_ms) for one in all_of)
        connect = max(abs(one.connect_ms) for one in all_of)
        near = sum(one.near for one in all_of)
        print(
            f"{kind}: {near} of {len(all_of)} within 2 ms or 2 % of tcpdump's; the largest"
            f" differences are {connect:.2f} ms (connect) and {worst:.2f} ms (first byte)"
        )
    return 0 if all(one.near for all_of in found.values() for one in all_of) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Compare downloads by netmeasure and curl from the same server, in a namespace of their own.

The namespace has a loopback whose connections use cubic, whatever the host's default is. The server
is pinned to one CPU and the client to the other. Rates are those of the body, from its first byte
on, as each tool reports them. CPU is the time of the whole client process, from its exit status:
with its start-up, and "of the body", less the time of the same command for an empty file. "Server
busy" is nginx's own CPU time divided by the body's time: near 100 %, the server limits the rate.
(vsftpd's sessions are processes that end before their time can be read.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.common import Case, Column, Sample, main
from benchmarks.processes import CLIENT_CPU, SERVER_CPU, pinned

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import netns, servers
from support.netns import NamespacePair, Side
from support.servers import FileServer

FILE, FILE_BYTES = "file.dat", 10 * 1024**3
EMPTY = "empty.dat"


class FetchSample(Sample, frozen=True):
    """Hold a tool's own figures of one run; the CPU time is the kernel's count."""

    body_bps: float
    bytes: int
    cpu_s: float
    empty_cpu_s: float
    server_cpu_s: float

    @property
    def rate(self) -> float:
        return self.body_bps

    @property
    def cpu_s_per_gb(self) -> float:
        return self.cpu_s / (self.bytes / 1e9)

    @property
    def body_cpu_s_per_gb(self) -> float:
        return (self.cpu_s - self.empty_cpu_s) / (self.bytes / 1e9)


COLUMNS: list[Column] = [
    ("Gbit/s", 1, lambda s: s.body_bps / 1e9),
    ("CPU s/GB", 3, lambda s: s.cpu_s_per_gb),
    ("of the body", 3, lambda s: s.body_cpu_s_per_gb),
    ("server busy %", 0, lambda s: 100 * s.server_cpu_s / (s.bytes * 8 / s.body_bps)),
]


class Loopback(NamespacePair):
    """Act as both sides of a link: the loopback of one namespace."""

    def _make_side(self, side: str, namespace: str) -> Side:
        return Side(namespace, "lo", address="127.0.0.1")

    def _build(self) -> None:
        super()._build()
        self.sides["client"] = self.server
        route = ("local", "127.0.0.1", "dev", "lo", "table", "local", "scope", "host")
        netns.ip("-n", self.server.namespace, "route", "replace", *route, "congctl", "cubic")


def _finished(network: NamespacePair, argv: Sequence[str]) -> tuple[bytes, float]:
    """Run a program, and return its output and its CPU seconds."""
    command = network.command("client", pinned(CLIENT_CPU, argv))
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} failed with {process.returncode}")
    return said, usage.ru_utime + usage.ru_stime


def netmeasure(network: NamespacePair, server: FileServer, *options: str) -> FetchSample:
    def argv(name: str) -> tuple[str, ...]:
        url = server.url(name)
        return (sys.executable, "-m", "netmeasure", "client", url, "--json", *options)

    before = _server_cpu_s(network)
    said, cpu_s = _finished(network, argv(FILE))
    server_cpu_s = _server_cpu_s(network) - before
    flow = json.loads(said)["flows"][0]
    if flow["receiver"]["bytes"] != FILE_BYTES:
        raise SystemExit(f"{flow['receiver']['bytes']} of {FILE_BYTES} bytes were counted")
    return FetchSample(
        body_bps=flow["averages"]["from_first_byte_bps"],
        bytes=flow["receiver"]["bytes"],
        cpu_s=cpu_s,
        empty_cpu_s=_finished(network, argv(EMPTY))[1],
        server_cpu_s=server_cpu_s,
    )


def curl(network: NamespacePair, server: FileServer) -> FetchSample:
    def argv(name: str) -> tuple[str, ...]:
        words = "%{size_download} %{time_starttransfer} %{time_total}"
        options = ("--silent", "--fail", "--output", os.devnull, "--write-out", words)
        return ("curl", *options, server.url(name))

    before = _server_cpu_s(network)
    said, cpu_s = _finished(network, argv(FILE))
    server_cpu_s = _server_cpu_s(network) - before
    size, first, total = map(float, said.split())
    return FetchSample(
        body_bps=size * 8 / (total - first),
        bytes=int(size),
        cpu_s=cpu_s,
        empty_cpu_s=_finished(network, argv(EMPTY))[1],
        server_cpu_s=server_cpu_s,
    )


@contextmanager
def serving(
    make: Callable[[NamespacePair], AbstractContextManager[FileServer]],
) -> Iterator[tuple[NamespacePair, FileServer]]:
    with Loopback() as network, make(network) as server:
        for pid in _inhabitants(network.server.namespace):
            subprocess.run(("taskset", "-pc", SERVER_CPU, pid), stdout=subprocess.DEVNULL)
        server.add(FILE, FILE_BYTES)
        server.add(EMPTY, 0)
        curl(network, server)  # reads it into the page cache
        yield network, server


def _server_cpu_s(network: NamespacePair) -> float:
    """Return the CPU time of the server's processes, and of the children that they have waited
    for."""
    total = 0.0
    for pid in _inhabitants(network.server.namespace):
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(int(pid)).cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _inhabitants(namespace: str) -> list[str]:
    found = subprocess.run(("ip", "netns", "pids", namespace), capture_output=True, text=True)
    return found.stdout.split()


def compare(
    description: str | None,
    name: str,
    make: Callable[[NamespacePair], AbstractContextManager[FileServer]],
) -> None:
    """Run the whole benchmark of one kind of server."""
    if reason := netns.available() or servers.available(name, "curl"):
        raise SystemExit(f"can't run: {reason}")
    with serving(make) as (network, server):

        def case(mode: str) -> Case:
            return Case(
                name=f"{name}, {mode}",
                ours=lambda: netmeasure(network, server, "--receive-mode", mode),
                theirs=lambda: curl(network, server),
            )

        def cases(_: float) -> list[Case]:
            return [case(mode) for mode in ("copy", "discard")]

        main(description, cases, COLUMNS if name == "nginx" else COLUMNS[:-1])

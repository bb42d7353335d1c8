"""Check the moment that `ready` reports as the end of an outage, and the causes that it reports.

    python -m benchmarks.bench_ready [--runs N] [--only KIND] [--json FILE]

Two namespaces are joined by a veth pair. During an outage, the client's entry for its next hop has
a wrong hardware address, so that every packet is lost; one message to the kernel (rtnetlink(7), as
`ip neighbour replace` sends it) ends it. The outages are spread evenly on a logarithmic scale from
0.05 to 5 s. The change takes effect between the sending of that message and the kernel's answer. A
run counts only if the reported moment is within 20 ms of both. Kinds:

    tcp       a TCP server behind the outage
    http      an HTTP server behind the outage
    name      a name whose name server and TCP server are both behind the outage
    new-name  a name that a reachable name server does not know until the end of the outage
    many      200 addresses of the TCP server, all behind the outage; the worst of them counts
    causes    one target for each cause, in one call; each must have its cause, and no other

Needs root and iproute2.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
from rich.console import Console
from rich.table import Table

import netmeasure as nm
from benchmarks.common import host_facts
from netmeasure.readiness.ready import ATTEMPT_S, EVERY_S, prepared, until_over

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.netns import Network, available, ip

SHORTEST_S, LONGEST_S = 0.05, 5.0
LIMIT_NS = 20_000_000
#: For how long the path is cut before a run begins, so that no old packet is on the way.
SETTLE_S = 0.02
MANY, MANY_NET = 200, "10.99.0"
TCP_PORT, HTTP_PORT, SHUT_PORT = 5300, 5380, 5301
NAME, NEW_NAME, NO_NAME = "late.test", "new.test", "no.test"
NOBODYS_MAC = "02:00:00:00:00:99"
#: linux/netlink.h, linux/rtnetlink.h, linux/neighbour.h
_NLMSGHDR, _NDMSG, _RTATTR = (
    struct.Struct("=IHHII"),
    struct.Struct("=BxxxiHBB"),
    struct.Struct("=HH"),
)
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE, _NLM_F_CREATE = 0x1, 0x4, 0x100, 0x400
_RTM_NEWNEIGH, _NDA_DST, _NDA_LLADDR, _NUD_PERMANENT = 28, 1, 2, 0x80
KINDS = ("tcp", "http", "name", "new-name", "many")


class Timed(NamedTuple):
    """Hold one run: the outage, and the times of `ready` and of the change (CLOCK_MONOTONIC)."""

    outage_s: float
    before_ns: int
    after_ns: int
    at_ns: tuple[int | None, ...]

    @property
    def late_ns(self) -> int | None:
        """Return the greatest difference to either end of the change, signed; None: a target was
        not reached."""
        worst = 0
        for at in self.at_ns:
            if at is None:
                return None
            worst = max((worst, at - self.before_ns, at - self.after_ns), key=abs)
        return worst

    @property
    def is_within(self) -> bool:
        return self.late_ns is not None and abs(self.late_ns) <= LIMIT_NS


class Line(Network):
    """Hold the client with its prober, and the server with its name, TCP and HTTP servers."""

    def __enter__(self) -> Line:
        super().__enter__()
        try:
            near, far = ("-n", self.client.namespace), ("-n", self.server.namespace)
            ip(*near, "route", "add", f"{MANY_NET}.0/24", "via", self.server.address)
            ip(*far, "route", "add", "local", f"{MANY_NET}.0/24", "dev", "lo")
            self.servers = self._child("server", "serve", self.server.address)
            self._folder = self._undo.enter_context(tempfile.TemporaryDirectory())
            resolver = Path(self._folder, "resolv.conf")
            resolver.write_text(f"nameserver {self.server.address}\n")
            self.resolver = str(resolver)
            with self.enter("client"):
                self._kernel = self._undo.enter_context(
                    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
                )
                self._link = socket.if_nametoindex(self.client.device)
            with suppress(PermissionError):  # the change does not wait for a CPU
                urgent = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
                os.sched_setscheduler(0, urgent, os.sched_param(1))
            self.prober = self._child("client", "probe")
        except BaseException:
            self.close()
            raise
        return self

    def _child(self, side: str, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "benchmarks.bench_ready", *words]
        if side == "client":  # with a name server of its own, see resolv.conf(5)
            mount = f'mount --bind {self.resolver} /etc/resolv.conf && exec "$@"'
            argv = ["unshare", "--mount", "sh", "-c", mount, "sh", *argv]
        pipe = subprocess.PIPE
        child = self.popen(side, argv, stdin=pipe, stdout=pipe, text=True)
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise SystemExit(f"the {side}'s program did not start")
        return child

    def way(self, *, is_open: bool) -> None:
        """Open or cut the way to the server: replace the permanent entry of its address."""
        mac = bytes.fromhex((self.server.mac if is_open else NOBODYS_MAC).replace(":", ""))
        entry = _NDMSG.pack(socket.AF_INET, self._link, _NUD_PERMANENT, 0, 0)
        entry += _RTATTR.pack(_RTATTR.size + 4, _NDA_DST) + socket.inet_aton(self.server.address)
        entry += _RTATTR.pack(_RTATTR.size + len(mac), _NDA_LLADDR) + mac + bytes(2)
        flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_REPLACE | _NLM_F_CREATE
        head = _NLMSGHDR.pack(_NLMSGHDR.size + len(entry), _RTM_NEWNEIGH, flags, 1, 0)
        self._kernel.send(head + entry)
        answer = self._kernel.recv(4096)
        (failed,) = struct.unpack_from("=i", answer, _NLMSGHDR.size)
        if failed:
            raise OSError(-failed, "the kernel refused a neighbour's entry")

    def order(self, child: subprocess.Popen[str], what: Any) -> None:
        assert child.stdin is not None
        child.stdin.write(json.dumps(what) + "\n")
        child.stdin.flush()

    def answer(self, child: subprocess.Popen[str]) -> Any:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise SystemExit("a program of the benchmark ended early")
        return json.loads(line)

    def timed(self, kind: str, outage_s: float) -> Timed:
        """Run `ready` during one outage."""
        late_name = kind == "new-name"
        if not late_name:
            self.way(is_open=False)
        time.sleep(SETTLE_S)
        self.order(self.prober, {"targets": targets(kind, self.server.address), "timeout_s": 20})
        began_ns = self.answer(self.prober)
        time.sleep(max(0.0, began_ns / 1e9 + outage_s - time.monotonic()))
        before_ns = time.monotonic_ns()
        if late_name:
            self.order(self.servers, True)
            before_ns, after_ns = self.answer(self.servers)
        else:
            self.way(is_open=True)
            after_ns = time.monotonic_ns()
        origin_ns, *told = self.answer(self.prober)
        found = msgspec.convert(told, list[nm.Readiness])
        if late_name:
            self.order(self.servers, False)
            self.answer(self.servers)
        at = tuple(None if one.at_ns is None else origin_ns + one.at_ns for one in found)
        return Timed(outage_s, before_ns, after_ns, at)


def targets(kind: str, address: str) -> list[str]:
    """Return the targets of a kind of run."""
    if kind == "many":
        return [f"{MANY_NET}.{number}:{TCP_PORT}" for number in range(1, MANY + 1)]
    return {
        "tcp": [f"{address}:{TCP_PORT}"],
        "http": [f"http://{address}:{HTTP_PORT}/"],
        "name": [f"{NAME}:{TCP_PORT}"],
        "new-name": [f"{NEW_NAME}:{TCP_PORT}"],
    }[kind]


def outages_s(runs: int) -> list[float]:
    """Return the lengths of the outages, the short and the long ones mixed."""
    step = (LONGEST_S / SHORTEST_S) ** (1 / max(1, runs - 1))
    lengths = [SHORTEST_S * step**number for number in range(runs)]
    return [*lengths[::2], *lengths[1::2]]


@contextmanager
def provoked(line: Line) -> Iterator[dict[str, str]]:
    """Provoke each cause in the client's namespace; yield the cause of each target."""
    near, client = ("-n", line.client.namespace), line.client
    net = "10.98.0"
    with ExitStack() as undo:

        def add(*words: str) -> None:
            ip(*near, *words)
            undo.callback(ip, *near, words[0], "del", *words[2:])

        add("route", "add", "unreachable", f"{net}.1/32")
        add("route", "add", "prohibit", f"{net}.2/32")
        add("route", "add", f"{net}.3/32", "dev", client.device)  # nobody answers ARP for it
        add("route", "add", f"{net}.4/32", "via", "10.77.0.98", "dev", client.device)
        entry = ("lladdr", NOBODYS_MAC, "dev", client.device, "nud", "permanent")
        add("neighbour", "add", "10.77.0.98", *entry)
        server = line.server.address
        yield {
            f"{net}.9:80": "no_route",
            f"{net}.1:80": "unreachable",
            f"{net}.2:80": "forbidden_here",
            f"{net}.3:80": "unresolved_neighbour",
            f"{net}.4:80": "no_answer",
            f"{server}:{SHUT_PORT}": "refused",
            f"{NO_NAME}:80": "name_not_found",
            f"tls://{server}:{TCP_PORT}": "tls",
            f"http://{server}:{HTTP_PORT}/busy": "http",
            f"http://{server}:{TCP_PORT}/": "http",
        }


def wrong_causes(line: Line) -> list[str]:
    """Return a sentence for each cause that is not as provoked."""
    told: list[object] = []
    with provoked(line) as causes:
        line.order(line.prober, {"targets": list(causes), "timeout_s": 1.5})
        line.answer(line.prober)
        told += line.answer(line.prober)[1:]
    line.way(is_open=False)
    causes[f"{NAME}:80"] = "name_no_answer"
    line.order(line.prober, {"targets": [f"{NAME}:80"], "timeout_s": 1.5})
    line.answer(line.prober)
    told += line.answer(line.prober)[1:]
    line.way(is_open=True)
    wrong = []
    for one in msgspec.convert(told, list[nm.Readiness]):
        seen = [wait.cause for wait in one.waits]
        print(f"  {one.target}: {', '.join(seen)}; provoked: {causes[one.target]}")
        if seen != [causes[one.target]] or one.reached:
            wrong.append(f"{one.target}: {seen} instead of {causes[one.target]}")
    return wrong


def row(kind: str, runs: list[Timed]) -> list[str]:
    within = sum(run.is_within for run in runs)
    known = [run for run in runs if run.late_ns is not None]
    cells = [kind, f"{within} of {len(runs)}"]
    for ends in ("before_ns", "after_ns"):
        late = [
            (at - getattr(run, ends)) / 1e6 for run in known for at in run.at_ns if at is not None
        ]
        middle = statistics.median(late) if late else float("nan")
        cells.append(f"{middle:.1f} ({min(late, default=0):.1f} to {max(late, default=0):.1f})")
    took = [(run.after_ns - run.before_ns) / 1e6 for run in runs]
    cells.append(f"{statistics.median(took):.1f} ({min(took):.1f} to {max(took):.1f})")
    return cells


# ---- the programs in the two namespaces ----------------------------------------------------------


class Names(asyncio.DatagramProtocol):
    """Answer queries for A records (RFC 1035); all names but two are unknown."""

    def __init__(self, address: str) -> None:
        self._address = bytes(int(part) for part in address.split("."))
        self.knows_new = False
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str | Any, int]) -> None:
        assert self._transport is not None
        end = data.index(b"\0", 12)
        name = data[12:end].decode("ascii", "replace")
        known = {_wire_name(NAME)} | ({_wire_name(NEW_NAME)} if self.knows_new else set())
        is_known, wants_ipv4 = name in known, data[end + 1 : end + 3] == b"\0\1"
        flags = b"\x85\x80" if is_known else b"\x85\x83"  # an answer; NXDOMAIN
        record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + self._address if is_known and wants_ipv4 else b""
        counts = b"\0\1" + (b"\0\1" if record else b"\0\0") + b"\0\0\0\0"
        reply = data[:2] + flags + counts + data[12 : end + 5] + record
        self._transport.sendto(reply, address)


def _wire_name(name: str) -> str:
    """Return a name as a query has it: the length of each label, then the label."""
    return "".join(chr(len(label)) + label for label in name.split("."))


def _close_all(listener: socket.socket) -> None:
    """Close each connection at once. An event loop would take more CPU time for that, from the
    prober of hundreds of targets on the same machine."""
    while True:
        listener.accept()[0].close()


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        request = await reader.readuntil(b"\r\n\r\n")
        status = b"503 Busy" if request.startswith(b"GET /busy") else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def serve(address: str) -> None:
    """Serve names, TCP and HTTP; orders say whether the new name is known."""
    loop = asyncio.get_running_loop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    _, names = await loop.create_datagram_endpoint(lambda: Names(address), (address, 53))
    listener = socket.create_server(("", TCP_PORT), backlog=4096)
    threading.Thread(target=_close_all, args=(listener,), daemon=True).start()
    await asyncio.start_server(_http, "", HTTP_PORT, backlog=4096)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        before_ns = time.monotonic_ns()
        names.knows_new = json.loads(line)
        print(json.dumps([before_ns, time.monotonic_ns()]), flush=True)


async def probe() -> None:
    """Run what `nm.ready` runs for each order; print when its times begin, and its reports."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        watch = prepared(
            order["targets"],
            wanted="allowed",
            timeout_s=order["timeout_s"],
            every_s=EVERY_S,
            attempt_s=ATTEMPT_S,
            family="any",
            ca_file=None,
            insecure=False,
        )
        print(time.monotonic_ns(), flush=True)
        found = await until_over(watch)
        print(json.dumps([watch.origin_ns, *msgspec.to_builtins(found)]), flush=True)


# ---- the whole -----------------------------------------------------------------------------------


def measured(kinds: list[str], runs: int, console: Console) -> dict[str, list[Timed]]:
    found: dict[str, list[Timed]] = {}
    with Line() as line:
        for kind in kinds:
            found[kind] = [line.timed(kind, outage_s) for outage_s in outages_s(runs)]
            console.print(f"  {', '.join(row(kind, found[kind]))}", highlight=False)
    return found


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--runs", type=int, default=50, metavar="N", help="of each kind (50)")
    options.add_argument("--only", choices=(*KINDS, "causes"), action="append", metavar="KIND")
    options.add_argument("--json", metavar="FILE", type=Path, help="every run")
    chosen = options.parse_args()
    if chosen.runs < 1:
        options.error("a benchmark needs 1 run or more")
    if reason := available():
        raise SystemExit(f"can't run: {reason}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    facts = host_facts()
    console.print(facts, highlight=False)
    wanted = chosen.only or [*KINDS, "causes"]
    found = measured([kind for kind in KINDS if kind in wanted], chosen.runs, console)
    drawn = Table(title="ms, median (least to greatest)", title_justify="left")
    for title in ("kind", "within 20 ms", "after its start", "after its end", "the change took"):
        drawn.add_column(title)
    for kind, runs in found.items():
        drawn.add_row(*row(kind, runs))
    if found:
        console.print(drawn, highlight=False)
    missed = [
        f"{kind}: {sum(not run.is_within for run in runs)} of {len(runs)} runs missed"
        for kind, runs in found.items()
        if not all(run.is_within for run in runs)
    ]
    if "causes" in wanted:
        with Line() as line:
            missed += wrong_causes(line)
    if chosen.json:
        rows = {kind: [run._asdict() for run in runs] for kind, runs in found.items()}
        chosen.json.write_text(json.dumps({"host": facts, "runs": rows}, indent=2) + "\n")
    if missed:
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(sys.argv[2]))
    elif sys.argv[1:2] == ["probe"]:
        asyncio.run(probe())
    else:
        main()

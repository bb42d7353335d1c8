"""Measure a mesh of namespaces with a Dask worker in each, and check its report.

    python -m benchmarks.bench_mesh [--nodes N] [--at-once K] [--time S] [--json FILE]

All nodes are on one bridge. The link from one node to another is slow, and a third node loses
packets to a fourth: the mesh must name these two pairs and no other. Then the mesh is measured
again, and a worker is killed when a third of the pairs are done: all pairs of the other workers
must still have their figures. The times at which the tests began and ended prove that no node ever
had more than K tests. Needs root, iproute2, iptables and the extra `mesh`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import host_facts

PORT, NET = 8786, "10.79.0"
RATE, SLOW_RATE, LOSS = "20M", "5mbit", 0.05
_WAIT_S = 180
_WAITING = (
    "import sys; from distributed import Client; c = Client(sys.argv[1]);"
    " c.wait_for_workers(int(sys.argv[2]), timeout=float(sys.argv[3])); c.close()"
)


class Nodes:
    """Hold the namespaces: a hub with the bridge and the scheduler, and the nodes."""

    def __init__(self, count: int) -> None:
        self.names = [f"node{number}" for number in range(1, count + 1)]
        self._prefix = f"mesh{os.getpid()}-"
        self._undo = contextlib.ExitStack()
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Nodes:
        try:
            self._make("hub")
            _run("ip", "-n", self.space("hub"), "link", "add", "br0", "type", "bridge")
            _run("ip", "-n", self.space("hub"), "addr", "add", f"{NET}.254/24", "dev", "br0")
            _run("ip", "-n", self.space("hub"), "link", "set", "br0", "up")
            for number, name in enumerate(self.names, 1):
                self._join(number, name)
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _make(self, name: str) -> None:
        _run("ip", "netns", "add", self.space(name))
        self._undo.callback(_run, "ip", "netns", "delete", self.space(name))
        _run("ip", "-n", self.space(name), "link", "set", "lo", "up")

    def _join(self, number: int, name: str) -> None:
        self._make(name)
        here, hub = self.space(name), self.space("hub")
        _run(
            "ip",
            "-n",
            here,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            f"p{number}",
            "netns",
            hub,
        )
        _run("ip", "-n", here, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        _run("ip", "-n", here, "link", "set", "eth0", "up")
        _run("ip", "-n", hub, "link", "set", f"p{number}", "master", "br0", "up")

    def space(self, name: str) -> str:
        """Return the name of a node's namespace."""
        return self._prefix + name

    def address(self, name: str) -> str:
        """Return a node's address."""
        return f"{NET}.{self.names.index(name) + 1}"

    def start(self, name: str, module: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a program of Dask in a namespace."""
        log = subprocess.DEVNULL
        command = ["ip", "netns", "exec", self.space(name), sys.executable, "-m", module, *words]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        self._undo.callback(_end, process)
        return process

    def cluster(self) -> str:
        """Start the scheduler and the workers; return the scheduler's address."""
        address = f"tcp://{NET}.254:{PORT}"
        place = ("--host", f"{NET}.254", "--port", str(PORT), "--no-dashboard")
        self.start("hub", "distributed.cli.dask_scheduler", *place)
        for name in self.names:
            words = (address, "--host", self.address(name), "--name", name, "--nthreads", "1")
            quiet = ("--no-nanny", "--no-dashboard")
            self.workers[name] = self.start(name, "distributed.cli.dask_worker", *words, *quiet)
        waits = (sys.executable, "-c", _WAITING, address, str(len(self.names)), str(_WAIT_S))
        _run("ip", "netns", "exec", self.space("hub"), *waits)
        return address

    def slow(self, a: str, b: str) -> None:
        """Make the link from one node to another slow."""
        where = ("tc", "-n", self.space(a))
        _run(*where, "qdisc", "add", "dev", "eth0", "root", "handle", "1:", "htb")
        _run(*where, "class", "add", "dev", "eth0", "parent", "1:", "classid", "1:10",
             "htb", "rate", SLOW_RATE, "quantum", "3000")  # fmt: skip
        _run(*where, "filter", "add", "dev", "eth0", "parent", "1:", "protocol", "ip", "u32",
             "match", "ip", "dst", f"{self.address(b)}/32", "flowid", "1:10")  # fmt: skip

    def lossy(self, a: str, b: str) -> None:
        """Lose a share of the packets that a node sends to another one, each by chance."""
        _run("ip", "-n", self.space(a), "link", "set", "dev", "eth0", "gso_max_segs", "1")
        _run("ip", "netns", "exec", self.space(b), "iptables", "-A", "INPUT",
             "-s", self.address(a), "-m", "statistic", "--mode", "random",
             "--probability", str(LOSS), "-j", "DROP")  # fmt: skip


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def measured(
    nodes: Nodes, scheduler: str, words: Sequence[str], kill: str | None = None
) -> tuple[dict[str, Any], float]:
    """Run the program, and kill a worker meanwhile. Return its document and how long it took."""
    count = len(nodes.names) * (len(nodes.names) - 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mesh.json")
        command = ["ip", "netns", "exec", nodes.space("hub"), sys.executable, "-m", "netmeasure"]
        command += ["mesh", "--scheduler", scheduler, "--json", str(file), *words]
        begun = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for number, line in enumerate(process.stdout, 1):
                if "/" in line and number % 40 == 0:
                    print(line.rstrip(), flush=True)
                if kill is not None and number == count // 3:
                    print(f"killing {kill}", flush=True)
                    nodes.workers[kill].kill()
        took = time.monotonic() - begun
        return json.loads(file.read_text()), took


def most_at_once(pairs: Sequence[dict[str, Any]]) -> int:
    """Return the most tests that a node had at a time, from the tests' own times."""
    events: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for pair in pairs:
        for name in (pair["client"], pair["server"]):
            events[name] += [(pair["begun_ns"], 1), (pair["ended_ns"], -1)]
    return max(_highest(sorted(one)) for one in events.values())


def _highest(events: list[tuple[int, int]]) -> int:
    now = most = 0
    for _, step in events:
        now += step
        most = max(most, now)
    return most


def rounds_s(pairs: Sequence[dict[str, Any]]) -> float:
    """Return the sum of the rounds, each as long as its longest test."""
    longest: dict[int, int] = defaultdict(int)
    for pair in pairs:
        span = pair["ended_ns"] - pair["begun_ns"]
        longest[pair["round"]] = max(longest[pair["round"]], span)
    return sum(longest.values()) / 1e9


def findings(
    found: dict[str, Any], took: float, at_once: int, nodes: Nodes, odd: set[tuple[str, str]]
) -> Iterator[tuple[bool, str]]:
    """Yield each requirement for a whole mesh, and whether it is met."""
    pairs, count = found["pairs"], len(nodes.names) * (len(nodes.names) - 1)
    whole = sum(pair["error"] is None for pair in pairs)
    yield whole == count, f"{whole} of {count} directed pairs measured"
    most = most_at_once(pairs)
    yield most <= at_once, f"at most {most} tests at a time on a node, {at_once} allowed"
    named = {(one["client"], one["server"]) for one in found["odd"]}
    words = ", ".join(
        f"{one['client']} to {one['server']} ({one['metric']})" for one in found["odd"]
    )
    yield named == odd, f"odd: {words or 'none'}; injected: {', '.join(map(' to '.join, odd))}"
    own = rounds_s(pairs)
    yield took <= 1.3 * own, f"{took:.1f} s, of which {own:.1f} s in {found['rounds']} rounds"


def main() -> None:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=1, metavar="K")
    parser.add_argument("--time", type=float, default=1.0, metavar="S", help="of each test")
    parser.add_argument("--json", metavar="FILE", help="both documents and the host facts")
    options = parser.parse_args()
    if options.nodes < 6:
        parser.error("--nodes must be 6 or more")
    facts = host_facts()
    print(facts)
    with Nodes(options.nodes) as nodes:
        begun = time.monotonic()
        scheduler = nodes.cluster()
        print(f"{options.nodes} workers after {time.monotonic() - begun:.0f} s", flush=True)
        one, two, three, four, victim = nodes.names[1:6]
        nodes.slow(one, two)
        nodes.lossy(three, four)
        words = ("-b", RATE, "-t", str(options.time), "--at-once", str(options.at_once))
        found, took = measured(nodes, scheduler, words)
        told = list(findings(found, took, options.at_once, nodes, {(one, two), (three, four)}))
        cut, _ = measured(nodes, scheduler, words, victim)
        lost = [pair for pair in cut["pairs"] if pair["error"] is not None]
        others = [one for one in lost if victim not in (one["client"], one["server"])]
        told.append((bool(lost) and not others, f"{victim} killed: {len(lost)} pairs lost,"
                     f" {len(others)} of them not its own"))  # fmt: skip
    for good, line in told:
        print(f"{'yes' if good else 'NO '}  {line}")
    if options.json:
        document = {"host": facts, "whole": found, "killed": cut}
        Path(options.json).write_text(json.dumps(document, indent=1))
    raise SystemExit(not all(good for good, _ in told))


if __name__ == "__main__":
    main()

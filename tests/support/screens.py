"""Show what a user sees on a terminal of 80x24 in networks that fail, and when Ctrl-C ends a test.

`python -m support.screens` runs each case in namespaces, and saves the screens in
samples/terminal/screens for review. A later run must look the same except for its digits.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from netmeasure.cli.exits import Exit
from support.netns import Network
from support.resolver import with_resolver
from support.screen import Terminal, terminal

FOLDER = Path(__file__).parents[1] / "samples" / "terminal" / "screens"
PROGRAM = (sys.executable, "-m", "netmeasure")
RATE = "100mbit"
#: Longer than any case takes.
NEVER_S = 600.0
_BARS = "█░▁▂▃▄▅▆▇"


class Seen(NamedTuple):
    """Hold the screen while the test ran, the screen at its end, and the exit code."""

    during: str
    after: str
    code: int

    def kept(self) -> str:
        """Return the text that is saved in a file."""
        return f"{self.during}\n--- then, with exit code {self.code} ---\n{self.after}\n"


class Link:
    """Hold two hosts, with a server on one of them."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.address = network.server.address
        words = [*PROGRAM, "server", "-B", self.address, "-p", "0"]
        self.server = network.popen("server", words, stdout=subprocess.PIPE, text=True)
        assert self.server.stdout is not None
        self.port = self.server.stdout.readline().rpartition(":")[2].strip()

    @contextmanager
    def client(self, *words: str, program: Sequence[str] = ()) -> Iterator[Terminal]:
        argv = list(program) or [*PROGRAM, "client", self.address, "-p", self.port, *words]
        with terminal(self.network.command("client", argv)) as one:
            yield one


@contextmanager
def link() -> Iterator[Link]:
    with Network() as network:
        network.shape(RATE)
        network.congestion("cubic")
        network.sysctl("client", "net.ipv4.tcp_syn_linear_timeouts", 0)
        yield Link(network)


def _stopped(one: Terminal, during: str) -> Seen:
    one.ctrl_c()
    code = one.end()
    return Seen(during, one.paper.text.strip("\n"), code)


def looking_up(here: Link) -> Seen:
    """Show a name server that does not answer."""
    with tempfile.TemporaryDirectory() as folder, here.network.late(NEVER_S):
        words = ("client", "far.test")
        argv = with_resolver(Path(folder), here.address, "timeout:30", *words)
        with here.client(program=argv) as one:
            return _stopped(one, one.shows("looking the name up"))


def connecting(here: Link) -> Seen:
    """Show a connect before the network is there."""
    with here.network.late(NEVER_S), here.client() as one:
        return _stopped(one, one.shows("SYNs? unanswered"))


def dead_host(here: Link) -> Seen:
    """Show a network that is never there, without Ctrl-C."""
    with here.network.late(NEVER_S), here.client("--connect-timeout", "2") as one:
        during = one.shows("SYNs? unanswered")
        code = one.end()
        return Seen(during, one.paper.text.strip("\n"), code)


def waiting_for_the_peer(here: Link) -> Seen:
    """Show a program at the port that sends nothing."""
    with here.network.enter("server"):
        silent = socket.create_server((here.address, 0))
    with silent:
        port = str(silent.getsockname()[1])
        with here.client("-p", port) as one:
            return _stopped(one, one.shows("has not answered"))


def ramp(here: Link) -> Seen:
    """Show the ramp: the first figures are there."""
    with here.client("-t", "20", "-i", "0.1") as one:
        return _stopped(one, one.shows("upload  "))


def steady(here: Link) -> Seen:
    """Show a test that has run for some time."""
    with here.client("-t", "20", "-i", "0.2") as one:
        return _stopped(one, one.shows(r"\b[1-9]\.\d of 20 s"))


def end(here: Link) -> Seen:
    """Show a test whose data are over and whose server was stopped before it sent its results."""
    with here.client("-t", "1", "-i", "0.1", "-b", "100K", "-l", "1K") as one:
        one.shows("upload  ")
        here.server.send_signal(signal.SIGSTOP)
        try:
            return _stopped(one, one.shows("waiting for .*results"))
        finally:
            here.server.send_signal(signal.SIGCONT)


def late(here: Link) -> Seen:
    """Show a network that is there only after two SYNs were lost."""
    here.network.cut()
    try:
        with here.client("-t", "1") as one:
            during = one.shows("2 SYNs unanswered")
            here.network.mend()
            code = one.end()
            return Seen(during, one.paper.text.strip("\n"), code)
    finally:
        here.network.mend()


class Case(NamedTuple):
    """Hold one case: the function that makes it, its exit code, and whether it ends with a
    report."""

    see: Callable[[Link], Seen]
    code: Exit
    measured: bool = False


CASES = {
    "looking-up": Case(looking_up, Exit.INTERRUPTED),
    "connecting": Case(connecting, Exit.INTERRUPTED),
    "waiting-for-the-peer": Case(waiting_for_the_peer, Exit.INTERRUPTED),
    "dead-host": Case(dead_host, Exit.NO_CONNECTION),
    "ramp": Case(ramp, Exit.INTERRUPTED, measured=True),
    "steady": Case(steady, Exit.INTERRUPTED, measured=True),
    "end": Case(end, Exit.INTERRUPTED, measured=True),
    "late": Case(late, Exit.OK, measured=True),
}


def alike(text: str) -> list[str]:
    """Return the lines of a text without the parts that differ from run to run.

    These are digits, bars, and the round-trip time, which the first interval may not have yet.
    """
    text = re.sub(r"  RTT \S+ [mu]?s\b", "", text)
    text = re.sub(rf"[{_BARS}]+", "=", re.sub(r"\b[kMG]bit/s", "bit/s", text))
    text = re.sub(r"\d+(\.\d+)?( [munk]?s\b)?", "0", re.sub(r"\bSYNs\b", "SYN", text))
    text = re.sub(r"0(\.0)+(:0)?", "0", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def labels(text: str) -> list[str]:
    """Return the labels of the answer's lines, which are the last ones of a report.

    The latency is left out, since some runs are too short for it.
    """
    block = text.rstrip().rpartition("\n\n")[2]
    names = (line[:16].strip() for line in block.splitlines())
    return [name for name in names if name not in ("", "Latency")]


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    with link() as here:
        for name in sys.argv[1:] or CASES:
            seen = CASES[name].see(here)
            (FOLDER / f"{name}.txt").write_text(seen.kept())

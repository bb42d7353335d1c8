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
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from netmeasure.cli.exits import Exit
from support.ftp import Ftp, silent
from support.netns import Network
from support.ports import deaf
from support.resolver import with_resolver
from support.screen import Terminal, terminal
from support.scripted import Peer, Scripted
from support.web import endless, request

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


def looking_up(here: Link, *words: str) -> Seen:
    """Show a name server that does not answer."""
    with tempfile.TemporaryDirectory() as folder, here.network.late(NEVER_S):
        words = ("client", *(words or ("far.test",)))
        argv = with_resolver(Path(folder), here.address, "timeout:30", *words)
        with here.client(program=argv) as one:
            return _stopped(one, one.shows("looking the name up"))


def connecting(here: Link, *words: str) -> Seen:
    """Show a connect before the network is there."""
    with here.network.late(NEVER_S), here.client(*words) as one:
        return _stopped(one, one.shows("SYNs? unanswered"))


def dead_host(here: Link) -> Seen:
    """Show a network that is never there, without Ctrl-C."""
    with here.network.late(NEVER_S), here.client("--connect-timeout", "2") as one:
        during = one.shows("SYNs? unanswered")
        code = one.end()
        return Seen(during, one.paper.text.strip("\n"), code)


def waiting_for_the_peer(here: Link, *words: str) -> Seen:
    """Show a program at the port that sends nothing."""
    with here.network.enter("server"):
        listener = socket.create_server((here.address, 0))
    with listener:
        port = str(listener.getsockname()[1])
        with here.client("-p", port, *words) as one:
            return _stopped(one, one.shows("has not answered"))


def ramp(here: Link) -> Seen:
    """Show the ramp: the first figures are there."""
    with here.client("-t", "20", "-i", "0.1") as one:
        return _stopped(one, one.shows("upload  "))


def steady(here: Link, *words: str) -> Seen:
    """Show a test that has run for some time."""
    with here.client("-t", "20", "-i", "0.2", *words) as one:
        return _stopped(one, one.shows(r"\b[1-9]\.\d of 20 s"))


def end(here: Link, *words: str) -> Seen:
    """Show a test whose data are over and whose server was stopped before it sent its results."""
    with here.client("-t", "1", "-i", "0.1", "-b", "100K", "-l", "1K", *words) as one:
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


def by_url(
    here: Link, server: Callable[[str], Scripted], pattern: str, *words: str, late: bool = False
) -> Seen:
    """Show a transfer by URL once the screen has a match of the pattern.

    Args:
        here: The two hosts.
        server: Makes the server at an address.
        pattern: What the screen has before Ctrl-C.
        words: The options of the client.
        late: Whether the network is not there.
    """
    with ExitStack() as stack:
        with here.network.enter("server"):  # also the server's threads, which begin here
            at = stack.enter_context(server(here.address))
        if late:
            stack.enter_context(here.network.late(NEVER_S))
        argv = [*PROGRAM, "client", at.url(), *words]
        return _stopped(one := stack.enter_context(here.client(program=argv)), one.shows(pattern))


def ftp(address: str, **faults: Any) -> Scripted:
    """Return a server of FTP whose file is too long to end within a case."""
    return Ftp(1 << 40, address, **faults)


def without_a_data_connection(address: str) -> Scripted:
    """Return a server of FTP that names a port at which SYNs are lost."""

    def passive(peer: Peer) -> None:
        with deaf(address) as port:
            peer.send(f"229 Go (|||{port}|)\r\n".encode())
            peer.hold()

    return Ftp(1, address, answers={"EPSV": passive})


def web(address: str) -> Scripted:
    """Return a server of HTTP whose file does not end."""
    return Scripted(endless, address)


def without_an_answer(address: str) -> Scripted:
    """Return a server of HTTP that takes requests and bodies, and does not answer."""

    def script(peer: Peer) -> None:
        request(peer)
        peer.hold()

    return Scripted(script, address)


class Case(NamedTuple):
    """Hold one case: the function that makes it, its exit code, and whether it ends with a
    report."""

    see: Callable[[Link], Seen]
    code: Exit
    measured: bool = False


def _udp(see: Callable[..., Seen], *words: str, measured: bool = False) -> Case:
    return Case(lambda here: see(here, *words, "-u"), Exit.INTERRUPTED, measured)


def _url(
    server: Callable[[str], Scripted], pattern: str, *words: str, measured: bool = False
) -> Case:
    return Case(lambda here: by_url(here, server, pattern, *words), Exit.INTERRUPTED, measured)


_RUNNING = ("-t", "20", "-i", "0.2")
_ONE_SECOND = r"\b[1-9]\.\d of 20 s"
CASES = {
    "looking-up": Case(looking_up, Exit.INTERRUPTED),
    "connecting": Case(connecting, Exit.INTERRUPTED),
    "waiting-for-the-peer": Case(waiting_for_the_peer, Exit.INTERRUPTED),
    "dead-host": Case(dead_host, Exit.NO_CONNECTION),
    "ramp": Case(ramp, Exit.INTERRUPTED, measured=True),
    "steady": Case(steady, Exit.INTERRUPTED, measured=True),
    "end": Case(end, Exit.INTERRUPTED, measured=True),
    "late": Case(late, Exit.OK, measured=True),
    "udp-looking-up": _udp(looking_up, "far.test"),
    "udp-connecting": _udp(connecting),
    "udp-waiting-for-the-peer": _udp(waiting_for_the_peer),
    "udp-steady": _udp(steady, "-b", "10M", measured=True),
    "udp-end": _udp(end, measured=True),
    "ftp-looking-up": Case(lambda here: looking_up(here, "ftp://far.test/file"), Exit.INTERRUPTED),
    "ftp-connecting": Case(
        lambda here: by_url(here, ftp, "SYNs? unanswered", late=True), Exit.INTERRUPTED
    ),
    "ftp-greeting": _url(partial(ftp, answers={"greeting": silent}), "no greeting has come"),
    "ftp-login": _url(partial(ftp, answers={"PASS": silent}), "logging in, no answer"),
    "ftp-data-connecting": _url(without_a_data_connection, r"SYNs?\s+unanswered"),
    "ftp-no-data": _url(partial(ftp, data=silent), "no data have come", measured=True),
    "ftp-steady": _url(ftp, _ONE_SECOND, *_RUNNING, measured=True),
    "ftp-end": _url(
        partial(ftp, answers={"final": silent}),
        "no final reply has come",
        *("-d", "upload", "-n", "100K", "-i", "60"),
        measured=True,
    ),
    "http-no-answer": _url(without_an_answer, "no answer has come"),
    "http-steady": _url(web, _ONE_SECOND, *_RUNNING, measured=True),
    "http-end": _url(
        without_an_answer,
        "no final reply has come",
        *("-d", "upload", "-n", "100K", "-i", "60"),
        measured=True,
    ),
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


def said(text: str) -> str:
    """Return the sentence before a report, without the parts that differ from run to run; empty:
    there is none."""
    found = re.match(r"netmeasure: .*?(?=\n(?:TCP|UDP|FTP|HTTP) |\Z)", text, re.DOTALL)
    return " ".join(alike(found[0])) if found else ""


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

"""Test round trips that open a connection each, on a line that loses packets."""

from __future__ import annotations

from pathlib import Path

import pytest

import netmeasure as nm
from netmeasure.cli.exits import Exit
from support import relay
from support.optional import known
from support.program import netmeasure, running
from support.relay import Relay

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(relay.available() is not None, reason=str(relay.available())),
]


def _counter(line: Relay, side: str, name: str) -> int:
    """Return one of the kernel's counters of a namespace (/proc/net/netstat)."""
    with line.enter(side):
        rows = Path("/proc/thread-self/net/netstat").read_text().splitlines()
    names, values = (row.split() for row in rows if row.startswith("TcpExt:"))
    return int(values[names.index(name)])


def measured(line: Relay, *words: str) -> nm.Result:
    """Return the result of a client in its namespace. Both ends are processes: native threads of
    this one would open their sockets outside of it."""
    with line.enter("server"):
        serving = running("server", "-p", "0", "-4")
        process = serving.__enter__()
    try:
        port = known(process.stdout).readline().split()[-1].rpartition(":")[2]
        with line.enter("client"):
            target = f"{line.server.address}:{port}"
            ran = netmeasure("client", target, "--crr", "--json", *words)
    finally:
        serving.__exit__(None, None, None)
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    return nm.Result.from_json(ran.stdout)


def test_every_syn_that_was_sent_again_is_counted() -> None:
    """The kernel of the client counts them, too."""
    with Relay(loss=0.04, seed=3) as line:
        line.sysctl("client", "net.ipv4.tcp_syn_linear_timeouts", 0)
        here = measured(line, "-P", "64", "-k", "500")
        resent = _counter(line, "client", "TCPSynRetrans")
    trips = known(here.round_trips)
    made = known(trips.connections)
    assert here.complete
    assert trips.transactions == 500
    again = known(made.syn_retransmits)
    assert again > 0
    assert again + known(here.syn_retransmits) == resent
    # a connection whose first SYN was lost took a second or more to open
    assert known(made.connecting.max_ns) > 900_000_000
    assert here.flow.receiver.bytes == 500

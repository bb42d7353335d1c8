"""Start runs of different kinds at once in a new process.

The time in which one of them loads modules must not count in the others' clocks.
"""

from __future__ import annotations

import json
import subprocess
import sys

from support.program import server
from support.scripted import Peer, Scripted
from support.web import head

#: Notes when each module is looked for, and from when to when the set-up of each run lasted.
SCRIPT = """
import asyncio, json, sys, time
import netmeasure as nm

loaded, set_ups = [], []
sys.addaudithook(lambda event, found: event == "import" and
                 loaded.append((time.clock_gettime_ns(time.CLOCK_MONOTONIC), found[0])))

async def main(address, url):
    timing = nm.Timing(duration_s=0.3)
    measure = nm.measure
    from netmeasure.engine.phases import PhaseLog
    collected = PhaseLog.collected

    def noted(log, set_up_ns, *more, **named):
        set_ups.append((log.origin_ns, log.origin_ns + set_up_ns))
        return collected(log, set_up_ns, *more, **named)

    PhaseLog.collected = noted
    return await asyncio.gather(
        measure(address, nm.TcpSpec(timing=timing)),
        measure(address, nm.UdpSpec(timing=timing, direction="download")),
        measure(url),
    )

results = asyncio.run(main(*sys.argv[1:]))
late = [name for at, name in loaded for start, end in set_ups if start <= at <= end]
print(json.dumps([[one.complete for one in results], len(set_ups), len(loaded) > 0, late]))
"""


def hello(peer: Peer) -> None:
    peer.read_until(b"\r\n\r\n")
    peer.send(head("200 OK", "Content-Length: 5"))
    peer.send(b"hello")


def test_nothing_is_loaded_while_a_clock_of_set_up_runs() -> None:
    with server() as (_, address), Scripted(hello) as web:
        argv = [sys.executable, "-c", SCRIPT, address, web.url("/a")]
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert ran.stderr == ""
    assert json.loads(ran.stdout) == [[True, True, True], 3, True, []]

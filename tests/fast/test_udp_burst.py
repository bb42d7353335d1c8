"""Compare the largest burst that a UDP sender reports with a packet trace in a token bucket."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.pacing_trace import read_pcap, token_bucket_depth, tracing

from support import netns

SIZE = 1400
SENDING = """
import json, sys
from netmeasure._fast.udp import UdpSender
from netmeasure._fast.worker import Group
group = Group()
sender = UdpSender(group, int(sys.argv[1]), datagram_bytes=1400, target_bps=int(sys.argv[2]),
                   segments=int(sys.argv[3]), duration_ns=500_000_000)
group.open()
sender.run()
print(json.dumps([sender.packets, sender.largest_burst_bytes]))
"""


@pytest.fixture
def sending_socket() -> Iterator[tuple[netns.Network, socket.socket]]:
    """A link, and a socket at its client's end that is connected to one at its server's."""
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed")
    with netns.Network() as link:
        with netns.entered(link.server.namespace):
            far = socket.socket(type=socket.SOCK_DGRAM)
        with netns.entered(link.client.namespace):
            near = socket.socket(type=socket.SOCK_DGRAM)
        with near, far:
            far.bind((link.server.address, 0))
            near.connect(far.getsockname())
            yield link, near


@pytest.mark.network
@pytest.mark.rates
@pytest.mark.parametrize(
    ("bps", "segments"), [(100_000_000, 1), (300_000_000, 64), (800_000_000, 1)]
)
def test_a_policer_would_see_the_reported_burst(
    sending_socket: tuple[netns.Network, socket.socket], tmp_path: Path, bps: int, segments: int
) -> None:
    """The sender is stopped for 30 ms. It makes up for 10 ms of that, in portions of 0.5 ms; to a
    policer they are one burst. The report may be too high by the rate's share of one call, and too
    low by what the sender's thread waited for a CPU between a time stamp and its call."""
    link, near = sending_socket
    command = [sys.executable, "-c", SENDING, str(near.fileno()), str(bps), str(segments)]
    try:
        with (
            tracing(link, trace := tmp_path / "trace.pcap"),
            subprocess.Popen(
                command, pass_fds=[near.fileno()], stdout=subprocess.PIPE, text=True
            ) as child,
        ):
            assert child.stdout is not None
            before = link_packets(link)
            while link_packets(link) < before + 100:
                time.sleep(0.005)
            child.send_signal(signal.SIGSTOP)
            time.sleep(0.03)
            child.send_signal(signal.SIGCONT)
            packets, reported = json.loads(child.communicate(timeout=20)[0])
    except SystemExit as exc:
        pytest.skip(f"this machine can't trace at that rate now: {exc}")
    times, sizes = read_pcap(trace)
    data = sizes >= SIZE  # a train is one packet here
    assert int(sizes[data].sum()) == packets * SIZE
    depth = token_bucket_depth(bps, times[data], sizes[data])
    assert depth >= bps / 8 * 0.004  # ten portions, were it not for the other programs here
    assert reported == pytest.approx(depth, abs=bps / 8 * 0.0006 + 2 * SIZE)


def link_packets(link: netns.Network) -> int:
    """Return how many packets have left the client's end of the link."""
    with netns.entered(link.client.namespace):
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    (line,) = (line for line in lines if line.strip().startswith(f"{link.client.device}:"))
    return int(line.split(":")[1].split()[9])

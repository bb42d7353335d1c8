"""Measure loopback in a process whose kernel refuses one socket option after the other.

Run as a program below `refuse.c`, this file prints a JSON object with the outcome of the test for
each option.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import netmeasure as nm

_SOURCE = Path(__file__).with_name("refuse.c")
_LEVELS = {"SOL": socket.SOL_SOCKET, "TCP": socket.IPPROTO_TCP, "IP": socket.IPPROTO_IP, "UDP": 17}
#: (level, option) by name; numbers of Linux where Python has no name.
OPTIONS: dict[str, tuple[str, int]] = {
    "TCP_CONGESTION": ("TCP", socket.TCP_CONGESTION),
    "TCP_MAXSEG": ("TCP", socket.TCP_MAXSEG),
    "TCP_NODELAY": ("TCP", socket.TCP_NODELAY),
    "TCP_NOTSENT_LOWAT": ("TCP", socket.TCP_NOTSENT_LOWAT),
    "TCP_INFO": ("TCP", socket.TCP_INFO),
    "TCP_USER_TIMEOUT": ("TCP", socket.TCP_USER_TIMEOUT),
    "TCP_KEEPIDLE": ("TCP", socket.TCP_KEEPIDLE),
    "TCP_KEEPINTVL": ("TCP", socket.TCP_KEEPINTVL),
    "TCP_KEEPCNT": ("TCP", socket.TCP_KEEPCNT),
    "TCP_QUICKACK": ("TCP", socket.TCP_QUICKACK),
    "SO_KEEPALIVE": ("SOL", socket.SO_KEEPALIVE),
    "SO_MAX_PACING_RATE": ("SOL", 47),
    "SO_SNDBUF": ("SOL", socket.SO_SNDBUF),
    "SO_RCVBUF": ("SOL", socket.SO_RCVBUF),
    "SO_TIMESTAMPNS": ("SOL", 35),
    "SO_RXQ_OVFL": ("SOL", 40),
    "SO_ATTACH_FILTER": ("SOL", 26),
    "SO_MEMINFO": ("SOL", 55),
    "SO_BINDTODEVICE": ("SOL", socket.SO_BINDTODEVICE),
    "SO_REUSEADDR": ("SOL", socket.SO_REUSEADDR),
    "IP_MTU": ("IP", 14),
    "IP_TOS": ("IP", socket.IP_TOS),
    "UDP_SEGMENT": ("UDP", 103),
    "UDP_GRO": ("UDP", 104),
}


def built(directory: Path) -> Path:
    """Return the shim, compiled into a directory."""
    library = directory / "refuse.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


def outcomes(library: Path, kind: str) -> dict[str, Any]:
    """Return the outcome of the tests of a kind, "plain", "udp" or "asked", by option."""
    done = subprocess.run(
        [sys.executable, __file__, kind],
        env=os.environ | {"LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _spec(kind: str, direction: Any) -> nm.TcpSpec | nm.UdpSpec:
    timing = nm.Timing(duration_s=0.05)
    if kind == "udp":
        return nm.UdpSpec(direction=direction, timing=timing, target_bps=10**7)
    if kind == "plain":
        return nm.TcpSpec(direction=direction, timing=timing, target_bps=10**8)
    options = nm.SocketOptions(
        congestion="cubic",
        mss_bytes=1000,
        no_delay=True,
        window_bytes=100_000,
        pacing_bps=10**9,
        tos=8,
    )
    return nm.TcpSpec(direction=direction, timing=timing, options=options)


async def _all(kind: str) -> dict[str, Any]:
    shim = ctypes.CDLL(None)
    found: dict[str, Any] = {}
    for name, (level, option) in OPTIONS.items():
        shim.refuse(_LEVELS[level], option, errno.ENOPROTOOPT)
        told: dict[str, Any] = {"refused": 0, "error": None}
        try:
            async with nm.serve("127.0.0.1", 0) as server:
                for direction in ("upload", "download"):
                    result = await nm.measure(server.address, _spec(kind, direction))
                    told["complete"] = result.complete
        except nm.NetmeasureError as exc:
            told["error"] = [exc.code, str(exc), exc.hint, getattr(exc, "phase", None)]
        told["refused"] = shim.refused()
        found[name] = told
    shim.refuse(0, 0, 0)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_all(sys.argv[1]))))  # noqa: T201

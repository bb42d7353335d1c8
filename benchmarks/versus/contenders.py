"""Describe the contenders: the best command of every tool, and how to read its report.

HOST, PORT, PORT2 and TIME in a command are filled in for each run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import msgspec

from netmeasure import Result

CONGESTION = "cubic"
PLAIN_SOURCE = Path(__file__).parents[1] / "plain.c"
OURS = "netmeasure"

#: Reads a tool's output: datagrams received per second, and the share that was lost.
ReadDatagrams = Callable[[bytes], tuple[float, float]]


class Contender(msgspec.Struct, frozen=True):
    """Describe a tool with its options. Without a server, the client's child receives."""

    name: str
    client: tuple[str, ...]
    server: tuple[str, ...] = ()
    datagrams: ReadDatagrams | None = None


class Case(msgspec.Struct, frozen=True):
    """Describe one comparison: the first contender with the others.

    `wanted` is the lowest acceptable ratio to some of them.
    """

    name: str
    contenders: tuple[Contender, ...]
    wanted: dict[str, float] = {}
    pinned: bool = True


def netmeasure(
    options: str, *, udp: bool = False, python: str = sys.executable, name: str = OURS
) -> Contender:
    """Return netmeasure as installed for an interpreter."""
    program = (python, "-m", "netmeasure")
    kind = ("-u", "-b", "0", "--json") if udp else ("-C", CONGESTION, "-q")
    return Contender(
        name=name,
        client=(*program, "client", "HOST:PORT", "-t", "TIME", *kind, *options.split()),
        server=(*program, "server", "-B", "HOST", "-p", "PORT"),
        datagrams=_of_netmeasure if udp else None,
    )


def iperf3(options: str, *, udp: bool = False) -> Contender:
    """Return iperf3: the system's, or the one that IPERF3 names."""
    program = os.environ.get("IPERF3", "iperf3")
    kind = ("-u", "-b", "0") if udp else ("-C", CONGESTION)
    given = f" {options}" if options else ""
    return Contender(
        name=f"iperf3{given}",
        client=(program, "-c", "HOST", "-p", "PORT", "-t", "TIME", "-J", *kind, *options.split()),
        server=(program, "-s", "-B", "HOST", "-p", "PORT"),
        datagrams=_of_iperf3 if udp else None,
    )


def iperf2(options: str) -> Contender:
    """Return iperf 2."""
    client = ("iperf", "-c", "HOST", "-p", "PORT", "-t", "TIME", "-Z", CONGESTION)
    return Contender(
        name=f"iperf2 {options}",
        client=(*client, *options.split()),
        server=("iperf", "-s", "-p", "PORT"),
    )


def nuttcp(options: str) -> Contender:
    """Return nuttcp, with the system's congestion control: it can't set one."""
    ports = ("-P", "PORT", "-p", "PORT2")
    return Contender(
        name=f"nuttcp {options}",
        client=("nuttcp", "-T", "TIME", *ports, *options.split(), "HOST"),
        server=("nuttcp", "-S", "--nofork", *ports),
    )


def plain(options: str, *, udp: bool = False) -> Contender:
    """Return the simplest loops in C, over loopback."""
    kind = "udp" if udp else "tcp"
    return Contender(
        name=f"plain C, {options}",
        client=(plain_program(), kind, "HOST", "TIME", *options.split()),
        datagrams=_of_plain if udp else None,
    )


def existing(contenders: Sequence[Contender]) -> tuple[Contender, ...]:
    """Return the contenders whose programs are installed and have the options that are used.

    Raise SystemExit if a program is missing that was named for this run.
    """
    found = []
    for one in contenders:
        program = one.client[0]
        if shutil.which(program) is None:
            if "/" in program:
                raise SystemExit(f"{one.name}: there is no program {program}")
            continue
        if "--skip-rx-copy" not in one.client or _skips_copies():
            found.append(one)
    return tuple(found)


@cache
def plain_program() -> str:
    """Compile plain.c, once for each version of the file, and return the program."""
    source = PLAIN_SOURCE.read_bytes()
    cached = (
        Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "netmeasure-benchmarks"
    )
    cached.mkdir(parents=True, exist_ok=True)
    program = cached / f"plain-{_hash(source)}"
    if not program.exists():
        made = program.with_suffix(".new")
        subprocess.run(("cc", "-O2", "-o", made, PLAIN_SOURCE), check=True)
        made.rename(program)
    return str(program)


def _hash(text: bytes) -> str:
    """Return a short name for a content."""
    return hashlib.sha256(text).hexdigest()[:12]


@cache
def _skips_copies() -> bool:
    program = os.environ.get("IPERF3", "iperf3")
    helped = subprocess.run((program, "--help"), capture_output=True, text=True, check=False)
    return "--skip-rx-copy" in helped.stdout + helped.stderr


def _of_netmeasure(output: bytes) -> tuple[float, float]:
    result = Result.from_json(output)
    loss = result.flow.loss
    assert loss is not None
    sent, received = loss.sent_packets or 0, loss.received_packets or 0
    bits = (result.flow.receiver.bytes or 0) * 8 / received
    return (result.flow.averages.after_omit_bps or 0.0) / bits, 1 - received / sent


def _of_iperf3(output: bytes) -> tuple[float, float]:
    stream = json.loads(output)["end"]["streams"][0]["udp"]
    received = stream["packets"] - stream["lost_packets"]
    return received / stream["seconds"], stream["lost_packets"] / stream["packets"]


def _of_plain(output: bytes) -> tuple[float, float]:
    end = json.loads(output)
    return end["units"] / end["seconds"], 1 - end["units"] / end["sent_units"]

"""Run `netmeasure path`: show the longest packet that gets through to a server and back."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from typing import Any

import msgspec

from netmeasure.cli.exits import Exit
from netmeasure.cli.watch import SIGNALS
from netmeasure.paths.find import path as find_path
from netmeasure.paths.report import PacketLength, PathReport

_FATES = {
    "dropped": "vanish",
    "shortened": "are sent shortened",
    "reported": "are dropped, and ICMP says so",
    "local": "are too long for their sender's interface",
}


def words(found: PathReport) -> str:
    """Return lines about a path."""
    host = f"[{found.address}]" if found.ip_version == 6 else found.address
    mtu = found.interface_mtu_bytes
    local = "" if mtu is None else f" (interface {found.interface}, MTU {mtu} bytes)"
    lines = [f"Path to {host}:{found.port}{local}, {found.protocol.upper()}"]
    lines += [_way(length) for length in found.lengths]
    if found.inner_mtu_bytes is not None and any(length.longer for length in found.lengths):
        lines.append(f"  MTU to set   {found.inner_mtu_bytes} bytes")
        lines += [
            f"  explained by {one.encapsulation} within an MTU of {one.outer_mtu_bytes} bytes"
            for one in found.explanations
        ]
    return "\n".join(lines)


def _way(length: PacketLength) -> str:
    way = "to server  " if length.direction == "upload" else "from server"
    if length.passed_bytes is None:
        why = "no probe got through, or the server is not netmeasure"
        return f"  {way}  unknown: {why}"
    if length.longer is None:
        return f"  {way}  {length.passed_bytes} bytes, the longest tried"
    fate = _FATES[length.longer]
    return f"  {way}  {length.passed_bytes} bytes; packets of {length.passed_bytes + 1} {fate}"


async def path(options: argparse.Namespace) -> int:
    """Search, print the report as text or JSON; return the exit code.

    It is 11 if the path drops long packets, for scripts.
    """
    task = asyncio.ensure_future(
        find_path(
            options.target,
            port=options.port,
            family=options.family,
            timeout_s=options.timeout,
            protocol="udp" if options.udp else "tcp",
        )
    )
    loop = asyncio.get_running_loop()
    stopped: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        stopped.append(number)
        task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        await asyncio.wait([task])
        if stopped:
            return SIGNALS[stopped[0]]
        found = task.result()
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
    if options.json:
        document: dict[str, Any] = {"schema_version": 1, **msgspec.structs.asdict(found)}
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=2))
        sys.stdout.buffer.write(b"\n")
    else:
        print(words(found))
    vanish = any(length.longer == "dropped" for length in found.lengths)
    return Exit.HOLE if vanish else Exit.OK

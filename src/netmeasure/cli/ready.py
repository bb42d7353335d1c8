"""Run `netmeasure ready`: wait until targets are reachable, and show what blocked them."""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sys
from contextlib import suppress
from typing import Any

import msgspec

from netmeasure.cli.exits import Exit
from netmeasure.cli.watch import SIGNALS
from netmeasure.readiness.ready import prepared, until_over
from netmeasure.readiness.report import Readiness
from netmeasure.readiness.watch import Watch

_WORDS = {
    "name_not_found": "name not found",
    "name_no_answer": "no answer from the name server",
    "no_route": "no route",
    "unresolved_neighbour": "next hop does not answer",
    "unreachable": "host unreachable",
    "no_answer": "no answer",
    "refused": "refused",
    "forbidden_here": "forbidden on this host",
    "tls": "TLS not ready",
    "http": "HTTP not ready",
    "failed": "failed",
}


def words(found: Readiness) -> str:
    """Return one line about a target."""
    waits = ", ".join(
        f"{(wait.end_ns - wait.start_ns) / 1e9:.2f} s {_WORDS[wait.cause]}"
        + (f" ({wait.detail})" if wait.detail else "")
        for wait in found.waits
    )
    if found.reached and found.wanted == "allowed":
        assert found.at_ns is not None
        took = f"connect {found.connect_ns / 1e6:.1f} ms" if found.connect_ns is not None else ""
        after = f"usable after {found.at_ns / 1e9:.2f} s"
        parts = [part for part in (took, f"before: {waits}" if waits else "") if part]
        return f"{found.target}: {after} ({'; '.join(parts)})"
    if found.reached:
        assert found.at_ns is not None
        return f"{found.target}: denied after {found.at_ns / 1e9:.2f} s ({waits})"
    if found.wanted == "denied":
        return f"{found.target}: still lets connections through"
    return f"{found.target}: not usable ({waits or 'no attempt was made'})"


async def ready(options: argparse.Namespace) -> int:
    """Wait, print a line or a JSON document for each target; return the exit code."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # many targets need many sockets at a time
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    watch = prepared(
        options.target,
        wanted="denied" if options.denied else "allowed",
        timeout_s=options.timeout,
        every_s=options.every,
        attempt_s=options.attempt_timeout,
        family=options.family,
        ca_file=options.ca_file,
        insecure=options.insecure,
    )
    stopped: list[signal.Signals] = []
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, _stop, watch, stopped, number)
    try:
        found = await until_over(watch)
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
    if options.json:
        document: dict[str, Any] = {"schema_version": 1, "targets": found}
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=2))
        sys.stdout.buffer.write(b"\n")
    elif not options.quiet:
        for one in found:
            print(words(one))
    if all(one.reached for one in found):
        return Exit.OK
    return SIGNALS[stopped[0]] if stopped else Exit.NO_CONNECTION


def _stop(watch: Watch, stopped: list[signal.Signals], number: signal.Signals) -> None:
    stopped.append(number)
    watch.stop()

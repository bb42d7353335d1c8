"""Run `netmeasure mesh`: measure every pair of the workers of a Dask cluster."""

from __future__ import annotations

import argparse
import sys
from contextlib import aclosing
from typing import Any

from netmeasure.cli import objectives
from netmeasure.cli.exits import Exit, code_of_many, tell
from netmeasure.cli.interruptible import until_signal
from netmeasure.cli.output import check_writable, deliver
from netmeasure.errors import ConnectError, SpecError
from netmeasure.meshes.mesh import Mesh
from netmeasure.result import Result
from netmeasure.spec import PeerSpec, RrSpec, SocketOptions, TcpSpec, Timing, UdpSpec

_CONNECT_S = 30.0


async def mesh(options: argparse.Namespace) -> int:
    """Measure the mesh; return the exit code."""
    check_writable(options.json)
    objectives.check_options(options)
    spec = _spec(options)
    addresses = _addresses(options.address)
    try:
        import distributed
    except ImportError:
        raise SpecError("a mesh needs Dask", hint="pip install 'netmeasure[mesh]'") from None
    dask: Any = distributed  # a part of its functions has no types
    security: dict[str, Any] = {}
    if options.tls_ca_file is not None:
        security["security"] = dask.Security(
            tls_ca_file=options.tls_ca_file,
            tls_client_cert=options.tls_cert,
            tls_client_key=options.tls_key,
            require_encryption=True,
        )
    if not options.quiet:
        tell(f"waiting up to {_CONNECT_S:g} s for the scheduler {options.scheduler}")
    try:
        cluster = await dask.Client(
            options.scheduler, asynchronous=True, timeout=_CONNECT_S, **security
        )
    except (OSError, ValueError) as exc:
        why = str(exc).partition("\n")[0]
        raise ConnectError(f"can't reach the scheduler {options.scheduler}: {why}") from None
    try:
        found = Mesh(
            cluster, spec, at_once=options.at_once, addresses=addresses, settle_s=options.settle
        )
        code = await until_signal(_show(found, options))
    finally:
        await cluster.close()
    report = found.report
    shown = None
    if options.json != "-":
        from netmeasure.report.mesh import render

        shown = render(report)
    deliver(shown, [(report.to_json(), options.json)])
    held = objectives.conclude_many(_pairs(found), options)
    return code or code_of_many(held, Exit.OK if report.complete else Exit.CUT_SHORT)


def _pairs(found: Mesh) -> list[tuple[str, list[Result]]]:
    """Return the last result of each pair, with its name."""
    last = {f"{run.client} to {run.server}": run.result for run in found.runs}
    return [(name, [result]) for name, result in last.items() if result is not None]


def _spec(options: argparse.Namespace) -> PeerSpec:
    timing = Timing(duration_s=options.time)
    trips = options.rr or options.crr
    if trips and options.bitrate:
        raise SpecError("-b is not an option of round trips (--rr, --crr)")
    if options.congestion and (trips or options.udp):
        raise SpecError("-C is an option of TCP throughput tests (leave out -u, --rr and --crr)")
    if trips:
        return RrSpec(timing=timing, keep_connections=not options.crr)
    if options.udp:
        return UdpSpec(timing=timing, target_bps=options.bitrate or None)
    return TcpSpec(
        timing=timing,
        target_bps=options.bitrate or None,
        options=SocketOptions(congestion=options.congestion),
    )


def _addresses(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, address = word.partition("=")
        if not name or not equals or not address:
            raise SpecError(
                f"{word!r} is not NAME=ADDRESS", hint="such as --address node1=10.0.0.1"
            )
        found[name] = address
    return found


async def _show(found: Mesh, options: argparse.Namespace) -> None:
    from netmeasure.report.mesh import line

    stream = sys.stderr if options.json == "-" else sys.stdout
    async with aclosing(found.run()) as runs:
        async for run in runs:
            if not options.quiet:
                count = f"{len(found.runs)}/{sum(map(len, found.rounds))}"
                stream.write(f"{line(count, run)}\n")
                stream.flush()

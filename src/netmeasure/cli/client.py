"""Run `netmeasure client` and `netmeasure loopback`: show the test live, then its report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from netmeasure import analysis
from netmeasure.cli.exits import Exit, complain, exit_code
from netmeasure.cli.output import check_writable, deliver
from netmeasure.cli.specs import Options, test_spec
from netmeasure.cli.watch import LiveView, see_all
from netmeasure.client import make_run
from netmeasure.measurement.run import Run
from netmeasure.observe import Observer
from netmeasure.peer.server.server import serve
from netmeasure.repetition import check_times
from netmeasure.report import runs, text
from netmeasure.result import Result
from netmeasure.result.resultset import ResultSet
from netmeasure.spec import ServerLimits


async def client(options: Options) -> int:
    """Measure against a server or a URL; return the exit code."""
    spec = test_spec(options)
    begin = partial(make_run, options.target, spec, port=options.port)
    return await _measure(lambda: begin(observer=_Queue()), options)


class _Queue(Observer):
    """Print a client's place in the queue of a full server, each time it changes."""

    def __init__(self) -> None:
        self._position = 0

    def on_queued(self, position: int) -> None:
        if position != self._position:
            self._position = position
            sys.stderr.write(f"netmeasure: the server is full: number {position} in its queue\n")


async def loopback(options: Options) -> int:
    """Measure against a server of this process's own; return the exit code."""
    spec = test_spec(options)
    address = "::1" if options.family == "ipv6" else "127.0.0.1"
    limits = ServerLimits(multipath=options.mptcp)
    async with serve(address, 0, limits=limits) as server:
        return await _measure(lambda: make_run(address, spec, port=server.port), options)


async def _measure(begin: Callable[[], Run], options: Options) -> int:
    check_writable(options.json)
    analysis.load()  # before the test: loading would delay the event loop that measures
    if options.repeat is not None:
        return await _repeat(begin, options)
    run = begin()
    with LiveView(shows=not options.quiet and options.json != "-") as watch:
        error = await watch.see(run)
    if run.result is not None:
        _deliver(run.result, options, watch.unseen)
    if watch.interrupted is not None:
        return watch.interrupted
    if error is not None:
        complain(error)
        return exit_code(error)
    return Exit.OK


def _deliver(result: Result, options: Options, unseen: OSError | None) -> None:
    shows = options.json != "-" and (result.flows or result.error is None)
    report = text.render(result) if shows else None
    deliver(report, [(result.to_json(), options.json)], unseen)


async def _repeat(begin: Callable[[], Run], options: Options) -> int:
    check_times(options.repeat)
    seen = await see_all(
        ["a"] * options.repeat,
        lambda _: begin(),
        shows=options.json != "-",
        live=not options.quiet,
        label=lambda _, number: f"run {number} of {options.repeat}",
    )
    found = ResultSet(results=tuple(seen.results["a"]))
    report = runs.render(found) if options.json != "-" and seen.measured else None
    deliver(report, [(found.to_json(), options.json)], seen.unseen)
    return seen.code

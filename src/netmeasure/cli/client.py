"""Run `netmeasure client` and `netmeasure loopback`: show the test live, then its report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from netmeasure.cli import objectives
from netmeasure.cli.exits import Exit, complain, exit_code
from netmeasure.cli.output import JsonTarget, check_writable, deliver, json_target
from netmeasure.cli.screens import JsonLines, Screen, choose_screen
from netmeasure.cli.specs import Options, shown_target, test_spec
from netmeasure.cli.watch import LiveView, see_all
from netmeasure.client import make_run
from netmeasure.engine import loading
from netmeasure.engine.limits import raise_descriptor_limit
from netmeasure.errors import SpecError
from netmeasure.measurement.run import Run
from netmeasure.observe import Observer
from netmeasure.repetition import check_times
from netmeasure.result import Result
from netmeasure.result.resultset import ResultSet
from netmeasure.spec import ServerLimits
from netmeasure.spec.words import MAX_STREAMS, USUAL_STREAMS


async def client(options: Options) -> int:
    """Measure against a server or a URL; return the exit code."""
    spec = test_spec(options)
    if options.requests or options.streams > USUAL_STREAMS:
        raise_descriptor_limit()
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
    """Measure against a server in this process; return the exit code."""
    from netmeasure.peer.server.server import serve  # other clients need no server

    spec = test_spec(options)
    if options.streams > USUAL_STREAMS:
        raise_descriptor_limit()
    address = "::1" if options.family == "ipv6" else "127.0.0.1"
    limits = ServerLimits(multipath=options.mptcp, max_streams=MAX_STREAMS)
    async with serve(address, 0, limits=limits) as server:
        return await _measure(lambda: make_run(address, spec, port=server.port), options)


def screen_of(options: Options, *, json_out: bool) -> Screen:
    """Return the screen that shows the runs, according to the options."""
    return choose_screen(
        quiet=options.quiet,
        json_out=json_out,
        json_lines=options.json_lines,
        per_stream=options.verbose,
    )


async def _measure(begin: Callable[[], Run], options: Options) -> int:
    target = json_target(options.json)
    if options.json_lines and target.path == "-":
        raise SpecError(
            "--json and --json-lines both want standard output",
            hint="give --json a file, or leave it out: the last line has the result",
        )
    check_writable(target.path)
    objectives.check_options(options)
    if options.repeat is not None:
        return await _repeat(begin, options, target)
    if _shows(options, target):
        loading.want_beside_data("netmeasure.report.text")
    run = begin()
    screen = screen_of(options, json_out=target.path == "-")
    with LiveView(screen) as watch:
        error = await watch.see(run, shown_target(options))
    judged = Exit.OK
    if run.result is not None:
        _deliver(run.result, options, target, watch.unseen)
        judged = objectives.conclude([run.result], options, shown_target(options))
    elif watch.unseen is not None:
        raise watch.unseen
    if watch.interrupted is not None:
        return watch.interrupted
    if error is not None:
        complain(error)
        return exit_code(error)
    return Exit.FAILED if isinstance(screen, JsonLines) and screen.left else judged


def _deliver(result: Result, options: Options, target: JsonTarget, unseen: OSError | None) -> None:
    report = None
    measured = result.flows or result.error is None or result.requests is not None
    if measured and _shows(options, target):
        from netmeasure.report import text  # loaded while data flow, if something is shown

        report = text.render(result, per_stream=options.verbose)
    deliver(report, [(target.encoded(result), target.path)], unseen)


def _shows(options: Options, target: JsonTarget) -> bool:
    """Return whether standard output is for the report, and not for JSON."""
    return target.path != "-" and not options.json_lines


async def _repeat(begin: Callable[[], Run], options: Options, target: JsonTarget) -> int:
    check_times(options.repeat)
    seen = await see_all(
        ["a"] * options.repeat,
        lambda _: begin(),
        screen_of(options, json_out=target.path == "-"),
        target=lambda _: shown_target(options),
        label=lambda _, number: f"run {number} of {options.repeat}",
    )
    found = ResultSet(results=tuple(seen.results["a"]))
    report = None
    if _shows(options, target) and seen.measured:
        from netmeasure.report import runs

        report = runs.render(found)
    deliver(report, [(target.encoded(found), target.path)], seen.unseen)
    return seen.code or objectives.conclude(found.results, options, shown_target(options))

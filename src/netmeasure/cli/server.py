"""Run `netmeasure server`: serve until SIGINT or SIGTERM, and print a line for each test."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from netmeasure.cli.exits import Exit
from netmeasure.cli.log import EventLog
from netmeasure.cli.metrics import served_metrics
from netmeasure.cli.network import gatekeeper, server_secret, server_tls
from netmeasure.cli.room import fitted
from netmeasure.cli.specs import Options, server_limits
from netmeasure.engine import memory
from netmeasure.engine.tasks import first_of
from netmeasure.errors import SpecError
from netmeasure.peer.server.server import Server, serve
from netmeasure.peer.server.statistics import ServerEvent
from netmeasure.result import Result
from netmeasure.result.encoding import encoded
from netmeasure.result.summary import without_series
from netmeasure.spec import ServerLimits
from netmeasure.spec.target import check_family

if TYPE_CHECKING:
    from netmeasure.origins.ftp import FtpOrigin
    from netmeasure.origins.http import HttpOrigin


async def server(options: Options) -> int:
    """Serve tests and files; return the exit code."""
    check_family(options.bind, options.family)
    _check_ports(options)
    memory.return_large_blocks()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)

    def report(result: Result) -> None:
        line = _line(result, options.json)
        try:
            print(line, flush=True)
        except BrokenPipeError:  # the reader has closed the pipe; the server goes on
            pass

    log = EventLog(as_json=options.json)
    chosen = options.max_tests is not None
    limits, too_small = fitted(server_limits(options), chosen=chosen)
    ready = asyncio.Event()
    origins = _origins(options, ready.is_set)
    tests = _tests(options, limits, report, log)
    async with AsyncExitStack() as running:
        running.callback(log.close)
        # the HTTP server is started first and ended last: it answers "not ready" while the others
        # are not running
        for _, origin in origins:
            await running.enter_async_context(origin)
        await running.enter_async_context(tests)
        metrics = None
        if options.metrics is not None:
            port = options.metrics
            served = served_metrics(lambda: tests.statistics, options.bind, port)
            metrics = running.enter_context(served)
        if not options.json:
            _announce(tests, metrics, origins)
        if too_small is not None:
            log.add(ServerEvent(message=too_small, reason="host_limit"))
        ready.set()
        await first_of(ended.wait(), tests.over())
        ready.clear()
    return Exit.OK


def _tests(
    options: Options, limits: ServerLimits, report: Callable[[Result], None], log: EventLog
) -> Server:
    """Return the server of tests, which is not started yet."""
    return serve(
        options.bind,
        options.port,
        family=options.family,
        limits=limits,
        on_result=report,
        on_event=log.add,
        gatekeeper=gatekeeper(options),
        secret=server_secret(options),
        allow_iperf3=options.allow_iperf3,
        tls=server_tls(options),
        one_off=options.one_off,
        idle_s=options.idle_timeout,
        device=options.bind_dev,
        fresh_port=options.crr_port,
    )


def _announce(
    tests: Server, metrics: int | None, origins: Sequence[tuple[str, HttpOrigin | FtpOrigin]]
) -> None:
    """Print the addresses of all servers that run."""
    print(f"listening on {', '.join(tests.addresses)}")
    if metrics is not None:
        print(f"serving metrics on port {metrics}")
    for name, origin in origins:
        print(f"serving {name} on {', '.join(origin.addresses)}")
    sys.stdout.flush()


def _line(result: Result, json: str | None) -> str:
    """Return the output for an ended test; `json`: "whole", "summary" or None."""
    if json is None:
        from netmeasure.report.words import server_line

        return server_line(result)
    return encoded(without_series(result) if json == "summary" else result, indent=None).decode()


def _check_ports(options: Options) -> None:
    """Raise SpecError if two servers are to listen on the same port."""
    asked = {"-p": options.port, "--metrics": options.metrics}
    asked |= {"--http": options.http, "--ftp": options.ftp, "--crr-port": options.crr_port}
    first: dict[int, str] = {}
    for option, port in asked.items():
        if port and (other := first.setdefault(port, option)) != option:
            raise SpecError(
                f"{other} and {option} can't have the same port, {port}",
                hint=f"give {option} another one, or 0 for any free port",
            )


def _origins(
    options: Options, ready: Callable[[], bool]
) -> list[tuple[str, HttpOrigin | FtpOrigin]]:
    """Return the requested embedded file servers, with names. Raises SpecError."""
    found: list[tuple[str, HttpOrigin | FtpOrigin]] = []
    if options.passive_ports is not None and options.ftp is None:
        raise SpecError("--passive-ports is an option of the FTP server", hint="add --ftp")
    if options.http is not None:
        from netmeasure.origins.http import serve_http

        http = serve_http(options.bind, options.http, family=options.family, ready=ready)
        found.append(("HTTP", http))
    if options.ftp is not None:
        from netmeasure.origins.ftp import serve_ftp

        ftp = serve_ftp(
            options.bind,
            options.ftp,
            family=options.family,
            passive_ports=options.passive_ports,
        )
        found.append(("FTP", ftp))
    return found

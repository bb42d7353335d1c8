"""`netmeasure server`: serves until SIGINT or SIGTERM, says a line for each test."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec

from netmeasure.cli.exits import Exit
from netmeasure.cli.specs import Options, server_limits
from netmeasure.errors import SpecError
from netmeasure.report.text import server_line
from netmeasure.result import Result
from netmeasure.server import serve

if TYPE_CHECKING:
    from netmeasure.origins.ftp import FtpOrigin
    from netmeasure.origins.http import HttpOrigin


async def server(options: Options) -> int:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)

    def report(result: Result) -> None:
        line = msgspec.json.encode(result).decode() if options.json else server_line(result)
        try:
            print(line, flush=True)
        except BrokenPipeError:  # the reader has left: a server without an audience goes on
            pass

    def refuse(sentence: str) -> None:
        print(f"netmeasure: {sentence}", file=sys.stderr, flush=True)

    async with AsyncExitStack() as servers:
        running = await servers.enter_async_context(
            serve(
                options.bind,
                options.port,
                family=options.family,
                limits=server_limits(options),
                on_result=report,
                on_refusal=refuse,
            )
        )
        lines = [f"listening on {', '.join(running.addresses)}"]
        for name, origin in _origins(options):
            await servers.enter_async_context(origin)
            lines.append(f"serving {name} on {', '.join(origin.addresses)}")
        if not options.json:
            print("\n".join(lines), flush=True)
        await ended.wait()
    return Exit.OK


def _origins(options: Options) -> Iterator[tuple[str, HttpOrigin | FtpOrigin]]:
    """The embedded servers that were asked for, imported only then. Raises SpecError."""
    if options.passive_ports is not None and options.ftp is None:
        raise SpecError("--passive-ports is an option of the FTP server", hint="add --ftp")
    if options.http is not None:
        from netmeasure.origins.http import serve_http

        yield "HTTP", serve_http(options.bind, options.http, family=options.family)
    if options.ftp is not None:
        from netmeasure.origins.ftp import serve_ftp

        yield (
            "FTP",
            serve_ftp(
                options.bind,
                options.ftp,
                family=options.family,
                passive_ports=options.passive_ports,
            ),
        )

"""`netmeasure server`: serves until SIGINT or SIGTERM, says a line for each test."""

from __future__ import annotations

import asyncio
import signal
import sys

import msgspec

from netmeasure.cli.exits import Exit
from netmeasure.cli.options import Options, server_limits
from netmeasure.report.text import server_line
from netmeasure.result import Result
from netmeasure.server import serve


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

    async with serve(
        options.bind,
        options.port,
        family=options.family,
        limits=server_limits(options),
        on_result=report,
        on_refusal=refuse,
    ) as running:
        if not options.json:
            print(f"listening on {', '.join(running.addresses)}", flush=True)
        await ended.wait()
    return Exit.OK

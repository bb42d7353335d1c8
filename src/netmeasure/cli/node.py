"""Run `netmeasure node`: show the facts of this node, and its use over a period."""

from __future__ import annotations

import argparse
import asyncio
import signal

import msgspec

from netmeasure.cli.exits import Exit
from netmeasure.cli.output import check_writable, deliver
from netmeasure.node.facts import node_facts
from netmeasure.node.watch import NodeWatch
from netmeasure.result.encoding import with_derived

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def node(options: argparse.Namespace) -> int:
    """Watch this node for a period, or until a signal; return the exit code."""
    check_writable(options.json)
    facts = await asyncio.to_thread(node_facts)
    use = None
    if options.time:
        async with NodeWatch(bpf=options.bpf) as watch:
            await _wait(options.time)
        use = watch.use
    report = None
    if options.json != "-":
        from netmeasure.report.node import render

        report = render(facts, use)
    document = {"facts": msgspec.to_builtins(facts), "use": use and with_derived(use)}
    data = msgspec.json.format(msgspec.json.encode(document), indent=2)
    deliver(report, [(data, options.json)])
    return Exit.OK


async def _wait(seconds: float) -> None:
    """Wait until the end of the period or a signal; the use until then is shown."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in _SIGNALS:
        loop.add_signal_handler(number, ended.set)
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        pass
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

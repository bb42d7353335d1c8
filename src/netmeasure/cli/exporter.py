"""Run `netmeasure exporter`: measure by schedule and on request until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from netmeasure import analysis
from netmeasure.cli.exits import Exit
from netmeasure.errors import SpecError
from netmeasure.exporter.config import Config, default_config, read_config
from netmeasure.exporter.exporter import Exporter
from netmeasure.exporter.web import served


async def exporter(options: argparse.Namespace) -> int:
    """Repeat tests and answer Prometheus; return the exit code."""
    config = _config(options.config)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    analysis.load()  # before the first test, whose clock its import would delay
    work = Exporter(config)
    async with served(work, options.bind, options.port) as addresses, work:
        print(f"listening on {', '.join(addresses)}")
        print(f"{len(config.modules)} modules, {len(config.scheduled)} scheduled tests")
        sys.stdout.flush()
        await ended.wait()
    return Exit.OK


def _config(path: str | None) -> Config:
    if path is None:
        return default_config()
    try:
        data = Path(path).read_bytes()
    except OSError as exc:
        raise SpecError(f"can't read {path}: {exc.strerror}") from None
    try:
        return read_config(data)
    except SpecError as exc:
        raise SpecError(f"{path}: {exc}", hint=exc.hint) from None

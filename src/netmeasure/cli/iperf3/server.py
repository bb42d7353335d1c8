"""Serve as iperf3's server does: a banner, one test at a time, its report, the next banner."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from typing import Any

from netmeasure.cli.iperf3 import failures, interruption, specs
from netmeasure.cli.iperf3.command_line import CommandLine
from netmeasure.cli.iperf3.output import Output
from netmeasure.cli.iperf3.reports import file_of, make_report
from netmeasure.cli.iperf3.service import Service
from netmeasure.engine import memory
from netmeasure.engine.tasks import first_of
from netmeasure.errors import NetmeasureError, ServeError
from netmeasure.observe import Control, Observer, Opening
from netmeasure.peer.server.server import serve
from netmeasure.protocol import ErrorCode
from netmeasure.result import ErrorRecord, Interval, Result


async def server(settings: CommandLine, service: Service, output: Output) -> int:
    """Serve until a signal, or with -1 for one test; return the exit code."""
    memory.return_large_blocks()
    banners = _Banners(settings, output)
    loop = asyncio.get_running_loop()
    for number in interruption.SIGNALS:
        loop.add_signal_handler(number, banners.interrupt, number)
    running = serve(
        settings.bind.host or None if settings.bind else None,
        settings.port,
        family=specs.family(settings),
        device=settings.device,
        limits=service.limits,
        gatekeeper=service.gatekeeper,
        one_off=settings.one_off,
        # without -1 there is nothing to do: netmeasure's listener can't get stuck
        idle_s=settings.idle_timeout if settings.one_off else None,
        observe=banners.next_test,
        interval_s=settings.interval or 1.0,
    )
    try:
        async with running:
            banners.open()
            await first_of(running.over(), banners.interrupted.wait())
    except ServeError as exc:
        banners.fail(failures.listen_sentence(exc))
        return 1
    banners.close()
    return 0


class _Banners:
    """Print what stands between the tests, count them, and keep the signal that ends the server."""

    def __init__(self, settings: CommandLine, output: Output) -> None:
        self.interrupted = asyncio.Event()
        self.signal: signal.Signals | None = None
        self.settings = settings
        self.output = output
        self._number = 0
        self._told = False

    def open(self) -> None:
        """Print the banner for the next client."""
        self._number += 1
        if not self.settings.is_json:
            report = make_report(self.settings)
            self.output.lines(report.greeting() + report.banner(self._number))

    def next_test(self) -> Observer:
        return _TestPrinter(self)

    def test_over(self, *, counts: bool) -> None:
        if self.signal is not None:
            self._told = True
        elif not (self.settings.one_off and counts):
            self.open()

    def interrupt(self, number: signal.Signals) -> None:
        self.signal = self.signal or number
        self.interrupted.set()

    @property
    def interruption(self) -> str | None:
        return None if self.signal is None else interruption.sentence("server", self.signal)

    def fail(self, sentence: str) -> None:
        """Print why the server can't serve at all."""
        if self.settings.is_json:
            self.output.lines(make_report(self.settings).ended(None, error=sentence))
        else:
            self.output.complain(sentence)
            self.output.complain("exiting")

    def close(self) -> None:
        """Print the signal that ended the server, unless a test's document already has it."""
        sentence = self.interruption
        if sentence is None:
            return
        if not self.settings.is_json:
            self.output.complain(sentence)
        elif not self._told:
            self.output.lines(make_report(self.settings).ended(None, error=sentence))


class _TestPrinter(Observer):
    """Print each event of one test."""

    def __init__(self, banners: _Banners) -> None:
        self._banners = banners
        self._report = make_report(banners.settings)
        self._output = banners.output
        self.reads_analysis = banners.settings.netmeasure  # iperf3's own figures are counts
        self._sentence: str | None = None

    def on_accepted(self, control: Control) -> None:
        self._output.lines(self._report.accepted(control, time.time()))

    def on_opening(self, opening: Opening) -> None:
        self._output.lines(self._report.opening(opening))

    def on_interval(self, interval: Interval) -> None:
        self._output.lines(self._report.interval(interval))

    def on_failed(self, error: NetmeasureError) -> None:
        self._sentence = failures.server_sentence(error)

    def on_ended(self, result: Result) -> None:
        self._end(result, result.error)

    def on_refused(self, error: ErrorRecord) -> None:
        self._end(None, error)

    def output(self, result: Result) -> str | Mapping[str, Any] | None:
        return self._report.output(result)

    def _end(self, result: Result | None, error: ErrorRecord | None) -> None:
        banners = self._banners
        sentence = None if error is None else self._sentence or f"error - {error.message}"
        told = banners.interruption or sentence
        self._output.lines(self._report.ended(result, error=told, file=file_of(banners.settings)))
        if sentence is not None and banners.signal is None and not banners.settings.is_json:
            self._output.complain(sentence)
        banners.test_over(counts=error is None or error.number != ErrorCode.UNAUTHORIZED)

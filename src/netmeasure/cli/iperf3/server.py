"""iperf3's server: a banner, one test at a time, its report, and the next banner."""

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
from netmeasure.engine.tasks import first_of
from netmeasure.errors import NetmeasureError, ServeError
from netmeasure.observe import Control, Observer, Opening
from netmeasure.peer.server.server import serve
from netmeasure.protocol import ErrorCode
from netmeasure.result import ErrorRecord, Interval, Result


async def server(settings: CommandLine, service: Service, output: Output) -> int:
    """Serve until a signal, or one test; returns the exit code."""
    desk = _Desk(settings, output)
    loop = asyncio.get_running_loop()
    for number in interruption.SIGNALS:
        loop.add_signal_handler(number, desk.interrupt, number)
    running = serve(
        settings.bind.host or None if settings.bind else None,
        settings.port,
        family=specs.family(settings),
        device=settings.device,
        limits=service.limits,
        gatekeeper=service.gatekeeper,
        one_off=settings.one_off,
        # otherwise there would be nothing to end: a listener of ours can't get stuck
        idle_s=settings.idle_timeout if settings.one_off else None,
        observe=desk.next_test,
        interval_s=settings.interval or 1.0,
    )
    try:
        async with running:
            desk.open()
            await first_of(running.over(), desk.interrupted.wait())
    except ServeError as exc:
        desk.fail(failures.listen_sentence(exc))
        return 1
    desk.close()
    return 0


class _Desk:
    """What lies between the tests: banners, the count, and the signal that ends it."""

    def __init__(self, settings: CommandLine, output: Output) -> None:
        self.interrupted = asyncio.Event()
        self.signal: signal.Signals | None = None
        self.settings = settings
        self.output = output
        self._number = 0
        self._told = False

    def open(self) -> None:
        """The next client may come."""
        self._number += 1
        if not self.settings.is_json:
            report = make_report(self.settings)
            self.output.lines(report.greeting() + report.banner(self._number))

    def next_test(self) -> Observer:
        return _Printer(self)

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
        """It can't serve at all."""
        if self.settings.is_json:
            self.output.lines(make_report(self.settings).ended(None, error=sentence))
        else:
            self.output.complain(sentence)
            self.output.complain("exiting")

    def close(self) -> None:
        """After a signal: say so, unless the document of a test that it ended has."""
        sentence = self.interruption
        if sentence is None:
            return
        if not self.settings.is_json:
            self.output.complain(sentence)
        elif not self._told:
            self.output.lines(make_report(self.settings).ended(None, error=sentence))


class _Printer(Observer):
    """Prints one test."""

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk
        self._report = make_report(desk.settings)
        self._output = desk.output
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
        desk = self._desk
        sentence = None if error is None else self._sentence or f"error - {error.message}"
        told = desk.interruption or sentence
        self._output.lines(self._report.ended(result, error=told, file=file_of(desk.settings)))
        if sentence is not None and desk.signal is None and not desk.settings.is_json:
            self._output.complain(sentence)
        desk.test_over(counts=error is None or error.number != ErrorCode.UNAUTHORIZED)

"""Run one test as iperf3's client does: printed as it happens, ended by its terms or a signal."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from netmeasure.cli.iperf3 import failures, interruption, reports, specs
from netmeasure.cli.iperf3.command_line import CommandLine
from netmeasure.cli.iperf3.output import Output
from netmeasure.client import make_run
from netmeasure.errors import NetmeasureError, SpecError
from netmeasure.export.iperf3 import Report
from netmeasure.measurement.run import Run
from netmeasure.observe import Control, Observer, Opening
from netmeasure.result import Interval, Result
from netmeasure.spec import PeerSpec

#: How long a test that was interrupted may take to end gracefully.
GRACE_S = 2.0
#: timeout(1) signals the process and then its group: a second signal within this time counts as the
#: same one.
SAME_S = 0.5


async def client(settings: CommandLine, spec: PeerSpec, output: Output) -> int:
    """Run the test and print its report; return the exit code."""
    assert settings.client is not None
    report = reports.make_report(settings)
    printer = _TestPrinter(report, spec, output)
    output.lines(report.greeting())
    if specs.has_wrong_family(settings):
        _end(settings, report, output, None, f"error - {failures.WRONG_FAMILY}")
        return 1
    try:
        run = make_run(_bracketed(settings.client.host), spec, port=settings.port, observer=printer)
    except SpecError:  # a word that can't be a host; iperf3 passes it to the resolver
        _end(settings, report, output, None, f"error - {failures.NO_SUCH_HOST}")
        return 1
    asked = _Interruption(run)
    sentence: str | None = None
    try:
        async with run:
            await run.wait()
    except NetmeasureError as exc:
        sentence = f"error - {failures.client_sentence(exc)}"
    except asyncio.CancelledError:
        if asked.signal is None:
            raise
    asked.too_late()
    if asked.signal is not None:
        _end(settings, report, output, run.result, interruption.sentence("client", asked.signal))
        return 0
    _end(settings, report, output, run.result, sentence)
    return 0 if sentence is None else 1


def _end(
    settings: CommandLine,
    report: Report,
    output: Output,
    result: Result | None,
    sentence: str | None,
) -> None:
    """Print the last lines, and the error: in JSON as a member of the document, without prefix."""
    output.lines(
        report.ended(
            result,
            error=sentence.removeprefix("error - ") if sentence else None,
            server_output=_server_output(result),
            file=reports.file_of(settings),
        )
    )
    if sentence is not None and not settings.is_json:
        output.complain(sentence)


def _server_output(result: Result | None) -> str | Mapping[str, Any] | None:
    """Return the output of --get-server-output: text, or the document of a server with -J."""
    said = result.server_output if result is not None else None
    if said is None or not said.startswith("{"):
        return said
    try:
        document = msgspec.json.decode(said)
    except msgspec.DecodeError:
        return said
    return document if isinstance(document, dict) else said


def _bracketed(host: str) -> str:
    """Return a host with brackets if it is an IPv6 address, so that it is no "host:port"."""
    return f"[{host}]" if ":" in host else host


class _TestPrinter(Observer):
    """Print each event of the client's test."""

    reads_control_mss = True

    def __init__(self, report: Report, spec: PeerSpec, output: Output) -> None:
        self._report = report
        self._spec = spec
        self._output = output

    def on_accepted(self, control: Control) -> None:
        self._output.lines(self._report.connected(control, self._spec, time.time()))

    def on_opening(self, opening: Opening) -> None:
        self._output.lines(self._report.opening(opening))

    def on_interval(self, interval: Interval) -> None:
        self._output.lines(self._report.interval(interval))


class _Interruption:
    """End the test on SIGINT, SIGTERM and SIGHUP, and let it report its figures.

    Another signal later, or a server that does not end the test with the client, ends it at once.
    """

    def __init__(self, run: Run) -> None:
        self.signal: signal.Signals | None = None
        self._first_at = 0.0
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._grace: asyncio.TimerHandle | None = None
        self._over = False
        for number in interruption.SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)

    def too_late(self) -> None:
        """Ignore signals from now on, since the test is over."""
        self._over = True
        if self._grace is not None:
            self._grace.cancel()

    def _on_signal(self, number: signal.Signals) -> None:
        now = self._loop.time()
        if self._over:
            return
        if self.signal is not None:
            if now > self._first_at + SAME_S:
                self._give_up()
            return
        self.signal, self._first_at = number, now
        if self._run.transferring:
            self._run.stop()
            self._grace = self._loop.call_later(GRACE_S, self._give_up)
        else:
            self._give_up()

    def _give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()

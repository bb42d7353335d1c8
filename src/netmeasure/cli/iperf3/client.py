"""One test as iperf3's client runs it: printed as it happens, ended by its terms or a signal."""

from __future__ import annotations

import asyncio
import signal
import time
from types import TracebackType

from netmeasure.cli.iperf3 import failures
from netmeasure.cli.iperf3.output import Output
from netmeasure.cli.iperf3.reports import make_report
from netmeasure.cli.iperf3.settings import Settings
from netmeasure.client import make_run
from netmeasure.errors import NetmeasureError
from netmeasure.export.iperf3 import Report
from netmeasure.observe import Control, Observer, Opening
from netmeasure.result import Interval
from netmeasure.run import Run
from netmeasure.spec import PeerSpec

#: How long a test that was interrupted may take to end in good order.
GRACE_S = 2.0
#: timeout(1) tells the process and then its group: what comes twice so soon was meant once.
SAME_S = 0.5


async def client(settings: Settings, spec: PeerSpec, output: Output) -> int:
    """Run the test; returns the exit code."""
    assert settings.client is not None
    report = make_report(settings)
    watch = _Watch(report, spec, output)
    output.lines(report.greeting())
    error: NetmeasureError | None = None
    run = make_run(_bracketed(settings.client.host), spec, port=settings.port, observer=watch)
    with _Interruptible(run) as interruption:
        try:
            async with run:
                await run.wait()
        except NetmeasureError as exc:
            error = exc
        except asyncio.CancelledError:
            if interruption.signal is None:
                raise
    sentence = None
    if interruption.signal is not None:
        sentence = failures.interrupt_sentence("client", interruption.signal)
    elif error is not None:
        sentence = f"error - {failures.client_sentence(error)}"
    told = sentence.removeprefix("error - ") if sentence else None  # JSON has no such prefix
    output.lines(report.ended(run.result, error=told))
    if sentence is not None and not settings.is_json:
        output.complain(sentence)
    return 0 if error is None or interruption.signal is not None else 1


def _bracketed(host: str) -> str:
    """So that an IPv6 address is taken for no "host:port"."""
    return f"[{host}]" if ":" in host else host


class _Watch(Observer):
    """Prints what happens."""

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


class _Interruptible:
    """SIGINT, SIGTERM and SIGHUP end the test and let it tell what it measured; another one later,
    or a server that does not play along, ends it at once."""

    def __init__(self, run: Run) -> None:
        self.signal: signal.Signals | None = None
        self._first_at = 0.0
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._grace: asyncio.TimerHandle | None = None

    def __enter__(self) -> _Interruptible:
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._grace is not None:
            self._grace.cancel()
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        now = self._loop.time()
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


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

"""`netmeasure client` and `netmeasure loopback`: one test, shown as it goes, then its report."""

from __future__ import annotations

import asyncio
import signal

from netmeasure.cli.exits import Exit, complain, exit_code
from netmeasure.cli.output import check_writable, console, write_json
from netmeasure.cli.specs import Options, test_spec
from netmeasure.client import make_run
from netmeasure.errors import MeasureError
from netmeasure.report import text
from netmeasure.result import Result
from netmeasure.run import Run
from netmeasure.server import serve

_SIGNALS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


async def client(options: Options) -> int:
    spec = test_spec(options)
    return await _measure(make_run(options.target, spec, port=options.port), options)


async def loopback(options: Options) -> int:
    spec = test_spec(options)
    address = "::1" if options.family == "ipv6" else "127.0.0.1"
    async with serve(address, 0) as server:
        return await _measure(make_run(address, spec, port=server.port), options)


async def _measure(run: Run, options: Options) -> int:
    check_writable(options.json)
    shows = not options.quiet and options.json != "-"
    interrupted: list[Exit] = []
    error: MeasureError | None = None
    with _Interruptible(run, interrupted):
        try:
            async with run:
                async for interval in run:
                    if shows:
                        print(text.interval_line(interval), flush=True)
        except MeasureError as exc:
            error = exc
        except asyncio.CancelledError:
            if not interrupted:
                raise
    if run.result is not None:
        _deliver(run.result, options)
    if interrupted:
        return interrupted[0]
    if error is not None:
        complain(error)
        return exit_code(error)
    return Exit.OK


class _Interruptible:
    """SIGINT and SIGTERM end the test and let it report; the second one does not wait for that."""

    def __init__(self, run: Run, interrupted: list[Exit]) -> None:
        self._run = run
        self._interrupted = interrupted
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()

    def __enter__(self) -> None:
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)

    def __exit__(self, *_: object) -> None:
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        again = bool(self._interrupted)
        self._interrupted.append(_SIGNALS[number])
        if self._run.transferring and not again:
            self._run.stop()
        elif self._task is not None:
            self._task.cancel()


def _deliver(result: Result, options: Options) -> None:
    if options.json != "-" and (result.flows or result.error is None):
        text.print_report(result, console())
    if options.json is not None:
        write_json(result.to_json(), options.json)

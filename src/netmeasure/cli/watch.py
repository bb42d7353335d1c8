"""Runs on the screen, live; SIGINT and SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from netmeasure.cli.exits import Exit, complain, exit_code
from netmeasure.errors import MeasureError
from netmeasure.measurement.run import Run
from netmeasure.repetition import Alternative, worth_going_on
from netmeasure.report import runs, text
from netmeasure.result import Result

_SIGNALS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


class LiveView:
    """Sees runs through, one after the other, and shows their intervals.

    A signal ends the run that is on its way and lets it report; the second one does not wait for
    that. `interrupted` is then the exit code, and no other run should begin. Nor should it when the
    output is gone (`unseen`), but what was measured can still be saved.
    """

    def __init__(self, *, shows: bool) -> None:
        self.interrupted: Exit | None = None
        self.unseen: OSError | None = None
        self._shows = shows
        self._run: Run | None = None
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()

    def __enter__(self) -> LiveView:
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)

    async def see(self, run: Run) -> MeasureError | None:
        """The error of a run that failed; its result is `run.result` in any case."""
        self._run = run
        try:
            async with run:
                async for interval in run:
                    if self._shows:
                        print(text.interval_line(interval), flush=True)
        except MeasureError as exc:
            return exc
        except OSError as exc:  # of our own output: the library's errors are not these
            self.unseen = exc
        except asyncio.CancelledError:
            if self.interrupted is None:
                raise
        return None

    def tell(self, line: str) -> None:
        try:
            print(line, flush=True)
        except OSError as exc:
            self.unseen = exc

    def _on_signal(self, number: signal.Signals) -> None:
        again = self.interrupted is not None
        self.interrupted = self.interrupted or _SIGNALS[number]
        if self._run is not None and self._run.transferring and not again:
            self._run.stop()
        elif self._task is not None:
            self._task.cancel()


class Seen(NamedTuple):
    """Runs of one or two sides; `measured`: anything at all. And the exit code that they earned;
    `unseen`: the output went away meanwhile."""

    results: dict[Alternative, list[Result]]
    measured: bool
    interrupted: bool
    unseen: OSError | None
    code: Exit


async def see_all(
    turns: Iterable[Alternative],
    begin: Callable[[Alternative], Run],
    *,
    shows: bool,
    live: bool,
    label: Callable[[Alternative, int], str],
) -> Seen:
    """See run after run through, until a signal, or until it makes no sense to go on.

    Each has a line (`shows`), its intervals before that (`live`); errors are told when they happen.
    """
    results: dict[Alternative, list[Result]] = {"a": [], "b": []}
    error: MeasureError | None = None
    with LiveView(shows=shows and live) as watch:
        for side in turns:
            failed = await watch.see(run := begin(side))
            if (result := run.result) is not None:
                if watch.interrupted is not None:  # half a run is no run like the others
                    result = replace(result, complete=False)
                results[side].append(result)
                if shows and result.flows and watch.unseen is None:
                    watch.tell(runs.run_line(label(side, len(results[side])), result))
            if watch.interrupted is not None or watch.unseen is not None:
                break
            if failed is not None:
                complain(failed)
                error = failed
                if not worth_going_on(results[side]):
                    break
    measured = any(result.flows for side in results.values() for result in side)
    code = Exit.OK
    if error is not None:
        code = Exit.CUT_SHORT if measured else exit_code(error)
    interrupted = watch.interrupted
    return Seen(results, measured, interrupted is not None, watch.unseen, interrupted or code)

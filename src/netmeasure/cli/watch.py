"""Show runs on a screen, and end them on SIGINT and SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from netmeasure.cli.exits import Exit, complain, exit_code, tell
from netmeasure.cli.screens import Block, Screen
from netmeasure.errors import MeasureError
from netmeasure.measurement.run import Run
from netmeasure.repetition import Alternative, worth_going_on
from netmeasure.report.live import waiting_words
from netmeasure.report.words import run_line
from netmeasure.result import Result

SIGNALS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


class LiveView:
    """Show successive runs on a screen until their end.

    The first signal ends the current run and lets it report; the second one aborts it.

    Attributes:
        interrupted: The exit code for the signal; None: no signal. After a signal, no other run
            should begin.
        unseen: The error of printing; None: everything was printed. After an error no other run
            should begin, but results can still be saved.
    """

    def __init__(self, screen: Screen) -> None:
        self.interrupted: Exit | None = None
        self.unseen: OSError | None = None
        self._screen = screen
        self._run: Run | None = None
        self._where: str | None = None
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()

    def __enter__(self) -> LiveView:
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)
        self._screen.close()

    async def see(self, run: Run, target: str) -> MeasureError | None:
        """Follow a run to its end; return its error or None. The result is `run.result`."""
        self._run = run
        try:
            await self._screen.begin(run, target)
            try:
                async with run:
                    async for event in run.events():
                        await self._screen.show(event)
            finally:
                await self._screen.end()
        except MeasureError as exc:
            return exc
        except OSError as exc:  # an error of printing: the library's errors have their own types
            self.unseen = exc
        except asyncio.CancelledError:
            if self.interrupted is None:
                raise
            if self._where is not None:
                # after the block is removed: otherwise the terminal may have written "^C" on this
                # line
                if sys.stderr.isatty() and not isinstance(self._screen, Block):
                    sys.stderr.write("\n")
                tell(self._where)
        return None

    async def tell(self, line: str) -> None:
        """Print a line."""
        try:
            await self._screen.tell(line)
        except OSError as exc:
            self.unseen = exc

    def _on_signal(self, number: signal.Signals) -> None:
        again = self.interrupted is not None
        self.interrupted = self.interrupted or SIGNALS[number]
        run = self._run
        open_end = run is not None and run.result is None
        # without any response to requests, `stop` would lead to a report without figures
        flowing = run is not None and run.transferring and not (run.ending or run.unanswered)
        if run is not None and open_end and flowing and not again:
            run.stop()
        elif self._task is not None:
            if run is not None and open_end and not flowing:
                self._where = _where(run)
            self._task.cancel()


def _where(run: Run) -> str:
    """Return what set-up is waiting for, for a signal that ends the run."""
    waiting = run.waiting
    if waiting is None:
        return "ended by the user before any data flowed"
    return f"ended by the user, {waiting_words(waiting)}"


class Seen(NamedTuple):
    """Hold the results of the runs of one or two sides, and the exit code for them.

    Attributes:
        results: The results of each side.
        measured: Whether any run measured something.
        interrupted: Whether a signal ended the runs.
        unseen: The error of printing; None: everything was printed.
        code: The exit code.
    """

    results: dict[Alternative, list[Result]]
    measured: bool
    interrupted: bool
    unseen: OSError | None
    code: Exit


async def see_all(
    turns: Iterable[Alternative],
    begin: Callable[[Alternative], Run],
    screen: Screen,
    *,
    target: Callable[[Alternative], str],
    label: Callable[[Alternative, int], str],
) -> Seen:
    """Show run after run, until a signal or until another run would be useless.

    Errors are printed when they happen.

    Args:
        turns: The side of each run.
        begin: Creates a run of a side.
        screen: Where the runs are shown.
        target: Returns the target of a side, for display.
        label: Returns the beginning of the line for a run: its side and its number, from 1.
    """
    results: dict[Alternative, list[Result]] = {"a": [], "b": []}
    error: MeasureError | None = None
    with LiveView(screen) as watch:
        for side in turns:
            failed = await watch.see(run := begin(side), target(side))
            if (result := run.result) is not None:
                # an interrupted run can't be compared with the others
                if watch.interrupted is not None:
                    result = replace(result, complete=False)
                results[side].append(result)
                if result.flows and watch.unseen is None:
                    await watch.tell(run_line(label(side, len(results[side])), result))
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

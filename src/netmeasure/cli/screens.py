"""Show a running test: as a block on a terminal, otherwise as plain lines, or as lines of JSON."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from netmeasure.cli.outlet import Outlet
from netmeasure.measurement.run import Run
from netmeasure.report.live import LiveState, waiting_words
from netmeasure.report.words import interval_line
from netmeasure.result.encoding import encoded
from netmeasure.result.events import Event, IntervalEvent, WaitingEvent
from netmeasure.spec import Spec

if TYPE_CHECKING:
    from rich.live import Live

#: The period of redrawing the block, with or without new events.
REDRAW_S = 0.25
#: Plain lines report a wait after this time, after twice the time, four times the time ...
FIRST_TOLD_S = 1.0


class Screen:
    """Show nothing. Serve as the base of the other screens."""

    async def begin(self, run: Run, target: str) -> None:
        """Prepare for the events of a run."""

    async def show(self, event: Event) -> None:
        """Show an event. Raises OSError."""

    async def end(self) -> None:
        """Remove the temporary output."""

    async def tell(self, line: str) -> None:
        """Show a permanent line. Raises OSError."""

    def close(self) -> None:
        """Release the stream."""


class Lines(Screen):
    """Print a line for each interval, and lines on what set-up waits for."""

    def __init__(self, stream: TextIO, *, live: bool = True) -> None:
        self._outlet = Outlet(stream)
        self._live = live
        self._told_s = 0.0
        self._spec: Spec | None = None

    async def begin(self, run: Run, target: str) -> None:
        """Prepare for the events of a run."""
        self._told_s = 0.0
        self._spec = run.spec

    async def show(self, event: Event) -> None:
        """Show an event. Raises OSError."""
        if not self._live:
            return
        if isinstance(event, IntervalEvent):
            await self.tell(interval_line(event.interval, self._spec))
        elif isinstance(event, WaitingEvent):
            waited_s = event.waited_ns / 1e9
            if waited_s < self._told_s:  # another step
                self._told_s = 0.0
            if waited_s >= max(FIRST_TOLD_S, 2 * self._told_s):
                self._told_s = waited_s
                await self.tell(f"  {waiting_words(event)}")

    async def tell(self, line: str) -> None:
        """Show a permanent line. Raises OSError."""
        await self._outlet.write(f"{line}\n")

    def close(self) -> None:
        """Release the stream."""
        self._outlet.close()


class JsonLines(Screen):
    """Print each event as a line of JSON. The run goes on if the reader has closed the pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._outlet = Outlet(stream)
        self.left = False

    async def show(self, event: Event) -> None:
        """Show an event, unless the reader has closed the pipe."""
        if not self.left:
            try:
                line = await asyncio.to_thread(_encoded, event)
                await self._outlet.write(line)
            except BrokenPipeError:
                self.left = True

    def close(self) -> None:
        """Release the stream."""
        self._outlet.close()


class Block(Screen):
    """Draw one block on a terminal, which is removed at the end of the run."""

    def __init__(self, stream: TextIO, *, per_stream: bool) -> None:
        self._stream = stream
        self._outlet = Outlet(stream)
        self._per_stream = per_stream
        self._live: Live | None = None
        self._redrawing: asyncio.Task[None] | None = None
        self._draw: Callable[[], None] = lambda: None
        self._state: LiveState | None = None

    async def begin(self, run: Run, target: str) -> None:
        """Draw the block for the first time."""
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(file=self._stream)
        plain = not (console.encoding or "").lower().startswith("utf")
        state = LiveState(run.spec, target, per_stream=self._per_stream, plain=plain)
        live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        loop = asyncio.get_running_loop()
        began: list[float] = []

        def draw() -> None:
            if run.transferring and not began:
                began.append(loop.time())
            elapsed_s = loop.time() - began[0] if began else 0.0
            lines = state.lines(run.waiting, elapsed_s)
            text = Text("\n".join(lines), overflow="fold")  # a wait may be longer than a line
            live.update(text)

        self._state, self._live, self._draw = state, live, draw
        await self._outlet.do(live.start)
        self._redrawing = asyncio.create_task(self._redraw(live))

    async def _redraw(self, live: Live) -> None:
        with suppress(OSError):
            while True:
                self._draw()
                await self._outlet.do(live.refresh)
                await asyncio.sleep(REDRAW_S)

    async def show(self, event: Event) -> None:
        """Update the block by an event; it is drawn within REDRAW_S."""
        if self._state is not None:
            self._state.add(event)

    async def end(self) -> None:
        """Remove the block."""
        if self._redrawing is not None:
            self._redrawing.cancel()
            await asyncio.gather(self._redrawing, return_exceptions=True)
            self._redrawing = None
        if self._live is not None:
            live, self._live = self._live, None
            await self._outlet.do(live.stop)

    async def tell(self, line: str) -> None:
        """Show a permanent line. Raises OSError."""
        await self._outlet.write(f"{line}\n")

    def close(self) -> None:
        """Release the stream."""
        self._outlet.close()


def choose_screen(
    *, quiet: bool, json_out: bool, json_lines: bool = False, per_stream: bool = False
) -> Screen:
    """Return the screen that shows running tests.

    Args:
        quiet: Nothing is shown live.
        json_out: Standard output is for JSON: live output goes to standard error, if that is a
            terminal.
        json_lines: The events themselves go to standard output, as lines of JSON.
        per_stream: Each stream has a line of its own.
    """
    if json_lines:
        return JsonLines(sys.stdout)
    stream = sys.stderr if json_out else sys.stdout
    if json_out and (quiet or not stream.isatty()):
        return Screen()  # a program reads the output: standard error is for errors only
    if quiet:
        return Lines(stream, live=False)
    if _draws(stream):
        return Block(stream, per_stream=per_stream)
    return Lines(stream)


def _draws(stream: TextIO) -> bool:
    """Return whether a stream is a terminal on which a block can be redrawn."""
    if not stream.isatty():
        return False
    from rich.console import Console

    return not Console(file=stream).is_dumb_terminal


def _encoded(event: Event) -> str:
    return encoded(event, indent=None).decode() + "\n"

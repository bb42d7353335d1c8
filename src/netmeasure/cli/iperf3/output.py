"""Where iperf3's lines go: standard output and error or the log file, each line flushed at once."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from netmeasure.cli import streams
from netmeasure.cli.iperf3.command_line import CommandLine


class Output:
    """All that a test prints. With --logfile everything goes there, errors, too.

    A reader that has left ends the printing, not the test, and is no failure (`| head -1`). Raises
    OSError where the log file can't be opened.
    """

    def __init__(self, settings: CommandLine) -> None:
        self._settings = settings
        self._out: TextIO = sys.stdout
        self._err: TextIO = sys.stderr
        self.lost: str | None = None  # why something that was wanted could not be written
        self._gone: set[TextIO] = set()  # nobody reads these any more, or nothing fits in
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="surrogateescape")  # titles and names as they came
        if settings.logfile is not None:
            self._out = self._err = open(  # noqa: SIM115  (for the whole program)
                settings.logfile, "a", encoding="utf-8", errors="surrogateescape"
            )

    def lines(self, lines: Sequence[str]) -> None:
        """Of a report; text has the time in front, if that was asked for."""
        stamp = "" if self._settings.is_json else self._time()
        self._write(self._out, "".join(f"{stamp}{line}\n" for line in lines))

    def complain(self, sentence: str) -> None:
        """An error: a line that begins with the program's name."""
        self._write(self._err, f"{self._time()}iperf3: {sentence}\n")

    def _time(self) -> str:
        wanted = self._settings.timestamps
        return "" if wanted is None else time.strftime(wanted)

    def _write(self, stream: TextIO, text: str) -> None:
        if stream in self._gone or not text:
            return
        try:
            stream.write(text)
            stream.flush()
        except OSError as exc:
            self._gone.add(stream)
            if stream is sys.stdout:
                streams.say_nothing_more()
            if exc.errno == errno.EPIPE:
                return
            self.lost = exc.strerror or str(exc)
            if stream is not sys.stderr:
                sys.stderr.write(f"iperf3: error - unable to write output: {self.lost}\n")

"""Write iperf3's lines to standard output and error or to the log file, and flush each at once."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from netmeasure.cli import streams
from netmeasure.cli.iperf3.command_line import CommandLine


class Output:
    """Write the output of a test. With --logfile, everything goes to the file, including errors.

    If the reader closes the pipe (`| head -1`), printing ends, the test goes on, and that is no
    failure. Raises OSError if the log file can't be opened.

    Attributes:
        lost: Why some output could not be written; None: everything was written.
    """

    def __init__(self, settings: CommandLine) -> None:
        self._settings = settings
        self._out: TextIO = sys.stdout
        self._err: TextIO = sys.stderr
        self.lost: str | None = None
        # streams whose reader has closed the pipe, or which are full
        self._gone: set[TextIO] = set()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                # titles and names with their original bytes
                stream.reconfigure(errors="surrogateescape")
        if settings.logfile is not None:
            self._out = self._err = open(  # noqa: SIM115  (for the whole program)
                settings.logfile, "a", encoding="utf-8", errors="surrogateescape"
            )

    def lines(self, lines: Sequence[str]) -> None:
        """Write the lines of a report; --timestamps puts the time in front of lines of text."""
        stamp = "" if self._settings.is_json else self._time()
        self._write(self._out, "".join(f"{stamp}{line}\n" for line in lines))

    def complain(self, sentence: str) -> None:
        """Write an error: a line that begins with the program's name."""
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

"""Run a program on a terminal of 80x24, read its screen, and press Ctrl-C at the right moment."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Sequence
from typing import Any

COLUMNS, LINES = 80, 24
#: Far longer than a test needs: a program that prints nothing for so long hangs.
PATIENCE_S = 60.0
_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")


class Paper:
    """Hold the lines that a program has written, as a terminal shows them, including those scrolled
    away.

    The class understands what rich writes: lines, and the codes by which rich replaces a block of
    lines.
    """

    def __init__(self) -> None:
        self._lines = [""]
        self._row = self._column = 0
        self._rest = ""

    @property
    def lines(self) -> list[str]:
        """Return all lines; the last 24 of them are visible."""
        return [line.rstrip() for line in self._lines]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def write(self, text: str) -> None:
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                found = _SEQUENCE.match(text, at)
                if found is None:  # the rest of the sequence has not arrived yet
                    self._rest = text[at:]
                    return
                self._control(found[1], found[2])
                at = found.end()
                continue
            self._put(text[at])
            at += 1

    def _put(self, letter: str) -> None:
        if letter == "\n":
            self._row += 1
        elif letter == "\r":
            self._column = 0
        else:
            if self._column == COLUMNS:
                self._row, self._column = self._row + 1, 0
            self._grow()
            line = self._lines[self._row].ljust(self._column)
            self._lines[self._row] = line[: self._column] + letter + line[self._column + 1 :]
            self._column += 1
        self._grow()

    def _grow(self) -> None:
        while len(self._lines) <= self._row:
            self._lines.append("")

    def _control(self, number: str, kind: str) -> None:
        if kind == "A":
            self._row = max(0, self._row - int(number or 1))
        elif kind == "K":
            line = self._lines[self._row]
            self._lines[self._row] = "" if number == "2" else line[: self._column]
        elif kind not in "mhl":  # colours, and the visibility of the cursor
            raise AssertionError(f"an unknown sequence: {number}{kind}")


class Terminal:
    """Hold a program on a terminal of its own."""

    def __init__(self, argv: Sequence[str], **options: Any) -> None:
        self.paper = Paper()
        self._decode = getincrementaldecoder("utf-8")().decode
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        environment = dict(os.environ, TERM="xterm-256color", PYTHONUTF8="1")
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        with contextlib.closing(os.fdopen(slave, "wb", buffering=0)) as end:
            # by setsid(1), not preexec_fn, which makes Python fork, and a fork ends the threads of
            # numpy
            self.process = subprocess.Popen(
                ["setsid", "--ctty", *argv],
                stdin=end,
                stdout=end,
                stderr=end,
                env=environment,
                **options,
            )

    def until(self, found: Callable[[str], object]) -> str:
        """Read until the text on the terminal meets a condition; return the text."""
        deadline = time.monotonic() + PATIENCE_S
        while not found(self.paper.text):
            assert self._read(deadline), f"the program ended before that:\n{self.paper.text}"
        return self.paper.text

    def shows(self, pattern: str) -> str:
        """Read until the text on the terminal has a match of a pattern; return it."""
        return self.until(re.compile(pattern).search)

    def ctrl_c(self) -> None:
        """Press Ctrl-C."""
        os.write(self._master, b"\x03")

    def end(self) -> int:
        """Read until the program ends; return its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"the program is silent:\n{self.paper.text}"
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the program has ended, and everything has been read (pty(7))
            return False
        self.paper.write(self._decode(data))
        return bool(data)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@contextlib.contextmanager
def terminal(argv: Sequence[str], **options: Any) -> Iterator[Terminal]:
    """Run a program on a terminal of its own; it is killed at the end of the block."""
    one = Terminal(argv, **options)
    try:
        yield one
    finally:
        one.close()

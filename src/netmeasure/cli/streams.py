"""Make standard input, output and error usable, even if the caller has closed them."""

from __future__ import annotations

import io
import os
import sys


def open_all() -> None:
    """Open descriptors 0, 1 and 2 if the caller closed them.

    Otherwise the next opened file would become one of them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  (for the whole program)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() == "utf-8":
        # as standard error does: names of files and hosts may hold odd bytes, shown as "\xe9"
        sys.stdout.reconfigure(errors="backslashreplace")


def say_nothing_more() -> None:
    """Discard the data that are still buffered for standard output, since Python would write them
    again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

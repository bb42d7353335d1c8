"""Make standard input, output and error usable, whatever the program's caller did to them."""

from __future__ import annotations

import os
import sys


def open_all() -> None:
    """Open descriptors 0, 1 and 2 if the caller closed them.

    Otherwise the next file that is opened would be taken for one of them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  (for the whole program)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def say_nothing_more() -> None:
    """Discard what is still buffered for standard output: Python would write it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Standard input, output and error as the program needs them, whatever its caller made of them."""

from __future__ import annotations

import os
import sys


def open_all() -> None:
    """A caller may have closed 0, 1 or 2; the next descriptor opened would then be taken for it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  (for the whole program)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def say_nothing_more() -> None:
    """Send what is still buffered to nowhere, or Python would try it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

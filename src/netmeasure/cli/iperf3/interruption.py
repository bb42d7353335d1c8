"""Signals that end a test, and what is said of them."""

from __future__ import annotations

import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def sentence(end: str, number: signal.Signals) -> str:
    """`end` is "client" or "server"."""
    words = signal.strsignal(number)
    return f"interrupt - the {end} has terminated by signal {words}({number.value})"

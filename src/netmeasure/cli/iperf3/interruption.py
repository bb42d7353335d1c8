"""List the signals that end a test, and make the sentence about them."""

from __future__ import annotations

import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def sentence(end: str, number: signal.Signals) -> str:
    """Return the sentence on a signal that ended this end: "client" or "server"."""
    words = signal.strsignal(number)
    return f"interrupt - the {end} has terminated by signal {words}({number.value})"

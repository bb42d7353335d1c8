"""Signals before a command has handlers of its own, and the duties of process 1 of a container.

The kernel drops SIGTERM and SIGINT for process 1 while it has no handler for them: a container that
is stopped while it starts would wait to be killed. So there is one before anything else is loaded.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextmanager
def handled(words: Sequence[str]) -> Iterator[None]:
    """While a command has no handlers yet, SIGINT and SIGTERM end the process at once, which has
    begun nothing by then. A server that is told to end has done what it was to do: exit code 0,
    which iperf3 has for its clients as well.
    """
    fine = words[:1] in (["server"], ["iperf3"])

    def end(number: int, _: FrameType | None) -> None:
        os._exit(0 if fine else _CODES[signal.Signals(number)])

    before = {number: signal.signal(number, end) for number in _CODES}
    if os.getpid() == 1:
        # orphans of the whole container are our children: the kernel is to bury them
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

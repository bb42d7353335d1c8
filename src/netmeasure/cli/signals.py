"""Handle signals before a command does, and perform the duties of process 1 of a container.

The kernel drops SIGTERM and SIGINT for process 1 while it has no handler for them: a container that
is stopped during its start would run until it is killed. So a handler is set before any other
import.
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
    """End the process at once on SIGINT and SIGTERM while the block runs.

    A command that has begun a test has handlers of its own. The exit code is 0 for a server, which
    is always ended by a signal, and for iperf3, which has 0 for its clients as well.
    """
    fine = words[:1] in (["server"], ["iperf3"])

    def end(number: int, _: FrameType | None) -> None:
        os._exit(0 if fine else _CODES[signal.Signals(number)])

    before = {number: signal.signal(number, end) for number in _CODES}
    if os.getpid() == 1:
        # orphans of the whole container become children of this process: let the kernel reap them
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

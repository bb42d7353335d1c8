"""Change a server's own process: its background, its pid file and its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def detach() -> None:
    """Continue in the background, in a new session, without the caller's pipes.

    Returns in the surviving process only; the working directory stays. Must be called before there
    are threads or an event loop.
    """
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    if os.fork() > 0:
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    if nowhere > 2:
        os.close(nowhere)


def another_lives(path: str | None) -> bool:
    """Return whether the pid file exists and names a process that runs."""
    if path is None:
        return False
    with suppress(OSError, ValueError, OverflowError), open(path) as file:
        number = int(file.read(32).strip("\0 \n"))
        return number > 0 and number != os.getpid() and _lives(number)
    return False


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Keep this process's number in a file while the block runs. Raises OSError.

    Only a regular file is removed in the end: where the program runs as root, `-I /dev/null` must
    not take the device from the whole machine, as in iperf3.
    """
    if path is None:
        yield
        return
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    absolute = os.path.abspath(path)
    try:
        yield
    finally:
        if os.path.isfile(absolute):
            with suppress(OSError):
                os.unlink(absolute)


def rename() -> None:
    """Set the name by which pgrep, killall and ss know this process.

    A script called `iperf3` has that name already; with `python -m netmeasure` it would be python.
    """
    with suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write("iperf3")

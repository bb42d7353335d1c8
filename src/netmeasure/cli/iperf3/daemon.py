"""What a server does to its own process: the background, the pid file, the name, the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def detach() -> None:
    """Go on in the background: a session of its own, the caller's pipes let go. Returns in the
    surviving process only; the directory stays. Before there are threads or an event loop."""
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
    """The pid file is there and names a process that lives."""
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
    """This process's number in a file, as long as the block lasts. Raises OSError."""
    if path is None:
        yield
        return
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    absolute = os.path.abspath(path)
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(absolute)


def rename() -> None:
    """The name by which pgrep, killall and ss know this process. Where the kernel ran a script
    `iperf3` it has that name; behind `python -m netmeasure` it would be python."""
    with suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write("iperf3")

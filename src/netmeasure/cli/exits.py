"""Define exit codes, and print errors as one line. docs/reference/exit-codes.md is for users."""

from __future__ import annotations

import shutil
import sys
import textwrap
from enum import IntEnum

from netmeasure.errors import (
    BusyError,
    ConnectError,
    FileRefusedError,
    HostLimitError,
    MeasureError,
    NameNotFoundError,
    NetmeasureError,
    PeerRefusedError,
    ProtocolError,
    ResultFormatError,
    ServeError,
    SocketOptionError,
    SpecError,
)


class Exit(IntEnum):
    """Name the exit codes."""

    OK = 0  # the test is complete
    FAILED = 1  # something else went wrong
    USAGE = 2  # a wrong option or value; nothing was started
    NO_CONNECTION = 3  # name not found, refused, timed out, no route, bad local address or option
    NOT_A_SERVER = 4  # the peer does not speak the protocol, or refuses this test or file
    BUSY = 5  # the server has no room for another test
    CUT_SHORT = 6  # the test began and broke off; what was measured was printed
    CANT_LISTEN = 7  # the server can't have its port
    BELOW = 8  # --slo: an objective is missed; compare --fail-below: B carries too little
    CANT_TELL = 9  # the same: too few runs, or they scatter too much, or a figure is not known
    HOST_LIMIT = 10  # this host has no descriptors, threads or memory left for the test
    HOLE = 11  # path: long packets are dropped, and no router reports it
    MOVED = 12  # history check: a figure changed its level, and nobody has acknowledged it
    INTERRUPTED = 130  # SIGINT; what was measured was printed
    TERMINATED = 143  # SIGTERM; what was measured was printed


#: The phases of an error that broke a test off, and not its set-up.
_OF_THE_TEST = ("data", "results")


def exit_code(error: NetmeasureError) -> Exit:
    """Return the exit code for an error that ended a command."""
    if isinstance(error, SpecError | ResultFormatError):
        return Exit.USAGE
    if isinstance(error, ServeError):
        return Exit.CANT_LISTEN
    if isinstance(error, HostLimitError):
        return Exit.HOST_LIMIT
    if isinstance(error, BusyError):
        return Exit.BUSY
    if isinstance(error, FileRefusedError):
        return Exit.NOT_A_SERVER
    if isinstance(error, MeasureError) and error.result is not None and error.result.flows:
        return Exit.CUT_SHORT
    if isinstance(error, NameNotFoundError | ConnectError | SocketOptionError):
        return Exit.NO_CONNECTION
    if isinstance(error, ProtocolError | PeerRefusedError):
        return Exit.NOT_A_SERVER
    if isinstance(error, MeasureError) and error.phase in ("resolve", "connect"):
        return Exit.NO_CONNECTION
    if isinstance(error, MeasureError) and error.phase not in (*_OF_THE_TEST, None):
        return Exit.NOT_A_SERVER  # a step of set-up that the peer did not take
    return Exit.CUT_SHORT if isinstance(error, MeasureError) else Exit.FAILED


def code_of_many(held: Exit, failed: Exit) -> Exit:
    """Return the exit code of many runs: an objective that is missed counts more than runs that
    failed, and these more than one that can't be told.

    Args:
        held: What the objectives say: OK, BELOW or CANT_TELL.
        failed: The code of the runs that failed; OK: none did.
    """
    return held if held is Exit.BELOW else failed or held


def complain(error: NetmeasureError) -> None:
    """Print what is wrong and what to do, in one line on standard error."""
    tell(error.advice)


def tell(words: str) -> None:
    """Print words on standard error: on one line, which a terminal gets broken between words."""
    line = f"netmeasure: {words}"
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
    sys.stderr.write(f"{line}\n")


#: What Python and the dynamic linker say where memory, or a thread, can't be had.
_LACKS = ("failed to map", "cannot allocate memory", "can't start new thread")


def exhaustion(error: ImportError | MemoryError | RuntimeError) -> HostLimitError | None:
    """Return the error of a host without memory or threads that another error stands for, None
    where it stands for something else."""
    words = str(error).strip().rpartition("\n")[-1]
    if not isinstance(error, MemoryError) and not any(one in words.lower() for one in _LACKS):
        return None
    what = words.rpartition(": ")[-1]
    return HostLimitError(
        f"this host has no memory left for the program{f': {what}' if what else ''}",
        hint="raise `ulimit -v`, or the memory of the control group",
    )

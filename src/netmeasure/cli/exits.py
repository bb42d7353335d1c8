"""Define exit codes, and print errors as one line. docs/reference/exit-codes.md is for users."""

from __future__ import annotations

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


#: The phases of errors after set-up, which end a test that had begun.
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
        return Exit.NOT_A_SERVER  # the peer did not take a step of set-up
    return Exit.CUT_SHORT if isinstance(error, MeasureError) else Exit.FAILED


def code_of_many(held: Exit, failed: Exit) -> Exit:
    """Return the exit code of many runs. A missed objective takes precedence over failed runs, and
    these over an unknown objective.

    Args:
        held: The outcome of the objectives: OK, BELOW or CANT_TELL.
        failed: The code of the failed runs; OK: none failed.
    """
    return held if held is Exit.BELOW else failed or held


def complain(error: NetmeasureError) -> None:
    """Print an error and its hint on one line on standard error."""
    tell(error.advice)


def tell(words: str) -> None:
    """Print a text on standard error: on one line, or wrapped between words on a terminal."""
    line = f"netmeasure: {words}"
    if sys.stderr.isatty():
        import shutil

        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
    sys.stderr.write(f"{line}\n")


#: The messages of Python and the dynamic linker if there is no memory or no thread.
_LACKS = ("failed to map", "cannot allocate memory", "can't start new thread")
#: What CPython itself says where it has lost a MemoryError on its way, as its import does.
_LOST = ("without exception set", "without setting an exception")


def exhaustion(
    error: ImportError | MemoryError | RuntimeError | SystemError,
) -> HostLimitError | None:
    """Return the HostLimitError that another error means; None: it does not mean a lack of memory
    or threads."""
    words = str(error).strip().rpartition("\n")[-1]
    if isinstance(error, SystemError):
        if not any(one in words for one in _LOST):
            return None
        words = ""
    elif not isinstance(error, MemoryError) and not any(one in words.lower() for one in _LACKS):
        return None
    what = words.rpartition(": ")[-1]
    return HostLimitError(
        f"this host has no memory left for the program{f': {what}' if what else ''}",
        hint="raise `ulimit -v`, or the memory of the control group",
    )

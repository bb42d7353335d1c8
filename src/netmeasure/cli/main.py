"""Parse, choose the command, run it on uvloop, turn errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import uvloop

from netmeasure.cli import ceiling, client, options, server
from netmeasure.cli.exits import Exit, complain, exit_code
from netmeasure.errors import NetmeasureError


def main(argv: Sequence[str] | None = None) -> int:
    """The whole program; returns the exit code."""
    _open_standard_streams()
    try:
        chosen = options.parser().parse_args(argv)
    except SystemExit as exc:  # argparse has said why
        return exc.code if isinstance(exc.code, int) else Exit.USAGE
    command = {
        "ceiling": ceiling.ceiling,
        "client": client.client,
        "loopback": client.loopback,
        "server": server.server,
    }[chosen.command]
    try:
        code = uvloop.run(command(chosen))
        sys.stdout.flush()
    except NetmeasureError as exc:
        complain(exc)
        return exit_code(exc)
    except KeyboardInterrupt:  # before the command had its own handlers
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _say_nothing_more()  # whoever read our output has left
        return Exit.FAILED
    except OSError as exc:  # a full disk under our own output: the library's errors are not these
        _say_nothing_more()
        complain(NetmeasureError(f"can't write the output: {exc.strerror}"))
        return Exit.FAILED
    return code


def _open_standard_streams() -> None:
    """A caller may have closed 0, 1 or 2; the next descriptor opened would then be taken for it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  (for the whole program)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _say_nothing_more() -> None:
    """Send what is still buffered to nowhere, or Python would try it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Parse, choose the command, run it on uvloop, turn errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import uvloop

from netmeasure.cli import client, options, server
from netmeasure.cli.exits import Exit, complain, exit_code
from netmeasure.errors import NetmeasureError


def main(argv: Sequence[str] | None = None) -> int:
    """The whole program; returns the exit code."""
    try:
        chosen = options.parser().parse_args(argv)
    except SystemExit as exc:  # argparse has said why
        return exc.code if isinstance(exc.code, int) else Exit.USAGE
    command = {
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
        # whoever read our output has left; nothing more can be said, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    return code

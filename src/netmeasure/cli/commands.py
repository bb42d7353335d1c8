"""netmeasure's own commands: parse, choose, run on uvloop, turn errors into one line and an exit
code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import uvloop

from netmeasure.cli import ceiling, client, compare, options, server, streams
from netmeasure.cli.exits import Exit, complain, exit_code
from netmeasure.errors import NetmeasureError


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    try:
        chosen = options.parser().parse_args(argv)
    except SystemExit as exc:  # argparse has said why
        return exc.code if isinstance(exc.code, int) else Exit.USAGE
    command = {
        "ceiling": ceiling.ceiling,
        "client": client.client,
        "compare": compare.compare,
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
        streams.say_nothing_more()  # whoever read our output has left
        return Exit.FAILED
    except OSError as exc:  # a full disk under our own output: the library's errors are not these
        streams.say_nothing_more()
        complain(NetmeasureError(f"can't write the output: {exc.strerror}"))
        return Exit.FAILED
    return code

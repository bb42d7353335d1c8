"""Run netmeasure's own commands on uvloop, and convert errors to one line and an exit code."""

from __future__ import annotations

import argparse
import errno
import resource
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from netmeasure.cli import options, streams
from netmeasure.cli.collector import collect_again
from netmeasure.cli.exits import Exit, complain, exhaustion, exit_code
from netmeasure.errors import HostLimitError, NetmeasureError
from netmeasure.units import size

#: Commands that measure or serve, which need more memory than the interpreter alone.
_MEASURING = ("client", "compare", "loopback", "mesh", "server", "suite")
#: Commands that run for long and must stay small.
_SERVING = ("exporter", "mesh", "server")
_EXHAUSTED = (errno.EMFILE, errno.ENFILE)
#: The address space that any command takes. With less, the interpreter or a library may end in a
#: crash while modules are imported. `room` checks what tests take.
_PROGRAM_BYTES = 48 * 2**20


def main(argv: Sequence[str]) -> int:
    """Run one command; return the exit code."""
    try:
        _check_address_space()
        chosen = options.parser(list(argv)).parse_args(argv)
    except NetmeasureError as exc:
        complain(exc)
        return exit_code(exc)
    except SystemExit as exc:  # argparse has printed the reason
        return exc.code if isinstance(exc.code, int) else Exit.USAGE
    try:
        code = _run(chosen)
        sys.stdout.flush()
    except NetmeasureError as exc:
        complain(exc)
        return exit_code(exc)
    except KeyboardInterrupt:  # before the command had its own handlers
        return Exit.INTERRUPTED
    except BrokenPipeError:
        streams.say_nothing_more()  # the reader of the output has closed the pipe
        return Exit.FAILED
    # an error of the output, such as a full disk: the library's errors have their own types
    except OSError as exc:
        if exc.errno in _EXHAUSTED:
            complain(HostLimitError(f"this host has no descriptors left: {exc.strerror}"))
            return Exit.HOST_LIMIT
        if exc.errno == errno.ENOMEM and (lack := exhaustion(MemoryError(exc.strerror))):
            complain(lack)  # a module could not be read
            return Exit.HOST_LIMIT
        streams.say_nothing_more()
        complain(NetmeasureError(f"can't write the output: {exc.strerror}"))
        return Exit.FAILED
    except (ImportError, MemoryError, RuntimeError, SystemError) as exc:
        if (lack := exhaustion(exc)) is None:
            raise
        complain(lack)
        return Exit.HOST_LIMIT
    return code


def _check_address_space() -> None:
    """Raise HostLimitError if the address space is too small for any command (ulimit -v)."""
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY and most < _PROGRAM_BYTES:
        raise HostLimitError(
            f"this host has {size(most)} of address space (ulimit -v), and the program takes"
            f" {size(_PROGRAM_BYTES)}",
            hint="raise `ulimit -v`",
        )


def _run(chosen: argparse.Namespace) -> int:
    if chosen.command == "probe":
        from netmeasure.cli.probe import probe

        return probe(chosen)
    if chosen.command == "history":
        from netmeasure.cli.history import history

        return history(chosen)
    if chosen.command in _MEASURING:
        from netmeasure.cli.room import check_room

        ways = 2 if getattr(chosen, "direction", None) == "both" else 1
        check_room(ways * (getattr(chosen, "streams", None) or 1))
    import uvloop

    command = _coroutine(chosen.command)
    collect_again(seldom=chosen.command not in _SERVING)
    return uvloop.run(command(chosen))


def _coroutine(command: str) -> Callable[[argparse.Namespace], Coroutine[Any, Any, int]]:
    if command == "server":
        from netmeasure.cli.server import server

        return server
    if command == "completion":
        from netmeasure.cli.completion import completion

        return completion
    if command == "exporter":
        from netmeasure.cli.exporter import exporter

        return exporter
    if command == "ready":
        from netmeasure.cli.ready import ready

        return ready
    if command == "path":
        from netmeasure.cli.path import path

        return path
    if command == "capacity":
        from netmeasure.cli.capacity import capacity

        return capacity
    if command == "ceiling":
        from netmeasure.cli.ceiling import ceiling

        return ceiling
    if command == "check":
        from netmeasure.cli.check import check

        return check
    if command in ("export", "report", "schema"):
        from netmeasure.cli import documents

        ways = {"export": documents.export, "report": documents.report}
        return ways.get(command, documents.print_schema)
    if command == "compare":
        from netmeasure.cli.compare import compare

        return compare
    if command == "k8s":
        from netmeasure.cli.k8s import k8s

        return k8s
    if command == "mesh":
        from netmeasure.cli.mesh import mesh

        return mesh
    if command == "node":
        from netmeasure.cli.node import node

        return node
    if command == "suite":
        from netmeasure.cli.suite import suite

        return suite
    from netmeasure.cli import client

    return client.loopback if command == "loopback" else client.client

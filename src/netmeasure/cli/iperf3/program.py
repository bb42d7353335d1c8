"""Run iperf3's command line, from its first word to the exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from netmeasure.cli import signals, streams
from netmeasure.cli.collector import collect_again, without_collector
from netmeasure.cli.exits import exhaustion
from netmeasure.cli.iperf3 import daemon, interruption, usage
from netmeasure.cli.iperf3.command_line import CommandLine, parse
from netmeasure.cli.iperf3.output import Output
from netmeasure.errors import HostLimitError, NetmeasureError, SpecError, UsageError

if TYPE_CHECKING:
    from netmeasure.cli.iperf3.service import Service
    from netmeasure.spec import PeerSpec

OK, FAILED = 0, 1


def script() -> int:
    """Run the installed command `netmeasure-iperf3`, under any name that is linked to it."""
    with signals.handled(["iperf3"]), without_collector():
        streams.open_all()
        return main(sys.argv[1:])


def main(words: Sequence[str]) -> int:
    """Run the program with the words after its name; return the exit code."""
    daemon.rename()
    try:
        settings = parse(words)
    except UsageError as exc:
        return _refuse(f"{exc}\n")
    except SpecError as exc:
        return _refuse(f"parameter error - {exc}\n")
    if settings.help or settings.version:
        sys.stdout.write(usage.help_text() if settings.help else usage.version_text())
        return OK
    return _run(settings)


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"iperf3: {sentence}\n{usage.SHORT_USAGE}")
    return FAILED


def _run(settings: CommandLine) -> int:
    _watch_signals(settings)
    try:
        return _serve_or_measure(settings)
    except HostLimitError as exc:
        return _leave(settings, f"error - {exc}")
    except (ImportError, MemoryError, RuntimeError, SystemError) as exc:
        if (lack := exhaustion(exc)) is None:
            raise
        return _leave(settings, f"error - {lack}")


def _serve_or_measure(settings: CommandLine) -> int:
    from netmeasure.cli.iperf3.service import service  # with these comes the engine
    from netmeasure.cli.iperf3.specs import client_spec
    from netmeasure.cli.room import check_room

    check_room()
    try:
        work = service(settings) if settings.server else client_spec(settings)
    except SpecError as exc:
        return _refuse(f"parameter error - {exc}\n")
    if settings.no_fq_socket_pacing and not settings.is_json:
        sys.stdout.write("Warning:  --no-fq-socket-pacing is deprecated\n")
    if settings.is_json and settings.format != "a":
        sys.stderr.write("warning: Report format (-f) flag ignored with JSON output (-J)\n")
    try:
        output = Output(settings)
    except OSError as exc:
        return _leave(settings, f"error - unable to open log file: {exc.strerror}")
    try:
        if daemon.another_lives(settings.pidfile):
            sys.stderr.write("iperf3: Another instance of iperf3 appears to be running\n")
            return FAILED
        if settings.affinity is not None:
            os.sched_setaffinity(0, {settings.affinity.here})
    except OSError as exc:
        return _leave(settings, f"error - unable to set CPU affinity: {exc.strerror}")
    if settings.daemon:
        daemon.detach()
    with ExitStack() as process:
        try:
            process.enter_context(daemon.pid_file(settings.pidfile))
        except OSError as exc:
            return _leave(settings, f"error - unable to write PID file: {exc.strerror}")
        code = _measure(settings, work, output)
    return FAILED if output.lost else code


def _watch_signals(settings: CommandLine) -> None:
    """Handle signals until the event loop does: a script may end a server that just started."""
    end = "server" if settings.server else "client"

    def leave(number: int, _: object) -> None:
        sys.stderr.write(f"iperf3: {interruption.sentence(end, signal.Signals(number))}\n")
        raise SystemExit(OK)

    for number in interruption.SIGNALS:
        signal.signal(number, leave)


def _leave(settings: CommandLine, sentence: str) -> int:
    sys.stderr.write(f"iperf3: {sentence}\n")
    if settings.server:
        sys.stderr.write("iperf3: exiting\n")
    return FAILED


def _measure(settings: CommandLine, work: PeerSpec | Service, output: Output) -> int:
    import uvloop

    from netmeasure.cli.iperf3.service import Service

    try:
        if isinstance(work, Service):
            from netmeasure.cli.iperf3 import server

            collect_again(seldom=False)
            return uvloop.run(server.server(settings, work, output))
        from netmeasure.cli.iperf3 import client

        collect_again(seldom=True)
        return uvloop.run(client.client(settings, work, output))
    except KeyboardInterrupt:  # before the test or server started
        return OK
    except NetmeasureError as exc:  # an error of another kind than those of tests and servers
        output.complain(f"error - {exc}")
        return FAILED

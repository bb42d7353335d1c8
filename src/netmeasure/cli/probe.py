"""Run `netmeasure probe`: check whether a server answers.

The command is suitable for running every few seconds: it imports few modules and starts no test,
and a netmeasure server prints nothing about it.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from queue import Empty, SimpleQueue

from netmeasure.cli.exits import Exit, complain
from netmeasure.errors import NetmeasureError, SpecError
from netmeasure.protocol import PROBE, is_greeting
from netmeasure.spec.target import parse_target

#: The time for the thread to report its own timeout, which names the step; a look-up has no
#: timeout.
_GRACE_S = 0.05


def probe(options: argparse.Namespace) -> int:
    """Send a cookie that requests no test, and wait for an answer; return the exit code."""
    host, port = parse_target(options.target)
    if options.timeout <= 0:
        raise SpecError("the timeout is 0 s: it must be above 0")
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    start = time.monotonic()
    answers: SimpleQueue[tuple[Exit, str]] = SimpleQueue()
    # in a thread, since a look-up has no deadline; after the timeout the thread is abandoned
    threading.Thread(
        target=lambda: answers.put(_ask(host, port, options.timeout, tcp=options.tcp)), daemon=True
    ).start()
    try:
        code, words = answers.get(timeout=options.timeout + _GRACE_S)
    except Empty:
        code, words = Exit.NO_CONNECTION, f"no answer in {options.timeout:g} s"
    if code is Exit.OK:
        print(f"{where} {words} ({(time.monotonic() - start) * 1e3:.1f} ms)")
    else:
        complain(NetmeasureError(f"{where}: {words}"))
    return code


def _ask(host: str, port: int, timeout_s: float, *, tcp: bool) -> tuple[Exit, str]:
    """Return the exit code, and the finding as text."""
    deadline = time.monotonic() + timeout_s
    try:
        sock = socket.create_connection((host, port), timeout_s)
    except socket.gaierror as exc:
        return Exit.NO_CONNECTION, f"no such host: {exc.strerror}"
    except (OSError, UnicodeError) as exc:
        return Exit.NO_CONNECTION, f"can't connect: {getattr(exc, 'strerror', None) or exc}"
    with sock:
        if tcp:
            return Exit.OK, "accepts connections"
        try:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            sock.sendall(PROBE)
            answer = sock.recv(1)
        except TimeoutError:
            return Exit.NOT_A_SERVER, f"connected, but no answer in {timeout_s:g} s"
        except OSError as exc:
            return (
                Exit.NOT_A_SERVER,
                f"connected, but then the connection failed: {exc.strerror or exc}",
            )
    if not answer:
        return Exit.NOT_A_SERVER, "the connection was closed without an answer"
    if not is_greeting(answer):
        return Exit.NOT_A_SERVER, "another service answers there, not a measurement server"
    return Exit.OK, "answers"

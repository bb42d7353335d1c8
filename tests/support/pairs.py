"""Run a client and a server with iperf3's command line, the real programs or ours."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from support import iperf3, warm

REAL, OURS = iperf3.REAL, iperf3.OURS
DEADLINE_S = 40.0
END_S = 10.0
_ATTEMPTS = 5


class Outcome(NamedTuple):
    """Hold what one process printed (into its log file, if it has one), and how it ended."""

    output: str
    errors: str
    code: int | None


class Pair(NamedTuple):
    client: Outcome
    server: Outcome


def run(
    client: Sequence[str],
    server: Sequence[str],
    client_options: Sequence[str],
    server_options: Sequence[str] = (),
    host: str = "127.0.0.1",
) -> Pair:
    """Run one test on a server that serves a single test.

    In options, PORT is the server's port, FREE is a port that nothing uses, and DIR is the folder
    in which both run, with a file `data` of a million bytes.
    """
    for last in (*(False,) * (_ATTEMPTS - 1), True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "data").write_bytes(bytes(1_000_000))
            port = iperf3.free_port()
            try:
                return _run(client, server, client_options, server_options, host, folder, port)
            except _TakenError:  # another process has taken the port first
                if last:
                    raise
    raise AssertionError


class _TakenError(Exception):
    pass


def _run(
    client: Sequence[str],
    server: Sequence[str],
    client_options: Sequence[str],
    server_options: Sequence[str],
    host: str,
    folder: Path,
    port: int,
) -> Pair:
    def filled(options: Sequence[str]) -> list[str]:
        free = str(iperf3.free_port())
        return [
            word.replace("PORT", str(port)).replace("FREE", free).replace("DIR", str(folder))
            for word in options
        ]

    serving = _start(
        server, ["-s", "-1", "-p", str(port), *filled(server_options)], folder, "server"
    )
    try:
        if not iperf3.wait_listening(serving, port, DEADLINE_S):
            raise _TakenError((folder / "server.err").read_text())
        asking = _start(
            client, ["-c", host, "-p", str(port), *filled(client_options)], folder, "client"
        )
        try:
            asking.wait(DEADLINE_S)
            told = _outcome(folder, "client", asking.returncode)
        finally:
            _close(asking)
        return Pair(told, _outcome(folder, "server", _ended(serving)))
    finally:
        _close(serving)


def _start(
    program: Sequence[str], words: list[str], folder: Path, end: str
) -> subprocess.Popen[bytes]:
    """Start a program whose output goes to files that are named after its end of the test."""
    out, errors = folder / f"{end}.out", folder / f"{end}.err"
    with out.open("wb") as stdout, errors.open("wb") as stderr:
        return warm.start(
            [*program, *words], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=folder
        )


def _close(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _outcome(folder: Path, end: str, code: int | None) -> Outcome:
    printed = _text(folder / f"{end}.out") + _text(folder / f"{end}.log")
    return Outcome(printed, _text(folder / f"{end}.err"), code)


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit code; None if the program continued after its only test."""
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        return None


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""

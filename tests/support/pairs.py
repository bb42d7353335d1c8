"""A client and a server of iperf3's command line, the real one or ours, and what they did."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from support import iperf3

REAL, OURS = iperf3.REAL, iperf3.OURS
DEADLINE_S = 40.0
END_S = 10.0
_ATTEMPTS = 5


class Outcome(NamedTuple):
    """What one process printed (into its log file, where it was told so), and how it ended."""

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
    """One test, on a server that serves one. In options, PORT is the server's port, FREE a port
    that nobody has, DIR the folder in which both
    run, with a file of a million bytes, `data`."""
    for last in (*(False,) * (_ATTEMPTS - 1), True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "data").write_bytes(bytes(1_000_000))
            port = iperf3.free_port()
            try:
                return _run(client, server, client_options, server_options, host, folder, port)
            except _TakenError:  # somebody else was faster to take the port
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

    with (folder / "out").open("w+b") as out, (folder / "err").open("w+b") as err:
        process = subprocess.Popen(
            [*server, "-s", "-1", "-p", str(port), *filled(server_options)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=folder,
        )
        try:
            if not iperf3.Server(port, process, out).wait_listening(DEADLINE_S):
                raise _TakenError((folder / "err").read_text())
            ended = subprocess.run(
                [*client, "-c", host, "-p", str(port), *filled(client_options)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                cwd=folder,
                check=False,
            )
            code = _ended(process)
        finally:
            process.kill()
            process.wait()
    return Pair(
        Outcome(ended.stdout + _text(folder / "client.log"), ended.stderr, ended.returncode),
        Outcome(
            (folder / "out").read_text() + _text(folder / "server.log"),
            (folder / "err").read_text(),
            code,
        ),
    )


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code; None where it went on, though its one test was over."""
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        return None


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""

"""Start the processes that benchmarks compare: pinned, waited for until ready, ended afterwards."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

CLIENT_CPU, SERVER_CPU = "0", "1"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_listening(port: int, deadline_s: float = 10.0, *, pid: int | None = None) -> None:
    """Wait until a process listens on the port, by the kernel's table: a connect would count as a
    client.

    The table is that of a process's network namespace, if a process is given.
    """
    wanted = f":{port:04X}"
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        for table in ("tcp", "tcp6"):
            with open(f"/proc/{pid or 'self'}/net/{table}") as file:
                for line in file:
                    fields = line.split()
                    if fields[1].endswith(wanted) and fields[3] == "0A":
                        return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port} after {deadline_s:g} s")


def pinned(cpu: str, argv: Sequence[str]) -> tuple[str, ...]:
    return ("taskset", "-c", cpu, *argv)


@contextmanager
def running(argv: Sequence[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(
        pinned(SERVER_CPU, argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_listening(port)
        yield
    finally:
        process.terminate()
        process.wait()

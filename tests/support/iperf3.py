"""Run the real iperf3, as a server that is known to be ready or a client that reports faults."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from support import census, ports, warm
from support.netns import NamespacePair

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_IN_USE = "Address already in use"
_ATTEMPTS = 5
#: The program itself, and ours in its place.
REAL = ("iperf3",)
OURS = (sys.executable, "-m", "netmeasure", "iperf3")


def available() -> str | None:
    """Return why iperf3 can't be run here, or None."""
    return None if shutil.which("iperf3") else "iperf3 is not installed"


def version() -> tuple[int, int]:
    """Return the version of the real iperf3, such as (3, 18)."""
    printed = subprocess.run([*REAL, "--version"], capture_output=True, text=True, check=True)
    major, minor = printed.stdout.split()[1].split(".")[:2]
    return int(major), int(minor.rstrip("+abcdefghijklmnopqrstuvwxyz"))


@dataclass
class Server:
    """Hold a running `iperf3 -s`."""

    port: int
    process: subprocess.Popen[Any]
    _log: IO[bytes]

    @property
    def output(self) -> str:
        """Return everything that it has printed so far, including errors."""
        # pread, because iperf3 shares the file position and would continue to write from a moved
        # one
        descriptor = self._log.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()

    def wait_listening(self, deadline_s: float = 10.0) -> bool:
        """Wait until the server accepts connections: after the start, or again after a test.

        The state is read from /proc. A connection attempt would count as a client of iperf3.
        """
        return wait_listening(self.process, self.port, deadline_s)


class _Process(Protocol):
    """Describe what the functions here need of a process: `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...


def wait_listening(process: _Process, port: int, deadline_s: float = 10.0) -> bool:
    """Wait until a process accepts connections on a port; return whether it does."""

    def listens() -> bool:
        sockets = {f"socket:[{inode}]" for inode in _listeners(process.pid, port)}
        return bool(sockets) and not sockets.isdisjoint(_open_files(process.pid))

    def known() -> str | None:
        if process.poll() is not None:
            return "ended"
        return "listens" if listens() else None

    return census.settle(known, deadline_s) == "listens"


@contextlib.contextmanager
def server(
    network: NamespacePair | None = None,
    side: str = "server",
    *,
    one_off: bool = False,
    args: Sequence[str] = (),
    program: Sequence[str] = REAL,
) -> Iterator[Server]:
    """Run an iperf3 server that listens on a free port, on `side` of `network` or on this host."""
    options = [*(["-1"] if one_off else []), *args]
    with tempfile.TemporaryFile() as log:
        running = _start(network, side, [*program, "-s"], options, log)
        try:
            yield running
        finally:
            _end(running.process)


def _start(
    network: NamespacePair | None,
    side: str,
    program: Sequence[str],
    options: Sequence[str],
    log: IO[bytes],
) -> Server:
    """Start the server on some free port, and on another one if another process took the first."""
    running = None
    for _ in range(_ATTEMPTS):
        _empty(log)
        running = _launch(network, side, program, options, log)
        try:
            if running.wait_listening():
                return running
        except BaseException:
            _end(running.process)
            raise
        _end(running.process)
        if _IN_USE not in running.output:
            break
    raise AssertionError(f"iperf3 -s did not start: {running.output if running else ''}")


def _empty(log: IO[bytes]) -> None:
    """Delete what an earlier attempt wrote. The file position is shared with this process and
    stays."""
    os.lseek(log.fileno(), 0, os.SEEK_SET)
    os.ftruncate(log.fileno(), 0)


def _launch(
    network: NamespacePair | None,
    side: str,
    program: Sequence[str],
    options: Sequence[str],
    log: IO[bytes],
) -> Server:
    port = free_port(network, side)
    argv = [*program, "-p", str(port), "--forceflush", *options]
    where: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
    process = network.popen(side, argv, **where) if network else warm.start(argv, **where)
    return Server(port, process, log)


def free_port(network: NamespacePair | None = None, side: str = "server") -> int:
    """Return a port that is free on `side` of `network`, or on this host."""
    with network.enter(side) if network else contextlib.nullcontext():
        return ports.free_port()


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()


def _listeners(pid: int, port: int) -> Iterator[str]:
    """Return the inodes of the sockets that listen on `port` in the namespace of the process."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc", str(pid), "net", table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]


def _open_files(pid: int) -> Iterator[str]:
    directory = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                yield os.readlink(f"{directory}/{name}")


def client(
    host: str,
    port: int,
    *args: str,
    network: NamespacePair | None = None,
    side: str = "client",
    timeout: float = 60.0,
    check: bool = True,
) -> dict[str, Any]:
    """Run `iperf3 -c host -p port -J args` and return its JSON.

    With `check`, a failed test is an AssertionError. iperf3 3.12 exits with 0 even then, and only
    the key "error" shows the failure.
    """
    argv = ["iperf3", "-c", host, "-p", str(port), "-J", *args]
    if network:
        argv = network.command(side, argv)
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        report = {"error": f"no JSON: {done.stdout}"}
        check = True
    if check and (done.returncode != 0 or "error" in report):
        reason = f"{report.get('error', '')} {done.stderr}".strip()
        raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}: {reason}")
    return report

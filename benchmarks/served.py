"""Run `netmeasure server`, or the drop-in's server, for benchmarks: its port, its log, and what it
uses (from /proc)."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 2**20
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_READY_S = 30.0
_HERE = ("-B", "127.0.0.1")
#: What our server and iperf3's say when they listen.
_LISTENING = re.compile(r"listening on (?:\S+:)?(\d+)\b.*\n", re.IGNORECASE)


class Served:
    """Hold a running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log_lines(self) -> int:
        """Return how many lines the server has written to its log."""
        return len(self._log.read_bytes().splitlines())

    @property
    def rss_bytes(self) -> int:
        return self._status("VmRSS") * 1024

    @property
    def own_bytes(self) -> int:
        """Return the resident memory without the pages of files (RssAnon, proc(5))."""
        return self._status("RssAnon") * 1024

    @property
    def peak_bytes(self) -> int:
        """Return the most resident memory so far."""
        return self._status("VmHWM") * 1024

    def forget_peak(self) -> int:
        """Begin `peak_bytes` anew (clear_refs, proc(5)), and return the present resident memory."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.rss_bytes

    @property
    def wake_ups(self) -> int:
        """Return how often the server's present threads have waited for something and gone on."""
        count = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            words = (task / "status").read_text().split()
            count += int(words[words.index("voluntary_ctxt_switches:") + 1])
        return count

    @property
    def threads(self) -> int:
        return self._status("Threads")

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def cpu_s(self) -> float:
        """Return the CPU time that the server has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise SystemExit(f"the kernel does not report {name}")


@contextmanager
def serving(*words: str, python: str = sys.executable) -> Iterator[Served]:
    """Run a server on a free port of 127.0.0.1. `python` is that of another netmeasure."""
    with _running([python, "-m", "netmeasure", "server", *_HERE, "-p", "0", *words]) as server:
        yield server


@contextmanager
def serving_as_iperf3() -> Iterator[Served]:
    """Run the drop-in's server on a free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    command = [sys.executable, "-m", "netmeasure", "iperf3", "-s", "--forceflush"]
    with _running([*command, *_HERE, "-p", port]) as server:
        yield server


@contextmanager
def _running(command: list[str]) -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as folder:
        said, log = Path(folder, "out"), Path(folder, "log")
        with said.open("wb") as out, log.open("wb") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err)
        try:
            yield Served(process, _port(process, said, log), log)
        finally:
            process.terminate()
            process.wait()


def _port(process: subprocess.Popen[bytes], said: Path, log: Path) -> int:
    give_up = time.monotonic() + _READY_S
    while time.monotonic() < give_up and process.poll() is None:
        if found := _LISTENING.search(said.read_text()):
            return int(found[1])
        time.sleep(0.02)
    raise SystemExit(f"the server does not listen: {log.read_text()}")

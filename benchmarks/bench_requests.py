"""Compare netmeasure's HTTP requests per second with wrk's, with equal threads and connections.

The server is nginx with one worker and a file of 1 KiB, on loopback. netmeasure and wrk run
alternately, and nothing is pinned. Connections are kept, or each request has a new one. The last
case has the article's 12 threads and 400 connections.

    python -m benchmarks.bench_requests [--pairs N] [--time S] [--quick] [--json FILE]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench_origins import COLUMNS, MEMORY, FileSample, theirs
from benchmarks.common import Case, main
from benchmarks.processes import free_port, running
from netmeasure.result import Result

NAME = "1K.dat"
#: (threads, connections, whether connections are kept)
SHAPES = ((1, 1, True), (2, 100, True), (2, 100, False), (12, 400, True))


def wrk(url: str, seconds: float, threads: int, connections: int, *, keep: bool) -> FileSample:
    words = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{round(seconds)}s", url]
    if not keep:
        words += ["-H", "Connection: close"]
    ran = subprocess.run(words, capture_output=True, check=True, text=True)
    rate = float(ran.stdout.partition("Requests/sec:")[2].split()[0])
    return FileSample(rate * seconds / 1000, seconds)


def ours(url: str, seconds: float, threads: int, connections: int, *, keep: bool) -> FileSample:
    """Return the responses over the whole time, as wrk counts them, not the steady rate."""
    words = [sys.executable, "-m", "netmeasure", "client", url, "--requests", "--json"]
    words += ["-t", str(round(seconds)), "-P", str(connections), "--threads", str(threads)]
    ran = subprocess.run([*words, *([] if keep else ["--fresh"])], capture_output=True, check=True)
    trips = Result.from_json(ran.stdout).round_trips
    assert trips is not None
    return FileSample(trips.transactions / 1000, round(seconds))


def _case(root: Path, files: Path, seconds: float, shape: tuple[int, int, bool]) -> Case:
    threads, connections, keep = shape

    def measured(ask: Callable[..., FileSample]) -> FileSample:
        port = free_port()
        with running(theirs("http", port, root, files), port):
            url = f"http://127.0.0.1:{port}/{NAME}"
            return ask(url, seconds, threads, connections, keep=keep)

    name = f"{threads} threads, {connections} connections, {'kept' if keep else 'fresh'}"
    return Case(name, lambda: measured(ours), lambda: measured(wrk), target=1.0)


def make_cases(root: Path, seconds: float) -> list[Case]:
    files = root / "files"
    files.mkdir()
    (files / NAME).write_bytes(bytes(1024))
    for path, mode in ((root, 0o755), (files, 0o555)):
        path.chmod(mode)
    return [_case(root, files, max(1.0, seconds), shape) for shape in SHAPES]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        main(__doc__, lambda seconds: make_cases(Path(directory), seconds), COLUMNS)

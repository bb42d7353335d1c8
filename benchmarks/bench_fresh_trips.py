"""Compare transactions on fresh connections (`--crr`) with those of a plain C loop.

The plain loop (`plain_crr.c`) opens one connection at a time with blocking calls, on loopback; so
does netmeasure in the first cases. Both run alternately, each with a server of its own in another
process; the client is on CPU 0, the server on CPU 1. The other cases compare more connections with
the same plain loop.

    python -m benchmarks.bench_fresh_trips [--pairs N] [--time S] [--quick] [--json FILE]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import Case, Column, Sample, main
from benchmarks.processes import CLIENT_CPU, free_port, pinned, running
from netmeasure.result import Result

SOURCE = Path(__file__).with_name("plain_crr.c")
#: (connections at a time, bytes of a request, bytes of a response, the ratio to reach)
SHAPES = ((1, 1, 1, 0.95), (1, 100, 4096, 0.95), (16, 1, 1, None), (100, 1, 1, None))


class TripSample(Sample, frozen=True):
    """Hold the transactions of one run."""

    transactions: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.transactions / self.seconds


COLUMNS: list[Column] = [("transactions/s", 0, lambda sample: sample.rate)]


def compiled(folder: Path) -> Path:
    """Return the plain loop's program."""
    program = folder / "plain_crr"
    subprocess.run(["cc", "-O2", "-o", str(program), str(SOURCE)], check=True)
    return program


def plain(program: Path, seconds: float, request: int, response: int) -> TripSample:
    words = [str(program), "127.0.0.1", f"{seconds:g}", str(request), str(response)]
    ran = subprocess.run(words, capture_output=True, check=True)
    found = json.loads(ran.stdout)
    return TripSample(found["transactions"], found["seconds"])


def ours(seconds: float, connections: int, request: int, response: int) -> TripSample:
    """Return the transactions over the whole time, as the plain loop counts them."""
    port = free_port()
    program = [sys.executable, "-m", "netmeasure"]
    with running([*program, "server", "-B", "127.0.0.1", "-p", str(port)], port):
        words = [*program, "client", "127.0.0.1", "-p", str(port), "--crr", "--json", "-t"]
        words += [f"{seconds:g}", "-P", str(connections)]
        words += ["--request-size", str(request), "--response-size", str(response)]
        ran = subprocess.run(pinned(CLIENT_CPU, words), capture_output=True, check=True)
    trips = Result.from_json(ran.stdout).round_trips
    assert trips is not None
    return TripSample(trips.transactions, seconds)


def _case(program: Path, seconds: float, shape: tuple[int, int, int, float | None]) -> Case:
    connections, request, response, target = shape
    return Case(
        f"{connections} at a time, {request} bytes there and {response} back",
        lambda: ours(seconds, connections, request, response),
        lambda: plain(program, seconds, request, response),
        target=target,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        main(
            __doc__,
            lambda seconds: [_case(compiled(Path(directory)), seconds, one) for one in SHAPES],
            COLUMNS,
        )

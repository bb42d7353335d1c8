"""Show how much a large test delays the handshakes of other tests on the same server.

A server runs on plain asyncio. A client in another process runs a test of 128 streams, and a third
process runs small tests one after the other. The program prints the control phases of the small
tests, alone and beside the large one, and the longest steps of the server's event loop. Steps are
measured by the CPU time of the loop's thread, which does not depend on other programs.

    python -m benchmarks.bench_handshake
    python -m benchmarks.bench_handshake --streams 32 --direction download
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import netmeasure as nm

ALONE = 30
#: Shorter steps are not listed.
NOTED_NS = 1_000_000
LISTED = 10
_SMALL = """
import asyncio, sys, netmeasure as nm
spec = nm.TcpSpec(timing=nm.Timing(total_bytes=1000))
async def main():
    while True:
        result = await nm.measure(sys.argv[1], spec)
        print(sum(p.duration_ns for p in result.setup if p.name == "control"), flush=True)
asyncio.run(main())
"""


@contextmanager
def steps_timed() -> Iterator[list[tuple[int, str]]]:
    """Record (CPU time in ns, place in the code) of each long step of this thread's event loop."""
    noted: list[tuple[int, str]] = []
    handles: Any = asyncio.events.Handle
    original = handles._run

    def run(handle: Any) -> None:
        callback, begun = handle._callback, time.thread_time_ns()
        original(handle)
        took = time.thread_time_ns() - begun
        if took >= NOTED_NS:
            noted.append((took, _where(callback)))

    handles._run = run
    try:
        yield noted
    finally:
        handles._run = original


def _where(callback: Any) -> str:
    """Return the functions in which a task waits after a step, or the name of a callback."""
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return getattr(callback, "__qualname__", repr(callback))
    names: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        names.append(getattr(awaited, "__qualname__", type(awaited).__name__))
        awaited = getattr(awaited, "cr_await", None)
    return " > ".join(names[-3:])


async def measured(streams: int, direction: str) -> None:
    """Run the tests and print what was found."""
    large = ["-P", str(streams), "-t", "2", "-b", "1M", "-d", direction]
    async with nm.serve("127.0.0.1", 0) as server:
        small = await create_subprocess_exec(
            sys.executable, "-c", _SMALL, server.address, stdout=PIPE
        )
        assert small.stdout is not None
        try:
            alone = [int(await small.stdout.readline()) for _ in range(ALONE)]
            with steps_timed() as steps:
                beside: list[int] = []
                client = await create_subprocess_exec(
                    sys.executable, "-m", "netmeasure", "client", server.address, *large,
                    stdout=DEVNULL,
                )  # fmt: skip
                end = asyncio.create_task(client.wait())
                while not end.done():
                    beside.append(int(await small.stdout.readline()))
        finally:
            small.kill()
            await small.wait()
    print(f"{streams} streams, {direction}: exit code {end.result()}")
    for name, times in (("alone", alone), (f"beside {streams} streams", beside)):
        print(
            f"control phase {name}: median {statistics.median(times) / 1e6:.1f} ms,"
            f" longest {max(times) / 1e6:.1f} ms, of {len(times)}"
        )
    print("longest steps of the server's event loop (CPU time):")
    for took, where in sorted(steps, reverse=True)[:LISTED]:
        print(f"  {took / 1e6:6.1f} ms  {where}")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=128)
    parser.add_argument("--direction", choices=("upload", "download", "both"), default="upload")
    options = parser.parse_args()
    asyncio.run(measured(options.streams, options.direction))


if __name__ == "__main__":
    main()

"""Use one server in every way at once, round after round, and test that nothing is kept.

`make soak` does the same for an hour, and looks at resident memory. Here the objects are counted,
whatever else the machine does: those of the package, with the tasks, sockets and errors that could
hold them, and all blocks of Python's allocator.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from subprocess import DEVNULL
from types import FrameType, TracebackType
from typing import NamedTuple

import uvloop
from benchmarks.bench_soak import KILLED_S, Use

import netmeasure as nm
from netmeasure.analysis import approach, confidence
from support import warm
from support.waiting import until

#: The first rounds load modules and fill caches. Of the others, the first and the last are
#: compared, several of each, since caches and timers hold some objects for a while.
WARM_UP, ROUNDS, EACH_END = 2, 8, 3
#: The least that a kept test or fault has of Python's blocks and, in native code, of memory: a
#: session has hundreds of objects, and a time series is larger. Caches fill more slowly.
LEAST_BLOCKS, LEAST_BYTES = 10, 8192
#: Objects that hold others if they are kept.
HOLDERS = (asyncio.Future, BaseException, FrameType, TracebackType, socket.socket, threading.Thread)


class _Mallinfo(ctypes.Structure):
    """Describe struct mallinfo2 (mallinfo(3))."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


class Kept(NamedTuple):
    """Hold what this process, with the server and the clients, has at a moment."""

    instances: Counter[str]
    blocks: int
    native_bytes: int
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Kept:
        for cache in (confidence._cosines, approach._approaches, approach._levels):
            cache.cache_clear()  # matrices for a few lengths of series, which differ by chance
        gc.collect()
        libc = ctypes.CDLL(None)
        libc.mallinfo2.restype = _Mallinfo
        found = libc.mallinfo2()
        return cls(
            instances=Counter(_name(one) for one in gc.get_objects() if _counts(one)),
            blocks=sys.getallocatedblocks(),
            native_bytes=int(found.uordblks),
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=len(os.listdir("/proc/self/task")),
        )


def _name(one: object) -> str:
    return f"{type(one).__module__}.{type(one).__name__}"


def _counts(one: object) -> bool:
    # a type whose instances have a module of their own has an attribute there: Cython's metatypes
    of = type(one).__module__
    package = of.partition(".")[0] if isinstance(of, str) else ""
    return isinstance(one, HOLDERS) or package == "netmeasure"


class Soak(Use):
    """Use a server of this process."""

    def __init__(self, server: nm.Server) -> None:
        super().__init__("127.0.0.1", server.port)
        self._server = server

    async def idle(self) -> None:
        """Wait until no connection and no test is left."""
        server = self._server
        await until(lambda: not server._connections._tasks and not server.active_tests)

    async def _kill(self) -> None:
        """Kill a client as soon as its data have come."""
        words = ("client", f"{self.host}:{self.port}", "-t", str(KILLED_S), "-b", "10M")
        with warm.start([*warm.PROGRAM, *words], stdout=DEVNULL, stderr=DEVNULL) as process:
            try:
                await until(self._has_data_to_the_killed)
            finally:
                process.kill()
        self.faults += 1

    def _has_data_to_the_killed(self) -> bool:
        for session in self._server._sessions:
            agreed, workload = session._agreement, session._workload
            if agreed is not None and agreed.spec.timing.duration_s == KILLED_S:
                return workload is not None and workload.moved_bytes() > 0
        return False


def test_objects_of_other_libraries_do_not_upset_the_count() -> None:
    """ruptures loads such a type, and any test of this process may have loaded ruptures."""
    odd, mine = type("Odd", (), {"__module__": property(str)})(), nm.TcpSpec()
    assert not isinstance(type(odd).__module__, str)
    assert not _counts(odd)
    assert _counts(mine)


def test_nothing_is_kept_of_tests_kills_and_faults(
    record_property: Callable[[str, object], None],
) -> None:
    """On uvloop, as the program does: asyncio keeps cancelled timers until they are due."""

    async def main() -> tuple[list[Kept], int]:
        limits = nm.ServerLimits(max_tests=64, max_tests_per_address=64)
        async with nm.serve("127.0.0.1", 0, limits=limits) as server:
            soak, kept = Soak(server), list[Kept]()
            for _ in range(WARM_UP + ROUNDS):
                await soak.round()
                await soak.idle()
                kept.append(Kept.now())
            assert soak.errors == []
            return kept[WARM_UP:], (soak.tests + soak.faults) // (WARM_UP + ROUNDS)

    with warm.imported(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        kept, uses_each = loop.run(main())
    first, last, uses = kept[:EACH_END], kept[-EACH_END:], uses_each * (ROUNDS - EACH_END)

    def more(count: Callable[[Kept], int]) -> int:
        """Return by how much each of the last rounds has more than each of the first."""
        return min(map(count, last)) - max(map(count, first))

    def of(name: str) -> Callable[[Kept], int]:
        return lambda one: one.instances[name]

    blocks, native_bytes = more(lambda one: one.blocks), more(lambda one: one.native_bytes)
    found = f"{blocks} more blocks and {native_bytes} more bytes after {uses} tests and faults"
    record_property("figure", found)
    names = set().union(*(one.instances for one in last))
    assert [name for name in names if more(of(name)) > 0] == []
    assert more(lambda one: one.descriptors) <= 0
    assert more(lambda one: one.threads) <= 0
    assert blocks < uses * LEAST_BLOCKS
    assert native_bytes < uses * LEAST_BYTES

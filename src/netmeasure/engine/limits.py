"""Read the resource limits of this process, and compute how many tests they permit."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Literal, NamedTuple

from netmeasure.engine.cgroups import Cgroup

#: The resources of a test of one stream at a server: its control connection, its stream, and the
#: memory that a large message needs temporarily.
TEST_DESCRIPTORS, TEST_THREADS, TEST_BYTES = 4, 2, 2**20
#: The memory of each stream at either end: the stack of its thread, its time series, its part of a
#: result.
STREAM_BYTES = 320 * 2**10
#: The resources of the server itself, with its modules loaded.
SERVER_DESCRIPTORS, SERVER_THREADS, SERVER_BYTES = 32, 4, 128 * 2**20

#: The kernel's table of tracked connections (nf_conntrack-sysctl.rst), and from which part of it on
#: it may have been full shortly before: its entries end after a while.
CONNTRACK, NEARLY_FULL = Path("/proc/sys/net/netfilter"), 0.9

Resource = Literal["file descriptors", "threads", "memory"]


class Bound(NamedTuple):
    """Hold one limit of this process: the resource, the setting that limits it, and its value (of
    memory, in bytes)."""

    what: Resource
    source: str
    value: int
    #: concurrent tests of one stream that the limit permits
    tests: int


def raise_descriptor_limit() -> None:
    """Raise this process's limit of open descriptors to the hard limit (RLIMIT_NOFILE,
    getrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass  # the limit stays as it is, and is reported so


def bounds(cgroup: Cgroup | None = None) -> list[Bound]:
    """Return the known limits of this process, ordered by the number of tests that they permit."""
    group = (cgroup or Cgroup()).read()
    descriptors = _limit(resource.RLIMIT_NOFILE)
    # the kernel does not apply RLIMIT_NPROC to root
    threads = _limit(resource.RLIMIT_NPROC) if os.geteuid() else None
    space = _limit(resource.RLIMIT_AS)
    found = [
        _bound("file descriptors", "ulimit -n", descriptors, SERVER_DESCRIPTORS, TEST_DESCRIPTORS),
        _bound("threads", "ulimit -u", threads, SERVER_THREADS, TEST_THREADS),
        _bound("threads", "pids.max", group.tasks_limit, SERVER_THREADS, TEST_THREADS),
        _bound("memory", "memory.max", group.memory_limit_bytes, SERVER_BYTES, TEST_BYTES),
        _bound("memory", "ulimit -v", space, SERVER_BYTES, TEST_BYTES),
    ]
    return sorted((bound for bound in found if bound is not None), key=lambda bound: bound.tests)


def _limit(which: int) -> int | None:
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else soft


def _bound(what: Resource, source: str, value: int | None, own: int, each: int) -> Bound | None:
    return None if value is None else Bound(what, source, value, max(1, (value - own) // each))


def descriptors_left() -> int | None:
    """Return how many file descriptors this process may still open; None: unknown, or no limit."""
    soft = _limit(resource.RLIMIT_NOFILE)
    if soft is None:
        return None
    try:
        # since Linux 6.2 the size is the number of descriptors; a listing of thousands takes long
        used = os.stat("/proc/self/fd").st_size
        if not used:
            used = len(os.listdir("/proc/self/fd")) - 1  # one is that of the listing itself
    except OSError:  # no /proc, or no descriptor for the listing
        return None
    return max(0, soft - used)


def memory_left() -> int | None:
    """Return how many bytes of memory this process's control group may still use; None: unknown, or
    no limit. If the group exceeds its limit, the kernel kills one of its processes."""
    group = Cgroup()
    if (limit_bytes := group.memory_limit_bytes()) is None:
        return None
    usage = group.read()
    if usage.memory_bytes is None:
        return None
    used = usage.memory_bytes - (usage.memory_files_bytes or 0)
    return max(0, limit_bytes - used)


def address_space_left() -> int | None:
    """Return how many bytes of address space this process may still use; None: no limit."""
    most = _limit(resource.RLIMIT_AS)
    if most is None:
        return None
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # no /proc
        used = 0
    return max(0, most - used)


def crowded_conntrack() -> tuple[int, int] | None:
    """Return how many connections this host tracks, and how many at most, if there is hardly room
    for another one; None: there is room, or none is tracked. When there is no room, the kernel
    drops the first packets of connections."""
    try:
        most = int((CONNTRACK / "nf_conntrack_max").read_text())
        tracked = int((CONNTRACK / "nf_conntrack_count").read_text())
    except (OSError, ValueError):
        return None
    return (tracked, most) if tracked >= NEARLY_FULL * most else None

"""Read what this process may take of its host, and how many tests that is enough for."""

from __future__ import annotations

import os
import resource
from typing import Literal, NamedTuple

from netmeasure.engine.cgroups import Cgroup

#: What a test of one stream takes at a server: its control connection, its stream, and what a
#: large message needs for a moment.
TEST_DESCRIPTORS, TEST_THREADS, TEST_BYTES = 4, 2, 2**20
#: What each stream takes at either end: the stack of its thread, its series, its part of a result.
STREAM_BYTES = 320 * 2**10
#: What the server itself takes, with its modules loaded.
SERVER_DESCRIPTORS, SERVER_THREADS, SERVER_BYTES = 32, 4, 128 * 2**20

Resource = Literal["file descriptors", "threads", "memory"]


class Bound(NamedTuple):
    """Hold one limit of this process: what it is of, what sets it, and its value (of memory, in
    bytes)."""

    what: Resource
    source: str
    value: int
    #: tests of one stream that fit at the same time
    tests: int


def raise_descriptor_limit() -> None:
    """Let this process open as many descriptors as it may ask for (RLIMIT_NOFILE, getrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass  # it stays as it is, and is said so


def bounds(cgroup: Cgroup | None = None) -> list[Bound]:
    """Return the limits of this process that are known, in the order of what they allow."""
    group = (cgroup or Cgroup()).read()
    descriptors = _limit(resource.RLIMIT_NOFILE)
    # the kernel does not hold root to RLIMIT_NPROC
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
        used = len(os.listdir("/proc/self/fd")) - 1  # one is the listing's own
    except OSError:  # no /proc, or no descriptor for the listing
        return None
    return max(0, soft - used)


def memory_left() -> int | None:
    """Return how many bytes of memory this process's control group may still take; None: unknown,
    or no limit. Beyond, the kernel kills a process of the group."""
    group = Cgroup().read()
    if group.memory_limit_bytes is None or group.memory_bytes is None:
        return None
    used = group.memory_bytes - (group.memory_files_bytes or 0)
    return max(0, group.memory_limit_bytes - used)


def address_space_left() -> int | None:
    """Return how many bytes of address space this process may still take; None: no limit."""
    most = _limit(resource.RLIMIT_AS)
    if most is None:
        return None
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # no /proc
        used = 0
    return max(0, most - used)

"""Adapt the programs to the limits of their host: a server's number of tests, which it reports
once, and the imports to a small address space."""

from __future__ import annotations

from contextlib import suppress

from msgspec.structs import replace

from netmeasure import analysis
from netmeasure.engine.limits import (
    STREAM_BYTES,
    Bound,
    address_space_left,
    bounds,
    memory_left,
    raise_descriptor_limit,
)
from netmeasure.errors import HostLimitError
from netmeasure.spec import ServerLimits
from netmeasure.units import size

#: The address space of a test of one stream and its result, in addition to the interpreter's:
#: modules, mainly numpy's libraries, and the stacks and heaps of a few threads.
TEST_BYTES = 192 * 2**20
#: The memory of modules that are imported for a test and its result, and the memory beyond a test's
#: needs from which on nothing is checked.
MODULES_BYTES, MUCH_BYTES = 24 * 2**20, 64 * 2**20
#: M_ARENA_MAX of mallopt(3): otherwise glibc reserves 64 MiB or more for each thread's heap.
_ARENA_MAX = -8


def check_room(streams: int = 1) -> None:
    """Raise HostLimitError if this host has too little memory for a test with a number of
    streams."""
    _check_memory(streams)
    _check_address_space()


def _check_memory(streams: int) -> None:
    """Raise HostLimitError if the control group's memory is too small for a test and its result,
    since the kernel would kill the process during the test.

    If memory is short, numpy is imported before the test, so that the remaining memory is known
    exactly.
    """
    left, needed = memory_left(), MODULES_BYTES + streams * STREAM_BYTES
    if left is None or left > MUCH_BYTES + needed:
        return
    if left < needed:
        raise HostLimitError(
            f"this host has {size(left)} of memory left (memory.max), and this takes"
            f" {size(needed)}",
            hint="raise the container's memory limit, or use fewer streams",
        )
    analysis.load()


def _check_address_space() -> None:
    """Raise HostLimitError if the address space is too small for a test and its result (ulimit -v).

    Without enough address space, libraries end the process silently, or after the test. numpy is
    therefore imported before a test if the address space is limited.
    """
    left = address_space_left()
    if left is None:
        return
    if left < TEST_BYTES:
        raise HostLimitError(
            f"this host has {size(left)} of address space left (ulimit -v), and a test takes"
            f" {size(TEST_BYTES)}",
            hint="raise `ulimit -v`",
        )
    import ctypes

    with suppress(AttributeError):  # the C library is not glibc
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
    analysis.load()


def fitted(limits: ServerLimits, *, chosen: bool) -> tuple[ServerLimits, str | None]:
    """Return a server's limits, and a sentence if this host is too small for them; otherwise None.

    `chosen`: the user has set the number of tests, so it is not reduced.
    """
    raise_descriptor_limit()
    tightest = next(iter(bounds()), None)
    if tightest is None or tightest.tests >= limits.max_tests:
        return limits, None
    amount = f"{_amount(tightest)} ({tightest.source})"
    if chosen:
        return limits, (
            f"this host has {amount}, which is enough for about {tightest.tests} tests at a time,"
            f" not for {limits.max_tests}"
        )
    tests = "1 test" if tightest.tests == 1 else f"{tightest.tests} tests"
    sentence = f"at most {tests} at a time, for this host has {amount}"
    return replace(limits, max_tests=tightest.tests), sentence


def _amount(bound: Bound) -> str:
    if bound.what == "memory":
        return f"{size(bound.value)} of memory"
    return f"{bound.value} {bound.what}"

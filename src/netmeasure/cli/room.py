"""Fit a server's number of tests to what its host grants it, and say once what that is."""

from __future__ import annotations

from msgspec.structs import replace

from netmeasure.engine.limits import Bound, bounds, raise_descriptor_limit
from netmeasure.spec import ServerLimits
from netmeasure.units import size


def fitted(limits: ServerLimits, *, chosen: bool) -> tuple[ServerLimits, str | None]:
    """Return a server's limits, and a sentence where this host is too small for them.

    `chosen`: the user has chosen the number of tests, so it stays as it is.
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
    sentence = f"at most {tightest.tests} tests at a time, for this host has {amount}"
    return replace(limits, max_tests=tightest.tests), sentence


def _amount(bound: Bound) -> str:
    if bound.what.startswith("bytes"):
        return f"{size(bound.value)} of memory"
    return f"{bound.value} {bound.what}"

"""Provide specifications and checks that the tests of transfers by HTTP and by FTP share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from support import certificates, failures

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

MIB = 1 << 20
GIB = 1 << 30
SIZES = (0, 1, 65_535, 65_536, 10 * MIB)
#: Much shorter than the limit of `failure`, much longer than a busy machine needs for a step.
SHORT = {"resolve_s": 5.0, "connect_s": 0.4, "handshake_s": 0.4, "stall_s": 0.4, "drain_s": 0.2}
PATIENT = {**SHORT, "handshake_s": 10.0, "stall_s": 10.0, "connect_s": 10.0}
needs_openssl = pytest.mark.skipif(
    certificates.available() is not None, reason="there is no openssl"
)


def spec(url: str, **more: Any) -> nm.HttpSpec | nm.FtpSpec:
    """Return the specification of a transfer, of the kind that the URL says."""
    timing = {key: more.pop(key) for key in ("duration_s", "total_bytes", "omit_s") if key in more}
    kind = nm.FtpSpec if url.startswith("ftp") else nm.HttpSpec
    return kind(timing=nm.Timing(interval_s=0.05, **timing), **more)


def measured(run: RunLoop, url: str, **more: Any) -> nm.Result:
    """Return the result of a transfer, which must be complete."""
    result: nm.Result = run(nm.measure(url, spec(url, **more)))
    assert result.complete
    assert result.error is None
    return result


def refused(run: RunLoop, url: str, **more: Any) -> nm.MeasureError:
    """Return the exception that a transfer ends with."""
    with pytest.raises(nm.MeasureError) as caught:
        run(nm.measure(url, spec(url, **more)))
    assert not caught.value.result.complete
    return caught.value


def moved(result: nm.Result) -> int:
    """Return the bytes of a run, and check that all places which report them agree."""
    flow = result.flow
    sends = result.spec.direction == "upload"
    total = flow.sender.acked_bytes if sends else flow.receiver.bytes
    each = [s.acked_bytes if sends else s.bytes for s in result.client.streams]
    assert sum(count or 0 for count in each) == total
    in_series = [s.series.total_bytes if s.series else 0 for s in result.client.streams]
    assert in_series == each
    assert nm.Result.from_json(result.to_json()) == result
    return int(total)


def transfer(result: nm.Result) -> Any:
    return result.client.streams[0].transfer


def transfers(result: nm.Result) -> int:
    return sum(s.transfer.transfers for s in result.client.streams if s.transfer)


# ---- transfers that fail -------------------------------------------------------------------------


async def failure(url: str, wanted: nm.HttpSpec | nm.FtpSpec) -> nm.MeasureError:
    """Return the exception that a transfer ends with, which must come soon and have an incomplete
    result."""
    error = await failures.failure(url, wanted)
    assert len(str(error)) < 400
    return error


def received(error: nm.MeasureError) -> int:
    return int(error.result.flow.receiver.bytes)

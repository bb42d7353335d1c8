"""A peer's report with something wrong anywhere in it: refused, or a result like any other."""

from __future__ import annotations

import asyncio
import copy
import io
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from rich.console import Console

import netmeasure as nm
from netmeasure.errors import RemoteProtocolError
from netmeasure.measurement import roles
from netmeasure.measurement.flows import Measured, build_flows
from netmeasure.protocol import PeerResults
from netmeasure.report import text

KINDS: dict[str, nm.TcpSpec | nm.UdpSpec] = {
    "tcp": nm.TcpSpec(direction="both", timing=nm.Timing(duration_s=0.7), target_bps=50_000_000),
    "udp": nm.UdpSpec(direction="both", timing=nm.Timing(duration_s=0.5), target_bps=5_000_000),
}
ODD = [0, -1, 1, 2**31, -(2**63), 2**63, 10**30, 1e308, "1", None, [], {}, [1], True]


@pytest.fixture(scope="module", params=KINDS)
def measured(request: pytest.FixtureRequest) -> nm.Result:
    """A real test between two of ours, whose server's report is then spoilt."""

    async def run() -> nm.Result:
        async with nm.serve("127.0.0.1", 0) as server:
            return await nm.measure(server.address, KINDS[request.param])

    return asyncio.run(run())


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every member of every object, and the ends of every list."""
    keys: Any = ()
    if isinstance(value, dict):
        keys = value
    elif isinstance(value, list):
        keys = {0, len(value) - 1} if value else ()
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


def put(report: Any, path: tuple[Any, ...], change: Any) -> None:
    *way, last = path
    change = copy.deepcopy(change)  # a second change may be made within the first one
    for key in way:
        report = report[key]
    if change == "shorter" and isinstance(report[last], list):
        report[last] = report[last][:-1]
    elif change == "backwards" and isinstance(report[last], list):
        report[last] = report[last][::-1]
    else:
        report[last] = change


def wire(report: Any) -> bytes:
    results = {
        "cpu_util_total": 0,
        "cpu_util_user": 0,
        "cpu_util_system": 0,
        "sender_has_retransmits": 1,
        "streams": [],
        "netmeasure": report,
    }
    return json.dumps(results).encode()


def use(result: nm.Result, server: Any) -> None:
    """All that a client does with it."""
    directions = roles.directions(result.spec.direction, result.spec.streams)
    flows = build_flows(Measured(result.spec, directions, result.client, server, 0))
    made = msgspec.structs.replace(result, flows=flows, server=server)
    assert nm.Result.from_json(made.to_json()).spec == result.spec
    text.print_report(made, Console(file=io.StringIO(), width=120))


def test_a_true_report_is_taken(measured: nm.Result) -> None:
    report = PeerResults.decode(wire(json.loads(msgspec.json.encode(measured.server)))).netmeasure
    assert report == measured.server
    use(measured, report)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_spoilt_report_harms_nobody(measured: nm.Result, data: st.DataObject) -> None:
    report = json.loads(msgspec.json.encode(measured.server))
    where = list(places(report))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(where))
        change = data.draw(st.sampled_from([*ODD, "shorter", "backwards"]))
        try:
            put(report, path, change)
        except (KeyError, IndexError, TypeError):  # the first change took that place away
            continue
    try:
        server = PeerResults.decode(wire(report)).netmeasure
    except RemoteProtocolError:
        return
    if server is not None:
        use(measured, server)

"""Test reports of a peer with a wrong value at any place: they are refused, or give a usable
result."""

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
    """Return the result of a real test; the tests change the server's report in it."""

    async def run() -> nm.Result:
        async with nm.serve("127.0.0.1", 0) as server:
            return await nm.measure(server.address, KINDS[request.param])

    return asyncio.run(run())


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all members of objects, and of the first and last items of lists."""
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
    """Do with the server's report all that a client does."""
    directions = roles.directions(result.spec.direction, result.spec.streams)
    flows = build_flows(Measured(result.spec, directions, result.client, server, 0))
    made = msgspec.structs.replace(result, flows=flows, server=server)
    assert nm.Result.from_json(made.to_json()).spec == result.spec
    text.print_report(made, Console(file=io.StringIO(), width=120))


def test_an_unchanged_report_is_accepted(measured: nm.Result) -> None:
    report = PeerResults.decode(wire(json.loads(msgspec.json.encode(measured.server)))).netmeasure
    assert report == measured.server
    use(measured, report)


#: Each change is a place, as a share of all places in a report, and the value to put there. Nothing
#: is drawn while the test runs, for the number of places differs from run to run.
CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([*ODD, "shorter", "backwards"])),
    min_size=1,
    max_size=2,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_a_report_with_wrong_values_is_refused_or_usable(
    measured: nm.Result, changes: list[tuple[float, Any]]
) -> None:
    report = json.loads(msgspec.json.encode(measured.server))
    where = list(places(report))
    for share, change in changes:
        try:
            put(report, where[int(share * len(where))], change)
        except (KeyError, IndexError, TypeError):  # the first change removed that place
            continue
    try:
        server = PeerResults.decode(wire(report)).netmeasure
    except RemoteProtocolError:
        return
    if server is not None:
        use(measured, server)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("streams", 0, "cpu_user_ns"), -1),
        (("streams", 1, "socket", "pacing_bps"), -1),
        (("resources", "cpus"), 0),
        (("resources", "rss_bytes", 0), -1),
        (("duration_ns",), -1),
    ],
)
def test_a_report_below_zero_is_refused(
    measured: nm.Result, path: tuple[Any, ...], value: int
) -> None:
    """A result computed from such a report could be saved, but not be read again."""
    report = json.loads(msgspec.json.encode(measured.server))
    put(report, path, value)
    with pytest.raises(RemoteProtocolError, match=r"the peer's results hold a \w+ of (-1|0)"):
        PeerResults.decode(wire(report))


def test_a_side_with_a_stream_that_is_in_no_flow_is_read_again(measured: nm.Result) -> None:
    """In the document, one stream of the side is a reference to a flow; the other is in full."""
    first, second = measured.server.streams
    other = msgspec.structs.replace(second, id=second.id + 7)
    server = msgspec.structs.replace(measured.server, streams=(first, other))
    made = msgspec.structs.replace(measured, server=server)
    assert nm.Result.from_json(made.to_json()) == made

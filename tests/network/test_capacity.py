"""Test the capacity of lines of known rates, with and without delay, and what ends a search."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.cli.capacity import words
from netmeasure.cli.exits import Exit
from support import relay
from support.elsewhere import loop_on
from support.hostile_client import RunLoop
from support.program import netmeasure
from support.relay import Relay

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(relay.available() is not None, reason=str(relay.available())),
]
#: The share of a line's rate, which counts IP packets, that full datagrams carry as payload.
PAYLOAD = 1472 / 1500


def found(line: Relay, **arguments: Any) -> nm.CapacityReport:
    """Search between the hosts of a line."""
    with loop_on(line, "server") as there, loop_on(line, "client") as here:
        server = there(nm.serve(None, 0).__aenter__())
        try:
            report: nm.CapacityReport = here(
                nm.capacity(line.server.address, port=server.port, **arguments)
            )
        finally:
            there(server.close())
    return report


@pytest.mark.rates
def test_the_capacity_of_a_line() -> None:
    """Search with more time than the benchmark, since the machine may be busy."""
    rate = 20e6
    with Relay(delay_ms=25, rate_bps=rate, queue_bytes=50_000) as line:
        report = found(line, time_s=20)
    assert report.ended_by == "precise"
    assert report.direction == "upload"
    assert report.capacity_bps == pytest.approx(PAYLOAD * rate, rel=0.01)
    assert report.ip_capacity_bps == pytest.approx(rate, rel=0.01)
    assert (report.datagram_bytes, report.header_bytes) == (1472, 28)
    for probe in report.probes:
        assert 0 <= probe.lost_packets <= probe.sent_packets
        assert probe.second_half_bps is not None


@pytest.mark.rates
def test_a_line_that_always_loses_has_no_capacity() -> None:
    with Relay(loss=0.2) as line:
        report = found(line, most_bps=2_000_000, time_s=2)
    assert report.ended_by == "nothing"
    assert (report.capacity_bps, report.ip_capacity_bps, report.loss_free_bps) == (None,) * 3
    assert report.above_bps is not None
    assert {probe.verdict for probe in report.probes} == {"lost"}


def test_a_test_in_which_nothing_was_sent_says_nothing_of_the_receiver(run_once: RunLoop) -> None:
    async def main() -> tuple[nm.CapacityReport, str]:
        async with nm.serve("127.0.0.1", 0) as server:
            words = ("capacity", server.address, "--most", "1", "--time", "3")
            ran = await asyncio.to_thread(netmeasure, *words, timeout=60)
            # none is due in time
            return await nm.capacity(server.address, most_bps=1, time_s=3), ran.stdout

    report, text = run_once(main())
    assert "unknown: nothing was sent" in text
    assert {probe.sent_packets for probe in report.probes} == {0}
    assert {probe.verdict for probe in report.probes} == {"sender"}
    assert (report.ended_by, report.capacity_bps, report.above_bps) == ("sender", None, None)


@pytest.mark.rates
def test_the_command_prints_what_it_found(run_once: RunLoop) -> None:
    async def main() -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            words = ("capacity", server.address, "-d", "download", "--most", "20M", "--json", "-")
            ran = await asyncio.to_thread(netmeasure, *words, timeout=60)
        assert ran.returncode == Exit.CANT_TELL, ran.stderr
        document = json.loads(ran.stdout)
        assert (document["schema_version"], document["direction"]) == (1, "download")
        # a busy machine may be too slow, and may first lose datagrams of a test
        assert document["ended_by"] in ("most", "sender")
        assert document["above_bps"] is None or document["ended_by"] == "sender"
        assert document["capacity_bps"] == document["probes"][-1]["received_bps"] > 0
        assert len(ran.stderr.splitlines()) == len(document["probes"])

    run_once(main())


def test_no_test_exceeds_the_highest_rate(run_once: RunLoop) -> None:
    async def main() -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            found = await nm.capacity("127.0.0.1", port=server.port, most_bps=1_000_000)
        assert {probe.asked_bps for probe in found.probes} == {1_000_000}

    run_once(main())


@pytest.mark.parametrize(
    ("spec", "arguments"),
    [
        (nm.UdpSpec(direction="both"), {}),
        (nm.UdpSpec(target_bps=1), {}),
        (nm.UdpSpec(target_bps=None, target_pps=5), {}),
        (nm.UdpSpec(timing=nm.Timing(duration_s=1)), {}),
        (None, {"loss_limit": 1}),
        (None, {"loss_limit": -0.1}),
        (None, {"time_s": 0.5}),
        (None, {"time_s": float("nan")}),
        (None, {"most_bps": 0}),
    ],
)
def test_invalid_arguments_are_refused(spec: nm.UdpSpec | None, arguments: dict[str, Any]) -> None:
    with pytest.raises(nm.SpecError):
        nm.CapacitySearch("127.0.0.1", spec, **arguments)


@pytest.mark.parametrize("target", ["http://127.0.0.1/", "", "127.0.0.1:99999"])
def test_a_target_that_is_no_server_is_refused(target: str) -> None:
    with pytest.raises(nm.SpecError):
        nm.CapacitySearch(target)


def test_a_report_in_words() -> None:
    probe = nm.RateProbe(
        asked_bps=20_000_000,
        sent_bps=20e6,
        received_bps=19.6e6,
        sent_packets=1000,
        lost_packets=20,
        host_dropped_packets=0,
        duration_ns=10**9,
        verdict="lost",
    )
    report = nm.CapacityReport(
        target="lab1",
        direction="download",
        started_at="2026-11-29T09:00:00.000Z",
        loss_limit=0.001,
        streams=1,
        datagram_bytes=1472,
        header_bytes=28,
        capacity_bps=19.59e6,
        ip_capacity_bps=19.97e6,
        loss_free_bps=19.5e6,
        above_bps=20_000_000,
        ended_by="precise",
        duration_ns=4_720_000_000,
        probes=(probe,),
    )
    assert words(report).splitlines() == [
        "Capacity from lab1, UDP, loss of at most 0.1 %",
        "  payload      19.59 Mbit/s",
        "  IP layer     19.97 Mbit/s (RFC 9097), datagrams of 1472 bytes",
        "  without loss 19.50 Mbit/s",
        "  found: just above it too much is lost; 1 test in 4.72 s",
    ]
    assert probe.loss_ratio == 0.02


def test_an_interrupted_search_keeps_what_it_found() -> None:
    """The line always loses datagrams, so that a second test follows on any host."""

    async def cut(search: nm.CapacitySearch) -> None:
        tests = search.run()
        await anext(tests)
        rest = asyncio.ensure_future(anext(tests))
        await asyncio.sleep(0)
        rest.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rest

    with Relay(loss=0.2) as line, loop_on(line, "server") as there, loop_on(line, "client") as here:
        server = there(nm.serve(None, 0).__aenter__())
        try:
            search = nm.CapacitySearch(line.server.address, port=server.port, most_bps=1_000_000)
            here(cut(search))
        finally:
            there(server.close())
    assert len(search.report.probes) == 1
    assert search.report.ended_by == "stopped"

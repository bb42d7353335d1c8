"""Test which figures of the far end are known from iperf3's results, and which are not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from netmeasure.peer.exchange import peer_report
from netmeasure.peer.plausibility import believed
from netmeasure.protocol import PeerResults, PeerStream
from netmeasure.result import Datagrams, SideReport, StreamReport


def results(user: float, system: float, end_time: float | None) -> PeerResults:
    stream = PeerStream(id=1, bytes=10, retransmits=-1, jitter=0.0, errors=0, packets=0)
    return PeerResults(
        cpu_util_total=user + system,
        cpu_util_user=user,
        cpu_util_system=system,
        sender_has_retransmits=-1,
        congestion_used="cubic",
        streams=(replace(stream, start_time=0.0, end_time=end_time),),
    )


def test_processor_time_and_congestion_control() -> None:
    report = peer_report(results(12.5, 25.0, 2.0), ["upload"], "server")
    assert report.duration_ns == 2_000_000_000
    assert (report.cpu_user_ns, report.cpu_system_ns) == (250_000_000, 500_000_000)
    assert report.streams[0].socket is not None
    assert report.streams[0].socket.congestion == "cubic"


@pytest.mark.parametrize(
    ("user", "end_time"), [(1e308, 2.0), (-1.0, 2.0), (1.0, None), (1.0, 0.0), (float("nan"), 1.0)]
)
def test_shares_that_cant_be_are_not_known(user: float, end_time: float | None) -> None:
    report = peer_report(results(user, 0.0, end_time), ["upload"], "server")
    assert report.cpu_user_ns is None


@pytest.mark.parametrize("moment", [1e308, -1e308, float("nan")])
def test_moments_that_cant_be_are_not_known(moment: float) -> None:
    stream = PeerStream(
        id=1, bytes=1, retransmits=-1, jitter=moment, errors=0, packets=1, end_time=moment
    )
    told = replace(results(1.0, 1.0, 1.0), streams=(stream,))
    report = peer_report(told, ["upload"], "server", udp=True)
    assert report.duration_ns is None
    counted = report.streams[0]
    assert (counted.counted_from_ns, counted.counted_to_ns) == (None, None)
    assert counted.datagrams is not None
    assert counted.datagrams.jitter_ns is None


@pytest.mark.parametrize(("jitter", "known"), [(1306768.0, False), (2.5, False), (0.5, True)])
def test_a_jitter_longer_than_the_test_is_not_believed(jitter: float, known: bool) -> None:
    """A server of iperf3 3.1.3 begins with the difference of the two hosts' clocks."""
    stream = PeerStream(id=1, bytes=1, retransmits=-1, jitter=jitter, errors=0, packets=9)
    far = peer_report(
        replace(results(1.0, 1.0, 1.0), streams=(stream,)), ["upload"], "server", udp=True
    )
    mine = StreamReport(
        id=1,
        role="sender",
        bytes=1,
        first_ns=5 * 10**8,
        last_ns=25 * 10**8,
        datagrams=Datagrams(packets=9),
    )
    found = believed(SideReport(streams=(mine,)), far, "server", omitted=False)
    counted = found.report.streams[0].datagrams
    assert counted is not None
    assert counted.packets == 9
    assert (counted.jitter_ns is not None) == known
    assert [note.startswith("the server reports a jitter of ") for note in found.notes] == [
        True
    ] * (not known)

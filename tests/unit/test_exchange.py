"""Test which figures of the far end are known from iperf3's results, and that this end's own report
keeps to the protocol's limits."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from netmeasure.peer.exchange import peer_report, wire_results, within_limits
from netmeasure.peer.plausibility import believed
from netmeasure.protocol import PeerResults, PeerStream, results_limit_bytes
from netmeasure.protocol.reports import MAX_STREAMS, check_report
from netmeasure.result import Datagrams, Series, SideReport, StreamReport, TcpInfo
from netmeasure.result.resources import ThreadCpu
from support.optional import known


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


# ---- this end's own report -----------------------------------------------------------------------


def side(streams: int, samples: int, buckets: int) -> SideReport:
    """Return a report as of streams that sent all the time, with the longest numbers."""
    moments = tuple(range(0, 10**8 * samples, 10**8))
    reports = [
        StreamReport(
            id=number,
            role="sender",
            bytes=2**40,
            series=Series(origin_ns=0, width_ns=10**6, bytes=(2**40,) * buckets),
            thread=ThreadCpu(at_ns=moments, cpu_ns=moments, wait_ns=moments),
            tcp_info=TcpInfo(**dict.fromkeys(TcpInfo.__struct_fields__, moments)),
        )
        for number in range(1, streams + 1)
    ]
    return SideReport(streams=tuple(reports))


@pytest.mark.parametrize("buckets", [1, 400, 16384])
@pytest.mark.parametrize("samples", [2, 3, 5, 9, 41, 256])
def test_the_longest_report_is_within_the_limits(samples: int, buckets: int) -> None:
    """Columns keep their last item, so short ones of many streams hardly become shorter."""
    streams = MAX_STREAMS
    whole = side(streams, samples, buckets)
    own = within_limits(whole)
    check_report(own)
    wire = wire_results(whole, own=own)
    assert len(msgspec.json.encode(wire)) <= results_limit_bytes(streams)
    for before, after in zip(whole.streams, own.streams, strict=True):
        assert after.series is not None
        assert after.tcp_info is not None
        assert after.series.total_bytes == buckets * 2**40
        assert after.tcp_info.at_ns[-1] == known(before.tcp_info).at_ns[-1]


@pytest.mark.parametrize(
    ("received", "plain", "told"),
    [
        (1200, True, 1200),  # some came after the time of the test
        (1000, True, 1000),
        (900, True, 1000),  # it has not read all that its kernel acknowledged
        (1501, True, 1000),  # more than was sent
        (1200, False, 1000),  # between two of ours, each report is of one end
    ],
)
def test_a_sender_has_sent_what_a_plain_client_has_received(
    received: int, told: int, *, plain: bool
) -> None:
    sender = StreamReport(id=1, role="sender", bytes=1500, acked_bytes=1400, counted_bytes=1000)
    side = SideReport(streams=(sender,))
    receiver = StreamReport(id=1, role="receiver", bytes=received, counted_bytes=received)
    peer = wire_results(SideReport(streams=(receiver,)), own=None)
    wire = wire_results(side, own=None if plain else side, peer=peer)
    assert [stream.bytes for stream in wire.streams] == [told]


def test_a_report_within_the_limits_stays_as_it_is() -> None:
    whole = side(8, 41, 400)
    assert within_limits(whole) == whole

"""Turn results into rows of figures: of runs, intervals, byte and latency series, and TCP_INFO.

All formats of tables are written from these rows; their fields are the columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from netmeasure.result import Flow, Result


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the figures of one run in one direction. None: not known.

    Attributes:
        run: The number of the run among all that are exported, from 1.
        started_at: Wall-clock time of the first attempt (UTC, RFC 3339).
        target: The server or the URL.
        kind: What was measured: tcp, udp, rr, http, ftp or requests.
        direction: "upload" or "download", seen from the client; None: nothing was measured.
        success: Whether the run was complete.
        error: The code of the error that ended the run, such as "connect_timeout".
        error_phase: The phase of the error, such as "connect".
        set_up_ns: Time from the client's first attempt to the first payload byte.
        syn_retransmits: SYNs sent again while connecting.
        verdict: The verdict on the steady state.
        grade: How well the confidence interval of the steady bitrate is supported.
        steady_bps: The steady bitrate.
        steady_low_bps: The lower end of its 95 % confidence interval.
        steady_high_bps: The upper end of its 95 % confidence interval.
        steady_duration_ns: How long the steady state lasted.
        from_first_byte_bps: All bytes over the time from the first to the last byte.
        from_first_attempt_bps: All bytes over the time since the first attempt to connect.
        after_omit_bps: Bytes after the omitted time over that time: iperf3's summary.
        delivered_bytes: Payload bytes known to have reached the receiver.
        retransmits: Retransmitted TCP segments, SYNs not counted.
        lost_packets: Datagrams that never arrived.
        sent_packets: Datagrams sent.
        loss_ratio: Datagrams lost over those sent, 0 to 1.
        jitter_ns: Smoothed interarrival jitter of datagrams (RFC 3550).
        ceiling_share: The steady bitrate over the link's payload ceiling.
        transactions_per_s: Round trips per second in the steady state.
        latency_p50_ns: The median latency of the round trips.
        latency_p99_ns: The latency that 99 % of the round trips did not exceed.
        latency_max_ns: The longest round trip.
        lost_round_trips: Datagrams that were sent and had no response in time.
        limited_by: The bottleneck of the flow.
        idle_p50_ns: The median latency before the load.
        loaded_p50_ns: The median latency under load.
        loaded_p99_ns: The latency under load that 99 % of the probes do not exceed.
        connect_p50_ns: The median time to open a connection, of a test on fresh connections or of
            requests.
        connect_p99_ns: The time that 99 % of these connections did not exceed.
        error_ratio: Errors of such a test over all attempts, 0 to 1.
    """

    run: int
    started_at: str
    target: str
    kind: str
    direction: str | None = None
    success: bool
    error: str | None = None
    error_phase: str | None = None
    set_up_ns: int | None = None
    syn_retransmits: int | None = None
    verdict: str | None = None
    grade: str | None = None
    steady_bps: float | None = None
    steady_low_bps: float | None = None
    steady_high_bps: float | None = None
    steady_duration_ns: int | None = None
    from_first_byte_bps: float | None = None
    from_first_attempt_bps: float | None = None
    after_omit_bps: float | None = None
    delivered_bytes: int | None = None
    retransmits: int | None = None
    lost_packets: int | None = None
    sent_packets: int | None = None
    loss_ratio: float | None = None
    jitter_ns: int | None = None
    ceiling_share: float | None = None
    transactions_per_s: float | None = None
    latency_p50_ns: int | None = None
    latency_p99_ns: int | None = None
    latency_max_ns: int | None = None
    lost_round_trips: int | None = None
    limited_by: str | None = None
    idle_p50_ns: int | None = None
    loaded_p50_ns: int | None = None
    loaded_p99_ns: int | None = None
    connect_p50_ns: int | None = None
    connect_p99_ns: int | None = None
    error_ratio: float | None = None


class IntervalRow(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one reporting period of a run in one direction. None: not known.

    Attributes:
        run: The number of the run among all that are exported, from 1.
        started_at: Wall-clock time of the run's first attempt (UTC, RFC 3339).
        target: The server or the URL.
        kind: What was measured: tcp, udp, rr, http or ftp.
        direction: "upload" or "download", seen from the client.
        start_ns: Start of the period, from the start signal of the counting side.
        end_ns: End of the period, from the start signal of the counting side.
        transferred_bytes: The payload bytes in it.
        goodput_bps: The rate; None: the period is too short for one.
        omitted: Whether the period lies in the omitted time.
        limited_by: The bottleneck of the flow in this period.
    """

    run: int
    started_at: str
    target: str
    kind: str
    direction: str
    start_ns: int
    end_ns: int
    transferred_bytes: int
    goodput_bps: float | None = None
    omitted: bool
    limited_by: str | None = None


class SeriesRow(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one time bucket of a run in one direction, over all streams.

    Attributes:
        run: The number of the run among all that are exported, from 1.
        direction: "upload" or "download", seen from the client.
        start_ns: Start of the bucket, from the start signal of the counting side.
        end_ns: End of the bucket, from the start signal of the counting side.
        transferred_bytes: The payload bytes in it.
    """

    run: int
    direction: str
    start_ns: int
    end_ns: int
    transferred_bytes: int


class LatencyRow(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one time bucket of a run of round trips.

    Attributes:
        run: The number of the run among all that are exported, from 1.
        start_ns: Start of the bucket, from the client's start signal.
        end_ns: End of the bucket, from the client's start signal.
        transactions: The responses in it.
        latency_sum_ns: The sum of the latencies of these responses.
        latency_mean_ns: The mean latency; None: no response arrived.
    """

    run: int
    start_ns: int
    end_ns: int
    transactions: int
    latency_sum_ns: int
    latency_mean_ns: float | None = None


class TcpInfoRow(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a kernel's figures of one TCP connection at one moment. None: not reported.

    Attributes:
        run: The number of the run among all that are exported, from 1.
        side: The end whose kernel it is: "client" or "server".
        stream: The stream's number.
        role: That end's role: "sender" or "receiver".
        at_ns: The moment, from the start signal of that end.
        retransmits: Segments sent again so far, SYNs included.
        rtt_ns: Smoothed round trip (RFC 6298).
        rttvar_ns: Its variation.
        min_rtt_ns: The shortest round trip in the kernel's own window.
        cwnd_bytes: Congestion window (RFC 5681).
        snd_wnd_bytes: The receiver's window (RFC 9293).
        unsent_bytes: Bytes in the sender's buffer that have not been sent for the first time.
        delivery_bps: The kernel's own estimate of the delivery rate.
        pacing_bps: The congestion control's pacing rate.
        acked_bytes: Bytes acknowledged so far.
        retransmitted_bytes: Bytes sent again so far.
        busy_ns: Time so far with data to send or unacknowledged data.
        rwnd_limited_ns: Time so far stopped by the receiver's window.
        sndbuf_limited_ns: Time so far stopped by the send buffer.
    """

    run: int
    side: str
    stream: int
    role: str
    at_ns: int
    retransmits: int | None = None
    rtt_ns: int | None = None
    rttvar_ns: int | None = None
    min_rtt_ns: int | None = None
    cwnd_bytes: int | None = None
    snd_wnd_bytes: int | None = None
    unsent_bytes: int | None = None
    delivery_bps: int | None = None
    pacing_bps: int | None = None
    acked_bytes: int | None = None
    retransmitted_bytes: int | None = None
    busy_ns: int | None = None
    rwnd_limited_ns: int | None = None
    sndbuf_limited_ns: int | None = None


def run_rows(results: Iterable[Result]) -> Iterator[RunRow]:
    """Yield a row for each direction of each run, and a row without direction for each run that
    measured nothing."""
    for number, result in enumerate(results, start=1):
        if not result.flows:
            yield _row(number, result, None)
        for flow in result.flows:
            yield _row(number, result, flow)


def interval_rows(results: Iterable[Result]) -> Iterator[IntervalRow]:
    """Yield a row for each reporting period of each direction of each run."""
    for number, result in enumerate(results, start=1):
        for flow in result.flows:
            for period in flow.intervals:
                yield IntervalRow(
                    run=number,
                    started_at=result.started_at,
                    target=result.target,
                    kind=str(result.spec.__struct_config__.tag),
                    direction=flow.direction,
                    start_ns=period.start_ns,
                    end_ns=period.end_ns,
                    transferred_bytes=period.bytes,
                    goodput_bps=period.measured_bps,
                    omitted=period.omitted,
                    limited_by=None if period.limits is None else period.limits.limited_by,
                )


def series_rows(results: Iterable[Result]) -> Iterator[SeriesRow]:
    """Yield a row for each time bucket of each direction of each run."""
    for number, result in enumerate(results, start=1):
        for flow in result.flows:
            if (series := flow.series) is None:
                continue
            for at, moved in enumerate(series.bytes):
                start_ns = series.origin_ns + at * series.width_ns
                yield SeriesRow(
                    run=number,
                    direction=flow.direction,
                    start_ns=start_ns,
                    end_ns=start_ns + series.width_ns,
                    transferred_bytes=moved,
                )


def latency_rows(results: Iterable[Result]) -> Iterator[LatencyRow]:
    """Yield a row for each time bucket of each run of round trips."""
    for number, result in enumerate(results, start=1):
        series = None if result.round_trips is None else result.round_trips.series
        if series is None:
            continue
        for at, (count, sum_ns) in enumerate(zip(series.transactions, series.sum_ns, strict=True)):
            start_ns = series.origin_ns + at * series.width_ns
            yield LatencyRow(
                run=number,
                start_ns=start_ns,
                end_ns=start_ns + series.width_ns,
                transactions=count,
                latency_sum_ns=sum_ns,
                latency_mean_ns=sum_ns / count if count else None,
            )


def tcp_info_rows(results: Iterable[Result]) -> Iterator[TcpInfoRow]:
    """Yield a row for each sample of a kernel's figures of a connection."""
    told = TcpInfoRow.__struct_fields__[5:]
    for number, result in enumerate(results, start=1):
        for side, report in (("client", result.client), ("server", result.server)):
            for stream in report.streams:
                if (info := stream.tcp_info) is None:
                    continue
                columns = {name: values for name in told if (values := getattr(info, name))}
                for at, moment_ns in enumerate(info.at_ns):
                    yield TcpInfoRow(
                        run=number,
                        side=side,
                        stream=stream.id,
                        role=stream.role,
                        at_ns=moment_ns,
                        **{name: values[at] for name, values in columns.items()},
                    )


def started(row: RunRow | IntervalRow) -> datetime | None:
    """Return when a run started; None: its document does not have the time."""
    try:
        found = datetime.fromisoformat(row.started_at)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _row(number: int, result: Result, flow: Flow | None) -> RunRow:
    loaded = None if result.latency is None else result.latency.loaded
    row = RunRow(
        run=number,
        started_at=result.started_at,
        target=result.target,
        kind=str(result.spec.__struct_config__.tag),
        success=result.complete,
        error=None if result.error is None else result.error.code,
        error_phase=None if result.error is None else result.error.phase,
        syn_retransmits=result.syn_retransmits,
        idle_p50_ns=None if result.latency is None else result.latency.idle.p50_ns,
        loaded_p50_ns=None if loaded is None else loaded.p50_ns,
        loaded_p99_ns=None if loaded is None else loaded.p99_ns,
    )
    if flow is None:
        return row
    steady, loss, averages = flow.steady, flow.loss, flow.averages
    trips = result.round_trips
    opened = result.requests or (None if trips is None else trips.connections)
    low, high = (None, None) if steady is None else steady.confidence_interval or (None, None)
    return msgspec.structs.replace(
        row,
        direction=flow.direction,
        set_up_ns=averages.set_up_ns,
        verdict=None if steady is None else steady.verdict,
        grade=None if steady is None else steady.grade,
        steady_bps=None if steady is None else steady.goodput_bps,
        steady_low_bps=low,
        steady_high_bps=high,
        steady_duration_ns=None if steady is None else steady.duration_ns,
        from_first_byte_bps=averages.from_first_byte_bps,
        from_first_attempt_bps=averages.from_first_attempt_bps,
        after_omit_bps=averages.after_omit_bps,
        delivered_bytes=flow.delivered_bytes,
        retransmits=flow.sender.retransmits,
        lost_packets=None if loss is None else loss.lost_packets,
        sent_packets=None if loss is None else loss.sent_packets,
        loss_ratio=None if loss is None else loss.loss_ratio,
        jitter_ns=None if loss is None else loss.jitter_ns,
        ceiling_share=flow.ceiling_share,
        transactions_per_s=None if trips is None else trips.steady_per_s,
        latency_p50_ns=None if trips is None else trips.p50_ns,
        latency_p99_ns=None if trips is None else trips.p99_ns,
        latency_max_ns=None if trips is None else trips.latency.max_ns,
        lost_round_trips=None if trips is None else trips.lost,
        limited_by=None if flow.limits is None else flow.limits.limited_by,
        connect_p50_ns=None if opened is None else opened.connect_p50_ns,
        connect_p99_ns=None if opened is None else opened.connect_p99_ns,
        error_ratio=None if opened is None else opened.error_ratio,
    )

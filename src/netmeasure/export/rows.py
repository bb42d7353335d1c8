"""Turn results into rows of figures: one for each run and direction, one for each interval.

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
        kind: What was measured: tcp, udp, rr, http or ftp.
        direction: "upload" or "download", seen from the client; None: nothing was measured.
        success: Whether the run is complete.
        error: The code of what cut the run short, such as "connect_timeout".
        error_phase: Where that happened, such as "connect".
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
        retransmits: TCP segments sent again, SYNs not counted.
        lost_packets: Datagrams that never came.
        sent_packets: Datagrams sent.
        loss_ratio: Datagrams lost over those sent, 0 to 1.
        jitter_ns: Smoothed interarrival jitter of datagrams (RFC 3550).
        ceiling_share: The steady bitrate over the link's payload ceiling.
        limited_by: What held the flow back.
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
    limited_by: str | None = None


class IntervalRow(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one reporting period of a run in one direction. None: not known.

    Attributes:
        run: The number of the run among all that are exported, from 1.
        started_at: Wall-clock time of the run's first attempt (UTC, RFC 3339).
        target: The server or the URL.
        kind: What was measured: tcp, udp, rr, http or ftp.
        direction: "upload" or "download", seen from the client.
        start_ns: Start of the period, from the start signal of the counting side.
        end_ns: Its end, on the same clock.
        transferred_bytes: The payload bytes in it.
        goodput_bps: The rate; None: the period is too short for one.
        omitted: Whether the period lies in the omitted time.
        limited_by: What held the flow back in it.
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


def run_rows(results: Iterable[Result]) -> Iterator[RunRow]:
    """Yield a row for each direction of each run; of a run that measured nothing one without."""
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


def started(row: RunRow) -> datetime | None:
    """Return when a run started; None: its document does not say."""
    try:
        found = datetime.fromisoformat(row.started_at)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _row(number: int, result: Result, flow: Flow | None) -> RunRow:
    row = RunRow(
        run=number,
        started_at=result.started_at,
        target=result.target,
        kind=str(result.spec.__struct_config__.tag),
        success=result.complete,
        error=None if result.error is None else result.error.code,
        error_phase=None if result.error is None else result.error.phase,
        syn_retransmits=result.syn_retransmits,
    )
    if flow is None:
        return row
    steady, loss, averages = flow.steady, flow.loss, flow.averages
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
        limited_by=None if flow.limits is None else flow.limits.limited_by,
    )

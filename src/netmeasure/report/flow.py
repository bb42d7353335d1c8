"""Show one direction of a test: its steady bitrate with the margin, and its averages."""

from __future__ import annotations

from statistics import median

from rich.console import RenderableType
from rich.padding import Padding

from netmeasure.report.ceiling import share_row
from netmeasure.report.datagrams import loss_rows
from netmeasure.report.ends import end_rows
from netmeasure.report.rates import steady_bps, stretch_bps, stretch_words
from netmeasure.report.tables import Row, add_column, add_row, plain_table
from netmeasure.report.transfers import transfer_rows, transfers
from netmeasure.result import Averages, Flow, Result, Steady, StreamResult
from netmeasure.units import bitrate, duration, percent, size

#: A sender that is late explains a ramp if it was late for this share of what the ramp lacks.
LATE = 0.5
#: A receiver's pauses explain its stalls if they cover this share of them.
UNREAD = 0.5

#: The words for each grade of a confidence interval.
GRADES = {
    "A": "grade A: well supported",
    "B": "grade B: fair, a longer run is more certain",
    "C": "grade C: weak, the true margin may be wider",
}

#: The words for each reason why there is no steady state.
NO_STEADY = {
    "no_bytes": "no bytes came",
    "too_short": "too short: all bytes came within a moment",
    "no_series": "neither end reported when the bytes came",
}


def flow_table(result: Result, flow: Flow) -> RenderableType:
    """Return the table of one direction."""
    table = plain_table(header=False)
    add_column(table)
    add_column(table, right=True)
    add_column(table, wraps=True)
    for row in _flow_rows(result, flow):
        add_row(table, *row)
    return Padding(table, (0, 0, 0, 2))


def stream_table(flow: Flow) -> RenderableType:
    """Return a table with a row for each stream of a direction."""
    table = plain_table()
    for name in ("stream", "steady", "margin", "transferred", "retransmits", "lost", "RTT", "cwnd"):
        add_column(table, name, right=True)
    for stream in flow.streams:
        add_row(table, *_stream_cells(stream))
    return Padding(table, (0, 0, 0, 2))


def _stream_cells(stream: StreamResult) -> list[str]:
    """Return the figures of a stream; "": unknown."""
    steady, sender, receiver = stream.steady, stream.sender, stream.receiver
    moved = receiver.bytes if receiver is not None else sender.acked_bytes if sender else None
    again = sender.retransmits if sender is not None else None
    datagrams = receiver.datagrams if receiver is not None else None
    lost = datagrams.lost_packets if datagrams is not None else None
    info = sender.tcp_info if sender is not None else None
    rtts, cwnds = (info.rtt_ns, info.cwnd_bytes) if info is not None else (None, None)
    return [
        str(stream.id),
        "" if steady is None else bitrate(steady.goodput_bps),
        "" if steady is None or steady.margin is None else f"+-{percent(steady.margin)}",
        "" if moved is None else size(moved),
        "" if again is None else str(again),
        "" if lost is None else str(lost),
        duration(median(rtts)) if rtts else "",
        size(max(cwnds)) if cwnds else "",
    ]


def _flow_rows(result: Result, flow: Flow) -> list[Row]:
    rows = _steady_rows(result, flow) + _average_rows(flow, flow.averages)
    if flow.loss is not None:
        rows += loss_rows(flow, flow.loss)
    moved = flow.delivered_bytes
    rows.append(("transferred", size(moved), "" if moved is None else f"{moved} bytes"))
    return rows + transfer_rows(flow) + end_rows(flow, result.path_hole)


# ---- the steady bitrate -------------------------------------------------------------------------


def _steady_rows(result: Result, flow: Flow) -> list[Row]:
    """Return the rows of the steady state, of the link's ceiling and of the ramp."""
    rows: list[Row] = []
    steady, ramp = flow.steady, flow.ramp
    if steady is not None:
        rows.append(("steady bitrate", bitrate(steady_bps(flow)), _steady_words(flow, steady)))
    elif flow.no_steady is not None:
        rows.append(("steady bitrate", "unknown", NO_STEADY[flow.no_steady]))
    if steady is not None and steady_bps(flow) is not None:
        rows += _uncertainty_rows(steady) + _level_rows(steady) + _stall_rows(flow, steady)
        rows += _stream_rows(flow)
    if (share := share_row(flow)) is not None:
        rows.append(share)
    elif result.spec.link is not None and steady is not None:
        words = "the path's MTU is not known, or contradicts the link's options"
        rows.append(("of the ceiling", "unknown", words))
    if ramp is not None and ramp.duration_ns:
        words = "" if stretch_bps(ramp) is None else f"at {stretch_words(ramp)}{_lateness(flow)}"
        rows.append(("ramp before it", duration(ramp.duration_ns), words))
    return rows


def _lateness(flow: Flow) -> str:
    """Return words on a sender of datagrams that was behind its schedule, if that explains most of
    what the ramp lacks: the network has no part in it."""
    ramp, wanted = flow.ramp, steady_bps(flow)
    counts = [s.sender.datagrams for s in flow.streams if s.sender and s.sender.datagrams]
    rate = None if ramp is None else stretch_bps(ramp)
    if ramp is None or rate is None or not wanted or not counts:
        return ""
    skipped_ns = sum(one.skipped_ns or 0 for one in counts) / len(counts)
    missing_ns = ramp.duration_ns * (1 - rate / wanted)
    if missing_ns <= 0 or skipped_ns < LATE * missing_ns:
        return ""
    return f": the sender was {duration(skipped_ns)} behind its schedule"


def _steady_words(flow: Flow, steady: Steady) -> str:
    """Return the basis of the steady bitrate, and the reasons to doubt it."""
    counted = "bytes received" if flow.counted_by == "receiver" else "bytes acknowledged"
    span = duration(steady.duration_ns)
    return {
        "steady": f"{counted} over {span}",
        "shifted": f"best effort: the rate changed its level; {counted} over {span}",
        "not_steady": f"best effort: no plateau was found; {counted} over {span}",
        "too_short": f"best effort: too short to tell; {counted} over {span}",
    }[steady.verdict]


def _uncertainty_rows(steady: Steady) -> list[Row]:
    if steady.confidence_interval is None or steady.margin is None:
        return []
    low, high = steady.confidence_interval
    words = "at least" if steady.grade == "C" else "95 % confidence"
    words += f": {bitrate(low)} to {bitrate(high)}"
    grade = GRADES.get(steady.grade or "", "")
    margin = f"+-{percent(steady.margin)}"
    return [("uncertainty", margin, f"{words}; {grade}" if grade else words)]


def _level_rows(steady: Steady) -> list[Row]:
    if not steady.levels:
        return []
    shown = [f"{stretch_words(one)} for {duration(one.duration_ns)}" for one in steady.levels]
    return [("levels", str(len(shown)), ", then ".join(shown))]


def _stall_rows(flow: Flow, steady: Steady) -> list[Row]:
    if not steady.stalls:
        return []
    longest = max(one.duration_ns for one in steady.stalls)
    lasted = f"for {duration(steady.stalled_ns)} in all, {duration(longest)} at the longest"
    words = f"nothing came {lasted}; between them {bitrate(steady.between_stalls_bps)}"
    if _unread_ns(flow, steady) >= UNREAD * steady.stalled_ns:
        # what came meanwhile was read at once afterwards, at more than the network's rate
        words = f"nothing was read {lasted}: the receiver's threads did not run"
    return [("stalls", str(len(steady.stalls)), words)]


def _unread_ns(flow: Flow, steady: Steady) -> int:
    """Return for how long of the stalls the receiver's host did not run the threads that read."""
    if flow.counted_by != "receiver":
        return 0
    pauses = [pause for pause in flow.pauses if pause.end == "receiver"]
    return sum(
        max(0, min(stall.end_ns, pause.end_ns) - max(stall.start_ns, pause.start_ns))
        for stall in steady.stalls
        for pause in pauses
    )


def _stream_rows(flow: Flow) -> list[Row]:
    """Return a row with the distribution of the steady bitrate over the streams."""
    rates = sorted(one.steady.goodput_bps for one in flow.streams if one.steady is not None)
    if len(rates) < 2:
        return []
    words = f"median; {bitrate(rates[0])} to {bitrate(rates[-1])}"
    return [("of each stream", bitrate(median(rates)), words)]


# ---- what other tools print ---------------------------------------------------------------------


def _average_rows(flow: Flow, averages: Averages) -> list[Row]:
    words = "first to last byte, without the omitted time (iperf3's way)"
    rows = [("average", bitrate(averages.after_omit_bps), words)]
    if averages.from_first_attempt_bps is not None:
        words = "counted from the first connect attempt (curl's way)"
        rows.append(("average with set-up", bitrate(averages.from_first_attempt_bps), words))
    if averages.from_first_byte_bps is not None and transfers(flow):
        words = "first to last byte of the bodies"
        rows.append(("average of body", bitrate(averages.from_first_byte_bps), words))
    return rows

"""One direction: what was steady, how well it is known, what came and went."""

from __future__ import annotations

from itertools import groupby
from statistics import median

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table

from netmeasure.report.ceiling import share_row
from netmeasure.report.datagrams import loss_rows
from netmeasure.report.hosts import cpu_row
from netmeasure.report.limits import limit_rows
from netmeasure.result import Flow, Result, Steady, StreamReport, Transfer
from netmeasure.units import bitrate, duration, size

#: What a grade says of the interval.
GRADES = {
    "A": "grade A: well supported",
    "B": "grade B: fair, a longer run would tell",
    "C": "grade C: weak, the true margin may be wider",
}


def flow_table(result: Result, flow: Flow) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column()
    for row in _flow_rows(result, flow):
        table.add_row(*row)
    return Padding(table, (0, 0, 0, 2))


def _flow_rows(result: Result, flow: Flow) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    steady, ramp, averages = flow.steady, flow.ramp, flow.averages
    if steady is not None:
        rows.append(("steady bitrate", bitrate(steady.goodput_bps), _steady_words(flow)))
        rows += _doubt_rows(steady) + _stream_rows(flow)
    if (share := share_row(flow)) is not None:
        rows.append(share)
    elif result.spec.link is not None and steady is not None:
        words = "the path's MTU is not known, or does not fit what was said of the link"
        rows.append(("of the ceiling", "unknown", words))
    if ramp is not None and ramp.duration_ns:
        rate = ramp.bytes * 8e9 / ramp.duration_ns
        rows.append(("ramp before it", duration(ramp.duration_ns), f"at {bitrate(rate)}"))
    rows.append(
        (
            "average",
            bitrate(averages.after_omit_bps),
            "first to last byte, without the omitted time (iperf3's way)",
        )
    )
    if averages.from_first_attempt_bps is not None:
        rows.append(
            (
                "average with set-up",
                bitrate(averages.from_first_attempt_bps),
                "counted from the first connect attempt (curl's way)",
            )
        )
    if averages.from_first_byte_bps is not None and _transfers(flow):
        words = "first to last byte of the bodies"
        rows.append(("average of body", bitrate(averages.from_first_byte_bps), words))
    if flow.loss is not None:
        rows += loss_rows(flow, flow.loss)
    moved = flow.delivered_bytes
    rows.append(("transferred", size(moved), "" if moved is None else f"{moved} bytes"))
    rows += _transfer_rows(flow)
    rows += _end_rows(result, flow)
    return rows


def _transfers(flow: Flow) -> list[Transfer]:
    ends = [stream.receiver or stream.sender for stream in flow.streams]
    return [end.transfer for end in ends if end is not None and end.transfer is not None]


def _transfer_rows(flow: Flow) -> list[tuple[str, str, str]]:
    """What was transferred by URL, and how."""
    transfers = _transfers(flow)
    if not transfers:
        return []
    one = transfers[0]
    words = [one.protocol if one.status is None else f"{one.protocol} {one.status}"]
    if one.tls:
        words.append(
            f"{one.tls} {one.cipher or ''}{', resumed' if one.tls_resumed else ''}".strip()
        )
    if one.encoding and one.encoding != "identity":
        words.append(one.encoding)
    if one.drained_by:
        way = {"native": "natively", "library": "through Python", "both": "partly natively"}
        words.append(f"moved {way[one.drained_by]}")
    rows = [("protocol", "", ", ".join(words))]
    count = sum(transfer.transfers for transfer in transfers)
    if count > 1 and one.set_up is not None:
        spreads = [t.set_up for t in transfers if t.set_up is not None]
        low = min(spread.min_ns for spread in spreads)
        high = max(spread.max_ns for spread in spreads)
        middle = median(spread.median_ns for spread in spreads)
        words = [f"set-up of each {duration(middle)} (median; {duration(low)} to {duration(high)})"]
        rows.append(("transfers", str(count), words[0]))
    return rows


def _steady_words(flow: Flow) -> str:
    steady = flow.steady
    assert steady is not None
    counted = "bytes received" if flow.counted_by == "receiver" else "bytes acknowledged"
    span = duration(steady.duration_ns)
    return {
        "steady": f"{counted} over {span}",
        "shifted": f"best effort: the rate changed its level; {counted} over {span}",
        "not_steady": f"best effort: no plateau was found; {counted} over {span}",
        "too_short": f"best effort: too short to tell; {counted} over {span}",
    }[steady.verdict]


def _doubt_rows(steady: Steady) -> list[tuple[str, str, str]]:
    """How well the rate is known, and what speaks against calling it one rate."""
    rows: list[tuple[str, str, str]] = []
    if steady.confidence_interval is not None and steady.margin is not None:
        low, high = steady.confidence_interval
        margin = f"{100 * steady.margin:.2g} %"
        if steady.grade == "C":
            words = f"at least: {bitrate(low)} to {bitrate(high)}"
        else:
            words = f"95 % confidence: {bitrate(low)} to {bitrate(high)}"
        grade = GRADES.get(steady.grade or "", "")
        rows.append(("uncertainty", f"+-{margin}", f"{words}; {grade}" if grade else words))
    if steady.levels:
        shown = [
            f"{bitrate(one.goodput_bps)} for {duration(one.duration_ns)}" for one in steady.levels
        ]
        rows.append(("levels", str(len(shown)), ", then ".join(shown)))
    if steady.stalls:
        longest = max(one.duration_ns for one in steady.stalls)
        words = (
            f"nothing came for {duration(steady.stalled_ns)} in all, {duration(longest)} at the"
            f" longest; between them {bitrate(steady.between_stalls_bps)}"
        )
        rows.append(("stalls", str(len(steady.stalls)), words))
    return rows


def _stream_rows(flow: Flow) -> list[tuple[str, str, str]]:
    """How the streams shared the steady bitrate."""
    rates = sorted(one.steady.goodput_bps for one in flow.streams if one.steady is not None)
    if len(rates) < 2:
        return []
    words = f"median; {bitrate(rates[0])} to {bitrate(rates[-1])}"
    return [("of each stream", bitrate(median(rates)), words)]


def _end_rows(result: Result, flow: Flow) -> list[tuple[str, str, str]]:
    upload = flow.direction == "upload"
    sending, receiving = ("client", "server") if upload else ("server", "client")
    rows: list[tuple[str, str, str]] = []
    retransmits = flow.sender.retransmits
    if retransmits is not None:
        rows.append(("retransmits", str(retransmits), f"segments, by the {sending}"))
    reports = [stream.sender for stream in flow.streams if stream.sender]
    rows += limit_rows(flow) + _pause_rows(flow)
    if words := _tcp_words(reports):
        rows.append(("sender's TCP", "", words))
    span = flow.steady.end_ns if flow.steady else None
    for role, end, totals in (
        ("sender", sending, flow.sender),
        ("receiver", receiving, flow.receiver),
    ):
        if totals.cpu_user_ns is not None and totals.cpu_system_ns is not None and span:
            rows.append(cpu_row(role, end, totals, span))
    return rows


def _pause_rows(flow: Flow) -> list[tuple[str, str, str]]:
    """When an end's own host kept its traffic threads from running, and why, as far as is known."""
    causes = {
        "stopped": "the process was stopped or frozen, its host suspended, or its file blocked",
        "starved": "others had the CPU, or the control group's quota was used up",
    }
    rows = []
    for (end, cause), group in groupby(flow.pauses, key=lambda pause: (pause.end, pause.cause)):
        spells = list(group)
        first, last = spells[0].start_ns / 1e9, spells[-1].end_ns / 1e9
        times = "" if len(spells) == 1 else f", {len(spells)} times"
        words = f"{end}'s threads did not run, {first:.2f}-{last:.2f} s{times}: {causes[cause]}"
        rows.append(("stood still", duration(sum(one.duration_ns for one in spells)), words))
    return rows


def _tcp_words(reports: list[StreamReport]) -> str:
    """Round trip, window, MSS and congestion control over the streams that one end sent on."""
    infos = [report.tcp_info for report in reports if report.tcp_info]
    words: list[str] = []
    names = {r.socket.congestion for r in reports if r.socket and r.socket.congestion}
    if names:
        words.append("/".join(sorted(names)))
    mss = {info.mss_bytes[-1] for info in infos if info.mss_bytes}
    if mss:
        words.append(f"MSS {min(mss)}")
    rtts = [rtt for info in infos for rtt in info.rtt_ns or ()]
    least = [info.min_rtt_ns[-1] for info in infos if info.min_rtt_ns]
    if rtts and least:
        words.append(f"RTT {duration(min(least))} at best, {duration(median(rtts))} under load")
    windows = [cwnd for info in infos for cwnd in info.cwnd_bytes or ()]
    if windows:
        words.append(f"cwnd up to {size(max(windows))}")
    return ", ".join(words)

"""The text report: what set-up cost, what was steady, and what other tools would have printed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from statistics import median

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from netmeasure.report.ceiling import mismatch, share_row
from netmeasure.report.hosts import cpu_row, host_table
from netmeasure.report.limits import limit_rows
from netmeasure.result import (
    Flow,
    Interval,
    Loss,
    Phase,
    Result,
    SideReport,
    Steady,
    StreamReport,
    Transfer,
)
from netmeasure.spec import FtpSpec, HttpSpec, Spec, UdpSpec
from netmeasure.units import bitrate, duration, size

#: Set-up is worth a sentence of its own when it changes the average by more than this share.
DISTORTION = 0.02
#: More connections than this are shown as a distribution.
MAX_ROWS = 4


def render(result: Result) -> RenderableType:
    """The whole report."""
    parts: list[RenderableType] = [Text(title(result), style="bold")]
    if result.setup:
        parts += [Text("\nSet-up"), Padding(_setup_table(result), (0, 0, 0, 2))]
    for flow in result.flows:
        parts += [Text(f"\n{flow.direction.capitalize()}"), _flow(result, flow)]
    if (hosts := host_table(result)).rows:
        parts += [Text("\nHosts"), Padding(hosts, (0, 0, 0, 2))]
    parts += [Text(f"\n{line}") for line in closing_lines(result)]
    return Group(*parts)


def print_report(result: Result, console: Console) -> None:
    console.print(render(result), highlight=False)


def title(result: Result) -> str:
    return f"{spec_words(result.spec)}, {result.target} ({_peer(result)})"


def spec_words(spec: Spec) -> str:
    """What was asked for: "TCP upload, 1 stream, 10.0 s"."""
    streams = "1 stream" if spec.streams == 1 else f"{spec.streams} streams"
    direction = "both directions" if spec.direction == "both" else spec.direction
    if spec.total_bytes is not None:
        amount = size(spec.total_bytes)
    else:
        amount = "the whole file" if spec.limit_s is None else duration(spec.limit_s * 1e9)
    if spec.timing.until is not None:
        amount = f"until +-{100 * spec.timing.until:g} %, at most {amount}"
    omit = f" after {spec.timing.omit_s:g} s omitted" if spec.timing.omit_s else ""
    kind = f"TCP {direction}"
    if isinstance(spec, UdpSpec):
        rate = "as fast as possible" if spec.target_bps is None else bitrate(spec.target_bps)
        if spec.target_pps is not None:
            rate = f"{spec.target_pps} packets/s"
        kind = f"UDP {direction} at {rate}, datagrams of {spec.datagram_bytes or 'unknown'} bytes"
    if isinstance(spec, HttpSpec | FtpSpec):
        kind = f"{spec.kind} {direction}"
        if spec.repeat:
            amount = f"repeated {amount}" if spec.timing.until else f"repeated for {amount}"
    return f"{kind}, {streams}, {amount}{omit}"


def _peer(result: Result) -> str:
    host = result.server.host
    if host.program is None:
        return "server unknown"
    return " ".join(filter(None, (host.program, host.version)))


# ---- set-up -------------------------------------------------------------------------------------


def _setup_table(result: Result) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="")
    for name, justify in (
        ("phase", "left"),
        ("connection", "left"),
        ("from", "right"),
        ("took", "right"),
        ("", "left"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in _setup_rows(result.setup):
        table.add_row(*row)
    if result.set_up_ns is not None:
        table.add_row("total", "", "", duration(result.set_up_ns), "until the first byte")
    return table


def _setup_rows(phases: Iterable[Phase]) -> list[tuple[str, str, str, str, str]]:
    # of repeated transfers, the first ones; the distribution of all stands with the direction
    phases = [phase for phase in phases if "#" not in phase.connection]
    streams = {p.connection for p in phases if p.connection.startswith("stream")}
    if len(streams) <= MAX_ROWS:
        return [_phase_row(phase) for phase in phases]
    rows = [_phase_row(p) for p in phases if p.connection not in streams]
    many = [p for p in phases if p.connection in streams]
    names = dict.fromkeys(phase.name for phase in many)
    return rows + [_many_row([p for p in many if p.name == name]) for name in names]


def _phase_row(phase: Phase) -> tuple[str, str, str, str, str]:
    said = [phase.address] if phase.address and phase.name == "connect" else []
    if phase.syn_retransmits:
        said.append(_syns(phase.syn_retransmits))
    if phase.detail:
        said.append(phase.detail)
    return (
        phase.name.replace("_", " "),
        phase.connection,
        duration(phase.start_ns),
        duration(phase.duration_ns),
        ", ".join(said),
    )


def _many_row(phases: list[Phase]) -> tuple[str, str, str, str, str]:
    times = sorted(phase.duration_ns for phase in phases)
    syns = sum(phase.syn_retransmits or 0 for phase in phases)
    spread = f"median; {duration(times[0])} to {duration(times[-1])}"
    return (
        phases[0].name.replace("_", " "),
        f"{len(phases)} streams",
        duration(min(phase.start_ns for phase in phases)),
        duration(median(times)),
        f"{spread}, {_syns(syns)}" if syns else spread,
    )


def _syns(count: int) -> str:
    return f"{count} SYN retransmission{'s' if count > 1 else ''}"


# ---- a direction --------------------------------------------------------------------------------


def _flow(result: Result, flow: Flow) -> RenderableType:
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
    if averages.from_first_byte_bps is not None and _is_fetch(flow):
        words = "first to last byte of the bodies"
        rows.append(("average of body", bitrate(averages.from_first_byte_bps), words))
    if flow.loss is not None:
        rows += _loss_rows(flow, flow.loss)
    moved = flow.receiver.bytes if flow.receiver.bytes is not None else flow.sender.acked_bytes
    rows.append(("transferred", size(moved), _exact(moved)))
    rows += _transfer_rows(flow)
    rows += _end_rows(result, flow)
    return rows


def _is_fetch(flow: Flow) -> bool:
    return bool(_transfers(flow))


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


def _loss_rows(flow: Flow, loss: Loss) -> list[tuple[str, str, str]]:
    ratio = "unknown" if loss.loss_ratio is None else f"{100 * loss.loss_ratio:.3g} %"
    words = [f"{_count(loss.lost_packets)} of {_count(loss.sent_packets)} datagrams"]
    for number, what in (
        (loss.host_dropped_packets, "dropped at the receiver's own socket"),
        (loss.reordered_packets, "out of order"),
        (loss.duplicate_packets, "duplicates"),
    ):
        if number:
            words.append(f"{number} {what}")
    rows = [("lost", ratio, ", ".join(words))]
    if loss.jitter_ns is not None:
        meaning = "RFC 3550" if loss.jitter_valid else "datagrams went in trains: means little"
        rows.append(("jitter", duration(loss.jitter_ns), meaning))
    rows += _history_rows([stream.receiver for stream in flow.streams if stream.receiver])
    rows += _buffer_rows(flow)
    if pace := _pace_words([stream.sender for stream in flow.streams if stream.sender]):
        rows.append(("sender's pace", "", pace))
    return rows


def _history_rows(reports: list[StreamReport]) -> list[tuple[str, str, str]]:
    """Where in the run datagrams were lost: one figure may hide an outage."""
    histories = [r.datagrams.history for r in reports if r.datagrams and r.datagrams.history]
    if len(histories) != 1:
        return []
    history = histories[0]
    missing = [h - p for h, p in zip(history.highest_sequence, history.packets, strict=True)]
    losses = [(after - before, i) for i, (before, after) in enumerate(pairwise(missing))]
    if not losses or missing[-1] <= 0:
        return []
    worst, index = max(losses)
    since, until = history.at_ns[index], history.at_ns[index + 1]
    sent = history.highest_sequence[index + 1] - history.highest_sequence[index]
    if worst <= 0 or sent <= 0:
        return []
    words = f"{worst} of {sent} datagrams, {since / 1e9:.2f} to {until / 1e9:.2f} s"
    return [("most lost", f"{100 * worst / sent:.3g} %", words)]


def _buffer_rows(flow: Flow) -> list[tuple[str, str, str]]:
    facts = {
        "sender": [s.sender.socket for s in flow.streams if s.sender and s.sender.socket],
        "receiver": [s.receiver.socket for s in flow.streams if s.receiver and s.receiver.socket],
    }
    words = [
        f"{role} {size(min(sizes))}"
        for role, sizes in (
            ("sender", [f.sndbuf_bytes for f in facts["sender"] if f.sndbuf_bytes]),
            ("receiver", [f.rcvbuf_bytes for f in facts["receiver"] if f.rcvbuf_bytes]),
        )
        if sizes
    ]
    return [("socket buffers", "", ", ".join(words))] if words else []


def _pace_words(reports: list[StreamReport]) -> str:
    counts = [report.datagrams for report in reports if report.datagrams]
    bursts = [c.largest_burst_bytes for c in counts if c.largest_burst_bytes is not None]
    if not bursts:
        return ""
    words = [f"largest burst {size(max(bursts))}"]
    wakeups = sum(c.wakeups or 0 for c in counts)
    if wakeups:
        words.append(f"{sum(c.late_wakeups or 0 for c in counts)} of {wakeups} wake-ups late")
    return ", ".join(words)


def _count(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _exact(count: int | None) -> str:
    return "" if count is None else f"{count} bytes"


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


#: What a grade says of the interval.
GRADES = {
    "A": "grade A: well supported",
    "B": "grade B: fair, a longer run would tell",
    "C": "grade C: weak, the true margin may be wider",
}


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
    rows += limit_rows(flow)
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


# ---- the last lines -----------------------------------------------------------------------------


def closing_lines(result: Result) -> list[str]:
    lines = [f"note: {note}" for note in result.notes]
    if result.error is not None:
        lines.append(f"INCOMPLETE: {result.error.message}")
    lines += [line for flow in result.flows if (line := distortion(result, flow))]
    ceilings = [flow.ceiling for flow in result.flows if flow.ceiling is not None]
    lines += dict.fromkeys(line for ceiling in ceilings if (line := mismatch(ceiling)))
    return lines


def distortion(result: Result, flow: Flow) -> str | None:
    """One plain sentence when set-up distorts the average; None when it does not."""
    wrong, right = flow.averages.from_first_attempt_bps, flow.averages.from_first_byte_bps
    if wrong is None or right is None or wrong >= right * (1 - DISTORTION):
        return None
    syns = f" ({_syns(result.syn_retransmits)})" if result.syn_retransmits else ""
    carried = flow.steady.goodput_bps if flow.steady else right
    return (
        f"Set-up took {duration(flow.averages.set_up_ns)}{syns}: a tool that counts from the first"
        f" attempt reports {bitrate(wrong)}; the network carried {bitrate(carried)}."
    )


# ---- single lines -------------------------------------------------------------------------------


def interval_line(interval: Interval) -> str:
    """One live interval; numbers stay in their columns."""
    retransmits = "" if interval.retransmits is None else f"  {interval.retransmits:5d} retransmits"
    if interval.packets is not None:
        lost = "" if interval.lost_packets is None else f", {interval.lost_packets} lost"
        if interval.jitter_ns is not None:
            lost += f", jitter {duration(interval.jitter_ns)}"
        retransmits = f"  {interval.packets:7d} datagrams{lost}"
    return (
        f"  {interval.direction:8s}  {interval.start_ns / 1e9:7.2f} -{interval.end_ns / 1e9:7.2f} s"
        f"  {size(interval.bytes):>10s}  {bitrate(interval.goodput_bps):>11s}{retransmits}"
        f"{'  (omitted)' if interval.omitted else ''}"
    )


def server_line(result: Result) -> str:
    """What a server says of a test that is over."""
    figures = [
        f"{flow.direction} {bitrate(flow.steady.goodput_bps if flow.steady else None)}"
        f" ({size(_moved(flow))})"
        for flow in result.flows
    ]
    client = _program(result.client)
    state = "complete" if result.error is None else f"incomplete: {result.error.message}"
    return f"{result.started_at}  {result.target}  {client}  {', '.join(figures) or '-'}  {state}"


def _moved(flow: Flow) -> int | None:
    return flow.sender.acked_bytes if flow.receiver.bytes is None else flow.receiver.bytes


def _program(side: SideReport) -> str:
    return " ".join(filter(None, (side.host.program, side.host.version))) or "unknown client"

"""Show the figures of a flow's two ends: retransmissions, bottleneck, pauses, TCP, CPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from statistics import median

from netmeasure.report.bottleneck import limit_rows
from netmeasure.report.hosts import cpu_row
from netmeasure.report.tables import Row
from netmeasure.result import Flow, PathHole, StreamReport
from netmeasure.units import duration, size

#: The words for each cause of a pause.
_CAUSES = {
    "stopped": "the process was stopped or frozen, its host suspended, or its file blocked",
    "starved": "other processes had the CPU, or the control group's quota was used up",
}


def end_rows(flow: Flow, hole: PathHole | None) -> list[Row]:
    """Return the rows of the two ends. `hole` is the path MTU black hole that was found."""
    upload = flow.direction == "upload"
    sending, receiving = ("client", "server") if upload else ("server", "client")
    senders = [stream.sender for stream in flow.streams if stream.sender]
    receivers = [stream.receiver for stream in flow.streams if stream.receiver]
    rows: list[Row] = []
    if flow.sender.retransmits is not None:
        words = f"segments, by the {sending}"
        rows.append(("retransmits", str(flow.sender.retransmits), words))
    rows += limit_rows(flow, hole) + _pause_rows(flow)
    if words := _tcp_words(senders):
        rows.append(("sender's TCP", "", words))
    for role, end, totals, reports in (
        ("sender", sending, flow.sender, senders),
        ("receiver", receiving, flow.receiver, receivers),
    ):
        rows += cpu_row(role, end, totals, _span_ns(flow, reports), len(reports))
    return rows


def _span_ns(flow: Flow, reports: Sequence[StreamReport]) -> int | None:
    """Return how long an end's threads transferred data, from its start signal; None: unknown."""
    ends = [flow.steady.end_ns] if flow.steady is not None else []
    ends += [report.last_ns for report in reports if report.last_ns is not None]
    ends += [report.thread.at_ns[-1] for report in reports if report.thread and report.thread.at_ns]
    return max(ends, default=None)


def _pause_rows(flow: Flow) -> list[Row]:
    """Return a row for each end and each cause of pauses."""
    rows: list[Row] = []
    for (end, cause), group in groupby(flow.pauses, key=lambda pause: (pause.end, pause.cause)):
        pauses = list(group)
        first, last = pauses[0].start_ns / 1e9, pauses[-1].end_ns / 1e9
        times = "" if len(pauses) == 1 else f", {len(pauses)} times"
        words = f"{end}'s threads did not run, {first:.2f}-{last:.2f} s{times}: {_CAUSES[cause]}"
        rows.append(("paused", duration(sum(one.duration_ns for one in pauses)), words))
    return rows


def _tcp_words(senders: Sequence[StreamReport]) -> str:
    """Return congestion control, MSS, round trip and window of the streams that one end sent on."""
    infos = [report.tcp_info for report in senders if report.tcp_info]
    words: list[str] = []
    names = {r.socket.congestion for r in senders if r.socket and r.socket.congestion}
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

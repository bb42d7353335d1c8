"""Format results as plain lines of text: titles, intervals, notes, a server's line.

This module does not import rich, so that programs that only print lines start without it.
"""

from __future__ import annotations

from netmeasure.report.mtu import mismatch
from netmeasure.report.rates import steady_bps, stretch_bps
from netmeasure.result import Flow, Host, Interval, Result
from netmeasure.spec import FtpSpec, HttpSpec, RequestSpec, RrSpec, Spec, UdpSpec
from netmeasure.units import bitrate, duration, size

#: If set-up changes the average by more than this share, the report says so in a sentence.
DISTORTION = 0.02
#: The significant digits of a run's rate: runs of the same test often differ in the fourth digit.
FIGURES = 4


def title(result: Result) -> str:
    """Return the report's first line: the test and the server."""
    server = _program(result.server.host) or "server unknown"
    return f"{spec_words(result.spec)}, {result.target} ({server})"


def spec_words(spec: Spec) -> str:
    """Return the specification as text such as "TCP upload, 1 stream, 10.0 s"."""
    if isinstance(spec, RrSpec):
        return _round_trip_words(spec)
    if isinstance(spec, RequestSpec):
        return _request_words(spec)
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
        kind = f"UDP {direction} at {rate}"
        if spec.datagram_bytes is not None:  # otherwise both ends have not agreed on it yet
            kind += f", datagrams of {spec.datagram_bytes} bytes"
    if isinstance(spec, HttpSpec | FtpSpec):
        kind = f"{spec.kind} {direction}"
        if spec.repeat:
            amount = f"repeated {amount}" if spec.timing.until else f"repeated for {amount}"
    return f"{kind}, {streams}, {amount}{omit}"


def _round_trip_words(spec: RrSpec) -> str:
    """Return the specification as text such as "TCP round trips, 1 byte there and 1 back"."""
    there = "1 byte" if spec.request_bytes == 1 else f"{spec.request_bytes} bytes"
    pace = f", {spec.in_flight} in flight" if spec.in_flight > 1 else ""
    if spec.target_tps is not None:
        pace += f", {spec.target_tps}/s on each"
    links = "1 connection" if spec.streams == 1 else f"{spec.streams} connections"
    if not spec.keep_connections:
        links += ", a fresh one for each"
    kind = f"{spec.transport.upper()} round trips of {there} and {spec.response_bytes} back{pace}"
    return f"{kind}, {links}, {_trips_amount(spec)}"


def _trips_amount(spec: RrSpec | RequestSpec) -> str:
    """Return the end of a test of round trips as text, and its omitted time."""
    blocks, limit_s = spec.timing.total_blocks, spec.limit_s
    if blocks is not None:
        amount = f"{blocks} {unit_of(spec)}"
    else:
        amount = "until stopped" if limit_s is None else duration(limit_s * 1e9)
    if spec.timing.until is not None:
        amount = f"until +-{100 * spec.timing.until:g} %, at most {amount}"
    omit = f" after {spec.timing.omit_s:g} s omitted" if spec.timing.omit_s else ""
    return f"{amount}{omit}"


def _request_words(spec: RequestSpec) -> str:
    """Return the specification as text such as "HTTP requests, 100 connections that are kept"."""
    links = "1 connection" if spec.streams == 1 else f"{spec.streams} connections"
    links += " kept" if spec.keep_connections else ", a fresh one for each request"
    pace = "" if spec.target_rps is None else f" at {spec.target_rps}/s"
    return f"{spec.kind}{pace}, {links}, {_trips_amount(spec)}"


# ---- the last lines -----------------------------------------------------------------------------


def closing_lines(result: Result) -> list[str]:
    """Return the report's last lines: notes, the error, and warnings about set-up and MTU."""
    lines = [f"note: {note}" for note in result.notes]
    if (broken := error_line(result)) is not None:
        lines.append(broken)
    if result.round_trips is None:
        lines += [line for flow in result.flows if (line := distortion(result, flow))]
    ceilings = [flow.ceiling for flow in result.flows if flow.ceiling is not None]
    lines += dict.fromkeys(line for ceiling in ceilings if (line := mismatch(ceiling)))
    return lines


def error_line(result: Result) -> str | None:
    """Return the line on the error that cut a run short, None where none did."""
    return None if result.error is None else f"INCOMPLETE: {result.error.message}"


def distortion(result: Result, flow: Flow) -> str | None:
    """Return a sentence if set-up distorts the average by more than DISTORTION, else None."""
    wrong, right = flow.averages.from_first_attempt_bps, flow.averages.from_first_byte_bps
    if wrong is None or right is None or wrong >= right * (1 - DISTORTION):
        return None
    syns = f" ({syns_again(result.syn_retransmits)})" if result.syn_retransmits else ""
    steady = steady_bps(flow)
    carried = f"; the network carried {bitrate(right if steady is None else steady)}"
    if flow.no_steady == "too_short":  # a burst within a moment, of which a buffer may take all
        carried = ""
    elif too_short(flow):  # it may all be the ramp, so it is not what the network can carry
        carried = f"; without set-up, it was {bitrate(right)}"
    return (
        f"Set-up took {duration(flow.averages.set_up_ns)}{syns}: a tool that counts from the first"
        f" attempt reports {bitrate(wrong)}{carried}."
    )


def too_short(flow: Flow) -> bool:
    """Return whether a flow was too short to tell its ramp from its steady state."""
    return flow.steady is not None and flow.steady.verdict == "too_short"


# ---- single lines -------------------------------------------------------------------------------


def interval_line(interval: Interval, spec: Spec | None = None) -> str:
    """Return a line on one live interval, with its numbers in columns of fixed width.

    An interval that is too short for a rate has "-" in its place. `spec` is the test's
    specification: for round trips, the line has their number.
    """
    rate = stretch_bps(interval)
    if isinstance(spec, RrSpec | RequestSpec):
        done, per_s = transactions(spec, interval)
        return (
            f"  {interval.start_ns / 1e9:7.2f} -{interval.end_ns / 1e9:7.2f} s"
            f"  {done:9d} {unit_of(spec)}  {'-' if per_s is None else f'{per_s:.0f}':>8s}/s"
            f"{'  (omitted)' if interval.omitted else ''}"
        )
    retransmits = "" if interval.retransmits is None else f"  {interval.retransmits:5d} retransmits"
    if interval.packets is not None:
        lost = "" if interval.lost_packets is None else f", {interval.lost_packets} lost"
        if interval.jitter_ns is not None:
            lost += f", jitter {duration(interval.jitter_ns)}"
        retransmits = f"  {interval.packets:7d} datagrams{lost}"
    return (
        f"  {interval.direction:8s}  {interval.start_ns / 1e9:7.2f} -{interval.end_ns / 1e9:7.2f} s"
        f"  {size(interval.bytes):>10s}  {'-' if rate is None else bitrate(rate):>11s}{retransmits}"
        f"{'  (omitted)' if interval.omitted else ''}"
    )


def has_trips(spec: Spec) -> bool:
    """Return whether a test counts round trips or requests instead of bytes."""
    return isinstance(spec, RrSpec | RequestSpec)


def unit_of(spec: Spec) -> str:
    """Return the unit of a test's round trips."""
    return "requests" if isinstance(spec, RequestSpec) else "transactions"


def transactions(spec: RrSpec | RequestSpec, interval: Interval) -> tuple[int, float | None]:
    """Return the transactions of a live interval, and their rate per second; None: the interval is
    too short for a rate."""
    rate = stretch_bps(interval)
    per_s = None if rate is None else rate / 8 / spec.request_bytes
    return round(interval.bytes / spec.request_bytes), per_s


def _flow_words(result: Result, flow: Flow, figures: int = 3) -> str:
    """Return the steady rate of a flow: transactions per second, or its direction and bitrate."""
    rate = steady_bps(flow)
    if not isinstance(result.spec, RrSpec | RequestSpec):
        return f"{flow.direction} {bitrate(rate, figures)}"
    return "round trips, " + (
        "rate unknown" if rate is None else f"{rate / 8 / result.spec.request_bytes:.0f}/s"
    )


def server_line(result: Result) -> str:
    """Return a server's line on an ended test."""
    figures = [
        f"{_flow_words(result, flow)} ({size(flow.delivered_bytes)})" for flow in result.flows
    ]
    client = _program(result.client.host) or "unknown client"
    state = "complete" if result.error is None else f"incomplete: {result.error.message}"
    return f"{result.started_at}  {result.target}  {client}  {', '.join(figures) or '-'}  {state}"


def _program(host: Host) -> str:
    return " ".join(filter(None, (host.program, host.version)))


def run_line(label: str, result: Result) -> str:
    """Return a line on one finished run, for display while other runs are still to come."""
    figures = ", ".join(_flow_words(result, flow, FIGURES) for flow in result.flows)
    if not result.complete:
        why = "cut short" if result.error is None else result.error.message
        figures = f"{figures}  INCOMPLETE: {why}" if figures else f"INCOMPLETE: {why}"
    if result.set_up_ns is None and not result.flows:
        return f"{label}  {figures}"
    return f"{label}  set-up {duration(result.set_up_ns)}  {figures}"


def syns_again(count: int) -> str:
    """Return text such as "2 SYN retransmissions"."""
    return f"{count} SYN retransmission{'s' if count > 1 else ''}"

"""Show the bottleneck of a flow, over the whole run and over time if it changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from netmeasure.analysis.bottleneck_rules import HELD_BACK, ON_TARGET, QUEUED
from netmeasure.report.rates import ratio_words
from netmeasure.report.tables import Row
from netmeasure.result import Flow, FlowInterval, Limit, Limits, PathHole
from netmeasure.units import duration, size

#: If the bottleneck changed more often than this, the row has each one's share of the time.
MAX_SPELLS = 5
#: A receiver's window is too small if the rate uses at least this share of it.
SMALL = 0.5
#: Lost datagrams are the bottleneck if they are at least this share of what the target rate lacks.
MOSTLY = 0.5
_NAMES: dict[Limit, str] = {
    "sender_paused": "the sender's host, which did not run the traffic threads",
    "receiver_paused": "the receiver's host, which did not run the traffic threads",
    "pacing": "the target rate that was asked for",
    "sender_cpu": "the sender's CPU",
    "receiver_cpu": "the receiver's CPU",
    "receive_window": "the receiver's window",
    "send_buffer": "the sender's socket buffer",
    "congestion_window": "the congestion window: no queue built up on the way",
    "policer": "a policer on the way: packets above the rate are dropped, none is delayed",
    "link": "a link on the way",
    "network": "the network or its hosts: no single limit stands out",
    "application": "the sender, which often had nothing to send",
}
_SHORT: dict[Limit, str] = {
    "sender_paused": "sender's host",
    "receiver_paused": "receiver's host",
    "pacing": "target rate",
    "sender_cpu": "sender's CPU",
    "receiver_cpu": "receiver's CPU",
    "receive_window": "receive window",
    "send_buffer": "send buffer",
    "congestion_window": "congestion window",
    "policer": "policer",
    "link": "link",
    "network": "network",
    "application": "application",
}


def name_of_limit(limits: Limits) -> str:
    """Return the bottleneck in words, without figures; "unknown" if it is not known."""
    if limits.limited_by is None:
        return "unknown"
    if limits.limited_by == "pacing" and limits.target_is == "pacing_rate":
        return "the pacing rate that was asked for"
    return _NAMES[limits.limited_by]


def short_limit(limits: Limits) -> str:
    """Return the bottleneck in one or two words; "unknown" if it is not known."""
    return "unknown" if limits.limited_by is None else _SHORT[limits.limited_by]


class LimitNames(NamedTuple):
    """Hold the bottleneck of a flow in words: in full, without its explanation, and in one or two
    words."""

    full: str
    brief: str
    short: str


def names_of_limit(flow: Flow, hole: PathHole | None = None) -> LimitNames | None:
    """Return the bottleneck of a flow in words, the path's black hole and lost datagrams included;
    None: it is not known."""
    if hole is not None and hole.direction == flow.direction and flow.no_steady == "no_bytes":
        full = f"the path MTU: packets of {hole.lost_bytes} bytes and more do not get through"
        return LimitNames(full, "the path MTU", "path MTU")
    if flow.limits is not None and flow.limits.limited_by is not None:
        full = name_of_limit(flow.limits)
        return LimitNames(full, full.partition(":")[0], short_limit(flow.limits))
    return _loss_as_limit(flow)


def _loss_as_limit(flow: Flow) -> LimitNames | None:
    """Return who dropped the datagrams that a flow lacks; None: they do not explain its rate."""
    loss = flow.loss
    if loss is None or not loss.loss_ratio:
        return None
    target = None if flow.limits is None else flow.limits.target_ratio
    missing = 1 - (ON_TARGET if target is None else target)
    if loss.loss_ratio < MOSTLY * missing:
        return None
    share = f"{100 * loss.loss_ratio:.3g} % of the datagrams"
    if (loss.host_dropped_packets or 0) >= MOSTLY * (loss.lost_packets or 0):
        full = f"the receiver's socket buffer: {share} were lost, most of them there"
        return LimitNames(full, "the receiver's socket buffer", "receive buffer")
    brief = f"the network, which lost {share}"
    return LimitNames(brief, brief, "datagram loss")


def limit_rows(flow: Flow, hole: PathHole | None = None) -> list[Row]:
    """Return a row with the run's bottleneck, and a row with its changes over time."""
    names = names_of_limit(flow, hole)
    if names is None:
        return []
    limits = flow.limits
    if limits is None or limits.limited_by is None or names.full != name_of_limit(limits):
        return [("limited by", "", names.full)]
    rows = [("limited by", "", _words(limits, limits.limited_by))]
    if course := _course(flow.intervals):
        rows.append(("in its course", "", course))
    return rows


def _words(limits: Limits, limited_by: Limit) -> str:
    """Return the bottleneck's name, and the figures that show it."""
    words = [name_of_limit(limits)]
    if limited_by in ("sender_cpu", "receiver_cpu"):
        end = limited_by.removesuffix("_cpu")
        ran = ratio_words(getattr(limits, f"{end}_cpu_ratio"))
        waited = ratio_words(getattr(limits, f"{end}_wait_ratio") or None)
        if ran is not None:
            others = f", waiting for it {waited}" if waited else ""
            words[0] += f" (on it {ran} of the time{others})"
    shares = {
        "receive_window": limits.rwnd_limited_ratio,
        "send_buffer": limits.sndbuf_limited_ratio,
    }
    share = shares.get(limited_by)
    if share is not None and share >= HELD_BACK:
        words[0] += f" (for {100 * share:.0f} % of the sender's busy time)"
    if limited_by == "link":
        if limits.queue_delay_ns and (limits.buffer_delay_ratio or 0) >= QUEUED:
            words[0] += f": data queued at it for {duration(limits.queue_delay_ns)}"
        else:
            words[0] += ": TCP paces at its estimate of the path's rate"
    if limits.tcp_efficiency is not None and limits.tcp_efficiency < 1:
        words.append(f"TCP efficiency {100 * limits.tcp_efficiency:.2f} %")
    if limited_by == "receive_window" and limits.window_needed_bytes and _is_small(limits):
        words.append(f"this rate needs {size(limits.window_needed_bytes)}")
    return ", ".join(words)


def _is_small(limits: Limits) -> bool:
    """Return whether the receiver's window is about what the rate needs at the shortest round trip.

    A much larger window that still fills up means that the receiver reads slowly.
    """
    used, delay = limits.rwnd_used_ratio, limits.buffer_delay_ratio
    return used is not None and delay is not None and used / (1 + delay) >= SMALL


def _course(intervals: Sequence[FlowInterval]) -> str:
    """Return text such as "0-2 s congestion window, 2-10 s link"; "": the bottleneck did not
    change."""
    known = [(i, i.limits.limited_by) for i in intervals if i.limits and i.limits.limited_by]
    spells = [
        (name, [interval for interval, _ in group])
        for name, group in groupby(known, key=lambda one: one[1])
    ]
    if len(spells) < 2:
        return ""
    if len(spells) <= MAX_SPELLS:
        return ", ".join(
            f"{_moment(group[0].start_ns)}-{_moment(group[-1].end_ns)} s {_SHORT[name]}"
            for name, group in spells
        )
    spent: dict[Limit, int] = {}
    for interval, name in known:
        spent[name] = spent.get(name, 0) + interval.duration_ns
    whole = sum(spent.values()) or 1
    ranked = sorted(spent.items(), key=lambda one: -one[1])
    return "alternating: " + ", ".join(
        f"{_SHORT[name]} {100 * ns / whole:.0f} % of the time" for name, ns in ranked
    )


def _moment(ns: int) -> str:
    """Return a moment in seconds, with three significant digits."""
    ns = max(0, ns)  # first bytes may come before the start signal
    return f"{ns / 1e9:.3g}" if ns < 100e9 else f"{ns / 1e9:.0f}"

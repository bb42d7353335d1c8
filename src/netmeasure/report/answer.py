"""Summarise a test in five lines of 80 columns, the last lines of the report.

The lines are: the steady bitrate with its margin, set-up with what was lost in it, the idle latency
and the latency under load, the bottleneck, and the averages of other tools with the reason why they
differ. A test of both directions has two lines of other tools, so its latency is on the line of
set-up, if there is room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netmeasure.report.bottleneck import names_of_limit
from netmeasure.report.connections import error_words
from netmeasure.report.latency import latency_words
from netmeasure.report.rates import steady_bps
from netmeasure.report.round_trips import answer_words
from netmeasure.report.words import too_short, unit_of
from netmeasure.result import Flow, PathHole, Phase, Result, Steady
from netmeasure.units import bitrate, duration, percent

#: The width that every terminal has.
WIDTH = 80
#: The width of the name of a line.
NAME_WIDTH = 16
#: Averages that differ from the steady bitrate by less than this share count as equal.
SAME = 0.02
#: The part of set-up that this host took is shown if it is at least this share.
NOTED_HOST = 0.1


def answer_lines(result: Result) -> list[str]:
    """Return at most five lines of at most 80 columns; none if nothing was measured."""
    if not result.flows and result.requests is None:
        return []
    if result.round_trips is not None:
        counted = result.requests or result.round_trips.connections
        errors = "" if counted is None else error_words(counted.errors)
        said = answer_words(result.round_trips, unit_of(result.spec), errors)
        return [*(line(name, [words]) for name, words in said), line("Set-up", _set_up(result))]
    latency = [] if result.latency is None else latency_words(result.latency)
    one_way = len(result.flows) == 1
    beside = [] if one_way else [f"; latency {words}" for words in latency]
    lines = [
        line("Steady bitrate", _rates(result.flows)),
        line("Set-up", [way + more for more in (*beside, "") for way in _set_up(result)]),
        line("Latency", latency if one_way else []),
        line("Limited by", _limits(result.flows, result.path_hole)),
        *_other_tools(result),
    ]
    return [one for one in lines if one]


def line(name: str, ways: Iterable[str]) -> str:
    """Return a line with the first of the texts that fits; "": there are no texts."""
    said = [way for way in ways if way]
    if not said:
        return ""
    room = WIDTH - NAME_WIDTH
    words = next((way for way in said if len(way) <= room), said[-1])
    return f"{name:<{NAME_WIDTH}}{shortened(words, room)}"


def shortened(words: str, room: int) -> str:
    """Return text that fits into the room. Whole clauses are removed at the end, so that no figure
    is separated from its unit or its name; text without clauses ends with "..."."""
    if len(words) <= room:
        return words
    clause = max(words[: room + 1].rfind(mark) for mark in (",", ";", ":"))
    if clause > 0:
        return words[:clause]
    return f"{words[: room - 3].rpartition(' ')[0]}..."


# ---- the steady bitrate --------------------------------------------------------------------------


def _rates(flows: Sequence[Flow]) -> list[str]:
    named = len(flows) > 1
    return [
        ", ".join(f"{f'{flow.direction} ' * named}{_rate(flow, detail)}" for flow in flows)
        for detail in (3, 2, 1, 0)
    ]


def _rate(flow: Flow, detail: int) -> str:
    """Return a flow's bitrate, its margin and its loss, with more or less detail."""
    steady, rate = flow.steady, steady_bps(flow)
    if steady is None or rate is None:
        return "unknown: too few data"
    words = bitrate(rate)
    if steady.margin is not None and (steady.verdict == "steady" or detail):
        words += f" +-{percent(steady.margin)}"
    if detail > 1:
        words += _doubts(steady, detail)
    if flow.loss is not None and flow.loss.loss_ratio is not None:
        words += f", {100 * flow.loss.loss_ratio:.3g} % lost" if detail else ""
    return words


def _doubts(steady: Steady, detail: int) -> str:
    doubts = {
        "steady": "",
        "shifted": "its level changed",
        "not_steady": "no plateau was found",
        "too_short": "too short to tell",
    }[steady.verdict]
    if doubts:
        return f", best effort: {doubts}" if detail > 2 else f" ({doubts})"
    if steady.grade is None:
        return ", margin unknown" if detail > 2 else ""
    return f" (grade {steady.grade})"


# ---- set-up --------------------------------------------------------------------------------------


def _set_up(result: Result) -> list[str]:
    if result.set_up_ns is None:
        return ["unknown"]
    words = duration(result.set_up_ns)
    lost = _lost(result)
    host = result.set_up_host_ns or 0
    hosts = (
        f"{duration(host)} of it this host's own" if host >= NOTED_HOST * result.set_up_ns else ""
    )
    return [
        f"{words} until the first byte{_joined(lost, hosts)}",
        f"{words}{_joined(lost, hosts)}",
        f"{words}{_joined(lost)}",
    ]


def _joined(*parts: str) -> str:
    said = [part for part in parts if part]
    return f"; {', '.join(said)}" if said else ""


def _lost(result: Result) -> str:
    """Return the time of set-up that was lost to unanswered SYNs and to addresses that did not
    answer."""
    waited = [phase for phase in result.setup if _in_vain(phase)]
    syns = sum(phase.syn_retransmits or 0 for phase in waited)
    lost = sum(phase.duration_ns for phase in waited if phase.decides) or max(
        (phase.duration_ns for phase in waited), default=0
    )
    if syns:
        return f"{duration(lost)} lost to {syns} unanswered SYN{'s' if syns > 1 else ''}"
    return f"{duration(lost)} lost to addresses that did not answer" if waited else ""


def _in_vain(phase: Phase) -> bool:
    if phase.name != "connect":
        return False
    return bool(phase.syn_retransmits) or phase.detail is not None


# ---- the bottleneck ------------------------------------------------------------------------------


def _limits(flows: Sequence[Flow], hole: PathHole | None) -> list[str]:
    known = [(flow, names) for flow in flows if (names := names_of_limit(flow, hole)) is not None]
    if not known:
        few = all(flow.no_steady == "too_short" for flow in flows)
        return ["unknown: too few data" if few else "unknown: neither end reported enough"]
    if len({names.short for _, names in known}) == 1:
        return list(known[0][1])
    both = [(names.brief, names.short) for _, names in known]
    return [
        ", ".join(f"{flow.direction} {name}" for (flow, _), name in zip(known, names, strict=True))
        for names in zip(*both, strict=True)
    ]


# ---- other tools ---------------------------------------------------------------------------------


def _other_tools(result: Result) -> list[str]:
    """Return one or two lines: the figures of other tools, and why they differ."""
    if len(result.flows) > 1:
        return _of_both_ways(result)
    if result.latency is not None:  # the latency has taken a line
        return [line("Other tools", _in_one_line(result.flow))]
    averages = result.flow.averages
    said = []
    if averages.from_first_attempt_bps is not None:
        said.append(f"curl {bitrate(averages.from_first_attempt_bps)}")
    if averages.after_omit_bps is not None:
        said.append(f"iperf3 {bitrate(averages.after_omit_bps)}")
    if not said:
        return []
    lines = [line("Other tools", [", ".join(said)])]
    if why := _why(result, result.flow):
        lines.append(line("", [why]))
    return lines


def _in_one_line(flow: Flow) -> list[str]:
    """Return the figures of other tools, and what those that differ include."""
    averages, steady = flow.averages, steady_bps(flow)
    plain, why = [], []
    for tool, rate, counted in (
        ("curl", averages.from_first_attempt_bps, "set-up"),
        ("iperf3", averages.after_omit_bps, "ramp"),
    ):
        if rate is not None:
            plain.append(f"{tool} {bitrate(rate)}")
            differs = steady is not None and abs(rate - steady) > SAME * steady
            differs = differs and not (counted == "ramp" and too_short(flow))
            why.append(f"{plain[-1]} (with {counted})" if differs else plain[-1])
    return [", ".join(why), ", ".join(plain)]


def _of_both_ways(result: Result) -> list[str]:
    """Return a line for each tool, with its figures of both directions and what they include."""
    lines: list[str] = []
    for tool, field, why in (
        ("curl", "from_first_attempt_bps", "counts set-up"),
        ("iperf3", "after_omit_bps", "counts ramp"),
    ):
        rates = [(flow, getattr(flow.averages, field)) for flow in result.flows]
        known = [(flow, rate) for flow, rate in rates if rate is not None]
        said = ", ".join(f"{flow.direction} {bitrate(rate)}" for flow, rate in known)
        differs = [
            abs(rate - steady) > SAME * steady
            for flow, rate in known
            if (steady := steady_bps(flow)) is not None
        ]
        if said:
            name = "Other tools" if not lines else ""
            whole = f"{tool}: {said} ({why})"
            lines.append(line(name, [whole if any(differs) else "", f"{tool}: {said}"]))
    return lines


def _why(result: Result, flow: Flow) -> str:
    """Return why the averages of other tools differ from the steady bitrate."""
    steady, averages = steady_bps(flow), flow.averages
    if steady is None:
        return ""
    whole, omitted = averages.from_first_attempt_bps, averages.after_omit_bps
    if whole is not None and abs(whole - steady) > SAME * steady:
        if omitted is not None and abs(omitted - steady) > SAME * steady:
            if too_short(flow):  # a sender may have gone on after the planned time, too
                return "why: curl counts set-up; the test was too short to tell the ramp"
            return "why: curl counts set-up and ramp, iperf3 the ramp"
        set_up = duration(averages.set_up_ns)
        return f"why: curl counts from the first attempt, with {set_up} of set-up"
    if omitted is not None and abs(omitted - steady) > SAME * steady:
        return "why: iperf3 counts all bytes after -O, also ramp, stalls and tail"
    return f"why: set-up and ramp were too short to tell (within {100 * SAME:g} %)"

"""Show a comparison: a table of the runs, the figures that changed, and the verdict in
sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from netmeasure.analysis.samples import MAX_RUNS, Estimate, mean
from netmeasure.comparison.comparison import MIN_RUNS, Comparison, Component, FlowComparison
from netmeasure.comparison.differences import Difference
from netmeasure.comparison.runs import RunFigures
from netmeasure.report.mtu import share_percent
from netmeasure.report.runs import mean_words, run_words
from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.report.words import FIGURES, spec_words
from netmeasure.units import bitrate, duration, size

#: The name of each component, and the function that formats its figure.
NAMES: dict[str, tuple[str, Callable[[float], str]]] = {
    "set_up_ns": ("set-up", duration),
    "from_first_attempt_bps": ("average with set-up", lambda bps: bitrate(bps, FIGURES)),
    "ramp_ns": ("ramp", duration),
    "ramp_lost_bytes": ("lost to the ramp", size),
    "sender_cpu_s_per_gb": ("sender's CPU per GB", lambda s: duration(s * 1e9)),
    "receiver_cpu_s_per_gb": ("receiver's CPU per GB", lambda s: duration(s * 1e9)),
    "retransmits_per_gb": ("retransmits per GB", lambda count: f"{count:.3g}"),
    "loss_ratio": ("loss", lambda share: f"{100 * share:.3g} %"),
    "transactions_per_s": ("transactions", lambda rate: f"{rate:.0f}/s"),
    "latency_p50_ns": ("median round trip", duration),
    "latency_p99_ns": ("99 % of round trips within", duration),
    "idle_p50_ns": ("idle latency", duration),
    "loaded_p50_ns": ("latency under load", duration),
    "loaded_p99_ns": ("p99 latency under load", duration),
    "connect_p50_ns": ("median connect", duration),
    "error_ratio": ("errors", lambda share: f"{100 * share:.3g} %"),
}
_NOT_IN_TURNS = (
    "note: one side was measured after the other, so what changed meanwhile is part of the"
    " difference (compare --measure avoids this)"
)
#: A change of at least this factor is shown as a factor, a smaller one in percent.
_TIMES = 2.0
#: Components with their own sentence, or which follow from such a component.
_TOLD = ("set_up_ns", "from_first_attempt_bps", "ramp_lost_bytes")


def render(found: Comparison) -> RenderableType:
    """Return the whole report."""
    tests = dict.fromkeys(spec_words(spec) for spec in (found.spec_a, found.spec_b))
    parts: list[RenderableType] = [Text(f"\n{' against '.join(tests)}", style="bold")]
    for flow in found.flows:
        parts += [
            Text(f"\n{flow.direction.capitalize()}"),
            Padding(_runs(found, flow), (0, 0, 1, 2)),
            Padding(_parts(flow), (0, 0, 1, 2)),
            *(Text(f"{line}\n") for line in warnings(flow)),
        ]
    if found.in_turns is False:
        parts.append(Text(f"{_NOT_IN_TURNS}\n"))
    for flow in found.flows:  # the verdict comes last
        words = " ".join(sentences(found, flow))
        parts.append(
            Text(words if len(found.flows) == 1 else f"{flow.direction.capitalize()}: {words}")
        )
    return Group(*parts)


# ---- tables -------------------------------------------------------------------------------------


def _runs(found: Comparison, flow: FlowComparison) -> Table:
    """Return a table with a row for each run and a column for each side."""
    table = plain_table()
    add_column(table, "run", right=True)
    for label, name in (("A", found.name_a), ("B", found.name_b)):
        column = name if name == label else f"{label}: {name}"
        add_column(table, column, right=True, wraps=True)
    add_column(table, wraps=True)
    for number, (a, b) in enumerate(zip_longest(flow.a.runs, flow.b.runs), 1):
        add_row(table, str(number), _rate(a), _rate(b), _doubts(a, b))
    add_row(
        table,
        "mean",
        *("" if s.steady_bps is None else mean_words(s.steady_bps) for s in (flow.a, flow.b)),
    )
    shares = [mean(side.values("ceiling_share")) for side in (flow.a, flow.b)]
    if any(shares):
        words = ("unknown" if one is None else share_percent(one.value) for one in shares)
        add_row(table, "ceiling", *words)
    if flow.ratio is not None:
        add_row(table, "B/A", "", ratio_words(flow.ratio))
    return table


def _rate(run: RunFigures | None) -> str:
    if run is None:
        return ""
    return bitrate(run.steady_bps, FIGURES) if run.counts else "-"


def _doubts(a: RunFigures | None, b: RunFigures | None) -> str:
    """Return the doubts about the two runs of a row."""
    of_a, of_b = ("" if run is None else run_words(run) for run in (a, b))
    if of_a == of_b:
        return of_a and f"A, B: {of_a}"
    return "; ".join(f"{name}: {text}" for name, text in (("A", of_a), ("B", of_b)) if text)


def _parts(flow: FlowComparison) -> Table:
    """Return a table of the other figures of a run, such as set-up, and their changes."""
    table = plain_table()
    for name in ("", "A", "B", "B against A"):
        add_column(table, name, right=bool(name))
    add_column(table, wraps=True)
    for one in flow.components:
        name, show = NAMES[one.name]
        add_row(
            table,
            name,
            "unknown" if one.a is None else show(one.a.value),
            "unknown" if one.b is None else show(one.b.value),
            _change(one, show),
            "changed" if one.moved else "",
        )
    return table


def _change(one: Component, show: Callable[[float], str]) -> str:
    change = one.change
    if change is None:
        return "unknown"
    if one.relative:
        return f"x {ratio_words(change)}"
    if change.value == 0 and not change.half:
        return "0"
    words = _signed(change.value, show)
    if change.low is None or change.high is None:
        return words
    return f"{words} ({_signed(change.low, show)} to {_signed(change.high, show)})"


def _signed(value: float, show: Callable[[float], str]) -> str:
    return f"{'-' if value < 0 else '+'}{show(abs(value))}"


def ratio_words(ratio: Estimate) -> str:
    """Return a ratio and its interval as text such as "0.970 (0.968 to 0.972)"."""
    digits = 4 if ratio.half is not None and ratio.half < 0.001 else 3
    if ratio.low is None or ratio.high is None:
        return _bare(ratio.value, digits)
    low, high = _bare(ratio.low, digits), _bare(ratio.high, digits)
    return f"{_bare(ratio.value, digits)} ({low} to {high})"


# ---- words --------------------------------------------------------------------------------------


def sentences(found: Comparison, flow: FlowComparison) -> Iterator[str]:
    """Yield the sentences of the verdict."""
    yield _steady_sentence(found, flow)
    set_up = flow.component("set_up_ns")
    if set_up is not None and set_up.moved and set_up.change is not None:
        yield _set_up_sentence(flow, set_up.change)
    moved = [one for one in flow.components if one.moved and one.name not in _TOLD]
    if moved:
        yield f"Also changed: {', '.join(_moved_words(one) for one in moved)}."


def _steady_sentence(found: Comparison, flow: FlowComparison) -> str:
    ratio, margin = flow.ratio, _percent(found.margin)
    if flow.verdict == "too_few":
        return (
            f"Too few runs to tell: {flow.a.counted} of A and {flow.b.counted} of B count, and at"
            f" least {MIN_RUNS} of each are needed{_more_runs(found, flow)}."
        )
    if ratio is None or ratio.low is None or ratio.high is None:
        return "No ratio can be formed: some runs carried nothing."
    interval = f"B/A is {_bare(ratio.low)} to {_bare(ratio.high)}"
    if flow.verdict == "equal":
        return f"The network carries the same, within {margin}: {interval} (95 % confidence)."
    if flow.verdict == "unclear":
        return (
            f"Can't tell whether B differs from A: {interval} (95 % confidence), so there may be no"
            f" difference, or one of more than {margin}{_more_runs(found, flow)}."
        )
    if ratio.value >= _TIMES:
        return (
            f"B carries {_bare(ratio.value)} times what A does"
            f" ({_bare(ratio.low)} to {_bare(ratio.high)} times, 95 % confidence)."
        )
    word, sign = ("less", -1) if flow.verdict == "less" else ("more", 1)
    ends = sorted(sign * (end - 1) for end in (ratio.low, ratio.high))
    return (
        f"B carries {_percent(sign * (ratio.value - 1), ratio)} {word} than A"
        f" ({_percent(ends[0], ratio)} to {_percent(ends[1], ratio)}, 95 % confidence)."
    )


def _more_runs(found: Comparison, flow: FlowComparison) -> str:
    to = f"+-{_percent(found.margin / 2)}"
    if flow.runs_needed is None:
        enough = min(flow.a.counted, flow.b.counted) >= MIN_RUNS
        return f"; {MAX_RUNS} of each would not be enough to know B/A to {to}" if enough else ""
    needed = max(flow.runs_needed, MIN_RUNS)
    return f"; about {needed} of each are needed to know B/A to {to}"


def _set_up_sentence(flow: FlowComparison, change: Estimate) -> str:
    word = "longer" if change.value > 0 else "less"
    words = f"Getting connected took {duration(abs(change.value))} {word}"
    if change.low is not None and change.high is not None:
        low, high = sorted((abs(change.low), abs(change.high)))
        words += f" ({duration(low)} to {duration(high)})"
    average = flow.component("from_first_attempt_bps")
    if average is not None and average.moved and average.change is not None:
        words += (
            "; a tool that counts from the first attempt reports"
            f" {_factor_words(average.change.value)} for B"
        )
    return f"{words}."


def _moved_words(one: Component) -> str:
    name, show = NAMES[one.name]
    assert one.change is not None
    if one.relative:
        change = one.change.value - 1
        if one.change.value >= _TIMES:
            return f"{name} x {_bare(one.change.value)}"
        return f"{name} {'+' if change > 0 else '-'}{_percent(abs(change))}"
    return f"{name} {_signed(one.change.value, show)}"


def warnings(flow: FlowComparison) -> Iterator[str]:
    """Yield warnings about differences between the two sides that may affect the figures."""
    loud = [_difference(one) for one in flow.differences if one.matters]
    if loud:
        yield f"WARNING: the runs differ in more than their names: {'; '.join(loud)}."
    if quiet := [_difference(one) for one in flow.differences if not one.matters]:
        yield f"note: {'; '.join(quiet)}"


def _difference(one: Difference) -> str:
    return f"{one.name} (A {' or '.join(one.a)}, B {' or '.join(one.b)})"


def _factor_words(factor: float) -> str:
    """Return text such as "3 % less" or "12.3 times as much"."""
    if factor >= _TIMES:
        return f"{_bare(factor)} times as much"
    return f"{_percent(abs(factor - 1))} {'less' if factor < 1 else 'more'}"


def _bare(ratio: float, digits: int = 3) -> str:
    """Return a ratio with a number of decimals, or from 10 on with four significant digits."""
    if ratio < 10:
        return f"{ratio:.{digits}f}"
    return f"{ratio:.1f}" if ratio < 1000 else f"{ratio:.0f}" if ratio < 1e6 else f"{ratio:.3g}"


def _percent(share: float, known_to: Estimate | None = None) -> str:
    """Return a share to a tenth of a percent, or a hundredth if its interval is that narrow."""
    fine = known_to is not None and known_to.half is not None and known_to.half < 0.0005
    text = f"{100 * share:.{2 if fine else 1}f}"
    return f"{text.removesuffix('.0')} %"

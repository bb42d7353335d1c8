"""Show the outcome of a campaign: one table, the runs in doubt, and sentences about changes.

The text for terminals and the Markdown have the same lines and cells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from netmeasure.analysis.samples import Estimate, mean
from netmeasure.comparison.comparison import MIN_RUNS, Component
from netmeasure.comparison.suite import Suite, SuiteCell, SuiteRow
from netmeasure.report.compare import NAMES, ratio_words
from netmeasure.report.node import counter_words
from netmeasure.report.runs import mean_words, per_second, run_words
from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.spec import RequestSpec, RrSpec
from netmeasure.text import printable
from netmeasure.units import duration, percent

#: Figures that have a line for every test, and figures that have a line only if they changed.
_ALWAYS = ("set_up_ns", "loaded_p50_ns")
_OF_ROUND_TRIPS = ("latency_p50_ns", "latency_p99_ns")
_IF_MOVED = (
    "from_first_attempt_bps",
    "connect_p50_ns",
    "loaded_p99_ns",
    "error_ratio",
    "ramp_ns",
    "retransmits_per_gb",
    "sender_cpu_s_per_gb",
    "receiver_cpu_s_per_gb",
)
#: Figures that follow from the rate or the set-up, about which there are no sentences.
_TOLD = {"transactions_per_s", "ramp_lost_bytes", "set_up_ns", "from_first_attempt_bps"}
_BUSY_CPUS = 0.5
Cells = list[str]


def render(suite: Suite) -> RenderableType:
    """Return the whole report."""
    table = plain_table()
    head, rows = cells(suite)
    for number, name in enumerate(head):
        add_column(table, name, right=bool(number))
    for row in rows:
        add_row(table, *row)
    parts: list[RenderableType] = [Text(f"\n{title(suite)}", style="bold")]
    if rows:
        parts.append(Padding(table, (1, 0, 0, 0)))
    for heading, lines in sections(suite):
        parts.append(Text(f"\n{heading}"))
        parts += [Padding(Text(line), (0, 0, 0, 2)) for line in lines]
    return Group(*parts)


def to_markdown(suite: Suite) -> str:
    """Return the whole report as Markdown."""
    head, rows = cells(suite)
    lines = [f"# {_escaped(title(suite))}"]
    if rows:
        lines += ["", _markdown_row(head)]
        lines.append("|" + "|".join(["---", *(["---:"] * (len(head) - 1))]) + "|")
        lines += [_markdown_row(row) for row in rows]
    for heading, sentences in sections(suite):
        lines += ["", f"## {heading}", "", *(f"- {_escaped(line)}" for line in sentences)]
    return "\n".join(lines) + "\n"


def _markdown_row(row: Sequence[str]) -> str:
    # a name with two leading blanks is a figure of the test above
    shown = [
        f"&nbsp;&nbsp;{_escaped(one.strip())}" if one[:1] == " " else _escaped(one) for one in row
    ]
    return f"| {' | '.join(shown)} |"


def _escaped(text: str) -> str:
    text = printable(text, "\n")
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")


def title(suite: Suite) -> str:
    """Return the title of the campaign, with the number of runs and the seed."""
    made = f"{suite.runs_made} runs"
    if suite.runs_made != suite.runs_planned:
        made = f"{suite.runs_made} of {suite.runs_planned} runs"
    return f"{suite.title or 'Campaign'}: {made}, order from seed {suite.seed}"


def sections(suite: Suite) -> Iterator[tuple[str, list[str]]]:
    """Yield (heading, sentences) for the parts below the table that are not empty."""
    for heading, lines in (
        ("Before the first run", list(_baseline(suite))),
        ("Not measured, or unreliable", list(doubtful(suite))),
        ("What it cost this host", list(_costs(suite))),
        ("What changed", list(moved(suite))),
    ):
        if lines:
            yield heading, lines


# ---- the table ----------------------------------------------------------------------------------


def cells(suite: Suite) -> tuple[Cells, list[Cells]]:
    """Return the names of the columns, and the lines of the table: none if nothing was measured."""
    first, *others = suite.variants
    head = ["test", first or "all runs"]
    for name in others:
        head += [name, f"{name} / {first}"]
    if not any(cell.runs for row in suite.rows for cell in row.cells):
        return head, []
    return head, [line for row in suite.rows for line in _lines(suite, row)]


def row_name(suite: Suite, row: SuiteRow) -> str:
    """Return the name of a line: its test, and its target and direction if they are needed."""
    name = f"{row.test}, {row.target}" if row.target else row.test
    twice = sum(one.test == row.test and one.target == row.target for one in suite.rows) > 1
    return f"{name} ({row.direction})" if twice else name


def _lines(suite: Suite, row: SuiteRow) -> Iterator[Cells]:
    first, *others = row.cells
    trips = isinstance(row.spec, RrSpec | RequestSpec)
    line = [row_name(suite, row), _main(first, trips)]
    for cell in others:
        line += [_main(cell, trips), "-" if cell.ratio is None else ratio_words(cell.ratio)]
    yield line
    for name in (*_ALWAYS, *(_OF_ROUND_TRIPS if trips else ()), "loss_ratio", *_IF_MOVED):
        known = [_mean(cell, name) for cell in row.cells]
        if all(one is None for one in known):
            continue
        if trips and name == "from_first_attempt_bps":
            continue  # round trips are not shown as bits per second
        if name in _IF_MOVED and not any(_has_moved(cell, name) for cell in others):
            continue
        label, show = NAMES[name]
        line = [f"  {label}", _shown(known[0], show)]
        for cell, value in zip(others, known[1:], strict=True):
            line += [_shown(value, show), _change(cell.component(name), show)]
        yield line


def _main(cell: SuiteCell, trips: bool) -> str:
    """Return the mean of a cell's main figure: transactions per second, or the steady bitrate."""
    if cell.runs is None:
        return "nothing" if cell.errors else "-"
    if trips:
        rate = mean(cell.runs.values("transactions_per_s"))
        return "unknown" if rate is None else mean_words(rate, per_second)
    return "unknown" if cell.runs.steady_bps is None else mean_words(cell.runs.steady_bps)


def _mean(cell: SuiteCell, name: str) -> Estimate | None:
    return None if cell.runs is None else mean(cell.runs.values(name))


def _shown(value: Estimate | None, show: Callable[[float], str]) -> str:
    return "unknown" if value is None else show(value.value)


def _has_moved(cell: SuiteCell, name: str) -> bool:
    one = cell.component(name)
    return one is not None and bool(one.moved)


def _change(one: Component | None, show: Callable[[float], str]) -> str:
    if one is None or one.change is None:
        return "-"
    mark = " *" if one.moved else ""
    if one.relative:
        return f"{ratio_words(one.change)}{mark}"
    sign = "-" if one.change.value < 0 else "+"
    return f"{sign}{show(abs(one.change.value))}{mark}" if one.change.value else "0"


# ---- runs in doubt ------------------------------------------------------------------------------

_ABOUT = {"rate": "rate", "set_up": "set-up", "latency": "latency", "cpu": "CPU cost"}


def _baseline(suite: Suite) -> Iterator[str]:
    base = suite.baseline
    if base is None:
        return
    busy = max(base.host_cpu_ns - base.process_cpu_ns, 0) / base.duration_ns
    words = f"{duration(base.duration_ns)} of rest, {busy:.2f} of {base.cpus} CPUs busy"
    warn = "; not idle: the CPU cost includes other work" if busy > _BUSY_CPUS else ""
    yield words + warn


def doubtful(suite: Suite) -> Iterator[str]:
    """Yield a sentence for each reason why runs are in doubt or missing."""
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    counts: dict[str, int] = {}
    failed: dict[str, list[str]] = defaultdict(list)
    for row in suite.rows:
        for cell in row.cells:
            name = _cell_name(suite, row, cell)
            for error in cell.errors:
                failed[error].append(name)
            runs = cell.runs.runs if cell.runs else ()
            counts[name] = len(runs)
            for number, run in enumerate(runs, 1):
                words = run_words(run)
                if words and not (cell.errors and run.steady_bps is None):
                    found[words][name].append(number)
                reasons: dict[str, list[str]] = defaultdict(list)
                for one in run.doubts:
                    reasons[one.why].append(_ABOUT[one.about])
                for why, about in reasons.items():
                    found[f"{_listed(about)} unreliable: {why}"][name].append(number)
    for error, names in failed.items():
        yield f"Nothing was measured: {error}: {'; '.join(names)}"
    for what, of in found.items():
        where = "; ".join(f"{name} ({_runs(runs, counts[name])})" for name, runs in of.items())
        yield f"{what[0].upper()}{what[1:]}: {where}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _runs(numbers: Sequence[int], of: int) -> str:
    if len(numbers) == of:
        return "all runs" if of > 1 else "its run"
    return f"run{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _cell_name(suite: Suite, row: SuiteRow, cell: SuiteCell) -> str:
    name = row_name(suite, row)
    return f"{name}, {cell.variant}" if cell.variant else name


# ---- resources of the client's host -------------------------------------------------------------


def _costs(suite: Suite) -> Iterator[str]:
    """Yield a line for each cell: CPUs, processes, and the counters of drops that grew."""
    for row in suite.rows:
        for cell in row.cells:
            node = cell.node
            if node is None or cell.runs is None:
                continue
            words = "too short to tell how busy the CPUs were"
            if node.busy_cpus is not None:
                words = f"{node.busy_cpus:.2f} CPUs busy"
                words += f", {node.softirq_cpus:.2f} in soft interrupts"
            if node.processes:
                used = ", ".join(f"{name} {cpus:.2f}" for name, cpus in node.processes[:3])
                words += f" ({used})"
            if node.counters:
                words += f"; {', '.join(counter_words(one) for one in node.counters)}"
            yield f"{_cell_name(suite, row, cell)}: {words}"


# ---- changes ------------------------------------------------------------------------------------


def moved(suite: Suite) -> Iterator[str]:
    """Yield the sentences on how each variant differs from the first."""
    first = suite.variants[0] if suite.variants else ""
    for number, name in enumerate(suite.variants[1:], 1):
        pairs = [(row_name(suite, row), row.cells[number]) for row in suite.rows]
        yield from _of_variant(first, name, pairs, suite.margin)


def _of_variant(
    first: str, name: str, pairs: Sequence[tuple[str, SuiteCell]], margin: float
) -> Iterator[str]:
    rates: dict[str, list[str]] = defaultdict(list)
    for test, cell in pairs:
        if cell.verdict is None:
            continue
        words = f"{test} {ratio_words(cell.ratio)}" if cell.ratio is not None else test
        if cell.verdict == "unclear" and cell.runs_needed is not None:
            words += f", about {max(cell.runs_needed, MIN_RUNS)} runs would be enough"
        rates[cell.verdict].append(test if cell.verdict in ("equal", "too_few") else words)
    sentences = {
        "less": f"{name} carries less than {first}: ",
        "more": f"{name} carries more than {first}: ",
        "equal": f"{name} carries the same as {first} within {percent(margin)}: ",
        "unclear": f"Can't tell whether {name} carries the same as {first}: ",
        "too_few": f"Too few runs of {name} to tell (at least {MIN_RUNS} of each are needed): ",
    }
    for verdict, sentence in sentences.items():
        if rates[verdict]:
            yield f"{sentence}{'; '.join(rates[verdict])}."
    yield from _set_up(first, name, pairs)
    others = [
        f"{test}: {_moved_words(one)}"
        for test, cell in pairs
        for one in cell.components
        if one.moved and one.name not in _TOLD
    ]
    if others:
        yield f"{name} differs as well in {'; '.join(others)}."


def _set_up(first: str, name: str, pairs: Sequence[tuple[str, SuiteCell]]) -> Iterator[str]:
    """Yield the sentences on set-up, and on the averages of tools that include set-up."""
    longer = [(t, c) for t, c in pairs if _has_moved(c, "set_up_ns")]
    words: dict[str, list[str]] = defaultdict(list)
    for test, cell in longer:
        change = cell.component("set_up_ns")
        assert change is not None
        assert change.change is not None
        by = change.change.value
        how = "longer" if by > 0 else "less time"
        words[how].append(f"{test} {'+' if by > 0 else '-'}{duration(abs(by))}")
    for how, tests in words.items():
        yield f"With {name}, getting connected takes {how} than with {first}: {'; '.join(tests)}."
    lower = [
        f"{test} {_factor(one)}"
        for test, cell in longer
        if cell.component("transactions_per_s") is None
        and (one := cell.component("from_first_attempt_bps")) is not None
        and one.moved
    ]
    if lower:
        yield (
            "A tool that counts from the first attempt, such as curl, reports this as a change"
            f" of the network's rate: {'; '.join(lower)}."
        )


def _factor(one: Component) -> str:
    assert one.change is not None
    by = one.change.value - 1
    return f"{'+' if by > 0 else '-'}{percent(abs(by))}"


def _moved_words(one: Component) -> str:
    name, show = NAMES[one.name]
    if one.relative:
        return f"{name} {_factor(one)}"
    assert one.change is not None
    return f"{name} {'-' if one.change.value < 0 else '+'}{show(abs(one.change.value))}"

"""Compare each number in the table and the sentences of a campaign's page with its JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from statistics import fmean
from typing import Any

import pytest
from msgspec.structs import replace

from netmeasure.comparison.comparison import MIN_RUNS
from netmeasure.comparison.suite import Suite, SuiteRun, tabulate
from netmeasure.publishing.campaign import publish_suite
from netmeasure.report.compare import NAMES
from netmeasure.result import ErrorRecord, Limits, Loss, Result
from netmeasure.result.histogram import Histogram
from netmeasure.result.node import Counter, CpuUse, NodeUse, ProcessUse
from netmeasure.result.resources import HostUse
from netmeasure.result.round_trips import RoundTrips
from netmeasure.spec import RrSpec, UdpSpec
from support.pages import Page, Shown, alike, numbers, shown
from support.recorded import recorded

RATES = (1.0e9, 1.001e9, 0.999e9, 1.0005e9, 0.9995e9)
VARIANTS = ("old", "late", "slow")
TESTS = (("TCP", ""), ("both ways", ""), ("UDP", "near"), ("echo", ""), ("HTTP", ""), ("FTP", ""))
LABELS = {words: name for name, (words, _) in NAMES.items()}


def udp(rate_bps: float, lost: int) -> Result:
    result = recorded(rate_bps / 10, spec=UdpSpec())
    counts = Loss(sent_packets=1000, received_packets=1000 - lost, lost_packets=lost)
    return replace(result, flows=(replace(result.flow, loss=counts),))


def echo(rate_bps: float, factor: float) -> Result:
    trips = RoundTrips(
        steady_per_s=rate_bps / 1e5 * factor,
        latency=Histogram(
            from_ns=(round(80_000 / factor), round(99_000 / factor)),
            counts=(97, 3),
            sum_ns=round(8e6 / factor),
            min_ns=round(80_000 / factor),
            max_ns=round(99_900 / factor),
        ),
    )
    return replace(recorded(rate_bps / 1000 * factor, spec=RrSpec()), round_trips=trips)


def both_ways(rate_bps: float) -> Result:
    result, back = recorded(rate_bps), recorded(rate_bps * 2, direction="download")
    return replace(result, flows=(*result.flows, *back.flows))


def measured(test: str, variant: str, rate_bps: float) -> Result:
    """Return a run: "late" has a longer set-up, "slow" carries less and costs more."""
    late, slow = variant == "late", variant == "slow"
    facts: dict[str, Any] = {"set_up_ns": 3_017_000_000, "syns": 2} if late else {}
    rate_bps *= 0.9 if slow else 1.0
    if test == "UDP":
        return udp(rate_bps, lost=37 if slow else 0)
    if test == "echo":
        return echo(rate_bps, 0.81 if slow else 1.0)
    if test == "both ways":
        return both_ways(rate_bps)
    if slow:
        facts = {"cpu_ns": 471_000_000, "retransmits": 8}
    return recorded(rate_bps, direction="download", **facts)


def node(number: int) -> NodeUse:
    modes = {"irq_ns": 0, "steal_ns": 0, "idle_ns": 0, "system_ns": 7 * 10**8 + number}
    return NodeUse(
        duration_ns=10**9,
        cpus=(CpuUse(cpu=0, user_ns=3 * 10**8, softirq_ns=2 * 10**8, **modes),),
        processes=(ProcessUse(pid=1, name="kubelet", cpu_ns=17 * 10**7, system_ns=0, rss_bytes=9),),
        counters=(Counter(source="interface eth0", name="rx_dropped", grown=number),),
    )


def runs() -> Iterator[SuiteRun]:
    for test, target in TESTS:
        for variant in VARIANTS:
            if (test, variant) == ("HTTP", "slow"):
                yield SuiteRun(round=1, test=test, target=target, variant=variant, error="no host")
                continue
            if test == "FTP" and variant != "late":
                continue  # it was not its turn yet
            for number, rate in enumerate(RATES, 1):
                result, error = measured(test, variant, rate), None
                if (test, variant, number) == ("TCP", "late", 2):
                    error = "it vanished"
                    record = ErrorRecord(code="peer_timeout", message=error, phase="data")
                    result = replace(result, complete=False, error=record)
                if (test, variant, number) in [("TCP", "old", 3), ("TCP", "old", 5)]:
                    flow = replace(result.flow, limits=Limits(limited_by="sender_cpu"))
                    result = replace(result, flows=(flow,))
                yield SuiteRun(
                    round=number,
                    test=test,
                    target=target,
                    variant=variant,
                    result=result,
                    error=error,
                    node=node(number) if test == "UDP" else None,
                )


REST = HostUse(
    duration_ns=1_230_000_000,
    cpus=4,
    process_user_ns=10**6,
    process_system_ns=10**6,
    host_user_ns=8 * 10**8,
    host_system_ns=10**8,
    host_softirq_ns=0,
    host_steal_ns=0,
    host_idle_ns=10**9,
    rss_bytes=1,
)


@pytest.fixture(scope="module")
def suite() -> Suite:
    order = [(test, target, variant) for test, target in TESTS for variant in VARIANTS]
    return tabulate(
        runs(), order=order, runs_planned=90, seed=17, title="<CNI> | a & b", baseline=REST
    )


@pytest.fixture(scope="module")
def page(suite: Suite) -> Page:
    return Page(publish_suite(suite).decode())


@pytest.fixture(scope="module")
def document(suite: Suite) -> Any:
    return json.loads(suite.to_json())


# ---- what the document says ----------------------------------------------------------------------


def values(cell: Any, name: str) -> list[float]:
    """Return a figure of each run of a cell that counts."""
    counted = [
        run
        for run in (cell["runs"] or {"runs": []})["runs"]
        if run["complete"] and run["steady_bps"] is not None
    ]
    return [run[name] for run in counted if run[name] is not None]


def component(cell: Any, name: str) -> Any:
    return next((one for one in cell["components"] if one["name"] == name), None)


def names_of(document: Any) -> dict[str, Any]:
    """Return the rows of the document by their names on the page."""
    rows = document["rows"]
    found = {}
    for row in rows:
        name = ", ".join(filter(None, (row["test"], row["target"])))
        if sum((one["test"], one["target"]) == (row["test"], row["target"]) for one in rows) > 1:
            name += f" ({row['direction']})"
        found[name] = row
    return found


def in_unit(name: str, value: float) -> float:
    """Convert a figure in nanoseconds if it is a time: CPU time is in seconds."""
    return value * 1e9 if name.endswith("_s_per_gb") else value


def hold(text: str, value: float | None) -> int:
    """Compare the first number of a cell with a value; return 1 for a number, 0 for "unknown"."""
    if value is None:
        assert text == "unknown"
        return 0
    assert alike(shown(text), value), (text, value)
    return 1


# ---- the table -----------------------------------------------------------------------------------


def hold_main(text: str, cell: Any, trips: bool) -> int:
    """Check the first line of a test: the mean of its rate, and half its interval as a share."""
    if cell["runs"] is None:
        assert text == ("nothing" if cell["errors"] else "-")
        return 0
    rate, _, margin = text.partition(" +-")
    if trips:
        assert rate.endswith("/s")
        return hold(rate.removesuffix("/s"), fmean(values(cell, "transactions_per_s")))
    estimate = cell["runs"]["steady_bps"]
    assert estimate["value"] == pytest.approx(fmean(values(cell, "steady_bps")))
    hold(rate, estimate["value"])
    half = (estimate["high"] - estimate["low"]) / 2
    return 1 + hold(margin, half / estimate["value"]) if margin else 1


def hold_ratio(text: str, ratio: Any) -> int:
    """Check a ratio with its interval."""
    said = [Shown(float(one), 10.0 ** -len(one.partition(".")[2])) for one in split(text)]
    wanted = [ratio[end] for end in ("value", "low", "high") if ratio[end] is not None]
    for number, value in zip(said, wanted, strict=True):
        assert alike(number, value), (text, ratio)
    return len(said)


def split(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?", text)


def hold_change(text: str, one: Any) -> int:
    """Check how a figure changed from the first variant, and the star of one that moved."""
    if one is None or one["change"] is None:
        assert text == "-"
        return 0
    assert text.endswith(" *") == (one["moved"] is True)
    text, change = text.removesuffix(" *"), one["change"]
    if one["relative"]:
        return hold_ratio(text, change)
    sign = {"+": 1, "-": -1}.get(text[0], 0)
    assert sign == (change["value"] > 0) - (change["value"] < 0)
    return hold(text.lstrip("+-"), abs(in_unit(one["name"], change["value"])))


def test_every_number_of_the_table_is_the_documents(page: Page, document: Any) -> None:
    head, *lines = page.rows
    assert head == ["test", "old", "late", "late / old", "slow", "slow / old"]
    assert {len(line) for line in lines} == {len(head)}
    rows = names_of(document)
    counted = 0
    moved: set[tuple[str, str]] = set()
    cells: list[Any] = []
    name, trips = "", False
    for label, first, *others in lines:
        if label in rows:
            name, cells = label, rows[label]["cells"]
            assert [cell["variant"] for cell in cells] == list(VARIANTS)
            trips = rows[label]["spec"] is not None and rows[label]["spec"]["kind"] == "rr"
            counted += hold_main(first, cells[0], trips)
            for cell, rate, ratio in zip(cells[1:], others[::2], others[1::2], strict=True):
                counted += hold_main(rate, cell, trips)
                if cell["ratio"] is None:
                    assert ratio == "-"
                else:
                    counted += hold_ratio(ratio, cell["ratio"])
            continue
        figure = LABELS[label.strip("\N{EM SPACE} ")]
        shown_of = [first, *others[::2]]
        for text, cell in zip(shown_of, cells, strict=True):
            found = values(cell, figure)
            counted += hold(text, in_unit(figure, fmean(found)) if found else None)
        for text, cell in zip(others[1::2], cells[1:], strict=True):
            counted += hold_change(text, component(cell, figure))
        moved.add((name, figure))
    assert counted > 100
    assert [row[0] for row in page.rows if row[0] in rows] == list(rows)
    assert {
        (name, one["name"])
        for name, row in rows.items()
        for cell in row["cells"]
        for one in cell["components"]
        if one["moved"] and one["name"] in ("set_up_ns", "loss_ratio", "retransmits_per_gb")
    } <= moved, "a figure that moved has a line"


# ---- the sentences -------------------------------------------------------------------------------


def numbers_of(document: Any) -> Iterator[float]:
    """Return all numbers in a part of a document."""
    if isinstance(document, dict | list):
        inside = document.values() if isinstance(document, dict) else document
        for one in inside:
            yield from numbers_of(one)
    elif isinstance(document, int | float) and not isinstance(document, bool):
        yield document


def told(cell: Any) -> Iterator[float]:
    """Return the numbers that a sentence may state about how a cell differs from the first
    variant's."""
    yield from numbers_of(cell["ratio"])
    if cell["runs_needed"] is not None:
        yield max(cell["runs_needed"], MIN_RUNS)
    for one in cell["components"]:
        if one["change"] is not None:
            change = one["change"]["value"]
            yield abs(change - 1 if one["relative"] else in_unit(one["name"], change))


def clauses(sentence: str, names: list[str]) -> Iterator[tuple[str, str]]:
    """Return the parts of a sentence after its first words, each with the test that it is about."""
    body = re.sub(r"^.*? differs as well in |^[^:]*: ", "", sentence, count=1)
    for part in body.split("; "):
        (name,) = [one for one in names if re.match(rf"{re.escape(one)}(?!\w)", part)][:1]
        words = part.removeprefix(name).removeprefix(": ")
        # some figures have a number in their own name
        label = next((one for one in LABELS if words.startswith(one)), "")
        yield name, words.removeprefix(label)


def test_every_number_of_what_moved_is_the_documents(page: Page, document: Any) -> None:
    rows = names_of(document)
    longest = sorted(rows, key=len, reverse=True)
    counted, about = 0, ""
    for sentence in page.sections["Tests"]:
        about = next((one for one in VARIANTS[1:] if re.search(rf"\b{one}\b", sentence)), about)
        intro = re.split(": | in ", sentence)[0]
        for number in map(shown, numbers(intro)):
            assert alike(number, document["margin"]) or alike(number, MIN_RUNS), sentence
        for name, words in clauses(sentence, longest):
            cell = rows[name]["cells"][VARIANTS.index(about)]
            known = list(told(cell))
            for text in numbers(words):
                assert any(alike(shown(text), one) for one in known), (sentence, text)
                counted += 1
    assert counted > 20


def hold_each(said: list[str], known: list[float]) -> None:
    """Compare the numbers of a sentence with as many values."""
    for text, value in zip(said, known, strict=True):
        assert alike(shown(text), value), (text, value)


def test_every_number_of_the_other_parts_is_the_documents(page: Page, document: Any) -> None:
    rows = names_of(document)
    base = document["baseline"]
    (rest,) = page.sections["Before the first run"]
    busy = sum(base[f"host_{mode}_ns"] for mode in ("user", "system", "softirq"))
    busy -= base["process_user_ns"] + base["process_system_ns"]
    known = [base["duration_ns"], busy / base["duration_ns"], base["cpus"]]
    hold_each(numbers(rest), known)

    costs = page.sections["What it cost this host"]
    assert len(costs) == len(VARIANTS)
    for line, cell in zip(costs, rows["UDP, near"]["cells"], strict=True):
        name, _, words = line.partition(": ")
        assert name == f"UDP, near, {cell['variant']}"
        cost = cell["node"]
        known = [cost["busy_cpus"], cost["softirq_cpus"], *numbers_of(cost["processes"])]
        known += [one["grown"] for one in cost["counters"]]
        hold_each(numbers(words), known)

    doubts = page.sections["Not measured, or unreliable"]
    named: dict[str, set[int]] = {}
    for line in doubts:
        for name, listed in re.findall(r"([^:;]+) \(runs? ([\d, ]+)\)", line):
            found = {int(one) for one in split(listed)}
            named[name.strip()] = named.get(name.strip(), set()) | found
    assert named == {
        f"{name}, {cell['variant']}": {
            number
            for number, run in enumerate(cell["runs"]["runs"], 1)
            if run["doubts"] or not run["complete"]
        }
        for name, row in rows.items()
        for cell in row["cells"]
        if cell["runs"] and any(r["doubts"] or not r["complete"] for r in cell["runs"]["runs"])
    }


def test_the_title_counts_the_runs(page: Page, document: Any) -> None:
    made, planned, seed = (document[one] for one in ("runs_made", "runs_planned", "seed"))
    assert f"<CNI> | a & b: {made} of {planned} runs, order from seed {seed}" in page.words
    assert (made, planned, seed) == (sum(1 for _ in runs()), 90, 17)


def test_the_page_loads_nothing(page: Page) -> None:
    assert page.loads == []
    assert not page.tags & {"script", "cni"}

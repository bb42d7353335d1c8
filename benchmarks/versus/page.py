"""Write the measured figures, as a page of the documentation and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.common import host_facts
from benchmarks.versus.rounds import CaseRuns
from netmeasure.analysis.samples import Estimate

HEAD = """\
# Speed, beside other tools

This page is written by `{command}`, and by nothing else.
{about} Only the ratios mean anything on another machine.

Host: {cpu}, {cpus} CPUs, Linux {kernel}, {iperf3}, Python {python},
load average {load:.2f} at the start.

A rate is a median of {rounds} rounds, with minimum and maximum. The bytes are those of the
network interface, headers included, in a window of {seconds:g} s in the middle of each run; CPU
time is the scheduler's, of all threads of a program in that window. Datagrams a second are each
receiver's own count. A ratio is netmeasure's rate over the contender's, with its 95 % interval
(Welch's t on logarithms, as `netmeasure compare` has it). "Plain C" is `benchmarks/plain.c`: the
size of each send, the size of each receive or the number of segments, and the receiver's low-water
mark.
"""


def page(
    place: str,
    command: str,
    runs: Sequence[CaseRuns],
    *,
    load: float,
    rounds: int,
    seconds: float,
) -> str:
    """Return the page in Markdown. `load` is the load average before the first round."""
    facts = host_facts()
    where = (
        "Everything runs on loopback."
        if place == "loopback"
        else "Client and server are in two network namespaces, with a veth pair between them."
    )
    parts = [
        HEAD.format(
            command=command,
            about=where,
            load=load,
            rounds=rounds,
            seconds=seconds,
            **{name: facts[name] for name in ("cpu", "cpus", "kernel", "iperf3", "python")},
        )
    ]
    for one in runs:
        parts += [f"## {one.case}", _table(one), *_notes(one)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(runs: CaseRuns) -> str:
    datagrams = next(iter(runs.samples.values()))[0].datagrams_per_s is not None
    unit, scale = ("Mdatagrams/s", 1e6) if datagrams else ("Gbit/s", 1e9 / 8)
    per = "Mdatagram" if datagrams else "GB"
    titles = ["contender", unit, "ratio", f"sender CPU s/{per}", f"receiver CPU s/{per}"]
    if datagrams:
        titles.append("lost %")
    rows = [titles, ["---"] * len(titles)]
    for name, samples in runs.samples.items():
        row = [
            name,
            _spread([one.rate / scale for one in samples]),
            "" if name == runs.ours else _ratio(runs.ratio_to(name), runs.wanted.get(name)),
            _median([one.sender_cpu_s / one.amount for one in samples]),
            _median([one.receiver_cpu_s / one.amount for one in samples]),
        ]
        if datagrams:
            row.append(_median([100 * (one.lost_ratio or 0.0) for one in samples], 1))
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _notes(runs: CaseRuns) -> list[str]:
    notes = []
    if runs.repeated:
        notes.append(f"Runs repeated, because other programs were busy in them: {runs.repeated}.")
    if runs.troubled:
        notes.append("Other programs were busy in a run that counts, too: don't trust it.")
    return notes


def _ratio(found: Estimate, wanted: float | None) -> str:
    text = f"{found.value:.2f}"
    if found.low is not None and found.high is not None:
        text += f" ({found.low:.2f} to {found.high:.2f})"
    return text if wanted is None else f"{text}, wanted {wanted:g}: {_verdict(found, wanted)}"


def _verdict(found: Estimate, wanted: float) -> str:
    """Return a verdict from the whole interval: a median alone may meet the requirement by
    chance."""
    if found.low is None or found.high is None or found.low < wanted <= found.high:
        return "not decided"
    return "met" if found.low >= wanted else "missed"


def _spread(values: Sequence[float]) -> str:
    low, middle, high = (
        f"{one:.3g}" for one in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low} to {high})"


def _median(values: Sequence[float], digits: int = 3) -> str:
    return f"{statistics.median(values):.{digits}f}"


def document(runs: Sequence[CaseRuns], seconds: float) -> dict[str, object]:
    """Return everything that was measured, for JSON."""
    return {"host": host_facts(), "seconds": seconds, "cases": list(runs)}

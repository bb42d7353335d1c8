"""Test the figures of the latency beside a test, and how a report shows them."""

from __future__ import annotations

import io

import pytest
from msgspec.structs import replace
from rich.console import Console

import netmeasure as nm
from netmeasure.report.answer import WIDTH, answer_lines
from netmeasure.report.latency import latency_table, latency_words
from netmeasure.result.latency import trimmed_mean_ns
from support.full_result import FULL

MS = 1_000_000


def figures(*durations_ns: int, sent: int = 0) -> nm.ProbeFigures:
    """Return the figures of a probe with these round trips.

    The round trips are below 2048 ns, or edges of buckets.
    """
    ordered = sorted(set(durations_ns))
    histogram = nm.Histogram(
        from_ns=tuple(ordered),
        counts=tuple(durations_ns.count(one) for one in ordered),
        sum_ns=sum(durations_ns),
        min_ns=min(durations_ns, default=None),
        max_ns=max(durations_ns, default=None),
    )
    return nm.ProbeFigures(latency=histogram, sent=sent or len(durations_ns))


def test_what_was_lost_is_in_no_latency() -> None:
    found = figures(*range(1, 101), sent=125)
    assert (found.count, found.lost, found.loss_ratio) == (100, 25, 0.2)
    assert (found.min_ns, found.p50_ns, found.p90_ns, found.p99_ns) == (1, 50, 90, 99)
    assert (found.mean_ns, found.max_ns) == (50.5, 100)


def test_nothing_is_unknown_and_not_zero() -> None:
    found = nm.Latency()
    nothing = found.idle
    known = (nothing.min_ns, nothing.mean_ns, nothing.p50_ns, nothing.p99_ns, nothing.loss_ratio)
    assert set(known) == {None}
    assert (found.rpm, found.added_p50_ns, found.loaded) == (None, None, None)
    assert replace(found, loaded=figures(sent=9)).rpm is None
    assert replace(found, loaded=figures(1000)).rpm is None  # as the median of one


def test_rpm_is_of_the_shortest_95_percent() -> None:
    loaded = figures(*[1000] * 95, *[2000] * 5)
    assert trimmed_mean_ns(loaded.latency) == 1000
    assert nm.Latency(loaded=loaded).rpm == 60e6
    assert trimmed_mean_ns(figures(1000, 2000).latency) == pytest.approx((1000 + 0.9 * 2000) / 1.9)


def test_the_load_is_told_from_the_rest() -> None:
    found = nm.Latency(idle=figures(*[1000] * 3), loaded=figures(*[1500] * 3))
    assert found.added_p50_ns == 500


def queued(up_ns: int, down_ns: int, *, error_ns: int | None) -> nm.Latency:
    """Return a latency under load with these delay variations of each direction."""
    loaded = replace(
        figures(2**22, 2**22),
        upload_pdv=figures(up_ns, up_ns).latency,
        download_pdv=figures(down_ns, down_ns).latency,
    )
    return nm.Latency(idle=figures(1024, 1024), loaded=loaded, pdv_error_ns=error_ns)


@pytest.mark.parametrize(
    ("found", "queues", "where"),
    [
        (
            queued(2**22, 2**10, error_ns=1000),
            ", queued 4.19 ms up, 1.02 us down",
            ", queued upstream",
        ),
        (
            queued(2**10, 2**22, error_ns=2**21),
            ", queued 1.02 us up, 4.19 ms down",
            ", queued downstream",
        ),
        (
            queued(2**21, 2**22, error_ns=1000),
            ", queued 2.10 ms up, 4.19 ms down",
            ", queued both ways",
        ),
        (queued(2**22, 2**10, error_ns=2**21 + 1), "", ""),  # it may be the clocks
        (queued(2**19, 2**19, error_ns=1000), "", ""),
        (queued(2**22, 2**10, error_ns=None), "", ""),
    ],
)
def test_a_queue_is_shown_with_its_direction(found: nm.Latency, queues: str, where: str) -> None:
    words = "idle 1.02 us, under load 4.19 ms (longest 4.19 ms)"
    assert latency_words(found)[:2] == [words + queues, words + where]
    result = replace(FULL, round_trips=None, requests=None, latency=found, flows=FULL.flows[:1])
    (line,) = (line for line in answer_lines(result) if line.startswith("Latency"))
    assert line.endswith(where or "(longest 4.19 ms)")
    assert len(line) <= WIDTH


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            nm.Latency(
                idle=figures(*[1024] * 2), loaded=figures(*[1536] * 99, *[2000] * 5, sent=110)
            ),
            "idle 1.02 us, under load 1.54 us (p99 2.00 us), 5.5 % lost",
        ),
        (
            nm.Latency(idle=figures(1024, 1024), loaded=figures(1536, 1536)),
            "idle 1.02 us, under load 1.54 us (longest 1.54 us)",
        ),
        (nm.Latency(idle=figures(1024, 1024)), "idle 1.02 us; the load did not begin"),
        (nm.Latency(loaded=figures(1024, sent=2)), "under load 1.02 us at most, 50 % lost"),
        (nm.Latency(), "unknown; the load did not begin"),
        (
            nm.Latency(idle=figures(1024, 1024), loaded=figures(sent=7)),
            "idle 1.02 us, under load unknown: no answer to 7 probes",
        ),
        (nm.Latency(loaded=figures(sent=7)), "under load unknown: no answer to 7 probes"),
    ],
)
def test_one_line_says_it(found: nm.Latency, words: str) -> None:
    assert latency_words(found)[0] == words
    both = replace(FULL, round_trips=None, requests=None, latency=found)
    one = replace(both, flows=FULL.flows[:1])
    assert f"Latency         {words}" in answer_lines(one)
    for result in (one, both):
        lines = answer_lines(result)
        assert len(lines) <= 5
        assert all(len(line) <= WIDTH and "..." not in line for line in lines)
    console = Console(width=WIDTH, file=io.StringIO())
    console.print(latency_table(found))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "under load" in shown
    assert ("lost" in shown) is any(
        part is not None and part.lost for part in (found.idle, found.loaded)
    )

"""Test the Quality of Outcome of draft-ietf-ippm-qoo."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from netmeasure.errors import SpecError
from netmeasure.objectives.quality import lowest_quality, parse_requirement, quality_of_outcome
from netmeasure.result import Result
from netmeasure.result.histogram import Histogram
from netmeasure.result.latency import Latency, ProbeFigures
from netmeasure.result.round_trips import RoundTrips
from support.recorded import recorded

#: The example of the draft, section "Example".
DRAFT = "rate 4M, p99 200..500ms, p99.9 300..600ms, loss 1..5%"
MS = 1_000_000


def trips(*counted: tuple[int, int]) -> Histogram:
    """Return a histogram of durations in ms, ascending, and how many there are of each."""
    return Histogram(
        from_ns=tuple(ms * MS for ms, _ in counted),
        counts=tuple(number for _, number in counted),
        sum_ns=sum(ms * MS * number for ms, number in counted),
        min_ns=counted[0][0] * MS,
        max_ns=counted[-1][0] * MS,
    )


def loaded(found: Histogram, lost: int, transport: str = "udp") -> Result:
    """Return a run of 28 Mbit/s with such round trips under load."""
    part = ProbeFigures(latency=found, sent=found.count + lost)
    return replace(recorded(28e6), latency=Latency(transport=transport, loaded=part))


#: Its 99th percentile is 350 ms, its 99.9th 375 ms, its loss 2 %.
MEASURED = loaded(trips((10, 9700), (350, 270), (375, 28), (400, 2)), lost=204)


def test_the_example_of_the_draft() -> None:
    found = quality_of_outcome(parse_requirement(DRAFT), MEASURED)
    assert found.score == pytest.approx(0.5, abs=0.002)
    by_figure = {figure.figure: figure.score for figure in found.figures}
    assert by_figure == {
        "p99": pytest.approx(0.5, abs=0.002),
        "p99.9": pytest.approx(0.75, abs=0.002),
        "loss": pytest.approx(0.75, abs=0.002),
        "rate": 1.0,
    }
    assert found.words.startswith(
        "50 %: p99 350 ms gives 50 %, p99.9 375 ms gives 75 %, loss 2 % gives 75 %, rate 2"
    )


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("p99 400..500ms", 1.0),
        ("p99 100..200ms", 0.0),
        ("p100 200..600ms", 0.5),
        ("rate 29M, p99 400..500ms", 0.0),
        ("loss 0..4%", 0.5),
    ],
)
def test_the_lowest_figure_counts(text: str, score: float) -> None:
    found = quality_of_outcome(parse_requirement(text), MEASURED)
    assert found.score == pytest.approx(score, abs=0.002)


def test_an_unknown_figure_makes_the_score_unknown_unless_another_is_unacceptable() -> None:
    few = loaded(trips((10, 99), (350, 1)), lost=0)
    known = quality_of_outcome(parse_requirement("p99 1..2s"), few)
    assert known.score == 1.0
    unknown = quality_of_outcome(parse_requirement("p99 1..2s, p99.9 1..2s"), few)
    assert unknown.score is None
    assert unknown.words == "unknown: p99 10.0 ms gives 100 %, p99.9 unknown (only 100 round trips)"
    unacceptable = quality_of_outcome(parse_requirement("p99 1..2ms, p99.9 1..2s"), few)
    assert unacceptable.score == 0.0


def test_what_tcp_sends_again_is_no_known_loss() -> None:
    found = quality_of_outcome(
        parse_requirement("loss 0..1%"), loaded(trips((10, 100)), lost=0, transport="tcp")
    )
    assert found.score is None
    assert found.words == "unknown: loss unknown (TCP sends lost packets again)"


def test_a_test_of_round_trips_has_a_latency_and_no_rate() -> None:
    run = replace(recorded(1e6), round_trips=RoundTrips(latency=trips((10, 98)), lost=2))
    found = quality_of_outcome(parse_requirement("p50 5..15ms, loss 1..3%"), run)
    assert found.score == pytest.approx(0.5, abs=0.002)
    assert quality_of_outcome(parse_requirement("rate 1k"), run).score is None


def test_the_lowest_of_several_runs() -> None:
    needs = parse_requirement("p50 5..15ms")
    good, bad, none = loaded(trips((5, 9)), 0), loaded(trips((20, 9)), 0), recorded(1e9)
    assert lowest_quality(needs, [good, good]).score == 1.0
    assert lowest_quality(needs, [good, none]).score is None
    assert lowest_quality(needs, [good, none, bad]).score == 0.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no needs were given"),
        (" , ", "no needs were given"),
        ("p99", "'p99' is incomplete"),
        ("p99 100ms", "'p99 100ms' is no range"),
        ("p99 200..100ms", "must be more than what is optimal"),
        ("p99 100ms..100ms", "must be more than what is optimal"),
        ("p101 1..2s", "no figure 'p101'"),
        ("latency 1..2s", "no figure 'latency'"),
        ("p99 1..2 parsec", "not a duration"),
        ("p99 ..2s", "not a duration"),
        ("loss 1..200%", "more than 100 %"),
        ("loss few..many", "not a ratio"),
        ("rate fast", "not a bitrate"),
        ("p99 1..2s, p99 3..4s", "'p99' was given already"),
        ("rate 1M, rate 2M", "'rate' was given already"),
    ],
)
def test_texts_that_are_none(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        parse_requirement(text)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["p99 0.1..0.2s", "p99 100ms..0.2s", "p99  100 .. 200ms"])
def test_a_unit_may_stand_once(text: str) -> None:
    (span,) = parse_requirement(text).spans
    assert (span.figure, span.optimal, span.unacceptable) == ("p99", 100 * MS, 200 * MS)

"""Test where a transfer is steady, against slow and obvious computations of the same."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from netmeasure.analysis import steady
from netmeasure.analysis.series import Curve, curve, total
from netmeasure.analysis.steady import MIN_BATCHES, Split, batch_width_ns, mser, split, within
from netmeasure.clock import MILLISECOND_NS, SECOND_NS
from netmeasure.result import Series

BUCKET_NS = 10 * MILLISECOND_NS
GIGABIT = 1e9
#: The time of a run of 10 s in buckets of 10 ms, from 0 to 1.
RUN = (np.arange(1000) + 0.5) / 1000

counts = st.lists(st.integers(0, 10**10), min_size=1, max_size=60)
series_of_any_kind = st.builds(
    Series,
    origin_ns=st.integers(0, 10**10),
    width_ns=st.sampled_from([1, 7, 1000, MILLISECOND_NS, 3 * MILLISECOND_NS, BUCKET_NS]),
    bytes=counts.map(tuple),
)
#: Streams of one run: their origins and widths differ, but not by powers of ten.
series_of_one_run = st.builds(
    Series,
    origin_ns=st.integers(0, 10**6),
    width_ns=st.sampled_from([1000, 1024, 1500, 7000, 10_000]),
    bytes=counts.map(tuple),
)


def series(values: object, *, origin_ns: int = 0, width_ns: int = BUCKET_NS) -> Series:
    numbers = np.asarray(values).round().astype(int)
    return Series(origin_ns=origin_ns, width_ns=width_ns, bytes=tuple(map(int, numbers)))


def whole(one: Series, *, rtt_ns: int | None = None, grain_bytes: int = 0) -> Split:
    """Return the series split from its first byte to its end."""
    transfer = curve(one)
    found = split(
        transfer,
        int(transfer.at_ns[0]),
        int(transfer.at_ns[-1]),
        bucket_ns=one.width_ns,
        rtt_ns=rtt_ns,
        grain_bytes=grain_bytes,
    )
    assert found is not None
    return found


# ---- mser ----------------------------------------------------------------------------------------


def exact_scores(values: list[int]) -> list[Fraction]:
    """Compute MSER's statistic by its definition, in O(n^2) and without rounding."""
    scores: list[Fraction] = []
    for cut in range(len(values) // 2 + 1):
        kept = [Fraction(value) for value in values[cut:]]
        mean = sum(kept, Fraction(0)) / len(kept)
        squares = sum(((value - mean) ** 2 for value in kept), Fraction(0))
        scores.append(squares / len(kept) ** 2)
    return scores


@given(st.lists(st.integers(0, 10**11), min_size=2, max_size=40))
def test_mser_finds_what_the_definition_says(values: list[int]) -> None:
    scores = exact_scores(values)
    cut = mser(np.array(values, dtype=np.float64))
    assert 0 <= cut <= len(values) // 2
    # float64 may take another of two cuts that are equally good to twelve digits
    assert scores[cut] <= min(scores) + max(scores) * Fraction(1, 10**12)


@given(
    st.lists(st.integers(0, 10**6), min_size=2, max_size=40),
    st.integers(1, 1000),
    st.integers(0, 10**6),
)
def test_mser_does_not_depend_on_unit_or_offset(values: list[int], unit: int, offset: int) -> None:
    scores = exact_scores(values)
    cut = mser(np.array(values, dtype=np.float64) * unit + offset)
    assert scores[cut] <= min(scores) + max(scores) * Fraction(1, 10**9)


@given(st.integers(0, 200), st.floats(0, 1e12))
def test_mser_cuts_nothing_from_a_constant(n: int, value: float) -> None:
    assert mser(np.full(n, value)) == 0


@given(st.integers(1, 100), st.integers(100, 200), st.floats(1, 1e12))
def test_mser_cuts_a_step_where_it_is(low: int, high: int, rate: float) -> None:
    rates = np.concatenate([np.full(low, rate / 3), np.full(high, rate)])
    assert mser(rates) == low


def test_mser_stops_at_half_of_a_linear_ramp() -> None:
    assert mser(np.arange(200.0)) == 100


def test_mser_keeps_nearly_all_of_plain_noise() -> None:
    cuts = [mser(np.random.default_rng(seed).normal(1e9, 5e7, 200)) for seed in range(50)]
    assert np.median(cuts) <= 10
    assert max(cuts) < 100


@pytest.mark.parametrize("rates", [[], [1.0]])
def test_mser_of_next_to_nothing(rates: list[float]) -> None:
    assert mser(np.array(rates)) == 0


# ---- split ---------------------------------------------------------------------------------------


def assert_adjoining(found: Split) -> None:
    assert found.ramp.start_ns <= found.ramp.end_ns == found.steady.start_ns
    assert found.steady.end_ns == found.tail.start_ns <= found.tail.end_ns


def all_bytes(found: Split) -> int:
    return found.ramp.bytes + found.steady.bytes + found.tail.bytes


@pytest.mark.parametrize("buckets", [40, 199, 200, 201, 777, 1000])
def test_constant_rate(buckets: int) -> None:
    found = whole(series([1_250_000] * buckets, origin_ns=123))
    assert found.steady.verdict == "steady"
    assert found.steady.goodput_bps == pytest.approx(GIGABIT, rel=1e-12)
    assert found.ramp.duration_ns == 0
    assert found.ramp.bytes == 0
    assert found.steady.duration_ns == found.steady.batches * found.steady.batch_ns
    assert found.tail.duration_ns < found.steady.batch_ns
    assert MIN_BATCHES <= found.steady.batches <= steady.MAX_BATCHES
    assert_adjoining(found)
    assert all_bytes(found) == 1_250_000 * buckets


def test_step_ramp() -> None:
    """The ramp is one second at a tenth of the rate; nine seconds at the whole rate follow."""
    found = whole(series([125_000] * 100 + [1_250_000] * 900))
    assert found.steady.verdict == "steady"
    assert found.ramp.duration_ns == SECOND_NS
    assert found.ramp.bytes == 12_500_000
    assert found.steady.goodput_bps == pytest.approx(GIGABIT, rel=1e-12)


def test_goodput_is_bytes_over_time() -> None:
    values = np.random.default_rng(3).normal(1e6, 1e5, 500)
    found = whole(series(values)).steady
    assert found.goodput_bps == pytest.approx(found.bytes * 8e9 / found.duration_ns, rel=1e-6)


@given(
    one=series_of_any_kind,
    from_part=st.floats(0, 0.9),
    to_part=st.floats(0.1, 1.1),
    rtt_ns=st.none() | st.integers(0, SECOND_NS),
)
def test_no_byte_is_lost_or_counted_twice(
    one: Series, from_part: float, to_part: float, rtt_ns: int | None
) -> None:
    """Ramp, steady state and tail adjoin, and contain every byte from the start on."""
    transfer = curve(one)
    origin, end = int(transfer.at_ns[0]), int(transfer.at_ns[-1])
    start, stop = (origin + int((end - origin) * part) for part in (from_part, to_part))
    found = split(transfer, start, stop, bucket_ns=one.width_ns, rtt_ns=rtt_ns)
    if found is None:
        assert transfer.total == 0 or min(stop, end) <= start
        return
    assert found.ramp.start_ns == start
    assert found.tail.end_ns == end
    assert_adjoining(found)
    assert all_bytes(found) == transfer.between(start, end)
    assert min(found.ramp.bytes, found.steady.bytes, found.tail.bytes) >= 0


@pytest.mark.parametrize("seed", range(5))
def test_stretches_of_a_noisy_transfer_add_up(seed: int) -> None:
    """A batch of 11.5 ms is not a whole number of buckets, so nearly every edge is within a
    bucket."""
    generator = np.random.default_rng(seed)
    for _ in range(40):
        values = generator.integers(0, 10**7, 230)
        found = whole(series(values))
        assert all_bytes(found) == values.sum()


def test_a_ramp_that_never_ends_is_not_steady() -> None:
    for shape in (RUN, np.sqrt(RUN), 1 - np.exp(-3 * RUN)):
        one = series(1e6 * shape)
        found = whole(one)
        assert found.steady.verdict == "not_steady"
        assert found.steady.batches == found.ramp.duration_ns // found.steady.batch_ns == 100
        assert all_bytes(found) == one.total_bytes


@pytest.mark.parametrize("shape", [RUN**3, np.exp(4 * RUN)], ids=["cubic", "exponential"])
def test_a_rate_that_changes_late_is_not_steady(shape: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(1, 0.02, len(shape))
    assert whole(series(1e6 * shape * noise)).steady.verdict == "not_steady"


@pytest.mark.parametrize("level", [0.5, 1.5])
@pytest.mark.parametrize("at", [0.3, 0.5, 0.7, 0.9])
def test_a_rate_that_changes_its_level_is_shifted(level: float, at: float) -> None:
    noise = np.random.default_rng(0).normal(1, 0.02, len(RUN))
    one = series(1e6 * np.where(at > RUN, 1.0, level) * noise)
    found = whole(one)
    assert found.steady.verdict == "shifted"
    assert found.steady.grade == "C"
    first, second = found.steady.levels
    assert first.start_ns == found.steady.start_ns
    assert first.end_ns == second.start_ns == pytest.approx(at * 10 * SECOND_NS, rel=0.02)
    assert second.end_ns == found.steady.end_ns
    assert second.goodput_bps / first.goodput_bps == pytest.approx(level, rel=0.03)
    assert first.bytes + second.bytes == found.steady.bytes
    assert all_bytes(found) == one.total_bytes


def test_an_early_level_is_a_level() -> None:
    """The level is a policer's burst that takes a tenth of the run."""
    found = whole(series(np.where(RUN < 0.1, 1.5e6, 1e6)))
    assert found.steady.verdict == "shifted"
    assert found.ramp.duration_ns == 0
    assert [level.goodput_bps for level in found.steady.levels] == pytest.approx([1.2e9, 8e8])


def test_a_low_level_at_the_start_is_one_where_slow_start_is_known_to_be_over() -> None:
    one = series(np.where(RUN < 0.1, 1e5, 1e6))
    assert whole(one).ramp.duration_ns == SECOND_NS
    assert whole(one, rtt_ns=100 * MILLISECOND_NS).ramp.duration_ns == SECOND_NS
    found = whole(one, rtt_ns=10 * MILLISECOND_NS)
    assert (found.steady.verdict, found.ramp.duration_ns) == ("shifted", 0)


def test_a_stall_is_counted_and_named() -> None:
    values = np.full(1000, 1e6)
    values[300:340] = 0
    found = whole(series(values)).steady
    assert found.verdict == "steady"
    assert found.start_ns == 0
    assert [(s.start_ns, s.end_ns) for s in found.stalls] == [(3 * SECOND_NS, 3_400_000_000)]
    assert found.goodput_bps == pytest.approx(0.96 * 8e8)
    assert found.between_stalls_bps == pytest.approx(8e8)
    assert found.grade == "C"


def test_slow_datagrams_are_no_stalls() -> None:
    values = np.zeros(1200)
    values[::25] = 1000
    assert len(whole(series(values)).steady.stalls) == 48
    found = whole(series(values), grain_bytes=1000).steady
    assert found.stalls == ()
    assert found.verdict == "too_short"


def test_the_interval_of_a_constant_has_no_width() -> None:
    found = whole(series([1_250_000] * 1000)).steady
    assert found.confidence_interval == pytest.approx((GIGABIT, GIGABIT), rel=1e-9)
    assert found.grade == "A"
    assert found.autocorrelation_ns == found.batch_ns


def test_a_steady_state_that_is_too_short_has_no_interval() -> None:
    found = whole(series([5] * 30)).steady
    assert found.verdict == "too_short"
    assert found.confidence_interval is None
    assert found.grade is None
    assert found.autocorrelation_ns is None


@given(one=series_of_any_kind)
def test_any_series_has_an_interval_around_its_rate(one: Series) -> None:
    found = split(curve(one), 0, 10**12, bucket_ns=one.width_ns)
    if found is None or found.steady.confidence_interval is None:
        return
    low, high = found.steady.confidence_interval
    assert 0 <= low <= found.steady.goodput_bps <= high < float("inf")


@given(
    values=st.lists(st.integers(0, 10**6), min_size=200, max_size=300),
    unit=st.sampled_from([2, 1000]),
)
def test_the_unit_changes_nothing_but_the_rate(values: list[int], unit: int) -> None:
    if not sum(values):
        return
    one, other = (whole(series([n * k for n in values])).steady for k in (1, unit))
    assert (one.verdict, one.start_ns, one.grade) == (other.verdict, other.start_ns, other.grade)
    assert other.goodput_bps == pytest.approx(unit * one.goodput_bps)


@pytest.mark.parametrize("seed", range(5))
def test_streams_add_up_to_the_whole(seed: int) -> None:
    generator = np.random.default_rng(seed)
    parts = [series(generator.normal(1e6, 1e5, 1000)) for _ in range(4)]
    summed = total(parts)
    assert summed is not None
    flow = whole(summed).steady
    streams = [within(curve(part), flow) for part in parts]
    assert sum(one.bytes for one in streams) == flow.bytes
    assert sum(one.goodput_bps for one in streams) == pytest.approx(flow.goodput_bps)
    assert {(one.start_ns, one.end_ns, one.verdict) for one in streams} == {
        (flow.start_ns, flow.end_ns, "steady")
    }
    assert all(one.confidence_interval is not None for one in streams)


def test_a_stream_has_a_verdict_of_its_own() -> None:
    """Two streams swap their rates: the whole is steady, and the streams are not."""
    noise = np.random.default_rng(0).normal(1, 0.01, (2, len(RUN)))
    parts = [
        series(1e6 * np.where(RUN < 0.6, *level) * n)
        for level, n in zip([(1.0, 0.5), (0.5, 1.0)], noise, strict=True)
    ]
    summed = total(parts)
    assert summed is not None
    flow = whole(summed).steady
    assert flow.verdict == "steady"
    assert [within(curve(part), flow).verdict for part in parts] == ["shifted", "shifted"]


def test_a_silent_stream() -> None:
    flow = whole(series([1000] * 1000)).steady
    found = within(curve(series([0] * 1000)), flow)
    assert (found.bytes, found.goodput_bps, found.verdict) == (0, 0, "not_steady")
    assert found.confidence_interval == (0, 0)


@pytest.mark.parametrize("buckets", [1, 2, MIN_BATCHES - 1])
def test_too_few_batches_are_too_short(buckets: int) -> None:
    found = whole(series([1_250_000] * buckets))
    assert found.steady.verdict == "too_short"
    assert found.steady.goodput_bps == pytest.approx(GIGABIT)
    assert (found.ramp.bytes, found.tail.bytes) == (0, 0)
    assert found.steady.bytes == 1_250_000 * buckets
    assert_adjoining(found)


def test_a_long_round_trip_widens_the_batches() -> None:
    one = series([1_250_000] * 1000)
    assert whole(one, rtt_ns=200 * MILLISECOND_NS).steady.batch_ns == 200 * MILLISECOND_NS
    assert whole(one, rtt_ns=SECOND_NS).steady.verdict == "too_short"


@pytest.mark.parametrize(
    ("span_ns", "bucket_ns", "rtt_ns", "width_ns"),
    [
        (10 * SECOND_NS, BUCKET_NS, None, 50 * MILLISECOND_NS),
        (10 * SECOND_NS, BUCKET_NS, 80 * MILLISECOND_NS, 80 * MILLISECOND_NS),
        (SECOND_NS, BUCKET_NS, 1, BUCKET_NS),
        (SECOND_NS // 10, 1000, None, MILLISECOND_NS),
        (200 * MILLISECOND_NS + 1, 1000, None, MILLISECOND_NS + 1),
    ],
)
def test_width_of_a_batch(span_ns: int, bucket_ns: int, rtt_ns: int | None, width_ns: int) -> None:
    assert batch_width_ns(span_ns, bucket_ns, rtt_ns) == width_ns


def test_what_comes_after_the_end_is_the_tail() -> None:
    """The caller sets the window; bytes that arrive after it are counted, but not in any rate."""
    transfer = curve(series([1_250_000] * 1000 + [10] * 50))
    found = split(transfer, 0, 10 * SECOND_NS, bucket_ns=BUCKET_NS)
    assert found is not None
    assert found.steady.goodput_bps == pytest.approx(GIGABIT, rel=1e-12)
    assert found.steady.end_ns == 10 * SECOND_NS
    assert found.tail.bytes == 500


def test_omitted_time_is_in_no_stretch() -> None:
    transfer = curve(series([9] * 100 + [1_250_000] * 1000))
    found = split(transfer, SECOND_NS, 11 * SECOND_NS, bucket_ns=BUCKET_NS)
    assert found is not None
    assert found.ramp.start_ns == SECOND_NS
    assert all_bytes(found) == 1_250_000_000


@pytest.mark.parametrize(
    ("values", "start_ns", "end_ns"),
    [([0] * 100, 0, SECOND_NS), ([5] * 100, SECOND_NS, 9), ([5] * 100, 2 * SECOND_NS, SECOND_NS)],
)
def test_nothing_to_split(values: list[int], start_ns: int, end_ns: int) -> None:
    assert split(curve(series(values)), start_ns, end_ns, bucket_ns=BUCKET_NS) is None


# ---- bias: how far the rate lies from the plateau's ----------------------------------------------


def exponential(times_s: np.ndarray, span_s: float) -> np.ndarray:
    """Return a rate that nears its plateau with a time constant of a tenth of the run, at most 1
    s."""
    return 1 - np.exp(-times_s / min(1.0, span_s / 10))


def slow_start(times_s: np.ndarray, span_s: float) -> np.ndarray:
    """Return a rate that doubles each round trip of 20 ms, from ten segments up to the plateau."""
    rtt_s, first = 0.02, 10 * 1448 * 8 / 0.02 / GIGABIT
    return np.minimum(1, first * 2 ** np.minimum(times_s // rtt_s, 40))


def ramped(ramp: object, span_s: float, noise: float, seed: int) -> Series:
    """Return a run of 1 Gbit/s with a ramp at its start, as a workload would record it."""
    assert callable(ramp)
    width_ns = MILLISECOND_NS if span_s <= 5 else BUCKET_NS
    times_s = (np.arange(round(span_s * SECOND_NS) // width_ns) + 0.5) * width_ns / SECOND_NS
    shaken = 1 + noise * np.random.default_rng(seed).standard_normal(len(times_s))
    rates = GIGABIT * ramp(times_s, span_s) * shaken
    return series(np.maximum(rates, 0) * width_ns / 8e9, width_ns=width_ns)


@pytest.mark.parametrize("noise", [0, 0.002, 0.02, 0.05])
@pytest.mark.parametrize("span_s", [2, 10, 60])
@pytest.mark.parametrize("ramp", [slow_start, exponential])
def test_bias_is_at_most_one_percent(ramp: object, span_s: float, noise: float) -> None:
    """The bias is the expected error over ten runs; a single run also has the error of its noise.

    The mean over the whole run shows, for comparison, how large the error would be with the ramp.
    """
    runs = [ramped(ramp, span_s, noise, seed) for seed in range(10)]
    errors = [whole(run).steady.goodput_bps / GIGABIT - 1 for run in runs]
    assert abs(np.mean(errors)) <= 0.01
    assert max(map(abs, errors)) <= 0.015
    plain = np.mean([run.total_bytes * 8 / span_s / GIGABIT - 1 for run in runs])
    assert abs(np.mean(errors)) < abs(plain) + 0.001


@pytest.mark.parametrize("span_s", [2, 10, 60])
@pytest.mark.parametrize("ramp", [slow_start, exponential])
def test_a_plateau_is_found(ramp: object, span_s: float) -> None:
    for seed in range(10):
        found = whole(ramped(ramp, span_s, 0.05, seed))
        assert found.steady.verdict == "steady"
        assert 0 < found.ramp.duration_ns < span_s * SECOND_NS / 2


@pytest.mark.parametrize(("span_s", "noise"), [(2, 0), (10, 0), (60, 0), (10, 0.001)])
def test_a_plateau_is_found_without_much_noise(span_s: float, noise: float) -> None:
    assert whole(ramped(exponential, span_s, noise, 0)).steady.verdict == "steady"


# ---- the arithmetic of series --------------------------------------------------------------------


def bytes_up_to(one: Series, moment_ns: int) -> Fraction:
    """Compute the same as Curve.until, exactly and bucket by bucket."""
    found = Fraction(0)
    for index, count in enumerate(one.bytes):
        start = one.origin_ns + index * one.width_ns
        part = Fraction(moment_ns - start, one.width_ns)
        found += count * max(Fraction(0), min(Fraction(1), part))
    return found


@given(series_of_any_kind, st.floats(-0.2, 1.2))
def test_bytes_up_to_a_moment(one: Series, part: float) -> None:
    moment = one.origin_ns + int(part * one.width_ns * len(one.bytes))
    expected = float(bytes_up_to(one, moment))
    assert float(curve(one).until(moment)) == pytest.approx(expected, rel=1e-9, abs=1e-3)


@given(series_of_any_kind, st.lists(st.floats(-0.2, 1.2), min_size=2, max_size=6))
def test_stretches_that_adjoin_add_up(one: Series, parts: list[float]) -> None:
    transfer = curve(one)
    span = one.width_ns * len(one.bytes)
    moments = sorted(one.origin_ns + int(part * span) for part in parts)
    pieces = [transfer.between(start, end) for start, end in pairwise(moments)]
    assert min(pieces) >= 0
    assert sum(pieces) == transfer.between(moments[0], moments[-1])


@given(series_of_any_kind)
def test_the_whole_curve_is_the_total(one: Series) -> None:
    transfer = curve(one)
    start, end = int(transfer.at_ns[0]), int(transfer.at_ns[-1])
    assert transfer.total == transfer.between(start, end) == one.total_bytes
    assert transfer.between(start - 10, end + 10) == one.total_bytes
    assert transfer.between(end, end + 10) == transfer.between(start - 10, start) == 0


@pytest.mark.parametrize(
    ("end_ns", "last_ns"), [(None, 300), (250, 250), (200, 300), (300, 300), (900, 300), (50, 300)]
)
def test_the_last_bucket_ends_with_the_last_byte(end_ns: int | None, last_ns: int) -> None:
    """This holds only if the moment is within the bucket."""
    transfer = curve(series([1, 2, 3], width_ns=100), end_ns)
    assert isinstance(transfer, Curve)
    assert transfer.at_ns.tolist() == [0, 100, 200, last_ns]
    assert transfer.bytes.tolist() == [0, 1, 3, 6]


@given(st.lists(series_of_one_run, max_size=5))
def test_the_sum_of_series_is_exact(parts: list[Series]) -> None:
    summed = total(parts)
    if summed is None:
        assert parts == []
        return
    assert summed.total_bytes == sum(part.total_bytes for part in parts)
    assert min(summed.bytes) >= 0
    assert all(type(count) is int for count in summed.bytes)
    assert summed.origin_ns == min(part.origin_ns for part in parts)
    assert summed.width_ns == max(part.width_ns for part in parts)


@given(st.lists(series_of_one_run, min_size=2, max_size=4))
def test_the_sum_of_series_is_right_at_every_edge(parts: list[Series]) -> None:
    """The error is at most half a byte for each part, since buckets have whole bytes."""
    summed = total(parts)
    assert summed is not None
    counted = 0
    for index in range(0, len(summed.bytes), max(1, len(summed.bytes) // 20)):
        edge = summed.origin_ns + index * summed.width_ns
        counted = sum(summed.bytes[:index])
        expected = float(sum(bytes_up_to(part, edge) for part in parts))
        assert counted == pytest.approx(expected, abs=len(parts) * 0.51, rel=1e-12)


def test_the_sum_of_one_is_that_one() -> None:
    one, empty = series([1, 2, 3]), series([])
    assert total([one]) is one
    assert total([empty, one]) is one
    assert total([empty]) is None
    assert total([]) is None
